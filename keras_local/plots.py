"""Figures of weights and of training, drawn with matplotlib.

Each function returns a `matplotlib.figure.Figure` and touches nothing global: no window, no
`pyplot` state, no display needed. Save it by `figure.savefig("name.png")`; a notebook shows it.
Needs `pip install keras-local[plots]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_local import _validation, metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("-", "--", ":", "-.")


def receptive_fields(
    layer_or_kernel: Any,
    shape: Sequence[int] | None = None,
    units: int | Iterable[int] | None = None,
    columns: int | None = None,
    order: str = "index",
    limit: float | None = None,
    title: str | None = None,
) -> Figure:
    """Draw the weights of units as images in a grid.

    All units share one scale. With one channel, colours are signed: white is 0, red is positive,
    blue is negative. With three channels, each weight is the brightness of its channel: grey is 0.

    Args:
        layer_or_kernel: A built layer with a `kernel`, or a kernel: array, tensor or variable of
            shape `(inputs, units)`, or of a 2D convolution, `(height, width, channels, filters)`,
            with 1 or 3 channels.
        shape: Image shape `(height, width)` or `(height, width, channels)` of the inputs of a
            dense kernel, with 1 or 3 channels. None takes square images if the number of inputs
            is a square, or three times one.
        units: How many units to draw, the first in `order`, or a sequence of their indices, drawn
            as given. None draws up to 100.
        columns: Units in a row; None makes the grid about square.
        order: `"index"`, or `"norm"` for the largest Euclidean norm first.
        limit: Absolute weight of the end of the scale. None takes the largest, but no more than
            1.5 times the median of the units' largest ones, so that a few units of great weights,
            as those that never won, do not fade all others; arrows at the scale tell of weights
            beyond.
        title: Title of the figure; None says what is drawn.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the kernel is of another rank, the shape does not fit it or cannot be
            guessed, or another argument is out of its range.

    Example:
        >>> kernel = np.random.default_rng(0).normal(size=(64, 20))
        >>> figure = receptive_fields(kernel, units=10, columns=5)
        >>> figure.axes[0].get_title()
        '10 of 20 units'
    """
    weights = _kernel(layer_or_kernel)
    images = _images(weights, shape)
    total = len(images)
    chosen = _choose(images, units, order)
    images = images[chosen]
    count = len(images)
    if columns is None:
        columns = int(np.ceil(np.sqrt(count)))
    columns = min(_validation.positive_integer("columns", columns), count)
    peaks = np.abs(images).reshape(count, -1).max(axis=1)
    if limit is None:
        limit = float(min(peaks.max(), 1.5 * np.median(peaks))) or float(peaks.max()) or 1.0
    limit = _validation.real("limit", limit, minimum=0.0, exclusive=True)
    figure, axes = _figure(6.0, 6.0)

    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    coloured = images.shape[-1] == 3
    scale = ScalarMappable(Normalize(-limit, limit), "gray" if coloured else "RdBu_r")
    if coloured:
        tiles = np.clip((images + limit) / (2.0 * limit), 0.0, 1.0)
    else:
        tiles = np.asarray(scale.cmap(scale.norm(images[..., 0])))[..., :3]
    picture = _mosaic(tiles, columns)
    # The longer side takes 6 inches; title and scale need room of their own.
    height, width = 6.0 * np.array(picture.shape[:2]) / max(picture.shape[:2])
    figure.set_size_inches(max(width, 1.6) + 1.4, max(height, 1.0) + 0.5)
    axes.imshow(picture)
    axes.set_axis_off()
    name = getattr(layer_or_kernel, "name", None) if hasattr(layer_or_kernel, "kernel") else None
    drawn = f"{total} unit{'s' * (total > 1)}"
    drawn = drawn if count == total else f"{count} of {drawn}"
    axes.set_title(title if title is not None else f"{name}: {drawn}" if name else drawn)
    above, below = bool(images.max() > limit), bool(images.min() < -limit)
    figure.colorbar(
        scale,
        cax=axes.inset_axes((1.0 + 0.12 / width, 0.0, 0.16 / width, 1.0)),
        label="weight of each channel" if coloured and height > 2.0 else "weight",
        extend={(1, 1): "both", (1, 0): "max", (0, 1): "min", (0, 0): "neither"}[above, below],
        ticks=MaxNLocator(6 if height > 2.0 else 4, symmetric=True),
    )
    return figure


def norm_histogram(
    layer_or_kernel: Any, p: float | None = None, bins: int = 40, title: str | None = None
) -> Figure:
    """Draw how many units have which norm `sum_i |W_ik|^p`.

    Under the Krotov-Hopfield rule, units that keep winning come to 1 from above; those that never
    won stand apart, at the norm of the initial weights. The axis is logarithmic where the largest
    norm is more than 10 times the smallest.

    Args:
        layer_or_kernel: A built layer with a `kernel`, or a kernel: array, tensor or variable of
            shape `(inputs, units)`, or of a 2D convolution.
        p: Exponent; None takes that of the layer's plasticity rule, 2 where there is none.
        bins: Number of bars.
        title: Title of the figure; None says how many units are within 0.1 of 1.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the kernel is of another rank or not finite, or a number out of its range.

    Example:
        >>> kernel = np.random.default_rng(0).normal(size=(64, 20))
        >>> norm_histogram(kernel / np.linalg.norm(kernel, axis=0)).axes[0].get_title()
        '20 of 20 units within 0.1 of 1'
    """
    weights = _kernel(layer_or_kernel)
    if p is None:
        p = getattr(getattr(layer_or_kernel, "plasticity", None), "norm_exponent", None) or 2.0
    p = _validation.real("p", p, minimum=1.0)
    bins = _validation.positive_integer("bins", bins)
    norms = np.sum(np.abs(weights.reshape(-1, weights.shape[-1])) ** p, axis=0)
    figure, axes = _figure(5.4, 3.6)
    low, high = float(min(norms.min(), 1.0)), float(max(norms.max(), 1.0))
    logarithmic = 0.0 < 10.0 * low < high
    if high - low < 0.2:  # All at one place: a hair's breadth would fill the axis.
        low, high = low - 0.1, high + 0.1
    edges = np.geomspace(low, high, bins + 1) if logarithmic else np.linspace(low, high, bins + 1)
    edges[0], edges[-1] = low, high
    axes.hist(norms, bins=edges.tolist(), color=_COLOURS[0])
    if logarithmic:
        axes.set_xscale("log")
    axes.axvline(1.0, color="0.4", linestyle=(0, (4, 3)), linewidth=1.2)
    axes.set_xlabel(f"norm of a unit, $\\sum_i |W_i|^{{{p:g}}}$")
    near = np.count_nonzero(np.abs(norms - 1.0) < 0.1)
    said = f"{near} of {norms.size} units within 0.1 of 1"
    _finish_counts(axes, "units", said if title is None else title)
    return figure


def win_counts(layer_or_counts: Any, inputs: Any = None, title: str | None = None) -> Figure:
    """Draw how many samples each competing unit wins, the most successful unit first.

    Args:
        layer_or_counts: A built layer, as `metrics.win_counts` takes it, or what that returned.
        inputs: What the layer receives; None with counts.
        title: Title of the figure; None says how many units won nothing.

    Returns:
        The figure. The dashed line is where all units would be if they won equally often.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the inputs do not fit the layer, or the counts are not whole numbers from 0.

    Example:
        >>> win_counts([3, 0, 5, 1]).axes[0].get_title()
        '1 of 4 units won nothing'
    """
    if hasattr(layer_or_counts, "plasticity"):
        _validation.require(inputs is not None, "inputs", "what the layer receives", inputs)
        counts = metrics.win_counts(layer_or_counts, inputs)
    else:
        _validation.require(inputs is None, "inputs", "None with counts", type(inputs).__name__)
        counts = np.asarray(layer_or_counts)
        fits = counts.ndim == 1 and counts.size > 0 and counts.dtype.kind in "iu"
        _validation.require(
            fits and bool((counts >= 0).all()),
            "layer_or_counts",
            "a layer, or one whole number of wins for each unit",
            f"{counts.dtype} of shape {counts.shape}",
        )
    counts = np.sort(counts)[::-1]
    figure, axes = _figure(5.4, 3.6)
    axes.stairs(counts, np.arange(counts.size + 1), fill=True, color=_COLOURS[0])
    axes.axhline(counts.mean(), color="0.4", linestyle=(0, (4, 3)), linewidth=1.2)
    # Linear below 1, so that units without a win have a place.
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(0.0, max(1.0, 1.5 * counts.max()))
    axes.set_xlim(0, counts.size)
    axes.set_xlabel("units, by their wins")
    dead = np.count_nonzero(counts == 0)
    said = f"{dead} of {counts.size} units won nothing"
    _finish_counts(axes, "samples won", said if title is None else title)
    return figure


def alignment(
    history: Any,
    initial: Mapping[str, float] | None = None,
    layers: Iterable[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw the angle between kernel and feedback kernel of each layer over training.

    Args:
        history: What `fit` returned, trained with `keras_local.callbacks.AlignmentMonitor`, or
            its dictionary of logs.
        initial: The monitor's `initial`, drawn as epoch 0.
        layers: Names of the layers to draw; None draws all.
        title: Title of the figure.

    Returns:
        The figure, in degrees over epochs, with a line at 90 degrees where unrelated kernels are.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the history holds no angle, or not of a layer in `layers`.

    Example:
        >>> logs = {"alignment_angle/hidden": [80.0, 60.0], "alignment_angle/top": [70.0, 40.0]}
        >>> figure = alignment(logs, initial={"alignment_angle/top": 90.5})
        >>> figure.axes[0].get_xlabel()
        'epoch'
    """
    logs, epochs = _logs("history", history)
    prefix = "alignment_angle/"
    known = [key.removeprefix(prefix) for key in logs if key.startswith(prefix)]
    _validation.require(
        bool(known),
        "history",
        f"trained with AlignmentMonitor, with entries {prefix}<layer>",
        f"a history of {list(logs)}",
    )
    names = known if layers is None else [layers] if isinstance(layers, str) else list(layers)
    fits = bool(names) and set(names) <= set(known)
    _validation.require(fits, "layers", f"some of the names {known}", names)
    figure, axes = _figure(*_curve_size(names))
    highest = 90.0
    axes.axhline(90.0, color="0.4", linestyle=(0, (4, 3)), linewidth=1.2, label="unrelated")
    for index, name in enumerate(names):
        steps, angles = list(epochs), list(logs[prefix + name])
        if initial is not None and prefix + name in initial:
            steps, angles = [steps[0] - 1, *steps], [initial[prefix + name], *angles]
        _curve(axes, index, steps, angles, name)
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
        histories: Mapping from the name of a run to what `fit` returned, or to its dictionary of
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
    _validation.require(
        isinstance(histories, Mapping) and len(histories) > 0,
        "histories",
        "a mapping of at least one name to a history",
        histories,
    )
    runs = {name: _logs("histories", history) for name, history in histories.items()}
    for name, (logs, _) in runs.items():
        _validation.require(
            metric in logs, "metric", f"one of {list(logs)}, the entries of {name!r}", metric
        )
    label = metric.replace("_", " ")
    label = f"validation {label.removeprefix('val ')}" if metric.startswith("val_") else label
    figure, axes = _figure(*_curve_size(list(runs)))
    for index, (name, (logs, epochs)) in enumerate(runs.items()):
        _curve(axes, index, epochs, list(logs[metric]), str(name))
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
        states: What `trajectories` of a network of `keras_local.dynamics` returned: for each layer
            of units, an array `(times, batch, ...)`.
        sample: Which sample of the batch.
        units: How many units of each layer to draw, the first.
        names: Names of the layers, the lowest first; None numbers them.
        mark: A step at which to draw a line, as where a phase with labels begins.
        title: Title of the figure.

    Returns:
        The figure, one panel for each layer, the highest on top.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there are no states, a sample is not there, or names are missing.

    Example:
        >>> states = [np.zeros((5, 2, 4)), np.ones((5, 2, 3))]
        >>> figure = trajectories(states, sample=1, mark=3)
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['layer 2', 'layer 1']
    """
    listed = isinstance(states, Sequence) and len(states) > 0
    _validation.require(listed, "states", "a list of arrays (times, batch, ...)", states)
    layers = [np.asarray(ops.convert_to_numpy(layer)) for layer in states]
    shapes = [layer.shape for layer in layers]
    ranks = all(len(shape) > 2 for shape in shapes)
    _validation.require(ranks, "states", "arrays (times, batch, ...)", shapes)
    allowed = f"an index from 0 to {shapes[0][1] - 1}"
    _validation.require(0 <= sample < shapes[0][1], "sample", allowed, sample)
    units = _validation.positive_integer("units", units)
    numbers = range(1, len(layers) + 1)
    labels = [f"layer {number}" for number in numbers] if names is None else list(names)
    fits = len(labels) == len(layers)
    _validation.require(fits, "names", f"{len(layers)} names, one for each layer", names)
    figure, axes = _figure(6.4, 1.0 + 1.5 * len(layers))
    axes.remove()
    panels = figure.subplots(len(layers), 1, sharex=True, squeeze=False)[::-1, 0]
    for panel, layer, label in zip(panels, layers, labels, strict=True):
        curves = layer[:, sample].reshape(len(layer), -1)[:, :units]
        for index, curve in enumerate(curves.T):
            panel.plot(curve, color=_COLOURS[index % len(_COLOURS)], linewidth=1.4)
        if mark is not None:
            panel.axvline(mark, color="0.4", linestyle=(0, (4, 3)), linewidth=1.0)
        panel.set_ylabel(label)
        panel.grid(True, color="0.9", linewidth=0.8)
        panel.set_axisbelow(True)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[0].set_xlabel("step")
    if title is not None:
        panels[-1].set_title(title)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError("Plots need matplotlib: pip install 'keras-local[plots]'") from error
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1))
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _curve_size(names: Sequence[Any]) -> tuple[float, float]:
    # The axes keep their size, the legend beside them takes what its names need.
    longest = max(len(str(name)) for name in names)
    return 5.4 + 0.09 * max(longest, 9), max(4.2, 0.6 + 0.22 * len(names))


def _curve(
    axes: Axes, index: int, epochs: Sequence[float], values: Sequence[float], name: str
) -> None:
    axes.plot(
        epochs,
        values,
        label=name,
        color=_COLOURS[index % len(_COLOURS)],
        linestyle=_DASHES[index // len(_COLOURS) % len(_DASHES)],
        linewidth=1.8,
        # A dot each shows that epochs are steps, and a single epoch at all.
        marker="o" if len(epochs) <= 40 else None,
        markersize=3.5,
    )


def _finish(axes: Axes, title: str | None) -> None:
    from matplotlib.ticker import MaxNLocator

    if title is not None:
        axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    # Beside the curves, where it hides none of them.
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False, fontsize=9
    )


def _finish_counts(axes: Axes, label: str, title: str) -> None:
    axes.set_title(title)
    axes.set_ylabel(label)
    axes.grid(True, axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _logs(argument: str, history: Any) -> tuple[Mapping[str, Sequence[float]], list[int]]:
    """Return the logs of a history, and the epochs counted from 1."""
    logs = getattr(history, "history", history)
    _validation.require(
        isinstance(logs, Mapping), argument, "a Keras History or a dictionary of logs", history
    )
    epochs = list(getattr(history, "epoch", []))
    length = max((len(values) for values in logs.values()), default=0)
    if len(epochs) != length:
        epochs = list(range(length))
    return logs, [int(epoch) + 1 for epoch in epochs]


def _kernel(layer_or_kernel: Any) -> np.ndarray:
    kernel = getattr(layer_or_kernel, "kernel", layer_or_kernel)
    if not isinstance(kernel, (np.ndarray, list, tuple)):
        kernel = ops.convert_to_numpy(kernel)
    weights = np.asarray(kernel).astype(np.float64)
    _validation.require(
        weights.ndim in (2, 4) and weights.size > 0,
        "layer_or_kernel",
        "a dense kernel (inputs, units) or a 2D convolution kernel (height, width, channels, "
        "filters)",
        f"shape {weights.shape}",
    )
    _validation.require(
        bool(np.isfinite(weights).all()), "layer_or_kernel", "finite", "NaN or infinite weights"
    )
    return weights


def _images(weights: np.ndarray, shape: Sequence[int] | None) -> np.ndarray:
    """Return the weights as `(units, height, width, channels)`."""
    if weights.ndim == 4:
        _validation.require(
            shape is None, "shape", "None for a convolution kernel, which has its own", shape
        )
        _validation.require(
            weights.shape[2] in (1, 3),
            "layer_or_kernel",
            "a kernel of 1 or 3 input channels; pass kernel[:, :, c:c + 1] for one of many",
            f"shape {weights.shape}",
        )
        return np.moveaxis(weights, -1, 0)
    inputs = weights.shape[0]
    size = _square(inputs) if shape is None else tuple(shape)
    _validation.require(
        len(size) in (2, 3)
        and all(length >= 1 for length in size)
        and int(np.prod(size)) == inputs
        and (len(size) == 2 or size[2] in (1, 3)),
        "shape",
        f"(height, width) or (height, width, channels) of {inputs} entries, with 1 or 3 channels",
        shape,
    )
    height, width, channels = (*size, 1)[:3]
    return np.reshape(weights.T, (-1, height, width, channels))


def _square(inputs: int) -> tuple[int, ...]:
    for channels in (1, 3):
        side = round(float(np.sqrt(inputs / channels)))
        if side * side * channels == inputs:
            return side, side, channels
    return ()


def _choose(images: np.ndarray, units: int | Iterable[int] | None, order: str) -> np.ndarray:
    total = len(images)
    _validation.one_of("order", order, ("index", "norm"))
    ranked = np.arange(total)
    if order == "norm":
        norms = np.linalg.norm(images.reshape(total, -1), axis=1)
        ranked = np.argsort(-norms, kind="stable")
    if units is None:
        return ranked[:100]
    if not isinstance(units, Iterable):
        return ranked[: _validation.positive_integer("units", units)]
    chosen = np.asarray(list(units))
    _validation.require(
        chosen.ndim == 1
        and chosen.size > 0
        and np.issubdtype(chosen.dtype, np.integer)
        and bool(((chosen >= 0) & (chosen < total)).all()),
        "units",
        f"a number of units or indices from 0 to {total - 1}",
        units,
    )
    return chosen


def _mosaic(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Return one RGB picture of all tiles, each in a thin frame, white between them."""
    count, height, width, _ = tiles.shape
    rows = -(-count // columns)
    # Weights become squares of many pixels, so that frames and gaps are thin beside them.
    enlarged = -(-1200 // max(rows * height, columns * width))
    tiles = tiles.repeat(enlarged, axis=1).repeat(enlarged, axis=2)
    tiles = np.pad(tiles, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=0.7)
    height, width = tiles.shape[1:3]
    gap = max(height, width) // 16 + 2
    picture = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        picture[top : top + height, left : left + width] = tile
    return picture
