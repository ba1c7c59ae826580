"""Unsupervised pretraining of an encoder, layer by layer."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local.metrics import convergence_report, win_counts
from keras_local.models.pretraining.layers_together import (
    Schedule,
    Together,
    common_rate,
    only,
    share_of,
    statistics_below,
)
from keras_local.ops import replica_count

Shape = tuple[int | None, ...]

_REPORTED = 1000
_AT_ONCE = 50
Histories = dict[str, keras.callbacks.History]


def pretrain(
    encoder: keras.Model,
    data: Any,
    epochs: int = 100,
    batch_size: int = 100,
    step_size: float = 0.02,
    verbose: int | str = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    greedy: bool = True,
) -> Histories:
    """Train the plasticity layers of an encoder one after the other, without labels.

    Each layer learns from what the (already trained) layers below it send up. Batch normalisation
    between two of them takes the statistics of the batch while the upper one learns, and measures
    those that it has later. Underneath is Keras'
    `fit` with plain SGD, so progress bar, callbacks and interruption work as ever. The step size
    follows the rule's rate policy: for `KrotovHopfield`, `step_size * (1 - epoch / epochs)`.

    What decides convergence is the sum of all step sizes, that is the number of steps, not of
    epochs: every step of a max-normalised rule moves the largest change by exactly the step size.

    Args:
        encoder: A Sequential or functional model with at least one layer that has a plasticity
            rule, such as `layers.HebbianDense`.
        data: The encoder's inputs: an array of shape `(samples, ...)`, or a `tf.data.Dataset` of
            inputs, batched or not. Labels in a dataset are dropped unread.
        epochs: Passes over the data for each layer.
        batch_size: Samples a step. Samples that fill no whole batch are left out.
        step_size: Step size in the first epoch.
        verbose: As in `keras.Model.fit`; 0 also silences the report.
        callbacks: Keras callbacks, used for every layer. The model that they see is the trainer of
            one layer. On TensorFlow up to 50 steps run in one call, unless a callback wants to be
            called after each of them.
        greedy: Whether the layers learn one after the other; else all at once, in one pass through
            the whole encoder for each step.

    Returns:
        A dict from layer name to its Keras `History`. The logs of each epoch hold `mean_norm` and
        `converged`; `history.report` holds what `metrics.convergence_report` gives in the end:
        fractions of units that won, are dead, have converged.

    Raises:
        ValueError: For an encoder with nothing to pretrain, data of another shape than the
            encoder's inputs, NaN or infinity in the data, fewer samples than a batch, or a wrong
            number. The weights are then as before.

    >>> import keras, numpy as np, keras_local as kl
    >>> layer = kl.layers.HebbianDense(4, name="hidden")
    >>> encoder = keras.Sequential([keras.Input((6,)), layer])
    >>> images = np.random.default_rng(0).random((64, 6))
    >>> histories = kl.models.pretrain(
    ...     encoder, images, epochs=20, batch_size=4, step_size=0.1, verbose=0
    ... )
    >>> len(histories["hidden"].history["converged"])
    20

    Source: Krotov & Hopfield 2019 for the schedule; greedy layer-wise training is older.
    """
    epochs = check.positive_integer("epochs", epochs)
    batch_size = check.positive_integer("batch_size", batch_size)
    step_size = check.real("step_size", step_size, minimum=0.0, exclusive=True)
    layers = _plastic_layers(encoder)
    data, batches = _checked(data, tuple(encoder.input_shape), batch_size)
    histories: Histories = {}
    settled: set[int] = set()
    fit_in_graph = partial(
        _fit_in_graph,
        encoder,
        data=data,
        batch_size=batch_size,
        batches=batches,
        epochs=epochs,
        step_size=step_size,
        verbose=verbose,
        callbacks=callbacks,
    )
    with _scope(encoder):
        if not greedy:
            for epoch in range(epochs):
                common_rate(layers, epoch, epochs)
            return fit_in_graph(layers, statistics_below(encoder, layers[-1], settled))
        for layer in layers:
            measuring = statistics_below(encoder, layer, settled)
            if measuring:
                settled.update(map(id, measuring))
                histories |= fit_in_graph([layer], measuring)
                continue
            features = _features(encoder, layer, data)
            _warn_of_flat_softmax(layer, features)
            _warn_of_small_weights(layer)
            rank = len(features.element_spec.shape) if _is_dataset(features) else features.ndim
            trained = layer.pretraining_form(rank, batch_size)
            model = _Alone(trained)
            model.compile(
                keras.optimizers.SGD(step_size),
                steps_per_execution=_steps_per_call(batches, callbacks),
            )
            source = _source(features, batch_size, batches)
            try:
                history = model.fit(
                    **source,
                    epochs=epochs,
                    verbose=verbose,
                    callbacks=[_Trainer(layer, step_size, epochs), *callbacks],
                )
            finally:
                layer.take_over(trained)
            history.report = _report(layer, features)
            _say(layer, history, verbose)
            histories[layer.name] = history
    return histories


def _fit_in_graph(
    encoder: keras.Model,
    layers: list[Any],
    measuring: list[Any],
    data: Any,
    batch_size: int,
    batches: int,
    epochs: int,
    step_size: float,
    verbose: int | str,
    callbacks: Sequence[keras.callbacks.Callback],
) -> Histories:
    """Train layers at once, with the statistics of the layers that measure them."""
    for layer in layers:
        _warn_of_small_weights(layer)
    with only(encoder, [*layers, *measuring]):
        model = Together(keras.Model(encoder.inputs, layers[-1].output))
        model.compile(
            keras.optimizers.SGD(step_size),
            steps_per_execution=_steps_per_call(batches, callbacks),
        )
        schedule = Schedule(layers, step_size, epochs, _report)
        history = model.fit(
            **_source(data, batch_size, batches),
            epochs=epochs,
            verbose=verbose,
            callbacks=[schedule, *callbacks],
        )
    histories: Histories = {}
    for layer in layers:
        own = history if len(layers) == 1 else share_of(history, layer)
        features = _features(encoder, layer, _some(data))
        _warn_of_flat_softmax(layer, features)
        own.report = _report(layer, features)
        _say(layer, own, verbose)
        histories[layer.name] = own
    return histories


def _steps_per_call(batches: int, callbacks: Sequence[keras.callbacks.Callback]) -> int:
    """Return how many steps run without a return to Python: small steps cost less than that.

    One where a callback wants to be called after each of them.
    """
    base = keras.callbacks.Callback
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    watched = any(
        getattr(getattr(callback, hook), "__func__", None) is not getattr(base, hook)
        for callback in callbacks
        for hook in hooks
    )
    if watched or keras.backend.backend() != "tensorflow" or replica_count() > 1:
        return 1
    return max(steps for steps in range(1, _AT_ONCE + 1) if batches % steps == 0)


def _some(data: Any) -> Any:
    """Return as many samples as a report needs."""
    return data.take(max(1, _REPORTED // 100)) if _is_dataset(data) else data[:_REPORTED]


def _plastic_layers(encoder: keras.Model) -> list[Any]:
    check.require(
        isinstance(encoder, keras.Model) and hasattr(encoder, "inputs"),
        "encoder",
        "a built Sequential or functional keras.Model",
        encoder,
    )
    layers = [layer for layer in encoder.layers if hasattr(layer, "plasticity") and layer.trainable]
    kinds = ", ".join(
        type(layer).__name__ + ("" if layer.trainable else " (frozen)") for layer in encoder.layers
    )
    if not layers:
        raise ValueError(
            "`encoder` must have at least one trainable layer with a plasticity rule, such as "
            f"HebbianDense. Received: a model of {kinds or 'no layers'}"
        )
    return layers


def _scope(encoder: keras.Model) -> AbstractContextManager[Any]:
    """Return the scope of the strategy under which the encoder was made."""
    strategy = getattr(encoder, "distribute_strategy", None)
    return nullcontext() if strategy is None else strategy.scope()


def _is_dataset(data: Any) -> bool:
    return hasattr(data, "element_spec")


def _checked(data: Any, input_shape: Shape, batch_size: int) -> tuple[Any, int]:
    """Return finite inputs without labels, and the number of whole batches in them."""
    if _is_dataset(data):
        return _checked_dataset(data, input_shape, batch_size)
    check.require(
        hasattr(data, "shape"), "data", "an array or a tf.data.Dataset of inputs", type(data)
    )
    data = np.asarray(ops.convert_to_numpy(data))
    if data.dtype.kind != "f":
        data = data.astype("float32")
    fits = data.ndim == len(input_shape) and all(
        wanted in (None, got) for wanted, got in zip(input_shape[1:], data.shape[1:], strict=True)
    )
    check.require(fits, "data", f"of the encoder's input shape {input_shape}", data.shape)
    check.require(
        len(data) >= batch_size, "batch_size", f"at most the {len(data)} samples", batch_size
    )
    _require_finite(data[i : i + 4096] for i in range(0, len(data), 4096))
    return data, len(data) // batch_size


def _checked_dataset(data: Any, input_shape: Shape, batch_size: int) -> tuple[Any, int]:
    data = data.map(lambda inputs, *labels: inputs)
    shape, wanted = tuple(data.element_spec.shape), tuple(input_shape[1:])
    if shape == wanted:
        data = data.batch(batch_size, drop_remainder=True)
    else:
        check.require(
            shape[1:] == wanted,
            "data",
            f"a dataset of inputs of shape {wanted}, or of batches of them",
            shape,
        )
        data = data.rebatch(batch_size, drop_remainder=True)
    check.require(int(data.cardinality()) != -1, "data", "a finite dataset", "an infinite one")
    batches = _require_finite(data.as_numpy_iterator())
    check.require(batches > 0, "batch_size", "at most the number of samples", batch_size)
    return data, batches


def _require_finite(batches: Iterable[np.ndarray]) -> int:
    count = 0
    for count, batch in enumerate(batches, start=1):  # noqa: B007
        if not np.isfinite(batch).all():
            bad = np.count_nonzero(~np.isfinite(batch))
            raise ValueError(
                f"`data` must be finite. Received: {bad} NaN or infinite entries among "
                f"{batch.size} of one batch"
            )
    return count


def _features(encoder: keras.Model, layer: Any, data: Any) -> Any:
    """Return what `layer` receives, one sample a row."""
    if layer.input is not encoder.inputs[0]:
        below = keras.Model(encoder.inputs, layer.input)
        if _is_dataset(data) and keras.backend.backend() == "tensorflow":
            data = data.map(lambda inputs: below(inputs, training=False))
        else:
            data = below.predict(data, verbose=0)
    return data if _is_dataset(data) else layer.pretraining_samples(data)


class _Alone(keras.Model):
    """One layer as a model, so that training it leaves no trace in the encoder's graph."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__(name="pretraining")
        self.layer = layer
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.layer(inputs, training=training)


