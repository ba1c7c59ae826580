"""Direct layers from an alias, or as they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from keras_local import _validation as check
from keras_local.layers.direct.direct_feedback import DirectFeedback
from keras_local.layers.direct.direct_random_target import DirectRandomTarget
from keras_local.layers.direct.layer import DirectLayer

DirectAlias = Literal["direct_feedback", "direct_random_target"]
"""The names of direct layers with their default arguments."""

_ALIASES: dict[str, Callable[..., DirectLayer]] = {
    "direct_feedback": DirectFeedback,
    "direct_random_target": DirectRandomTarget,
}


def direct_layer(argument: str, value: DirectAlias | DirectLayer) -> DirectLayer:
    """Return a direct layer that is not built.

    Args:
        argument: Name of the argument, for the message.
        value: An alias, or a layer that derives from `DirectLayer`.

    Raises:
        ValueError: For anything else, or a layer that is built.
    """
    if isinstance(value, str) and value in _ALIASES:
        return _ALIASES[value](name=value)
    aliases = ", ".join(map(repr, _ALIASES))
    unbuilt = isinstance(value, DirectLayer) and not value.built
    check.require(unbuilt, argument, f"one of {aliases} or a direct layer, not built", value)
    return value  # type: ignore[return-value]
