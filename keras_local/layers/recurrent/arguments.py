"""Arguments of recurrent layers: their checks, and how a config says them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from keras import initializers

from keras_local import _keras_objects as objects
from keras_local import _validation as check
from keras_local import feedback as feedback_rules
from keras_local.feedback import FeedbackRule
from keras_local.layers.feedback.arguments import feedback_initializer_of

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
"""Arguments about feedback rules."""

OF_LAYER = ("name", "dtype", "trainable", "activity_regularizer")
"""Arguments of every Keras layer."""


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor from its local names, with `kwargs` unpacked."""
    found = {name: value for name, value in arguments.items() if name not in ("self", "__class__")}
    others: dict[str, Any] = found.pop("kwargs", {})
    return {**found, **others}


def checked(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the checked arguments of the built-in layer, and the arguments that are left."""
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
        # The value itself is kept, because the built-in layer draws the seeds in its own order.
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


def recurrent_initializer_of(value: Any) -> Any:
    """Return the initializer of the recurrent feedback kernel; None means that of the kernel."""
    if value is None:
        return None
    return feedback_initializer_of(value, "recurrent_feedback_initializer")


def config_of_rules(layer: Any, recurrent: FeedbackRule | None) -> dict[str, Any]:
    """Return what a config says about the rules of a layer.

    Optional arguments are left out where they were not given, as in the built-in layer's config.

    Args:
        layer: The recurrent layer.
        recurrent: The rule that the user gave as `recurrent_feedback`, or None.
    """
    first = layer.recurrent_feedback_initializer
    optional = {
        "recurrent_feedback": None if recurrent is None else feedback_rules.serialize(recurrent),
        "recurrent_feedback_initializer": None if first is None else initializers.serialize(first),
        "connectivity": layer.connectivity,
    }
    return {
        "feedback": feedback_rules.serialize(layer.feedback),
        "feedback_initializer": initializers.serialize(layer.feedback_initializer),
        "time_rule": layer.time_rule,
        **{name: value for name, value in optional.items() if value is not None},
    }
