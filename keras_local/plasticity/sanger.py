"""Sanger's generalised Hebbian algorithm."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_local._serialization import serializable
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor
from keras_local.plasticity.rate import LinearDecay
from keras_local.plasticity.rule import DENSE, PlasticityRule


@serializable
class Sanger(PlasticityRule):
    """Each unit learns from the input minus its reconstruction by this unit and those before it.

        dW_k = y_k (x - sum_{l <= k} y_l W_l)

    Unit k becomes the k-th principal component of centred inputs, up to its sign, with length 1.

    Not local: a unit needs the weights of the units before it, through their reconstruction of the
    input.

    Args:
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `LinearDecay()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: If a part is of the wrong kind.

    >>> import numpy as np
    >>> from keras_local.plasticity import Sanger
    >>> x, w = np.array([[1.0, 2.0]], "float32"), np.eye(2, dtype="float32")
    >>> np.asarray(Sanger().update(x, w)).tolist()
    [[0.0, 0.0], [2.0, 0.0]]

    Source: Sanger 1989, "Optimal unsupervised learning in a single-layer linear feedforward neural
    network".
    """

    rate = LinearDecay()

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the activity."""
        return post

    def decays(self, gains: Tensor, post: Tensor) -> None:
        """Return None: the decay is part of the mixing."""
        return

    def mixing(self, gains: Tensor, post: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the lower triangle of `Y^T Y`, with its diagonal."""
        return ops.tril(linear_map.unit_products(gains, post))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return self.parts_config()
