"""Equilibrium propagation in convolutional networks with max pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._targets import least_outputs, target_kind
from keras_local._types import DType, Padding, Targets
from keras_local.dynamics._arguments import NONE_REFUSED, Cost, checked_cost, several
from keras_local.dynamics._counters import counter
from keras_local.dynamics._neurons import NEURONS
from keras_local.dynamics._outputs import OUTPUTS
from keras_local.dynamics._phases import joined, nudged_phases, nudged_samples
from keras_local.dynamics._random_signs import Signs
from keras_local.dynamics.conv_synapses import ConvSynapses, ConvWeights, pool
from keras_local.dynamics.equilibrium import ACTIVATIONS, NeuronName, Phase
from keras_local.dynamics.network import Changes, Network
from keras_local.dynamics.synapses import Synapses, correlate, total
from keras_local.ops import settle, trajectory
from keras_local.ops.backend import Tensor

States = tuple[Tensor, ...]
NUDGINGS = ("one_sided", "random_sign", "centred")

_CIFAR10: dict[str, Any] = {
    "input_shape": (32, 32, 3),
    "filters": (128, 256, 512, 512),
    "classes": 10,
    "paddings": ("same", "same", "same", "valid"),
    "free_steps": 250,
    "rate_factors": (0.25, 0.15, 0.1, 0.08, 0.05),
    "weight_decay": 3e-4,
}
PRESETS: dict[str, dict[str, Any]] = {
    "cifar10": {
        **_CIFAR10,
        "cost": "cross_entropy",
        "nudged_steps": 25,
        "nudge": 1.0,
        "readout_phase": "nudged",
    },
    "cifar10-mse": {**_CIFAR10, "cost": "mse", "nudged_steps": 30, "nudge": 0.5},
}


@serializable
class ConvEquilibriumNetwork(Network):
    """Convolutional network that learns by equilibrium propagation.

    Between each two layers of units there is a convolution with 2 x 2 max pooling `P`; the
    connection to the classes is dense. The states maximise

        Phi = sum_k s_k . P(w_k * s_{k-1} + b_k) + s_L . (s_{L-1} W + b)

    up to the activation function, by `s_k <- f(dPhi / ds_k)` for all layers at once, from zero.
    Activity comes back through transposed convolutions, to the positions of the maxima. In the
    nudged phases the output layer is pulled towards the labels as in `EquilibriumNetwork`, and the
    weights change by

        dw = (1 / (2 nudge)) (dPhi/dw (s of +nudge) - dPhi/dw (s of -nudge)).

    For a small nudge this is the gradient of the cost at the equilibrium of this recurrent network.

    Local: each weight sees the activities of the units that it connects, in each phase.

    Args:
        input_shape: Height, width and channels of a sample.
        filters: Channels of each convolution, the lowest first.
        classes: Number of classes, or of labels or values with these `targets`.
        kernel_size: Height and width of all kernels.
        paddings: Padding of each convolution, `"same"` or `"valid"`; all `"same"` by default.
        activation: `"half_clip"`, `clip(u / 2, 0, 1)`, or another of `EquilibriumNetwork`.
        cost: `"cross_entropy"`, with a softmax above the states, or `"mse"`.
        nudging: `"centred"`, `"random_sign"` or `"one_sided"`, as in `EquilibriumNetwork`.
        nudge: Strength of the nudge, greater than 0, at most 1.
        free_steps: Number of steps of the free phase.
        nudged_steps: Number of steps of each nudged phase.
        rate_factors: Factor of the learning rate of each convolution and of the dense connection.
        weight_decay: Strength of a decay of all weights, which is subtracted from the change before
            the factors are applied.
        seed: Seed of the random signs.
        readout_phase: With `cost="cross_entropy"`, the phase in which the gradient of the
            cross-entropy for the dense connection is taken. `"free"`: the free phase, which gives
            the gradient of the logged loss. `"nudged"`: the mean over the nudged phases, as in the
            publication and the preset. At a nudge of 1 they may differ by 30 %; for a small nudge
            they agree.
        targets: `"classes"`, `"labels"` or `"values"`; see `Network`. With `cost="cross_entropy"`
            the scores of labels use `sigmoid` in place of `softmax`. Values need `cost="mse"` and
            have to be in the range of the activation, because states from 0 to 1 have no others.
        name: Name of the network.
        dtype: As for `EquilibriumNetwork`.
        trainable: Whether the network learns; if not, training changes nothing.

    Input shape: `(batch, *input_shape)`. Output shape: `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of range or unknown, or the image is too small for the
            pooling.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.ConvEquilibriumNetwork((8, 8, 1), (4, 6), classes=3, free_steps=20)
    >>> network.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    >>> images = np.random.default_rng(0).random((4, 8, 8, 1))
    >>> history = network.fit(images, np.array([0, 1, 2, 0]), verbose=0)
    >>> network.predict(images, verbose=0).shape
    (4, 3)

    Source: Laborieux et al. 2021, "Scaling equilibrium propagation to deep ConvNets by drastically
    reducing its gradient estimator bias".
    """

    refused_targets = NONE_REFUSED
    suits_xla = False  # The convolutions of XLA are slow on the CPU.
    remedy = "smaller initial weights, a smaller learning rate, or a smaller `nudge`"

    def __init__(
        self,
        input_shape: Sequence[int],
        filters: Sequence[int],
        classes: int,
        kernel_size: int = 3,
        paddings: Sequence[Padding] | None = None,
        activation: NeuronName = "half_clip",
        cost: Cost = "cross_entropy",
        nudging: Literal["one_sided", "random_sign", "centred"] = "centred",
        nudge: float = 0.5,
        free_steps: int = 60,
        nudged_steps: int = 20,
        rate_factors: Sequence[float] | None = None,
        weight_decay: float = 0.0,
        seed: int = 0,
        readout_phase: Phase = "free",
        *,
        targets: Targets = "classes",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        sample_shape = check.sizes("input_shape", input_shape, 3)
        listed = isinstance(filters, (list, tuple)) and len(filters) > 0
        check.require(listed, "filters", "a list of at least one number of channels", filters)
        channels = tuple(check.positive_integer("filters", count) for count in filters)
        kind = target_kind(targets, type(self).__name__)
        classes = check.positive_integer("classes", classes, minimum=least_outputs(kind))
        super().__init__(
            [sample_shape[-1], *channels, classes],
            sample_shape,
            targets=targets,
            name=name,
            dtype=dtype,
            trainable=trainable,
        )
        self.filters = channels
        self.kernel_size = check.positive_integer("kernel_size", kernel_size)
        self.paddings: tuple[Any, ...] = several(
            "paddings", paddings, ("same", "valid"), len(channels)
        )
        self.activation = check.one_of("activation", activation, ACTIVATIONS)
        self.cost_name = checked_cost(cost, self.targets)
        self.head = OUTPUTS[self.targets]
        self.nudging = check.one_of("nudging", nudging, NUDGINGS)
        self.nudge = check.real("nudge", nudge, minimum=0.0, maximum=1.0, exclusive=True)
        self.free_steps = check.positive_integer("free_steps", free_steps)
        self.nudged_steps = check.positive_integer("nudged_steps", nudged_steps)
        self.rate_factors = check.factors("rate_factors", rate_factors, len(channels) + 1)
        self.weight_decay = check.real("weight_decay", weight_decay, minimum=0.0)
        self.signs = Signs(seed)
        self.readout_phase = check.one_of("readout_phase", readout_phase, ("free", "nudged"))
        self.neuron = NEURONS[self.activation]
        self._make_synapses()
        self.state_shapes = self._shapes()
        self.build((None, *sample_shape))

    def _make_synapses(self) -> None:
        self.convolutions = [
            ConvSynapses(
                count,
                self.kernel_size,
                padding,
                dtype=self.working_dtype,
                name=f"synapses_{index + 1}",
            )
            for index, (count, padding) in enumerate(zip(self.filters, self.paddings, strict=True))
        ]
        self.dense = Synapses(
            self.classes,
            kernel_initializer=initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
            dtype=self.working_dtype,
            name=f"synapses_{len(self.filters) + 1}",
        )

    @classmethod
    def preset(cls, name: str = "cifar10", **overrides: Any) -> ConvEquilibriumNetwork:
        """Return the network of Laborieux and colleagues for CIFAR-10.

        `"cifar10"` has the cross-entropy (25 nudged steps, nudge 1, `readout_phase="nudged"` as
        published), `"cifar10-mse"` the squared distance (30 steps, nudge 0.5); both have four
        convolutions of 128, 256, 512, 512 channels, 250 free steps, centred nudges, and the rates
        .25 .15 .1 .08 .05, so compile with `keras.optimizers.SGD(1.0, momentum=0.9)`. The published
        training has batches of 128, 120 epochs of a cosine schedule that ends at epoch 100 at 1e-5,
        flips and crops, and inputs whose standard deviation is a third after normalisation. Each
        batch needs about 300 passes through the network, so that an accelerator is needed.

        Args:
            name: One of the two names.
            **overrides: Arguments of the constructor with other values.

        Raises:
            ValueError: If the name is unknown.
        """
        check.one_of("name", name, tuple(PRESETS))
        return cls(**{**PRESETS[name], **overrides})

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        if self.dense.built:
            return
        below: tuple[int, ...] = self.sample_shape
        for synapses, shape in zip(self.convolutions, self.state_shapes, strict=False):
            synapses.build((None, *below))
            below = shape
        self.dense.build((None, below[0] * below[1] * below[2]))
        self.nudge_count = self.add_weight(**counter("nudge_count"))
        self.built = True

    @property
    def value_range(self) -> tuple[float, float]:
        """The range of the activation function, which is also the range of the outputs."""
        return self.neuron.low, self.neuron.high

    def layer_rates(self) -> Sequence[float]:
        """Return the factors of the learning rates of the layers."""
        return self.rate_factors

    def default_optimizer(self) -> Any:
        """Return Adam, or `SGD(1.0, momentum=0.9)` if the `rate_factors` differ.

        The rate of Adam is 0.01 / (1 + t / 500) in step `t`.
        """
        if len(set(self.rate_factors)) == 1:
            falling = keras.optimizers.schedules.InverseTimeDecay(0.01, 500, 1.0)
            return keras.optimizers.Adam(falling)
        return keras.optimizers.SGD(1.0, momentum=0.9)

    def free_phase(self, inputs: Tensor) -> States:
        """Return the rates of all layers of units after `free_steps` from zero."""
        return settle(*self._free(inputs), self.free_steps)  # type: ignore[no-any-return]

    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the rates of the output layer, or the softmax above the states."""
        if self.cost_name == "mse":
            return states[-1]
        return self.head.rate(self.dense.read().forward(_flat(states[-1])))

    def cost(self, targets: Tensor, scores: Tensor) -> Tensor:
        """Return half the squared distance, or the cross-entropy, of each sample."""
        if self.cost_name == "mse":
            return super().cost(targets, scores)
        return self.head.cost(targets, scores)

    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Nudge the states, and return the contrast of the gradients of `Phi`."""
        sign: Any = None if self.nudging == "centred" else 1.0
        if self.nudging == "random_sign":
            sign = self.signs.next(self.nudge_count, self.working_dtype)
        # The phases are joined along the batch axis, so that one product sums over both.
        phases, shares = nudged_phases(
            self._step, inputs, targets, states, share, self.nudged_steps, self.nudge, sign
        )
        found: list[tuple[Any, Tensor]] = []
        for index, synapses in enumerate(self.convolutions):
            weights = synapses.read()
            above = phases[index] * shares[:, None, None, None]
            if index == 0:
                # Inputs and maxima are the same in both phases, so the difference of states is
                # enough.
                upper, lower = ops.split(above, 2, axis=0)
                below, above = inputs, upper + lower
            else:
                below = phases[index - 1]
            winners = pool(weights.convolve(below))[1]
            found.append((synapses.kernel, weights.correlate(below, above, winners)))
            found.append((synapses.bias, ops.sum(above, axis=(0, 1, 2))))
        if self.cost_name == "mse":
            below, above, each = _flat(phases[-2]), phases[-1], shares
        elif self.readout_phase == "nudged":
            top, aims, each = nudged_samples(phases[-1], targets, share, sign is None)
            below, above = _flat(top), aims - self.scores(inputs, (top,))
        else:
            below, above, each = _flat(states[-1]), targets - self.scores(inputs, states), share
        found.append((self.dense.kernel, correlate(below, above, each)))
        found.append((self.dense.bias, total(above, each)))
        return [self._scaled(index // 2, *change) for index, change in enumerate(found)]

    def _scaled(self, layer: int, weight: Any, change: Tensor) -> tuple[Any, Tensor]:
        if self.weight_decay:
            change = change - self.weight_decay * ops.stop_gradient(weight.value)
        return weight, self.rate_factors[layer] * change

    def energy(self, inputs: Any, states: States) -> Tensor | None:
        """Return `sum G(s) - Phi` of each sample; `G` is the potential with `f(G'(s)) = s`."""
        below = self._prepared(inputs)
        energy = 0.0
        for index, layer in enumerate(states):
            if index < len(self.convolutions):
                field = pool(self.convolutions[index].read().convolve(below))[0]
            else:
                field = self.dense.read().forward(_flat(below))
            terms = self.neuron.potential(layer) - field * layer
            energy = energy + ops.sum(terms, axis=tuple(range(1, len(terms.shape))))
            below = layer
        return energy

    def trajectories(self, inputs: Any, labels: Any = None) -> list[Tensor]:
        """Return the rates of each layer over the free and, with labels, the nudged phase."""
        inputs = self._prepared(inputs)
        step, start = self._free(inputs)
        free = trajectory(step, start, self.free_steps)
        if labels is None:
            return list(free)
        strength = ops.convert_to_tensor(self.nudge, self.working_dtype)
        step = self._step(inputs, self._targets(labels), strength)
        nudged = trajectory(step, tuple(layer[-1] for layer in free), self.nudged_steps)
        return joined(free, nudged)

    def _shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of the states of a sample, the lowest layer first."""
        shapes: list[tuple[int, ...]] = []
        below: Any = (None, *self.sample_shape)
        for synapses in self.convolutions:
            below = synapses.compute_output_shape(below)
            allowed = "large enough for the convolutions and the pooling behind each of them"
            check.require(min(below[1:3]) > 0, "input_shape", allowed, self.sample_shape)
            shapes.append(tuple(below[1:]))
        return shapes if self.cost_name == "cross_entropy" else [*shapes, (self.classes,)]

    def _free(self, inputs: Tensor) -> tuple[Callable[[States], States], States]:
        size = ops.shape(inputs)[0]
        start = (ops.zeros((size, *shape), self.working_dtype) for shape in self.state_shapes)
        return self._step(inputs), tuple(start)

    def _step(
        self, inputs: Tensor, targets: Tensor | None = None, strength: Tensor | None = None
    ) -> Callable[[States], States]:
        weights: list[ConvWeights] = [synapses.read() for synapses in self.convolutions]
        dense = self.dense.read()
        count = len(weights)
        drive = pool(weights[0].convolve(inputs))[0]  # This does not change while states settle.

        def pull(layer: Tensor) -> Tensor:
            if self.cost_name == "mse":
                return targets - layer
            error = targets - self.head.rate(dense.forward(_flat(layer)))
            return ops.reshape(dense.backward(error), ops.shape(layer))

        def step(states: States) -> States:
            seen = [pool(weights[k].convolve(states[k - 1])) for k in range(1, count)]
            fields = [drive, *(pooled for pooled, _ in seen)]
            for k, (_, winners) in enumerate(seen):
                fields[k] = fields[k] + weights[k + 1].backward(states[k + 1], winners, states[k])
            if self.cost_name == "mse":
                back = dense.backward(states[-1])
                fields[-1] = fields[-1] + ops.reshape(back, ops.shape(states[count - 1]))
                fields.append(dense.forward(_flat(states[count - 1])))
            if strength is not None:
                scale = strength
                if len(scale.shape) and self.cost_name == "cross_entropy":
                    scale = ops.reshape(scale, (-1, 1, 1, 1))
                fields[-1] = fields[-1] + scale * pull(states[-1])
            return tuple(self.neuron.rate(field) for field in fields)

        return step

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        del config["sizes"]
        return {
            **config,
            "input_shape": list(self.sample_shape),
            "filters": list(self.filters),
            "classes": self.classes,
            "kernel_size": self.kernel_size,
            "paddings": list(self.paddings),
            "activation": self.activation,
            "cost": self.cost_name,
            "nudging": self.nudging,
            "nudge": self.nudge,
            "free_steps": self.free_steps,
            "nudged_steps": self.nudged_steps,
            "rate_factors": list(self.rate_factors),
            "weight_decay": self.weight_decay,
            "seed": self.signs.seed,
            "readout_phase": self.readout_phase,
        }


def _flat(tensor: Tensor) -> Tensor:
    return ops.reshape(tensor, (ops.shape(tensor)[0], -1))
