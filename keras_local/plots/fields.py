"""Weights of units as images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_local import _validation as check
from keras_local.plots._figure import figure_of, kernel_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def receptive_fields(
    layer_or_kernel: Any,
    shape: Sequence[int] | None = None,
    units: int | Iterable[int] | None = None,
    columns: int | None = None,
    order: Literal["index", "norm"] = "index",
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
        shape: Image shape `(height, width)` or `(height, width, channels)` of the inputs of a dense
            kernel, with 1 or 3 channels. None means square images, if the number of inputs is a
            square or three times a square.
        units: How many units to draw, beginning with the first in `order`, or a sequence of their
            indices, drawn in this order. None draws up to 100.
        columns: Units in a row; None makes the grid about square.
        order: `"index"`, or `"norm"` for the largest Euclidean norm first.
        limit: Absolute weight at the end of the scale. None means the largest weight, but at most
            1.5 times the median of the units' largest weights. Otherwise a few units with very
            large weights, such as those that never won, would make all others pale. Arrows at the
            scale show that there are larger weights.
        title: Title of the figure; None describes what is drawn.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the kernel has another rank, the shape does not fit it or cannot be guessed,
            or another argument is out of its range.

    Example:
        >>> kernel = np.random.default_rng(0).normal(size=(64, 20))
        >>> figure = receptive_fields(kernel, units=10, columns=5)
        >>> figure.axes[0].get_title()
        '10 of 20 units'
    """
    weights = kernel_of(layer_or_kernel)
    images = _images(weights, shape)
    total = len(images)
    chosen = _choose(images, units, order)
    images = images[chosen]
    count = len(images)
    if columns is None:
        columns = int(np.ceil(np.sqrt(count)))
    columns = min(check.positive_integer("columns", columns), count)
    peaks = np.abs(images).reshape(count, -1).max(axis=1)
    if limit is None:
        limit = float(min(peaks.max(), 1.5 * np.median(peaks))) or float(peaks.max()) or 1.0
    limit = check.real("limit", limit, minimum=0.0, exclusive=True)
    figure, axes = figure_of(6.0, 6.0)

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
    # The longer side takes 6 inches; title and scale need more space.
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


def _images(weights: np.ndarray, shape: Sequence[int] | None) -> np.ndarray:
    """Return the weights as `(units, height, width, channels)`."""
    if weights.ndim == 4:
        check.require(
            shape is None, "shape", "None for a convolution kernel, which has its own", shape
        )
        check.require(
            weights.shape[2] in (1, 3),
            "layer_or_kernel",
            "a kernel of 1 or 3 input channels; pass kernel[:, :, c:c + 1] for one of many",
            f"shape {weights.shape}",
        )
        return np.moveaxis(weights, -1, 0)
    inputs = weights.shape[0]
    size = _square(inputs) if shape is None else tuple(shape)
    check.require(
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
    check.one_of("order", order, ("index", "norm"))
    ranked = np.arange(total)
    if order == "norm":
        norms = np.linalg.norm(images.reshape(total, -1), axis=1)
        ranked = np.argsort(-norms, kind="stable")
    if units is None:
        return ranked[:100]
    if not isinstance(units, Iterable):
        return ranked[: check.positive_integer("units", units)]
    chosen = np.asarray(list(units))
    check.require(
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
    """Return one RGB picture of all tiles, each in a thin frame, with white space between."""
    count, height, width, _ = tiles.shape
    rows = -(-count // columns)
    # Weights become squares of many pixels, so that frames and gaps are thin in comparison.
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
