"""A phase in which nothing but the feedback weights learns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.layers import FeedbackLayer


def align(
    model: keras.Model,
    inputs: Any,
    epochs: int = 1,
    batch_size: int | None = None,
    optimizer: Any = None,
    **arguments: Any,
) -> keras.callbacks.History:
    """Let the feedback weights of a model learn from activity alone; no labels, no errors.

    Mirrors and other `AlignmentRule`s act as in `fit`, while kernels, biases and the statistics of
    normalisation stay. A mirror phase before training is `align(model, images)`; to alternate
    phases, call `align` and `fit` in turn. The state of the model's own optimizer is left alone.

    Args:
        model: A built Sequential or functional model.
        inputs: What `fit` takes as `x`: arrays, or a dataset of inputs.
        epochs: Passes over the inputs.
        batch_size: Examples a step, as in `fit`.
        optimizer: A Keras optimizer; SGD with step size 0.1 by default.
        **arguments: Others of `fit`.

    Returns:
        The history of the phase.

    Raises:
        ValueError: If the model is not built, or no rule in it learns from activity.

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
    layers = model._flatten_layers(include_self=False)
    learning = [layer for layer in layers if _learns_from_activity(layer)]
    allowed = "a model with a feedback rule that learns from activity, as WeightMirror"
    check.require(bool(learning), "model", allowed, model.name)
    ends = (model.inputs, model.outputs)
    with _only_feedback_learns(layers, learning):
        phase = keras.Model(*ends, name=f"{model.name}_align")
        phase.compile(keras.optimizers.SGD(0.1) if optimizer is None else optimizer)
        return phase.fit(inputs, epochs=epochs, batch_size=batch_size, **arguments)


def _learns_from_activity(layer: Any) -> bool:
    return isinstance(layer, FeedbackLayer) and layer.feedback.learns_from_activity


@contextmanager
def _only_feedback_learns(layers: list[Any], learning: list[FeedbackLayer]) -> Iterator[None]:
    """Freeze everything else, and restore what was trainable."""
    leaves = [layer for layer in layers if not layer._layers and layer not in learning]
    frozen = [layer for layer in leaves if layer.trainable]
    still = [
        weight
        for layer in learning
        for weight in (layer.kernel, layer.bias)
        if weight is not None and weight.trainable
    ]
    try:
        for part in (*frozen, *still):
            part.trainable = False
        yield
    finally:
        for part in (*frozen, *still):
            part.trainable = True
