"""Resolution of arguments that stand for objects of Keras, with refusals that name the argument.

Keras' own look-ups speak of an identifier, or take any callable and fail when it is called. What
comes out of these functions can be called as a layer will call it.
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
    """Return the function that `value` stands for; the identity for None."""
    allowed = "None, the name of a Keras activation, or a function or layer of one tensor"
    no_class = not inspect.isclass(value) and not isinstance(value, tuple(_FAMILIES.values()))
    check.require(no_class, argument, allowed, value)
    found: Callable[..., Any] = _found(keras.activations.get, argument, allowed, value)
    check.require(_takes(found, None), argument, allowed, value)
    return found


def initializer(argument: str, value: Any) -> Any:
    """Return the initializer that `value` stands for; None stands for Keras' default."""
    allowed = "the name of a Keras initializer, an initializer, or a function of shape and dtype"
    # Keras makes a function of an array, whatever its shape; such a layer could not be saved.
    array = isinstance(value, (numbers.Number, np.ndarray, np.generic))
    constant = "; for values of your own, `keras.initializers.Constant(...)`"
    no_array = not array and not keras.ops.is_tensor(value)
    check.require(no_array, argument, allowed + constant, value)
    found = _of_family("initializer", keras.initializers.get, argument, allowed, value)
    takes = found is None or _takes(found, (1,), dtype="float32")
    check.require(takes, argument, allowed, value)
    return found


def regularizer(argument: str, value: Any) -> Any:
    """Return the regularizer that `value` stands for; None for none."""
    allowed = "None, the name of a Keras regularizer, a regularizer, or a function of a tensor"
    return _of_tensor("regularizer", keras.regularizers.get, argument, allowed, value)


def constraint(argument: str, value: Any) -> Any:
    """Return the constraint that `value` stands for; None for none."""
    allowed = "None, the name of a Keras constraint, a constraint, or a function of a tensor"
    return _of_tensor("constraint", keras.constraints.get, argument, allowed, value)


def of_kernel(name: str, initializer_: Any, regularizer_: Any, constraint_: Any) -> dict[str, Any]:
    """Return the arguments about a kernel, given under the name that it has in a layer."""
    return {
        "kernel_initializer": initializer(f"{name}_initializer", initializer_),
        "kernel_regularizer": regularizer(f"{name}_regularizer", regularizer_),
        "kernel_constraint": constraint(f"{name}_constraint", constraint_),
    }


def dtype_policy(argument: str, value: Any) -> Any:
    """Return the policy that `value` stands for; Keras' default for None."""
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
    """Look an object up, and refuse those of which Keras knows that they are something else."""
    found = _found(get, argument, allowed, value)
    strangers = [kind for name, kind in _FAMILIES.items() if name != family]
    stranger = isinstance(found, (*strangers, keras.layers.Layer))
    check.require(not stranger, argument, allowed, value)
    return found


def _found(get: Callable[[Any], Any], argument: str, allowed: str, value: Any) -> Any:
    try:
        return get(value)
    except Exception as error:
        # Whatever happens in there: a class of the user's is made here without its arguments. What
        # Keras says of a config that it cannot restore tells more than the config.
        said = f" ({error})" if isinstance(value, dict) else ""
        raise ValueError(check.refusal(argument, allowed, value) + said) from error


def _takes(function: Any, *arguments: Any, **named: Any) -> bool:
    """Tell whether a function can be called so; True where Python cannot tell."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    except ValueError:
        # A function of C without a signature.
        return True
    return True
