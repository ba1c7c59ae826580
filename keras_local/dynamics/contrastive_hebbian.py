"""Contrastive Hebbian learning with weak feedback."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike, Targets
from keras_local.dynamics._arguments import NONE_REFUSED, checked_choice, initializer
from keras_local.dynamics._neurons import NEURONS
from keras_local.dynamics._outputs import logistic
from keras_local.dynamics._phases import joined
from keras_local.dynamics.network import Changes, Network
from keras_local.dynamics.synapses import Synapses, correlate, fresh, total
from keras_local.ops import settle, trajectory
from keras_local.ops.backend import Tensor

States = tuple[Tensor, ...]
_FLOOR = 1e-5
_DECADES = 30


@serializable
class ContrastiveHebbianNetwork(Network):
    """Network that learns by contrastive Hebbian learning, with feedback of strength `gamma`.

    The layers `k = 1..L` receive the layer below through `W_k`, and the layer above through that
    layer's weights times `gamma`:

        x_k <- x_k + step_size (f_k(u_k) - x_k),
        u_k = x_{k-1} W_k + b_k + gamma x_{k+1} W_{k+1}^T    (no feedback for k = L).

    The free phase starts from the feedforward pass. The clamped phase continues from there, with
    the output layer held at the target, for classes the one-hot label. The weights change by

        dW_k = gamma^(k-L) < x_{k-1}^clamped x_k^clamped - x_{k-1}^free x_k^free >
        db_k = gamma^(k-L) < x_k^clamped - x_k^free >.

    For small `gamma` this is the gradient by backpropagation in the feedforward network of the same
    weights, with an error of order `gamma`. The loss is half the squared distance if the outputs
    are linear, and the binary cross-entropy if they are sigmoid. The factor `gamma^(k-L)`
    compensates for the feedback that becomes weaker from layer to layer.

    Local: each weight sees the activities of the two units that it connects, in both phases.

    Args:
        sizes: Number of inputs, of units of each hidden layer, and of outputs.
        gamma: Strength of the feedback, at least 0. With 0 the network is the feedforward one, and
            cannot learn.
        activation: Activation of the hidden units: `"tanh"`, `"sigmoid"` or `"linear"`.
        output: Activation of the output units: `"linear"`, or `"sigmoid"`, which labels need; by
            default linear, and sigmoid for labels.
        free_steps: Number of steps of the free phase.
        clamped_steps: Number of steps of the clamped phase.
        step_size: Size of a step, greater than 0, at most 1.
        kernel_initializer: Initializer of the weights.
        targets: `"classes"`, `"labels"` or `"values"`; see `Network`.
        name: Name of the network.
        dtype: As for `EquilibriumNetwork`.
        trainable: Whether the network learns; if not, training changes nothing.

    Input shape: `(batch, sizes[0])`. Output shape: `(batch, sizes[-1])`.

    Raises:
        ValueError: If an argument is out of range or unknown, or the changes of the lowest layer
            would be lost in rounding (`gamma^(L-1)` below 1e-5, unless `dtype="float64"`). In
            `compile`, if `gamma` is 0, or the optimizer divides by the size of the gradient, which
            removes the factors of the layers.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.ContrastiveHebbianNetwork([4, 8, 3])
    >>> network.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    >>> history = network.fit(np.eye(4), np.array([0, 1, 2, 0]), verbose=0)
    >>> network.predict(np.eye(4), verbose=0).shape
    (4, 3)

    Source: Xie & Seung 2003, "Equivalence of backpropagation and contrastive Hebbian learning in a
    layered network".
    """

    refused_targets = NONE_REFUSED
    remedy = "a smaller `gamma`, a smaller `step_size`, or a smaller learning rate"

    def __init__(
        self,
        sizes: Sequence[int],
        gamma: float = 0.1,
        activation: Literal["tanh", "sigmoid", "linear"] = "tanh",
        output: Literal["linear", "sigmoid"] | None = None,
        free_steps: int = 30,
        clamped_steps: int = 30,
        step_size: float = 0.5,
        kernel_initializer: InitializerLike = "glorot_uniform",
        *,
        targets: Targets = "classes",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(sizes, targets=targets, name=name, dtype=dtype, trainable=trainable)
        self.gamma = check.real("gamma", gamma, minimum=0.0)
        layers = len(self.sizes) - 1
        kept = self._keeps_changes(layers - 1)
        allowed = (
            f"such that gamma^{layers - 1}, the scale of the changes of the lowest layer, is at "
            f"least {_FLOOR:g} (smaller ones are lost in the rounding of float32) and finite"
        )
        check.require(kept, "gamma", allowed, gamma)
        self.activation = check.one_of("activation", activation, ("tanh", "sigmoid", "linear"))
        self.output_name = checked_choice(
            "output", output, self.targets, usual="linear", of_labels="sigmoid"
        )
        self.free_steps = check.positive_integer("free_steps", free_steps)
        self.clamped_steps = check.positive_integer("clamped_steps", clamped_steps)
        self.step_size = check.real(
            "step_size", step_size, minimum=0.0, maximum=1.0, exclusive=True
        )
        self.kernel_initializer = initializer("kernel_initializer", kernel_initializer)
        self.neurons = [NEURONS[activation]] * (layers - 1) + [NEURONS[self.output_name]]
        self.synapses = [
            Synapses(
                units,
                kernel_initializer=fresh(self.kernel_initializer),
                dtype=self.working_dtype,
                name=f"synapses_{index + 1}",
            )
            for index, units in enumerate(self.sizes[1:])
        ]
        self.build((None, self.sizes[0]))

    def _keeps_changes(self, power: int) -> bool:
        """Return whether changes of the scale `gamma^power` are larger than rounding errors."""
        if self.gamma == 0.0:
            return True
        size = power * math.log10(self.gamma)
        if self.working_dtype == "float64":
            return abs(size) < _DECADES
        return math.log10(_FLOOR) - 1e-9 <= size < _DECADES

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        for synapses, inputs in zip(self.synapses, self.sizes, strict=False):
            if not synapses.built:
                synapses.build((None, inputs))
        self.built = True

    @property
    def rate_factors(self) -> tuple[float, ...]:
        """The factor `gamma^(k-L)` of each weight layer, the lowest first."""
        layers = len(self.sizes) - 1
        return tuple(self.gamma ** float(k - layers) for k in range(1, layers + 1))

    def check_optimizer(self, optimizer: Any) -> None:
        """Refuse `gamma=0`, and optimizers that remove the factors of the layers."""
        name = type(self).__name__
        learns = self.gamma > 0.0 or len(self.sizes) == 2
        check.require(learns, "gamma", f"greater than 0 for {name} to learn", self.gamma)
        erased = self.erased_rates(optimizer, self.rate_factors)
        allowed = f"one that keeps the factors gamma^(k-L) of {name}. {erased}"
        check.require(erased is None, "optimizer", allowed, type(optimizer).__name__)

    def default_optimizer(self) -> Any:
        """Return `SGD(0.1)`; of values, which may be far from the outputs, `SGD(0.02)`."""
        return keras.optimizers.SGD(0.02 if self.targets == "values" else 0.1)

    def free_phase(self, inputs: Tensor) -> States:
        """Return the activities of all layers of units after `free_steps`."""
        return settle(*self._free(inputs), self.free_steps)  # type: ignore[no-any-return]

    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the activities of the output layer."""
        return states[-1]

    def cost(self, targets: Tensor, scores: Tensor) -> Tensor:
        """Return half the squared distance, or the binary cross-entropy, of each sample."""
        if self.output_name == "linear":
            return super().cost(targets, scores)
        return logistic(targets, scores)

    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Clamp the output, and return the contrast of the correlations."""
        step = self._step(inputs, clamped=targets)
        clamped = settle(step, (*states[:-1], targets), self.clamped_steps)
        found: list[tuple[Any, Tensor]] = []
        for index, (synapses, factor) in enumerate(
            zip(self.synapses, self.rate_factors, strict=True)
        ):
            moved = factor * (clamped[index] - states[index])
            below = inputs if index == 0 else clamped[index - 1]
            # x^ y^ - x y = x^ (y^ - y) + (x^ - x) y. The left side would lose the effect of a small
            # `gamma` in rounding, as a small difference of large products.
            kernel = correlate(below, moved, share)
            if index:
                moved_below = factor * (below - states[index - 1])
                kernel = kernel + correlate(moved_below, states[index], share)
            found += [(synapses.kernel, kernel), (synapses.bias, total(moved, share))]
        return found

    def energy(self, inputs: Any, states: States) -> Tensor | None:
        """Return `sum_k gamma^(k-1) (G_k(x_k) - x_k (x_{k-1} W_k + b_k))` of each sample.

        `G_k` is the potential with `f_k(G_k'(x)) = x`. The energy is None without feedback, where
        the layers settle one after the other.
        """
        if self.gamma == 0.0:
            return None
        below = self._prepared(inputs)
        energy = 0.0
        for index, (synapses, neuron) in enumerate(zip(self.synapses, self.neurons, strict=True)):
            layer = states[index]
            terms = neuron.potential(layer) - synapses.read().forward(below) * layer
            energy = energy + self.gamma**index * ops.sum(terms, axis=-1)
            below = layer
        return energy

    def trajectories(self, inputs: Any, labels: Any = None) -> list[Tensor]:
        """Return the activities of each layer over the free and, with labels, the clamped phase."""
        inputs = self._prepared(inputs)
        step, start = self._free(inputs)
        free = trajectory(step, start, self.free_steps)
        if labels is None:
            return list(free)
        targets = self._targets(labels)
        hidden = tuple(layer[-1] for layer in free[:-1])
        step = self._step(inputs, clamped=targets)
        clamped = trajectory(step, (*hidden, targets), self.clamped_steps)
        return joined(free, clamped)

    def _free(self, inputs: Tensor) -> tuple[Callable[[States], States], States]:
        layers, below = [], inputs
        for synapses, neuron in zip(self.synapses, self.neurons, strict=True):
            below = neuron.rate(synapses.read().forward(below))
            layers.append(below)
        return self._step(inputs), tuple(layers)

    def _step(self, inputs: Tensor, clamped: Tensor | None = None) -> Callable[[States], States]:
        weights = [synapses.read() for synapses in self.synapses]
        drive = weights[0].forward(inputs)  # This does not change while states settle.
        top = len(weights) - 1

        def step(states: States) -> States:
            settled = []
            for index, layer in enumerate(states):
                if index == top and clamped is not None:
                    settled.append(clamped)
                    continue
                field = weights[index].forward(states[index - 1]) if index else drive
                if index < top and self.gamma:
                    field = field + self.gamma * weights[index + 1].backward(states[index + 1])
                aim = self.neurons[index].rate(field)
                settled.append(layer + self.step_size * (aim - layer))
            return tuple(settled)

        return step

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "gamma": self.gamma,
            "activation": self.activation,
            "output": self.output_name,
            "free_steps": self.free_steps,
            "clamped_steps": self.clamped_steps,
            "step_size": self.step_size,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
        }
