"""Curves of training and of states."""

from __future__ import annotations

import types

import keras
import numpy as np
import pytest

from keras_local import plots
from keras_local.callbacks import AlignmentMonitor
from keras_local.layers import FeedbackDense
from keras_local.losses import LocalHinge
from tests.plots.support import LOGS

pytest.importorskip("matplotlib")


def curves(figure):
    """Return the drawn lines by their names."""
    figure.canvas.draw()
    axes = figure.axes[0]
    return {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}


def texts(figure):
    axes = figure.axes[0]
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_alignment():
    figure = plots.alignment(LOGS, initial={"alignment_angle/a": 91.0})
    drawn = curves(figure)
    assert drawn["a"] == [[0, 91.0], [1, 80.0], [2, 60.0]]
    assert drawn["b"] == [[1, 85.0], [2, 70.0]]
    assert [y for _, y in drawn["unrelated"]] == [90.0, 90.0]
    axes = figure.axes[0]
    assert "degrees" in axes.get_ylabel()
    assert axes.get_xlabel() == "epoch"
    assert axes.get_ylim()[0] == 0.0
    assert texts(figure) == ["unrelated", "a", "b"]
    assert set(curves(plots.alignment(LOGS, layers=["b"]))) == {"unrelated", "b"}
    assert set(curves(plots.alignment(LOGS, layers="b"))) == {"unrelated", "b"}


def test_alignment_of_a_real_history():
    model = keras.Sequential(
        [keras.Input((4,)), FeedbackDense(5, name="low"), FeedbackDense(3, name="top")]
    )
    model.compile("sgd", LocalHinge())
    monitor = AlignmentMonitor()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 4)), rng.integers(0, 3, 12)
    history = model.fit(x, y, initial_epoch=3, epochs=5, callbacks=[monitor], verbose=0)
    points = curves(plots.alignment(history, monitor.initial))["top"]
    assert [epoch for epoch, _ in points] == [3, 4, 5]
    assert points[0][1] == monitor.initial["alignment_angle/top"]
    assert points[-1][1] == history.history["alignment_angle/top"][-1]


@pytest.mark.parametrize("angles", [[120.0, 170.0], [float("nan"), 80.0], [float("nan")]])
def test_alignment_shows_all_angles(angles):
    figure = plots.alignment({"alignment_angle/a": angles})
    figure.canvas.draw()
    low, high = figure.axes[0].get_ylim()
    assert low == 0
    assert high >= np.nanmax([*angles, 90.0])


def test_learning_curves():
    history = types.SimpleNamespace(history={"val_accuracy": [0.7]}, epoch=[4])
    runs = {"first": {"val_accuracy": [0.5, 0.75], "loss": [2.0, 1.0]}, "second": history}
    figure = plots.learning_curves(runs, title="Runs")
    drawn = curves(figure)
    assert drawn == {"first": [[1, 0.5], [2, 0.75]], "second": [[5, 0.7]]}
    assert figure.axes[0].get_ylabel() == "validation accuracy"
    assert figure.axes[0].get_title() == "Runs"
    assert texts(figure) == ["first", "second"]
    loss = plots.learning_curves({"first": runs["first"]}, metric="loss")
    assert loss.axes[0].get_ylabel() == "loss"


@pytest.mark.parametrize("count", [1, 3, 30])
def test_legend_hides_no_curve_and_all_is_inside(count):
    logs = {f"alignment_angle/layer_number_{i}": [90.0 - i, 80.0 - i] for i in range(count)}
    figure = plots.alignment(logs)
    figure.canvas.draw()
    axes = figure.axes[0]
    legend = axes.get_legend().get_window_extent()
    assert legend.x0 >= axes.get_window_extent().x1
    width = figure.get_figwidth() * figure.dpi
    assert legend.x1 <= width + 1
    assert legend.y0 >= -1
    assert axes.get_window_extent().width > 0.4 * width
    styles = {(line.get_color(), line.get_linestyle()) for line in axes.get_lines()}
    assert len(styles) == min(count + 1, 29)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: plots.alignment({"loss": [1.0]}), "history"),
        (lambda: plots.alignment([1.0]), "history"),
        (lambda: plots.alignment(LOGS, layers=["c"]), "layers"),
        (lambda: plots.alignment(LOGS, layers=[]), "layers"),
        (lambda: plots.learning_curves({}), "histories"),
        (lambda: plots.learning_curves([LOGS]), "histories"),
        (lambda: plots.learning_curves({"a": 3}), "histories"),
        (lambda: plots.learning_curves({"a": LOGS}, metric="accuracy"), "metric"),
    ],
)
def test_bad_input_of_curves(call, named):
    with pytest.raises(ValueError, match=f"`{named}` must be .* Received: {named}="):
        call()


def test_trajectories_of_one_sample_are_drawn_layer_by_layer():
    states = [np.random.default_rng(k).random((6, 2, 4 + k)) for k in range(2)]
    figure = plots.trajectories(states, sample=1, units=3, names=["hidden", "classes"], mark=4)
    figure.canvas.draw()
    upper, lower = figure.axes
    assert (upper.get_ylabel(), lower.get_ylabel()) == ("classes", "hidden")
    for axes, layer in ((lower, states[0]), (upper, states[1])):
        curves, mark = axes.get_lines()[:3], axes.get_lines()[3]
        for unit, curve in enumerate(curves):
            np.testing.assert_array_equal(curve.get_ydata(), layer[:, 1, unit])
        assert set(mark.get_xdata()) == {4}


@pytest.mark.parametrize(
    ("named", "arguments"),
    [
        ("states", {"states": []}),
        ("states", {"states": [np.zeros((3, 2))]}),
        ("sample", {"sample": 2}),
        ("units", {"units": 0}),
        ("names", {"names": ["a", "b"]}),
    ],
)
def test_bad_input_of_trajectories(named, arguments):
    with pytest.raises(ValueError, match=f"`{named}` must be"):
        plots.trajectories(**{"states": [np.zeros((3, 2, 4))], **arguments})
