"""Experiments of kind `pretrain`: an encoder learns without labels, then a readout on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_local import _runs, models
from keras_local import _validation as check
from keras_local.layers.plain_form import all_layers, learns_by_plasticity
from keras_local.reproduce.arrays import Arrays, Split, labelled
from keras_local.reproduce.making import encoder_of, loss_of, made, optimizer_of
from keras_local.reproduce.outcome import Outcome, Run, tested, wrong_of
from keras_local.reproduce.sections import Encoder, Patches, Readout

_SHOWN = 100
"""So many receptive fields are kept."""

_AT_ONCE = 500


def pretrain(run: Run) -> Outcome:
    """Pretrain an encoder, train a readout on it, and test it."""
    settings, arrays = run.settings, run.arrays
    if settings.encoder is None or settings.readout is None or arrays is None:
        raise ValueError(check.refusal("settings", "of kind 'pretrain'", settings.kind))
    labels = None if settings.data is None else settings.data.labels
    seen = labelled(arrays, labels, run.seed)
    readout = settings.readout
    if readout.kind == "end_to_end":
        keras.utils.set_random_seed(run.seed)
        model = _end_to_end(readout, arrays)
        return _trained(run, model, readout, arrays, seen, {})
    encoder, extra, fields = _encoder(run, settings.encoder, arrays)
    # The readout does not depend on how many numbers pretraining drew, or on a kill before it.
    keras.utils.set_random_seed(run.seed)
    if readout.kind == "dense":
        outcome = _dense(run, encoder, readout, arrays, seen, extra)
    else:
        model = _readout(encoder, readout, arrays, len(seen[0]))
        outcome = _trained(run, model, readout, arrays, seen, extra)
    outcome.arrays.update(fields)
    return outcome


def _encoder(
    run: Run, settings: Encoder, arrays: Arrays
) -> tuple[keras.Model, dict[str, Any], dict[str, np.ndarray]]:
    """Return the pretrained encoder, what it reports, and its receptive fields."""
    keras.utils.set_random_seed(run.seed)
    encoder = encoder_of(settings, arrays.shape)
    images = arrays.train[0] if settings.data is None else run.images(settings.data)
    if settings.patches is not None:
        extra = _from_patches(run, settings, settings.patches, encoder, images)
    else:
        _start(run, settings, encoder, images)
        extra = _learn(run, settings, encoder, images)
    return encoder, extra, _fields(encoder) if run.fields else {}


def _fields(encoder: keras.Model) -> dict[str, np.ndarray]:
    """Return the receptive fields of the first layer that learns without labels, if there is."""
    learning = [layer for layer in all_layers(encoder) if learns_by_plasticity(layer)]
    if not learning:
        return {}
    kernel = np.asarray(keras.ops.convert_to_numpy(learning[0].kernel))
    shown = kernel.reshape(-1, kernel.shape[-1])[:, :_SHOWN].T
    return {"receptive_fields": shown.astype("float16")}


def _start(run: Run, settings: Encoder, encoder: keras.Model, images: np.ndarray) -> None:
    """Let the units start at images, if they should and if there are any."""
    start = settings.start
    if start is not None and start.at == "images" and encoder.weights:
        models.reseed(encoder, images, "all", start.norm, start.noise, seed=run.seed)


def _learn(run: Run, settings: Encoder, encoder: keras.Model, images: np.ndarray) -> dict[str, Any]:
    """Pretrain; a folder for each encoder lets variants with the same one share it."""
    if not settings.epochs:
        return {}
    identity = _runs.identity_of(
        [run.settings.as_dict()["encoder"], _runs.identity_of_data(images)]
    )
    histories = models.pretrain(
        encoder,
        images,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        step_size=settings.step_size,
        greedy=settings.greedy,
        verbose=0,
        callbacks=run.callbacks("pretrain"),
        resume_from=run.shared / f"{identity}-s{run.seed}",
    )
    return {name: _plain(history.report) for name, history in histories.items()}


def _plain(report: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in report.items() if np.ndim(value) == 0}


def _from_patches(
    run: Run, settings: Encoder, patches: Patches, encoder: keras.Model, images: np.ndarray
) -> dict[str, Any]:
    """Let the filters of the first layer learn from patches of unit norm, as a dense layer does."""
    layer = encoder.layers[0]
    shape = layer.kernel.shape
    if not settings.epochs:
        kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel))
        layer.kernel.assign(kernel / np.sqrt(np.sum(np.square(kernel), axis=(0, 1, 2))))
        return {}
    drawn = _drawn(patches, images, run.seed)
    table = settings.layers[0]
    units = made({"name": "HebbianDense", "units": shape[-1], "plasticity": table["plasticity"]})
    dense = keras.Sequential([keras.Input((drawn.shape[1],)), units])
    _start(run, settings, dense, drawn)
    extra = _learn(run, settings, dense, drawn)
    layer.kernel.assign(np.reshape(keras.ops.convert_to_numpy(units.kernel), shape))
    return extra


def _drawn(patches: Patches, images: np.ndarray, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    size = (patches.size, patches.size)
    windows = np.lib.stride_tricks.sliding_window_view(images, size, axis=(1, 2))
    places = [generator.integers(0, length, patches.count) for length in windows.shape[:3]]
    found = np.moveaxis(windows[tuple(places)], 1, -1).reshape(patches.count, -1)
    norms = np.linalg.norm(found, axis=1)
    kept = norms > patches.threshold
    rows: np.ndarray = found[kept] / norms[kept, None]
    return rows


def _end_to_end(readout: Readout, arrays: Arrays) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(arrays.shape),
            keras.layers.Flatten(),
            keras.layers.Dense(readout.hidden, activation="relu"),
            keras.layers.Dropout(readout.dropout),
            keras.layers.Dense(arrays.classes),
        ]
    )


def _readout(encoder: keras.Model, readout: Readout, arrays: Arrays, images: int) -> keras.Model:
    if len(encoder.output_shape) > 2:
        encoder = keras.Sequential([encoder, keras.layers.Flatten()])
    if readout.kind == "neighbours":
        return models.nearest_neighbours(
            encoder, arrays.classes, readout.neighbours, power=readout.power
        )
    if readout.kind == "class_means":
        return models.hebbian_readout(encoder, arrays.classes, power=readout.power)
    steps = -(-images // readout.batch_size)
    return models.readout(
        encoder,
        arrays.classes,
        # Rectifying images, which are not negative, changes nothing; a power would.
        power=readout.power,
        loss=loss_of(readout.loss),
        optimizer=optimizer_of(readout.optimizer, steps, readout.epochs),
        input_dropout=readout.input_dropout,
    )


def _trained(
    run: Run,
    model: keras.Model,
    readout: Readout,
    arrays: Arrays,
    seen: Split,
    extra: dict[str, Any],
) -> Outcome:
    images, labels = seen
    options: dict[str, Any] = {}
    if readout.kind == "end_to_end":
        steps = -(-len(images) // readout.batch_size)
        optimizer = optimizer_of(readout.optimizer, steps, readout.epochs)
        model.compile(optimizer, loss_of(readout.loss), metrics=["accuracy"])
    if readout.kind != "neighbours":
        options = {
            "batch_size": readout.batch_size,
            "epochs": 1 if readout.kind == "class_means" else readout.epochs,
            "verbose": 0,
            "callbacks": run.callbacks("readout"),
        }
    history = model.fit(images, labels, **options)
    return _tested(model, arrays, seen, history, extra)


def _tested(
    model: keras.Model, arrays: Arrays, seen: Split, history: Any, extra: dict[str, Any]
) -> Outcome:
    wrong = wrong_of(_scores(model, arrays.test[0]), arrays.test[1])
    learned = wrong_of(_scores(model, seen[0][:10_000]), seen[1][:10_000])
    final = tested(wrong, len(arrays.test[0]), train_error=learned / len(seen[0][:10_000]))
    logs = dict(getattr(history, "history", None) or {})
    named = {}
    for key, values in logs.items():
        numbers = [float(each) for each in values]
        if key == "accuracy":
            key, numbers = "train_error", [1.0 - each for each in numbers]
        named[key] = numbers
    return Outcome(final, named, extra)


def _scores(model: keras.Model, images: np.ndarray) -> Any:
    return model.predict(images, batch_size=_AT_ONCE, verbose=0)


def _dense(
    run: Run,
    encoder: keras.Model,
    readout: Readout,
    arrays: Arrays,
    seen: Split,
    extra: dict[str, Any],
) -> Outcome:
    """Train one layer with bias on features that are computed once."""
    encoder.trainable = False
    codes, tests = (_features(encoder, images) for images in (seen[0], arrays.test[0]))
    if readout.standardise:
        mean, deviation = codes.mean(axis=0), np.maximum(codes.std(axis=0), 1e-12)
        codes, tests = ((each - mean) / deviation for each in (codes, tests))
    model = keras.Sequential(
        [
            keras.Input(codes.shape[1:]),
            keras.layers.Dropout(readout.dropout),
            keras.layers.Dense(arrays.classes),
        ]
    )
    steps = -(-len(codes) // readout.batch_size)
    optimizer = optimizer_of(readout.optimizer, steps, readout.epochs)
    model.compile(optimizer, loss_of(readout.loss), metrics=["accuracy"])
    history = model.fit(
        codes,
        seen[1],
        batch_size=readout.batch_size,
        epochs=readout.epochs,
        verbose=0,
        callbacks=run.callbacks("readout"),
    )
    of_codes = Arrays(
        (codes, seen[1]), arrays.curve, (tests, arrays.test[1]), arrays.classes, False
    )
    return _tested(model, of_codes, (codes, seen[1]), history, extra)


def _features(encoder: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return features in half precision, which wide encoders of all images need."""

    def parts() -> Iterator[np.ndarray]:
        for start in range(0, len(images), _AT_ONCE):
            some = encoder.predict_on_batch(images[start : start + _AT_ONCE])
            yield np.asarray(some).reshape(len(some), -1)

    found = list(parts())
    kind = "float16" if sum(each.nbytes for each in found[:1]) * len(found) > 2**31 else "float32"
    return np.concatenate([each.astype(kind) for each in found])
