"""Oja's rule for the subspace of the leading principal components."""

from __future__ import annotations

from typing import Any

from keras_local._serialization import serializable
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor
from keras_local.plasticity.rate import LinearDecay
from keras_local.plasticity.rule import DENSE, PlasticityRule


@serializable
class OjaSubspace(PlasticityRule):
    """Every unit learns from the input minus its reconstruction by all units.

        dW_k = y_k (x - sum_l y_l W_l)

    The units become orthonormal and span the leading principal components of centred inputs. Their
    directions in this space depend on the initial weights.

    Not local: each unit needs the weights of all others, through their common reconstruction of the
    input.

    Args:
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `LinearDecay()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: If a part is of the wrong kind.

    >>> import numpy as np
    >>> from keras_local.plasticity import OjaSubspace
    >>> x, w = np.array([[1.0, 2.0]], "float32"), np.eye(2, dtype="float32")
    >>> np.asarray(OjaSubspace().update(x, w)).tolist()
    [[0.0, 0.0], [0.0, 0.0]]

    Source: Oja 1989, "Neural networks, principal components, and subspaces".
    """

    rate = LinearDecay()

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the activity."""
        return post

    def decays(self, gains: Tensor, post: Tensor) -> None:
        """Return None: the decay is part of the mixing."""
        return

    def mixing(self, gains: Tensor, post: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return `Y^T Y`."""
        return linear_map.unit_products(gains, post)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return self.parts_config()
