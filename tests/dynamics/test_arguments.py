"""What no network takes is refused by the name of the argument that the user wrote."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import pytest

from keras_local import dynamics

JUNK = [object(), "no such thing", 10**30, -1, float("nan"), keras.layers.Dense, [None]]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "ConvEquilibriumNetwork": {"input_shape": (5, 6, 1), "filters": (3, 4), "classes": 3},
    "RecirculationAutoencoder": {"visible": 4, "hidden": 2},
    "LocalBackpropNetwork": {"sizes": [4, 3]},
    "Synapses": {"units": 3},
    "ConvSynapses": {"filters": 3},
}
CLASSES = [name for name in dynamics.__all__ if name != "Network"]


def given(name: str) -> dict[str, Any]:
    return ARGUMENTS.get(name, {"sizes": [5, 4, 3]})


def refusal(make: Callable[..., Any], arguments: dict[str, Any]) -> str | None:
    try:
        make(**arguments)
    except (ValueError, TypeError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", CLASSES)
def test_junk_is_refused_by_name_or_taken(name: str) -> None:
    """By name, or the argument is one for which the value has a meaning."""
    make = getattr(dynamics, name)
    taken = []
    for argument in inspect.signature(make.__init__).parameters:
        if argument == "self":
            continue
        for value in JUNK:
            message = refusal(make, {**given(name), argument: value})
            if message is None:
                taken.append((argument, value))
            else:
                assert f"`{argument}`" in message, message
    meant = ("name", "learning_rate", "activity_regularizer")
    for argument, value in taken:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        assert number or argument in meant, (argument, value)


@pytest.mark.parametrize("name", CLASSES)
def test_flags_are_bools(name: str) -> None:
    make = getattr(dynamics, name)
    for argument, parameter in inspect.signature(make.__init__).parameters.items():
        if isinstance(parameter.default, bool):
            for value in ("no", 1, None):
                with pytest.raises(ValueError, match=f"`{argument}` must be True or False"):
                    make(**{**given(name), argument: value})


@pytest.mark.parametrize("name", CLASSES)
def test_arguments_are_listed_and_typed(name: str) -> None:
    """A misspelt argument is an error for a type checker, and at once when it is run."""
    make = getattr(dynamics, name)
    parameters = inspect.signature(make.__init__).parameters.values()
    assert not [each for each in parameters if each.kind is each.VAR_KEYWORD]
    assert {"name", "dtype", "trainable"} <= {each.name for each in parameters}
    for each in parameters:
        assert each.name == "self" or each.annotation not in (each.empty, "Any"), each
    with pytest.raises(TypeError, match="kernel_initializr"):
        make(**given(name), kernel_initializr="zeros")


@pytest.mark.parametrize(
    "sizes", [[784, "a", 10], [3], [4, -1, 2], [4, 10**30], [4, True, 2], "784", 5, None, [4, 2.5]]
)
def test_sizes(sizes: Any) -> None:
    for name in CLASSES:
        if name not in ("ConvEquilibriumNetwork", "RecirculationAutoencoder", "Synapses"):
            if name == "ConvSynapses":
                continue
            with pytest.raises(ValueError, match="`sizes` must be"):
                getattr(dynamics, name)(sizes)


@pytest.mark.parametrize("dtype", ["int32", "float31", "int8_from_float32", 3, object()])
def test_precisions_in_which_no_network_computes(dtype: Any) -> None:
    with pytest.raises(ValueError, match="`dtype` must be"):
        dynamics.EquilibriumNetwork([4, 3, 2], dtype=dtype)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("optimizer", "no_such"),
        ("optimizer", None),
        ("optimizer", 3),
        ("loss", "mse"),
        ("loss_weights", [1.0]),
        ("run_eagerly", "yes"),
        ("auto_scale_loss", 1),
        ("steps_per_execution", 0),
        ("jit_compile", "always"),
    ],
)
def test_compile(argument: str, value: Any) -> None:
    network = dynamics.EquilibriumNetwork([4, 3, 2])
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        network.compile(**{argument: value})
    assert not network.compiled
