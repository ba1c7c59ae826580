"""Each network learns each kind of targets, or refuses it by name; what kinds share is exact."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest

import keras_local as kl
from keras_local import dynamics
from tests.support import array, largest_difference, tensorflow_only, two_replicas, weights_of

SAMPLES, INPUTS, HIDDEN = 96, 5, 12
SGD, ADAM = keras.optimizers.SGD, keras.optimizers.Adam
OUTPUTS = {"classes": 3, "labels": 3, "binary": 1, "values": 2}


def conv(sizes: list[int], **kwargs: Any) -> dynamics.Network:
    if kwargs.get("targets") == "values":
        kwargs = {"cost": "mse", **kwargs}
    return dynamics.ConvEquilibriumNetwork(
        (2, 5, 1), (16,), sizes[-1], paddings=("same",), free_steps=15, **kwargs
    )


def local_backprop(sizes: list[int], **kwargs: Any) -> dynamics.Network:
    """Values are learned by the synapses `A`, from rates that copy the inputs."""
    layers: dict[str, Any] = {"sizes": [sizes[0], sizes[-1]]}
    if kwargs.get("targets") == "values":
        layers = {"sizes": [sizes[0]] * 2, "error_sizes": [sizes[-1]]}
        layers |= {"fix_W": True, "fix_A": None}
    return dynamics.LocalBackpropNetwork(
        **layers, steepness=4.0, time_step=0.05, activation="linear", **kwargs
    )


def recirculation(sizes: list[int], **kwargs: Any) -> dynamics.Network:
    return dynamics.RecirculationAutoencoder(sizes[0], 3, **kwargs)


LEARNED: dict[str, tuple[Callable[..., Any], Callable[[float], Any], float, tuple[str, ...]]] = {
    "EquilibriumNetwork": (dynamics.EquilibriumNetwork, SGD, 0.4, tuple(OUTPUTS)),
    "ConvEquilibriumNetwork": (conv, SGD, 0.5, tuple(OUTPUTS)),
    "ContrastiveHebbianNetwork": (dynamics.ContrastiveHebbianNetwork, SGD, 0.1, tuple(OUTPUTS)),
    "PredictiveCodingNetwork": (dynamics.PredictiveCodingNetwork, ADAM, 0.02, tuple(OUTPUTS)),
    "DifferenceTargetPropagation": (
        dynamics.DifferenceTargetPropagation,
        SGD,
        0.1,
        tuple(OUTPUTS),
    ),
    "LocalBackpropNetwork": (local_backprop, SGD, 0.1, tuple(OUTPUTS)),
    "MicrocircuitNetwork": (
        dynamics.MicrocircuitNetwork,
        SGD,
        0.5,
        ("classes", "labels", "binary"),
    ),
    "BurstpropNetwork": (dynamics.BurstpropNetwork, SGD, 4.0, ("classes", "labels", "binary")),
    "SegregatedDendritesNetwork": (
        dynamics.SegregatedDendritesNetwork,
        SGD,
        1.0,
        ("classes", "labels", "binary"),
    ),
    "TemporalDifferenceNetwork": (
        lambda sizes, **kwargs: dynamics.TemporalDifferenceNetwork(
            sizes, rule="feedback_alignment", **kwargs
        ),
        SGD,
        0.2,
        tuple(OUTPUTS),
    ),
    "ForwardForwardNetwork": (dynamics.ForwardForwardNetwork, ADAM, 0.03, ("classes",)),
    "RecirculationAutoencoder": (recirculation, SGD, 1.0, ()),
}
"""How each network is made, its optimizer and rate, and which targets it learns."""

REFUSED = [
    (name, kind) for name, (*_, kinds) in LEARNED.items() for kind in OUTPUTS if kind not in kinds
]
CELLS = [(name, kind) for name, (*_, kinds) in LEARNED.items() for kind in kinds]


def task(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs from 0 to 1, and a target that depends on them."""
    rng = np.random.default_rng(2)
    x = rng.random((SAMPLES, INPUTS)).astype("float32")
    fields = (x - 0.5) @ rng.normal(size=(INPUTS, OUTPUTS[kind]))
    if kind == "classes":
        return x, np.argmax(fields, axis=1)
    if kind == "values":
        return x, (0.5 + 0.4 * fields / np.abs(fields).max()).astype("float32")
    labels = (fields > 0).astype("float32")
    return x, labels[:, 0] if kind == "binary" else labels


def made(name: str, kind: str, way: Any = None, **arguments: Any) -> Any:
    make, optimizer, rate, _ = LEARNED[name]
    targets = "labels" if kind == "binary" else kind
    inputs = INPUTS + 5 if name == "ForwardForwardNetwork" else INPUTS
    network = make([inputs, HIDDEN, OUTPUTS[kind]], targets=targets, **arguments)
    network.compile(optimizer(rate), **(way or {}))
    return network


