"""Kolen-Pollack: the feedback kernel receives the kernel's own update."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.feedback.rule import FeedbackRule, FeedbackWeight, Initializer, RuleContext
from keras_local.ops import Signals
from keras_local.ops.backend import Tensor


@serializable
class KolenPollack(FeedbackRule):
    """The error returns through random weights that receive the same update as the kernel.

    `delta_(l-1) = (delta_l B_l^T) * f'`, `dW = x^T delta + decay W` and
    `dB = rate x^T delta + decay B`.

    With `decay=0` it is Amit's updated random feedback (URFB). Without decay `B - rate W` is
    constant. With decay it shrinks, so that `B` converges to `rate W`.

    Local: both synapses see the same two neurons, so that each can compute the product of activity
    and error by itself; no synapse reads the weight of another one.

    There are two forms, which compute the same. Identical updates do not change `D = B - W`.
    Therefore the layer by default holds the constant `D` and a scalar `s`: `B = W + s D`. The
    scalar has gradient zero and stays 1, unless the optimizer decays weights: then the decay
    shrinks `s` exactly as it would shrink the difference of two weights. This form needs no
    optimizer slots for `B`, but it always follows the kernel. Therefore the layer holds `B` as a
    separate weight for a `rate` other than 1, for a `decay` of the rule, and if a regulariser or a
    constraint acts only on the kernel.

    Args:
        rate: Step of the feedback kernel, divided by the step of the kernel (Amit's epsilon). It is
            exact under plain SGD and momentum; Adam and similar optimizers divide the factor out.
        decay: Decay of both kernels, added to both gradients. It is exact for SGD, where the
            difference shrinks by `(1 - learning_rate * decay)` in each step. With any other
            optimizer use the optimizer's own (decoupled) `weight_decay`, and leave this at 0.
        separate: Whether `B` is a separate weight. None decides as described above.

    Raises:
        ValueError: For a negative rate or decay, or `separate=False` with a rate or decay that
            needs a separate weight.

    >>> import keras_local as kl
    >>> layer = kl.layers.FeedbackDense(3, feedback="kolen_pollack")
    >>> layer.build((None, 2))
    >>> [weight.name for weight in layer.weights]
    ['kernel', 'bias', 'feedback_kernel_scale', 'feedback_kernel_offset']

    Source: Kolen & Pollack 1994; Akrout et al. 2019, "Deep learning without weight transport";
    URFB in Amit 2019, "Deep learning with asymmetric connections and Hebbian updates".
    """

    def __init__(self, rate: float = 1.0, decay: float = 0.0, separate: bool | None = None) -> None:
        self.rate = check.real("rate", rate, minimum=0.0)
        self.decay = check.real("decay", decay, minimum=0.0)
        valid = separate is None or isinstance(separate, (bool, np.bool_))
        check.require(valid, "separate", "True, False or None", separate)
        self.separate = None if separate is None else bool(separate)
        check.require(
            self.separate is not False or not self._needs_own_weight,
            "separate",
            f"True or None with rate={rate} and decay={decay}",
            separate,
        )

    @property
    def _needs_own_weight(self) -> bool:
        return self.rate != 1.0 or self.decay != 0.0

    @property
    def _separate(self) -> bool:
        return self._needs_own_weight if self.separate is None else self.separate

    @property
    def learns_from_activity(self) -> bool:
        """Return False: weights decay without an error, but do not learn from activity."""
        return False

    @property
    def has_local_terms(self) -> bool:
        """Whether weights decay."""
        return self.decay != 0.0

    @property
    def feedback_teaches_kernel(self) -> bool:
        """Return False: each kernel decays by itself."""
        return False

    @property
    def follows_kernel(self) -> bool:
        """Return True."""
        return True

    def adapt(self, kernel_has_own_terms: bool) -> FeedbackRule:
        """Return the form with a weight `B` for a kernel that is regularised or constrained."""
        if kernel_has_own_terms and self.separate is None:
            return KolenPollack(self.rate, self.decay, separate=True)
        return self

    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """Declare `B`, or the offset `D` and the scalar `s`."""
        shape = tuple(kernel.shape)
        if self._separate:
            return [FeedbackWeight("feedback_kernel", shape, initializer, True)]

        def difference(shape: tuple[int, ...], dtype: Any, kernel: Tensor) -> Tensor:
            return initializer(shape, dtype=dtype) - kernel

        offset = "feedback_kernel_offset"
        return [
            FeedbackWeight(offset, shape, difference, False, starts_from_kernel=True),
            FeedbackWeight("feedback_kernel_scale", (), "ones", True),
        ]

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """Return `B`, which is `W + s D` in the default form."""
        if self._separate:
            return feedback[0]
        offset, scale = feedback
        return kernel + scale * offset

    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Return the given `B`, or `B - W` and 1."""
        if self._separate:
            return [feedback_kernel]
        return [feedback_kernel - kernel, ops.ones(())]

    def feedback_gradients(self, signals: Signals) -> tuple[Tensor | None, ...]:
        """Return `rate x^T delta`, or zero for the scalar of the default form."""
        if not self._separate:
            return None, ops.zeros_like(signals.feedback[1])
        gradient = signals.kernel_gradient
        return (gradient if self.rate == 1.0 else self.rate * gradient,)

    def local_gradients(
        self, synapses: RuleContext, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        """Return `decay W` and `decay B`."""
        if not self.decay:
            return None
        return self.decay * synapses.kernel, self.decay * synapses.feedback[0]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"rate": self.rate, "decay": self.decay, "separate": self.separate}
