"""Local backpropagation: rates minimise an energy of prediction errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import keras
import numpy as np
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._targets import least_outputs
from keras_local._types import DType, Targets
from keras_local.dynamics._arguments import NONE_REFUSED, check_steps
from keras_local.dynamics.network import Changes, Network
from keras_local.dynamics.synapses import Synapses, Weights, correlate, total
from keras_local.ops import read, settle, trajectory
from keras_local.ops.backend import Tensor

States = tuple[Tensor, ...]
ACTIVATIONS = ("relu", "resu", "linear")


@serializable
class LocalBackpropNetwork(Network):
    """Network of principal and error units that learns by Baserdem's local backpropagation.

    Layer `b = 1..L` has principal units with potential `X_b` and rate `F_b`. Between the layers,
    and at both ends, there are error units `D_1..D_{L+1}` without dynamics of their own:

        F_b = f(X_b - B_b)
        D_1 = x - F_1 W_1^T,    D_b = F_{b-1} A_{b-1} - F_b W_b^T,    D_{L+1} = F_L A_L - y
        dX_b/dt = D_b W_b - D_{b+1} A_b^T - (X_b + B_b) / tau.

    With labels, Euler steps start at `X = 0` and run for `simulation_time`; then

        dW_b = < D_b F_b >,    dA_b = - < F_b D_{b+1} >,    dB_b = < dX_b/dt >.

    Without labels, `D_{L+1}` does not act on `X_L`; `F_L A_L` are the class scores. There is no
    derivative of `f`: the rates descend the energy `E = 1/2 sum_b |D_b|^2`, and at rest `dW` and
    `dA` are its exact negative gradients. This is backpropagation only in limits that
    `docs/networks/local_backprop.md` lists; with rectified units and equal precisions it is not.

    Local: each weight sees a principal and an error unit, each threshold its own unit.

    Args:
        sizes: Number of inputs, and of principal units of each layer.
        error_sizes: Number of error units above each layer; the last is the number of classes. By
            default each is the size of the layer itself. Other numbers need `fix_A=None` (or,
            except for the last, `fix_A="last"`).
        activation: `"relu"`, `max(0, steepness u)`; `"resu"`, the same up to `steepness`;
            `"linear"`, `steepness u`.
        steepness: Slope of the activation.
        tau: Time constant of the leak; None or infinity for no leak.
        simulation_time: How long each phase lasts.
        time_step: Step of Euler's method; there are `floor(simulation_time / time_step) + 1`
            evaluations.
        fix_A: `"all"`: every `A` is the identity; `"last"`: the last `A` is the identity, and the
            others are random and fixed; None: all are random at first and learn.
        fix_W: Whether every `W` is the identity, for networks that map the inputs to the labels by
            `A` alone.
        learn_bias: Whether the thresholds `B` learn.
        block_feedback: Whether `D_{L+1}` does not act on the highest layer without labels. If it
            does, it pulls the layer towards zero.
        precision: Factor of the energy of each population of error units; 1 by default.
        gated: An extension, not Baserdem's: `D_b = relu(F_{b-1} A_{b-1}) - F_b` for `b = 2..L`, and
            an error returns only where the relu is active. Needs `fix_W`.
        init_scale: Variance of the initial weights, times `steepness` times the number of units at
            both ends.
        targets: `"classes"`, `"labels"` or `"values"`; see `Network`. `D_{L+1}` is the difference
            in all of them, so scores of labels are not confined to 0 and 1. Values should have mean
            0, because no threshold learns a mean. Unless the last `A` learns, they have to be in
            the range of the rates; they are learned best with `fix_W=True` and `fix_A=None`.
        name: Name of the network.
        dtype: As for `EquilibriumNetwork`.
        trainable: Whether the network learns; if not, training changes nothing.

    Input shape: `(batch, sizes[0])`, preferably with mean 0 and variance 1. Output shape:
    `(batch, classes)`. The defaults are those of the slides. Their learning rate of 5e-8 for the
    sum over 60,000 images is 3e-3 here, for the mean with all images in one batch.

    Raises:
        ValueError: If an argument is out of range or unknown, or sizes do not allow an identity.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.LocalBackpropNetwork([4, 3], simulation_time=0.5)
    >>> network.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    >>> history = network.fit(np.eye(4), np.array([0, 1, 2, 0]), verbose=0)
    >>> network.predict(np.eye(4), verbose=0).shape
    (4, 3)

    Source: B. Baserdem 2017, "Hebbian equivalence of backpropagation" (slides, Koulakov laboratory)
    and the simulator that drew them; unpublished otherwise.
    """

    refused_targets = NONE_REFUSED
    remedy = "a smaller `time_step`, a smaller `steepness`, or a smaller learning rate"

    def __init__(
        self,
        sizes: Sequence[int],
        error_sizes: Sequence[int] | None = None,
        activation: Literal["relu", "resu", "linear"] = "relu",
        steepness: float = 10.0,
        tau: float | None = 1.0,
        simulation_time: float = 2.0,
        time_step: float = 0.007,
        fix_A: Literal["all", "last"] | None = "all",
        fix_W: bool = False,
        learn_bias: bool = True,
        block_feedback: bool = True,
        precision: Sequence[float] | None = None,
        gated: bool = False,
        init_scale: float = 0.1,
        *,
        targets: Targets = "classes",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(sizes, targets=targets, name=name, dtype=dtype, trainable=trainable)
        self.activation = check.one_of("activation", activation, ACTIVATIONS)
        self.steepness = check.real("steepness", steepness, minimum=0.0, exclusive=True)
        self.tau = None
        if tau is not None and not _is_infinite(tau):
            self.tau = check.real("tau", tau, minimum=0.0, exclusive=True)
        self.simulation_time = check.real("simulation_time", simulation_time, minimum=0.0)
        self.time_step = check.real("time_step", time_step, minimum=0.0, exclusive=True)
        check_steps(self.simulation_time, self.time_step)
        self.fix_A = check.one_of("fix_A", fix_A, ("all", "last", None))
        self.fix_W = check.flag("fix_W", fix_W)
        self.learn_bias = check.flag("learn_bias", learn_bias)
        self.block_feedback = check.flag("block_feedback", block_feedback)
        self.gated = check.flag("gated", gated)
        check.require(self.fix_W or not self.gated, "gated", "False unless fix_W=True", gated)
        self.init_scale = check.real("init_scale", init_scale, minimum=0.0)
        self.error_sizes = self._checked_error_sizes(error_sizes)
        self.classes = check.positive_integer(
            "error_sizes", self.error_sizes[-1], minimum=least_outputs(self.targets)
        )
        below = (self.sizes[0], *self.error_sizes[:-1])
        allowed = f"the numbers of error units below, {below}, with fix_W=True"
        check.require(not self.fix_W or self.sizes[1:] == below, "sizes", allowed, sizes)
        self.precision = check.factors("precision", precision, len(self.sizes))
        self._make_synapses(below)
        self.build((None, self.sizes[0]))

    def _checked_error_sizes(self, error_sizes: Any) -> tuple[int, ...]:
        """Return the numbers of error units above each layer; None means those of the layers."""
        units = self.sizes[1:]
        given = units if error_sizes is None else error_sizes
        valid = isinstance(given, (list, tuple)) and len(given) == len(units)
        check.require(valid, "error_sizes", f"{len(units)} sizes, one for each layer", error_sizes)
        above = tuple(check.positive_integer("error_sizes", size) for size in given)
        identities = {"all": above, "last": above[-1:], None: ()}[self.fix_A]
        fitting = identities == units[len(units) - len(identities) :]
        allowed = f"equal to the sizes of the layers where `A` is the identity, {units}"
        check.require(fitting, "error_sizes", allowed, error_sizes)
        return above

    def _make_synapses(self, below: tuple[int, ...]) -> None:
        """Create `W` and `A` of each layer; None represents the identity."""
        units, top = self.sizes[1:], len(self.sizes) - 2
        self.inward = [
            None if self.fix_W else self._synapses(errors, count, f"W_{index + 1}")
            for index, (errors, count) in enumerate(zip(below, units, strict=True))
        ]
        identical = [
            self.fix_A == "all" or (self.fix_A == "last" and index == top)
            for index in range(top + 1)
        ]
        self.upward = [
            None if identity else self._synapses(count, errors, f"A_{index + 1}", not self.fix_A)
            for index, (count, errors, identity) in enumerate(
                zip(units, self.error_sizes, identical, strict=True)
            )
        ]

    def _synapses(self, inputs: int, units: int, name: str, trainable: bool = True) -> Synapses:
        deviation = math.sqrt(self.init_scale / (self.steepness * (inputs + units)))
        return Synapses(
            units,
            use_bias=False,
            kernel_initializer=initializers.RandomNormal(stddev=deviation),
            trainable=trainable,
            dtype=self.working_dtype,
            name=name,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        if hasattr(self, "thresholds"):
            return
        below = (self.sizes[0], *self.error_sizes[:-1])
        for synapses, inputs in zip(self.inward, below, strict=True):
            if synapses is not None:
                synapses.build((None, inputs))
        for synapses, inputs in zip(self.upward, self.sizes[1:], strict=True):
            if synapses is not None:
                synapses.build((None, inputs))
        self.thresholds = [
            self.add_weight(
                name=f"B_{index + 1}",
                shape=(units,),
                initializer="zeros",
                trainable=self.learn_bias,
                dtype=self.working_dtype,
                autocast=False,
            )
            for index, units in enumerate(self.sizes[1:])
        ]
        self.built = True

    @property
    def steps(self) -> int:
        """The number of evaluations of the dynamics in a phase."""
        return math.floor(self.simulation_time / self.time_step + 1e-9) + 1

    @property
    def value_range(self) -> tuple[float, float]:
        """The range of the rates of the highest layer, or all values if the last `A` learns."""
        if self.upward[-1] is not None or self.activation == "linear":
            return -math.inf, math.inf
        return 0.0, math.inf if self.activation == "relu" else self.steepness

    def default_optimizer(self) -> Any:
        """Return `SGD(0.1)`."""
        return keras.optimizers.SGD(0.1)

    def free_phase(self, inputs: Tensor) -> States:
        """Return the potentials of all layers at the last evaluation, without labels."""
        return settle(*self._phase(inputs), self.steps - 1)  # type: ignore[no-any-return]

    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return `F_L A_L`."""
        top = self._rates(states)[-1]
        return _forward(self._read()[1][-1], top)

    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Settle with labels, and return the products of the rates of both kinds of units."""
        potentials = settle(*self._phase(inputs, targets), self.steps - 1)
        rates = self._rates(potentials)
        errors, gates = self._errors(inputs, rates, targets)
        weighed = [p * error for p, error in zip(self.precision, errors, strict=True)]
        found: list[tuple[Any, Tensor]] = []
        for index, rate in enumerate(rates):
            inward, upward = self.inward[index], self.upward[index]
            if inward is not None:
                found.append((inward.kernel, correlate(weighed[index], rate, share)))
            if upward is not None and self.fix_A is None:
                gated = _masked(weighed[index + 1], gates[index])
                found.append((upward.kernel, -correlate(rate, gated, share)))
        if self.learn_bias:
            drifts = self._flow(inputs, targets)(potentials)
            pairs = zip(self.thresholds, drifts, strict=True)
            found += [(threshold, total(drift, share)) for threshold, drift in pairs]
        return found

    def errors(self, inputs: Any, states: States, labels: Any = None) -> list[Tensor]:
        """Return the error units `D_1..D_{L+1}` that belong to potentials.

        Args:
            inputs: Samples `(batch, sizes[0])`.
            states: Potentials of all layers, as `trajectories` or `free_phase` return them.
            labels: Labels of the samples; without labels, `y` is zero.
        """
        targets = None if labels is None else self._targets(labels)
        return self._errors(self._prepared(inputs), self._rates(states), targets)[0]

    def energy(self, inputs: Any, states: States) -> Tensor | None:
        """Return the energy of the free phase of each sample; None if gated.

        It is the sum of `1/2 sum_b |D_b|^2`, without `D_{L+1}` if it is blocked, and of
        `sum_b (F_b^2 / (2 steepness) + 2 B_b F_b) / tau` for the leak.
        """
        if self.gated:
            return None
        rates = self._rates(states)
        errors, _ = self._errors(self._prepared(inputs), rates, None)
        counted = errors[:-1] if self.block_feedback else errors
        weighed = zip(self.precision, counted, strict=False)
        energy = sum(0.5 * p * ops.sum(ops.square(error), axis=-1) for p, error in weighed)
        if self.tau is not None:
            for rate, threshold in zip(rates, self.thresholds, strict=True):
                cost = ops.square(rate) / (2.0 * self.steepness) + 2.0 * read(threshold) * rate
                energy = energy + ops.sum(cost, axis=-1) / self.tau
        return energy

    def trajectories(self, inputs: Any, labels: Any = None) -> list[Tensor]:
        """Return the potentials of each layer over the free phase or, with labels, over that."""
        targets = None if labels is None else self._targets(labels)
        step, start = self._phase(self._prepared(inputs), targets)
        return list(trajectory(step, start, self.steps - 1))

    def instability(self) -> str | None:
        """Return a warning if Euler's steps cannot settle: step times curvature is 2 or more."""
        if self.gated:
            return None
        number = self.time_step * (self.steepness * self._curvature())
        number += 0.0 if self.tau is None else self.time_step / self.tau
        if number < 2.0:
            return None
        return (
            "time_step (steepness lambda + 1 / tau), lambda the largest curvature of the energy, "
            f"is {number:.3g}; Euler's method oscillates from 2 on"
        )

    def _curvature(self) -> float:
        """Return the largest eigenvalue of the second derivative of the energy by the rates."""
        units = self.sizes[1:]
        ends = np.cumsum((0, *units))
        hessian = np.zeros((ends[-1], ends[-1]))
        spans = [slice(a, b) for a, b in pairwise(ends)]
        inward = [_matrix(synapses, n) for synapses, n in zip(self.inward, units, strict=True)]
        upward = [_matrix(synapses, n) for synapses, n in zip(self.upward, units, strict=True)]
        for index, span in enumerate(spans):
            hessian[span, span] += self.precision[index] * inward[index].T @ inward[index]
            hessian[span, span] += self.precision[index + 1] * upward[index] @ upward[index].T
            if index:
                below = spans[index - 1]
                mixed = -self.precision[index] * upward[index - 1] @ inward[index]
                hessian[below, span], hessian[span, below] = mixed, mixed.T
        finite = np.isfinite(hessian).all()
        return float(np.linalg.eigvalsh(hessian)[-1]) if finite else math.inf

    def _read(self) -> tuple[list[Weights | None], list[Weights | None]]:
        inward = [None if each is None else each.read() for each in self.inward]
        upward = [None if each is None else each.read() for each in self.upward]
        return inward, upward

    def _rates(self, potentials: States) -> list[Tensor]:
        rates = []
        for potential, threshold in zip(potentials, self.thresholds, strict=True):
            rate = self.steepness * (potential - ops.stop_gradient(read(threshold)))
            if self.activation == "relu":
                rate = ops.relu(rate)
            elif self.activation == "resu":
                rate = ops.clip(rate, 0.0, self.steepness)
            rates.append(rate)
        return rates

    def _errors(
        self, inputs: Tensor, rates: list[Tensor], targets: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Return the error units, and the errors above each layer that may return."""
        inward, upward = self._read()
        errors, gates, predicted = [], [], inputs
        for index, rate in enumerate(rates):
            errors.append(predicted - _backward(inward[index], rate))
            predicted, gate = _forward(upward[index], rate), None
            if self.gated and index + 1 < len(rates):
                gate = ops.cast(predicted > 0, predicted.dtype)
                predicted = ops.relu(predicted)
            gates.append(gate)
        errors.append(predicted if targets is None else predicted - targets)
        return errors, gates

    def _flow(self, inputs: Tensor, targets: Tensor | None) -> Callable[[States], list[Tensor]]:
        """Return the function from potentials to their derivatives in time."""
        inward, upward = self._read()
        blocked = targets is None and self.block_feedback

        def flow(potentials: States) -> list[Tensor]:
            rates = self._rates(potentials)
            errors, gates = self._errors(inputs, rates, targets)
            weighed = [p * error for p, error in zip(self.precision, errors, strict=True)]
            drifts = []
            for index, potential in enumerate(potentials):
                drift = _forward(inward[index], weighed[index])
                if index + 1 < len(potentials) or not blocked:
                    above = _masked(weighed[index + 1], gates[index])
                    drift = drift - _backward(upward[index], above)
                if self.tau is not None:
                    threshold = ops.stop_gradient(read(self.thresholds[index]))
                    drift = drift - (potential + threshold) / self.tau
                drifts.append(drift)
            return drifts

        return flow

    def _phase(
        self, inputs: Tensor, targets: Tensor | None = None
    ) -> tuple[Callable[[States], States], States]:
        flow = self._flow(inputs, targets)
        size = ops.shape(inputs)[0]
        start = tuple(ops.zeros((size, units), self.working_dtype) for units in self.sizes[1:])

        def step(potentials: States) -> States:
            pairs = zip(potentials, flow(potentials), strict=True)
            return tuple(potential + self.time_step * drift for potential, drift in pairs)

        return step, start

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "error_sizes": list(self.error_sizes),
            "activation": self.activation,
            "steepness": self.steepness,
            "tau": self.tau,
            "simulation_time": self.simulation_time,
            "time_step": self.time_step,
            "fix_A": self.fix_A,
            "fix_W": self.fix_W,
            "learn_bias": self.learn_bias,
            "block_feedback": self.block_feedback,
            "precision": list(self.precision),
            "gated": self.gated,
            "init_scale": self.init_scale,
        }


def _forward(weights: Weights | None, below: Tensor) -> Tensor:
    return below if weights is None else weights.forward(below)


def _backward(weights: Weights | None, above: Tensor) -> Tensor:
    return above if weights is None else weights.backward(above)


def _masked(errors: Tensor, gate: Tensor | None) -> Tensor:
    return errors if gate is None else errors * gate


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and value == math.inf


def _matrix(synapses: Synapses | None, units: int) -> np.ndarray:
    if synapses is None:
        return np.eye(units)
    return np.asarray(ops.convert_to_numpy(read(synapses.kernel)), "float64")
