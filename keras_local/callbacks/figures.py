"""A callback that draws figures for TensorBoard during training."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.ops import image_writer


class TensorBoardFigures(keras.callbacks.Callback):
    """Callback that draws figures during training and writes them for TensorBoard.

    Each figure is drawn before the first step and at the end of epochs. TensorBoard shows it among
    the images of the run `figures`. The epochs of a second training, such as that of the next layer
    in `models.pretrain`, are counted on from those of the first.

    Args:
        log_dir: Folder of the logs, as for `keras.callbacks.TensorBoard`; the images are written to
            its subfolder `figures`, next to `train` and `validation`.
        figures: Mapping from the name of an image to a function without arguments that draws it and
            returns a `matplotlib.figure.Figure`, like all functions of `keras_local.plots`.
        every: Draw after each `every` epochs, and after the last.
        dpi: Pixels per inch.

    Raises:
        ValueError: If `figures` is empty or not such a mapping, or a number is out of its range.
            When training begins, if a function returns something else.
        ImportError: When training begins, if TensorFlow, which writes the files, is missing.

    ```python
    hidden = kl.layers.HebbianDense(100)
    encoder = keras.Sequential([keras.Input((784,)), hidden])
    board = kl.callbacks.TensorBoardFigures(
        "logs",
        {
            "receptive fields": lambda: kl.plots.receptive_fields(hidden),
            "norms": lambda: kl.plots.norm_histogram(hidden),
            "wins": lambda: kl.plots.win_counts(hidden, images[:1000]),
        },
    )
    kl.models.pretrain(encoder, images, callbacks=[board])
    ```
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        figures: Mapping[str, Callable[[], Any]],
        every: int = 1,
        dpi: int = 100,
    ) -> None:
        super().__init__()
        path = isinstance(log_dir, (str, os.PathLike)) and bool(os.fspath(log_dir))
        check.require(path, "log_dir", "the path of a folder, a str or os.PathLike", log_dir)
        fits = isinstance(figures, Mapping) and bool(figures)
        check.require(
            fits
            and all(isinstance(name, str) for name in figures)
            and all(callable(draw) for draw in figures.values()),
            "figures",
            "a mapping of at least one name to a function that returns a figure",
            figures,
        )
        self.folder = os.path.join(os.fspath(log_dir), "figures")
        self.figures = dict(figures)
        self.every = check.positive_integer("every", every)
        self.dpi = check.positive_integer("dpi", dpi)
        self._next = 0  # the first step of this training
        self._step = -1  # the last step that was seen
        self._drawn = -1
        self._write: Callable[..., None] | None = None
        self._close: Callable[[], None] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Open the file and draw the state before training."""
        pictures = self._pictures()
        self._write, self._close = image_writer(self.folder)
        self._next = self._step = self._step + 1
        self._put(pictures)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Draw the figures after each `every` epochs."""
        self._step = self._next + epoch + 1
        if (epoch + 1) % self.every == 0:
            self._put(self._pictures())

    def on_train_end(self, logs: Any = None) -> None:
        """Draw the figures of the last epoch if it was left out, and close the file."""
        if self._drawn != self._step:
            self._put(self._pictures())
        if self._close is not None:
            self._close()
        self._write = self._close = None

    def _put(self, pictures: dict[str, tuple[bytes, int, int]]) -> None:
        if self._write is not None:
            for name, (png, width, height) in pictures.items():
                self._write(name, png, width, height, self._step)
            self._drawn = self._step

    def _pictures(self) -> dict[str, tuple[bytes, int, int]]:
        pictures = {}
        for name, draw in self.figures.items():
            figure = draw()
            check.require(
                hasattr(figure, "savefig"),
                "figures",
                f"functions that return a matplotlib figure, {name!r} too",
                type(figure).__name__,
            )
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=self.dpi)
            png = file.getvalue()
            # The header of a PNG: its size stands in bytes 16 to 24.
            width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
            pictures[name] = (png, width, height)
        return pictures
