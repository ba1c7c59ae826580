"""`keras.layers.Bidirectional`, which holds two layers and is no wrapper of one."""

from __future__ import annotations

from typing import Any

import keras

from keras_local.models.conversion.cloning import from_config


def directions(layer: Any) -> tuple[Any, Any] | None:
    """Return the layers of both directions, or None for a layer of one."""
    if not isinstance(layer, keras.layers.Bidirectional):
        return None
    return layer.forward_layer, layer.backward_layer


def around_both(layer: Any, forwards: Any, backwards: Any) -> Any:
    """Return a layer of the same class and arguments around two others, without weights."""
    config = {
        **layer.get_config(),
        "layer": keras.saving.serialize_keras_object(forwards),
        "backward_layer": keras.saving.serialize_keras_object(backwards),
    }
    return from_config(type(layer), config, forwards, backwards)
