"""Krotov & Hopfield's competing hidden units, with the dynamics of inhibition."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import MaxAbs, Normaliser
from keras_local.plasticity.rate import LinearDecay, RatePolicy
from keras_local.plasticity.reduction import Reduction, Sum
from keras_local.plasticity.rule import DENSE, PlasticityRule

Solver = Literal["closed_form", "ode"]


@serializable
class KrotovHopfieldDynamics(PlasticityRule):
    """The slow form of `KrotovHopfield`: units inhibit each other until they are at rest.

    With currents `I = V J(W)^T`, `J(W) = sign(W) |W|^(p-1)`:

    * dynamics `tau dh_k/dt = I_k - w sum_{l != k} max(h_l, 0) - h_k`, to its steady state;
    * gains `G = 0` for `h <= 0`, `-delta` for `0 < h < threshold`, 1 for `h >= threshold`;
    * change `D = G^T V - diag(sum_b G I) W`; the decay sees the currents, not `h`.

    For `w < 1` there is a formula for the steady state: with the currents in descending order and
    `n` active units, `S = sum_{k <= n} I_k / (1 - w + n w)`, and `h = (I - w S) / (1 - w)` for the
    active units. The activities have the same order as the currents, so that `KrotovHopfield` can
    rank the currents instead, and differences are amplified by `1 / (1 - w)`.

    Local: it uses pre- and postsynaptic activity, the weight, and inhibition among units of the
    layer.

    Args:
        p: Exponent of the Lebesgue norm, at least 1.
        delta: Strength of the anti-Hebbian change, at least 0.
        threshold: Learning is Hebbian from this activity on; positive. `threshold_for` measures a
            threshold on a batch.
        inhibition: `w`, from 0 to less than 1.
        solver: `"closed_form"`, or `"ode"`: explicit Euler steps that start at the currents. Their
            number depends on the number of units.
        tau: Time constant of the dynamics, positive.
        duration: How long the dynamics runs, in units of its slowest time constant
            `tau / (1 - w)`; positive.
        reduction: How changes are reduced over samples; `Sum()` by default.
        normaliser: How the size of a change is bounded; `MaxAbs()` by default.
        rate: How the step size depends on time and weights; `LinearDecay()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: For a number out of range, an unknown solver, or a part of the wrong kind.

    >>> import numpy as np
    >>> from keras_local.plasticity import KrotovHopfieldDynamics
    >>> rule = KrotovHopfieldDynamics(inhibition=0.5, threshold=1.0)
    >>> currents = np.array([[2.0, 1.5, 0.1]], "float32")
    >>> np.asarray(rule.steady_state(currents)).round(4).tolist()
    [[1.6667, 0.6667, -1.0667]]
    >>> np.asarray(rule.gains(currents)).round(4).tolist()
    [[1.0, -0.4, 0.0]]

    Source: Krotov & Hopfield 2019, "Unsupervised learning by competing hidden units", PNAS 116. We
    do not know the constants of the paper: the defaults are our own, and so are the steps of the
    gain, which follow the caption of a figure.
    """

    reduction = Sum()
    normaliser = MaxAbs()
    rate = LinearDecay()

    def __init__(
        self,
        p: float = 2.0,
        delta: float = 0.4,
        threshold: float = 1.0,
        inhibition: float = 0.5,
        solver: Solver = "closed_form",
        tau: float = 1.0,
        duration: float = 20.0,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate, constraint)
        self.p = check.real("p", p, minimum=1.0)
        self.delta = check.real("delta", delta, minimum=0.0)
        self.threshold = check.real("threshold", threshold, minimum=0.0, exclusive=True)
        self.inhibition = check.real("inhibition", inhibition, minimum=0.0)
        check.require(self.inhibition < 1.0, "inhibition", "less than 1", inhibition)
        self.solver: Solver = check.one_of("solver", solver, ("closed_form", "ode"))
        self.tau = check.real("tau", tau, minimum=0.0, exclusive=True)
        self.duration = check.real("duration", duration, minimum=0.0, exclusive=True)

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
        return ops.sign(kernel) * ops.power(ops.abs(kernel), self.p - 1.0)

    def steady_state(self, post: Tensor) -> Tensor:
        """Return the steady-state activities `h` for the currents `post`."""
        post = ops.convert_to_tensor(post)
        return self._settled(post) if self.solver == "closed_form" else self._integrated(post)

    def _settled(self, post: Tensor) -> Tensor:
        w, units = self.inhibition, post.shape[-1]
        falling = ops.flip(ops.sort(post, axis=-1), axis=-1)
        active = ops.arange(1, units + 1, dtype=post.dtype)
        sums = ops.cumsum(falling, axis=-1) / (1.0 - w + w * active)
        # The largest number of units that all stay above the inhibition that they cause.
        inside = ops.cast((falling > w * sums) & (falling > 0.0), post.dtype) * active
        count = ops.max(inside, axis=-1, keepdims=True)
        total = ops.sum(ops.where(active == count, sums, ops.zeros_like(sums)), -1, keepdims=True)
        driven = post - w * total
        return ops.where(driven > 0.0, driven / (1.0 - w), driven)

    def _integrated(self, post: Tensor) -> Tensor:
        w, units = self.inhibition, post.shape[-1]
        # Half of the largest step that is stable if all units are active.
        step = self.tau / (1.0 - w + units * w)
        steps = math.ceil(self.duration * self.tau / (1.0 - w) / step)

        def euler(_: Tensor, h: Tensor) -> Tensor:
            rates = ops.relu(h)
            others = ops.sum(rates, axis=-1, keepdims=True) - rates
            return h + (step / self.tau) * (post - w * others - h)

        return ops.fori_loop(0, steps, euler, ops.zeros_like(post))

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return 1 above the threshold, `-delta` between 0 and the threshold, and 0 below 0."""
        h = self.steady_state(post)
        hebbian = ops.cast(h >= self.threshold, h.dtype)
        return hebbian - self.delta * (ops.cast(h > 0.0, h.dtype) - hebbian)

    def threshold_for(self, post: Any, winners: float = 1.0) -> float:
        """Return the threshold above which there are `winners` units on average.

        Args:
            post: Currents of a batch, `(..., units)`.
            winners: Mean number of units above it, greater than 0 and less than the number of
                units.

        Raises:
            ValueError: If `winners` is out of range, or no unit is active enough.
        """
        h = np.asarray(ops.convert_to_numpy(self.steady_state(post)))
        units = h.shape[-1]
        winners = check.real("winners", winners, minimum=0.0, maximum=units, exclusive=True)
        threshold = float(np.quantile(h, 1.0 - winners / units))
        check.require(threshold > 0.0, "winners", "few enough that all of them are active", winners)
        return threshold

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "p": self.p,
            "delta": self.delta,
            "threshold": self.threshold,
            "inhibition": self.inhibition,
            "solver": self.solver,
            "tau": self.tau,
            "duration": self.duration,
            **self.parts_config(),
        }
