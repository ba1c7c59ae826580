"""The model that pretraining fits, and its schedule, for one layer or several layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.layers.plain_form import all_layers
from keras_local.models.training_state import flags_kept


@contextmanager
def only(encoder: keras.Model, learning: Sequence[Any]) -> Iterator[None]:
    """Freeze all layers except some; frozen statistics do not change."""
    chosen = {id(layer) for layer in learning}
    frozen = [weight for layer in learning for weight in layer.weights if not weight.trainable]
    with flags_kept(encoder):
        for layer in all_layers(encoder):
            if not isinstance(layer, keras.Model):
                layer.trainable = id(layer) in chosen
        for weight in frozen:  # A layer that learns sets the flags of all its weights.
            weight.trainable = False
        yield


class Learner(keras.Model):
    """A layer, or a part of an encoder, as a model that learns by the losses of its layers.

    It does not change the encoder's graph. If a callback saves it, loads weights into it, or asks
    for its config, it acts as the encoder.

    Args:
        part: The layer or part that learns.
        schedule: The schedule that copies weights to the encoder and back.
    """

    def __init__(self, part: Any, schedule: Schedule) -> None:
        super().__init__(name="pretraining")
        self.part = part
        self._schedule = schedule
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the outputs of the part."""
        return self.part(inputs, training=training)

    def save(self, *arguments: Any, **keywords: Any) -> None:
        """Save the encoder, with the weights that have been learned so far."""
        self._schedule.write_back()
        self._schedule.encoder.save(*arguments, **keywords)

    def save_weights(self, *arguments: Any, **keywords: Any) -> None:
        """Save the encoder's weights."""
        self._schedule.write_back()
        self._schedule.encoder.save_weights(*arguments, **keywords)

    def load_weights(self, *arguments: Any, **keywords: Any) -> None:
        """Load the encoder's weights, and go on from there."""
        self._schedule.encoder.load_weights(*arguments, **keywords)
        self._schedule.read_back()

    def get_config(self) -> dict[str, Any]:
        """Return the encoder's config."""
        config: dict[str, Any] = self._schedule.encoder.get_config()
        return config


class Schedule(keras.callbacks.Callback):
    """Callback that sets the step size of each epoch, and reports convergence after it.

    Args:
        encoder: The model that the layers are in.
        layers: The layers that learn.
        forms: The form in which each of them learns; the layer itself, or another.
        step_size: Step size in the first epoch.
        epochs: Number of epochs.
        report: Function from a layer to numbers for the logs.
    """

    def __init__(
        self,
        encoder: keras.Model,
        layers: Sequence[Any],
        forms: Sequence[Any],
        step_size: float,
        epochs: int,
        report: Callable[[Any], dict[str, float]],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.layers, self.forms = layers, forms
        self.step_size, self.epochs = step_size, epochs
        self.report = report

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the step size."""
        rate = common_rate(self.layers, epoch, self.epochs)
        self.model.optimizer.learning_rate = self.step_size * rate

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Update every layer, and add its report."""
        self.write_back()
        if logs is None:
            return
        logs.pop("loss", None)  # The loss is zero by construction.
        for layer in self.layers:
            prefix = f"{layer.name}/" if len(self.layers) > 1 else ""
            logs.update({prefix + key: value for key, value in self.report(layer).items()})

    def write_back(self) -> None:
        """Give every layer the weights that its form has learned."""
        for layer, form in zip(self.layers, self.forms, strict=True):
            layer.take_over(form)

    def read_back(self) -> None:
        """Give every form the weights that its layer has."""
        for layer, form in zip(self.layers, self.forms, strict=True):
            layer.hand_to(form)


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
