from __future__ import annotations

import sys
import types

import keras
import numpy as np
import pytest

from keras_local import plots
from keras_local.callbacks import AlignmentMonitor
from keras_local.layers import FeedbackDense, HebbianDense
from keras_local.losses import LocalHinge
from keras_local.plasticity import KrotovHopfield

pytest.importorskip("matplotlib")

RED, BLUE, WHITE = (0.7, 0.1, 0.2), (0.1, 0.3, 0.6), (0.97, 0.97, 0.97)


def picture(figure):
    """Return the drawn grid as an array, and check that the figure can be rendered."""
    figure.canvas.draw()
    return np.asarray(figure.axes[0].get_images()[0].get_array())


def tile(figure, row, column, rows, columns):
    """Return the part of the picture where a unit is drawn."""
    drawn = picture(figure)
    height, width = drawn.shape[0] / rows, drawn.shape[1] / columns
    return drawn[
        round(row * height) : round((row + 1) * height),
        round(column * width) : round((column + 1) * width),
    ]


def middle(part):
    return part[part.shape[0] // 2, part.shape[1] // 2]


def bar(figure):
    # The scale is drawn in axes inside those of the grid.
    (axes,) = figure.axes[0].child_axes
    return axes


def scale(figure):
    return bar(figure).get_ylim()


def one_hot_units(inputs=9, units=6):
    kernel = np.zeros((inputs, units))
    for unit in range(units):
        kernel[4, unit] = (-1) ** unit * (unit + 1.0)  # the centre of a 3 x 3 image
    return kernel


def test_units_stand_in_reading_order_with_signed_colours():
    figure = plots.receptive_fields(one_hot_units(), columns=3, limit=1.0)
    for unit in range(6):
        centre = middle(tile(figure, unit // 3, unit % 3, 2, 3))
        warm = centre[0] > centre[2]
        assert warm == (unit % 2 == 0)
    corner = tile(figure, 0, 0, 2, 3)
    np.testing.assert_allclose(corner[20, 20], WHITE, atol=0.02)


def test_images_are_upright():
    kernel = np.zeros((6, 1))
    kernel[1] = 1.0  # first row, second column of 2 x 3
    drawn = picture(plots.receptive_fields(kernel, shape=(2, 3)))
    height, width = drawn.shape[:2]
    assert drawn[height // 4, width // 2, 2] < 0.5, "red"
    np.testing.assert_allclose(drawn[3 * height // 4, width // 2], WHITE, atol=0.02)


def test_scale_is_symmetric_and_shared():
    figure = plots.receptive_fields(np.array([[0.5, -2.0], [0.1, 1.0], [0, 0], [0, 0]]))
    low, high = scale(figure)
    assert low == -high
    assert high == pytest.approx(1.5 * np.median([0.5, 2.0]))
    assert plots.receptive_fields(one_hot_units(), limit=9.0) is not None
    assert scale(plots.receptive_fields(one_hot_units(), limit=9.0)) == (-9.0, 9.0)


def test_few_great_units_do_not_fade_the_others():
    rng = np.random.default_rng(0)
    kernel = rng.uniform(-1, 1, (16, 20))
    kernel[:, 3] *= 100
    assert scale(plots.receptive_fields(kernel))[1] < 2.0
    even = rng.uniform(-1, 1, (16, 20))
    assert scale(plots.receptive_fields(even))[1] == pytest.approx(np.abs(even).max())


def test_zero_weights_are_drawn():
    drawn = picture(plots.receptive_fields(np.zeros((4, 2))))
    assert np.isfinite(drawn).all()


def test_selection_and_order():
    kernel = one_hot_units()
    assert picture(plots.receptive_fields(kernel, units=2, columns=1)).shape[0] > 1000
    title = plots.receptive_fields(kernel, units=[5, 0, 0]).axes[0].get_title()
    assert title == "3 of 6 units"
    figure = plots.receptive_fields(kernel, units=np.array([0, 1]), columns=2, limit=1.0)
    assert middle(tile(figure, 0, 0, 1, 2))[0] > 0.3
    assert middle(tile(figure, 0, 1, 1, 2))[0] < 0.3
    # The greatest unit, of index 5, is negative: blue comes first.
    figure = plots.receptive_fields(kernel, units=2, columns=2, order="norm", limit=1.0)
    assert middle(tile(figure, 0, 0, 1, 2))[0] < 0.3
    assert middle(tile(figure, 0, 1, 1, 2))[0] > 0.3
    many = plots.receptive_fields(np.random.default_rng(0).normal(size=(4, 300)))
    assert many.axes[0].get_title() == "100 of 300 units"


def test_layers_of_every_kind():
    dense = HebbianDense(3, name="hebbian")
    dense.build((None, 16))
    feedback = FeedbackDense(2)
    feedback.build((None, 12))  # 2 x 2 x 3
    convolution = keras.layers.Conv2D(5, 3, name="first")
    convolution.build((None, 8, 8, 1))
    assert plots.receptive_fields(dense).axes[0].get_title() == "hebbian: 3 units"
    assert plots.receptive_fields(convolution).axes[0].get_title() == "first: 5 units"
    assert plots.receptive_fields(convolution, title="").axes[0].get_title() == ""
    assert "channel" in bar(plots.receptive_fields(feedback)).get_ylabel()
    assert bar(plots.receptive_fields(dense)).get_ylabel() == "weight"
    assert plots.receptive_fields(dense.kernel).axes[0].get_title() == "3 units"


def test_colour_images():
    kernel = np.zeros((1, 1, 3, 2))
    kernel[..., 0, 0] = 1.0  # red excites the first unit
    kernel[..., 2, 1] = -1.0  # blue inhibits the second
    figure = plots.receptive_fields(kernel, columns=2)
    np.testing.assert_allclose(middle(tile(figure, 0, 0, 1, 2)), [1, 0.5, 0.5], atol=0.01)
    np.testing.assert_allclose(middle(tile(figure, 0, 1, 1, 2)), [0.5, 0.5, 0], atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"layer_or_kernel": np.ones(9)}, "layer_or_kernel"),
        ({"layer_or_kernel": np.ones((3, 3, 3))}, "layer_or_kernel"),
        ({"layer_or_kernel": np.ones((3, 3, 2, 4))}, "layer_or_kernel"),
        ({"layer_or_kernel": np.ones((0, 4))}, "layer_or_kernel"),
        ({"layer_or_kernel": np.full((9, 2), np.nan)}, "layer_or_kernel"),
        ({"layer_or_kernel": np.ones((3, 3, 1, 4)), "shape": (3, 3)}, "shape"),
        ({"layer_or_kernel": np.ones((7, 2))}, "shape"),
        ({"shape": (3, 4)}, "shape"),
        ({"shape": (9,)}, "shape"),
        ({"shape": (-3, -3)}, "shape"),
        ({"layer_or_kernel": np.ones((8, 2)), "shape": (2, 2, 2)}, "shape"),
        ({"units": 0}, "units"),
        ({"units": []}, "units"),
        ({"units": [6]}, "units"),
        ({"units": [-1]}, "units"),
        ({"units": [0.5]}, "units"),
        ({"columns": 0}, "columns"),
        ({"order": "size"}, "order"),
        ({"limit": 0.0}, "limit"),
    ],
)
def test_bad_input_of_receptive_fields(arguments, named):
    arguments = {"layer_or_kernel": one_hot_units(), **arguments}
    with pytest.raises(ValueError, match=f"`{named}` must be .* Received: {named}="):
        plots.receptive_fields(**arguments)


# -- curves ------------------------------------------------------------------------------------


def curves(figure):
    """Return the drawn lines by their names."""
    figure.canvas.draw()
    axes = figure.axes[0]
    return {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}


def texts(figure):
    axes = figure.axes[0]
    return [text.get_text() for text in axes.get_legend().get_texts()]


LOGS = {
    "loss": [1.0, 0.5],
    "alignment_angle/a": [80.0, 60.0],
    "norm_ratio/a": [1.0, 1.0],
    "alignment_angle/b": [85.0, 70.0],
}


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


def test_scale_is_inside_and_as_high_as_the_grid():
    for kernel, columns in ((np.ones((16, 9)), 3), (np.ones((16, 5)), 5), (np.ones((16, 3)), 1)):
        figure = plots.receptive_fields(kernel, columns=columns)
        figure.canvas.draw()
        box = bar(figure).get_tightbbox()
        width, height = figure.get_size_inches() * figure.dpi
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height
        grid = figure.axes[0].get_window_extent()
        assert bar(figure).get_window_extent().height == pytest.approx(grid.height, rel=0.01)


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


# -- units -------------------------------------------------------------------------------------


def bars(figure):
    """Return (left, right, height) of the bars of a histogram that are not empty."""
    figure.canvas.draw()
    found = [
        (bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height())
        for bar in figure.axes[0].patches
    ]
    return [bar for bar in found if bar[2] > 0]


def test_norms_are_counted_at_their_place():
    kernel = np.zeros((3, 5))
    kernel[0] = [1.0, 1.0, 2.0, -2.0, 0.5]
    for p in (2.0, 3.0):
        norms = np.abs(kernel[0]) ** p
        found = bars(plots.norm_histogram(kernel, p=p))
        assert sum(height for *_, height in found) == 5
        for norm in np.unique(norms):
            inside = [b for b in found if b[0] - 1e-9 <= norm <= b[1] + 1e-9]
            assert max(height for *_, height in inside) >= np.count_nonzero(norms == norm)


def test_norms_have_the_exponent_of_the_rule():
    layer = HebbianDense(4, KrotovHopfield(p=3.0))
    layer.build((None, 9))
    layer.kernel.assign(np.full((9, 4), 9.0 ** (-1 / 3)))
    figure = plots.norm_histogram(layer)
    assert figure.axes[0].get_title() == "4 of 4 units within 0.1 of 1"
    assert "3" in figure.axes[0].get_xlabel()
    assert plots.norm_histogram(layer, p=2).axes[0].get_title().startswith("0 of 4")
    assert plots.norm_histogram(layer, title="Norms").axes[0].get_title() == "Norms"


def test_a_wide_range_of_norms_has_a_logarithmic_axis():
    kernel = np.eye(4) * [1.0, 1.0, 1.0, 5.0]
    assert plots.norm_histogram(kernel).axes[0].get_xscale() == "log"
    assert plots.norm_histogram(np.eye(4)).axes[0].get_xscale() == "linear"
    assert plots.norm_histogram(np.zeros((4, 4))).axes[0].get_xscale() == "linear"
    convolution = np.full((2, 2, 3, 7), 12.0**-0.5)
    assert plots.norm_histogram(convolution).axes[0].get_title().startswith("7 of 7")


def test_wins_are_drawn_in_order():
    layer = HebbianDense(3, KrotovHopfield())
    layer.build((None, 2))
    layer.kernel.assign([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
    inputs = np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 2.0]])
    for figure in (plots.win_counts(layer, inputs), plots.win_counts([1, 2, 0])):
        figure.canvas.draw()
        (stairs,) = figure.axes[0].patches
        assert stairs.get_data().values.tolist() == [2, 1, 0]
        assert figure.axes[0].get_title() == "1 of 3 units won nothing"
        assert figure.axes[0].get_lines()[0].get_ydata()[0] == 1.0
    assert plots.win_counts([0, 0], title="Wins").axes[0].get_title() == "Wins"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: plots.norm_histogram(np.ones(3)), "layer_or_kernel"),
        (lambda: plots.norm_histogram(np.full((3, 2), np.inf)), "layer_or_kernel"),
        (lambda: plots.norm_histogram(np.ones((3, 2)), p=0.5), "p"),
        (lambda: plots.norm_histogram(np.ones((3, 2)), bins=0), "bins"),
        (lambda: plots.win_counts([0.5, 1.0]), "layer_or_counts"),
        (lambda: plots.win_counts([-1, 1]), "layer_or_counts"),
        (lambda: plots.win_counts([]), "layer_or_counts"),
        (lambda: plots.win_counts([1], np.ones((2, 2))), "inputs"),
        (lambda: plots.win_counts(HebbianDense(3, kernel_initializer="ones")), "inputs"),
    ],
)
def test_bad_input_of_units(call, named):
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


