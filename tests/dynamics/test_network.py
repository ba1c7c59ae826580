"""What the interface of networks decides by itself."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from keras_local import dynamics
from tests.support import BACKEND, tensorflow_only, two_replicas


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
