"""The figure of a comparison: curves over epochs with bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_local.plots._figure import COLOURS, figure_of, open_axes
from keras_local.plots.curves import draw_curve
from keras_local.reproduce.compared_runs import Run
from keras_local.reproduce.statistics import interval_of_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure_of_runs(measure: str, runs: Mapping[str, list[Run]]) -> Figure:
    """Draw the measure and, if there are some, the gradient angles of each rule."""
    curves = {rule: np.array([run.measured for run in found]) for rule, found in runs.items()}
    angles = {
        rule: np.array([run.gradient_angles for run in found]) for rule, found in runs.items()
    }
    angles = {rule: values for rule, values in angles.items() if values.size}
    longest = max(map(len, runs))
    height = max(3.6, 1.0 + 0.22 * len(runs))
    figure, first = figure_of((9.0 if angles else 5.0) + 0.085 * longest, height)
    first.remove()
    panels = figure.subplots(1, 2 if angles else 1, squeeze=False)[0]
    _draw(panels[0], runs, curves, start=1)
    panels[0].set_ylabel(measure)
    _limit(panels[0])
    if angles:
        _draw(panels[1], runs, angles, start=0)
        panels[1].set_ylabel("angle to the gradient of\nbackpropagation (degrees)")
        means = [float(np.nanmax(values.mean(axis=0))) for values in angles.values()]
        top = max(100.0, max(means) + 10.0)
        panels[1].set_ylim(-3.0, top)
        panels[1].set_yticks(np.arange(0, top, 15))
        panels[1].axhline(90.0, color="0.4", linestyle=(0, (4, 3)), linewidth=1.2)
    # Beside the curves, where it hides none of them.
    panels[-1].legend(
        *panels[0].get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        frameon=False,
        fontsize=9,
    )
    return figure


def _draw(axes: Axes, runs: Mapping[str, Any], curves: Mapping[str, Any], start: int) -> None:
    from matplotlib.ticker import MaxNLocator

    for index, rule in enumerate(runs):
        if rule not in curves:
            continue
        values = curves[rule]
        epochs = np.arange(start, start + values.shape[1])
        draw_curve(axes, index, epochs, values.mean(axis=0), rule)
        if len(values) > 1:
            bands = [interval_of_runs(each) for each in values.T]
            low, high = ([band.low for band in bands], [band.high for band in bands])
            colour = COLOURS[index % len(COLOURS)]
            axes.fill_between(epochs, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    open_axes(axes)


def _limit(axes: Axes) -> None:
    """Show the means; the bands of few seeds are wide, and may reach below 0."""
    from matplotlib.ticker import LogLocator, NullLocator

    means = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()])
    means = means[np.isfinite(means)]
    if not means.size:
        return
    low, high = float(means.min()), float(means.max())
    if low <= 0.0 or high < 8.0 * low:
        margin = 0.15 * (high - low or 1.0)
        axes.set_ylim(low - margin if low < 0.0 else max(0.0, low - margin), high + margin)
        return
    # A linear scale would leave the last epochs, which matter, no room beside the first.
    axes.set_yscale("log")
    axes.set_ylim(low / 1.6, high * 1.3)
    axes.yaxis.set_major_locator(LogLocator(10.0, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
