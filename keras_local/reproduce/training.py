"""Experiments of kind `train`: a model learns by `fit`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_local import _validation as check
from keras_local import callbacks, models
from keras_local.reproduce.arrays import Arrays
from keras_local.reproduce.making import loss_of, model_of, optimizer_of
from keras_local.reproduce.outcome import Outcome, Run, tested, wrong_of
from keras_local.reproduce.sections import Model, Train

_WRITES = 500
"""Steps between two writes of the state."""

_TRAIN_TESTED = 10_000
"""So many training images give the training error."""


def train(run: Run) -> Outcome:
    """Build, train and test a model."""
    settings, arrays = run.settings, run.arrays
    model_settings, train_settings = settings.model, settings.train
    if model_settings is None or train_settings is None or arrays is None:
        raise ValueError(check.refusal("settings", "of kind 'train'", settings.kind))
    if train_settings.drop_remainder:
        arrays = _whole_batches(arrays, train_settings.batch_size)
    keras.utils.set_random_seed(run.seed)
    model = model_of(model_settings, arrays.shape)
    if train_settings.augment:
        model = augmented(model, arrays.shape)
    if train_settings.warm_up is not None:
        _warm_up(run, model, model_settings, train_settings, arrays)
    if train_settings.align is not None:
        phase = train_settings.align
        models.align(
            model,
            arrays.train[0],
            epochs=phase.epochs,
            batch_size=phase.batch_size,
            optimizer=keras.optimizers.SGD(phase.learning_rate),
            shuffle=False,
            verbose=0,
        )
    steps = train_settings.steps or -(-len(arrays.train[0]) // train_settings.batch_size)
    compile_(model, train_settings, steps)
    monitor, initial = _monitor(model, train_settings, arrays)
    history = _fit(run, model, train_settings, arrays, steps, monitor)
    return _outcome(model, train_settings, arrays, history, {"initial": initial})


def compile_(model: keras.Model, settings: Train, steps: int) -> None:
    """Compile a model; a network with a loss of its own keeps it."""
    optimizer = optimizer_of(settings.optimizer, steps, settings.epochs, settings.bias_rate)
    loss = loss_of(settings.loss)
    options = {} if loss is None else {"loss": loss}
    model.compile(optimizer, metrics=["accuracy"], **options)


def augmented(model: keras.Model, shape: tuple[int, ...]) -> keras.Model:
    """Return a model that flips and shifts its inputs while it learns."""
    inputs = keras.Input(shape)
    x = keras.layers.ZeroPadding2D(4)(inputs)
    x = keras.layers.RandomCrop(shape[0], shape[1])(x)
    x = keras.layers.RandomFlip("horizontal")(x)
    return keras.Model(inputs, model(x), name=f"{model.name}_augmented")


def _whole_batches(arrays: Arrays, batch_size: int) -> Arrays:
    whole = len(arrays.train[0]) // batch_size * batch_size
    images, labels = arrays.train
    return dataclasses.replace(arrays, train=(images[:whole], labels[:whole]))


def _warm_up(
    run: Run, model: keras.Model, settings: Model, training: Train, arrays: Arrays
) -> None:
    """Train the network with tied kernels, and give the untied one its weights."""
    phase = training.warm_up
    if phase is None:
        return
    arguments = {**settings.arguments, "untied": False}
    keras.utils.set_random_seed(run.seed)
    tied = model_of(dataclasses.replace(settings, arguments=arguments), arrays.shape)
    tied.compile(
        keras.optimizers.SGD(phase.learning_rate), loss_of(training.loss), metrics=["accuracy"]
    )
    callbacks.resume_fit(
        tied,
        *arrays.train,
        directory=run.folder / "warm_up",
        every=_WRITES,
        batch_size=training.batch_size,
        epochs=phase.epochs,
        verbose=0,
        callbacks=run.callbacks("warm_up"),
        seed=run.seed,
    )
    # By their places: layers without a name of their own have another one in each model.
    for layer, same in zip(model.layers, tied.layers, strict=True):
        if layer.name in phase.untied:
            layer.assign_convolution(*same.get_weights()[:1])
        elif layer.weights:
            layer.set_weights(same.get_weights())


def _monitor(
    model: keras.Model, settings: Train, arrays: Arrays
) -> tuple[keras.callbacks.Callback | None, dict[str, float]]:
    """Return the callback that records angles and the like, and their values before training."""
    if not settings.record:
        return None, {}
    few = (arrays.test[0][:200], arrays.test[1][:200])
    data = few if "gradient_angle" in settings.record else None
    measures: list[Any] = [name for name in settings.record if name != "gradient_angle"]

    def monitor() -> keras.callbacks.Callback:
        return callbacks.AlignmentMonitor(measures=measures, data=data)

    # A run that goes on after a kill has to know them too.
    first = monitor()
    first.set_model(model)
    first.on_train_begin()
    return monitor(), dict(first.initial)


def _fit(
    run: Run,
    model: keras.Model,
    settings: Train,
    arrays: Arrays,
    steps: int,
    monitor: keras.callbacks.Callback | None,
) -> dict[str, list[float]]:
    """Train; return the history."""
    if not settings.epochs:
        return {}
    also = AlsoTested(settings.also, arrays)
    listed = [each for each in (monitor, also if settings.also else None) if each is not None]
    options: dict[str, Any] = {
        "directory": run.folder / "fit",
        "every": _WRITES,
        "epochs": settings.epochs,
        "verbose": 0,
        "validation_data": arrays.curve,
        "callbacks": [*listed, *run.callbacks("train")],
    }
    if settings.steps is None:
        history = callbacks.resume_fit(
            model,
            *arrays.train,
            batch_size=settings.batch_size,
            shuffle=settings.shuffle,
            seed=run.seed,
            **options,
        )
    else:
        history = callbacks.resume_fit(
            model,
            _draws(arrays, settings.batch_size, steps, run.seed),
            steps_per_epoch=steps,
            **options,
        )
    found: dict[str, list[float]] = history.history
    return found


def _draws(arrays: Arrays, size: int, steps: int, seed: int) -> Callable[[int, int], Any]:
    """Return a function from a place in training to batches of different images from there on."""
    images, labels = arrays.train

    def batches(epoch: int, batch: int) -> Iterator[Any]:
        number = epoch * steps + batch
        while True:
            drawn = np.random.default_rng((seed, number))
            chosen = drawn.choice(len(images), min(size, len(images)), replace=False)
            yield images[chosen], labels[chosen]
            number += 1

    return batches


class AlsoTested(keras.callbacks.Callback):
    """Tests a network in other modes after each epoch: with some attributes set for the test.

    Args:
        modes: For the name of a mode, the attributes.
        arrays: The data.
    """

    def __init__(self, modes: dict[str, dict[str, Any]], arrays: Arrays) -> None:
        super().__init__()
        self.modes = modes
        self.arrays = arrays

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Test, and add the errors to `logs`."""
        for name, attributes in self.modes.items():
            with _set(self.model, attributes):
                wrong = _wrong(self.model, *self.arrays.curve)
            if logs is not None:
                logs[f"test_error/{name}"] = wrong / len(self.arrays.curve[0])


