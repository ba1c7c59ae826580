"""What holds for every call of a constructor: it is refused by name, or what it makes is usable."""

from __future__ import annotations

import inspect
import re
import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tests.fuzz.constructors import sample_shape


class Fault(AssertionError):
    """A call that was neither refused by name nor usable."""


@dataclass(frozen=True)
class Call:
    """One call of a constructor.

    Attributes:
        cls: The class.
        given: The arguments.
        valid: The arguments before anything bad was put in.
        planted: What was put in the place of valid values, by argument; for the report.
        wrong: The planted arguments that have to be refused.
        build: Whether a layer is built and called too.
    """

    cls: type
    given: dict[str, Any]
    valid: dict[str, Any]
    planted: dict[str, str]
    wrong: list[str]
    build: bool

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={shown}" for name, shown in self.planted.items())
        return f"{self.cls.__name__}({shown})"


def check_call(call: Call) -> None:
    """Make an object and use it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = call.cls(**call.given)
        except (ValueError, TypeError) as error:
            _check_refusal(call, str(error))
            return
        except Exception as error:
            raise Fault(f"{call}: {type(error).__name__}: {error!s:.150}") from error
        if call.wrong:
            raise Fault(f"{call}: accepted, and {call.wrong} cannot be right")
        try:
            _check_config(made, call.cls)
            if call.build and not call.planted:
                _check_use(made, call.cls)
        except Exception as error:
            if _fails_in_keras(call, type(error)):
                return
            name = type(error).__name__
            raise Fault(f"{call}: accepted, not usable: {name}: {error!s:.150}") from error


def _check_refusal(call: Call, message: str) -> None:
    if any(_names(message, name) for name in call.planted):
        return
    # Values that are right one by one may not fit each other.
    try:
        call.cls(**call.valid)
    except (ValueError, TypeError) as error:
        if any(_names(str(error), name) for name in call.valid):
            return
    raise Fault(f"{call}: names none of its arguments: {message:.150}")


def _names(message: str, argument: str) -> bool:
    return re.search(rf"(?<![a-z_]){re.escape(argument)}(?![a-z_])", message) is not None


def _check_config(made: Any, cls: type) -> None:
    if not hasattr(made, "get_config"):
        return
    with keras.saving.custom_object_scope({cls.__name__: cls}):
        stored = keras.saving.serialize_keras_object(made)
        restored = keras.saving.deserialize_keras_object(stored, safe_mode=False)
    again = keras.saving.serialize_keras_object(restored)
    assert again == stored, f"its config does not come back: {stored} {again}"


def _fails_in_keras(call: Call, kind: type[Exception]) -> bool:
    """Whether the built-in layer with the same arguments fails in the same way when it is called.

    `Conv1DTranspose(3, 2, padding="same", output_padding=0)` does, on TensorFlow with oneDNN.
    """
    stock = getattr(keras.layers, call.cls.__name__.removeprefix("Feedback"), None)
    if stock is None:
        return False
    known = {*inspect.signature(stock).parameters, "name", "dtype", "trainable"}
    shared = {name: value for name, value in call.given.items() if name in known}
    try:
        _check_use(stock(**shared), call.cls)
    except Exception as error:
        return isinstance(error, kind)
    return False


def _check_use(made: Any, cls: type) -> None:
    if not isinstance(made, keras.layers.Layer) or isinstance(made, keras.Model):
        return
    inputs = np.ones((2, *sample_shape(cls)), "float32")
    if "Attention" in cls.__name__:
        made(inputs, inputs)
    elif "Direct" in cls.__name__:
        made([inputs, inputs])
    else:
        made(inputs)
