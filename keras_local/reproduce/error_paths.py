"""First part of the demo: one network, trained with each error path."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_local import callbacks, feedback, layers, losses
from keras_local.reproduce.figures import alignment_figure, error_figure
from keras_local.reproduce.images import Data
from keras_local.reproduce.progress import Stage, Stages
from keras_local.reproduce.results import Trained
from keras_local.reproduce.rows import curve_of, row_of, say_error
from keras_local.reproduce.settings import DemoSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RULES: dict[str, tuple[feedback.FeedbackRule, str, str]] = {
    "backprop": (
        feedback.Symmetric(),
        "Backpropagation",
        "errors return through the transposed forward weights",
    ),
    "fixed": (
        feedback.FeedbackAlignment(),
        "Fixed random feedback",
        "errors return through random weights that never change",
    ),
    "updated": (
        feedback.KolenPollack(),
        "Updated random feedback",
        "errors return through random weights that receive the forward weights' own update",
    ),
}


def error_paths(
    settings: DemoSettings, data: Data, seed: int, stages: Stages, figures: dict[str, Figure]
) -> list[Trained]:
    """Train the same network with each error path, from the same weights and in the same order."""
    images = settings.error_paths.images
    used = dataclasses.replace(data, x_train=data.x_train[:images], y_train=data.y_train[:images])
    rows = []
    for key, (rule, label, detail) in RULES.items():
        with stages(label) as stage:
            keras.utils.set_random_seed(seed)
            model = convolutional_net(settings, used, rule, seed)
            start = time.perf_counter()
            curve, angles = _fit_net(settings, used, model, stage)
            seconds = time.perf_counter() - start
            rows.append(row_of(key, label, detail, model, used, seconds, curve, angles))
            say_error(stage, rows[-1])
    figures["alignment"] = alignment_figure(rows)
    figures["learning_curves"] = error_figure(rows, "epoch")
    return rows


def _fit_net(
    settings: DemoSettings, data: Data, model: keras.Model, stage: Stage
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Train by SGD on the local hinge loss; return the test errors and the angles by layer."""
    chosen = settings.error_paths
    steps = -(-len(data.x_train) // chosen.batch_size) * chosen.epochs
    rate = keras.optimizers.schedules.CosineDecay(chosen.learning_rate, steps)
    model.compile(
        keras.optimizers.SGD(rate, momentum=chosen.momentum),
        losses.LocalHinge(),
        metrics=["accuracy"],
        jit_compile=False,
    )
    watched = [
        layer.name
        for layer in model.layers[1:]  # No layer below the first needs an error.
        if getattr(layer, "feedback_kernel", None) is not None
    ]
    monitor = callbacks.AlignmentMonitor(watched, measures=["alignment_angle"])
    history = model.fit(
        data.x_train,
        data.y_train,
        validation_data=(data.x_test, data.y_test),
        batch_size=chosen.batch_size,
        epochs=chosen.epochs,
        verbose=0,
        callbacks=[stage.callback(), *([monitor] if watched else [])],
    )
    angles = {
        layer: [monitor.initial[f"alignment_angle/{layer}"]]
        + history.history[f"alignment_angle/{layer}"]
        for layer in watched
    }
    return curve_of(history), angles


def convolutional_net(
    settings: DemoSettings, data: Data, rule: feedback.FeedbackRule, seed: int
) -> keras.Model:
    """Return the network of two convolutions and two dense layers."""
    chosen = settings.error_paths
    seeds = iter(np.random.SeedSequence(seed).generate_state(8).tolist())

    def common(name: str) -> dict[str, Any]:
        # Seeds for each initializer: all rules start from the same kernels, and the two with
        # feedback kernels from the same feedback kernels.
        return {
            "name": name,
            "feedback": rule,
            "kernel_initializer": keras.initializers.GlorotUniform(next(seeds)),
            "feedback_initializer": keras.initializers.GlorotUniform(next(seeds)),
        }

    def convolution(filters: int, name: str) -> keras.layers.Layer:
        return layers.FeedbackConv2D(
            filters,
            chosen.kernel_size,
            padding="same",
            activation=chosen.activation,
            **common(name),
        )

    return keras.Sequential(
        [
            keras.Input(data.shape),
            convolution(chosen.filters[0], "conv1"),
            keras.layers.MaxPooling2D(),
            convolution(chosen.filters[1], "conv2"),
            keras.layers.Flatten(),
            layers.FeedbackDense(chosen.hidden, activation=chosen.activation, **common("hidden")),
            layers.FeedbackDense(data.classes, **common("scores")),
        ]
    )
