"""Histograms of norms and of wins."""

from __future__ import annotations

import numpy as np
import pytest

from keras_local import plots
from keras_local.layers import HebbianDense
from keras_local.plasticity import KrotovHopfield

pytest.importorskip("matplotlib")


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
