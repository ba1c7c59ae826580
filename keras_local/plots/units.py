"""Figures of competing units: their norms, and the samples that they win."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_local import _validation as check
from keras_local import metrics
from keras_local.layers.plain_form import norm_exponent
from keras_local.plots._figure import COLOURS, figure_of, finish_counts, kernel_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def norm_histogram(
    layer_or_kernel: Any, p: float | None = None, bins: int = 40, title: str | None = None
) -> Figure:
    """Draw how many units have which norm `sum_i |W_ik|^p`.

    Under the Krotov-Hopfield rule, units that continue to win converge to 1 from above. Units that
    never won are apart, at the norm of the initial weights. The axis is logarithmic if the largest
    norm is more than 10 times the smallest.

    Args:
        layer_or_kernel: A built layer with a `kernel`, or a kernel: array, tensor or variable of
            shape `(inputs, units)`, or of a 2D convolution.
        p: Exponent; None means the exponent of the layer's plasticity rule, or 2 without a rule.
        bins: Number of bars.
        title: Title of the figure; None says how many units are within 0.1 of 1.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the kernel has another rank or is not finite, or a number is out of its
            range.

    Example:
        >>> kernel = np.random.default_rng(0).normal(size=(64, 20))
        >>> norm_histogram(kernel / np.linalg.norm(kernel, axis=0)).axes[0].get_title()
        '20 of 20 units within 0.1 of 1'
    """
    weights = kernel_of(layer_or_kernel)
    if p is None:
        p = norm_exponent(layer_or_kernel) or 2.0
    p = check.real("p", p, minimum=1.0)
    bins = check.positive_integer("bins", bins)
    norms = np.sum(np.abs(weights.reshape(-1, weights.shape[-1])) ** p, axis=0)
    figure, axes = figure_of(5.4, 3.6)
    low, high = float(min(norms.min(), 1.0)), float(max(norms.max(), 1.0))
    logarithmic = 0.0 < 10.0 * low < high
    if high - low < 0.2:  # If all norms are equal, a tiny difference would fill the axis.
        low, high = low - 0.1, high + 0.1
    edges = np.geomspace(low, high, bins + 1) if logarithmic else np.linspace(low, high, bins + 1)
    edges[0], edges[-1] = low, high
    axes.hist(norms, bins=edges.tolist(), color=COLOURS[0])
    if logarithmic:
        axes.set_xscale("log")
    axes.axvline(1.0, color="0.4", linestyle=(0, (4, 3)), linewidth=1.2)
    axes.set_xlabel(f"norm of a unit, $\\sum_i |W_i|^{{{p:g}}}$")
    near = np.count_nonzero(np.abs(norms - 1.0) < 0.1)
    said = f"{near} of {norms.size} units within 0.1 of 1"
    finish_counts(axes, "units", said if title is None else title)
    return figure


def win_counts(layer_or_counts: Any, inputs: Any = None, title: str | None = None) -> Figure:
    """Draw how many samples each competing unit wins, the most successful unit first.

    Args:
        layer_or_counts: A built layer as for `metrics.win_counts`, or the result of that function.
        inputs: Inputs of the layer; None with counts.
        title: Title of the figure; None says how many units won no sample.

    Returns:
        The figure. The dashed line shows the wins of all units if they won equally often.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the inputs do not fit the layer, or the counts are not whole numbers from 0.

    Example:
        >>> win_counts([3, 0, 5, 1]).axes[0].get_title()
        '1 of 4 units won nothing'
    """
    listed = hasattr(layer_or_counts, "shape") or hasattr(layer_or_counts, "__len__")
    if not listed:
        check.require(inputs is not None, "inputs", "the inputs of the layer", inputs)
        counts = metrics.win_counts(layer_or_counts, inputs)
    else:
        check.require(inputs is None, "inputs", "None with counts", type(inputs).__name__)
        counts = np.asarray(layer_or_counts)
        fits = counts.ndim == 1 and counts.size > 0 and counts.dtype.kind in "iu"
        check.require(
            fits and bool((counts >= 0).all()),
            "layer_or_counts",
            "a layer, or one whole number of wins for each unit",
            f"{counts.dtype} of shape {counts.shape}",
        )
    counts = np.sort(counts)[::-1]
    figure, axes = figure_of(5.4, 3.6)
    axes.stairs(counts, np.arange(counts.size + 1), fill=True, color=COLOURS[0])
    axes.axhline(counts.mean(), color="0.4", linestyle=(0, (4, 3)), linewidth=1.2)
    # The axis is linear below 1, so that units without a win are shown.
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(0.0, max(1.0, 1.5 * counts.max()))
    axes.set_xlim(0, counts.size)
    axes.set_xlabel("units, by their wins")
    dead = np.count_nonzero(counts == 0)
    said = f"{dead} of {counts.size} units won nothing"
    finish_counts(axes, "samples won", said if title is None else title)
    return figure
