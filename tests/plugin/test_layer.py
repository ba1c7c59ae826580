"""A feedback layer of the user's, on a linear map of its own, takes every path that ours take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from tests.plugin import trips
from tests.plugin.package.feedback import Homeostatic
from tests.plugin.package.layers import BlockDense, FeedbackBlockDense
from tests.support import array, largest_difference, tensorflow_only, two_replicas, weights_of

pytestmark = pytest.mark.daily

INPUTS, LABELS = trips.data((6,))


@pytest.fixture(autouse=True)
def pair() -> None:
    kl.models.register_conversion(BlockDense, FeedbackBlockDense)


def plain_net() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            BlockDense(8, 2, "tanh"),
            BlockDense(6, 2, "tanh"),
            keras.layers.Dense(3),
        ]
    )


def net(rule: Any = "kolen_pollack", **options: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            FeedbackBlockDense(8, 2, "tanh", feedback=rule, **options),
            FeedbackBlockDense(6, 2, "tanh", feedback=rule, **options),
            kl.layers.FeedbackDense(3, feedback=rule),
        ]
    )


def test_symmetric_equals_the_plain_layer() -> None:
    ours, plain = net("symmetric"), plain_net()
    plain.set_weights(weights_of(ours))
    losses = [trips.fit(trips.compiled(each), INPUTS, LABELS, 3) for each in (ours, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert largest_difference(weights_of(ours), weights_of(plain)) < 1e-6


def test_the_argument_of_its_own_acts() -> None:
    kernels = []
    for damping in (1.0, 0.0):
        model = net("feedback_alignment", damping=damping)
        before = array(model.layers[0].kernel)
        trips.fit(trips.compiled(model), INPUTS, LABELS)
        kernels.append(np.abs(array(model.layers[0].kernel) - before).max())
    assert kernels[0] > 1e-4
    assert kernels[1] == 0.0


@pytest.mark.parametrize(
    "rule",
    ["kolen_pollack", "activation_alignment", "weight_mirror", "usf", Homeostatic()],
    ids=str,
)
def test_fit_and_save_by_every_kind_of_rule(rule: Any, tmp_path: Path) -> None:
    model = trips.compiled(net(rule, damping=0.5, connectivity=0.8))
    losses = trips.fit(model, INPUTS, LABELS, epochs=5)
    assert losses[-1] < losses[0]
    trips.saves_and_goes_on(model, INPUTS, LABELS, tmp_path)


def test_there_and_back(tmp_path: Path) -> None:
    model = trips.compiled(net(damping=0.5))
    trips.fit(model, INPUTS, LABELS)
    plain = trips.becomes_plain(model, INPUTS, tmp_path, own=("tests",))
    kinds = [type(layer) for layer in plain.layers]
    assert kinds[-3:] == [BlockDense, BlockDense, keras.layers.Dense]
    ours = kl.models.convert(plain, "kolen_pollack", verbose=False)
    assert [type(layer) for layer in ours.layers][-3:] == [type(layer) for layer in model.layers]
    np.testing.assert_allclose(
        ours.predict(INPUTS, verbose=0), model.predict(INPUTS, verbose=0), rtol=1e-5, atol=1e-6
    )
    trips.fit(trips.compiled(ours), INPUTS, LABELS)
    report = kl.models.conversion_report(ours)
    assert "FeedbackBlockDense" in str(report)


def test_align_monitors_and_figures() -> None:
    model = trips.compiled(net("symmetric_alignment"))
    kl.models.align(model, INPUTS, verbose=0)
    monitor = kl.callbacks.AlignmentMonitor(data=(INPUTS, LABELS))
    history = model.fit(INPUTS, LABELS, epochs=2, verbose=0, callbacks=[monitor])
    name = model.layers[1].name
    for measure in ("alignment_angle", "norm_ratio", "weight_correlation", "gradient_angle"):
        assert np.all(np.isfinite(history.history[f"{measure}/{name}"]))
    pytest.importorskip("matplotlib")
    kl.plots.alignment(history)


def test_inside_of_other_layers(tmp_path: Path) -> None:
    """In a nested model, and in a layer that repeats it over time."""
    inputs = keras.Input((4, 6))
    inner = net("feedback_alignment")
    outputs = keras.layers.TimeDistributed(inner)(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(outputs))
    x, labels = trips.data((4, 6))
    trips.fit(trips.compiled(model), x, labels)
    plain = kl.models.to_plain(model)
    np.testing.assert_allclose(
        plain.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )


@tensorflow_only
def test_two_replicas() -> None:
    single = net(Homeostatic())
    start = weights_of(single)
    losses = trips.fit(trips.compiled(single), INPUTS, LABELS, 2)
    with two_replicas().scope():
        double = net(Homeostatic())
        double.set_weights(start)
        trips.compiled(double)
    assert trips.fit(double, INPUTS, LABELS, 2) == pytest.approx(losses, rel=1e-5)
    assert largest_difference(weights_of(double), weights_of(single)) < 2e-6
