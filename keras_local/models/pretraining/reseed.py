"""New weights for units that never win."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from keras import ops

from keras_local import _labels
from keras_local import _validation as check
from keras_local._data_gate import Gate, require_finite
from keras_local.layers.graph_walks import has_graph
from keras_local.layers.plain_form import norm_exponent
from keras_local.metrics import win_counts
from keras_local.models.pretraining.encoder_graph import plastic_layers
from keras_local.models.pretraining.sources import received

_BATCH = 1024
_MARGIN = 1.02


def reseed(
    layer_or_encoder: Any,
    data: Any,
    units: Literal["dead", "all"] = "dead",
    norm: float = 1.1,
    noise: float = 0.1,
    seed: int = 0,
) -> dict[str, int]:
    """Give units that never won new weights, in the direction of an input.

    A unit that wins no sample does not learn. Here it is set to

        W_k = r (v + noise * |v| / sqrt(inputs) * xi),    xi ~ N(0, 1)

    where `v` is a random sample that another unit won. `r` is chosen so that `sum_i |W_ik|^p` is
    `norm`, or larger if the unit needs more to win `v`, which is so while the other units have not
    yet reached the unit sphere. Afterwards continue with `models.pretrain` and a small step size.

    No unit is set to the only sample of another unit. If the new units win so much that there are
    not fewer dead units than before, half as many are tried, and so on. The new weights are kept
    only if there are fewer dead units on `data`; otherwise the layer does not change.

    With `units="all"`, before any training, all units start at different samples. None of them is
    far outside the unit sphere, so that pretraining needs fewer steps.

    Args:
        layer_or_encoder: A built layer with a kernel `(inputs, units)` and a plasticity rule that
            has an exponent `p`, such as `layers.HebbianDense`, or an encoder of such layers, which
            are treated one after the other.
        data: Array of the layer's inputs, or of the encoder's inputs: the training data, or some
            thousand samples of them.
        units: `"dead"`, the units that win no sample of `data`, or `"all"`.
        norm: `sum_i |W_ik|^p` of the new units, greater than 1.
        noise: Size of the noise, relative to the size of the sample.
        seed: Seed of the choice of samples and of the noise.

    Returns:
        A dict from the name of each layer to the number of its units that were set.

    Raises:
        ValueError: For a layer or an encoder without such weights, data that do not fit or are not
            finite, or a number out of its range. Then the weights are as before.

    >>> import keras, numpy as np, keras_local as kl
    >>> small = keras.initializers.RandomUniform(-0.1, 0.1, seed=1)
    >>> layer = kl.layers.HebbianDense(20, kernel_initializer=small, name="hidden")
    >>> images = np.random.default_rng(0).random((200, 30))
    >>> layer.build((None, 30))
    >>> before = kl.metrics.convergence_report(layer, images)["dead"]
    >>> kl.models.reseed(layer, images)["hidden"] > 0
    True
    >>> bool(kl.metrics.convergence_report(layer, images)["dead"] < before)
    True
    """
    check.one_of("units", units, ("dead", "all"))
    norm = check.real("norm", norm, minimum=1.0, exclusive=True)
    noise = check.real("noise", noise, minimum=0.0)
    generator = np.random.default_rng(check.positive_integer("seed", seed, 0, 2**32 - 1))
    encoder = layer_or_encoder if has_graph(layer_or_encoder) else None
    if encoder is None:
        layers = [layer_or_encoder]
        data = _labels.as_numpy(data)
        require_finite("data", data, float(np.finfo("float32").max))
    else:
        layers = plastic_layers(encoder, "layer_or_encoder")
        gate = Gate(tuple(encoder.input_shape[1:]), None, encoder.compute_dtype)
        data = _labels.as_numpy(gate.arrays("data", data)[0])
    for layer in layers:
        _check_layer(layer)
    before = [ops.convert_to_numpy(layer.kernel) for layer in layers]
    changed: dict[str, int] = {}
    try:
        for layer in layers:
            samples = data if encoder is None else received(encoder, layer, data)
            count = _reseeded(layer, samples, units, norm, noise, generator)
            changed[layer.name] = count
    except BaseException:
        for layer, kernel in zip(layers, before, strict=True):
            layer.kernel.assign(kernel)
        raise
    return changed


def _reseeded(
    layer: Any, data: np.ndarray, units: str, norm: float, noise: float, generator: Any
) -> int:
    wins = win_counts(layer, data)
    data = data.reshape(-1, data.shape[-1]).astype("float64")
    winners, currents = _winners(layer, data)
    before = ops.convert_to_numpy(layer.kernel)
    if units == "all":
        chosen = generator.permutation(np.flatnonzero(winners >= 0))[: wins.size]
        allowed = f"at least as many samples other than zero as units ({wins.size})"
        check.require(len(chosen) == wins.size, "data", allowed, len(chosen))
        p = layer.plasticity.norm_exponent
        kernel = _at_samples(p, data[chosen], None, norm, noise, generator)
        layer.kernel.assign(kernel.T)
        return wins.size
    dead = np.flatnonzero(wins == 0)
    spare = generator.permutation(_spare(winners, wins, generator))
    count = min(len(dead), len(spare))
    while count:
        samples = spare[:count]
        new = _at_samples(
            layer.plasticity.norm_exponent, data[samples], currents[samples], norm, noise, generator
        )
        kernel = before.copy()
        kernel[:, dead[:count]] = new.T
        layer.kernel.assign(kernel)
        if np.count_nonzero(win_counts(layer, data) == 0) < len(dead):
            return count
        layer.kernel.assign(before)
        count //= 2
    return 0


def _check_layer(layer: Any) -> None:
    fits = norm_exponent(layer) is not None and len(getattr(layer, "kernel", np.ones(1)).shape) == 2
    check.require(
        fits,
        "layer_or_encoder",
        "of built layers with a kernel (inputs, units) and a plasticity rule with a norm_exponent",
        getattr(layer, "name", layer),
    )


def _winners(layer: Any, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which unit wins each sample, -1 for a sample of zeros, and its current."""
    weights = ops.convert_to_numpy(layer.kernel).astype("float64")
    strengths = np.sign(weights) * np.abs(weights) ** (layer.plasticity.norm_exponent - 1.0)
    winners = np.full(len(data), -1)
    currents = np.zeros(len(data))
    for start in range(0, len(data), _BATCH):
        part = slice(start, start + _BATCH)
        post = data[part] @ strengths
        winners[part] = np.where(np.any(data[part] != 0.0, axis=1), post.argmax(axis=1), -1)
        currents[part] = post.max(axis=1)
    return winners, currents