class _Trainer(keras.callbacks.Callback):
    """Sets the step size of each epoch, and says after it how far the units are."""

    def __init__(self, layer: Any, step_size: float, epochs: int) -> None:
        super().__init__()
        self.layer, self.step_size, self.epochs = layer, step_size, epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        rate = self.layer.plasticity.rate.at(epoch, self.epochs)
        self.model.optimizer.learning_rate = self.step_size * rate

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.layer.take_over(self.model.layer)
        if logs is not None:
            logs.pop("loss", None)  # Zero by construction.
            logs.update(_report(self.layer))


def _source(features: Any, batch_size: int, batches: int) -> dict[str, Any]:
    """Return the arguments of `fit` for whole batches."""
    if _is_dataset(features):
        return {"x": features.repeat(), "steps_per_epoch": batches, "shuffle": False}
    if len(features) % batch_size:
        return {"x": _ShuffledBatches(features, batch_size)}
    # Keras' own shuffling of arrays is faster.
    return {"x": features, "batch_size": batch_size}


class _ShuffledBatches(keras.utils.PyDataset):
    """Whole batches only: shuffled anew for each epoch, then cut."""

    def __init__(self, samples: np.ndarray, batch_size: int) -> None:
        super().__init__()
        self.samples, self.batch_size = samples, batch_size
        # `keras.utils.set_random_seed` seeds this stream.
        self.generator = np.random.default_rng(random.getrandbits(64))
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self.samples) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray]:
        start = index * self.batch_size
        return (self.samples[self.order[start : start + self.batch_size]],)

    def on_epoch_end(self) -> None:
        self.order = self.generator.permutation(len(self.samples))


