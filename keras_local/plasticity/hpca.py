"""Nonlinear Hebbian principal component analysis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import Normaliser, RootFanIn
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Reduction
from keras_local.plasticity.rule import DENSE, PlasticityRule

HPCANonlinearity = Literal["relu", "tanh", "linear"]

_ACTIVITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": ops.relu,
    "tanh": ops.tanh,
    "linear": lambda post: post,
}


@serializable
class HPCA(PlasticityRule):
    """Sanger's rule with a nonlinear activity, for stacked layers.

        y = f(W x),    dW_k = y_k (x - sum_{l <= k} y_l W_l) / sqrt(N)

    with `N` inputs to each unit, averaged over samples. The second term, summed over samples, is
    the product of a matrix (units by units) and the kernel, so that no reconstruction of an input
    has to be stored.

    Not local: like `Sanger`, it needs the weights of other units.

    Args:
        nonlinearity: `"relu"`, `"tanh"`, or `"linear"`, which is `Sanger` divided by `sqrt(N)`.
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; `RootFanIn()` by default.
        rate: How the step size depends on time and weights; `ConstantRate()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: For an unknown nonlinearity, or a part of the wrong kind.

    >>> import numpy as np
    >>> from keras_local.plasticity import HPCA
    >>> np.asarray(HPCA().gains(np.array([[-1.0, 2.0]], "float32"))).tolist()
    [[0.0, 2.0]]

    Source: Lagani et al., "FastHebb: scaling Hebbian training of deep neural networks to ImageNet
    level", in the form of the authors' code.
    """

    normaliser = RootFanIn()

    def __init__(
        self,
        nonlinearity: HPCANonlinearity = "relu",
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate, constraint)
        self.nonlinearity: HPCANonlinearity = check.one_of(
            "nonlinearity", nonlinearity, tuple(_ACTIVITIES)
        )

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the activity `f(post)`."""
        return _ACTIVITIES[self.nonlinearity](post)

    def decays(self, gains: Tensor, post: Tensor) -> None:
        """Return None: the decay is part of the mixing."""
        return

    def mixing(self, gains: Tensor, post: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the lower triangle of `Y^T Y`, with its diagonal."""
        return ops.tril(linear_map.unit_products(gains, self.gains(post)))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"nonlinearity": self.nonlinearity, **self.parts_config()}
