"""Foldiak's sparse codes: lateral weights and thresholds that learn in addition to the kernel."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor
from keras_local.ops.precision import precise
from keras_local.plasticity.normaliser import Normaliser
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Mean, Reduction
from keras_local.plasticity.rule import DENSE, OwnWeight, PlasticityRule, unit_shape


@serializable
class Foldiak(PlasticityRule):
    """Sparse codes by Hebbian forward weights, anti-Hebbian lateral weights and thresholds.

    For each sample, units with forward weights `W` inhibit each other through lateral weights `L`
    until they are at rest. Their outputs are 0 or 1:

        dh_k/dt = f(W_k x + sum_l L_kl h_l - t_k) - h_k,    f(u) = 1 / (1 + exp(-slope u))
        y_k = 1 if h_k > 1/2 at the end, else 0

    Then, with means over the samples of a batch:

        dW_k = mean y_k (x - W_k)
        L_kl <- min(L_kl - lateral_rate (mean y_k y_l - probability^2), 0),    L_kk = 0
        t_k <- t_k + threshold_rate (mean y_k - probability)

    Units that are active together learn to inhibit each other, and each becomes active with the
    given probability: the code is sparse, and its entries are decorrelated.

    The settled activities are the outputs of the layer; no error passes through them to layers
    below. The layer holds `L` and `t`. In the paper the initial forward weights are drawn from
    `(0, 1)` and scaled to length 1, and thresholds settle before the weights learn.

    Local: every weight, forward or lateral, sees the two activities that it joins and its own
    value; a threshold sees its own unit.

    Args:
        probability: Probability with which each unit should be active, greater than 0, at most 1.
        lateral_rate: Rate of the lateral weights in a step, at least 0.
        threshold_rate: Rate of the thresholds in a step, at least 0.
        slope: Steepness of `f`, positive.
        steps: Number of explicit Euler steps in which units settle.
        step: Length of each Euler step, positive; the time constant of a unit is 1.
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `ConstantRate()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: For a number out of range, or a part of the wrong kind.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.HebbianDense(3, plasticity=kl.plasticity.Foldiak())
    >>> outputs = layer(np.random.default_rng(0).normal(size=(5, 4)).astype("float32"))
    >>> sorted({float(value) for value in np.asarray(outputs).ravel()})
    [0.0, 1.0]
    >>> [weight.name for weight in layer.non_trainable_weights]
    ['lateral_kernel', 'threshold']

    Source: Foldiak 1990, "Forming sparse representations by local anti-Hebbian learning". Rates and
    slope are quoted from memory and not verified; we chose the number of Euler steps.
    """

    def __init__(
        self,
        probability: float = 0.125,
        lateral_rate: float = 0.1,
        threshold_rate: float = 0.02,
        slope: float = 10.0,
        steps: int = 50,
        step: float = 0.2,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate, constraint)
        self.probability = check.real(
            "probability", probability, minimum=0.0, maximum=1.0, exclusive=True
        )
        self.lateral_rate = check.real("lateral_rate", lateral_rate, minimum=0.0)
        self.threshold_rate = check.real("threshold_rate", threshold_rate, minimum=0.0)
        self.slope = check.real("slope", slope, minimum=0.0, exclusive=True)
        self.steps = check.positive_integer("steps", steps, maximum=10_000)
        self.step = check.real("step", step, minimum=0.0, exclusive=True)

    def outputs(self, sums: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the settled activities, 0 or 1."""
        sums = ops.stop_gradient(ops.convert_to_tensor(sums))
        lateral, threshold = (ops.cast(weight, precise(sums.dtype)) for weight in own)
        inhibition = ops.swapaxes(lateral, -1, -2)

        def inputs_of_others(h: Tensor) -> Tensor:
            if len(inhibition.shape) == 2:
                return ops.matmul(h, inhibition) - threshold
            # Each position has its own lateral weights.
            return ops.squeeze(ops.matmul(h[..., None, :], inhibition), -2) - threshold

        driven = ops.cast(sums, lateral.dtype)
        rest = ops.zeros_like(driven)
        settled = ops.fori_loop(
            0, self.steps, lambda _, h: self._euler(h, driven + inputs_of_others(h)), rest
        )
        return ops.cast(settled > 0.5, sums.dtype)

    def plain_outputs(self, sums: Any, *own: Any, linear_map: LinearMap = DENSE) -> Any:
        """Return the settled activities in built-in layers, with every Euler step written out.

        One `keras.layers.Dense`, called in each step, holds lateral weights and thresholds.
        """
        lateral, threshold = own
        inputs_of_others = _dense(lateral, threshold) if lateral.ndim == 2 else _einsum(*own)
        settled = ops.zeros_like(sums)
        for _ in range(self.steps):
            settled = self._euler(settled, sums + inputs_of_others(settled))
        return ops.cast(settled > 0.5, sums.dtype)

    def _euler(self, h: Tensor, inputs: Tensor) -> Tensor:
        return h + self.step * (ops.sigmoid(self.slope * inputs) - h)

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the settled activities."""
        return post

    def decays(self, gains: Tensor, post: Tensor) -> Tensor:
        """Return the gains: weights of active units move towards the input."""
        return gains

    def own_weights(
        self, kernel_shape: tuple[int, ...], linear_map: LinearMap = DENSE
    ) -> list[OwnWeight]:
        """Declare lateral weights and thresholds, with the first value 0."""
        units = unit_shape(kernel_shape, linear_map)
        return [
            OwnWeight("lateral_kernel", (*units, units[-1]), "zeros"),
            OwnWeight("threshold", units, "zeros"),
        ]

    def own_updates(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the lateral weights and the thresholds after the step."""
        lateral, threshold = own
        samples = linear_map.samples(post)
        together = Mean()(linear_map.unit_products(post, post), samples)
        inhibition = lateral - self.lateral_rate * (together - self.probability**2)
        others = 1.0 - ops.eye(lateral.shape[-1], dtype=lateral.dtype)
        active = ops.reshape(Mean()(linear_map.unit_sum(post), samples), threshold.shape)
        return (
            ops.minimum(inhibition, 0.0) * others,
            threshold + self.threshold_rate * (active - self.probability),
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "probability": self.probability,
            "lateral_rate": self.lateral_rate,
            "threshold_rate": self.threshold_rate,
            "slope": self.slope,
            "steps": self.steps,
            "step": self.step,
            **self.parts_config(),
        }


def _dense(lateral: np.ndarray, threshold: np.ndarray) -> Any:
    layer = keras.layers.Dense(len(threshold))
    layer.build((None, len(threshold)))
    layer.set_weights([lateral.T, -threshold])
    return layer


def _einsum(lateral: np.ndarray, threshold: np.ndarray) -> Any:
    """Return a layer with weights for each position, one axis or two of them."""
    space = "xy"[: lateral.ndim - 2]
    layer = keras.layers.EinsumDense(
        f"b{space}k,{space}lk->b{space}l", threshold.shape, bias_axes=f"{space}l"
    )
    layer.build((None, *threshold.shape))
    layer.set_weights([lateral, -threshold])
    return layer
