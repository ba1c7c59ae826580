"""A rule that is any function of pre, post and weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import Config
from keras_local.constraints import Constraint
from keras_local.ops import Dense, LinearMap
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import Normaliser
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Reduction
from keras_local.plasticity.rule import DENSE, PlasticityRule

PointwiseFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


@serializable
class PointwiseRule(PlasticityRule):
    """Any function `f` of pre, post and weight: `dW_ik = mean_b m_b f(x_bi, u_bk, W_ik)`.

    The function is evaluated for every sample and synapse: memory and time grow with the batch
    times the kernel, in contrast to `SeparableRule`. A few units are computed at a time. The rule
    is for dense layers only.

    Local: it uses pre- and postsynaptic activity, the weight itself, and the modulator if there is
    one.

    Args:
        function: Function of three tensors that broadcast against `(batch, inputs, units)`: inputs,
            currents and weights. Register it with Keras for saving.
        block: How many units are evaluated at a time.
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `ConstantRate()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: If `function` is not callable, `block` is not a positive integer, a part is of
            the wrong kind, or the layer is not dense.

    >>> import numpy as np
    >>> from keras_local.plasticity import PointwiseRule
    >>> rule = PointwiseRule(lambda pre, post, weight: post * (pre - post * weight))
    >>> x, w = np.array([[1.0, 2.0]], "float32"), np.array([[1.0], [0.0]], "float32")
    >>> np.asarray(rule.update(x, w)).tolist()
    [[0.0], [2.0]]
    """

    def __init__(
        self,
        function: PointwiseFunction | Config,
        block: int = 32,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate, constraint)
        if isinstance(function, (dict, str)):
            allowed = "a function, or the config of one that is registered with Keras"
            restore = keras.saving.deserialize_keras_object
            function = check.resolved("function", function, restore, allowed)
        allowed = "a function of inputs, currents and weights"
        self.function: PointwiseFunction = check.function("function", function, allowed)
        self.block = check.positive_integer("block", block)

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the currents; `change` does not use gains."""
        return post

    def change(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> Tensor:
        """Return the function's values, summed over the samples."""
        dense = isinstance(linear_map.whole, Dense)
        check.require(dense, "plasticity", "a rule for convolutions, not PointwiseRule", linear_map)
        pre = pre[:, :, None]
        parts = []
        for start in range(0, kernel.shape[-1], self.block):
            units = slice(start, start + self.block)
            values = self.function(pre, post[:, None, units], kernel[None, :, units])
            if modulator is not None:
                factor = ops.broadcast_to(modulator, ops.shape(post))
                values = values * factor[:, None, units]
            if linear_map.whole is not linear_map:
                there = linear_map.counted(ops.ones_like(post))[:, None, units]
                values = ops.where(there > 0, values, ops.zeros_like(values))
            parts.append(ops.sum(values, axis=0))
        return ops.concatenate(parts, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        function = keras.saving.serialize_keras_object(self.function)
        return {"function": function, "block": self.block, **self.parts_config()}
