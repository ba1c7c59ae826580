"""Dendritic cortical microcircuits, where errors are what interneurons do not predict."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike, Targets
from keras_local.dynamics._arguments import RATES_ALONE, check_steps, initializer
from keras_local.dynamics._neurons import sigmoid_change
from keras_local.dynamics._phases import joined
from keras_local.dynamics.network import Changes, Network
from keras_local.dynamics.synapses import Synapses, correlate, fresh, total
from keras_local.ops import read, settle, trajectory
from keras_local.ops.backend import Tensor

States = tuple[Tensor, ...]
FORMS = ("consistent", "literal", "ode")
TOP_DOWN = ("fixed", "transposed", "learned")
_LOW, _HIGH = 0.1, 0.8
_SMALLEST = 1e-30


@serializable
class MicrocircuitNetwork(Network):
    """Network of pyramidal neurons with dendrites that learns without phases.

    A hidden pyramidal neuron of layer `k = 1..N-1` has a soma `u_k`, a basal dendrite that sees the
    rates below and an apical dendrite that sees the rates above. Each layer has interneurons
    `uI_k`, one for each neuron of the layer above, which nudges them. With `r = phi(u)` and the
    logistic function `phi`:

        basal_k  = r_{k-1} W_k + b_k
        uI_k     = (1 - lam_inter) (r_k I_k + c_k) + lam_inter u_{k+1}
        apical_k = r_{k+1} T_k^T + phi(uI_k) P_k^T
        u_k      = (1 - lam) basal_k + lam apical_k,
        u_N      = (1 - lam_out) basal_N + lam_out u_target     (with labels).

    The steady state is computed by a sweep up, `u_k = a_k basal_k` with `a_k = 1 - lam` and
    `a_N = 1`, and a sweep down with labels. Then

        dW_k = < r_{k-1} (phi(u_k) - phi(a_k basal_k)) > / (lam_out lam^(N-k))
        dI_k = < r_k (phi(uI_k) - phi(r_k I_k + c_k)) > / lam_inter
        dP_k = - < apical_k phi(uI_k) >                             with `learn_apical`
        dT_k = < (phi(u_k) - phi(r_{k+1} T_k^T)) r_{k+1} >          with `top_down="learned"`

    and likewise for biases. The initial weights predict each other, `I_k = a_{k+1} W_{k+1}` and
    `P_k = -T_k`: without labels interneurons do what the layer above does, apical dendrites are
    silent, and nothing is learned. With labels, `apical_k` is the error. For small `lam` this is
    backpropagation with `top_down="transposed"`, and feedback alignment with `top_down="fixed"`.

    Local: each change is computed from compartments of one neuron and the rate of another neuron
    that it sees.

    Args:
        sizes: Number of inputs, of units of each hidden layer, and of outputs.
        lam: Weight of the apical dendrite, greater than 0 and less than 1.
        lam_out: Weight of the labels; `lam` by default.
        lam_inter: Weight of the layer above on interneurons; `lam` by default.
        form: `"consistent"` as above. `"literal"`: the sweeps as published, in which the sweep up
            is not attenuated (`a_k = 1` in the sweep up and in `I`). Then apical dendrites below
            the highest hidden layer are not silent without labels. `"ode"`: the differential
            equations with their conductances, in Euler steps.
        top_down: The weights `T`: `"fixed"` and random, `"transposed"`, which means the `W` of the
            layer above, or `"learned"`.
        learn_apical: Whether the weights `P` from interneurons to apical dendrites learn. If they
            do not and `T` is transposed, `P` is `-T`.
        kernel_initializer: Initializer of `W`.
        top_down_initializer: Initializer of `T`.
        rate_factors: Factor of the learning rate of each `W`, the lowest first, in addition to the
            division by mixing factors; 1 by default, as for `I`, `P` and `T`.
        self_predicting: Whether `I` and `P` start so that apical dendrites are silent. Otherwise
            they are drawn like `W` and `T`. `predict_itself()` sets them to these values at any
            time.
        leak: Conductance of the soma's leak. This and the next three arguments are for the
            differential equations only.
        basal: Conductance of the basal dendrite, and of the interneuron's dendrite.
        time_step: Step of Euler's method.
        simulation_time: How long each phase lasts.
        targets: `"classes"`, `"labels"` or `"values"`; see `Network`.
        name: Name of the network.
        dtype: As for `EquilibriumNetwork`.
        trainable: Whether the network learns; if not, training changes nothing.

    In the form `"ode"` conductances follow from the mixing factors: `apical = lam (leak + basal) /
    (1 - lam)`, and likewise for labels and interneurons.

    Labels are the rates 0.8 for the class and 0.1 for others; `u_target` is their logit. With
    `targets="labels"` a target `t` is the rate `0.1 + 0.7 t`. The score is `(rate - 0.1) / 0.7`,
    which is 0.5 in the middle and may lie a little outside the range from 0 to 1.

    Input shape: `(batch, sizes[0])`, rates from 0 to 1. Output shape: `(batch, sizes[-1])`.

    Raises:
        ValueError: If an argument is out of range or unknown. `compile` warns if the optimizer
            divides by the size of the gradient, because interneurons and pyramidal neurons then do
            not learn at the rates that keep the prediction.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.MicrocircuitNetwork([4, 8, 3])
    >>> network.compile(keras.optimizers.SGD(0.05), metrics=["accuracy"])
    >>> history = network.fit(np.eye(4), np.array([0, 1, 2, 0]), verbose=0)
    >>> network.predict(np.eye(4), verbose=0).shape
    (4, 3)

    Source: Sacramento, Ponte Costa, Bengio & Senn 2018, "Dendritic cortical microcircuits
    approximate the backpropagation algorithm".
    """

    refused_targets = RATES_ALONE
    erased_effect = "Interneurons may not follow"
    remedy = "a smaller learning rate, a smaller `lam`, or a smaller `time_step`"

    def __init__(
        self,
        sizes: Sequence[int],
        lam: float = 0.1,
        lam_out: float | None = None,
        lam_inter: float | None = None,
        form: Literal["consistent", "literal", "ode"] = "consistent",
        top_down: Literal["fixed", "transposed", "learned"] = "fixed",
        learn_apical: bool = False,
        kernel_initializer: InitializerLike | None = None,
        top_down_initializer: InitializerLike | None = None,
        rate_factors: Sequence[float] | None = None,
        self_predicting: bool = True,
        leak: float = 0.1,
        basal: float = 1.0,
        time_step: float = 0.1,
        simulation_time: float = 30.0,
        *,
        targets: Targets = "classes",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(sizes, targets=targets, name=name, dtype=dtype, trainable=trainable)
        self.lam = _factor("lam", lam)
        self.lam_out = self.lam if lam_out is None else _factor("lam_out", lam_out)
        self.lam_inter = self.lam if lam_inter is None else _factor("lam_inter", lam_inter)
        self.form = check.one_of("form", form, FORMS)
        self.top_down = check.one_of("top_down", top_down, TOP_DOWN)
        self.learn_apical = check.flag("learn_apical", learn_apical)
        weak, strong = (initializers.RandomUniform(-limit, limit) for limit in (0.1, 0.3))
        self.kernel_initializer = initializer("kernel_initializer", kernel_initializer, weak)
        self.top_down_initializer = initializer(
            "top_down_initializer", top_down_initializer, strong
        )
        self.rate_factors = check.factors("rate_factors", rate_factors, len(self.sizes) - 1)
        self.self_predicting = check.flag("self_predicting", self_predicting)
        self.leak = check.real("leak", leak, minimum=0.0)
        self.basal = check.real("basal", basal, minimum=0.0, exclusive=True)
        self.time_step = check.real("time_step", time_step, minimum=0.0, exclusive=True)
        self.simulation_time = check.real("simulation_time", simulation_time)
        allowed = f"at least one `time_step`, {self.time_step:g}"
        enough = self.simulation_time >= self.time_step
        check.require(enough, "simulation_time", allowed, simulation_time)
        check_steps(self.simulation_time, self.time_step)
        smallest = self.lam_out * self.lam ** (len(self.sizes) - 2)
        allowed = "so large that changes of the lowest layer, which are divided by it, are finite"
        check.require(min(smallest, self.lam_inter) > _SMALLEST, "lam", allowed, lam)
        self._make_synapses()
        self.build((None, self.sizes[0]))

    def _make_synapses(self) -> None:
        units = self.sizes[1:]
        self.pyramidal: list[Any] = [
            self._synapses(count, f"pyramidal_{index + 1}", self.kernel_initializer)
            for index, count in enumerate(units)
        ]
        # There is one interneuron for each neuron of the layer above.
        self.interneurons: list[Any] = [
            self._synapses(count, f"interneurons_{index + 1}", self.kernel_initializer)
            for index, count in enumerate(units[1:])
        ]
        down: dict[str, Any] = {"initializer": self.top_down_initializer, "use_bias": False}
        tied = self.top_down == "transposed"
        learned = self.top_down == "learned"
        self.above: list[Any] = [
            None if tied else self._synapses(count, f"top_down_{k + 1}", trainable=learned, **down)
            for k, count in enumerate(units[1:])
        ]
        self.lateral: list[Any] = [
            None
            if tied and not self.learn_apical
            else self._synapses(count, f"apical_{k + 1}", trainable=self.learn_apical, **down)
            for k, count in enumerate(units[1:])
        ]

    def _synapses(
        self, units: int, name: str, initializer: Any, use_bias: bool = True, trainable: bool = True
    ) -> Synapses:
        return Synapses(
            units,
            use_bias=use_bias,
            kernel_initializer=fresh(initializer),
            trainable=trainable,
            dtype=self.working_dtype,
            name=name,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        if self.pyramidal[0].built:
            return
        for synapses, below in zip(self.pyramidal, self.sizes, strict=False):
            synapses.build((None, below))
        for group in (self.interneurons, self.above, self.lateral):
            for synapses, units in zip(group, self.sizes[1:], strict=False):
                if synapses is not None:
                    synapses.build((None, units))
        self.built = True
        if self.self_predicting:
            self.predict_itself()

    def predict_itself(self) -> None:
        """Set `I` and `P` so that without labels apical dendrites are silent."""
        for k, inter in enumerate(self.interneurons):
            share = 1.0 if self.form == "literal" else self._attenuation(k + 1)
            inter.kernel.assign(share * read(self.pyramidal[k + 1].kernel))
            inter.bias.assign(share * read(self.pyramidal[k + 1].bias))
            lateral, above = self.lateral[k], self.above[k]
            if lateral is not None:
                kernel = self.pyramidal[k + 1].kernel if above is None else above.kernel
                lateral.kernel.assign(-read(kernel))

    @property
    def scales(self) -> tuple[float, ...]:
        """The factors of the changes of all `W`, the lowest first, and of all `I`."""
        top = len(self.pyramidal) - 1
        powers = [self.lam_out * self.lam ** (top - k) for k in range(top + 1)]
        pairs = zip(self.rate_factors, powers, strict=True)
        return (*(factor / power for factor, power in pairs), 1.0 / self.lam_inter)

    def layer_rates(self) -> Sequence[float]:
        """Return the factors of the changes of pyramidal neurons, and of interneurons."""
        return self.scales if self.interneurons else self.scales[:-1]

    def default_optimizer(self) -> Any:
        """Return `SGD(0.3)`."""
        return keras.optimizers.SGD(0.3)

    def free_phase(self, inputs: Tensor) -> States:
        """Return the somata of all layers without labels; with `"ode"` also of the interneurons."""
        if self.form == "ode":
            return settle(*self._free(inputs), self.steps)  # type: ignore[no-any-return]
        somata, rates = [], inputs
        for k, synapses in enumerate(self.pyramidal):
            share = 1.0 if self.form == "literal" else self._attenuation(k)
            somata.append(share * synapses.read().forward(rates))
            rates = ops.sigmoid(somata[-1])
        return tuple(somata)

    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the rates of the outputs; for labels they are rescaled from 0.1 to 0.8."""
        rates = ops.sigmoid(states[len(self.pyramidal) - 1])
        return rates if self.targets == "classes" else (rates - _LOW) / (_HIGH - _LOW)

    def cost(self, targets: Tensor, scores: Tensor) -> Tensor:
        """Return half the squared distance of the rates from 0.8 (the class) and 0.1 (others)."""
        if self.targets == "labels":
            scores = _LOW + (_HIGH - _LOW) * scores
        return super().cost(_LOW + (_HIGH - _LOW) * targets, scores)

    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Show the labels, and return the changes: what dendrites fail to predict of somata."""
        seen = self._compartments(inputs, states, targets)
        rates = [inputs, *(ops.sigmoid(soma) for soma in seen["soma"])]
        scale = self._conduction()
        moved, moved_inter = self._unpredicted(seen, targets)
        found: list[tuple[Any, Tensor]] = []
        for k, synapses in enumerate(self.pyramidal):
            predicted = scale * self._attenuation(k) * seen["basal"][k]
            error = self.scales[k] * sigmoid_change(predicted, moved[k], rates[k + 1])
            found.append((synapses.kernel, correlate(rates[k], error, share)))
            found.append((synapses.bias, total(error, share)))
        for k, synapses in enumerate(self.interneurons):
            inter = ops.sigmoid(seen["interneuron"][k])
            predicted = scale * seen["dendrite"][k]
            error = sigmoid_change(predicted, moved_inter[k], inter) / self.lam_inter
            found.append((synapses.kernel, correlate(rates[k + 1], error, share)))
            found.append((synapses.bias, total(error, share)))
            lateral, above = self.lateral[k], self.above[k]
            if self.learn_apical and lateral is not None:
                found.append((lateral.kernel, -correlate(seen["apical"][k], inter, share)))
            if self.top_down == "learned" and above is not None:
                expected = ops.sigmoid(above.read().backward(rates[k + 2]))
                change = correlate(rates[k + 1] - expected, rates[k + 2], share)
                found.append((above.kernel, change))
        return found

    def _unpredicted(
        self, seen: dict[str, list[Tensor]], targets: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return what dendrites do not predict of the somata, and of the interneurons."""
        # Differences of potentials would be mostly rounding when divided by the mixing factors.
        soma, inters = seen["soma"], seen["interneuron"]
        if self.form == "ode":
            scale, shares = self._conduction(), map(self._attenuation, range(len(soma)))
            predicted = [scale * a * basal for a, basal in zip(shares, seen["basal"], strict=True)]
            pairs, lower = (
                zip(soma, predicted, strict=True),
                zip(inters, seen["dendrite"], strict=True),
            )
            return [u - v for u, v in pairs], [u - scale * v for u, v in lower]
        taught = self.lam_out * (_potentials(targets) - seen["basal"][-1])
        above = zip(soma[1:], seen["dendrite"], strict=True)
        moved = [*(self.lam * apical for apical in seen["apical"]), taught]
        return moved, [self.lam_inter * (u - dendrite) for u, dendrite in above]

    def compartments(self, inputs: Any, labels: Any = None) -> dict[str, list[Tensor]]:
        """Return the potentials of all compartments, the lowest layer first.

        Args:
            inputs: Samples `(batch, sizes[0])`.
            labels: Labels of the samples; None for the phase without labels.

        Returns:
            Lists of tensors `(batch, units)`: `"basal"` and `"soma"` of all layers; of hidden
            layers also `"apical"`, `"interneuron"` and `"dendrite"`, the dendrite of the
            interneurons.
        """
        inputs = self._prepared(inputs)
        targets = None if labels is None else self._targets(labels)
        return self._compartments(inputs, self.free_phase(inputs), targets)

    def trajectories(self, inputs: Any, labels: Any = None) -> list[Tensor]:
        """Return the somata of all layers, then of the interneurons, over time.

        Raises:
            NotImplementedError: Unless `form="ode"`: the other forms have no time steps.
        """
        if self.form != "ode":
            raise NotImplementedError(
                f'`trajectories` needs the form "ode". Received: form={self.form!r}'
            )
        inputs = self._prepared(inputs)
        step, start = self._free(inputs)
        free = trajectory(step, start, self.steps)
        if labels is None:
            return list(free)
        step = self._step(inputs, self._targets(labels))
        taught = trajectory(step, tuple(layer[-1] for layer in free), self.steps)
        return joined(free, taught)

    def instability(self) -> str | None:
        """Return a warning if an Euler step is too large for the conductances."""
        if self.form != "ode":
            return None
        number = self.time_step * (self.leak + self.basal) / (1.0 - max(self._mixing()))
        if number < 2.0:
            return None
        return f"time_step times all conductances of a soma is {number:.3g}, which must be below 2"

    @property
    def steps(self) -> int:
        """The number of Euler steps in each phase of the form `"ode"`."""
        return math.floor(self.simulation_time / self.time_step + 1e-9)

    def _mixing(self) -> tuple[float, float, float]:
        return self.lam, self.lam_out, self.lam_inter

    def _attenuation(self, layer: int) -> float:
        """Return the share of the basal potential that reaches the soma, without the leak."""
        return 1.0 if layer == len(self.pyramidal) - 1 else 1.0 - self.lam

    def _conduction(self) -> float:
        """Return the share that the leak leaves, which differs from 1 only in the form `"ode"`."""
        return self.basal / (self.leak + self.basal) if self.form == "ode" else 1.0

    def _down(self, k: int, rates: Tensor, inter: Tensor) -> Tensor:
        """Return the apical dendrites of hidden layer `k` from rates above and lateral rates."""
        above, lateral = self.above[k], self.lateral[k]
        tied = self.pyramidal[k + 1].read()
        weights = tied if above is None else above.read()
        if lateral is None:
            return weights.backward(rates - inter)
        return weights.backward(rates) + lateral.read().backward(inter)

    def _compartments(
        self, inputs: Tensor, states: States, targets: Tensor | None
    ) -> dict[str, list[Tensor]]:
        aims = None if targets is None else _potentials(targets)
        if self.form == "ode":
            if targets is not None:
                states = settle(self._step(inputs, targets), states, self.steps)
            return self._seen(inputs, states)
        top = len(self.pyramidal) - 1
        shares = [1.0 if self.form == "literal" else self._attenuation(k) for k in range(top + 1)]
        basal = [soma / share for soma, share in zip(states, shares, strict=True)]
        soma = [basal[top]]
        if aims is not None:
            soma = [(1.0 - self.lam_out) * basal[top] + self.lam_out * aims]
        dendrites: list[Tensor] = []
        inters: list[Tensor] = []
        apical: list[Tensor] = []
        for k in reversed(range(top)):
            dendrites.insert(0, self.interneurons[k].read().forward(ops.sigmoid(states[k])))
            inters.insert(0, (1.0 - self.lam_inter) * dendrites[0] + self.lam_inter * soma[0])
            apical.insert(0, self._down(k, ops.sigmoid(soma[0]), ops.sigmoid(inters[0])))
            soma.insert(0, (1.0 - self.lam) * basal[k] + self.lam * apical[0])
        return _named(basal, soma, apical, inters, dendrites)

    def _seen(self, inputs: Tensor, states: States) -> dict[str, list[Tensor]]:
        """Return the potentials of all compartments, for the somata of the form `"ode"`."""
        count = len(self.pyramidal)
        soma, inters = list(states[:count]), list(states[count:])
        rates = [inputs, *(ops.sigmoid(each) for each in soma)]
        pairs = zip(self.pyramidal, rates, strict=False)
        basal = [synapses.read().forward(below) for synapses, below in pairs]
        dendrites = [
            synapses.read().forward(rates[k + 1]) for k, synapses in enumerate(self.interneurons)
        ]
        apical = [self._down(k, rates[k + 2], ops.sigmoid(inter)) for k, inter in enumerate(inters)]
        return _named(basal, soma, apical, inters, dendrites)

    def _free(self, inputs: Tensor) -> tuple[Callable[[States], States], States]:
        units = (*self.sizes[1:], *self.sizes[2:])
        size = ops.shape(inputs)[0]
        start = tuple(ops.zeros((size, count), self.working_dtype) for count in units)
        return self._step(inputs), start

    def _step(self, inputs: Tensor, targets: Tensor | None = None) -> Callable[[States], States]:
        somatic = self.leak + self.basal
        apical, teaching, nudging = (somatic * lam / (1.0 - lam) for lam in self._mixing())
        aims = None if targets is None else _potentials(targets)
        top = len(self.pyramidal) - 1

        def step(states: States) -> States:
            seen = self._seen(inputs, states)
            flows = []
            for k, soma in enumerate(seen["soma"]):
                flow = self.basal * seen["basal"][k] - somatic * soma
                if k < top:
                    flow = flow + apical * (seen["apical"][k] - soma)
                elif aims is not None:
                    flow = flow + teaching * (aims - soma)
                flows.append(flow)
            for k, inter in enumerate(seen["interneuron"]):
                flow = self.basal * seen["dendrite"][k] - somatic * inter
                flows.append(flow + nudging * (seen["soma"][k + 1] - inter))
            pairs = zip(states, flows, strict=True)
            return tuple(state + self.time_step * flow for state, flow in pairs)

        return step

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "lam": self.lam,
            "lam_out": self.lam_out,
            "lam_inter": self.lam_inter,
            "form": self.form,
            "top_down": self.top_down,
            "learn_apical": self.learn_apical,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "top_down_initializer": initializers.serialize(self.top_down_initializer),
            "rate_factors": list(self.rate_factors),
            "self_predicting": self.self_predicting,
            "leak": self.leak,
            "basal": self.basal,
            "time_step": self.time_step,
            "simulation_time": self.simulation_time,
        }


def _factor(argument: str, value: Any) -> float:
    number = check.real(argument, value, minimum=0.0, exclusive=True)
    check.require(number < 1.0, argument, "greater than 0 and less than 1", value)
    return number


def _potentials(targets: Tensor) -> Tensor:
    """Return the somatic potentials that give the target rates."""
    rates = _LOW + (_HIGH - _LOW) * targets
    return ops.log(rates) - ops.log(1.0 - rates)


def _named(
    basal: list[Tensor],
    soma: list[Tensor],
    apical: list[Tensor],
    interneuron: list[Tensor],
    dendrite: list[Tensor],
) -> dict[str, list[Tensor]]:
    return {
        "basal": basal,
        "soma": soma,
        "apical": apical,
        "interneuron": interneuron,
        "dendrite": dendrite,
    }
