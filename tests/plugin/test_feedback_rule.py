"""A feedback rule of the user's, with a memory, takes every path that ours take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from tests.plugin import trips
from tests.plugin.package.feedback import Homeostatic
from tests.support import array, largest_difference, tensorflow_only, two_replicas, weights_of

pytestmark = pytest.mark.daily


def wrapped() -> Any:
    return kl.feedback.MatchedNorm(kl.feedback.NoisyUpdates(Homeostatic(), stddev=0.0))


RULES = pytest.mark.parametrize("make", [Homeostatic, wrapped], ids=["bare", "wrapped twice"])


def net(rule: Any, **options: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((5, 4, 2)),
            kl.layers.FeedbackConv2D(3, 3, activation="tanh", feedback=rule, **options),
            keras.layers.Flatten(),
            kl.layers.FeedbackDense(6, "tanh", feedback=rule, **options),
            kl.layers.FeedbackDense(3, feedback=rule, **options),
        ]
    )


INPUTS, LABELS = trips.data((5, 4, 2))


@RULES
def test_the_checker(make: Any) -> None:
    kl.testing.check_feedback_rule(make())


def test_one_step_is_the_formula() -> None:
    layer = kl.layers.FeedbackDense(3, "tanh", feedback=Homeostatic(0.2, 0.3, tau=4.0))
    below = keras.layers.Dense(4, use_bias=False)
    model = keras.Sequential([keras.Input((5,)), below, layer])
    x, _ = trips.data((5,))
    target = np.random.default_rng(3).normal(size=(len(x), 3))
    first, kernel, sent = (array(w) for w in (below.kernel, layer.kernel, layer.feedback_kernel))
    hidden = x @ first
    y = np.tanh(hidden @ kernel)
    model.compile(keras.optimizers.SGD(1.0), "mse", **trips.compile_options())
    model.fit(x, target, batch_size=len(x), verbose=0)
    delta = 2.0 * (y - target) / target.size * (1.0 - y**2)
    memory = np.mean(y**2) / 4.0
    moved = 0.3 * sent - 0.2 * hidden.T @ y / len(x)
    close = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(array(layer.weights[-1]), memory, **close)
    np.testing.assert_allclose(array(below.kernel), first - x.T @ (delta @ sent.T), **close)
    after = array(layer.feedback_kernel) * (1.0 + memory)
    np.testing.assert_allclose(after, sent - moved, **close)


@RULES
def test_fit_and_save(make: Any, tmp_path: Path) -> None:
    model = trips.compiled(net(make()))
    losses = trips.fit(model, INPUTS, LABELS, epochs=8)
    assert losses[-1] < losses[0]
    memories = [array(w) for w in model.weights if w.name == "activity"]
    assert len(memories) == 3
    assert all(np.all(memory > 0.0) for memory in memories)
    trips.saves_and_goes_on(model, INPUTS, LABELS, tmp_path)


@RULES
def test_it_becomes_plain_and_comes_back(make: Any, tmp_path: Path) -> None:
    model = trips.compiled(net(make()))
    trips.fit(model, INPUTS, LABELS)
    plain = trips.becomes_plain(model, INPUTS, tmp_path)
    ours = kl.models.convert(plain, make(), verbose=False)
    np.testing.assert_allclose(
        ours.predict(INPUTS, verbose=0), model.predict(INPUTS, verbose=0), rtol=1e-4, atol=1e-5
    )
    names = [type(layer).__name__ for layer in ours.layers]
    assert names[-len(model.layers) :] == [type(layer).__name__ for layer in model.layers]
    report = str(kl.models.conversion_report(ours))
    assert type(make()).__name__ in report


def test_connectivity_and_a_frozen_layer(tmp_path: Path) -> None:
    model = net(Homeostatic(), connectivity=0.5)
    model.layers[2].trainable = False
    before = [np.copy(w) for w in model.layers[2].get_weights()]
    trips.compiled(model)
    trips.fit(model, INPUTS, LABELS, 2)
    assert largest_difference(before, model.layers[2].get_weights()) == 0.0
    trips.saves_and_goes_on(model, INPUTS, LABELS, tmp_path)


@RULES
def test_align(make: Any) -> None:
    model = net(make())
    kernels = [array(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")]
    feedback = [array(layer.feedback_kernel) for layer in model.layers if hasattr(layer, "kernel")]
    kl.models.align(model, INPUTS, epochs=2, verbose=0)
    after = [layer for layer in model.layers if hasattr(layer, "kernel")]
    assert largest_difference(kernels, [array(layer.kernel) for layer in after]) == 0.0
    assert largest_difference(feedback, [array(layer.feedback_kernel) for layer in after]) > 1e-5


@RULES
def test_monitors_and_figures(make: Any) -> None:
    model = trips.compiled(net(make()))
    monitor = kl.callbacks.AlignmentMonitor(data=(INPUTS, LABELS))
    history = model.fit(INPUTS, LABELS, epochs=2, verbose=0, callbacks=[monitor])
    # Below the lowest layer nothing waits for its error.
    for layer in model.layers[2:]:
        for measure in ("alignment_angle", "norm_ratio", "gradient_angle"):
            assert np.all(np.isfinite(history.history[f"{measure}/{layer.name}"]))
    pytest.importorskip("matplotlib")
    kl.plots.alignment(history)


@tensorflow_only
@RULES
def test_two_replicas(make: Any) -> None:
    """Also of the memory, whose mean is over all replicas."""
    single = net(make())
    start = weights_of(single)
    losses = trips.fit(trips.compiled(single), INPUTS, LABELS, 2)
    with two_replicas().scope():
        double = net(make())
        double.set_weights(start)
        trips.compiled(double)
    assert trips.fit(double, INPUTS, LABELS, 2) == pytest.approx(losses, rel=1e-5)
    assert largest_difference(weights_of(double), weights_of(single)) < 2e-6
