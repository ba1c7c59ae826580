"""Pretraining inside of the encoder's graph: several layers at once, or one above statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from keras_local import _validation as check


def statistics_below(encoder: keras.Model, layer: Any, settled: set[int]) -> list[Any]:
    """Return the layers below that measure statistics in training, and have not done so yet."""
    below = keras.Model(encoder.inputs, layer.input)
    return [
        each
        for each in below._flatten_layers()
        if isinstance(each, keras.layers.BatchNormalization)
        and each.trainable
        and id(each) not in settled
    ]


@contextmanager
def only(encoder: keras.Model, learning: Sequence[Any]) -> Iterator[None]:
    """Freeze all layers but some; frozen statistics are used as they are."""
    chosen = {id(layer) for layer in learning}
    # Parents come first, so that what they say to their layers is corrected after them.
    flags = [(layer, layer.trainable) for layer in encoder._flatten_layers()]
    try:
        for layer, _ in flags:
            if not isinstance(layer, keras.Model):
                layer.trainable = id(layer) in chosen
        yield
    finally:
        for layer, flag in flags:
            layer.trainable = flag


class Together(keras.Model):
    """A part of an encoder as a model that learns by the losses of its own layers alone."""

    def __init__(self, part: keras.Model) -> None:
        super().__init__(name="pretraining")
        self.part = part
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the outputs of the part."""
        return self.part(inputs, training=training)


class Schedule(keras.callbacks.Callback):
    """Sets the step size of each epoch, and says after it how far the units are."""

    def __init__(
        self,
        layers: Sequence[Any],
        step_size: float,
        epochs: int,
        report: Callable[[Any], dict[str, float]],
    ) -> None:
        super().__init__()
        self.layers, self.step_size, self.epochs = layers, step_size, epochs
        self.report = report

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the step size."""
        rate = common_rate(self.layers, epoch, self.epochs)
        self.model.optimizer.learning_rate = self.step_size * rate

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the report of every layer."""
        if logs is None:
            return
        logs.pop("loss", None)  # Zero by construction.
        for layer in self.layers:
            prefix = f"{layer.name}/" if len(self.layers) > 1 else ""
            logs.update({prefix + key: value for key, value in self.report(layer).items()})


def common_rate(layers: Sequence[Any], epoch: int, epochs: int) -> float:
    """Return the factor on the step size that all layers have in an epoch."""
    rates = {layer.plasticity.rate.at(epoch, epochs) for layer in layers}
    allowed = "True for layers whose rate policies differ over the epochs"
    check.require(len(rates) == 1, "greedy", allowed, False)
    return float(rates.pop())


def share_of(history: keras.callbacks.History, layer: Any) -> keras.callbacks.History:
    """Return the part of a history that belongs to one layer."""
    share = keras.callbacks.History()
    share.epoch = history.epoch
    prefix = f"{layer.name}/"
    share.history = {
        key.removeprefix(prefix): values
        for key, values in history.history.items()
        if key.startswith(prefix) or "/" not in key
    }
    return share
