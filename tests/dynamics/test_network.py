"""What the interface of networks decides by itself."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import dynamics
from tests.support import BACKEND, array, tensorflow_only, two_replicas, weights_of


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Any:
    # Off in tests for the time that compiling takes.
    monkeypatch.setattr(dynamics.Network, "suits_xla", True)
    return dynamics.EquilibriumNetwork([4, 3, 2])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, BACKEND != "torch"),
        ({"jit_compile": "auto"}, BACKEND != "torch"),
        ({"jit_compile": False}, False),
        ({"run_eagerly": True}, False),
    ],
)
def test_networks_are_compiled_unless_told_otherwise(
    network: Any, options: dict[str, Any], expected: bool
) -> None:
    network.compile(keras.optimizers.SGD(0.1), **options)
    assert network.jit_compile == expected
    assert network.get_compile_config()["jit_compile"] == options.get("jit_compile", "auto")


@tensorflow_only
def test_replicas_and_convolutions_are_not_compiled(network: Any) -> None:
    with two_replicas().scope():
        several = dynamics.EquilibriumNetwork([4, 3, 2])
        several.compile("sgd")
    assert not several.jit_compile
    several.compile("sgd")
    assert not several.jit_compile
    convolutional = dynamics.ConvEquilibriumNetwork((4, 4, 1), (2,), 3)
    convolutional.compile("sgd")
    assert not convolutional.jit_compile


@tensorflow_only
def test_forms_of_labels_one_after_the_other() -> None:
    """One graph serves integers, a column of them, and rows: Keras makes none anew for each."""
    x = np.random.default_rng(0).random((12, 4)).astype("float32")
    y = np.arange(12) % 3
    forms = [y, y[:, None], np.eye(3, dtype="float32")[y], y.astype("float32")]
    network = dynamics.PredictiveCodingNetwork([4, 5, 3])
    network.compile("sgd", jit_compile=False, metrics=["accuracy"])
    found = [network.evaluate(x, form, verbose=0) for form in forms * 2]
    np.testing.assert_allclose(found, [found[0]] * len(found), rtol=1e-5)
    right = network.predict(x, verbose=0).argmax(axis=-1) == y
    assert found[0][1] == pytest.approx(right.mean())
    start, ends = network.get_weights(), []
    for form in forms * 2:
        network.set_weights(start)
        network.train_on_batch(x, form)
        ends.append(weights_of(network)[0])
    assert np.abs(ends[0] - start[0]).max() > 1e-4
    for end in ends:
        np.testing.assert_allclose(end, ends[0], atol=1e-6)


@tensorflow_only
@pytest.mark.parametrize("empty", [lambda: iter(()), lambda: (batch for batch in [])])
def test_an_empty_generator_is_refused_by_name_and_changes_nothing(empty: Any) -> None:
    x = np.random.default_rng(0).random((12, 4)).astype("float32")
    y = np.arange(12) % 3
    network = dynamics.PredictiveCodingNetwork([4, 5, 3])
    network.compile(keras.optimizers.SGD(0.1, momentum=0.5), jit_compile=False)
    network.fit(x, y, verbose=0)
    before = [array(each) for each in (*network.weights, *network.optimizer.variables)]
    for argument, call in {
        "validation_data": lambda: network.fit(x, y, validation_data=empty(), verbose=0),
        "x": lambda: network.evaluate(empty(), verbose=0),
    }.items():
        with pytest.raises(ValueError, match=f"`{argument}` must be a source of at least one"):
            call()
    after = [array(each) for each in (*network.weights, *network.optimizer.variables)]
    for one, other in zip(after, before, strict=True):
        np.testing.assert_array_equal(one, other)
