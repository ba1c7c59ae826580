"""Predictive coding, with schedules in which it equals backpropagation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike, Targets
from keras_local.dynamics._arguments import NONE_REFUSED, checked_choice, initializer
from keras_local.dynamics._outputs import OUTPUTS
from keras_local.dynamics.network import Changes, Network
from keras_local.dynamics.synapses import Synapses, Weights, correlate, fresh, total
from keras_local.ops import settle, trajectory
from keras_local.ops.backend import Tensor

States = tuple[Tensor, ...]
INFERENCE = ("settle", "fixed_prediction", "zil")

# The rate, and its derivative as a function of the rate.
ACTIVATIONS: Mapping[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "sigmoid": (ops.sigmoid, lambda rate: rate * (1.0 - rate)),
    "tanh": (ops.tanh, lambda rate: 1.0 - ops.square(rate)),
    "relu": (ops.relu, lambda rate: ops.cast(rate > 0, rate.dtype)),
    "linear": (lambda x: x, ops.ones_like),
}


_ROUNDING = 1e-5
"""The relative rise of an energy that counts as a rise."""


@serializable
class PredictiveCodingNetwork(Network):
    """Network that learns by predictive coding.

    Each layer `l = 1..L` has value units `x_l` and error units

        e_l = x_l - f(x_{l-1}) W_l - b_l,   e_L divided by `output_variance`;   f(x_0) = inputs.

    Without labels the values are the feedforward pass, and all errors are zero. With labels,
    `x_L` is held at the target, for classes the one-hot label, and the others descend the energy
    `1/2 sum |e_l|^2`:

        x_l <- x_l + step_size (- e_l + f'(x_l) e_{l+1} W_{l+1}^T),
        dW_l = output_variance < f(x_{l-1}) e_l >,    db_l = output_variance < e_l >.

    If the energy of a sample rises, its steps are half as large from then on.

    For a large `output_variance` this is backpropagation of half the squared distance, or of the
    cross-entropy with that `cost`. With `inference="fixed_prediction"`, `f'` and the predictions
    stay those of the feedforward pass, and the changes equal backpropagation at rest. With `"zil"`,
    zero-divergence inference learning, they always do: `step_size` is 1, and `W_l` learns in step
    `L - l`, the highest layer first.

    Local: a weight sees the value unit below and the error unit above; errors return through the
    same weights.

    Args:
        sizes: Number of inputs, of units of each hidden layer, and of outputs.
        activation: `f`: `"sigmoid"`, `"tanh"`, `"relu"` or `"linear"`. Outputs are linear, or as
            `cost` says.
        inference: `"settle"`, `"fixed_prediction"` or `"zil"`.
        output_variance: Variance of the output layer, greater than 0. With a larger variance labels
            act more weakly.
        steps: Number of steps of the phase with labels; not for `"zil"`, which makes one step for
            each layer.
        step_size: Initial size of a step, greater than 0, at most 1; not for `"zil"`.
        kernel_initializer: Initializer of the weights.
        targets: `"classes"`, `"labels"` or `"values"`; see `Network`.
        cost: `"squared"` as above, or `"cross_entropy"`: then the outputs `p` are the softmax (for
            classes) or the sigmoid (for labels) of the prediction, and
            `e_L = (t - p) / output_variance`. The default is `"squared"` for classes and values;
            labels need `"cross_entropy"`.
        name: Name of the network.
        dtype: As for `EquilibriumNetwork`.
        trainable: Whether the network learns; if not, training changes nothing.

    Input shape: `(batch, sizes[0])`. Output shape: `(batch, sizes[-1])`.

    Raises:
        ValueError: If an argument is out of range or unknown.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.PredictiveCodingNetwork([4, 8, 3], inference="zil")
    >>> network.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    >>> history = network.fit(np.eye(4), np.array([0, 1, 2, 0]), verbose=0)
    >>> network.predict(np.eye(4), verbose=0).shape
    (4, 3)

    Source: Whittington & Bogacz 2017, "An approximation of the error backpropagation algorithm in a
    predictive coding network with local Hebbian synaptic plasticity"; Z-IL, Song et al. 2020, "Can
    the brain do backpropagation? Exact implementation of backpropagation in predictive coding
    networks"; fixed predictions, Millidge, Tschantz & Buckley 2020, "Predictive coding approximates
    backprop along arbitrary computation graphs".
    """

    refused_targets = NONE_REFUSED
    remedy = "a smaller `step_size`, a larger `output_variance`, or a smaller learning rate"

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Literal["sigmoid", "tanh", "relu", "linear"] = "sigmoid",
        inference: Literal["settle", "fixed_prediction", "zil"] = "settle",
        output_variance: float = 1.0,
        steps: int = 50,
        step_size: float = 0.1,
        kernel_initializer: InitializerLike = "glorot_uniform",
        *,
        targets: Targets = "classes",
        cost: Literal["squared", "cross_entropy"] | None = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(sizes, targets=targets, name=name, dtype=dtype, trainable=trainable)
        self.activation = check.one_of("activation", activation, tuple(ACTIVATIONS))
        self.inference = check.one_of("inference", inference, INFERENCE)
        self.output_variance = check.real(
            "output_variance", output_variance, minimum=0.0, exclusive=True
        )
        self.steps = check.positive_integer("steps", steps)
        self.step_size = check.real(
            "step_size", step_size, minimum=0.0, maximum=1.0, exclusive=True
        )
        self.cost_name = checked_choice(
            "cost", cost, self.targets, usual="squared", of_labels="cross_entropy"
        )
        self.head = OUTPUTS["values" if self.cost_name == "squared" else self.targets]
        self.kernel_initializer = initializer("kernel_initializer", kernel_initializer)
        self.rate, self.slope = ACTIVATIONS[activation]
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

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        for synapses, inputs in zip(self.synapses, self.sizes, strict=False):
            if not synapses.built:
                synapses.build((None, inputs))
        self.built = True

    def default_optimizer(self) -> Any:
        """Return `Adam(0.01)`."""
        return keras.optimizers.Adam(0.01)

    def free_phase(self, inputs: Tensor) -> States:
        """Return the values of all layers in the feedforward pass."""
        values, rates = [], inputs
        for synapses in self.synapses:
            values.append(synapses.read().forward(rates))
            rates = self.rate(values[-1])
        return (*values[:-1], self.head.rate(values[-1]))

    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the values of the output layer."""
        return states[-1]

    def cost(self, targets: Tensor, scores: Tensor) -> Tensor:
        """Return half the squared distance, the cross-entropy, or the logistic losses."""
        return self.head.cost(targets, scores)

    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Hold the output at the labels, and return the products of errors and rates."""
        weights = [synapses.read() for synapses in self.synapses]
        if self.inference == "fixed_prediction":
            errors = list(self._fixed(weights, states, targets))
            rates = self._rates(inputs, states)
        elif self.inference == "zil":
            errors, rates = self._layer_by_layer(weights, inputs, states, targets)
        else:
            start = self._paced(states, targets)
            values, _, _ = settle(self._careful(weights, inputs, targets), start, self.steps)
            errors, rates = self._errors(weights, inputs, values), self._rates(inputs, values)
        found: list[tuple[Any, Tensor]] = []
        for synapses, rate, error in zip(self.synapses, rates, errors, strict=True):
            error = self.output_variance * error
            found.append((synapses.kernel, correlate(rate, error, share)))
            found.append((synapses.bias, total(error, share)))
        return found

    def energy(self, inputs: Any, states: States) -> Tensor | None:
        """Return `1/2 sum_l |e_l|^2` of each sample; the output's term is divided by its variance.

        With the cross-entropy, the output's term is the divergence of its values from the
        prediction, divided by the variance.
        """
        weights = [synapses.read() for synapses in self.synapses]
        inputs = self._prepared(inputs)
        return self._energy(self._errors(weights, inputs, states), states[-1])

    def trajectories(self, inputs: Any, labels: Any = None) -> list[Tensor]:
        """Return the values of each layer over the phase with labels, as with `"settle"`.

        Without labels the values stay those of the feedforward pass.
        """
        inputs = self._prepared(inputs)
        values = self.free_phase(inputs)
        targets = None if labels is None else self._targets(labels)
        weights = [synapses.read() for synapses in self.synapses]
        start = self._paced(values, targets)
        seen, _, _ = trajectory(self._careful(weights, inputs, targets), start, self.steps)
        return list(seen)

    def _rates(self, inputs: Tensor, values: States) -> list[Tensor]:
        return [inputs, *(self.rate(value) for value in values[:-1])]

    def _errors(self, weights: list[Weights], inputs: Tensor, values: States) -> list[Tensor]:
        pairs = zip(weights, self._rates(inputs, values), strict=True)
        predictions = [each.forward(rate) for each, rate in pairs]
        predictions[-1] = self.head.rate(predictions[-1])
        errors = [value - guess for value, guess in zip(values, predictions, strict=True)]
        errors[-1] = errors[-1] / self.output_variance
        return errors

    def _pull(self, weights: Weights, value: Tensor, error_above: Tensor) -> Tensor:
        return self.slope(self.rate(value)) * weights.backward(error_above)

    def _energy(self, errors: list[Tensor], top: Tensor) -> Tensor:
        squares = [ops.sum(ops.square(error), axis=-1) for error in errors]
        # e_L is already divided by the variance.
        if self.cost_name == "squared":
            return 0.5 * (sum(squares[:-1]) + self.output_variance * squares[-1])
        predicted = top - self.output_variance * errors[-1]
        divergence = self.head.cost(top, predicted) - self.head.cost(top, top)
        return 0.5 * sum(squares[:-1]) + divergence / self.output_variance

    def _moved(
        self, weights: list[Weights], values: States, errors: list[Tensor], size: Any, held: bool
    ) -> States:
        """Return the values after a step of `size`, a number or `(batch, 1)`."""
        moved = [
            value + size * (self._pull(weights[k + 1], value, errors[k + 1]) - errors[k])
            for k, value in enumerate(values[:-1])
        ]
        return (*moved, values[-1] if held else values[-1] - size * errors[-1])

    def _paced(self, values: States, targets: Tensor | None) -> tuple[States, Tensor, Tensor]:
        """Return the start of settling, the step size of each sample, and a bound of its energy."""
        start = values if targets is None else (*values[:-1], targets)
        size = self.step_size * ops.ones_like(values[-1][:, :1])
        return start, size, ops.full_like(size, float("inf"))

    def _careful(
        self, weights: list[Weights], inputs: Tensor, targets: Tensor | None
    ) -> Callable[[Any], Any]:
        """Return a step that becomes half as large for samples whose energy rose."""

        def step(paced: tuple[States, Tensor, Tensor]) -> tuple[States, Tensor, Tensor]:
            values, size, last = paced
            errors = self._errors(weights, inputs, values)
            energy = self._energy(errors, values[-1])[:, None]
            size = ops.where(energy > (1.0 + _ROUNDING) * last, 0.5 * size, size)
            return self._moved(weights, values, errors, size, targets is not None), size, energy

        return step

    def _fixed(self, weights: list[Weights], values: States, targets: Tensor) -> States:
        """Let the errors settle while predictions and derivatives do not change."""
        top = (targets - values[-1]) / self.output_variance
        slopes = [self.slope(self.rate(value)) for value in values[:-1]]

        def step(errors: States) -> States:
            above = (*errors[1:], top)
            aims = [
                slope * each.backward(error)
                for slope, each, error in zip(slopes, weights[1:], above, strict=True)
            ]
            pairs = zip(errors, aims, strict=True)
            return tuple(error + self.step_size * (aim - error) for error, aim in pairs)

        start = tuple(ops.zeros_like(value) for value in values[:-1])
        return (*(settle(step, start, self.steps) if start else ()), top)

    def _layer_by_layer(
        self, weights: list[Weights], inputs: Tensor, values: States, targets: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return each layer's error in the step in which it learns, and the rates below."""
        values = (*values[:-1], targets)
        learning: list[Tensor] = []
        rates: list[Tensor] = []
        for k in reversed(range(len(values))):
            errors = self._errors(weights, inputs, values)
            learning.insert(0, errors[k])
            rates.insert(0, self._rates(inputs, values)[k])
            values = self._moved(weights, values, errors, 1.0, held=True)
        return learning, rates

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "activation": self.activation,
            "inference": self.inference,
            "output_variance": self.output_variance,
            "steps": self.steps,
            "step_size": self.step_size,
            "cost": self.cost_name,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
        }
