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
    """The error returns through random weights that learn by the kernel's own product.

    `delta_(l-1) = (delta_l B_l^T) * f'`, `dW = x^T delta + decay W` and
    `dB = rate x^T delta + decay B`.

    With `decay=0` it is Amit's updated random feedback (URFB). Invariant: `B - rate W` is constant
    without decay, and shrinks by the decay otherwise, so that the two come to agree.

    Local: both synapses see the same two neurons, so each computes the product of activity and
    error on its own; no weight is read by another synapse.

    Two forms compute the same. Identical updates leave `D = B - W` alone, so by default the layer
    holds the constant `D` and a scalar: `B = W + s D`. The scalar has gradient zero, hence it is 1
    for ever, unless the optimizer decays weights: the decay shrinks `s` exactly as it would shrink
    the difference of two weights. This form needs no optimizer slots for `B`. It follows the kernel
    in everything, so for `rate` other than 1, for a decay inside the rule, and where a regulariser
    or a constraint acts on the kernel alone, the layer holds `B` as a weight of its own.

    Args:
        rate: Quotient of the feedback kernel's step and the kernel's (Amit's epsilon); exact under
            plain SGD and momentum, while Adam and its kin divide every such factor out.
        decay: Decay of both kernels, added to both gradients: exact for SGD, where the difference
            shrinks by `(1 - learning_rate * decay)` a step. With any other optimizer use the
            optimizer's own (decoupled) `weight_decay` instead and leave this at 0.
        separate: Whether `B` is a weight of its own. None decides as above.

    Raises:
        ValueError: For a negative rate or decay, or `separate=False` with a rate or decay that
            needs a weight of its own.

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
        """False: weights also decay without an error, but they learn nothing from activity."""
        return False

    @property
    def follows_kernel(self) -> bool:
        """True."""
        return True

    def adapt(self, kernel_has_own_terms: bool) -> FeedbackRule:
        """Hold `B` as a weight where a regulariser or a constraint acts on the kernel alone."""
        if kernel_has_own_terms and self.separate is None:
            return KolenPollack(self.rate, self.decay, separate=True)
        return self

    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """`B`, or the offset `D` and the scalar `s`."""
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
        """`B`, which is `W + s D` in the default form."""
        if self._separate:
            return feedback[0]
        offset, scale = feedback
        return kernel + scale * offset

    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """`B`, or `B - W` and 1."""
        if self._separate:
            return [feedback_kernel]
        return [feedback_kernel - kernel, ops.ones(())]

    def feedback_gradients(self, signals: Signals) -> tuple[Tensor | None, ...]:
        """`rate x^T delta`, or zero for the scalar of the default form."""
        if not self._separate:
            return None, ops.zeros_like(signals.feedback[1])
        gradient = signals.kernel_gradient
        return (gradient if self.rate == 1.0 else self.rate * gradient,)

    def local_gradients(
        self, synapses: RuleContext, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        """`decay W` and `decay B`."""
        if not self.decay:
            return None
        return self.decay * synapses.kernel, self.decay * synapses.feedback[0]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"rate": self.rate, "decay": self.decay, "separate": self.separate}