def _report(layer: Any, features: Any = None) -> dict[str, float]:
    if layer.plasticity.norm_exponent is None:
        return {}
    report = convergence_report(layer)
    if features is not None:
        batches = features.as_numpy_iterator() if _is_dataset(features) else [features]
        wins = sum(win_counts(layer, batch) for batch in batches)
        report.update(won=float(np.mean(wins > 0)), dead=float(np.mean(wins == 0)))
    return report


def _warn_of_small_weights(layer: Any) -> None:
    report = _report(layer)
    if report and report["mean_norm"] < 1.0:
        warnings.warn(
            f"The units of layer {layer.name!r} start inside the unit sphere (mean of "
            f"sum |W|^p is {report['mean_norm']:.3g}): most of them will never win. Give "
            "`kernel_initializer` a larger scale, for example RandomUniform(0, 1) for "
            "non-negative data.",
            stacklevel=3,
        )


def _warn_of_flat_softmax(layer: Any, features: Any) -> None:
    """Warn of inputs that teach the rule badly, if it says so."""
    batch = next(iter(features.take(1).as_numpy_iterator())) if _is_dataset(features) else features
    advice = layer.plasticity.advice(layer.input_length(batch[:100]))
    if advice is not None:
        warnings.warn(f"Layer {layer.name!r}: {advice}", stacklevel=3)


def _say(layer: Any, history: keras.callbacks.History, verbose: int | str) -> None:
    report = history.report
    if not report:
        return
    if report["converged"] < 0.5 and layer.plasticity.every_unit_converges:
        steps = "the rate policy's sum of step sizes"
        warnings.warn(
            f"Only {report['converged']:.0%} of the units of layer {layer.name!r} have converged. "
            f"What matters is the number of steps and not of epochs ({steps}): train for more "
            "epochs, with smaller batches, or with a larger `step_size`.",
            stacklevel=3,
        )
    if verbose:
        print(
            f"{layer.name}: of {layer.units} units {report['won']:.1%} won, {report['dead']:.1%} "
            f"dead, {report['converged']:.1%} converged (mean norm {report['mean_norm']:.3f})"
        )
