"""Equilibrium propagation in layered networks of dense connections."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.dynamics._neurons import NEURONS
from keras_local.dynamics.network import Changes, Network
from keras_local.dynamics.synapses import Synapses, Weights, correlate, fresh, total
from keras_local.ops import read, settle, trajectory
from keras_local.ops.backend import Tensor

NUDGINGS = ("one_sided", "random_sign", "centred")
_SIGNS = 1 << 14

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

    All units `s_k` of the layers `k = 1..L` see the layers below and above through the same
    weights, in the field

        u_k = s_{k-1} W_k + b_k + s_{k+1} W_{k+1}^T,    s_0 = inputs,

    and settle, by default in the form of Scellier and Bengio,

        s_k <- clip(s_k + step_size (u_k - s_k), 0, 1).

    This is gradient descent on an energy. In the free phase the output layer settles as well; in
    the nudged phase, which starts where the free phase ended, `nudge (y - s_L)` is added to its
    field, and the weights change by the difference of the two correlations:

        dW_k = (1 / nudge) < s_{k-1}^nudged s_k^nudged - s_{k-1}^free s_k^free >
        db_k = (1 / nudge) < s_k^nudged - s_k^free >.

    For a small nudge this is the gradient of `1/2 |s_L - y|^2` at the equilibrium of this recurrent
    network (not that of a feedforward network with the same weights). Local: each weight sees the
    activities of the two units that it connects, in both phases.

    Args:
        sizes: Number of inputs, of units of each hidden layer, and of classes.
        form: `"hopfield"` as above, or `"prototypical"`: `s_k <- f(u_k)`, with `activation` as `f`.
        activation: Of the prototypical form: `"steep_sigmoid"`, `1 / (1 + exp(-4 (u - 1/2)))`, the
            default; `"unit_clip"`, `clip(u, 0, 1)`; `"half_clip"`, `clip(u / 2, 0, 1)`; `"tanh"`.
        cost: `"mse"` as above, or `"cross_entropy"`: the classes are then no part of the states;
            their scores are `softmax(s_{L-1} W_L + b_L)`, and the nudge is down the gradient of the
            cross-entropy in the highest hidden layer.
        nudging: `"random_sign"`, a new sign of the nudge in each step; `"one_sided"`, always the
            positive; `"centred"`, both, each from the free state, with an error of second order in
            the nudge.
        nudge: Strength of the nudge, greater than 0, at most 1.
        free_steps: Steps of the free phase.
        nudged_steps: Steps of each nudged phase.
        step_size: Of the Hopfield form, greater than 0, at most 1.
        rate_factors: Factor of the learning rate of each weight layer, the lowest first. Optimizers
            that divide by the size of the gradient erase them; `compile` warns.
        feedback: `"tied"` as above, or `"separate"`: each layer above the lowest is seen by the one
            below through weights of its own, which receive the same changes; weight decay makes
            the two agree.
        kernel_initializer: Law of the initial weights.
        seed: Of the random signs.
        **kwargs: `name`, `dtype`.

    Input shape: `(batch, sizes[0])`; inputs from 0 to 1 suit the Hopfield form. Output shape:
    `(batch, sizes[-1])`.

    Raises:
        ValueError: If an argument is out of range or unknown, or the classes have no hidden layer
            below them with `cost="cross_entropy"`.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.EquilibriumNetwork([4, 8, 3])
    >>> network.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    >>> history = network.fit(np.eye(4), np.array([0, 1, 2, 0]), verbose=0)
    >>> network.predict(np.eye(4), verbose=0).shape
    (4, 3)

    Source: Scellier & Bengio 2017, "Equilibrium propagation: bridging the gap between energy-based
    models and backpropagation"; the prototypical form and centred nudging, Ernoult et al. 2019 and
    Laborieux et al. 2021, "Scaling equilibrium propagation to deep ConvNets by drastically reducing
    its gradient estimator bias".
    """

    remedy = "a smaller `step_size`, a smaller learning rate, or smaller initial weights"

    def __init__(
        self,
        sizes: Sequence[int],
        form: str = "hopfield",
        activation: str | None = None,
        cost: str = "mse",
        nudging: str = "random_sign",
        nudge: float = 0.5,
        free_steps: int = 20,
        nudged_steps: int = 4,
        step_size: float = 0.5,
        rate_factors: Sequence[float] | None = None,
        feedback: str = "tied",
        kernel_initializer: Any = "glorot_uniform",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check.one_of("form", form, ("hopfield", "prototypical"))
        if form == "hopfield":
            allowed = 'None with form="hopfield", whose rates are clipped from 0 to 1'
            check.require(activation is None, "activation", allowed, activation)
        else:
            activation = "steep_sigmoid" if activation is None else activation
            check.one_of("activation", activation, tuple(NEURONS))
        check.one_of("cost", cost, ("mse", "cross_entropy"))
        check.one_of("nudging", nudging, NUDGINGS)
        check.one_of("feedback", feedback, ("tied", "separate"))
        nudge = check.real("nudge", nudge, minimum=0.0, maximum=1.0, exclusive=True)
        free_steps = check.positive_integer("free_steps", free_steps)
        nudged_steps = check.positive_integer("nudged_steps", nudged_steps)
        step_size = check.real("step_size", step_size, minimum=0.0, maximum=1.0, exclusive=True)
        seed = check.positive_integer("seed", seed, minimum=0)
        super().__init__(sizes, **kwargs)
        layers = len(self.sizes) - 1
        allowed = 'at least one hidden layer with cost="cross_entropy"'
        check.require(cost == "mse" or layers > 1, "sizes", allowed, sizes)
        factors = (1.0,) * layers if rate_factors is None else tuple(rate_factors)
        allowed = f"{layers} factors, one for each weight layer"
        check.require(len(factors) == layers, "rate_factors", allowed, rate_factors)
        self.form = form
        self.activation = activation
        self.cost_name = cost
        self.nudging = nudging
        self.nudge = nudge
        self.free_steps = free_steps
        self.nudged_steps = nudged_steps
        self.step_size = step_size
        self.rate_factors = tuple(check.real("rate_factors", f, minimum=0.0) for f in factors)
        self.feedback = feedback
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.seed = seed
        self.neuron = NEURONS["unit_clip" if activation is None else activation]
        self.synapses = [
            Synapses(
                units,
                tied=feedback == "tied" or index == 0,
                kernel_initializer=fresh(self.kernel_initializer),
                feedback_initializer=fresh(self.kernel_initializer),
                dtype=self.working_dtype,
                name=f"synapses_{index + 1}",
            )
            for index, units in enumerate(self.sizes[1:])
        ]
        self.build((None, self.sizes[0]))

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> EquilibriumNetwork:
        """Return one of Scellier and Bengio's networks for MNIST.

        | name                   | free steps | nudged steps | nudge | rates                 |
        |------------------------|------------|--------------|-------|-----------------------|
        | `"784-500-10"`         | 20         | 4            | 0.5   | .1 .05                |
        | `"784-500-500-10"`     | 150        | 6            | 1     | .4 .1 .01             |
        | `"784-500-500-500-10"` | 500        | 8            | 1     | .128 .032 .008 .002   |

        with `step_size` 0.5 and a random sign; the rates are `rate_factors`, so compile with
        `keras.optimizers.SGD(1.0)`. Published with batches of 20, for 25, 60 and 500 epochs.

        Args:
            name: One of the names above.
            **overrides: Arguments of the constructor that shall be others.

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
        self.nudge_count = self.add_weight(
            name="nudge_count",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )
        self.built = True

    def check_optimizer(self, optimizer: Any) -> None:
        """Warn of an optimizer that erases the factors of the layers."""
        erased = self.erased_rates(optimizer, self.rate_factors)
        if erased:
            warnings.warn(f"`rate_factors` have no effect: {erased}.", stacklevel=3)

    def free_phase(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the rates of all layers of units after `free_steps` from zero."""
        return settle(*self._free(inputs), self.free_steps)  # type: ignore[no-any-return]

    def scores(self, inputs: Tensor, states: tuple[Tensor, ...]) -> Tensor:
        """Return the rates of the output layer, or the softmax above the states."""
        if self.cost_name == "mse":
            return states[-1]
        return ops.softmax(self.synapses[-1].read().forward(states[-1]))

    def cost(self, targets: Tensor, scores: Tensor) -> Tensor:
        """Return half the squared distance, or the cross-entropy, of each sample."""
        if self.cost_name == "mse":
            return super().cost(targets, scores)
        return -ops.sum(targets * ops.log(ops.maximum(scores, 1e-7)), axis=-1)

    def changes(
        self, inputs: Tensor, targets: Tensor, states: tuple[Tensor, ...], share: Tensor
    ) -> Changes:
        """Nudge the states, and return the contrast of the correlations."""
        phases, counts = self._phases(inputs, targets, states)
        size = ops.shape(share)[0]
        shares = ops.reshape(counts[:, None] * share, (-1,))
        found: list[tuple[Any, Tensor]] = []
        for index, (synapses, factor) in enumerate(
            zip(self.synapses, self.rate_factors, strict=True)
        ):
            if index == len(phases):
                # Above the states: the gradient of the cross-entropy itself.
                error = targets - self.scores(inputs, states)
                kernel = factor * correlate(states[-1], error, share)
                bias = factor * total(error, share)
            elif index == 0:
                # The inputs are the same in all phases: one product does.
                post = factor * phases[0] * shares[:, None]
                post = ops.sum(ops.reshape(post, (-1, size, self.sizes[1])), axis=0)
                kernel = correlate(inputs, post, ops.ones_like(share))
                bias = ops.sum(post, axis=0)
            else:
                kernel = correlate(phases[index - 1], phases[index], factor * shares)
                bias = total(phases[index], factor * shares)
            found += [(synapses.kernel, kernel), (synapses.bias, bias)]
            if synapses.feedback_kernel is not None:
                found.append((synapses.feedback_kernel, kernel))
        return found

    def energy(self, inputs: Any, states: tuple[Tensor, ...]) -> Tensor | None:
        """Return `sum G(s) - sum_k s_k (s_{k-1} W_k + b_k)` of each sample; None if not tied.

        `G(s)` is `s^2 / 2` in the Hopfield form, and else the potential with `f(G'(s)) = s`.
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
        """Return the rates of each layer over the free phase; with labels, and the nudged one."""
        inputs = self._prepared(inputs)
        step, start = self._free(inputs)
        free = trajectory(step, start, self.free_steps)
        if labels is None:
            return list(free)
        targets = self._targets(labels)
        strength = ops.cast(self.nudge, self.working_dtype)
        step = self._step(self._read(), inputs, targets, strength)
        nudged = trajectory(step, tuple(layer[-1] for layer in free), self.nudged_steps)
        pairs = zip(free, nudged, strict=True)
        return [ops.concatenate([before, after[1:]], axis=0) for before, after in pairs]

    def _read(self) -> list[Weights]:
        return [synapses.read() for synapses in self.synapses]

    def _free(self, inputs: Tensor) -> tuple[Any, tuple[Tensor, ...]]:
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
        drive = weights[0].forward(inputs)  # Does not change while the states settle.

        def pull(states: Tensor) -> Tensor:
            if self.cost_name == "mse":
                return targets - states
            error = targets - ops.softmax(weights[-1].forward(states))
            return weights[-1].backward(error)

        def step(states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
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

    def _phases(
        self, inputs: Tensor, targets: Tensor, states: tuple[Tensor, ...]
    ) -> tuple[list[Tensor], Tensor]:
        """Return the states of the phases, one batch behind the other, and what each counts."""
        weights = self._read()
        if self.nudging == "centred":
            # Both signs at once, as one batch of twice the size.
            signs = ops.concatenate([ops.ones_like(targets[:, :1]), -ops.ones_like(targets[:, :1])])
            step = self._step(weights, _twice(inputs), _twice(targets), self.nudge * signs)
            phases = settle(step, tuple(map(_twice, states)), self.nudged_steps)
            return list(phases), self._counts(0.5 / self.nudge)
        strength = self.nudge * self._sign()
        nudged = settle(self._step(weights, inputs, targets, strength), states, self.nudged_steps)
        pairs = zip(nudged, states, strict=True)
        return [ops.concatenate(pair) for pair in pairs], self._counts(1.0 / strength)

    def _counts(self, count: Any) -> Tensor:
        return count * ops.cast([1.0, -1.0], self.working_dtype)

    def _sign(self) -> Tensor:
        """Return the sign of the nudge in this step: a table, so that training can be resumed."""
        if self.nudging == "one_sided":
            return ops.ones((), self.working_dtype)
        table = np.random.default_rng(self.seed).choice([-1.0, 1.0], _SIGNS)
        count = read(self.nudge_count)
        sign = ops.take(ops.cast(table, self.working_dtype), ops.mod(count, _SIGNS))
        self.nudge_count.assign(ops.mod(count + 1, _SIGNS))
        return sign

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
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "seed": self.seed,
        }


def _twice(tensor: Tensor) -> Tensor:
    return ops.concatenate([tensor, tensor])
