"""Segregated dendrites: errors are differences of plateau potentials in apical dendrites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
_GAIN = 20.0


@serializable
class SegregatedDendritesNetwork(Network):
    """Network of neurons that receive feedback in separate apical dendrites, with rates.

    A neuron has a basal dendrite, which sees the rates below, and a soma that follows it:

        C_l = basal / (leak + basal) (r_{l-1} W_l + b_l),    r_l = max_rate sigmoid(C_l),

    with `r_0 = max_rate inputs`. A hidden neuron also has an apical dendrite `A_l = r_L Y_l^T`,
    which sees the outputs through fixed random weights and has a plateau potential
    `a_l = sigmoid(A_l)`. The plateau potential does not reach the soma. The first phase is without
    labels. In the target phase, with targets `y` (one-hot labels or numbers from 0 to 1), the
    outputs receive an additional current,

        Ct_L = (basal (r_{L-1} W_L + b_L) + nudge reversal (2 y - 1)) / (leak + basal + nudge),

    with the rates `rt_L = max_rate sigmoid(Ct_L)` and plateau potentials `at_l` that follow. With
    `k = basal / (leak + basal)` and `s(C) = sigmoid(C) (1 - sigmoid(C))`

        dW_L = 20 k / max_rate < r_{L-1} (rt_L - r_L) s(C_L) >
        dW_l = 20 k            < r_{l-1} (at_l - a_l) s(C_l) >,    l < L,

    and likewise for biases. In the output layer this descends half the squared distance of the
    rates `r_L` from `rt_L`, which are held fixed, times `20 / max_rate^2`. Below, for small
    differences, it is direct feedback alignment of the same error of rates, with the additional
    factor `s(A_l)`.

    Local: each change is computed from the potentials of compartments of one neuron in the two
    phases, and the rate of another neuron that it sees.

    Args:
        sizes: Number of inputs, of units of each hidden layer, and of outputs.
        nudge: Conductance of the labels, greater than 0.
        reversal: Potential to which labels drive the neuron of the class; neurons of other classes
            are driven to the same potential with the opposite sign. Greater than 0.
        leak: Conductance of the leak of the soma.
        basal: Conductance of the basal dendrite, greater than 0.
        max_rate: Rate that no neuron exceeds, greater than 0.
        kernel_initializer: Initializer of `W`. By default Glorot's uniform initializer divided by
            `max_rate`, because rates are at most `max_rate`.
        feedback_initializer: Initializer of `Y`, kernels of shape `(units, classes)`. By default
            uniform up to `1 / max_rate`.
        targets: `"classes"`, `"labels"` or `"values"`; see `Network`.
        name: Name of the network.
        dtype: As for `EquilibriumNetwork`.
        trainable: Whether the network learns; if not, training changes nothing.

    Input shape: `(batch, sizes[0])`, rates divided by `max_rate`, from 0 to 1. Output shape:
    `(batch, sizes[-1])`, also rates divided by `max_rate`. The published setting is
    `keras.optimizers.SGD(0.21)` with one sample at a time.

    Raises:
        ValueError: If an argument is out of range or unknown.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.SegregatedDendritesNetwork([4, 8, 3])
    >>> network.compile(keras.optimizers.SGD(0.21), metrics=["accuracy"])
    >>> history = network.fit(np.eye(4), np.array([0, 1, 2, 0]), verbose=0)
    >>> network.predict(np.eye(4), verbose=0).shape
    (4, 3)

    Source: Guerguiev, Lillicrap & Richards 2017, "Towards deep learning with segregated dendrites",
    in the form without spikes. The initializers are our choice.
    """

    refused_targets = RATES_ALONE

    def __init__(
        self,
        sizes: Sequence[int],
        nudge: float = 1.0,
        reversal: float = 8.0,
        leak: float = 0.1,
        basal: float = 0.6,
        max_rate: float = 0.2,
        kernel_initializer: InitializerLike | None = None,
        feedback_initializer: InitializerLike | None = None,
        *,
        targets: Targets = "classes",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(sizes, targets=targets, name=name, dtype=dtype, trainable=trainable)
        self.nudge = check.real("nudge", nudge, minimum=0.0, exclusive=True)
        self.reversal = check.real("reversal", reversal, minimum=0.0, exclusive=True)
        self.leak = check.real("leak", leak, minimum=0.0)
        self.basal = check.real("basal", basal, minimum=0.0, exclusive=True)
        self.max_rate = check.real("max_rate", max_rate, minimum=0.0, exclusive=True)
        # The changes contain its inverse, and the initial weights the square of the inverse.
        allowed = "at least 1e-15 and at most 1e15"
        check.require(1e-15 <= self.max_rate <= 1e15, "max_rate", allowed, max_rate)
        glorot = initializers.VarianceScaling(1.0 / self.max_rate**2, "fan_avg", "uniform")
        uniform = initializers.RandomUniform(-1.0 / self.max_rate, 1.0 / self.max_rate)
        self.kernel_initializer = initializer("kernel_initializer", kernel_initializer, glorot)
        self.feedback_initializer = initializer(
            "feedback_initializer", feedback_initializer, uniform
        )
        self.synapses = [
            Synapses(
                units,
                kernel_initializer=fresh(self.kernel_initializer),
                dtype=self.working_dtype,
                name=f"synapses_{index + 1}",
            )
            for index, units in enumerate(self.sizes[1:])
        ]
        # Weights from the outputs to each hidden layer; a kernel is transposed when it is used.
        self.apical = [
            Synapses(
                self.classes,
                use_bias=False,
                kernel_initializer=fresh(self.feedback_initializer),
                trainable=False,
                dtype=self.working_dtype,
                name=f"apical_{index + 1}",
            )
            for index in range(len(self.sizes) - 2)
        ]
        self.build((None, self.sizes[0]))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        for synapses, inputs in zip(self.synapses, self.sizes, strict=False):
            if not synapses.built:
                synapses.build((None, inputs))
        for synapses, units in zip(self.apical, self.sizes[1:], strict=False):
            if not synapses.built:
                synapses.build((None, units))
        self.built = True

    def default_optimizer(self) -> Any:
        """Return `SGD(2.0)`."""
        return keras.optimizers.SGD(2.0)

    def free_phase(self, inputs: Tensor) -> States:
        """Return the somatic potentials of all layers without labels."""
        somata: list[Tensor] = []
        rates = self.max_rate * inputs
        for synapses in self.synapses:
            somata.append(self._conduction * synapses.read().forward(rates))
            rates = self._rate(somata[-1])
        return tuple(somata)

    def target_phase(self, states: States, targets: Tensor) -> Tensor:
        """Return the somatic potentials of the outputs with labels.

        Args:
            states: The result of `free_phase`.
            targets: Rows `(batch, sizes[-1])`, from 0 to 1.
        """
        # Without labels the soma is the attenuated dendrite.
        current = (self.leak + self.basal) * states[-1]
        current = current + self.nudge * self.reversal * (2.0 * targets - 1.0)
        return current / (self.leak + self.basal + self.nudge)

    def plateaus(self, states: States, targets: Tensor | None = None) -> list[Tensor]:
        """Return the plateau potentials of the apical dendrites, the lowest layer first.

        Args:
            states: The result of `free_phase`.
            targets: Rows of targets; None for the potentials at the end of the phase without
                labels.

        Returns:
            Tensors `(batch, units)`, from 0 to 1, one for each hidden layer.
        """
        outputs = self._rate(states[-1] if targets is None else self.target_phase(states, targets))
        return [ops.sigmoid(synapses.read().backward(outputs)) for synapses in self.apical]

    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the rates of the outputs, divided by `max_rate`."""
        return ops.sigmoid(states[-1])

    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Show the labels, and return the changes: differences of plateaus and output rates."""
        below = [self.max_rate * inputs, *(self._rate(soma) for soma in states[:-1])]
        phases = zip(self.plateaus(states, targets), self.plateaus(states), strict=True)
        differences = [taught - free for taught, free in phases]
        taught = ops.sigmoid(self.target_phase(states, targets))
        differences.append(taught - self.scores(inputs, states))
        found: list[tuple[Any, Tensor]] = []
        for k, synapses in enumerate(self.synapses):
            slope = ops.sigmoid(states[k]) * ops.sigmoid(-states[k])
            moved = _GAIN * self._conduction * differences[k] * slope
            found.append((synapses.kernel, correlate(below[k], moved, share)))
            found.append((synapses.bias, total(moved, share)))
        return found

    @property
    def _conduction(self) -> float:
        """The share of the basal potential that reaches the soma."""
        return self.basal / (self.leak + self.basal)

    def _rate(self, soma: Tensor) -> Tensor:
        return self.max_rate * ops.sigmoid(soma)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "nudge": self.nudge,
            "reversal": self.reversal,
            "leak": self.leak,
            "basal": self.basal,
            "max_rate": self.max_rate,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "feedback_initializer": initializers.serialize(self.feedback_initializer),
        }
