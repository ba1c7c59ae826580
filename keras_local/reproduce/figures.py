"""The figures of the demo's report."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from keras_local import plots
from keras_local.reproduce.results import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def error_figure(rows: list[Trained], unit: str) -> Figure:
    """Draw test errors in percent over training."""
    metric = "test error (%)"
    runs = {
        row.label: SimpleNamespace(
            history={metric: [100.0 * error for error in row.curve["test_error"]]},
            epoch=[passes - 1 for passes in row.curve["passes"]],
        )
        for row in rows
    }
    figure = plots.learning_curves(runs, metric)
    from matplotlib.ticker import LogLocator, NullLocator

    axes = figure.axes[0]
    axes.set_xlabel(unit)
    # A linear scale would leave the last passes, which matter, no room beside the first.
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10.0, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    return _legend_below(figure)


def alignment_figure(rows: list[Trained]) -> Figure:
    """Draw the angles: a colour for each layer, a dash for each rule."""
    angles = {
        f"alignment_angle/{row.key}, {layer}": values
        for row in rows
        for layer, values in row.angles.items()
    }
    figure = plots.alignment(
        {name: values[1:] for name, values in angles.items()},
        initial={name: values[0] for name, values in angles.items()},
    )
    lines = figure.axes[0].get_lines()[1:]  # The first is the line of unrelated kernels.
    names = [str(line.get_label()).split(", ") for line in lines]
    watched = list(dict.fromkeys(layer for _, layer in names))
    colours = [lines[index].get_color() for index in range(len(watched))]
    for line, (key, layer) in zip(lines, names, strict=True):
        line.set_color(colours[watched.index(layer)])
        line.set_linestyle("--" if key == "fixed" else "-")
    return _legend_below(figure)


def _legend_below(figure: Figure) -> Figure:
    """Move the legend below the curves, so that the figure is also read on a narrow screen."""
    axes = figure.axes[0]
    handles, labels = axes.get_legend_handles_labels()
    if labels[0] == "unrelated":  # Below the first column, which is as long as the second.
        half = 1 + len(labels) // 2
        handles = [*handles[1:half], handles[0], *handles[half:]]
        labels = [*labels[1:half], labels[0], *labels[half:]]
    beside = axes.get_legend()
    if beside is not None:
        beside.remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.set_size_inches(5.4, 4.4)
    return figure
