"""Symmetric alignment: feedback weights pulled towards the kernel."""

from __future__ import annotations

from typing import Any

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.feedback.alignment_rule import AlignmentRule, Noise
from keras_local.feedback.primitives import Decay, Regulariser, SelfAlign


@serializable
class SymmetricAlignment(AlignmentRule):
    """The feedback kernel decays, and is pulled towards the kernel (SA).

    `R = decay / 2 |B|^2 - self_align <W, B>`, and therefore `dB = decay B - self_align W`. For a
    frozen kernel `B` converges to `self_align / decay W` for all data, which is `W` itself by
    default.

    Not local: the feedback synapse reads the forward weight. It is one of the two rules that the
    authors use in deep networks. It reads no activity and costs only elementwise passes over the
    kernels; there are fewer of them if both rates are equal.

    Args:
        decay: Rate of the decay.
        self_align: Rate of the pull.
        noise: Without effect, like `centre` and `respond`, because no activity is read.
        centre: Without effect.
        respond: Without effect.
        every: The feedback kernel learns in one of this many steps.
        update_forward: Whether the kernel learns by the same regulariser.

    Raises:
        ValueError: If a rate is negative, or another argument is invalid; the message names it.

    >>> import keras_local as kl
    >>> kl.layers.FeedbackDense(3, feedback="symmetric_alignment").feedback.decay
    0.1

    Source: Kunin et al. 2020, "Two routes to scalable credit assignment without weight symmetry".
    """

    def __init__(
        self,
        decay: float = 0.1,
        self_align: float = 0.1,
        *,
        noise: Noise | None = None,
        centre: bool = False,
        respond: bool = False,
        every: int = 1,
        update_forward: bool = False,
    ) -> None:
        self.decay = check.real("decay", decay, minimum=0.0)
        self.self_align = check.real("self_align", self_align, minimum=0.0)
        super().__init__(
            noise=noise,
            centre=centre,
            respond=respond,
            every=every,
            update_forward=update_forward,
        )

    @property
    def regulariser(self) -> Regulariser:
        """Return the regulariser, `decay + self_align`."""
        return Decay(self.decay) + SelfAlign(self.self_align)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"decay": self.decay, "self_align": self.self_align, **super().get_config()}
