"""Difference target propagation: each layer learns a target that inverses compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike, Targets
from keras_local.dynamics._arguments import NONE_REFUSED, initializer
from keras_local.dynamics._neurons import NEURONS
from keras_local.dynamics._outputs import OUTPUTS
from keras_local.dynamics.network import Changes, Network
from keras_local.dynamics.synapses import Synapses, correlate, fresh, total
from keras_local.ops import random_rows, read
from keras_local.ops.backend import Tensor

States = tuple[Tensor, ...]
PHASES = ("both", "forward", "inverse")
LearningPhase = Literal["both", "forward", "inverse"]


@serializable
class DifferenceTargetPropagation(Network):
    """Network that learns by difference target propagation (DTP).

    The network is feedforward with `M` weight layers. Each layer except the lowest and the output
    has a learned inverse `g_l`:

        h_l = f(h_{l-1} W_l + b_l),    scores = softmax(h_{M-1} W_M + b_M)
        g_l(h) = f(h V_l^T + c_l),     l = 2..M-1.

    What is sent down is not an error but a target. The target of the highest hidden layer is a step
    down the cost `C`, the cross-entropy; the inverses compute the targets of the layers below:

        t_{M-1} = h_{M-1} - target_rate dC/dh_{M-1}
        t_{l-1} = h_{l-1} + g_l(t_l) - g_l(h_l).

    For labels the outputs are sigmoid and `C` is the sum of logistic losses; for values they are
    linear and `C` is half the squared distance.

    Each layer descends its own two losses, with normal noise `e` of standard deviation `noise`,

        |h_l - t_l|^2                  by W_l and b_l alone,
        |g_l(f_l(h + e)) - (h + e)|^2, h = h_{l-1},    by V_l and c_l alone,

    and the output layer descends `C`. In a linear network of orthogonal `W_l` with `V_l = W_l`,
    which are exact inverses, `t_l - h_l` is the error of backpropagation times `target_rate`. With
    exact inverses of other linear maps it is not, because the error comes down by the inverse, and
    in backpropagation by the transpose.

    Local: a weight sees the presynaptic rate, and rate and target of its own neuron; only the
    highest hidden layer sees weights of another layer.

    Args:
        sizes: Number of inputs, of units of each hidden layer, and of outputs.
        target_rate: Size of the step that gives the first target, greater than 0.
        noise: Standard deviation of the noise that is added to rates while inverses learn; 0 for
            none.
        inverse_rate: Learning rate of `V` and `c`, relative to the other weights; with 0 they do
            not learn.
        activation: `f`, `"tanh"` or `"linear"`.
        phase: Which weights learn: `"forward"`, `"inverse"`, or `"both"` on the same batch. It may
            be set at any time, so that epochs of the two can alternate.
        kernel_initializer: Initializer of `W`.
        feedback_initializer: Initializer of `V`.
        seed: Seed of the noise, an integer; None draws a seed.
        targets: `"classes"`, `"labels"` or `"values"`; see `Network`.
        name: Name of the network.
        dtype: As for `EquilibriumNetwork`.
        trainable: Whether the network learns; if not, training changes nothing.

    Input shape: `(batch, sizes[0])`. Output shape: `(batch, sizes[-1])`. The published setting is
    seven hidden layers of 240 units, batches of 100, and alternating epochs of the two phases.

    Raises:
        ValueError: If an argument is out of range or unknown.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.DifferenceTargetPropagation([4, 8, 6, 3], seed=1)
    >>> network.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    >>> history = network.fit(np.eye(4), np.array([0, 1, 2, 0]), verbose=0)
    >>> network.predict(np.eye(4), verbose=0).shape
    (4, 3)

    Source: Lee, Zhang, Fischer & Bengio 2015, "Difference target propagation", and the authors'
    script. There one epoch teaches the inverses and the next the forward weights, and two weights
    do not learn; here all weights learn.
    """

    refused_targets = NONE_REFUSED
    erased_effect = "`inverse_rate` has no effect"
    remedy = "a smaller learning rate, or a smaller `target_rate`"

    def __init__(
        self,
        sizes: Sequence[int],
        target_rate: float = 0.3277,
        noise: float = 0.3598,
        inverse_rate: float = 0.336,
        activation: Literal["tanh", "linear"] = "tanh",
        phase: LearningPhase = "both",
        kernel_initializer: InitializerLike = "orthogonal",
        feedback_initializer: InitializerLike = "orthogonal",
        seed: int | None = None,
        *,
        targets: Targets = "classes",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(sizes, targets=targets, name=name, dtype=dtype, trainable=trainable)
        self.head = OUTPUTS[self.targets]
        self.target_rate = check.real("target_rate", target_rate, minimum=0.0, exclusive=True)
        self.noise = check.real("noise", noise, minimum=0.0)
        self.inverse_rate = check.real("inverse_rate", inverse_rate, minimum=0.0)
        self.activation = check.one_of("activation", activation, ("tanh", "linear"))
        self._phase: LearningPhase = check.one_of("phase", phase, PHASES)
        self.kernel_initializer = initializer("kernel_initializer", kernel_initializer)
        self.feedback_initializer = initializer("feedback_initializer", feedback_initializer)
        self.seed = check.seed("seed", seed)
        self._draws = keras.random.SeedGenerator(self.seed)
        # Keras saves the state of a generator only if it is a weight.
        self.draws = self._draws.state
        layers = len(self.sizes) - 1
        self.synapses = [
            Synapses(
                units,
                # There is no target below the lowest layer, and the target of the output is the
                # label.
                tied=index in (0, layers - 1),
                kernel_initializer=fresh(self.kernel_initializer),
                feedback_initializer=fresh(self.feedback_initializer),
                feedback_trainable=self.inverse_rate > 0.0,
                dtype=self.working_dtype,
                name=f"synapses_{index + 1}",
            )
            for index, units in enumerate(self.sizes[1:])
        ]
        self.build((None, self.sizes[0]))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        if self.synapses[0].built:
            return
        for synapses, inputs in zip(self.synapses, self.sizes, strict=False):
            synapses.build((None, inputs))
        # The inverses of layers 2 to M - 1; each kernel is stored with the kernel that it inverts.
        self.inverse_biases = [
            self.add_weight(
                name=f"inverse_bias_{index + 2}",
                shape=(units,),
                initializer="zeros",
                trainable=self.inverse_rate > 0.0,
                dtype=self.working_dtype,
                autocast=False,
            )
            for index, units in enumerate(self.sizes[1:-2])
        ]
        self.built = True

    @property
    def phase(self) -> LearningPhase:
        """The weights that learn: `"both"`, `"forward"` or `"inverse"`."""
        return self._phase

    @phase.setter
    def phase(self, phase: LearningPhase) -> None:
        self._phase = check.one_of("phase", phase, PHASES)
        # The traced function belongs to the phase before.
        self.train_function = None

    def layer_rates(self) -> Sequence[float]:
        """Return the rates of forward weights and of inverses, if both learn."""
        both = self.inverse_biases and self.inverse_rate and self.phase == "both"
        return (1.0, self.inverse_rate) if both else ()

    def default_optimizer(self) -> Any:
        """Return `SGD(0.1)`."""
        return keras.optimizers.SGD(0.1)

    def free_phase(self, inputs: Tensor) -> States:
        """Return the rates of all hidden layers, and the scores."""
        rates, below = [], inputs
        for synapses in self.synapses[:-1]:
            below = self._rate(synapses.read().forward(below))
            rates.append(below)
        return (*rates, self.head.rate(self.synapses[-1].read().forward(below)))

    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the probabilities of the classes or labels, or the values."""
        return states[-1]

    def cost(self, targets: Tensor, scores: Tensor) -> Tensor:
        """Return the cross-entropy, the logistic losses, or half the squared distance."""
        return self.head.cost(targets, scores)

    def layer_targets(self, states: States, targets: Tensor) -> list[Tensor]:
        """Return the targets of all hidden layers, the lowest first.

        Args:
            states: The result of `free_phase`.
            targets: Rows `(batch, sizes[-1])`.
        """
        if len(states) == 1:
            return []
        slope = self.synapses[-1].read().backward(states[-1] - targets)
        found = [states[-2] - self.target_rate * slope]
        for k in reversed(range(len(states) - 2)):
            difference = self._inverse(k + 1, found[0]) - self._inverse(k + 1, states[k + 1])
            found.insert(0, states[k] + difference)
        return found

    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Compute the targets, and return the steps down the losses of the layers."""
        layers = (inputs, *states[:-1])
        found: list[tuple[Any, Tensor]] = []
        forward = float(self.phase != "inverse")
        errors = [
            2.0 * (target - rate) * self._slope(rate)
            for target, rate in zip(self.layer_targets(states, targets), states, strict=False)
        ]
        errors.append(targets - states[-1])
        for synapses, below, error in zip(self.synapses, layers, errors, strict=True):
            found.append((synapses.kernel, forward * correlate(below, error, share)))
            found.append((synapses.bias, forward * total(error, share)))
        if not self.inverse_rate:
            return found
        inverse = self.inverse_rate * float(self.phase != "forward")
        for k, bias in enumerate(self.inverse_biases, start=1):
            synapses = self.synapses[k]
            noisy = self._noisy(layers[k])
            above = self._rate(synapses.read().forward(noisy))
            guess = self._inverse(k, above)
            error = 2.0 * (noisy - guess) * self._slope(guess)
            found.append((synapses.feedback_kernel, inverse * correlate(error, above, share)))
            found.append((bias, inverse * total(error, share)))
        return found

    def _rate(self, field: Tensor) -> Tensor:
        return NEURONS[self.activation].rate(field)

    def _slope(self, rate: Tensor) -> Tensor:
        """Return the derivative of the activation function at the value `rate`."""
        return 1.0 - ops.square(rate) if self.activation == "tanh" else ops.ones_like(rate)

    def _inverse(self, index: int, above: Tensor) -> Tensor:
        """Return the rates below `synapses[index]` that the inverse predicts from those above."""
        bias = ops.stop_gradient(read(self.inverse_biases[index - 1]))
        return self._rate(self.synapses[index].read().backward(above) + bias)

    def _noisy(self, rates: Tensor) -> Tensor:
        if not self.noise:
            return rates
        noise = random_rows(
            ops.shape(rates), self.noise, dtype=self.working_dtype, seed=self._draws
        )
        return rates + noise

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "target_rate": self.target_rate,
            "noise": self.noise,
            "inverse_rate": self.inverse_rate,
            "activation": self.activation,
            "phase": self.phase,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "feedback_initializer": initializers.serialize(self.feedback_initializer),
            "seed": self.seed,
        }