def _spare(winners: np.ndarray, wins: np.ndarray, generator: Any) -> np.ndarray:
    """Return samples that may be used so that each of their winners keeps one."""
    order = generator.permutation(len(winners))
    grouped = order[np.argsort(winners[order], kind="stable")]
    first = np.r_[True, np.diff(winners[grouped]) != 0]
    spare: np.ndarray = grouped[~first & (winners[grouped] >= 0)]
    return spare


def _at_samples(
    p: float,
    samples: np.ndarray,
    currents: np.ndarray | None,
    norm: float,
    noise: float,
    generator: Any,
) -> np.ndarray:
    """Return weights, with one row for each unit, in the direction of samples."""
    size = np.linalg.norm(samples, axis=1, keepdims=True) / np.sqrt(samples.shape[1])
    rows = samples + noise * size * generator.standard_normal(samples.shape)
    rows /= np.sum(np.abs(rows) ** p, axis=1, keepdims=True) ** (1.0 / p)
    norms = np.full(len(rows), norm)
    if currents is not None and p > 1.0:
        own = np.sum(np.sign(rows) * np.abs(rows) ** (p - 1.0) * samples, axis=1)
        needed = np.maximum(_MARGIN * currents / np.maximum(own, 1e-12), 0.0)
        norms = np.maximum(norms, np.where(own > 0.0, needed, 0.0) ** (p / (p - 1.0)))
    return np.asarray(rows * norms[:, None] ** (1.0 / p), dtype="float32")
