"""Training of feedback weights alone, without labels and errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_local import _validation as check
from keras_local._data_gate import Gate, require_finite
from keras_local._streams import is_stream
from keras_local.layers.plain_form import (
    all_layers,
    idle_weights,
    learns_from_activity,
    rule_weights,
)
from keras_local.models.training_state import flags_kept


def align(
    model: keras.Model,
    inputs: Any,
    epochs: int = 1,
    batch_size: int | None = None,
    optimizer: Any = None,
    steps_per_epoch: int | None = None,
    **arguments: Any,
) -> keras.callbacks.History:
    """Train only the feedback weights of a model, from activity, without labels and errors.

    Rules that learn from activity (`WeightMirror` and other alignment rules) act as in `fit`.
    Kernels, biases and the statistics of normalisation do not change. `align(model, images)` is a
    mirror phase before training; to alternate phases, call `align` and `fit` in turn. The state of
    the model's optimizer does not change, and every `trainable` flag is restored afterwards, also
    after an error.

    Args:
        model: A built Sequential or functional model.
        inputs: Inputs as for `fit`: arrays, a dataset, or another source.
        epochs: Passes over the inputs.
        batch_size: Examples in each step, as in `fit`.
        optimizer: A Keras optimizer; SGD with step size 0.1 by default.
        steps_per_epoch: Batches in each epoch, for a source without an end.
        **arguments: Other arguments of `fit`.

    Returns:
        The history of the phase.

    Raises:
        ValueError: If the model is not built, no rule in it learns from activity, or the inputs are
            not finite or do not fit the model.

    >>> import numpy as np, keras, keras_local as kl
    >>> layer = kl.layers.FeedbackDense(3, feedback="symmetric_alignment")
    >>> model = keras.Sequential([keras.Input((4,)), layer])
    >>> _ = kl.models.align(model, np.ones((400, 4)), batch_size=1, verbose=0)
    >>> bool(kl.metrics.alignment_angle(layer.kernel, layer.feedback_kernel) < 5)
    True

    Source: the mirror mode of Akrout et al. 2019, "Deep learning without weight transport".
    """
    built = isinstance(model, keras.Model) and bool(getattr(model, "inputs", None))
    check.require(built, "model", "a built Sequential or functional keras.Model", model)
    learning = [layer for layer in all_layers(model) if learns_from_activity(layer)]
    allowed = "a model with a feedback rule that learns from activity, as WeightMirror"
    check.require(bool(learning), "model", allowed, model.name)
    ends = (model.inputs, model.outputs)
    with _only_feedback_learns(model, learning):
        phase = keras.Model(*ends, name=f"{model.name}_align")
        phase.compile(keras.optimizers.SGD(0.1) if optimizer is None else optimizer)
        options = {"epochs": epochs, "batch_size": batch_size, "steps_per_epoch": steps_per_epoch}
        if len(model.inputs) != 1:
            _require_arrays(inputs)
            return phase.fit(inputs, **options, **arguments)
        gate = Gate(tuple(model.inputs[0].shape[1:]), dtype=_precision(model), power=1.0)
        if not is_stream(inputs):
            inputs = gate.inputs("inputs", inputs)
        with gate.guard(phase) as guard:
            inputs, *_ = guard.training(inputs, steps_per_epoch=steps_per_epoch)
            return phase.fit(inputs, **options, **arguments)


def _require_arrays(inputs: Any) -> None:
    """Refuse arrays of several inputs that are not finite; `fit` checks streams."""
    if not is_stream(inputs):
        for array in keras.tree.flatten(inputs):
            require_finite("inputs", array, float("inf"), "")


def _precision(model: keras.Model) -> str:
    dtype: str = keras.backend.standardize_dtype(model.compute_dtype or "float32")
    return dtype


@contextmanager
def _only_feedback_learns(model: keras.Model, learning: list[Any]) -> Iterator[None]:
    """Freeze everything except the weights of rules, and restore all flags afterwards."""
    rules = {id(weight) for layer in learning for weight in rule_weights(layer)}
    layers = list(all_layers(model))
    holders = {id(layer) for layer in layers for part in learning if _holds(layer, part)}
    with flags_kept(model):
        for layer in layers:
            if id(layer) not in holders and layer.trainable:
                layer.trainable = False
        for weight in model.weights:
            if id(weight) not in rules:
                weight.trainable = False
        # This phase is asked for, also where no error will use its result.
        for layer in learning:
            for weight in idle_weights(layer):
                weight.trainable = True
        yield


def _holds(layer: Any, part: Any) -> bool:
    return any(inner is part for inner in all_layers(layer))