def test_nothing_global_is_touched(tmp_path):
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    before = dict(mpl.rcParams)
    plots.receptive_fields(np.ones((4, 2))).savefig(tmp_path / "fields.png")
    plots.alignment({"alignment_angle/a": [80.0]}).savefig(tmp_path / "alignment.svg")
    plots.learning_curves({"a": {"val_accuracy": [0.5]}}).savefig(tmp_path / "curves.pdf")
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before
    assert all(path.stat().st_size > 1000 for path in tmp_path.iterdir())


def test_missing_matplotlib_names_the_extra(monkeypatch):
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    for call in (
        lambda: plots.receptive_fields(one_hot_units()),
        lambda: plots.alignment(LOGS),
        lambda: plots.learning_curves({"a": LOGS}, metric="loss"),
        lambda: plots.norm_histogram(one_hot_units()),
        lambda: plots.win_counts([1, 2]),
    ):
        with pytest.raises(ImportError, match=r"keras-local\[plots\]"):
            call()


@pytest.mark.parametrize(
    "layer",
    [None, "kernel", keras.layers.ReLU(), keras.layers.TimeDistributed(keras.layers.ReLU())],
)
def test_a_layer_without_a_kernel_is_refused_by_name(layer):
    for draw in (plots.receptive_fields, plots.norm_histogram):
        with pytest.raises(ValueError, match=r"`layer_or_kernel` must be .*a `kernel`.*Received"):
            draw(layer)
