"""A plasticity rule whose units settle, fire or do not, and have a memory."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

import keras_local as kl

DENSE = kl.ops.Dense()


@keras.saving.register_keras_serializable(package="plugin")
class Foldiak(kl.plasticity.PlasticityRule):
    """Sparse codes by local anti-Hebbian learning.

    The units settle, `y' = f(V K + y W - t) - y`, with `f(u) = 1 / (1 + exp(-steepness u))`, and
    answer 1 where `y > 1/2`, else 0. Then

        dK_ik = beta y_k (v_i - K_ik)
        dW_kl = -alpha (y_k y_l - p^2),  at most 0, none to itself
        dt_k = gamma (y_k - p)

    Source: Foeldiak 1990, "Forming sparse representations by local anti-Hebbian learning".
    """

    def __init__(
        self,
        p: float = 0.25,
        alpha: float = 0.1,
        gamma: float = 0.05,
        steepness: float = 10.0,
        steps: int = 15,
    ) -> None:
        super().__init__()
        self.p, self.alpha, self.gamma = p, alpha, gamma
        self.steepness, self.steps = steepness, steps

    def own_weights(
        self, kernel_shape: tuple[int, ...], linear_map: Any = DENSE
    ) -> list[kl.plasticity.OwnWeight]:
        units = kernel_shape[-1]
        return [
            kl.plasticity.OwnWeight("lateral", (units, units), "zeros"),
            kl.plasticity.OwnWeight("threshold", (units,), "zeros"),
        ]

    def outputs(self, sums: Any, *own: Any, linear_map: Any = DENSE) -> Any:
        lateral, threshold = (ops.cast(each, sums.dtype) for each in own)
        active = 0.0 * sums
        for _ in range(self.steps):
            field = sums + ops.matmul(active, lateral) - threshold
            active = active + 0.5 * (ops.sigmoid(self.steepness * field) - active)
        return ops.cast(active > 0.5, sums.dtype)

    def gains(self, post: Any, *own: Any) -> Any:
        return post

    def decays(self, gains: Any, post: Any) -> Any:
        return gains

    def own_updates(
        self,
        pre: Any,
        post: Any,
        kernel: Any,
        *own: Any,
        linear_map: Any = DENSE,
        modulator: Any = None,
    ) -> tuple[Any, ...]:
        lateral, threshold = own
        # A reduction is a mean over the samples of all replicas, which then agree.
        samples = linear_map.samples(post)
        together = self.reduction(linear_map.unit_products(post, post), samples)
        firing = self.reduction(ops.reshape(linear_map.unit_sum(post), (-1,)), samples)
        apart = 1.0 - ops.eye(lateral.shape[-1], dtype=lateral.dtype)
        lateral = ops.minimum(lateral - self.alpha * (together - self.p**2), 0.0) * apart
        return lateral, threshold + self.gamma * (firing - self.p)

    def get_config(self) -> dict[str, Any]:
        names = ("p", "alpha", "gamma", "steepness", "steps")
        return {name: getattr(self, name) for name in names}
