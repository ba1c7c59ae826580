"""Microcircuits against NumPy loops: silent dendrites, and the limit of backpropagation."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.dynamics import MicrocircuitNetwork
from tests.oracles_dynamics import relative_error
from tests.oracles_microcircuit import Microcircuit, backprop, phi
from tests.support import BACKEND, array

double = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked for")

SIZES = [6, 8, 7, 4]


def problem(
    self_predicting: bool = True, top_down: str = "fixed", **arguments: Any
) -> tuple[Any, ...]:
    """A network in float64 without biases, its oracle, samples as rows, and labels."""
    rng = np.random.default_rng(0)
    network = MicrocircuitNetwork(SIZES, top_down=top_down, dtype="float64", **arguments)
    W = [1.5 * rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairwise(SIZES)]
    for synapses, w in zip(network.pyramidal, W, strict=True):
        synapses.kernel.assign(w.T)
    for k in range(2):
        for group in (network.above, network.lateral, network.interneurons):
            if group[k] is not None:
                group[k].kernel.assign(0.5 * rng.normal(size=group[k].kernel.shape))
    if self_predicting:
        network.predict_itself()
    T = [w.T if s is None else array(s.kernel) for s, w in zip(network.above, W[1:], strict=True)]
    P = [-t if s is None else array(s.kernel) for s, t in zip(network.lateral, T, strict=True)]
    oracle = Microcircuit(
        W,
        [array(synapses.kernel).T for synapses in network.interneurons],
        T,
        P,
        lam=network.lam,
        lam_out=network.lam_out,
        lam_inter=network.lam_inter,
        leak=network.leak,
        g_basal=network.basal,
    )
    return network, oracle, rng.random((5, 6)), rng.integers(0, 4, 5)


def potentials(labels: np.ndarray) -> np.ndarray:
    rates = 0.1 + 0.7 * np.eye(4)[labels]
    return np.log(rates / (1 - rates)).T


def changes_of(network: Any, inputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    x, y = ops.convert_to_tensor(inputs), ops.convert_to_tensor(targets)
    share = ops.full((len(inputs),), 1 / len(inputs), dtype="float64")
    changes = network.changes(x, y, network.free_phase(x), share)
    return {"/".join(weight.path.split("/")[-2:]): array(change) for weight, change in changes}


@double
@pytest.mark.parametrize("form", ["consistent", "literal", "ode"])
def test_compartments_and_changes_are_those_of_the_oracle(form: str) -> None:
    """Weights that predict nothing, few steps: every term counts."""
    network, oracle, inputs, labels = problem(
        self_predicting=False,
        top_down="learned",
        learn_apical=True,
        form=form,
        lam=0.2,
        lam_out=0.3,
        lam_inter=0.4,
        simulation_time=1.5,
        time_step=0.3,
    )
    x, target = inputs.T, potentials(labels)
    if form == "ode":
        free = oracle.equations(x, None, 5, 0.3)
        wanted = oracle.equations(x, target, 5, 0.3, start=free)
    else:
        wanted = oracle.sweeps(x, target, literal=form == "literal")
    found = network.compartments(inputs, labels)
    for name, layers in wanted.items():
        for one, other in zip(found[name], layers, strict=True):
            np.testing.assert_allclose(array(one).T, other, atol=1e-13, err_msg=name)
    changes = changes_of(network, inputs, np.eye(4)[labels])
    rules = oracle.changes(x, wanted, 1 / 1.1 if form == "ode" else 1.0)
    for k in range(3):
        np.testing.assert_allclose(
            changes[f"pyramidal_{k + 1}/kernel"].T, rules["W"][k], atol=1e-12
        )
    for k in range(2):
        np.testing.assert_allclose(
            changes[f"interneurons_{k + 1}/kernel"].T, rules["I"][k], atol=1e-12
        )
        np.testing.assert_allclose(changes[f"apical_{k + 1}/kernel"], rules["P"][k], atol=1e-12)
        np.testing.assert_allclose(changes[f"top_down_{k + 1}/kernel"], rules["T"][k], atol=1e-12)
        assert np.abs(rules["T"][k]).max() > 1e-2


@double
def test_single_precision_suffices() -> None:
    """Changes are differences of rates over products of mixing factors: 1e-3 in three layers."""
    found: dict[str, list[np.ndarray]] = {"float32": [], "float64": []}
    for dtype, changes in found.items():
        keras.utils.set_random_seed(3)
        network = MicrocircuitNetwork([5, 6, 5, 4], dtype=dtype)
        for weight in network.weights:
            # The same numbers in both, and rates that do not predict each other exactly.
            weight.assign(
                np.random.default_rng(weight.shape[0]).normal(0.0, 0.3, weight.shape).astype("f4")
            )
        network.predict_itself()
        inputs = ops.convert_to_tensor(np.random.default_rng(1).random((7, 5)).astype("f4"), dtype)
        targets = ops.one_hot(np.arange(7) % 4, 4, dtype=dtype)
        share = ops.full((7,), 1 / 7, dtype=dtype)
        each = network.changes(inputs, targets, network.free_phase(inputs), share)
        changes += [array(change) for _, change in each]
    for single, double_ in zip(*found.values(), strict=True):
        # 1.5e-5 where rates are subtracted that differ little.
        assert np.abs(single - double_).max() < 2e-6


@pytest.mark.few(2)
@double
@pytest.mark.parametrize("top_down", ["fixed", "transposed"])
@pytest.mark.parametrize("form", ["consistent", "ode"])
def test_without_labels_apical_dendrites_are_silent(form: str, top_down: str) -> None:
    """MIC-1; interneurons do what the layer above does, and the own output teaches nothing."""
    network, *_, inputs, labels = problem(
        form=form, top_down=top_down, lam=0.3, simulation_time=40.0, time_step=0.5
    )
    for synapses in network.pyramidal:
        synapses.bias.assign(0.3 * np.ones(synapses.bias.shape))
    network.predict_itself()
    found = network.compartments(inputs)
    assert max(np.abs(array(apical)).max() for apical in found["apical"]) < 1e-12
    for inter, soma in zip(found["interneuron"], found["soma"][1:], strict=True):
        np.testing.assert_allclose(array(inter), array(soma), atol=1e-12)
    own = (phi(array(found["soma"][-1])) - 0.1) / 0.7
    changes = changes_of(network, inputs, own)
    assert max(np.abs(change).max() for change in changes.values()) < 1e-10
    taught = network.compartments(inputs, labels)
    assert min(np.abs(array(apical)).max() for apical in taught["apical"]) > 1e-3


@double
def test_as_worded_they_are_not() -> None:
    """The sweep down attenuates what the sweep up did not."""
    network, *_, inputs, _ = problem(form="literal", lam=0.3)
    found = network.compartments(inputs)
    assert np.abs(array(found["apical"][0])).max() > 1e-2
    assert np.abs(array(found["apical"][1])).max() < 1e-12


@double
def test_half_the_mixing_halves_the_distance_to_backpropagation() -> None:
    """MIC-2, of the changes and of the apical dendrites, which hold the error."""
    errors, dendrites = [], []
    for lam in (0.02, 0.01):
        network, oracle, inputs, labels = problem(top_down="transposed", lam=lam)
        wanted, apical = backprop(inputs.T, potentials(labels), oracle.W, [1, 1, 1])
        changes = changes_of(network, inputs, np.eye(4)[labels])
        found = [changes[f"pyramidal_{k + 1}/kernel"].T for k in range(3)]
        errors.append([relative_error(a, b) for a, b in zip(found, wanted, strict=True)])
        seen = network.compartments(inputs, labels)["apical"]
        scaled = [array(seen[k]).T / lam ** (2 - k) for k in range(2)]
        dendrites.append([relative_error(a, b) for a, b in zip(scaled, apical, strict=True)])
    np.testing.assert_allclose(np.divide(*errors), 2.0, rtol=0.2)
    np.testing.assert_allclose(np.divide(*dendrites), 2.0, rtol=0.2)
    assert max(errors[1]) < 0.1


@double
def test_the_differential_equations_rest_near_the_steady_form() -> None:
    """Without a leak: the distance of the changes falls with the mixing."""
    distances = []
    for lam in (0.04, 0.02):
        arguments = {"top_down": "transposed", "lam": lam, "leak": 0.0}
        arguments |= {"simulation_time": 40.0, "time_step": 0.5}
        steady, *_, inputs, labels = problem(**arguments)
        equations, *_ = problem(form="ode", **arguments)
        wanted = changes_of(steady, inputs, np.eye(4)[labels])
        found = changes_of(equations, inputs, np.eye(4)[labels])
        distances.append(
            [
                relative_error(found[f"pyramidal_{k}/kernel"], wanted[f"pyramidal_{k}/kernel"])
                for k in (1, 2, 3)
            ]
        )
    ratios = np.divide(*distances)[:2]
    assert np.all(ratios > 1.6)
    assert max(distances[1]) < 0.1


@pytest.mark.daily
@double
def test_apical_plasticity_finds_silence_by_itself() -> None:
    """From random lateral weights, with a teacher that agrees: they become the negative of `T`."""
    network, *_ = problem(learn_apical=True)
    rng = np.random.default_rng(1)
    T = array(network.above[1].kernel)
    lateral = network.lateral[1].kernel
    lateral.assign(-T + 0.5 * rng.normal(size=T.shape))
    begin = np.linalg.norm(array(lateral) + T)
    inputs = 3 * rng.normal(size=(50, 6))
    loud = np.abs(array(network.compartments(inputs)["apical"][1])).mean()
    for _ in range(150):
        soma = array(network.compartments(inputs)["soma"][-1])
        changes = changes_of(network, inputs, (phi(soma) - 0.1) / 0.7)
        lateral.assign_add(1.2 * changes["apical_2/kernel"])
    assert np.linalg.norm(array(lateral) + T) < 0.8 * begin
    assert np.abs(array(network.compartments(inputs)["apical"][1])).mean() < 0.2 * loud


def test_optimizers_that_erase_the_factors_are_warned_of() -> None:
    network = MicrocircuitNetwork([4, 3, 2])
    with pytest.warns(UserWarning, match="Interneurons may not follow: Adam"):
        network.compile("adam")
    network.compile("sgd")


def test_an_unstable_step_is_named_and_sweeps_know_no_time() -> None:
    network = MicrocircuitNetwork([4, 3, 2], form="ode", time_step=1.8)
    assert "is 2.2, which" in network.instability()
    assert MicrocircuitNetwork([4, 3, 2], form="ode").instability() is None
    assert MicrocircuitNetwork([4, 3, 2], time_step=1.8).instability() is None
    with pytest.raises(NotImplementedError, match="needs the form"):
        MicrocircuitNetwork([4, 3, 2]).trajectories(np.eye(4))


@pytest.mark.thorough
def test_digits_are_learned() -> None:
    """One hidden layer, fixed random top-down weights."""
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = (images[order] / 16).astype("float32"), labels[order]
    network = MicrocircuitNetwork([64, 100, 10])
    network.compile(keras.optimizers.SGD(0.05), metrics=["accuracy"])
    network.fit(images[:1500], labels[:1500], batch_size=10, epochs=60, verbose=0)
    _, accuracy = network.evaluate(images[1500:], labels[1500:], verbose=0)
    assert accuracy > 0.92


@double
def test_rate_factors_are_of_the_weights_of_pyramidal_neurons() -> None:
    factors = (5.0, 0.0, 0.5)
    network, _, inputs, labels = problem()
    other = problem(rate_factors=factors)[0]
    plain, found = (changes_of(each, inputs, np.eye(4)[labels]) for each in (network, other))
    for k, factor in enumerate(factors, start=1):
        for name in (f"pyramidal_{k}/kernel", f"pyramidal_{k}/bias"):
            np.testing.assert_allclose(found[name], factor * plain[name], atol=1e-14)
    for name in ("interneurons_1/kernel", "interneurons_2/kernel"):
        assert np.abs(plain[name]).max() > 1e-4
        np.testing.assert_array_equal(found[name], plain[name])


BAD: list[tuple[str, dict[str, Any]]] = [
    ("lam", {"lam": 0.0}),
    ("lam", {"lam": 1.0}),
    ("lam_out", {"lam_out": 1.5}),
    ("lam_inter", {"lam_inter": -0.1}),
    ("form", {"form": "spiking"}),
    ("top_down", {"top_down": "random"}),
    ("rate_factors", {"rate_factors": (1.0,)}),
    ("rate_factors", {"rate_factors": (1.0, -1.0)}),
    ("rate_factors", {"rate_factors": 2.0}),
    ("leak", {"leak": -1.0}),
    ("basal", {"basal": 0.0}),
    ("time_step", {"time_step": 0.0}),
    ("simulation_time", {"simulation_time": 0.01}),
]


@pytest.mark.parametrize(("argument", "arguments"), BAD)
def test_bad_arguments(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        MicrocircuitNetwork(**{"sizes": [4, 3, 2], **arguments})
