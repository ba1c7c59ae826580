"""Arguments of recurrent layers, as a user gave them and once they are sound."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from keras_local import _keras_objects as objects
from keras_local import _validation as check

_FLAGS = (
    "use_bias",
    "return_sequences",
    "return_state",
    "go_backwards",
    "stateful",
    "unroll",
    "zero_output_for_mask",
)
RULES = (
    "feedback",
    "feedback_initializer",
    "recurrent_feedback",
    "recurrent_feedback_initializer",
    "time_rule",
    "connectivity",
)
"""What the layer says about its rules."""

OF_LAYER = ("name", "dtype", "trainable", "activity_regularizer")
"""What every Keras layer has."""


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a constructor was given: its local names, without those that are no argument."""
    found = {name: value for name, value in arguments.items() if name not in ("self", "__class__")}
    others: dict[str, Any] = found.pop("kwargs", {})
    return {**found, **others}


def checked(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments for the built-in layer, once they are sound, and all that is left."""
    found: dict[str, Any] = {name: check.flag(name, arguments.pop(name)) for name in _FLAGS}
    found["units"] = check.positive_integer("units", arguments.pop("units"))
    found["activation"] = objects.activation("activation", arguments.pop("activation"))
    state = random.getstate()
    for name in ("kernel", "recurrent", "bias"):
        argument = f"{name}_initializer"
        value = arguments.pop(argument)
        if value is None:
            value = "zeros" if name == "bias" else "glorot_uniform"
        objects.initializer(argument, value)
        # As it was given: the built-in layer draws the seeds, in its own order.
        found[argument] = value
    random.setstate(state)
    for name in ("kernel", "recurrent", "bias"):
        for kind in ("regularizer", "constraint"):
            argument = f"{name}_{kind}"
            found[argument] = getattr(objects, kind)(argument, arguments.pop(argument))
    for name in ("dropout", "recurrent_dropout"):
        found[name] = check.real(name, arguments.pop(name), minimum=0.0, maximum=1.0)
    found["seed"] = check.seed("seed", arguments.pop("seed"))
    return found, arguments
