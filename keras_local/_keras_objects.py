"""Functions that resolve arguments for Keras objects, with errors that name the argument.

Keras' own look-ups name only an "identifier", or accept any callable, which fails when it is
called. The results of these functions can be called by a layer.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_local import _validation as check

_FAMILIES: dict[str, type] = {
    "initializer": keras.initializers.Initializer,
    "regularizer": keras.regularizers.Regularizer,
    "constraint": keras.constraints.Constraint,
}


def activation(argument: str, value: Any) -> Callable[..., Any]:
    """Return the activation function for `value`; None means the identity."""
    allowed = "None, the name of a Keras activation, or a function or layer of one tensor"
    no_class = not inspect.isclass(value) and not isinstance(value, tuple(_FAMILIES.values()))
    check.require(no_class, argument, allowed, value)
    found: Callable[..., Any] = _found(keras.activations.get, argument, allowed, value)
    check.require(_takes(found, None), argument, allowed, value)
    return found


def initializer(argument: str, value: Any) -> Any:
    """Return the initializer for `value`; None means Keras' default."""
    allowed = "the name of a Keras initializer, an initializer, or a function of shape and dtype"
    # Keras makes a function of an array of any shape, but such a layer could not be saved.
    array = isinstance(value, (numbers.Number, np.ndarray, np.generic))
    constant = "; for values of your own, `keras.initializers.Constant(...)`"
    no_array = not array and not keras.ops.is_tensor(value)
    check.require(no_array, argument, allowed + constant, value)
    found = _of_family("initializer", keras.initializers.get, argument, allowed, value)
    takes = found is None or _takes(found, (1,), dtype="float32")
    check.require(takes, argument, allowed, value)
    return found


def regularizer(argument: str, value: Any) -> Any:
    """Return the regularizer for `value`; None means no regularizer."""
    allowed = "None, the name of a Keras regularizer, a regularizer, or a function of a tensor"
    return _of_tensor("regularizer", keras.regularizers.get, argument, allowed, value)


def constraint(argument: str, value: Any) -> Any:
    """Return the constraint for `value`; None means no constraint."""
    allowed = "None, the name of a Keras constraint, a constraint, or a function of a tensor"
    return _of_tensor("constraint", keras.constraints.get, argument, allowed, value)


def of_kernel(name: str, initializer_: Any, regularizer_: Any, constraint_: Any) -> dict[str, Any]:
    """Return the arguments about a kernel under the names that they have in a layer."""
    return {
        "kernel_initializer": initializer(f"{name}_initializer", initializer_),
        "kernel_regularizer": regularizer(f"{name}_regularizer", regularizer_),
        "kernel_constraint": constraint(f"{name}_constraint", constraint_),
    }


def dtype_policy(argument: str, value: Any) -> Any:
    """Return the dtype policy for `value`; None means Keras' default."""
    allowed = "None, the name of a precision or of a Keras dtype policy, or a policy"
    check.require(not inspect.isclass(value), argument, allowed, value)
    return _found(keras.dtype_policies.get, argument, allowed, value)


def _of_tensor(
    family: str, get: Callable[[Any], Any], argument: str, allowed: str, value: Any
) -> Any:
    found = _of_family(family, get, argument, allowed, value)
    check.require(found is None or _takes(found, None), argument, allowed, value)
    return found


def _of_family(
    family: str, get: Callable[[Any], Any], argument: str, allowed: str, value: Any
) -> Any:
    """Look an object up, and refuse an object that Keras knows as another kind."""
    found = _found(get, argument, allowed, value)
    strangers = [kind for name, kind in _FAMILIES.items() if name != family]
    stranger = isinstance(found, (*strangers, keras.layers.Layer))
    check.require(not stranger, argument, allowed, value)
    return found


def _found(get: Callable[[Any], Any], argument: str, allowed: str, value: Any) -> Any:
    try:
        return get(value)
    except Exception as error:
        # Any error may occur, for example if a user's class is made here without its arguments.
        # Keras' message about a config that it cannot restore says more than the config.
        said = f" ({error})" if isinstance(value, dict) else ""
        raise ValueError(check.refusal(argument, allowed, value) + said) from error


def _takes(function: Any, *arguments: Any, **named: Any) -> bool:
    """Return whether a function can be called with these arguments, or True if this is unknown."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    except ValueError:
        # This is a C function without a signature.
        return True
    return True
