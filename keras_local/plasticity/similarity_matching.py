"""Similarity matching: Hebbian forward weights and anti-Hebbian lateral weights."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import Normaliser
from keras_local.plasticity.rate import LinearDecay, RatePolicy
from keras_local.plasticity.reduction import Reduction
from keras_local.plasticity.rule import DENSE, OwnWeight, PlasticityRule, unit_shape


@serializable
class SimilarityMatching(PlasticityRule):
    """Outputs become as similar to each other as the inputs are, by local learning alone.

        y = M^(-1) W x                   the steady state of  dy/dt = W x - M y
        dW = 2 mean_b (y x^T - W)        Hebbian
        dM = (1 / tau) mean_b (y y^T - M)    anti-Hebbian: M inhibits

    At the fixed point the filters `F = M^(-1) W` are orthonormal and span the leading principal
    components of centred inputs.

    Local: every weight, forward or lateral, sees the two activities that it joins and its own
    value. The steady state is computed exactly.

    The layer holds `M`, and the optimizer changes both `M` and `W`.

    Args:
        tau: How much slower `M` is, relative to half the rate of `W`; positive.
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `LinearDecay()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: If `tau` is not positive, or a part is of the wrong kind.

    >>> import keras_local as kl
    >>> layer = kl.layers.HebbianDense(3, plasticity=kl.plasticity.SimilarityMatching())
    >>> layer.build((None, 10))
    >>> [(weight.name, tuple(weight.shape)) for weight in layer.weights]
    [('kernel', (10, 3)), ('lateral_kernel', (3, 3))]

    Source: Pehlevan, Sengupta & Chklovskii 2018, "Why do similarity matching objectives lead to
    Hebbian/anti-Hebbian networks?".
    """

    rate = LinearDecay()

    def __init__(
        self,
        tau: float = 0.5,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate, constraint)
        self.tau = check.real("tau", tau, minimum=0.0, exclusive=True)

    def forward_kernel(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the filters `M^(-1) W`, computed once for all samples."""
        (lateral,) = own
        rows = kernel
        if len(lateral.shape) == 2:
            rows = ops.reshape(kernel, (-1, kernel.shape[-1]))
        filters = ops.linalg.solve(lateral, ops.swapaxes(rows, -1, -2))
        return ops.reshape(ops.swapaxes(filters, -1, -2), kernel.shape)

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return twice the activity."""
        return 2.0 * post

    def decays(self, gains: Tensor, post: Tensor) -> Tensor:
        """Return 2 for each sample."""
        return 2.0 * ops.ones_like(post)

    def own_weights(
        self, kernel_shape: tuple[int, ...], linear_map: LinearMap = DENSE
    ) -> list[OwnWeight]:
        """Declare `M`, at first the unit matrix, for each position with separate units."""
        units = unit_shape(kernel_shape, linear_map)
        return [OwnWeight("lateral_kernel", (*units, units[-1]), _unit_matrices, trainable=True)]

    def own_updates(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return `(y y^T - M) / tau`, averaged over samples."""
        (lateral,) = own
        samples = linear_map.samples(post)
        products = linear_map.unit_products(post, post)
        count = ops.cast(samples, products.dtype)
        return (self.reduction(products - count * lateral, samples) / self.tau,)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"tau": self.tau, **self.parts_config()}


def _unit_matrices(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
    # A product, since a broadcast view on PyTorch has one place in memory for all positions.
    return ops.ones(shape, dtype=dtype) * ops.eye(shape[-1], dtype=dtype)
