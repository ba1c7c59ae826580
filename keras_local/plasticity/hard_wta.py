"""Hard winner-take-all."""

from __future__ import annotations

from typing import Any

from keras_local._serialization import serializable
from keras_local.ops.backend import Tensor
from keras_local.plasticity.competition import Winner
from keras_local.plasticity.normaliser import MaxAbs
from keras_local.plasticity.rate import NormDistance
from keras_local.plasticity.reduction import Sum
from keras_local.plasticity.rule import PlasticityRule


@serializable
class HardWTA(PlasticityRule):
    """Only the unit of the largest current learns, towards its input.

        dW_k = sum_b [k wins b] (x_b - u_bk W_k)
        W_k += step_size * | |W_k| - 1 |^q * dW_k / max|dW|

    It is the limit of `SoftHebb` for a large `beta`, and differs from `KrotovHopfield` with
    `p=2, delta=0` only in the rate.

    Local: it uses the input, the unit's own current and weights, and which unit wins. Not local:
    the scalar `max|dW|`.

    Args:
        reduction: How changes are reduced over samples; `Sum()` by default.
        normaliser: How the size of a change is bounded; `MaxAbs()` by default.
        rate: How the step size depends on time and weights; `NormDistance(0.5)` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: If a part is of the wrong kind.

    >>> import numpy as np
    >>> from keras_local.plasticity import HardWTA
    >>> np.asarray(HardWTA().gains(np.array([[0.5, 2.0, 1.0]], "float32"))).tolist()
    [[0.0, 1.0, 0.0]]

    Source: the control of Journe et al. 2023, "Hebbian deep learning without feedback".
    """

    reduction = Sum()
    normaliser = MaxAbs()
    rate = NormDistance(0.5)

    @property
    def norm_exponent(self) -> float:
        """Return 2: units converge to length 1."""
        return 2.0

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return 1 for the winner, 0 for the others."""
        return Winner()(post)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return self.parts_config()
