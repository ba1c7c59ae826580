"""What stands around training: data sets, validation, callbacks, files, an interruption."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_local import layers
from tests.support import compile_options, largest_difference, weights_of

BATCH, EPOCHS = 8, 5
RNG = np.random.default_rng(2)
X, Y = RNG.normal(size=(32, 6)).astype("float32"), RNG.integers(0, 3, 32)


class Interrupted(Exception):
    """What stands for a worker that is stopped."""


class Interrupt(keras.callbacks.Callback):
    """Ends a training behind its second epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            raise Interrupted


def stock() -> keras.Model:
    """Layers of Keras alone."""
    return compiled([keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)])


def feedback() -> keras.Model:
    """Layers with feedback weights."""
    return compiled([layers.FeedbackDense(5, "tanh"), layers.FeedbackDense(3)])


def compiled(parts: list[Any]) -> keras.Model:
    """An optimizer with a memory, a loss and two metrics."""
    model = keras.Sequential([keras.Input((6,)), *parts])
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)],
        **compile_options(),
    )
    return model


def batches(*arrays: np.ndarray) -> Any:
    """Whole batches, of which each worker takes its share."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    samples = tf.data.Dataset.from_tensor_slices(arrays)
    return samples.batch(BATCH, drop_remainder=True).with_options(options)


def plain(model: keras.Model) -> list[np.ndarray]:
    """`fit` with validation, `evaluate` and `predict`."""
    history = model.fit(
        batches(X, Y), validation_data=batches(X, Y), epochs=EPOCHS, shuffle=False, verbose=0
    )
    return [*weights_of(model), *tested(model), *map(np.asarray, history.history.values())]


def tested(model: keras.Model) -> list[np.ndarray]:
    """What `evaluate` and `predict` say, of a data set and of arrays."""
    said = model.predict(X, batch_size=BATCH, verbose=0)
    assert said.shape == (len(X), 3)
    return [np.asarray(model.evaluate(batches(X, Y), verbose=0)), said]


def interrupted(make: Callable[[], keras.Model]) -> Callable[[keras.Model], list[np.ndarray]]:
    """All callbacks in one `fit` that is broken off and begun again, with a folder for each task.

    Returns:
        A function of a model: it has to end where a model ends that nothing has interrupted.
    """

    def train(model: keras.Model) -> list[np.ndarray]:
        strategy = model.distribute_strategy
        scope = contextlib.nullcontext if strategy is None else strategy.scope
        start = weights_of(model)
        folder = Path(tempfile.mkdtemp())
        try:
            with contextlib.suppress(Interrupted):
                run(model, folder, [Interrupt()])
            assert int(np.asarray(model.optimizer.iterations)) == 2 * len(X) // BATCH
            with scope():
                resumed, whole = make(), make()
            whole.set_weights(start)
            history = run(resumed, folder)
            assert history.epoch == list(range(2, EPOCHS))
            run(whole, folder / "whole")
            assert largest_difference(weights_of(resumed), weights_of(whole)) < 1e-6
            assert list(folder.glob("logs/train/*tfevents*"))
            with scope():
                loaded = keras.saving.load_model(folder / "best.keras")
            loaded.fit(batches(X, Y), epochs=1, shuffle=False, verbose=0)
            model.set_weights(weights_of(resumed))
            return [*weights_of(resumed), *tested(resumed), *weights_of(loaded)]
        finally:
            shutil.rmtree(folder)

    return train


def run(model: keras.Model, folder: Path, more: Any = ()) -> Any:
    """A `fit` with whatever writes or watches."""
    folder.mkdir(exist_ok=True)
    callbacks = keras.callbacks
    return model.fit(
        batches(X, Y),
        validation_data=batches(X, Y),
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[
            callbacks.BackupAndRestore(folder / "backup", double_checkpoint=True),
            callbacks.ModelCheckpoint(folder / "best.keras", save_best_only=True),
            callbacks.TensorBoard(folder / "logs"),
            callbacks.EarlyStopping("val_loss", patience=4),
            callbacks.ReduceLROnPlateau("val_loss", patience=3),
            *more,
        ],
    )
