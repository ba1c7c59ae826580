"""Curves over epochs and over steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local.plots._figure import COLOURS, figure_of, open_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHES = ("-", "--", ":", "-.")


def alignment(
    history: Any,
    initial: Mapping[str, float] | None = None,
    layers: Iterable[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw the angle between kernel and feedback kernel of each layer over training.

    Args:
        history: The result of `fit` with `keras_local.callbacks.AlignmentMonitor`, or its
            dictionary of logs.
        initial: The monitor's `initial`, drawn as epoch 0.
        layers: Names of the layers to draw; None draws all.
        title: Title of the figure.

    Returns:
        The figure, in degrees over epochs, with a line at 90 degrees for unrelated kernels.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the history contains no angles, or no angle of a layer in `layers`.

    Example:
        >>> logs = {"alignment_angle/hidden": [80.0, 60.0], "alignment_angle/top": [70.0, 40.0]}
        >>> figure = alignment(logs, initial={"alignment_angle/top": 90.5})
        >>> figure.axes[0].get_xlabel()
        'epoch'
    """
    logs, epochs = _logs("history", history)
    prefix = "alignment_angle/"
    known = [key.removeprefix(prefix) for key in logs if key.startswith(prefix)]
    check.require(
        bool(known),
        "history",
        f"trained with AlignmentMonitor, with entries {prefix}<layer>",
        f"a history of {list(logs)}",
    )
    names = known if layers is None else [layers] if isinstance(layers, str) else list(layers)
    fits = bool(names) and set(names) <= set(known)
    check.require(fits, "layers", f"some of the names {known}", names)
    figure, axes = figure_of(*_curve_size(names))
    highest = 90.0
    axes.axhline(90.0, color="0.4", linestyle=(0, (4, 3)), linewidth=1.2, label="unrelated")
    for index, name in enumerate(names):
        steps, angles = list(epochs), list(logs[prefix + name])
        if initial is not None and prefix + name in initial:
            steps, angles = [steps[0] - 1, *steps], [initial[prefix + name], *angles]
        draw_curve(axes, index, steps, angles, name)
        highest = max(highest, *(angle for angle in angles if np.isfinite(angle)), 90.0)
    axes.set_ylim(0.0, max(100.0, highest + 8.0))
    axes.set_yticks(np.arange(0, axes.get_ylim()[1], 15))
    axes.set_ylabel("angle between kernel and\nfeedback kernel (degrees)")
    _finish(axes, title)
    return figure


def learning_curves(
    histories: Mapping[str, Any],
    metric: str = "val_accuracy",
    title: str | None = None,
) -> Figure:
    """Draw one metric of several training runs over their epochs.

    Args:
        histories: Mapping from the name of a run to the result of `fit`, or to its dictionary of
            logs.
        metric: Which entry of the logs to draw.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there are no histories, or one has no such metric.

    Example:
        >>> runs = {"backprop": {"val_accuracy": [0.8, 0.9]}, "frfb": {"val_accuracy": [0.7, 0.8]}}
        >>> figure = learning_curves(runs)
        >>> figure.axes[0].get_ylabel()
        'validation accuracy'
    """
    check.require(
        isinstance(histories, Mapping) and len(histories) > 0,
        "histories",
        "a mapping of at least one name to a history",
        histories,
    )
    runs = {name: _logs("histories", history) for name, history in histories.items()}
    for name, (logs, _) in runs.items():
        check.require(
            metric in logs, "metric", f"one of {list(logs)}, the entries of {name!r}", metric
        )
    label = metric.replace("_", " ")
    label = f"validation {label.removeprefix('val ')}" if metric.startswith("val_") else label
    figure, axes = figure_of(*_curve_size(list(runs)))
    for index, (name, (logs, epochs)) in enumerate(runs.items()):
        draw_curve(axes, index, epochs, list(logs[metric]), str(name))
    axes.set_ylabel(label)
    _finish(axes, title)
    return figure


