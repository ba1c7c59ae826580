"""Information alignment: Hebbian feedback weights that stay bounded."""

from __future__ import annotations

from typing import Any

from keras_local._serialization import serializable
from keras_local.feedback.alignment_rule import AlignmentRule
from keras_local.feedback.primitives import Amplify, Decay, Nullify, Regulariser


@serializable
class InformationAlignment(AlignmentRule):
    """Feedback weights learn from products of activities, and stay bounded (IA).

    `R = -amplify mean <u, z> + nullify / 2 mean |r|^2 + decay / 2 |B|^2` with `z = M(x, W)`,
    `u = M(x, B)` and the reconstruction `r = M^T(z, B)` (IA), hence
    `dB = -amplify x^T z + nullify r^T z + decay B`. For white inputs and a frozen kernel `B`
    converges to the kernel's singular vectors, with `amplify s / (decay + nullify s^2)` in place of
    each singular value `s`: at an angle to `W` unless all `s` are equal.

    Local: each term is a product of activities at the synapse. It costs a product back and two
    products of activities.

    Args:
        amplify: Rate of the Hebbian growth.
        nullify: Rate of the term `|r|^2`.
        decay: Rate of the decay.
        **options: Of `AlignmentRule`.

    Raises:
        ValueError: If a rate is negative.

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
        **options: Any,
    ) -> None:
        self.amplify, self.nullify = Amplify(amplify).rate, Nullify(nullify).rate
        self.decay = Decay(decay).rate
        super().__init__(**options)

    @property
    def regulariser(self) -> Regulariser:
        """`amplify + nullify + decay`."""
        return Amplify(self.amplify) + Nullify(self.nullify) + Decay(self.decay)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "amplify": self.amplify,
            "nullify": self.nullify,
            "decay": self.decay,
            **super().get_config(),
        }
