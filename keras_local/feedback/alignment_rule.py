"""The interface of rules whose feedback weights minimise a local regulariser."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import Strategy, serializable
from keras_local.feedback.primitives import Activity, Regulariser
from keras_local.feedback.rule import FeedbackRule, FeedbackWeight, Initializer, RuleContext
from keras_local.ops import gradients, random_rows, replica_mean, replica_sums
from keras_local.ops.backend import Tensor


@serializable
class Noise(Strategy):
    """Independent noise of mean zero that a layer receives in place of its inputs.

    Args:
        stddev: Standard deviation of each entry.
        law: The distribution, `"normal"` or `"uniform"`.

    Raises:
        ValueError: If `stddev` is not positive or `law` is unknown.

    >>> from keras_local import feedback
    >>> feedback.Noise(0.05, "uniform").get_config()
    {'stddev': 0.05, 'law': 'uniform'}
    """

    def __init__(self, stddev: float = 1.0, law: Literal["normal", "uniform"] = "normal") -> None:
        self.stddev = check.real("stddev", stddev, minimum=0.0, exclusive=True)
        self.law: Literal["normal", "uniform"] = check.one_of("law", law, ("normal", "uniform"))

    def draw(self, like: Tensor, seed: keras.random.SeedGenerator | None) -> Tensor:
        """Return noise of the shape of `like`."""
        return random_rows(ops.shape(like), self.stddev, self.law, like.dtype, seed)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"stddev": self.stddev, "law": self.law}


class AlignmentRule(FeedbackRule):
    """Interface of rules whose feedback kernel minimises a regulariser of its own layer.

    `delta_(l-1) = (delta_l B_l^T) * f'`, `dW = x^T delta`, `dB = dR/dB`, where the regulariser `R`
    reads the activity on both sides of the layer's synapses, but no error.

    Args:
        noise: `Noise` that drives the layer when `R` is computed; None for the layer's own inputs.
            Noise costs one more forward product.
        centre: Whether the mean over the batch is subtracted from the inputs that `R` reads. This
            turns products of activities into covariances.
        respond: Whether `R` reads the outputs after bias and activation.
        every: `R` acts in one of this many training steps, beginning with the first.
        update_forward: Whether the kernel descends `R` too. `Decay` and `Sparsify` do not depend on
            the kernel; for them the kernel descends the same term with `W` in place of `B`.

    Raises:
        ValueError: If an argument is invalid.
    """

    def __init__(
        self,
        *,
        noise: Noise | None = None,
        centre: bool = False,
        respond: bool = False,
        every: int = 1,
        update_forward: bool = False,
    ) -> None:
        if noise is not None:
            noise = check.instance("noise", noise, Noise, "a Noise or None")
        self.noise: Noise | None = noise
        self.centre = check.flag("centre", centre)
        self.respond = check.flag("respond", respond)
        self.every = check.positive_integer("every", every)
        self.update_forward = check.flag("update_forward", update_forward)

    @property
    @abstractmethod
    def regulariser(self) -> Regulariser:
        """Return the regulariser `R`."""

    @property
    def feedback_teaches_kernel(self) -> bool:
        """Return whether the kernel descends `R` too."""
        return self.update_forward

    @property
    def draws(self) -> bool:
        """Return whether noise drives the layer."""
        return self.noise is not None

    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """Declare a kernel that learns, and a step counter if not every step counts."""
        weights = [FeedbackWeight("feedback_kernel", tuple(kernel.shape), initializer, True)]
        if self.every > 1:
            weights.append(FeedbackWeight("alignment_step", (), "zeros", False, "float32"))
        return weights

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """Return `B`."""
        return feedback[0]

    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Return the given `B`; the step counter begins again at 0."""
        return [feedback_kernel, *([ops.zeros(())] if self.every > 1 else [])]

    def signals(self, synapses: RuleContext, training: bool | None) -> tuple[Tensor, ...]:
        """Return `B` without the step counter."""
        return synapses.feedback[:1]

    def local_gradients(
        self, synapses: RuleContext, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        """Return `dR/dB`, and `dR/dW` if the kernel descends `R` too.

        Of a feedback kernel that does not learn (`idle_feedback`) nothing is computed.
        """
        learns = self.update_forward or synapses.variables[0].trainable
        if self.every == 1:
            return self._both(synapses, inputs, outputs) if learns else None
        step = synapses.variables[1]
        due = ops.equal(ops.mod(step, float(self.every)), 0.0)
        step.assign_add(1.0)
        if not learns:
            return None

        def act() -> list[Tensor]:
            return [part for part in self._both(synapses, inputs, outputs) if part is not None]

        def rest() -> list[Tensor]:
            weights = [synapses.kernel] if self.update_forward else []
            return [ops.zeros_like(weight) for weight in (*weights, synapses.feedback[0])]

        *forward, backward = ops.cond(due, act, rest)
        return (forward[0] if forward else None), backward, None

    def _both(
        self, synapses: RuleContext, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        activity = self._activity(synapses, inputs, outputs)
        forward = self.regulariser.forward_gradient(activity) if self.update_forward else None
        return forward, self.regulariser.gradient(activity)

    def _activity(self, synapses: RuleContext, inputs: Tensor, outputs: Tensor) -> Activity:
        if self.noise is not None:
            inputs = self.noise.draw(inputs, synapses.seed)
            outputs = synapses.linear_map.apply(inputs, ops.stop_gradient(synapses.kernel))
        driving, field = inputs, outputs
        if self.respond:
            outputs = ops.stop_gradient(synapses.respond(field))
        present, samples = synapses.present, None
        if present is not None:
            inputs, outputs, driving = (_kept(each, present) for each in (inputs, outputs, driving))
            # Of all replicas, which may have different numbers. None left: everything is zero, and
            # so is the mean.
            share = replica_mean(ops.reshape(ops.cast(present, "float32"), (-1,)))
            samples = ops.where(share > 0, share, ops.ones_like(share))
        if self.centre:
            inputs = _centred(inputs, present)

        def pull_back(derivative: Tensor) -> Tensor:
            return gradients(lambda f: ops.sum(synapses.respond(f) * derivative), [field])[0]

        return Activity(
            driving=driving,
            pull_back=pull_back if self.respond else None,
            samples=samples,
            linear_map=synapses.linear_map,
            inputs=inputs,
            outputs=outputs,
            kernel=ops.stop_gradient(synapses.kernel),
            feedback_kernel=ops.stop_gradient(synapses.feedback[0]),
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        noise = self.noise and keras.saving.serialize_keras_object(self.noise)
        return {
            "noise": noise,
            "centre": self.centre,
            "respond": self.respond,
            "every": self.every,
            "update_forward": self.update_forward,
        }


def _kept(activity: Tensor, present: Tensor) -> Tensor:
    return ops.where(_axes_of(activity, present), activity, ops.zeros_like(activity))


def _axes_of(activity: Tensor, present: Tensor) -> Tensor:
    """Return the mask for an activity that may have more axes, such as heads."""
    for _ in range(len(activity.shape) - len(present.shape)):
        present = ops.expand_dims(present, -1)
    return present


def _centred(inputs: Tensor, present: Tensor | None) -> Tensor:
    """Return the inputs minus their mean over the batches, of the samples that are present."""
    if present is None:
        return inputs - replica_mean(inputs)
    present = _axes_of(inputs, present)
    own = ops.sum(ops.cast(present, inputs.dtype), axis=0)
    total, count = replica_sums(ops.sum(inputs, axis=0), own)
    return _kept(inputs - total / ops.maximum(count, 1.0), present)
