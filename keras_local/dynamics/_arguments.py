"""Checks of arguments that several networks share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np

from keras_local import _keras_objects as keras_objects
from keras_local import _validation as check

Cost = Literal["mse", "cross_entropy"]
"""The cost: half the squared distance from the labels, or the cross-entropy of a softmax."""


NONE_REFUSED: Mapping[str, str] = {}
"""The `refused_targets` of networks that learn all kinds."""

RATES_ALONE: Mapping[str, str] = {
    "values": "its outputs are rates from 0 to 1, which reach no other values. Scale the values to "
    'that range and give them as targets="labels", or use PredictiveCodingNetwork, '
    "ContrastiveHebbianNetwork or DifferenceTargetPropagation"
}
"""The `refused_targets` of networks whose outputs are rates."""


def checked_cost(cost: Any, targets: str) -> Cost:
    """Return the cost, after a check that it fits the targets: values have no cross-entropy."""
    name: Cost = check.one_of("cost", cost, ("mse", "cross_entropy"))
    fits = targets != "values" or name == "mse"
    check.require(fits, "cost", '"mse" with targets="values"', cost)
    return name


def checked_choice(argument: str, value: Any, targets: str, usual: str, of_labels: str) -> str:
    """Return one of two choices, after a check that it fits the targets.

    Args:
        argument: Name of the argument.
        value: The user's choice; None for the one that fits.
        targets: The kind of targets.
        usual: The choice that values need.
        of_labels: The choice that labels need.
    """
    if value is None:
        return of_labels if targets == "labels" else usual
    name: str = check.one_of(argument, value, (usual, of_labels))
    needed = {"labels": of_labels, "values": usual}.get(targets, name)
    check.require(name == needed, argument, f'"{needed}" with targets="{targets}"', value)
    return name


def layer_sizes(argument: str, value: Any, outputs: int = 2) -> tuple[int, ...]:
    """Return the sizes of at least two layers as integers, the last at least `outputs`."""
    valid = isinstance(value, (list, tuple)) and len(value) >= 2
    allowed = "a list of at least two sizes: inputs, hidden layers if any, outputs"
    check.require(valid, argument, allowed, value)
    counts = [check.positive_integer(argument, size) for size in value]
    check.positive_integer(argument, counts[-1], minimum=outputs)
    return tuple(counts)


def initializer(argument: str, value: Any, default: Any = None) -> Any:
    """Return the initializer for a name or an object; None means the default, if there is one."""
    if value is None and default is not None:
        return default
    allowed = "a Keras initializer, the name of one, or a function of shape and dtype"
    # An array has one shape, but the layers have several shapes.
    array = isinstance(value, (np.ndarray, np.generic)) or keras.ops.is_tensor(value)
    fits = value is not None and not array and not isinstance(value, type)
    check.require(fits, argument, allowed, value)
    return keras_objects.initializer(argument, value)


def precision(argument: str, value: Any) -> Any:
    """Return a dtype or policy, or refuse it if a network cannot compute in it."""
    allowed = "None, the name of a floating-point type, or a policy of them such as mixed_float16"
    policy = keras_objects.dtype_policy(argument, value)
    known = isinstance(policy, keras.dtype_policies.DTypePolicy)
    types = (policy.compute_dtype, policy.variable_dtype) if known else ("unknown",)
    floating = all(str(each).startswith(("float", "bfloat")) for each in types)
    quantised = getattr(policy, "quantization_mode", None) is not None
    check.require(floating and not quantised, argument, allowed, value)
    return value


def layer_arguments(name: Any, dtype: Any, trainable: Any) -> dict[str, Any]:
    """Return checked arguments of every Keras layer."""
    return {
        "name": None if name is None else check.text("name", name),
        "dtype": precision("dtype", dtype),
        "trainable": check.flag("trainable", trainable),
    }


def several(argument: str, value: Any, options: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Return `value` as a tuple of `count` options; None means the first option for each."""
    if value is None:
        return (options[0],) * count
    allowed = f"a list of {count}, each one of " + ", ".join(map(repr, options))
    valid = isinstance(value, (list, tuple)) and len(value) == count
    check.require(valid, argument, allowed, value)
    check.require(all(each in options for each in value), argument, allowed, value)
    return tuple(value)


def check_steps(simulation_time: float, time_step: float) -> None:
    """Refuse a time step that is so small that the steps of a phase cannot be counted."""
    steps = simulation_time / time_step
    least = simulation_time / check.LARGEST
    allowed = f"at least {least:.3g}: with `simulation_time` of {simulation_time:g} the steps of a "
    check.require(steps < check.LARGEST, "time_step", f"{allowed}phase are too many", time_step)
