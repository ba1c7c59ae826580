"""Iterative temporal differencing: errors of this batch minus those of the last batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike, Targets
from keras_local.dynamics._arguments import NONE_REFUSED, initializer
from keras_local.dynamics._error_rules import RULES, Arrival
from keras_local.dynamics._outputs import OUTPUTS, squared
from keras_local.dynamics.network import Changes, Network
from keras_local.dynamics.synapses import Synapses, correlate, fresh
from keras_local.ops import read, replica_count, replica_index, replica_rows
from keras_local.ops.backend import Tensor

States = tuple[Tensor, ...]


@serializable
class TemporalDifferenceNetwork(Network):
    """Network that learns by iterative temporal differencing (ITD), or by rules for comparison.

    The network is feedforward, with hyperbolic tangents and a softmax. Let `e_t` be its error in
    this batch, `(softmax - one-hot) / samples`, and `e_{t-1}` the error of the last batch, row by
    row. Both are sent down through fixed random weights `B_k`, and every layer takes the
    difference:

        d <- e_t;  p <- e_{t-1};  g_n = d
        for k = n-1..1:  d <- d B_{k+1}^T;  p <- p B_{k+1}^T;  d <- d - p;  g_k = d
        dW_k = - h_{k-1}^T g_k,    db_k = - sum over rows of g_k.

    Therefore `g_k = (e_t - j e_{t-1}) B_n^T ... B_{k+1}^T`, `j = n - k` layers below the output.
    The derivative of the tangent is not used. Row `i` of `e_{t-1}` belongs to another sample than
    row `i` of `e_t`: the rule is feedback alignment without derivatives plus a term that is noise.
    It does not estimate the derivative.

    Local: each weight sees the presynaptic rate and an error that comes through separate weights,
    but the last error has to be remembered.

    Args:
        sizes: Number of inputs, of units of each hidden layer, and of outputs.
        cost: `"mce"`, cross-entropy, or `"lse"`, half the squared distance. Both learn from the
            same `e`, without the derivative of the softmax; with `"lse"` the difference is taken in
            the output layer as well. For labels, with a sigmoid, `"mce"` is the sum of logistic
            losses; for values, with linear outputs, both are half the squared distance.
        rule: `"error_difference"` as above and as published. Earlier trials of the author are
            `"error_product"`, `d <- d (d - p)` in place of `d - p`, and `"activation_product"`,
            `d <- d (h_t - h_{t-1})`. For comparison there are `"feedback_alignment"`,
            `d <- d (1 - h^2)`; `"linear_feedback_alignment"`, `d <- d`; `"backprop"`, with `W` in
            place of `B`; and `"frozen"`, in which hidden layers do not learn.
        batch_size: How many rows are remembered. Further rows have no memory.
        kernel_initializer: Initializer of `W` and `B`. By default uniform up to
            `sqrt(2 / inputs of a unit)`.
        targets: `"classes"`, `"labels"` or `"values"`; see `Network`.
        name: Name of the network.
        dtype: As for `EquilibriumNetwork`.
        trainable: Whether the network learns; if not, training changes nothing.

    Input shape: `(batch, sizes[0])`, preferably with the mean of each input subtracted. Output
    shape: `(batch, sizes[-1])`. The published setting is `[784, 32, 32, 32, 10]`,
    `keras.optimizers.SGD(0.01)`, batches of 100, 5000 batches.

    Raises:
        ValueError: If an argument is out of range or unknown, or there is no hidden layer.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.TemporalDifferenceNetwork([4, 8, 3], batch_size=4)
    >>> network.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    >>> history = network.fit(np.eye(4), np.array([0, 1, 2, 0]), verbose=0)
    >>> network.predict(np.eye(4), verbose=0).shape
    (4, 3)

    Source: Dargazany 2018, "Iterative temporal differencing with fixed random feedback alignment
    support spike-time dependent plasticity in vanilla backpropagation for deep learning", and the
    author's notebooks, which show which signals are subtracted.
    """

    refused_targets = NONE_REFUSED

    def __init__(
        self,
        sizes: Sequence[int],
        cost: Literal["mce", "lse"] = "mce",
        rule: Literal[
            "error_difference",
            "error_product",
            "activation_product",
            "feedback_alignment",
            "linear_feedback_alignment",
            "backprop",
            "frozen",
        ] = "error_difference",
        batch_size: int = 100,
        kernel_initializer: InitializerLike | None = None,
        *,
        targets: Targets = "classes",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(sizes, targets=targets, name=name, dtype=dtype, trainable=trainable)
        check.require(len(self.sizes) > 2, "sizes", "at least three sizes", sizes)
        self.head = OUTPUTS[self.targets]
        self.cost_name = check.one_of("cost", cost, ("mce", "lse"))
        self.rule = check.one_of("rule", rule, tuple(RULES))
        self._rule = RULES[rule]
        self.batch_size = check.positive_integer("batch_size", batch_size)
        uniform = initializers.VarianceScaling(2 / 3, "fan_in", "uniform")
        self.kernel_initializer = initializer("kernel_initializer", kernel_initializer, uniform)
        self.synapses = [
            Synapses(
                units,
                # There is nothing below the lowest layer that receives an error.
                tied=index == 0 or self._rule.tied,
                feedback_trainable=False,
                kernel_initializer=fresh(self.kernel_initializer),
                feedback_initializer=fresh(self.kernel_initializer),
                trainable=self._rule.signal is not None or index == len(self.sizes) - 2,
                dtype=self.working_dtype,
                name=f"synapses_{index + 1}",
            )
            for index, units in enumerate(self.sizes[1:])
        ]
        self.build((None, self.sizes[0]))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights, and the memory of the last batch."""
        if self.synapses[0].built:
            return
        for synapses, inputs in zip(self.synapses, self.sizes, strict=False):
            synapses.build((None, inputs))
        remembered: dict[str, int] = {}
        if self._rule.remembers == "error":
            remembered = {"last_error": self.sizes[-1]}
        elif self._rule.remembers == "rates":
            hidden = enumerate(self.sizes[1:-1])
            remembered = {f"last_activity_{k + 1}": units for k, units in hidden}
        self.memory = [
            keras.Variable(
                "zeros",
                (self.batch_size, units),
                name=name,
                trainable=False,
                dtype=self.working_dtype,
                autocast=False,
                # All replicas assign the rows of all of them, each to its own copy.
                synchronization="on_read",
                aggregation="only_first_replica",
            )
            for name, units in remembered.items()
        ]
        self.built = True

    def forget(self) -> None:
        """Set the memory of the last batch to zero."""
        for memory in self.memory:
            memory.assign(ops.zeros(memory.shape, memory.dtype))

    def default_optimizer(self) -> Any:
        """Return `SGD(0.2)`; of values, which may be far from the outputs, `SGD(0.02)`."""
        return keras.optimizers.SGD(0.02 if self.targets == "values" else 0.2)

    def free_phase(self, inputs: Tensor) -> States:
        """Return the activities of all hidden layers, and the scores."""
        layers, below = [], inputs
        for synapses in self.synapses[:-1]:
            below = ops.tanh(synapses.read().forward(below))
            layers.append(below)
        return (*layers, self.head.rate(self.synapses[-1].read().forward(below)))

    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the probabilities of the classes or labels, or the values."""
        return states[-1]

    def cost(self, targets: Tensor, scores: Tensor) -> Tensor:
        """Return the cross-entropy, or half the squared distance, of each sample."""
        if self.cost_name == "lse":
            return squared(targets, scores)
        return self.head.cost(targets, scores)

    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Send the errors down, store them, and return the changes."""
        layers = (inputs, *states[:-1])
        error = (states[-1] - targets) * share[:, None]
        now = states[:-1] if self._rule.remembers == "rates" else (error,)
        last = [self._recall(memory, new) for memory, new in zip(self.memory, now, strict=False)]
        self._remember(now)
        signals = self._sent_down(error, layers, last)
        found: list[tuple[Any, Tensor]] = []
        ones = ops.ones_like(share)  # The errors contain the shares.
        learning = list(zip(self.synapses, layers, strict=True))[-len(signals) :]
        for (synapses, below), signal in zip(learning, signals, strict=True):
            found.append((synapses.kernel, -correlate(below, signal, ones)))
            found.append((synapses.bias, -ops.sum(signal, axis=0)))
        return found

    def _sent_down(
        self, error: Tensor, layers: Sequence[Tensor], last: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the signal of each layer that learns, the lowest first."""
        previous = last[0] if self._rule.remembers == "error" else None
        signal = error
        if self._rule.at_outputs is not None and self.cost_name == "lse":
            signal = self._rule.at_outputs(error, previous)
        signals = [signal]
        if self._rule.signal is None:
            return signals
        for k in reversed(range(1, len(layers))):
            weights = self.synapses[k].read()
            signal = weights.backward(signal)
            if previous is not None:
                previous = weights.backward(previous)
            last_rate = last[k - 1] if self._rule.remembers == "rates" else None
            signal = self._rule.signal(Arrival(signal, previous, layers[k], last_rate))
            signals.insert(0, signal)
        return signals

    def _rows(self, tensor: Tensor) -> tuple[Any, Any]:
        """Return how many rows of a batch are remembered, and how many are not."""
        size = ops.shape(tensor)[0]
        if isinstance(size, int):
            return min(size, self.batch_size), max(size - self.batch_size, 0)
        kept = ops.minimum(size, self.batch_size)
        return kept, size - kept

    def _recall(self, memory: Any, like: Tensor) -> Tensor:
        """Return the rows of the last batch at the positions of the rows of this batch."""
        if replica_count() == 1:
            kept, beyond = self._rows(like)
            rest = ops.zeros((beyond, memory.shape[1]), memory.dtype)
            return ops.concatenate([read(memory)[:kept], rest], axis=0)
        samples = ops.shape(like)[0]
        rows = ops.cast(replica_index(), "int32") * samples + ops.arange(samples, dtype="int32")
        known = ops.take(read(memory), ops.minimum(rows, self.batch_size - 1), axis=0)
        return ops.where(rows[:, None] < self.batch_size, known, ops.zeros_like(known))

    def _remember(self, tensors: Sequence[Tensor]) -> None:
        for memory, tensor in zip(self.memory, tensors, strict=False):
            # Replicas remember all rows, as one device does, so that a file holds them all.
            rows = replica_rows(tensor)
            kept, _ = self._rows(rows)
            rest = ops.zeros((self.batch_size - kept, memory.shape[1]), memory.dtype)
            memory.assign(ops.concatenate([rows[:kept], rest], axis=0))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "cost": self.cost_name,
            "rule": self.rule,
            "batch_size": self.batch_size,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
        }
