"""A feedback kernel that minimises a sum of primitives that the user chooses."""

from __future__ import annotations

from typing import Any

import keras

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.feedback.alignment_rule import AlignmentRule, Noise
from keras_local.feedback.primitives import Primitive, Regulariser


@serializable
class LocalAlignment(AlignmentRule):
    """The feedback kernel minimises a regulariser that is any sum of primitives.

    `dB = dR/dB`, where `R` is the sum. `Decay`, `Amplify` and `Nullify` are local, `Sparsify` and
    `SelfAlign` are not.

    Args:
        regulariser: A primitive, or a sum of them.
        noise: Noise that drives the layer, as in `AlignmentRule`.
        centre: Whether the mean over the batch is subtracted from the inputs.
        respond: Whether the outputs are computed with bias and activation.
        every: The feedback kernel learns in one of this many steps.
        update_forward: Whether the kernel learns by the same regulariser.

    Raises:
        ValueError: If `regulariser` is something else.

    >>> from keras_local import feedback
    >>> rule = feedback.LocalAlignment(feedback.Decay(0.1) + feedback.SelfAlign(0.05))
    >>> [term.rate for term in rule.regulariser.terms]
    [0.1, 0.05]

    Source: Kunin et al. 2020, "Two routes to scalable credit assignment without weight symmetry".
    """

    def __init__(
        self,
        regulariser: Primitive | Regulariser,
        *,
        noise: Noise | None = None,
        centre: bool = False,
        respond: bool = False,
        every: int = 1,
        update_forward: bool = False,
    ) -> None:
        check.instance("regulariser", regulariser, (Primitive, Regulariser))
        if isinstance(regulariser, Primitive):
            regulariser = Regulariser([regulariser])
        self._regulariser = regulariser
        super().__init__(
            noise=noise,
            centre=centre,
            respond=respond,
            every=every,
            update_forward=update_forward,
        )

    @property
    def regulariser(self) -> Regulariser:
        """Return the sum of primitives."""
        return self._regulariser

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        total = keras.saving.serialize_keras_object(self._regulariser)
        return {"regulariser": total, **super().get_config()}
