"""Information alignment: Hebbian feedback weights that stay bounded."""

from __future__ import annotations

from typing import Any

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.feedback.alignment_rule import AlignmentRule, Noise
from keras_local.feedback.primitives import Amplify, Decay, Nullify, Regulariser


@serializable
class InformationAlignment(AlignmentRule):
    """Feedback weights learn from products of activities, and stay bounded (IA).

    `R = -amplify mean <u, z> + nullify / 2 mean |r|^2 + decay / 2 |B|^2` with `z = M(x, W)`,
    `u = M(x, B)` and the reconstruction `r = M^T(z, B)`, and therefore
    `dB = -amplify x^T z + nullify r^T z + decay B`. For white inputs and a frozen kernel `B`
    converges to a kernel with the singular vectors of `W`, and with
    `amplify s / (decay + nullify s^2)` in place of each singular value `s`. The angle to `W` is not
    zero unless all `s` are equal.

    Local: each term is a product of activities at the synapse. It costs a backward product and two
    products of activities.

    Args:
        amplify: Rate of the Hebbian growth.
        nullify: Rate of the term `|r|^2`.
        decay: Rate of the decay.
        noise: Noise that drives the layer, as in `AlignmentRule`.
        centre: Whether the mean over the batch is subtracted from the inputs.
        respond: Whether the outputs are computed with bias and activation.
        every: The feedback kernel learns in one of this many steps.
        update_forward: Whether the kernel learns by the same regulariser.

    Raises:
        ValueError: If a rate is negative, or another argument is invalid; the message names it.

    >>> import keras_local as kl
    >>> kl.layers.FeedbackDense(3, feedback="information_alignment").feedback.nullify
    0.01

    Source: Kunin et al. 2020, "Two routes to scalable credit assignment without weight symmetry".
    """

    def __init__(
        self,
        amplify: float = 0.01,
        nullify: float = 0.01,
        decay: float = 0.01,
        *,
        noise: Noise | None = None,
        centre: bool = False,
        respond: bool = False,
        every: int = 1,
        update_forward: bool = False,
    ) -> None:
        self.amplify = check.real("amplify", amplify, minimum=0.0)
        self.nullify = check.real("nullify", nullify, minimum=0.0)
        self.decay = check.real("decay", decay, minimum=0.0)
        super().__init__(
            noise=noise,
            centre=centre,
            respond=respond,
            every=every,
            update_forward=update_forward,
        )

    @property
    def regulariser(self) -> Regulariser:
        """Return the regulariser, `amplify + nullify + decay`."""
        return Amplify(self.amplify) + Nullify(self.nullify) + Decay(self.decay)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "amplify": self.amplify,
            "nullify": self.nullify,
            "decay": self.decay,
            **super().get_config(),
        }
