"""Hebbian learning that depends on a reward."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint
from keras_local.ops import LinearMap, replica_mean
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import Normaliser
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Mean, Reduction
from keras_local.plasticity.rule import DENSE, OwnWeight, PlasticityRule, unit_shape


@serializable
class RewardModulatedHebb(PlasticityRule):
    """Hebbian learning from reward and activity, each relative to its running mean.

    `dW_k = mean_b (R_b - mean R) (y_bk - mean y_k) x_b`, where the reward `R` is the modulator, and
    both means run over the past. The expected change is the covariance of reward and `y x`: if the
    reward does not depend on activity, the mean change is zero. Call the layer with
    `modulator=reward`, one number for each sample; without it the layer does not learn.

    Local: it uses pre- and postsynaptic activity and their means; the reward is broadcast to all
    synapses.

    Args:
        baseline_rate: Rate at which the means are updated, greater than 0 and at most 1.
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `ConstantRate()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: For a wrong number or part, or if it is used without a modulator.

    >>> import keras_local as kl
    >>> layer = kl.layers.HebbianDense(3, plasticity="reward_modulated_hebb")
    >>> layer.build((None, 10))
    >>> [weight.name for weight in layer.non_trainable_weights]
    ['mean_activity', 'mean_reward']
    """

    needs_modulator = True

    def __init__(
        self,
        baseline_rate: float = 0.05,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate, constraint)
        self.baseline_rate = check.real(
            "baseline_rate", baseline_rate, minimum=0.0, maximum=1.0, exclusive=True
        )

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the activity minus its mean."""
        return post - own[0]

    def decays(self, gains: Tensor, post: Tensor) -> None:
        """Return None: there is no decay."""
        return

    def change(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> Tensor:
        """Return the change for the reward minus its mean."""
        check.require(modulator is not None, "modulator", "the reward of each sample", modulator)
        surprise = modulator - own[1]
        return super().change(pre, post, kernel, *own, linear_map=linear_map, modulator=surprise)

    def own_weights(
        self, kernel_shape: tuple[int, ...], linear_map: LinearMap = DENSE
    ) -> list[OwnWeight]:
        """Declare the mean activity of each unit and the mean reward, with the first value 0."""
        return [
            OwnWeight("mean_activity", unit_shape(kernel_shape, linear_map), "zeros"),
            OwnWeight("mean_reward", (), "zeros"),
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
        """Return the means, moved towards the means of the batch."""
        activity, reward = own
        mean = Mean()(linear_map.unit_sum(post), linear_map.samples(post))
        mean = ops.reshape(mean, activity.shape)
        # All replicas have the same number of samples, otherwise the mean is that of all samples.
        latest = replica_mean(linear_map.mean(modulator)[None])
        rate = self.baseline_rate
        return activity + rate * (mean - activity), reward + rate * (latest - reward)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"baseline_rate": self.baseline_rate, **self.parts_config()}
