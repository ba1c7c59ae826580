"""Equilibrium propagation in layered networks of dense connections."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import keras
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike, Targets
from keras_local.dynamics import _holomorphic as holomorphic
from keras_local.dynamics._arguments import NONE_REFUSED, Cost, checked_cost, initializer
from keras_local.dynamics._counters import counter
from keras_local.dynamics._neurons import NEURONS
from keras_local.dynamics._outputs import OUTPUTS
from keras_local.dynamics._persistent_states import Memory
from keras_local.dynamics._phases import joined, nudged_phases, nudged_samples
from keras_local.dynamics._random_signs import Signs
from keras_local.dynamics.network import Changes, Network
from keras_local.dynamics.synapses import Synapses, Weights, correlate, fresh, total
from keras_local.ops import settle, trajectory
from keras_local.ops.backend import Tensor

States = tuple[Tensor, ...]
NUDGINGS = ("one_sided", "random_sign", "centred", "holomorphic")
ACTIVATIONS = ("steep_sigmoid", "unit_clip", "half_clip", "tanh")
NeuronName = Literal["steep_sigmoid", "unit_clip", "half_clip", "tanh"]
Phase = Literal["free", "nudged"]
"""The phase in which a softmax above the states learns."""

PRESETS: dict[str, dict[str, Any]] = {
    "784-500-10": {
        "sizes": [784, 500, 10],
        "free_steps": 20,
        "nudged_steps": 4,
        "nudge": 0.5,
        "rate_factors": (0.1, 0.05),
    },
    "784-500-500-10": {
        "sizes": [784, 500, 500, 10],
        "free_steps": 150,
        "nudged_steps": 6,
        "nudge": 1.0,
        "rate_factors": (0.4, 0.1, 0.01),
    },
    "784-500-500-500-10": {
        "sizes": [784, 500, 500, 500, 10],
        "free_steps": 500,
        "nudged_steps": 8,
        "nudge": 1.0,
        "rate_factors": (0.128, 0.032, 0.008, 0.002),
    },
}


@serializable
class EquilibriumNetwork(Network):
    """Network that learns by equilibrium propagation.

    All units `s_k` of the layers `k = 1..L` receive the layers below and above through the same
    weights. Their field is

        u_k = s_{k-1} W_k + b_k + s_{k+1} W_{k+1}^T,    s_0 = inputs,

    and they settle, by default in the form of Scellier and Bengio,

        s_k <- clip(s_k + step_size (u_k - s_k), 0, 1).

    This is gradient descent on an energy. In the free phase the output layer settles as well. The
    nudged phase starts where the free phase ended, and adds `nudge (y - s_L)` to the field of the
    output layer. The weights change by the difference of the two correlations:

        dW_k = (1 / nudge) < s_{k-1}^nudged s_k^nudged - s_{k-1}^free s_k^free >
        db_k = (1 / nudge) < s_k^nudged - s_k^free >.

    For a small nudge this is the gradient of `1/2 |s_L - y|^2` at the equilibrium of this recurrent
    network (not of a feedforward network with the same weights).

    Local: each weight sees the activities of the two units that it connects, in both phases.

    Args:
        sizes: Number of inputs, of units of each hidden layer, and of outputs.
        form: `"hopfield"` as above, or `"prototypical"`: `s_k <- f(u_k)`, with `activation` as `f`.
        activation: Activation of the prototypical form: `"steep_sigmoid"`,
            `1 / (1 + exp(-4 (u - 1/2)))`, the default; `"unit_clip"`, `clip(u, 0, 1)`;
            `"half_clip"`, `clip(u / 2, 0, 1)`; `"tanh"`.
        cost: `"mse"` as above, or `"cross_entropy"`: then the states do not contain the classes,
            the scores are `softmax(s_{L-1} W_L + b_L)`, and the nudge goes down the gradient of the
            cross-entropy in the highest hidden layer.
        nudging: `"random_sign"`, a new sign of the nudge in each step; `"one_sided"`, always the
            positive sign; `"centred"`, both signs, each from the free state, with an error of
            second order in the nudge; `"holomorphic"`, for the prototypical form with
            `"steep_sigmoid"` or `"tanh"`, the nudge times `exp(2 pi i t / points)` for all `t`, in
            complex states, with an error of the order `points`.
        nudge: Strength of the nudge, greater than 0, at most 1.
        free_steps: Number of steps of the free phase.
        nudged_steps: Number of steps of each nudged phase.
        step_size: Size of a step in the Hopfield form, greater than 0, at most 1.
        rate_factors: Factor of the learning rate of each weight layer, the lowest first. Optimizers
            that divide by the size of the gradient remove them; `compile` warns.
        feedback: `"tied"` as above, or `"separate"`: the feedback connections have their own
            weights, which receive the same changes. With weight decay the two become equal.
        points: Number of nudges in the holomorphic form, at least 2, which is `"centred"`.
        kernel_initializer: Initializer of the weights.
        persistent: Number of training samples. Then each sample's free phase in training begins
            where it ended an epoch before, so that fewer steps are enough. None means that it
            begins at zero. `fit` has to see the samples in the same order each time,
            `shuffle=False`. The states are weights and are saved. Several replicas all store the
            states of all samples.
        seed: Seed of the random signs.
        readout_phase: With `cost="cross_entropy"`, the phase in which the gradient of the
            cross-entropy for the weights below the softmax is taken. `"free"`: the free phase,
            which gives the gradient of the logged loss. `"nudged"`, the published form: the mean
            over the nudged phases (the phase of the random or positive sign, both signs if centred,
            all nudges if holomorphic). They agree for a small nudge.
        targets: `"classes"`, `"labels"` or `"values"`; see `Network`. With `cost="cross_entropy"`
            the scores of labels use `sigmoid` in place of `softmax`. Values need `cost="mse"` and
            have to be in the range of the activation, because states from 0 to 1 have no others.
        name: Name of the network.
        dtype: Precision of weights and dynamics, `"float32"` or `"float64"`; with a policy of mixed
            precision both stay in float32, and the scores have the policy's type.
        trainable: Whether the network learns; if not, training changes nothing.

    Input shape: `(batch, sizes[0])`; for the Hopfield form use inputs from 0 to 1. Output shape:
    `(batch, sizes[-1])`.

    Raises:
        ValueError: If an argument is out of range or unknown, or there is no hidden layer with
            `cost="cross_entropy"`.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.EquilibriumNetwork([4, 8, 3])
    >>> network.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    >>> history = network.fit(np.eye(4), np.array([0, 1, 2, 0]), verbose=0)
    >>> network.predict(np.eye(4), verbose=0).shape
    (4, 3)

    Source: Scellier & Bengio 2017, "Equilibrium propagation: bridging the gap between energy-based
    models and backpropagation"; the prototypical form and centred nudging, Ernoult et al. 2019 and
    Laborieux et al. 2021, "Scaling equilibrium propagation to deep ConvNets by drastically reducing
    its gradient estimator bias"; the holomorphic form, Laborieux & Zenke 2022, "Holomorphic
    equilibrium propagation computes exact gradients through finite size oscillations".
    """

    refused_targets = NONE_REFUSED
    remedy = "a smaller `step_size`, a smaller learning rate, or smaller initial weights"

    def __init__(
        self,
        sizes: Sequence[int],
        form: Literal["hopfield", "prototypical"] = "hopfield",
        activation: NeuronName | None = None,
        cost: Cost = "mse",
        nudging: Literal["one_sided", "random_sign", "centred", "holomorphic"] = "random_sign",
        nudge: float = 0.5,
        free_steps: int = 20,
        nudged_steps: int = 4,
        step_size: float = 0.5,
        rate_factors: Sequence[float] | None = None,
        feedback: Literal["tied", "separate"] = "tied",
        points: int = 4,
        kernel_initializer: InitializerLike = "glorot_uniform",
        persistent: int | None = None,
        seed: int = 0,
        readout_phase: Phase = "free",
        *,
        targets: Targets = "classes",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(sizes, targets=targets, name=name, dtype=dtype, trainable=trainable)
        layers = len(self.sizes) - 1
        self.form = check.one_of("form", form, ("hopfield", "prototypical"))
        self.cost_name = checked_cost(cost, self.targets)
        self.head = OUTPUTS[self.targets]
        allowed = 'at least one hidden layer with cost="cross_entropy"'
        check.require(cost == "mse" or layers > 1, "sizes", allowed, sizes)
        self.nudging = check.one_of("nudging", nudging, NUDGINGS)
        self.activation = _checked_activation(form, activation, nudging)
        self.nudge = check.real("nudge", nudge, minimum=0.0, maximum=1.0, exclusive=True)
        self.free_steps = check.positive_integer("free_steps", free_steps)
        self.nudged_steps = check.positive_integer("nudged_steps", nudged_steps)
        self.step_size = check.real(
            "step_size", step_size, minimum=0.0, maximum=1.0, exclusive=True
        )
        self.rate_factors = check.factors("rate_factors", rate_factors, layers)
        self.feedback = check.one_of("feedback", feedback, ("tied", "separate"))
        self.points = check.positive_integer("points", points, minimum=2)
        self.kernel_initializer = initializer("kernel_initializer", kernel_initializer)
        self.persistent = persistent
        if persistent is not None:
            self.persistent = check.positive_integer("persistent", persistent)
        self.signs = Signs(seed)
        self.readout_phase = check.one_of("readout_phase", readout_phase, ("free", "nudged"))
        self.neuron = NEURONS["unit_clip" if self.activation is None else self.activation]
        self.synapses = self._layers_of_synapses()
        self.build((None, self.sizes[0]))

    def _layers_of_synapses(self) -> list[Synapses]:
        return [
            Synapses(
                units,
                tied=self.feedback == "tied" or index == 0,
                kernel_initializer=fresh(self.kernel_initializer),
                feedback_initializer=fresh(self.kernel_initializer),
                dtype=self.working_dtype,
                name=f"synapses_{index + 1}",
            )
            for index, units in enumerate(self.sizes[1:])
        ]

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> EquilibriumNetwork:
        """Return one of Scellier and Bengio's networks for MNIST.

        | name                   | free steps | nudged steps | nudge | rates                 |
        |------------------------|------------|--------------|-------|-----------------------|
        | `"784-500-10"`         | 20         | 4            | 0.5   | .1 .05                |
        | `"784-500-500-10"`     | 150        | 6            | 1     | .4 .1 .01             |
        | `"784-500-500-500-10"` | 500        | 8            | 1     | .128 .032 .008 .002   |

        All have `step_size` 0.5 and a random sign. The rates are `rate_factors`, so compile with
        `keras.optimizers.SGD(1.0)`. The published training has batches of 20, and 25, 60 and 500
        epochs.

        Args:
            name: One of the names above.
            **overrides: Arguments of the constructor with other values.

        Raises:
            ValueError: If the name is unknown.
        """
        check.one_of("name", name, tuple(PRESETS))
        return cls(**{**PRESETS[name], **overrides})

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        if self.synapses[0].built:
            return
        for synapses, inputs in zip(self.synapses, self.sizes, strict=False):
            synapses.build((None, inputs))
        self.nudge_count = self.add_weight(**counter("nudge_count"))
        self.memory: Memory | None = None
        if self.persistent is not None:
            units = self.sizes[1:] if self.cost_name == "mse" else self.sizes[1:-1]
            self.memory = Memory(self.persistent, units, self.working_dtype)
        self.built = True

    @property
    def value_range(self) -> tuple[float, float]:
        """The range of the activation function, which is also the range of the outputs."""
        return self.neuron.low, self.neuron.high

    def layer_rates(self) -> Sequence[float]:
        """Return the factors of the learning rates of the layers."""
        return self.rate_factors

    def default_optimizer(self) -> Any:
        """Return `SGD(0.2)`; of `rate_factors` that differ, `SGD(1.0)`."""
        return keras.optimizers.SGD(0.2 if len(set(self.rate_factors)) == 1 else 1.0)

    def free_phase(self, inputs: Tensor) -> States:
        """Return the rates of all layers of units after `free_steps` from zero."""
        return settle(*self._free(inputs), self.free_steps)  # type: ignore[no-any-return]

    def training_phase(self, inputs: Tensor) -> States:
        """Return the rates after `free_steps` from zero, or from the samples' last states."""
        step, start = self._free(inputs)
        if self.memory is not None:
            start = self.memory.recall(ops.shape(inputs)[0])
        return settle(step, start, self.free_steps)  # type: ignore[no-any-return]

    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the rates of the output layer, or the softmax above the states."""
        if self.cost_name == "mse":
            return states[-1]
        return self.head.rate(self.synapses[-1].read().forward(states[-1]))

    def cost(self, targets: Tensor, scores: Tensor) -> Tensor:
        """Return half the squared distance, or the cross-entropy, of each sample."""
        if self.cost_name == "mse":
            return super().cost(targets, scores)
        return self.head.cost(targets, scores)

    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Nudge the states, and return the contrast of the correlations."""
        nudged = self._on_the_circle if self.nudging == "holomorphic" else self._contrast
        contrasts = nudged(inputs, targets, states, share)
        if self.cost_name == "cross_entropy" and not self._learns_at_nudged_states:
            error = targets - self.scores(inputs, states)
            contrasts.append((correlate(states[-1], error, share), total(error, share)))
        found: list[tuple[Any, Tensor]] = []
        for synapses, factor, (kernel, bias) in zip(
            self.synapses, self.rate_factors, contrasts, strict=True
        ):
            found += [(synapses.kernel, factor * kernel), (synapses.bias, factor * bias)]
            if synapses.feedback_kernel is not None:
                found.append((synapses.feedback_kernel, factor * kernel))
        return found

    def remember(self, states: States, healthy: Tensor) -> None:
        """Store the states of these samples for the next epoch."""
        if self.memory is not None:
            self.memory.remember(states, healthy)

    @property
    def undone_variables(self) -> list[Any]:
        """All variables except the states of samples, which may be very large."""
        kept = [] if self.memory is None else [id(layer) for layer in self.memory.layers]
        return [each for each in super().undone_variables if id(each) not in kept]

    def begin_data(self) -> None:
        """Begin with the states of the first samples again."""
        if self.memory is not None:
            self.memory.begin()

    def check_order(self, x: Any, shuffle: Any) -> None:
        """Refuse, with `persistent`, a changing order or another number of samples."""
        if self.persistent is None or not hasattr(x, "shape"):
            return
        allowed = f"{self.persistent} samples, as many as `persistent`"
        check.require(len(x) == self.persistent, "x", allowed, f"{len(x)} samples")
        allowed = "False with `persistent`, which identifies samples by their order"
        check.require(not shuffle, "shuffle", allowed, shuffle)

    def energy(self, inputs: Any, states: States) -> Tensor | None:
        """Return `sum G(s) - sum_k s_k (s_{k-1} W_k + b_k)` of each sample; None if not tied.

        `G(s)` is `s^2 / 2` in the Hopfield form, otherwise the potential with `f(G'(s)) = s`.
        """
        if self.feedback != "tied":
            return None
        below = self._prepared(inputs)
        energies = []
        for synapses, layer in zip(self.synapses, states, strict=False):
            field = synapses.read().forward(below)
            energies.append(ops.sum(self.neuron.potential(layer) - field * layer, axis=-1))
            below = layer
        return sum(energies)

    def trajectories(self, inputs: Any, labels: Any = None) -> list[Tensor]:
        """Return the rates of each layer over the free and, with labels, the nudged phase."""
        inputs = self._prepared(inputs)
        step, start = self._free(inputs)
        free = trajectory(step, start, self.free_steps)
        if labels is None:
            return list(free)
        targets = self._targets(labels)
        strength = ops.convert_to_tensor(self.nudge, self.working_dtype)
        step = self._step(self._read(), inputs, targets, strength)
        nudged = trajectory(step, tuple(layer[-1] for layer in free), self.nudged_steps)
        return joined(free, nudged)

    @property
    def _learns_at_nudged_states(self) -> bool:
        """Whether a softmax above the states learns at the nudged states."""
        return bool(self.cost_name == "cross_entropy" and self.readout_phase == "nudged")

    def _read(self) -> list[Weights]:
        return [synapses.read() for synapses in self.synapses]

    def _free(self, inputs: Tensor) -> tuple[Any, States]:
        units = self.sizes[1:] if self.cost_name == "mse" else self.sizes[1:-1]
        size = ops.shape(inputs)[0]
        start = tuple(ops.zeros((size, count), self.working_dtype) for count in units)
        return self._step(self._read(), inputs), start

    def _step(
        self,
        weights: list[Weights],
        inputs: Tensor,
        targets: Tensor | None = None,
        strength: Tensor | None = None,
    ) -> Any:
        """Return the function from states to states; `strength` broadcasts to `(batch, 1)`."""
        drive = weights[0].forward(inputs)  # This does not change while states settle.

        def pull(states: Tensor) -> Tensor:
            if self.cost_name == "mse":
                return targets - states
            error = targets - self.head.rate(weights[-1].forward(states))
            return weights[-1].backward(error)

        def step(states: States) -> States:
            settled = []
            for index, layer in enumerate(states):
                field = weights[index].forward(states[index - 1]) if index else drive
                if index + 1 < len(states):
                    field = field + weights[index + 1].backward(states[index + 1])
                elif strength is not None:
                    field = field + strength * pull(layer)
                settled.append(self._moved(layer, field))
            return tuple(settled)

        return step

    def _moved(self, layer: Tensor, field: Tensor) -> Tensor:
        if self.form == "prototypical":
            return self.neuron.rate(field)
        return self.neuron.rate(layer + self.step_size * (field - layer))

    def _contrast(
        self, inputs: Tensor, targets: Tensor, states: States, share: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the difference of two phases, divided by the difference of their nudges."""
        sign: Any = None if self.nudging == "centred" else 1.0
        if self.nudging == "random_sign":
            sign = self.signs.next(self.nudge_count, self.working_dtype)
        # The phases are joined along the batch axis, so that one product sums over both.
        phases, shares = nudged_phases(
            partial(self._step, self._read()),
            inputs,
            targets,
            states,
            share,
            self.nudged_steps,
            self.nudge,
            sign,
        )
        contrasts = []
        for index, layer in enumerate(phases):
            if index:
                kernel = correlate(phases[index - 1], layer, shares)
            else:
                # The inputs are the same in both phases, so the difference of the states is enough.
                upper, lower = ops.split(layer * shares[:, None], 2, axis=0)
                kernel = correlate(inputs, upper + lower, ops.ones_like(share))
            contrasts.append((kernel, total(layer, shares)))
        if self._learns_at_nudged_states:
            top, aims, each = nudged_samples(phases[-1], targets, share, sign is None)
            error = aims - self.head.rate(self.synapses[-1].read().forward(top))
            contrasts.append((correlate(top, error, each), total(error, each)))
        return contrasts

    def _on_the_circle(
        self, inputs: Tensor, targets: Tensor, states: States, share: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the mean over complex nudges of `1 / nudge` times the correlations."""
        circle = holomorphic.Circle(
            self.points, self.nudge, ops.shape(share)[0], self.working_dtype
        )
        weights = self._read()
        rate = holomorphic.RATES[str(self.activation)]
        head = holomorphic.HEADS.get(self.targets) if self.cost_name == "cross_entropy" else None
        phases = holomorphic.nudged_states(
            circle, weights, rate, inputs, targets, states, self.nudged_steps, head
        )
        contrasts = holomorphic.contrasts(circle, inputs, phases, share)
        if self._learns_at_nudged_states and head is not None:
            readout = holomorphic.readout_change(
                circle, weights[-1], phases[-1], targets, share, head
            )
            contrasts.append(readout)
        return contrasts

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "form": self.form,
            "activation": self.activation,
            "cost": self.cost_name,
            "nudging": self.nudging,
            "nudge": self.nudge,
            "free_steps": self.free_steps,
            "nudged_steps": self.nudged_steps,
            "step_size": self.step_size,
            "rate_factors": list(self.rate_factors),
            "feedback": self.feedback,
            "points": self.points,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "persistent": self.persistent,
            "seed": self.signs.seed,
            "readout_phase": self.readout_phase,
        }


def _checked_activation(form: str, activation: Any, nudging: str) -> Any:
    """Return the activation function's name; None in the Hopfield form."""
    if form == "hopfield":
        allowed = 'None with form="hopfield", whose rates are clipped from 0 to 1'
        check.require(activation is None, "activation", allowed, activation)
    else:
        activation = "steep_sigmoid" if activation is None else activation
        check.one_of("activation", activation, ACTIVATIONS)
    allowed = f"one of {tuple(holomorphic.RATES)}, which are holomorphic"
    smooth = nudging != "holomorphic" or activation in holomorphic.RATES
    check.require(smooth, "activation", allowed, activation)
    return activation