def trajectories(
    states: Sequence[Any],
    sample: int = 0,
    units: int = 8,
    names: Sequence[str] | None = None,
    mark: float | None = None,
    title: str | None = None,
) -> Figure:
    """Draw units of a network over the steps in which it settles.

    Args:
        states: The result of `trajectories` of a network of `keras_local.dynamics`: for each layer
            of units, an array `(times, batch, ...)`.
        sample: Which sample of the batch to draw.
        units: How many units of each layer to draw, beginning with the first.
        names: Names of the layers, the lowest first; None numbers them.
        mark: A step at which to draw a line, for example where a phase with labels begins.
        title: Title of the figure.

    Returns:
        The figure, one panel for each layer, the highest on top.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there are no states, the sample does not exist, or names are missing.

    Example:
        >>> states = [np.zeros((5, 2, 4)), np.ones((5, 2, 3))]
        >>> figure = trajectories(states, sample=1, mark=3)
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['layer 2', 'layer 1']
    """
    listed = check.is_sequence(states) and len(states) > 0
    check.require(listed, "states", "a list of arrays (times, batch, ...)", states)
    layers = [np.asarray(ops.convert_to_numpy(layer)) for layer in states]
    shapes = [layer.shape for layer in layers]
    ranks = all(len(shape) > 2 for shape in shapes)
    check.require(ranks, "states", "arrays (times, batch, ...)", shapes)
    allowed = f"an index from 0 to {shapes[0][1] - 1}"
    check.require(0 <= sample < shapes[0][1], "sample", allowed, sample)
    units = check.positive_integer("units", units)
    numbers = range(1, len(layers) + 1)
    labels = [f"layer {number}" for number in numbers] if names is None else list(names)
    fits = len(labels) == len(layers)
    check.require(fits, "names", f"{len(layers)} names, one for each layer", names)
    figure, axes = figure_of(6.4, 1.0 + 1.5 * len(layers))
    axes.remove()
    panels = figure.subplots(len(layers), 1, sharex=True, squeeze=False)[::-1, 0]
    for panel, layer, label in zip(panels, layers, labels, strict=True):
        curves = layer[:, sample].reshape(len(layer), -1)[:, :units]
        for index, curve in enumerate(curves.T):
            panel.plot(curve, color=COLOURS[index % len(COLOURS)], linewidth=1.4)
        if mark is not None:
            panel.axvline(mark, color="0.4", linestyle=(0, (4, 3)), linewidth=1.0)
        panel.set_ylabel(label)
        open_axes(panel)
    panels[0].set_xlabel("step")
    if title is not None:
        panels[-1].set_title(title)
    return figure


def _curve_size(names: Sequence[Any]) -> tuple[float, float]:
    # The axes keep their size; the legend beside them gets the space that its names need.
    longest = max(len(str(name)) for name in names)
    return 5.4 + 0.09 * max(longest, 9), max(4.2, 0.6 + 0.22 * len(names))


def draw_curve(axes: Axes, index: int, epochs: Any, values: Any, name: str) -> None:
    """Draw the curve of a name, in the colour and the dashes of its place among the names."""
    axes.plot(
        epochs,
        values,
        label=name,
        color=COLOURS[index % len(COLOURS)],
        linestyle=DASHES[index // len(COLOURS) % len(DASHES)],
        linewidth=1.8,
        # A dot for each epoch shows that epochs are steps, and makes a single epoch visible.
        marker="o" if len(epochs) <= 40 else None,
        markersize=3.5,
    )


def _finish(axes: Axes, title: str | None) -> None:
    from matplotlib.ticker import MaxNLocator

    if title is not None:
        axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    open_axes(axes)
    # The legend is beside the curves, where it hides none of them.
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False, fontsize=9
    )


def _logs(argument: str, history: Any) -> tuple[Mapping[str, Sequence[float]], list[int]]:
    """Return the logs of a history, and the epochs counted from 1."""
    logs = getattr(history, "history", history)
    check.require(
        isinstance(logs, Mapping), argument, "a Keras History or a dictionary of logs", history
    )
    epochs = list(getattr(history, "epoch", []))
    length = max((len(values) for values in logs.values()), default=0)
    if len(epochs) != length:
        epochs = list(range(length))
    return logs, [int(epoch) + 1 for epoch in epochs]
