"""Oja's rule for single units."""

from __future__ import annotations

from typing import Any

from keras_local._serialization import serializable
from keras_local.ops.backend import Tensor
from keras_local.plasticity.rate import LinearDecay
from keras_local.plasticity.rule import PlasticityRule


@serializable
class Oja(PlasticityRule):
    """Hebbian learning with a decay that keeps the length 1: `dW_k = y_k (x - y_k W_k)`.

    Every unit converges to the first principal component of centred inputs, up to its sign, with
    length 1; units learn independently. The step size times the largest variance should stay below
    about 0.1.

    Local: it uses pre- and postsynaptic activity, and the weight itself.

    Args:
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `LinearDecay()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: If a part is of the wrong kind.

    >>> import numpy as np
    >>> from keras_local.plasticity import Oja
    >>> x, w = np.array([[1.0, 2.0]], "float32"), np.array([[1.0], [0.0]], "float32")
    >>> np.asarray(Oja().update(x, w)).tolist()
    [[0.0], [2.0]]

    Source: Oja 1982, "A simplified neuron model as a principal component analyzer".
    """

    rate = LinearDecay()

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the activity."""
        return post

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return self.parts_config()
