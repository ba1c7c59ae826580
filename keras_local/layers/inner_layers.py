"""Layers inside of a layer: where its attributes hold them, and how one is exchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.layers.plain_form import all_layers, known_arguments

_OWN = ("_layers", "_tracker", "_inbound_nodes", "_outbound_nodes", "_modules")
_OF_TENSORFLOW = "_self_unconditional_"
"""Attributes of every layer, which are not where its class put a layer."""


def directly_inside(layer: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """Return the layers that the attributes of a layer hold, by their places.

    A place is the name of an attribute, and behind slashes the positions and keys in lists, tuples
    and dicts: `"blocks/0"`. A layer that is held in several places is listed for each.
    """
    inside = {id(part) for part in layer._flatten_layers(include_self=False, recursive=False)}
    # PyTorch keeps modules that are attributes apart.
    attributes = {**vars(layer), **vars(layer).get("_modules", {})}
    return {
        place: part
        for name, value in attributes.items()
        if name not in _OWN and not name.startswith(_OF_TENSORFLOW)
        for place, part in _held(name, value)
        if id(part) in inside
    }


def _held(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, keras.layers.Layer):
        yield place, value
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            yield from _held(f"{place}/{position}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _held(f"{place}/{key}", item)


def described(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return a layer without weights as Keras serialises it, so that it can be restored.

    Some layers write down more than their constructor takes; that is left out.
    """
    whole: dict[str, Any] = keras.saving.serialize_keras_object(layer)
    classes = {type(part).__name__: type(part) for part in all_layers(layer)}
    with keras.saving.custom_object_scope(classes):
        try:
            type(layer).from_config(layer.get_config())
        except TypeError:
            whole["config"] = known_arguments(whole["config"], type(layer))
    return whole


def at(layer: keras.layers.Layer, path: str) -> keras.layers.Layer:
    """Return the layer at a path, which is made of places, from layer to layer.

    Raises:
        ValueError: If there is none.
    """
    return _holder(layer, path)[2]


def exchange(layer: keras.layers.Layer, paths: Sequence[str], new: keras.layers.Layer) -> None:
    """Put another layer where one stands, at one or at several paths.

    The old one, with its weights, is no longer in the layer then.
    """
    # A layer in two places is no longer held by either once it has left one.
    for holder, place, old in [_holder(layer, path) for path in paths]:
        if holder._tracker.is_in_store("layers", old):
            # Setting the attribute alone would keep the old layer as well.
            holder._tracker.replace_tracked_value("layers", old, new)
        name, *keys = place.split("/")
        setattr(holder, name, _with(getattr(holder, name), keys, new))


def _with(value: Any, keys: list[str], new: keras.layers.Layer) -> Any:
    """Return a container with another layer at the place that the keys name."""
    if not keys:
        return new
    first, *rest = keys
    if isinstance(value, dict):
        key = next(key for key in value if str(key) == first)
        dict.__setitem__(value, key, _with(value[key], rest, new))
        return value
    item = _with(value[int(first)], rest, new)
    if isinstance(value, list):
        list.__setitem__(value, int(first), item)
        return value
    return (*value[: int(first)], item, *value[int(first) + 1 :])


def _holder(layer: keras.layers.Layer, path: str) -> tuple[Any, str, keras.layers.Layer]:
    """Return which layer holds the one at a path, where, and that one."""
    for place, part in directly_inside(layer).items():
        if path == place:
            return layer, place, part
        if path.startswith(f"{place}/"):
            try:
                return _holder(part, path[len(place) + 1 :])
            except ValueError:
                continue
    allowed = f"paths of layers inside of {type(layer).__name__} {layer.name!r}"
    raise ValueError(check.refusal("parts", allowed, path))
