"""The figures of pages: curves with bands over seeds, bars beside published values, and others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_local import plots
from keras_local.plots._figure import COLOURS, figure_of, open_axes
from keras_local.reproduce.experiment import Experiment
from keras_local.reproduce.statistics import interval_of_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cells = dict[str, list[dict[str, Any]]]
"""For each variant its results, in the order of seeds."""

_PREFERRED = ("test_error", "held_out_error", "loss", "train_error")


def draw(experiment: Experiment, cells: Cells, folder: Path, stem: str) -> list[Path]:
    """Draw the figures of an experiment, and return their files.

    The same results give the same bytes.
    """
    functions: dict[str, Callable[[Experiment, Cells, Path], Figure | None]] = {
        "curves": _curves,
        "bars": _bars,
        "alignment": _alignment,
        "receptive_fields": _fields,
    }
    written = []
    for name in experiment.figures:
        figure = functions[name](experiment, cells, folder) if name in functions else None
        if figure is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{stem}-{name}.png"
            # A version of matplotlib in the file would be another byte for each reader.
            figure.savefig(path, dpi=110, metadata={"Software": None})
            written.append(path)
    return written


def factor(experiment: Experiment) -> float:
    """Return what numbers are multiplied by when they are shown: errors are in percent."""
    return 100.0 if experiment.metric.startswith("test_error") else 1.0


def label(experiment: Experiment) -> str:
    """Return the name of the metric as it is shown."""
    name = experiment.metric.replace("_", " ")
    return f"{name} (%)" if factor(experiment) == 100.0 else name


def _curves(experiment: Experiment, cells: Cells, folder: Path) -> Figure | None:
    histories = [each["history"] for several in cells.values() for each in several]
    known = [name for name in _PREFERRED if any(name in each for each in histories)]
    if not known:
        return None
    metric = known[0]
    scale = 100.0 if metric.endswith("error") else 1.0
    figure, axes = figure_of(6.0, 4.0)
    for place, (variant, several) in enumerate(cells.items()):
        found = [each["history"][metric] for each in several if metric in each["history"]]
        shortest = min((len(each) for each in found), default=0)
        if not shortest:
            continue
        runs = scale * np.array([each[:shortest] for each in found], "float64")
        epochs = np.arange(1, shortest + 1)
        colour = COLOURS[place % len(COLOURS)]
        dashes = "-" if place < len(COLOURS) else "--"
        axes.plot(epochs, runs.mean(axis=0), dashes, color=colour, label=variant)
        if len(runs) > 1:
            axes.fill_between(
                epochs, runs.min(axis=0), runs.max(axis=0), color=colour, alpha=0.2, linewidth=0
            )
    if metric == "loss" and axes.get_ylim()[0] >= 0:
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric.replace("_", " ") + (" (%)" if scale == 100.0 else ""))
    open_axes(axes, "y")
    axes.legend(frameon=False, fontsize=9)
    return figure


def _bars(experiment: Experiment, cells: Cells, folder: Path) -> Figure | None:
    scale = factor(experiment)
    figure, axes = figure_of(max(4.0, 1.0 + 0.8 * len(cells)), 3.6)
    for place, (variant, several) in enumerate(cells.items()):
        values = [scale * each["final"][experiment.metric] for each in several]
        mean = interval_of_runs(values)
        colour = "0.6" if variant in experiment.control else COLOURS[0]
        axes.bar(place, mean.mean, color=colour, width=0.7)
        axes.plot([place] * len(values), values, ".", color="black", markersize=4)
        if mean.count > 1:
            axes.errorbar(place, mean.mean, mean.half, color="black", capsize=3, linewidth=1)
        if variant in experiment.published:
            height = scale * experiment.published[variant][0]
            axes.plot(place, height, "D", color=COLOURS[1], markersize=6, fillstyle="none")
    axes.plot([], [], "D", color=COLOURS[1], fillstyle="none", label="published")
    axes.plot([], [], ".", color="black", label="a seed")
    axes.set_xticks(range(len(cells)), list(cells), rotation=30, ha="right")
    axes.set_ylabel(label(experiment))
    open_axes(axes, "y")
    axes.legend(frameon=False, fontsize=9)
    return figure


def _alignment(experiment: Experiment, cells: Cells, folder: Path) -> Figure | None:
    """Draw the angle of each layer at the end, or the correlation if that was recorded."""
    for record, text in (
        ("alignment_angle", "angle to the kernel (degrees)"),
        ("weight_correlation", "correlation with the kernel"),
    ):
        means = {
            variant: np.mean([_of_layers(each, record) for each in several], axis=0)
            for variant, several in cells.items()
            if several and _of_layers(several[0], record)
        }
        if not means:
            continue
        figure, axes = figure_of(5.4, 3.6)
        for place, (variant, values) in enumerate(means.items()):
            layers = np.arange(1, len(values) + 1)
            axes.plot(layers, values, "o-", color=COLOURS[place % len(COLOURS)], label=variant)
        axes.set_xlabel("layer, from the lowest that receives errors")
        axes.set_ylabel(text)
        open_axes(axes, "y")
        axes.legend(frameon=False, fontsize=9)
        return figure
    return None


def _of_layers(cell: dict[str, Any], record: str) -> list[float]:
    history = cell["history"]
    return [values[-1] for key, values in history.items() if key.startswith(f"{record}/")]


def _fields(experiment: Experiment, cells: Cells, folder: Path) -> Figure | None:
    """Draw the receptive fields of the first variant that has them."""
    for several in cells.values():
        for cell in several:
            path = Path(cell["path"]).with_suffix(".npz")
            if not path.exists():
                continue
            with np.load(path) as file:
                fields = file["receptive_fields"].astype("float32")
            inputs = fields.shape[1]
            for channels in (1, 3):
                side = round((inputs / channels) ** 0.5)
                if side * side * channels == inputs:
                    shape = (side, side, channels)
                    return plots.receptive_fields(fields.T, shape=shape)
    return None
