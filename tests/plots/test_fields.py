"""Receptive fields: where units are drawn, and in which colours."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_local import plots
from keras_local.layers import FeedbackDense, HebbianDense
from tests.plots.support import one_hot_units

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