def _wrong(network: Any, images: np.ndarray, labels: np.ndarray, batch_size: int = 1000) -> int:
    """Return the errors of a settling network in its present mode, without a compiled function."""
    wrong = 0
    for start in range(0, len(images), batch_size):
        inputs = keras.ops.convert_to_tensor(images[start : start + batch_size], "float32")
        scores = keras.ops.convert_to_numpy(network.scores(inputs, network.free_phase(inputs)))
        wrong += wrong_of(scores, labels[start : start + batch_size])
    return wrong


@contextmanager
def _set(model: Any, attributes: dict[str, Any]) -> Iterator[None]:
    before = {name: getattr(model, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(model, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(model, name, value)


def _outcome(
    model: keras.Model,
    settings: Train,
    arrays: Arrays,
    history: dict[str, list[float]],
    extra: dict[str, Any],
) -> Outcome:
    images, labels = arrays.test
    scores = model.predict(images, batch_size=_test_batch(settings), verbose=0)
    wrong = wrong_of(scores, labels)
    x, y = arrays.train[0][:_TRAIN_TESTED], arrays.train[1][:_TRAIN_TESTED]
    learned = wrong_of(model.predict(x, batch_size=_test_batch(settings), verbose=0), y) / len(x)
    final = tested(wrong, len(images), train_error=learned)
    kept = {key: [float(each) for each in values] for key, values in history.items()}
    named = _renamed(kept, arrays)
    for name in settings.also:
        if values := named.get(f"test_error/{name}"):
            final[f"test_error/{name}"] = values[-1]
    for name, value in _last_records(settings, named).items():
        final.setdefault(name, value)
    return Outcome(final, named, extra)


def _test_batch(settings: Train) -> int:
    return min(1000, max(100, settings.batch_size))


def _renamed(history: dict[str, list[float]], arrays: Arrays) -> dict[str, list[float]]:
    """Return a history with errors in place of accuracies."""
    curve = "test_error" if arrays.curve is arrays.test else "held_out_error"
    names = {"accuracy": "train_error", "val_accuracy": curve}
    return {
        names.get(key, key): [1.0 - each for each in values] if key in names else values
        for key, values in history.items()
    }


def _last_records(settings: Train, history: dict[str, list[float]]) -> dict[str, float]:
    """Return the last value in the lowest and the highest layer of each record."""
    found = {}
    for record in settings.record:
        values = [each for key, each in history.items() if key.startswith(f"{record}/")]
        if values:
            found[f"{record}/lowest"] = values[0][-1]
            found[f"{record}/highest"] = values[-1][-1]
    return found
