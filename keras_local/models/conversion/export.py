"""Export of a model of built-in layers as a SavedModel."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from keras_local.layers.plain_form import serving_form
from keras_local.models.conversion.to_plain import to_plain


def export(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Write the plain form of a model as a SavedModel.

    `model.export` of Keras writes each variable twice, and the feedback weights as well. Here the
    model goes through `to_plain` first, and its variables are stored once.

    Args:
        model: What `to_plain` takes, or a model that has a `serving_form()`, such as the networks
            of `keras_local.dynamics`: of them the free phase is written.
        path: Folder to write.

    Raises:
        ValueError: As `to_plain`.
        ImportError: Where TensorFlow is not installed.

    The folder serves where neither Keras nor keras_local is installed. Keep the loaded object in a
    name: its variables live as long as it does.

    ```python
    served = tf.saved_model.load(path)
    scores = served.serve(images)
    ```
    """
    form = serving_form(model)
    function, signature = _served(to_plain(model)) if form is None else form
    archive = keras.export.ExportArchive()
    # Not `archive.track(model)`: tracked, each variable is stored under two names.
    archive.add_endpoint(name="serve", fn=function, input_signature=signature)
    archive.write_out(os.fspath(path), verbose=False)


def _served(plain: keras.Model) -> tuple[Callable[[Any], Any], list[Any]]:
    signature = keras.tree.map_structure(
        lambda tensor: keras.layers.InputSpec(shape=tensor.shape, dtype=tensor.dtype), plain.input
    )
    return partial(plain, training=False), [signature]
