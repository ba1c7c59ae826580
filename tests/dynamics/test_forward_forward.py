"""Forward-Forward against finite differences of the loss of each layer by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local import datasets
from keras_local.dynamics import ForwardForwardNetwork
from tests.support import BACKEND, array

double = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked for")

SIZES = [9, 7, 5, 4]


def problem(**arguments: Any) -> tuple[Any, ...]:
    """A network in float64, its `W` and `b`, samples and integer labels."""
    rng = np.random.default_rng(4)
    network = ForwardForwardNetwork(SIZES, dtype="float64", **arguments)
    W = [rng.normal(size=shape) for shape in ((9, 7), (7, 5))]
    b = [0.3 * rng.normal(size=units) for units in (7, 5)]
    for synapses, kernel, bias in zip(network.synapses, W, b, strict=True):
        synapses.kernel.assign(kernel)
        synapses.bias.assign(bias)
    return network, (W, b), rng.random((6, 9)), np.array([0, 3, 1, 1, 2, 0])


def direction(h: np.ndarray) -> np.ndarray:
    return h / (np.linalg.norm(h) + 1e-4)


def with_label(x: np.ndarray, label: int) -> np.ndarray:
    written = x.copy()
    written[:4] = 0.0
    written[label] = 1.0
    return written


def activities(x: np.ndarray, W: Any, b: Any) -> list[np.ndarray]:
    """Of all layers for one sample, the input first."""
    layers = [x]
    for kernel, bias in zip(W, b, strict=True):
        layers.append(np.maximum(direction(layers[-1]) @ kernel + bias, 0.0))
    return layers


def layer_loss(below: Any, kernel: Any, bias: Any, goodness: str, threshold: float) -> float:
    """Of one layer: the mean over pairs of what is below, with the right label and a wrong one."""
    loss = 0.0
    for right, wrong in zip(*below, strict=True):
        for sign, h in ((1.0, right), (-1.0, wrong)):
            squares = np.maximum(direction(h) @ kernel + bias, 0.0) ** 2
            value = squares.mean() if goodness == "mean" else squares.sum()
            loss += np.log1p(np.exp(sign * (threshold - value))) / len(below[0])
    return loss


def changes_of(network: Any, inputs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """What the network would change, always with its first draws."""
    network.draw_count.assign(0)
    x, y = ops.convert_to_tensor(inputs), ops.convert_to_tensor(np.eye(4)[labels])
    share = ops.full((len(inputs),), 1 / len(inputs), dtype="float64")
    changes = network.changes(x, y, network.free_phase(x), share)
    return {"/".join(weight.path.split("/")[-2:]): array(change) for weight, change in changes}


def first_draws(network: Any, labels: np.ndarray) -> np.ndarray:
    network.draw_count.assign(0)
    return array(network.draw_negatives(ops.convert_to_tensor(labels.astype("int32"))))


@double
@pytest.mark.parametrize(("goodness", "threshold"), [("sum", 2.0), ("mean", 0.5)])
def test_changes_are_the_gradient_of_the_layers_own_loss(goodness: str, threshold: float) -> None:
    network, (W, b), inputs, labels = problem(goodness=goodness, threshold=threshold)
    wrong = first_draws(network, labels)
    found = changes_of(network, inputs, labels)
    step = 1e-6
    for k in range(2):
        below = [
            [activities(with_label(x, c), W, b)[k] for x, c in zip(inputs, chosen, strict=True)]
            for chosen in (labels, wrong)
        ]
        for name, weights in (("kernel", W[k]), ("bias", b[k])):
            wanted = np.zeros(weights.shape)
            for place in np.ndindex(weights.shape):
                sides = []
                for way in (step, -step):
                    moved = weights.copy()
                    moved[place] += way
                    one = (moved, b[k]) if name == "kernel" else (W[k], moved)
                    sides.append(layer_loss(below, *one, goodness, threshold))
                wanted[place] = (sides[1] - sides[0]) / (2 * step)
            change = found[f"synapses_{k + 1}/{name}"]
            np.testing.assert_allclose(change, wanted, atol=1e-8)
            assert np.abs(wanted).max() > 1e-3


@double
def test_no_layer_learns_from_the_one_above() -> None:
    """FF-1: layer 1 learns the same, to the bit, whatever layer 2 is."""
    network, (W, _), inputs, labels = problem()
    before = changes_of(network, inputs, labels)
    network.synapses[1].kernel.assign(-2.0 * W[1])
    after = changes_of(network, inputs, labels)
    for path, change in before.items():
        same = np.array_equal(change, after[path])
        assert same == path.startswith("synapses_1"), path


@double
def test_goodness_is_stripped_between_layers() -> None:
    """Eight times the activity below, and the layer above sees it up to `1e-4` of its length."""
    network, (W, b), inputs, labels = problem()
    x = ops.convert_to_tensor(inputs)
    learned, states = changes_of(network, inputs, labels), network.free_phase(x)
    goodness = [array(layer) for layer in network.goodness(states)]
    network.synapses[0].kernel.assign(8.0 * W[0])
    network.synapses[0].bias.assign(8.0 * b[0])
    louder = [array(layer) for layer in network.goodness(network.free_phase(x))]
    np.testing.assert_allclose(louder[0], 64.0 * goodness[0], rtol=1e-12)
    np.testing.assert_allclose(louder[1], goodness[1], rtol=1e-3)
    again = changes_of(network, inputs, labels)
    for name in ("kernel", "bias"):
        path = f"synapses_2/{name}"
        np.testing.assert_allclose(again[path], learned[path], atol=1e-3 * abs(learned[path]).max())
        assert not np.allclose(again[f"synapses_1/{name}"], learned[f"synapses_1/{name}"], rtol=0.1)


@double
@pytest.mark.parametrize(("scored", "first"), [("all", 0), ("upper", 1)])
def test_scores_are_goodness_with_each_label(scored: str, first: int) -> None:
    network, (W, b), inputs, _ = problem(scored=scored)
    wanted = np.zeros((6, 4))
    for i, x in enumerate(inputs):
        for label in range(4):
            layers = activities(with_label(x, label), W, b)[1:]
            wanted[i, label] = sum(np.sum(h**2) for h in layers[first:])
    np.testing.assert_allclose(array(network(inputs)), wanted, rtol=1e-12)
    # What stands in the place of the label is not seen.
    np.testing.assert_array_equal(
        array(network(np.hstack([5.0 * inputs[:, ::-1][:, :4], inputs[:, 4:]]))),
        array(network(inputs)),
    )


def test_a_negative_never_carries_the_right_label() -> None:
    """All wrong labels come alike, each time others, and two classes leave no choice."""
    network = ForwardForwardNetwork(SIZES)
    labels = np.repeat(np.arange(4), 900).astype("int32")
    draws = [array(network.draw_negatives(ops.convert_to_tensor(labels))) for _ in range(2)]
    assert not np.array_equal(*draws)
    for wrong in draws:
        assert not np.any(wrong == labels)
        counts = np.zeros((4, 4))
        np.add.at(counts, (labels, wrong), 1)
        assert np.abs(counts[~np.eye(4, dtype=bool)] - 300).max() < 75  # Five deviations.
    assert int(array(network.draw_count)) == 7200
    assert not np.array_equal(first_draws(ForwardForwardNetwork(SIZES, seed=1), labels), draws[0])
    other = first_draws(ForwardForwardNetwork([4, 3, 2]), labels % 2)
    np.testing.assert_array_equal(other, 1 - labels % 2)


def test_draws_go_on_where_they_were_saved(tmp_path: Path) -> None:
    network = ForwardForwardNetwork(SIZES)
    labels = ops.convert_to_tensor(np.zeros(50, "int32"))
    first = array(network.draw_negatives(labels))
    network.save(tmp_path / "network.keras")
    restored = keras.saving.load_model(tmp_path / "network.keras")
    second = array(network.draw_negatives(labels))
    np.testing.assert_array_equal(array(restored.draw_negatives(labels)), second)
    assert not np.array_equal(first, second)


def test_draws_begin_anew_only_after_all_of_them() -> None:
    network = ForwardForwardNetwork(SIZES)
    labels = ops.convert_to_tensor(np.zeros(10000, "int32"))
    draws = np.concatenate([array(network.draw_negatives(labels)) for _ in range(4)])
    np.testing.assert_array_equal(draws[:16381], draws[16381:32762])
    assert int(array(network.draw_count)) == 40000 - 2 * 16381


@pytest.mark.daily
@pytest.mark.slow
def test_it_learns_digits() -> None:
    pytest.importorskip("sklearn")
    (images, labels), (test_images, test_labels) = datasets.load("digits", flatten=True)
    network = ForwardForwardNetwork([64, 64, 64, 10])
    network.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    network.fit(images, labels, batch_size=50, epochs=8, verbose=0)
    _, accuracy = network.evaluate(test_images, test_labels, verbose=0)
    assert accuracy > 0.8


BAD: list[tuple[str, dict[str, Any]]] = [
    ("sizes", {"sizes": [6, 2]}),
    ("sizes", {"sizes": [6, 4, 2], "scored": "upper"}),
    ("sizes", {"sizes": [3, 4, 3]}),
    ("goodness", {"goodness": "max"}),
    ("threshold", {"threshold": 0.0}),
    ("scored", {"scored": "last"}),
    ("seed", {"seed": -1}),
]


@pytest.mark.parametrize(("argument", "arguments"), BAD)
def test_bad_arguments(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        ForwardForwardNetwork(**{"sizes": [6, 4, 3], **arguments})
