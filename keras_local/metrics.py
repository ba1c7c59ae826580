"""Measures of weights: angles, norms and wins, computed in float64 outside any graph.

They tell how well a feedback kernel is aligned with its kernel, and how far competing units have
converged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_local import _validation


def alignment_angle(kernel: Any, feedback_kernel: Any) -> float:
    """Return the angle between a kernel and its feedback kernel.

        angle = arccos( <W, B> / (|W| |B|) ) * 180 / pi

    with both kernels flattened. 0 is exact backpropagation up to a scale; 90 means no relation, and
    independent random kernels start there.

    Args:
        kernel: Array, tensor or Keras variable of any shape.
        feedback_kernel: The same for the feedback kernel, of the same shape.

    Returns:
        Angle in degrees from 0 to 180; NaN if either kernel is zero.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> alignment_angle([[1.0, 0.0]], [[0.0, 3.0]])
        90.0

    References:
        Akrout et al. 2019, "Deep learning without weight transport" (the angle of the authors'
        code).
    """
    weights, feedback = _pair(kernel, feedback_kernel)
    length, feedback_length = np.linalg.norm(weights), np.linalg.norm(feedback)
    if length == 0.0 or feedback_length == 0.0:
        return float("nan")
    weights, feedback = weights / length, feedback / feedback_length
    # The half-angle form stays in the range of arccos, and is exact close to 0 and 180 degrees.
    half = np.arctan2(np.linalg.norm(weights - feedback), np.linalg.norm(weights + feedback))
    return float(np.degrees(2.0 * half))


def norm_ratio(kernel: Any, feedback_kernel: Any) -> float:
    """Return the norm of a feedback kernel divided by the norm of its kernel.

        ratio = |B| / |W|      (Euclidean norms of the flattened kernels)

    Args:
        kernel: Array, tensor or Keras variable of any shape.
        feedback_kernel: The same for the feedback kernel, of the same shape.

    Returns:
        The quotient; NaN if the kernel is zero.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> norm_ratio([3.0, 4.0], [0.0, 10.0])
        2.0
    """
    weights, feedback = _pair(kernel, feedback_kernel)
    length = np.linalg.norm(weights)
    return float(np.linalg.norm(feedback) / length) if length > 0.0 else float("nan")


def weight_correlation(kernel: Any, feedback_kernel: Any) -> float:
    """Return Pearson's correlation of the entries of a kernel and its feedback kernel.

    It differs from the cosine of `alignment_angle` only by the removal of both means.

    Args:
        kernel: Array, tensor or Keras variable of any shape.
        feedback_kernel: The same for the feedback kernel, of the same shape.

    Returns:
        Correlation from -1 to 1; NaN if the entries of either kernel are all equal.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> weight_correlation([1.0, 2.0, 3.0], [10.0, 20.0, 30.0])
        1.0

    References:
        Amit 2019, "Deep learning with asymmetric connections and Hebbian updates", Frontiers in
        Computational Neuroscience 13:18 (the measure of alignment of the author's code).
    """
    weights, feedback = _pair(kernel, feedback_kernel)
    if weights.size == 0 or np.ptp(weights) == 0.0 or np.ptp(feedback) == 0.0:
        return float("nan")
    weights, feedback = weights - weights.mean(), feedback - feedback.mean()
    cosine = weights @ feedback / (np.linalg.norm(weights) * np.linalg.norm(feedback))
    return float(np.clip(cosine, -1.0, 1.0))


def win_counts(layer: Any, inputs: Any, batch_size: int = 1024) -> np.ndarray:
    """Count for each competing unit the samples that it wins.

    The winner of a sample is the unit with the largest current of the layer's rule
    (`HebbianLayer.currents`); of equal units it is the one with the lowest index. A sample that
    drives no unit, such as a sample of zeros, is not counted.

    Args:
        layer: A built Hebbian layer; in a convolution or a locally connected layer every position
            is a sample. Or any object with a `kernel` of shape `(inputs, units)` and a `plasticity`
            with a `norm_exponent` `p`, whose currents are `inputs @ (sign(W) |W|^(p - 1))`.
        inputs: Array or tensor of shape `(..., inputs)`, the inputs of the layer.
        batch_size: Number of samples that are computed at a time.

    Returns:
        Integer array of shape `(units,)`; `(*positions, units)` if each position has its own.

    Raises:
        ValueError: If the layer has no such kernel or plasticity rule, if the inputs have another
            width than the kernel, or if there are no inputs.

    Example:
        >>> import types
        >>> layer = types.SimpleNamespace(
        ...     name="hebbian", kernel=np.eye(2), plasticity=types.SimpleNamespace(norm_exponent=2)
        ... )
        >>> win_counts(layer, [[1.0, 0.0], [3.0, 2.0], [0.0, 0.0]]).tolist()
        [2, 0]

    References:
        Krotov and Hopfield 2019, "Unsupervised learning by competing hidden units", PNAS
        116(16):7723-7731.
    """
    batch_size = _validation.positive_integer("batch_size", batch_size)
    samples = _numpy(inputs)
    if hasattr(layer, "currents"):
        return _wins_of_layer(layer, samples, batch_size)
    kernel, p = _competing_kernel(layer)
    _validation.require(
        kernel.ndim == 2,
        "layer",
        "a layer with a kernel of shape (inputs, units)",
        f"{layer.name} with a kernel of shape {kernel.shape}",
    )
    _require_samples(samples, (kernel.shape[0],))
    strengths = np.sign(kernel) * np.abs(kernel) ** (p - 1.0)
    # The layer also uses single precision, and a whole data set is computed here.
    strengths = strengths.astype(np.float32)
    samples = samples.reshape(-1, samples.shape[-1])
    counts = np.zeros(kernel.shape[1], dtype=np.int64)
    for start in range(0, len(samples), batch_size):
        counts += _won(samples[start : start + batch_size].astype(np.float32) @ strengths)
    return counts


def convergence_report(layer: Any, inputs: Any = None, tolerance: float = 0.1) -> dict[str, float]:
    """Return which fractions of a layer's units have converged, have won and are dead.

    Under the Krotov-Hopfield rule the weights of a unit that continues to win approach
    `sum_i |W_i|^p = 1` from above.

    Args:
        layer: Layer with a `kernel` of shape `(..., units)` and a `plasticity` with a
            `norm_exponent`.
        inputs: Inputs of the layer, of shape `(..., inputs)`; None leaves out the last two entries.
        tolerance: How far from 1 the sum may be for a unit to count as converged.

    Returns:
        A dictionary of

        - `mean_norm`: mean over units of `sum_i |W_i|^p`,
        - `converged`: fraction of units with `|sum_i |W_i|^p - 1| < tolerance`,
        - `won`: fraction of units with the largest current for at least one sample,
        - `dead`: fraction of units without any win.

    Raises:
        ValueError: If the layer has no kernel or no plasticity rule with a `norm_exponent`, if
            `tolerance` is not positive, or if the inputs do not fit the kernel.

    Example:
        >>> import types
        >>> rule = types.SimpleNamespace(norm_exponent=2)
        >>> layer = types.SimpleNamespace(
        ...     name="hebbian", kernel=np.diag([1.0, 2.0]), plasticity=rule
        ... )
        >>> convergence_report(layer, inputs=[[1.0, 0.0]])
        {'mean_norm': 2.5, 'converged': 0.5, 'won': 0.5, 'dead': 0.5}

    References:
        Krotov and Hopfield 2019, "Unsupervised learning by competing hidden units", PNAS
        116(16):7723-7731.
    """
    tolerance = _validation.real("tolerance", tolerance, minimum=0.0, exclusive=True)
    kernel, p = _competing_kernel(layer)
    axes = layer.linear_map.unit_axes(kernel.ndim) if hasattr(layer, "linear_map") else (-1,)
    units = [axis % kernel.ndim for axis in axes]
    norms = np.sum(
        np.abs(kernel) ** p, axis=tuple(axis for axis in range(kernel.ndim) if axis not in units)
    )
    report = {
        "mean_norm": float(norms.mean()),
        "converged": float(np.mean(np.abs(norms - 1.0) < tolerance)),
    }
    if inputs is not None:
        wins = win_counts(layer, inputs)
        report.update(won=float(np.mean(wins > 0)), dead=float(np.mean(wins == 0)))
    return report


def _wins_of_layer(layer: Any, samples: np.ndarray, batch_size: int) -> np.ndarray:
    """Count the wins of units, over all positions or for the separate units of each position."""
    built = "a layer that is built"
    _validation.require(layer.built, "layer", built, layer.name)
    shape = tuple(layer.kernel.shape)
    units = tuple(shape[axis] for axis in layer.linear_map.unit_axes(len(shape)))
    _require_samples(samples, shape[:1] if len(shape) == 2 else ())
    if len(shape) == 2:
        samples = samples.reshape(-1, samples.shape[-1])
    counts = np.zeros(units, dtype=np.int64)
    for start in range(0, len(samples), batch_size):
        currents = _numpy(layer.currents(samples[start : start + batch_size]))
        counts += _won(currents, axes=len(units) - 1)
    return counts


def _won(currents: np.ndarray, axes: int = 0) -> np.ndarray:
    """Count the wins over all axes of samples; the last `axes` axes before the units are kept."""
    units = currents.shape[-1]
    won = currents.argmax(axis=-1)[..., None] == np.arange(units)
    # A sample of zeros drives no unit.
    won &= np.any(currents != 0.0, axis=-1, keepdims=True)
    over = tuple(range(won.ndim - 1 - axes))
    counts: np.ndarray = won.sum(axis=over, dtype=np.int64)
    return counts


def _require_samples(samples: np.ndarray, width: tuple[int, ...]) -> None:
    fits = (
        samples.ndim >= 1
        and samples.size > 0
        and samples.shape[-1:] == (width or samples.shape[-1:])
    )
    allowed = f"(..., {width[0]})" if width else "(samples, ...)"
    _validation.require(
        fits,
        "inputs",
        f"an array of shape {allowed} with at least one sample",
        f"shape {samples.shape}",
    )


def _numpy(values: Any) -> np.ndarray:
    # Lists would become float32 tensors on the way through the backend.
    if isinstance(values, (np.ndarray, list, tuple)):
        return np.asarray(values)
    return np.asarray(ops.convert_to_numpy(values))


def _pair(kernel: Any, feedback_kernel: Any) -> tuple[np.ndarray, np.ndarray]:
    weights = _numpy(kernel).astype(np.float64)
    feedback = _numpy(feedback_kernel).astype(np.float64)
    _validation.require(
        weights.shape == feedback.shape,
        "feedback_kernel",
        f"of the kernel's shape {weights.shape}",
        f"shape {feedback.shape}",
    )
    return weights.ravel(), feedback.ravel()


def _competing_kernel(layer: Any) -> tuple[np.ndarray, float]:
    allowed = "a built layer with a `kernel` and a `plasticity` that has a `norm_exponent`"
    received, kernel, exponent = str(getattr(layer, "name", layer)), None, None
    try:
        kernel = layer.kernel
        received = f"{received} with {layer.plasticity!r}"
        exponent = layer.plasticity.norm_exponent
    except AttributeError:
        pass  # Refused below.
    if kernel is None or exponent is None:
        raise ValueError(_validation.refusal("layer", allowed, received))
    return _numpy(kernel).astype(np.float64), float(exponent)
