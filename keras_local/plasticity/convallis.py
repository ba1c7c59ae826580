"""A rate form of the Convallis rule."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint, MeanRate
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import Normaliser, Shrink
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Mean, Reduction
from keras_local.plasticity.rule import DENSE, OwnWeight, PlasticityRule


@serializable
class Convallis(PlasticityRule):
    """A rate form inspired by the Convallis rule, with detectors for weakening and strengthening.

        V = W x,    dW_k = mean_b F'(V_bk) x_b
        F'(V) = ltp sig((V - theta_ltp) / width) - ltd sig((V - theta_ltd) / width)

    `F'` is about 0 at rest, negative just above the lower threshold and positive far above the
    upper threshold: the mean of `F(V)` grows if units are either strongly driven or at rest. After
    each step the mean current of every unit is projected to `mean_rate`, and weights are clipped to
    the range from 0 to `maximum`.

    This is a form with rates, written from a summary of the paper; we chose its constants.

    Local: it uses pre- and postsynaptic activity, and the mean activity of each input, which the
    synapse can remember. The layer holds this mean as `mean_input`. On the JAX backend a constraint
    cannot read such a memory, so that building the layer raises an error.

    Args:
        theta_ltd: Lower threshold, above which weights become weaker.
        theta_ltp: Upper threshold, above which weights become stronger.
        width: Width of both detectors, positive.
        ltd: Strength of weakening, positive.
        ltp: Strength of strengthening, greater than `ltd`.
        mean_rate: The mean current of every unit.
        maximum: Largest weight; None for no bound, above or below.
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; `Shrink(0)` by default.
        rate: How the step size depends on time and weights; `ConstantRate()` by default.
        constraint: Must be None, because the rule has its own constraint.

    Raises:
        ValueError: For thresholds or strengths in the wrong order, or a wrong number.

    >>> import numpy as np
    >>> from keras_local.plasticity import Convallis
    >>> np.asarray(Convallis().gains(np.array([[-1.0, 0.5, 2.0]]))).round(2).tolist()
    [[-0.0, -0.79, 1.0]]

    Inspired by: Yger & Harris 2013, "The Convallis rule for unsupervised learning in cortical
    networks".
    """

    normaliser = Shrink()
    remembers = True

    def __init__(
        self,
        theta_ltd: float = 0.3,
        theta_ltp: float = 0.8,
        width: float = 0.1,
        ltd: float = 1.0,
        ltp: float = 2.0,
        mean_rate: float = 0.6,
        maximum: float | None = 0.15,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate)
        check.require(constraint is None, "constraint", "None: the rule has its own", constraint)
        self.theta_ltd = check.real("theta_ltd", theta_ltd)
        self.theta_ltp = check.real("theta_ltp", theta_ltp)
        self.width = check.real("width", width, minimum=0.0, exclusive=True)
        self.ltd = check.real("ltd", ltd, minimum=0.0, exclusive=True)
        self.ltp = check.real("ltp", ltp, minimum=0.0, exclusive=True)
        for low, high in (("theta_ltd", "theta_ltp"), ("ltd", "ltp")):
            least, value = getattr(self, low), getattr(self, high)
            check.require(value > least, high, f"greater than `{low}`, {least:g}", value)
        self.bounds = MeanRate(check.real("mean_rate", mean_rate), maximum)

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return `F'(V)`."""
        strengthen = ops.sigmoid((post - self.theta_ltp) / self.width)
        weaken = ops.sigmoid((post - self.theta_ltd) / self.width)
        return self.ltp * strengthen - self.ltd * weaken

    def decays(self, gains: Tensor, post: Tensor) -> None:
        """Return None: the constraint bounds the weights."""
        return

    def own_weights(
        self, kernel_shape: tuple[int, ...], linear_map: LinearMap = DENSE
    ) -> list[OwnWeight]:
        """Declare the mean of the inputs to each synapse over all batches, and the batch count."""
        return [
            OwnWeight("mean_input", (*kernel_shape[:-1], 1), "zeros"),
            OwnWeight("batches", (), "zeros"),
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
        """Return the mean over all batches so far, and their number."""
        mean, batches = own
        # All units see the same inputs, so one unit with gain 1 is enough for the mean.
        one = ops.ones_like(post[..., :1])
        total = linear_map.kernel_gradient(pre, one, kernel[..., :1])
        latest = Mean()(total, linear_map.samples(post))
        return mean + (latest - mean) / (batches + 1.0), batches + 1.0

    def constrain(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the kernel with the mean rate, clipped."""
        return self.bounds(kernel, linear_map.unit_axes(len(kernel.shape)), mean=own[0])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "theta_ltd": self.theta_ltd,
            "theta_ltp": self.theta_ltp,
            "width": self.width,
            "ltd": self.ltd,
            "ltp": self.ltp,
            "mean_rate": self.bounds.rate,
            "maximum": self.bounds.maximum,
            **self.parts_config(),
        }
