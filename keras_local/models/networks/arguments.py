"""Checks of arguments that the networks share."""

from __future__ import annotations

from typing import Any

from keras_local import _validation as check


def image_shape(argument: str, value: Any) -> tuple[int, int, int]:
    """Return `value` (height, width and channels) as a tuple of three integers."""
    allowed = "three integers of at least 1: height, width and channels"
    check.require(isinstance(value, (tuple, list)) and len(value) == 3, argument, allowed, value)
    height, width, channels = (check.positive_integer(argument, size) for size in value)
    return height, width, channels
