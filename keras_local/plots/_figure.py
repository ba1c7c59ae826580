"""Functions that all figures use: paper, colours, and the kernel of a layer."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which are different for people with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def figure_of(width: float, height: float) -> tuple[Figure, Axes]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError("Plots need matplotlib: pip install 'keras-local[plots]'") from error
    figure: Any = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1))
    FigureCanvasAgg(figure)
    # Notebooks know how to show a figure if pyplot has been imported; this one needs nothing.
    figure._repr_png_ = partial(_png, figure)
    return figure, figure.add_subplot()


def _png(figure: Figure) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def finish_counts(axes: Axes, label: str, title: str) -> None:
    axes.set_title(title)
    axes.set_ylabel(label)
    open_axes(axes, "y")


def open_axes(axes: Axes, lines: Literal["both", "y"] = "both") -> None:
    axes.grid(True, axis=lines, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def kernel_of(layer_or_kernel: Any) -> np.ndarray:
    kernel = getattr(layer_or_kernel, "kernel", layer_or_kernel)
    bare = kernel is None or isinstance(kernel, (str, keras.layers.Layer))
    allowed = "a built layer with a `kernel`, or a kernel"
    received = getattr(layer_or_kernel, "name", layer_or_kernel)
    check.require(not bare, "layer_or_kernel", allowed, received)
    if not isinstance(kernel, (np.ndarray, list, tuple)):
        kernel = ops.convert_to_numpy(kernel)
    weights = np.asarray(kernel).astype(np.float64)
    check.require(
        weights.ndim in (2, 4) and weights.size > 0,
        "layer_or_kernel",
        "a dense kernel (inputs, units) or a 2D convolution kernel (height, width, channels, "
        "filters)",
        f"shape {weights.shape}",
    )
    check.require(
        bool(np.isfinite(weights).all()), "layer_or_kernel", "finite", "NaN or infinite weights"
    )
    return weights
