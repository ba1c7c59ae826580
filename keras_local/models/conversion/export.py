"""Export to a SavedModel in which every weight stands once."""

from __future__ import annotations

import os

import keras

from keras_local.models.conversion.to_plain import to_plain


def export(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Write the plain form of a model as a SavedModel, every weight once.

    `model.export` of Keras writes each variable twice, and the feedback weights as well. Here the
    model goes through `to_plain` first, and its variables are stored once.

    Args:
        model: What `to_plain` takes.
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
    plain = to_plain(model)
    archive = keras.export.ExportArchive()
    # Not `archive.track(plain)`: tracked, each variable is stored under two names.
    archive.add_endpoint(
        name="serve",
        fn=lambda inputs: plain(inputs, training=False),
        input_signature=[
            keras.tree.map_structure(
                lambda tensor: keras.layers.InputSpec(shape=tensor.shape, dtype=tensor.dtype),
                plain.input,
            )
        ],
    )
    archive.write_out(os.fspath(path), verbose=False)
