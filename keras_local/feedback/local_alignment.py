"""A feedback kernel that minimises a sum of primitives that the user chooses."""

from __future__ import annotations

from typing import Any

import keras

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.feedback.alignment_rule import AlignmentRule
from keras_local.feedback.primitives import Primitive, Regulariser


@serializable
class LocalAlignment(AlignmentRule):
    """The feedback kernel minimises a regulariser, any sum of primitives.

    `dB = dR/dB` with `R` the sum: `Decay`, `Amplify` and `Nullify` are local, `Sparsify` and
    `SelfAlign` are not.

    Args:
        regulariser: A primitive, or a sum of them.
        **options: Of `AlignmentRule`.

    Raises:
        ValueError: If `regulariser` is something else.

    >>> from keras_local import feedback
    >>> rule = feedback.LocalAlignment(feedback.Decay(0.1) + feedback.SelfAlign(0.05))
    >>> [term.rate for term in rule.regulariser.terms]
    [0.1, 0.05]

    Source: Kunin et al. 2020, "Two routes to scalable credit assignment without weight symmetry".
    """

    def __init__(self, regulariser: Primitive | Regulariser, **options: Any) -> None:
        if isinstance(regulariser, Primitive):
            regulariser = Regulariser([regulariser])
        self._regulariser = check.instance("regulariser", regulariser, Regulariser)
        super().__init__(**options)

    @property
    def regulariser(self) -> Regulariser:
        """The sum."""
        total: Regulariser = self._regulariser
        return total

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        total = keras.saving.serialize_keras_object(self._regulariser)
        return {"regulariser": total, **super().get_config()}
