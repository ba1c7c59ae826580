"""What holds for every figure."""

from __future__ import annotations

import pickle
import sys

import keras
import numpy as np
import pytest

from keras_local import plots
from tests.plots.support import LOGS, one_hot_units

pytest.importorskip("matplotlib")


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


def test_notebooks_show_a_figure():
    """Also if nothing has imported pyplot, which would tell them how."""
    figure = plots.learning_curves({"a": {"val_accuracy": [0.5]}})
    shown = figure._repr_png_()
    assert shown.startswith(b"\x89PNG")
    again = pickle.loads(pickle.dumps(figure))
    assert again._repr_png_() == shown


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