def epochs_of(name: str) -> int:
    """These two begin with small weights, or with rates in the middle."""
    return 200 if name in ("MicrocircuitNetwork", "SegregatedDendritesNetwork") else 60


def aims(name: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The task; of values about 0 for the network whose thresholds learn no mean."""
    x, y = task(kind)
    centred = (name, kind) == ("LocalBackpropNetwork", "values")
    return shaped(name, x), y - y.mean(axis=0) if centred else y


def shaped(name: str, x: np.ndarray) -> np.ndarray:
    """Inputs as a network needs them: an image, centred ones, or with room for the label."""
    if name == "ConvEquilibriumNetwork":
        return np.stack([x, x], axis=1)[..., None]
    if name in ("LocalBackpropNetwork", "SegregatedDendritesNetwork"):
        return 3.46 * (x - 0.5)
    return np.pad(x, ((0, 0), (5, 0))) if name == "ForwardForwardNetwork" else x


def test_the_table_is_complete() -> None:
    networks = {name for name in dynamics.__all__ if not name.endswith("Synapses")}
    assert set(LEARNED) == networks - {"Network"}


@pytest.mark.daily
@pytest.mark.few(6)
@pytest.mark.parametrize(("name", "kind"), CELLS)
def test_learns(name: str, kind: str) -> None:
    """It beats the best constant, which knows how frequent each target is and sees no input."""
    keras.utils.set_random_seed(1)
    x, y = aims(name, kind)
    network = made(name, kind)
    network.fit(x, y, batch_size=32, epochs=epochs_of(name), verbose=0)
    scores = network.predict(x, verbose=0)
    assert scores.shape == (SAMPLES, OUTPUTS[kind])
    if kind == "classes":
        assert np.mean(scores.argmax(axis=1) == y) > np.bincount(y).max() / SAMPLES + 0.1
        return
    rows = y.reshape(SAMPLES, -1)
    if kind == "values":
        assert 1.0 - np.square(rows - scores).sum() / np.square(rows - rows.mean(0)).sum() > 0.3
    else:
        constant = np.maximum(rows.mean(0), 1.0 - rows.mean(0)).mean()
        assert np.mean((scores > 0.5) == (rows > 0.5)) > constant + 0.1


def one_pass(name: str, kind: str, scope: Any = None, **options: Any) -> list[np.ndarray]:
    """The weights after three batches, from a start that no backend draws, and without noise."""
    x, y = aims(name, kind)
    quiet = {"noise": 0.0, "seed": 0} if name == "DifferenceTargetPropagation" else {}
    with nullcontext() if scope is None else scope.scope():
        network = made(name, kind, options, **quiet)
    rng = np.random.default_rng(7)
    for weight in network.weights:
        if weight.name in ("kernel", "feedback_kernel"):
            values = rng.uniform(-1.0, 1.0, size=weight.shape)
            weight.assign(values / np.sqrt(np.prod(weight.shape[:-1])))
        elif weight.trainable:
            weight.assign(0.1 * rng.random(weight.shape))
    begin = weights_of(network)
    network.fit(x, y, batch_size=32, shuffle=False, verbose=0)
    assert largest_difference(begin, weights_of(network)) > 1e-4
    return weights_of(network)


OTHERS = [cell for cell in CELLS if cell[1] != "classes"]
"""Classes go through all ways of training in `test_battery.py`."""


@tensorflow_only
@pytest.mark.daily
@pytest.mark.few(2)
@pytest.mark.parametrize(("name", "kind"), OTHERS)
def test_each_way_of_training_learns_the_same(name: str, kind: str) -> None:
    """As a graph, compiled by XLA, and shared by two replicas."""
    expected = one_pass(name, kind, jit_compile=False)
    for way in ({"jit_compile": True}, {"jit_compile": False, "scope": two_replicas()}):
        assert largest_difference(one_pass(name, kind, **way), expected) < 1e-5


ONE_PASS = """
import sys
import numpy as np
from tests.dynamics.test_targets import OTHERS, one_pass
found = {f"{n} {k} {i}": w for n, k in OTHERS for i, w in enumerate(one_pass(n, k))}
np.savez(sys.argv[1], **found)
"""


@tensorflow_only
@pytest.mark.thorough  # A process of JAX.
@pytest.mark.timeout(1800)
def test_jax_learns_the_same(tmp_path: Path) -> None:
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", ONE_PASS, str(tmp_path / "found.npz")]
    subprocess.run(command, check=True, env=environment, cwd=root)
    found = np.load(tmp_path / "found.npz")
    for name, kind in OTHERS:
        for i, weight in enumerate(one_pass(name, kind)):
            if weight.dtype.kind == "f":  # Not the state of a generator that is not drawn from.
                error = np.abs(found[f"{name} {kind} {i}"] - weight).max()
                assert error < 1e-5, f"{name} {kind} {i}"


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_refuses_by_name(name: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"`targets` must be .*{name}.*(Use|use|suit)"):
        made(name, kind)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: made("EquilibriumNetwork", "values", cost="cross_entropy"),
            '`cost` must be "mse"',
        ),
        (
            lambda: conv([5, 2], targets="values", cost="cross_entropy"),
            '`cost` must be "mse"',
        ),
        (lambda: made("ContrastiveHebbianNetwork", "labels", output="linear"), "`output` must be"),
        (lambda: made("ContrastiveHebbianNetwork", "values", output="sigmoid"), "`output` must be"),
        (lambda: made("PredictiveCodingNetwork", "labels", cost="squared"), "`cost` must be"),
        (lambda: dynamics.BurstpropNetwork([4, 3], targets="label"), "`targets` must be one of"),
        (lambda: dynamics.BurstpropNetwork([4, 3, 1]), "`sizes` must be .* at least 2"),
    ],
)
def test_arguments_that_do_not_go_together(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("labels", np.full((SAMPLES, 3), 1.5)),
        ("labels", np.full((SAMPLES, 2), 0.5)),
        ("binary", np.full((SAMPLES, 2), 0.5)),
        ("binary", np.full((SAMPLES,), -1)),
        ("values", np.full((SAMPLES, 2), 3.0)),
        ("values", np.full((SAMPLES, 2), np.nan)),
        ("values", np.full((SAMPLES,), 0.5)),
    ],
)
@pytest.mark.parametrize("stream", [False, pytest.param(True, marks=[tensorflow_only])])
def test_targets_that_cannot_be_learned(kind: str, wrong: np.ndarray, stream: bool) -> None:
    """The rates of this network are from 0 to 1; arrays and data sets are refused alike."""
    network = made("EquilibriumNetwork", kind)
    before = [array(weight).copy() for weight in network.weights]
    x, _ = task(kind)
    data: tuple[Any, ...] = (x, wrong)
    if stream:
        import tensorflow as tf

        data = (tf.data.Dataset.from_tensor_slices((x, wrong)).batch(16),)
    with pytest.raises(ValueError, match="`y` must be"):
        network.fit(*data, verbose=0)
    for weight, value in zip(network.weights, before, strict=True):
        np.testing.assert_array_equal(array(weight), value)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({}, "at least 0, the range of the outputs of LocalBackpropNetwork"),
        ({"activation": "resu", "steepness": 2.0}, "from 0 to 2, the range"),
    ],
)
def test_values_beyond_the_rates(arguments: dict[str, Any], allowed: str) -> None:
    """Where the last `A` is the identity; where it learns it weighs the rates."""
    x, y = task("values")
    network = dynamics.LocalBackpropNetwork([INPUTS, 2], targets="values", **arguments)
    network.compile()
    with pytest.raises(ValueError, match=f"`y` must be .*{allowed}"):
        network.fit(x, 5.0 * y - 4.0, verbose=0)
    free = dynamics.LocalBackpropNetwork(
        [INPUTS, 2], targets="values", fix_A=None, simulation_time=0.1, **arguments
    )
    free.compile()
    assert np.isfinite(free.train_on_batch(x, 5.0 * y - 4.0))


def test_metrics_that_fit() -> None:
    x, y = task("labels")
    network = made("BurstpropNetwork", "labels")
    network.compile(SGD(1.0), metrics=["accuracy", "mae"])
    scores = network.predict(x, verbose=0)
    soft = 0.2 + 0.6 * y
    found = network.evaluate(x, soft, return_dict=True, verbose=0)
    np.testing.assert_allclose(found["accuracy"], np.mean((scores >= 0.5) == (y > 0)), rtol=1e-6)
    np.testing.assert_allclose(found["mae"], np.abs(scores - soft).mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="`class_weight` must be left out"):
        network.fit(x, y, class_weight={0: 1.0}, verbose=0)
    values = made("ContrastiveHebbianNetwork", "values")
    with pytest.raises(ValueError, match="`metrics` must be measures of values"):
        values.compile(SGD(0.1), metrics=["accuracy"])
    values.compile(SGD(0.1), metrics=["r2_score"])
    assert "r2_score" in values.evaluate(*task("values"), return_dict=True, verbose=0)


@tensorflow_only  # In double precision.
def test_one_sigmoid_unit_is_two_softmax_units() -> None:
    """At half the rate, with opposite weights; the hidden layer keeps its rate."""
    x, y = task("binary")
    one = dynamics.PredictiveCodingNetwork(
        [INPUTS, 6, 1], inference="zil", targets="labels", dtype="float64"
    )
    two = dynamics.PredictiveCodingNetwork(
        [INPUTS, 6, 2], inference="zil", cost="cross_entropy", dtype="float64"
    )
    lower, bias, upper, threshold = (array(weight) for weight in one.trainable_variables)
    two.set_weights([lower, bias, np.concatenate([-upper, upper], 1) / 2, np.zeros(2)])
    # The rate of the upper layer is half that of the lower: a step of SGD by hand.
    for _ in range(20):
        for network, targets, top in ((one, y, 1.0), (two, y.astype("int32"), 0.5)):
            inputs, rows = network._prepared(x), network._targets(targets)
            share = np.full(SAMPLES, 1.0 / SAMPLES)
            found = network.changes(inputs, rows, network.free_phase(inputs), share)
            for index, (weight, change) in enumerate(found):
                weight.assign_add((top if index > 1 else 1.0) * array(change))
    lower, bias, upper, threshold = (array(weight) for weight in one.trainable_variables)
    other = [array(weight) for weight in two.trainable_variables]
    np.testing.assert_allclose(other[0], lower, rtol=0, atol=1e-14)
    np.testing.assert_allclose(other[2][:, 1] - other[2][:, 0], upper[:, 0], rtol=0, atol=1e-14)
    np.testing.assert_allclose(other[2][:, 1], -other[2][:, 0], rtol=0, atol=1e-14)
    np.testing.assert_allclose(other[3][1] - other[3][0], threshold[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("labels", keras.losses.BinaryCrossentropy(from_logits=True)),
        ("classes", keras.losses.CategoricalCrossentropy(from_logits=True)),
        ("values", keras.losses.MeanSquaredError()),
    ],
)
@tensorflow_only
def test_layer_by_layer_is_backpropagation_of_the_cost(kind: str, loss: Any) -> None:
    """Soft targets too: Z-IL has the gradient of the cost that belongs to the targets."""
    import tensorflow as tf

    x, y = task(kind)
    if kind == "classes":
        y = 0.85 * np.eye(3)[y] + 0.05
    elif kind == "labels":
        y = 0.1 + 0.7 * y
    cost = {} if kind == "values" else {"cost": "cross_entropy"}
    network = dynamics.PredictiveCodingNetwork(
        [INPUTS, 6, OUTPUTS[kind]],
        inference="zil",
        activation="tanh",
        targets=kind,
        dtype="float64",
        **cost,
    )
    inputs, rows = network._prepared(x), network._targets(y)
    share = np.full(SAMPLES, 1.0 / SAMPLES)
    found = network.changes(inputs, rows, network.free_phase(inputs), share)
    weights = [tf.Variable(array(weight)) for weight, _ in found]
    with tf.GradientTape() as tape:
        hidden = tf.tanh(tf.cast(x, "float64") @ weights[0] + weights[1])
        fields = hidden @ weights[2] + weights[3]
        # Keras takes the mean over outputs of all but classes.
        scale = {"labels": 3.0, "classes": 1.0, "values": 1.0}[kind]
        value = scale * tf.cast(loss(tf.cast(y, "float64"), fields), "float64")
    for (_, change), gradient in zip(found, tape.gradient(value, weights), strict=True):
        np.testing.assert_allclose(array(change), -array(gradient), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["BurstpropNetwork", "PredictiveCodingNetwork"])
def test_saved_and_loaded(name: str, tmp_path: Any) -> None:
    x, y = task("labels")
    network = made(name, "labels")
    network.fit(x, y, verbose=0)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert again.targets == "labels"
    np.testing.assert_array_equal(again.predict(x, verbose=0), network.predict(x, verbose=0))
    again.fit(x, y, verbose=0)


class Delta(dynamics.Network):
    """A network that says nothing of other targets than classes."""

    def __init__(self, sizes: Any, **kwargs: Any) -> None:
        super().__init__(sizes, **kwargs)
        self.built = True

    def free_phase(self, inputs: Any) -> Any:
        return (inputs,)

    def scores(self, inputs: Any, states: Any) -> Any:
        return states[0]

    def changes(self, inputs: Any, targets: Any, states: Any, share: Any) -> Any:
        return []


class DeltaOfValues(Delta):
    """One that does."""

    refused_targets: ClassVar[Any] = {"labels": "use another"}


def test_own_networks_say_what_they_learn() -> None:
    assert "targets" not in Delta([3, 3]).get_config()
    with pytest.raises(ValueError, match=r"`targets` must be 'classes' for Delta.*refused_targets"):
        Delta([3, 3], targets="values")
    assert DeltaOfValues([3, 1], targets="values").get_config()["targets"] == "values"
    assert kl.dynamics.Network.refused_targets.keys() == {"labels", "values"}
