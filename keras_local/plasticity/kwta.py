"""Competitive learning by cosine: winners move to the mean of the samples that they win."""

from __future__ import annotations

import numbers
from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor
from keras_local.plasticity.competition import Competition, KWinners
from keras_local.plasticity.normaliser import Normaliser
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Mean, Reduction
from keras_local.plasticity.rule import DENSE, PlasticityRule, weight_norms


@serializable
class KWTA(PlasticityRule):
    """Units compete by the cosine of input and weights; winners move to the mean of their samples.

        s = x W_k / |W_k|,    g = competition(s)
        dW_k = sum_b |g_bk| g_bk (x_b - W_k) / sum_b |g_bk|

    With one winner this is k-means in small steps. The length of the input does not matter for the
    competition of `KWinners`, as it is common to all units.

    The forward pass is the projection `x W_k / |W_k|`.

    Local: it uses the input, the unit's own weights, and its share of the sample. The sum of shares
    over the batch counts the unit's own wins.

    Args:
        competition: A `Competition`, or the number of winners, 5 by default.
        reduction: How changes are reduced over samples; by default `Mean()`, over the
            wins of each unit.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `ConstantRate()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: For a wrong competition or part, or fewer units than winners.

    >>> import numpy as np
    >>> from keras_local.plasticity import KWTA
    >>> np.asarray(KWTA(2).gains(np.array([[0.5, 2.0, 1.0]], "float32"))).tolist()
    [[0.0, 1.0, 1.0]]

    Source: the winner-take-all branch of Lagani et al., "FastHebb", as in the code of its library.
    """

    reduction = Mean()

    def __init__(
        self,
        competition: Competition | int = 5,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate, constraint)
        if not isinstance(competition, Competition):
            allowed = "a Competition, or a number of winners of at least 1"
            number = isinstance(competition, numbers.Integral) and not isinstance(competition, bool)
            check.require(number and int(competition) > 0, "competition", allowed, competition)
            competition = KWinners(check.positive_integer("competition", competition))
        self.competition = competition

    def check_units(self, units: int) -> None:
        """Raise a ValueError if there are fewer units than winners."""
        self.competition.check_units(units)

    def forward_kernel(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return `W_k / |W_k|`."""
        return kernel / weight_norms(kernel, linear_map)

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the square of each share: one factor is the gain, the other a weight."""
        return ops.square(self.competition(post))

    def decays(self, gains: Tensor, post: Tensor) -> Tensor:
        """Return the gains: units move towards the input, not towards its projection."""
        return gains

    def samples(self, post: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the sum of each unit's shares."""
        return linear_map.unit_sum(self.competition(post))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        competition = keras.saving.serialize_keras_object(self.competition)
        return {"competition": competition, **self.parts_config()}
