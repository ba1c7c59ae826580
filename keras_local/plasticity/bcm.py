"""Bienenstock, Cooper and Munro's rule with a sliding threshold."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import Normaliser
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Mean, Reduction
from keras_local.plasticity.rule import DENSE, OwnWeight, PlasticityRule, unit_shape


@serializable
class BCM(PlasticityRule):
    """Activity above a sliding threshold strengthens weights, activity below weakens them.

        y = f(u),    u_k + inhibition * sum_{l != k} u_l = W_k x
        dW_k = mean_b phi(y_bk, theta_k) x_b,    phi = y (y - theta) / theta
        theta_k <- (1 - r) theta_k + r mean_b y_bk^2

    For linearly independent patterns, each shown with probability p, a unit becomes selective: it
    responds with 1/p to one of them and with 0 to all others. The threshold has to be faster than
    the weights: if `r` is not much larger than the step size times `|x|^2`, both oscillate.

    Local: it uses pre- and postsynaptic activity and the unit's own threshold. With `inhibition`,
    units compete through fixed lateral weights; the settled state is computed exactly.

    Args:
        threshold_rate: `r`, greater than 0 and at most 1.
        bounded: Whether phi is divided by theta (Law & Cooper), so that steps stay bounded.
        rectified: Whether `f` is the rectifier; otherwise it is the identity.
        inhibition: Lateral inhibition between any two units, from 0 to less than 1.
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `ConstantRate()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: For a wrong number, or a part of the wrong kind.

    >>> import numpy as np
    >>> from keras_local.plasticity import BCM
    >>> post, theta = np.array([[1.0, 3.0]], "float32"), np.array([2.0, 2.0], "float32")
    >>> np.asarray(BCM(bounded=False).gains(post, theta)).tolist()
    [[-1.0, 3.0]]

    Source: Bienenstock, Cooper & Munro 1982; the division by theta is Law & Cooper's (1994).
    """

    def __init__(
        self,
        threshold_rate: float = 0.02,
        bounded: bool = True,
        rectified: bool = True,
        inhibition: float = 0.0,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate, constraint)
        self.threshold_rate = check.real(
            "threshold_rate", threshold_rate, minimum=0.0, maximum=1.0, exclusive=True
        )
        self.bounded = check.flag("bounded", bounded)
        self.rectified = check.flag("rectified", rectified)
        self.inhibition = check.real("inhibition", inhibition, minimum=0.0)
        check.require(self.inhibition < 1.0, "inhibition", "less than 1", inhibition)

    def forward_kernel(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the kernel times `((1 - a) I + a 1 1^T)^(-1)`, the effect of inhibition."""
        if self.inhibition == 0.0:
            return kernel
        weak, units = 1.0 - self.inhibition, kernel.shape[-1]
        shared = ops.sum(kernel, axis=-1, keepdims=True)
        return (kernel - shared * self.inhibition / (weak + units * self.inhibition)) / weak

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return `phi(y, theta)`, 0 where a rectified unit is silent."""
        (theta,) = own
        activity = self._activity(post)
        gains = activity * (activity - theta)
        return gains / ops.maximum(theta, 1e-6) if self.bounded else gains

    def decays(self, gains: Tensor, post: Tensor) -> None:
        """Return None: the threshold bounds the weights."""
        return

    def own_weights(
        self, kernel_shape: tuple[int, ...], linear_map: LinearMap = DENSE
    ) -> list[OwnWeight]:
        """Declare `theta`, one for each unit, with the first value 1."""
        return [OwnWeight("threshold", unit_shape(kernel_shape, linear_map), "ones")]

    def own_updates(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the threshold, moved towards the mean square of the activity."""
        (theta,) = own
        squares = linear_map.unit_sum(ops.square(self._activity(post)))
        mean = ops.reshape(Mean()(squares, linear_map.samples(post)), theta.shape)
        return (theta + self.threshold_rate * (mean - theta),)

    def _activity(self, post: Tensor) -> Tensor:
        return ops.relu(post) if self.rectified else post

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "threshold_rate": self.threshold_rate,
            "bounded": self.bounded,
            "rectified": self.rectified,
            "inhibition": self.inhibition,
            **self.parts_config(),
        }
