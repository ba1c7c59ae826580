"""Burstprop: errors are changes of the probability of bursts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike, Targets
from keras_local.dynamics._arguments import RATES_ALONE, initializer
from keras_local.dynamics.network import Changes, Network
from keras_local.dynamics.synapses import Synapses, correlate, fresh, total
from keras_local.ops.backend import Tensor

States = tuple[Tensor, ...]


@serializable
class BurstpropNetwork(Network):
    """Network that learns by burst-dependent plasticity (Burstprop), in a model with rates.

    Event rates are sent up, and bursts are sent down to apical dendrites, whose potential sets the
    probability that an event is a burst:

        e_l = sigmoid(e_{l-1} W_l + b_l)
        z_l = beta_{l+1} Y_{l+1}^T,    pre_l = sigmoid(z_l) e_l
        v_l = z_l (1 - e_l) - pre_l U_l,    p_l = sigmoid(v_l),    beta_l = p_l e_l

    This is computed twice. Without a teacher `p_L` is `burst_probability` for all outputs. With a
    teacher the bursts `betat_l = pt_l e_l` reach the dendrites, while the recurrent inhibition is
    still that from before the teacher:

        pt_L = burst_probability ((t - e_L) (1 - e_L) + 1)
        pt_l = sigmoid((betat_{l+1} Y_{l+1}^T) (1 - e_l) - pre_l U_l).

    The weights change by the effect of the teacher on bursts:

        dW_l = < e_{l-1} (pt_l - p_l) e_l >,    db_l = < (pt_l - p_l) e_l >
        dY_l = dW_l                             with `feedback="learned"`
        dU_l = recurrent_rate < pre_l v_l >.

    In the output layer this is the gradient of half the squared distance of sigmoid outputs, times
    `burst_probability`. Below, for weak feedback, it is feedback alignment times `p (1 - p)`, with
    an error of second order. The recurrent weights `U` drive `v` towards zero, where `p` is linear.

    Local: a weight sees presynaptic events, and the events and bursts of its own neuron.

    Args:
        sizes: Number of inputs, of units of each hidden layer, and of outputs.
        burst_probability: Burst probability of the outputs without a teacher, greater than 0, at
            most 0.5.
        feedback: `"fixed"` or `"learned"`: whether `Y` receives the changes of `W`. With weight
            decay `Y` and `W` then become equal.
        recurrent_rate: Learning rate of `U`, relative to the other weights; with 0 `U` is fixed.
        rate_factors: Factor of the learning rate of each weight layer, the lowest first.
        kernel_initializer: Initializer of `W`. By default Glorot's normal initializer times 3.6.
        feedback_initializer: Initializer of `Y`. By default normal, with standard deviation 1, or
            with 0.1 if it learns.
        recurrent_initializer: Initializer of `U`. By default uniform up to 0.01.
        targets: `"classes"`, `"labels"` or `"values"`; see `Network`.
        name: Name of the network.
        dtype: As for `EquilibriumNetwork`.
        trainable: Whether the network learns; if not, training changes nothing.

    Input shape: `(batch, sizes[0])`. Output shape: `(batch, sizes[-1])`, event rates. Published
    with `SGD(0.1, momentum=0.8, weight_decay=1e-6)`, `rate_factors` of 1 below and 0.1 for the
    output, batches of 32.

    Raises:
        ValueError: If an argument is out of range or unknown.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.BurstpropNetwork([4, 8, 3])
    >>> network.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    >>> history = network.fit(np.eye(4), np.array([0, 1, 2, 0]), verbose=0)
    >>> network.predict(np.eye(4), verbose=0).shape
    (4, 3)

    Source: Payeur, Guerguiev, Zenke, Richards & Naud 2021, "Burst-dependent synaptic plasticity can
    coordinate learning in hierarchical circuits".
    """

    refused_targets = RATES_ALONE

    def __init__(
        self,
        sizes: Sequence[int],
        burst_probability: float = 0.2,
        feedback: Literal["fixed", "learned"] = "fixed",
        recurrent_rate: float = 1e-3,
        rate_factors: Sequence[float] | None = None,
        kernel_initializer: InitializerLike | None = None,
        feedback_initializer: InitializerLike | None = None,
        recurrent_initializer: InitializerLike | None = None,
        *,
        targets: Targets = "classes",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(sizes, targets=targets, name=name, dtype=dtype, trainable=trainable)
        self.burst_probability = check.real(
            "burst_probability", burst_probability, minimum=0.0, maximum=0.5, exclusive=True
        )
        self.feedback = check.one_of("feedback", feedback, ("fixed", "learned"))
        self.recurrent_rate = check.real("recurrent_rate", recurrent_rate, minimum=0.0)
        self.rate_factors = check.factors("rate_factors", rate_factors, len(self.sizes) - 1)
        glorot = initializers.VarianceScaling(3.6**2, "fan_avg", "untruncated_normal")
        normal = initializers.RandomNormal(stddev=0.1 if feedback == "learned" else 1.0)
        small = initializers.RandomUniform(-0.01, 0.01)
        self.kernel_initializer = initializer("kernel_initializer", kernel_initializer, glorot)
        self.feedback_initializer = initializer(
            "feedback_initializer", feedback_initializer, normal
        )
        self.recurrent_initializer = initializer(
            "recurrent_initializer", recurrent_initializer, small
        )
        self.synapses = [
            Synapses(
                units,
                # There is nothing below the lowest layer that receives bursts.
                tied=index == 0,
                kernel_initializer=fresh(self.kernel_initializer),
                feedback_initializer=fresh(self.feedback_initializer),
                feedback_trainable=feedback == "learned",
                dtype=self.working_dtype,
                name=f"synapses_{index + 1}",
            )
            for index, units in enumerate(self.sizes[1:])
        ]
        self.recurrent = [
            Synapses(
                units,
                use_bias=False,
                kernel_initializer=fresh(self.recurrent_initializer),
                trainable=self.recurrent_rate > 0.0,
                dtype=self.working_dtype,
                name=f"recurrent_{index + 1}",
            )
            for index, units in enumerate(self.sizes[1:-1])
        ]
        self.build((None, self.sizes[0]))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        for synapses, inputs in zip(self.synapses, self.sizes, strict=False):
            if not synapses.built:
                synapses.build((None, inputs))
        for synapses, units in zip(self.recurrent, self.sizes[1:], strict=False):
            if not synapses.built:
                synapses.build((None, units))
        self.built = True

    def layer_rates(self) -> Sequence[float]:
        """Return the factors of the learning rates of the layers, and of recurrent weights."""
        recurrent = [self.recurrent_rate] if self.recurrent and self.recurrent_rate else []
        return (*self.rate_factors, *recurrent)

    def default_optimizer(self) -> Any:
        """Return `SGD(10.0)`."""
        return keras.optimizers.SGD(10.0)

    def free_phase(self, inputs: Tensor) -> States:
        """Return the event rates of all layers."""
        rates, below = [], inputs
        for synapses in self.synapses:
            below = ops.sigmoid(synapses.read().forward(below))
            rates.append(below)
        return tuple(rates)

    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the event rates of the output layer."""
        return states[-1]

    def bursts(self, events: States, targets: Tensor | None = None) -> dict[str, list[Tensor]]:
        """Return burst probabilities, apical potentials and inhibition, the lowest layer first.

        Args:
            events: Event rates of all layers, as `free_phase` returns them.
            targets: Rows of targets; None for no teacher.

        Returns:
            Lists of tensors `(batch, units)`: `"probability"` for all layers; for hidden layers
            also `"apical"`, the potential of the dendrite, and `"pre"`, which inhibits it and which
            the teacher does not change.
        """
        free = self._descend(events, self.burst_probability * ops.ones_like(events[-1]))
        return free if targets is None else self._taught(events, targets, free["pre"])

    def _taught(
        self, events: States, targets: Tensor, pre: list[Tensor]
    ) -> dict[str, list[Tensor]]:
        """Return the same with a teacher; `pre` is the inhibition from before the teacher."""
        top = events[-1]
        probability = self.burst_probability * ((targets - top) * (1.0 - top) + 1.0)
        return self._descend(events, probability, pre)

    def _descend(
        self, events: States, probability: Tensor, inhibiting: list[Tensor] | None = None
    ) -> dict[str, list[Tensor]]:
        """Send bursts down from the outputs; `inhibiting`, if given, replaces `pre`.

        As in the authors' code, the recurrent inhibition is that from before the teacher.
        """
        probabilities = [probability]
        apical: list[Tensor] = []
        pre: list[Tensor] = []
        for k in reversed(range(len(events) - 1)):
            bursting = probabilities[0] * events[k + 1]
            feedback = self.synapses[k + 1].read().backward(bursting)
            before = ops.sigmoid(feedback) * events[k] if inhibiting is None else inhibiting[k]
            pre.insert(0, before)
            inhibition = self.recurrent[k].read().forward(before)
            apical.insert(0, feedback * (1.0 - events[k]) - inhibition)
            probabilities.insert(0, ops.sigmoid(apical[0]))
        return {"probability": probabilities, "apical": apical, "pre": pre}

    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Return the changes: the effect of the teacher on burst probabilities."""
        before = self.bursts(states)
        after = self._taught(states, targets, before["pre"])
        found: list[tuple[Any, Tensor]] = []
        for k, (synapses, factor) in enumerate(zip(self.synapses, self.rate_factors, strict=True)):
            below = states[k - 1] if k else inputs
            moved = factor * (after["probability"][k] - before["probability"][k]) * states[k]
            kernel = correlate(below, moved, share)
            found += [(synapses.kernel, kernel), (synapses.bias, total(moved, share))]
            if self.feedback == "learned" and synapses.feedback_kernel is not None:
                found.append((synapses.feedback_kernel, kernel))
        if self.recurrent_rate:
            for k, synapses in enumerate(self.recurrent):
                change = correlate(before["pre"][k], before["apical"][k], share)
                found.append((synapses.kernel, self.recurrent_rate * change))
        return found

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "burst_probability": self.burst_probability,
            "feedback": self.feedback,
            "recurrent_rate": self.recurrent_rate,
            "rate_factors": list(self.rate_factors),
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "feedback_initializer": initializers.serialize(self.feedback_initializer),
            "recurrent_initializer": initializers.serialize(self.recurrent_initializer),
        }
