"""Images in the logs of TensorBoard, which TensorFlow writes on every backend."""

from __future__ import annotations

from collections.abc import Callable


def image_writer(folder: str) -> tuple[Callable[..., None], Callable[[], None]]:
    """Open an event file for TensorBoard.

    Returns:
        A function of name, PNG bytes, width, height and step, which writes an image, and a function
        without arguments that closes the file.

    Raises:
        ImportError: If TensorFlow is missing.
    """
    try:
        from keras_local.ops._tensorflow import image_writer as write_images
    except ImportError as error:
        raise ImportError(
            "Logs for TensorBoard need TensorFlow: pip install 'keras-local[tensorflow]'"
        ) from error
    return write_images(folder)
