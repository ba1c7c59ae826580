"""Krotov & Hopfield's competing hidden units, in the fast ranking form."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor, backend
from keras_local.plasticity.normaliser import MaxAbs, Normaliser
from keras_local.plasticity.rate import LinearDecay, RatePolicy
from keras_local.plasticity.reduction import Reduction, Sum
from keras_local.plasticity.rule import DENSE, ActiveUnits, PlasticityRule


@serializable
class KrotovHopfield(PlasticityRule):
    """Hebbian learning of the winner, anti-Hebbian learning of the unit of rank k.

    For inputs `V` and weights `W` (one row a unit), with `J(W) = sign(W) |W|^(p-1)`:

    * currents `I = V J(W)^T`;
    * gains `G = 1` for the unit of the largest current, `-delta` for the k-th largest, else 0;
    * change `D = G^T V - diag(sum_b G I) W`, summed over the batch;
    * step `W += step_size * D / max|D|`.

    The Lp norm of each unit that continues to win converges to 1 from above. Units must start
    outside that sphere: a unit that starts inside hardly ever wins.

    Local: it uses the pre- and postsynaptic activity and the weight; the ranking represents lateral
    inhibition. Not local: the scalar `max|D|` is common to the layer.

    Args:
        p: Exponent of the Lebesgue norm, at least 1.
        rank: Rank of the unit that is anti-Hebbian: 2 is the unit of the second largest current.
        delta: Strength of the anti-Hebbian change, at least 0.
        reduction: `Sum()` by default.
        normaliser: `MaxAbs()` by default.
        rate: `LinearDecay()` by default: the step size falls linearly with the epochs.
        constraint: None by default, because units converge to the sphere without it.

    Raises:
        ValueError: For `p < 1`, `rank < 2` or a negative `delta`, or if a layer has fewer units
            than `rank`.

    >>> import numpy as np
    >>> from keras_local.plasticity import KrotovHopfield
    >>> currents = np.array([[0.5, 2.0, 1.0]], "float32")
    >>> np.asarray(KrotovHopfield(rank=2, delta=0.5).gains(currents)).tolist()
    [[0.0, 1.0, -0.5]]

    Source: Krotov & Hopfield 2019, "Unsupervised learning by competing hidden units", PNAS 116;
    the ranking form follows the authors' notebook, in which rank 1 is the winner.
    """

    active = 2
    reduction = Sum()
    normaliser = MaxAbs()
    rate = LinearDecay()

    def __init__(
        self,
        p: float = 2.0,
        rank: int = 2,
        delta: float = 0.4,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        self.p = check.real("p", p, minimum=1.0)
        self.rank = check.positive_integer("rank", rank, minimum=2)
        self.delta = check.real("delta", delta, minimum=0.0)
        super().__init__(reduction, normaliser, rate, constraint)

    def check_units(self, units: int) -> None:
        """Raise a ValueError if there are fewer units than `rank`."""
        check.require(self.rank <= units, "rank", f"at most units={units}", self.rank)

    @property
    def norm_exponent(self) -> float:
        """Return the argument `p`."""
        return self.p

    @property
    def metric_is_identity(self) -> bool:
        """Return whether p is 2."""
        return self.p == 2.0

    def metric(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return `J(W) = sign(W) |W|^(p-1)`, element by element."""
        if self.metric_is_identity:
            return kernel
        if self.p == 3.0:
            return kernel * ops.abs(kernel)
        return ops.sign(kernel) * ops.power(ops.abs(kernel), self.p - 1.0)

    def active_units(self, post: Tensor) -> ActiveUnits:
        """Return the winner and the unit of rank k of each sample."""
        currents, units = backend.top_k(post, self.rank)
        signs = ops.convert_to_tensor([1.0, -self.delta], dtype=post.dtype)
        return ActiveUnits(
            units=ops.stack([units[..., 0], units[..., -1]], axis=-1),
            gains=ops.broadcast_to(signs, (*ops.shape(post)[:-1], 2)),
            currents=ops.stack([currents[..., 0], currents[..., -1]], axis=-1),
        )

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return 1 for the winner, `-delta` for the unit of rank k, 0 for the others."""
        rows = ops.reshape(post, (-1, post.shape[-1]))
        active = self.active_units(rows)
        units = ops.reshape(active.units, (-1,))
        samples = ops.arange(ops.shape(units)[0]) // self.active
        places = ops.stack([samples, units], axis=-1)
        gains = ops.scatter(places, ops.reshape(active.gains, (-1,)), ops.shape(rows))
        return ops.reshape(gains, ops.shape(post))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "p": self.p,
            "rank": self.rank,
            "delta": self.delta,
            **self.parts_config(),
        }
