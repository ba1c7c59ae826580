"""The data of pretraining: checks, the inputs of a layer, and the arguments of `fit`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_local import _labels
from keras_local import _runs as runs
from keras_local import _validation as check
from keras_local._data_gate import Gate, fits, require_finite
from keras_local._streams import as_tuple, is_dataset, is_empty, is_endless, is_stream
from keras_local.models.pretraining.encoder_graph import below, mask_of
from keras_local.ops.abilities import MODELS_IN_DATASETS
from keras_local.ops.datasets import Order, ordered

_REPORTED = 1000
_POWER = 3.0
"""The power of the inputs in a change: rules multiply inputs and currents."""


def checked(
    data: Any, encoder: keras.Model, batch_size: int, steps_per_epoch: int | None
) -> tuple[Any, int]:
    """Return finite inputs without labels, and the number of whole batches in them.

    A `tf.data.Dataset` stays a dataset; every other stream is read into memory, once.
    """
    gate = Gate(tuple(encoder.input_shape[1:]), None, encoder.compute_dtype, _POWER)
    if is_dataset(data):
        return _checked_dataset(data, gate, batch_size, steps_per_epoch)
    if not is_stream(data):
        allowed = "None for an array: all of it is used"
        check.require(steps_per_epoch is None, "steps_per_epoch", allowed, steps_per_epoch)
    inputs, _ = gate.arrays("data", data, steps=steps_per_epoch)
    inputs = _labels.as_numpy(inputs)
    if inputs.dtype.kind != "f":
        inputs = inputs.astype("float32")
    allowed = f"at most the {len(inputs)} samples"
    check.require(len(inputs) >= batch_size, "batch_size", allowed, batch_size)
    return inputs, len(inputs) // batch_size


def _checked_dataset(
    data: Any, gate: Gate, batch_size: int, steps_per_epoch: int | None
) -> tuple[Any, int]:
    # This comes before any transformation, which may hide the number of elements.
    allowed = "a finite dataset, where `steps_per_epoch` is not given"
    finite = steps_per_epoch is not None or not is_endless(data)
    check.require(finite, "data", allowed, "an infinite one")
    check.require(not is_empty(data), "data", "a dataset of at least one sample", "an empty one")
    spec = as_tuple("data", data.element_spec)[0]
    tensor = hasattr(spec, "shape") and hasattr(spec, "dtype")
    allowed = f"a dataset of inputs of shape {gate.sample_shape}, or of batches of them"
    check.require(tensor and spec.shape.rank is not None, "data", allowed, spec)
    shape = tuple(spec.shape)
    single, batched = fits(shape, gate.sample_shape), fits(shape[1:], gate.sample_shape)
    check.require(single or batched, "data", allowed, f"elements of shape {shape}")
    data = data.map(lambda inputs, *labels: inputs)
    if steps_per_epoch is not None:
        data = data.take(steps_per_epoch * batch_size if single else steps_per_epoch)
    group = data.batch if single else data.rebatch
    data = group(batch_size, drop_remainder=True)
    batches = 0
    for batch in data.as_numpy_iterator():
        gate.inputs("data", batch, " in every batch")
        batches += 1
    check.require(batches > 0, "batch_size", "at most the number of samples", batch_size)
    return data, batches


def received(encoder: keras.Model, layer: Any, data: Any) -> Any:
    """Return the inputs of a layer for the data, with one sample in each row."""
    lower = below(encoder, layer)
    if lower is not None and mask_of(encoder, layer) is not None:
        return _present(encoder, layer, lower, data)
    if lower is not None:
        if is_dataset(data) and MODELS_IN_DATASETS:
            data = data.map(lambda inputs: lower(inputs, training=False))
        else:
            data = lower.predict(data, verbose=0)
            largest = float(np.finfo(data.dtype).max) if data.dtype.kind == "f" else np.inf
            require_finite("data", data, largest, f" where {layer.name} receives it")
    return data if is_dataset(data) else layer.pretraining_samples(data)


def _present(encoder: keras.Model, layer: Any, lower: keras.Model, data: Any) -> Any:
    """Return the samples that a mask keeps, as an array; of images and series, 0 in their place."""
    both = keras.Model(lower.inputs, [lower.outputs[0], mask_of(encoder, layer)])
    features, mask = both.predict(data, verbose=0)
    present = np.broadcast_to(
        mask.reshape(*mask.shape, *(1,) * (features.ndim - mask.ndim)), features.shape
    )
    features = np.where(present, features, np.zeros_like(features))
    largest = float(np.finfo(features.dtype).max)
    require_finite("data", features, largest, f" where {layer.name} receives it")
    rows = layer.pretraining_samples(features)
    kept = layer.pretraining_samples(present)
    return rows[kept[..., 0]] if rows.ndim == 2 else rows


def some(data: Any) -> Any:
    """Return as many samples as a report needs."""
    return data.take(max(1, _REPORTED // 100)) if is_dataset(data) else data[:_REPORTED]


def first_of(features: Any) -> Any:
    """Return the first samples, which are enough to measure their length."""
    return next(iter(features.take(1).as_numpy_iterator())) if is_dataset(features) else features


def parts_of(features: Any) -> Any:
    """Return all samples as arrays, one after the other."""
    return features.as_numpy_iterator() if is_dataset(features) else [features]


def rank_of(features: Any) -> int:
    """Return the number of axes of a batch."""
    return len(features.element_spec.shape) if is_dataset(features) else int(features.ndim)


def identity_of(data: Any) -> str:
    """Return what tells data from others: of a dataset the kind of its elements only."""
    return str(data.element_spec) if is_dataset(data) else runs.identity_of_data(data)


def arguments_of_fit(
    features: Any,
    batch_size: int,
    batches: int,
    order_of: Callable[[int, int], Order] | None = None,
) -> dict[str, Any]:
    """Return the arguments of `fit` for whole batches.

    Args:
        features: What the layer receives.
        batch_size: Samples a batch.
        batches: Batches an epoch.
        order_of: Function from the numbers of samples and of samples a batch to their order; None
            for the order that Keras draws.
    """
    if is_dataset(features):
        return {"x": features.repeat(), "steps_per_epoch": batches, "shuffle": False}
    if order_of is not None:
        order = order_of(len(features), batch_size)
        return {"x": ordered((features,), order), "steps_per_epoch": order.steps, "shuffle": False}
    if len(features) % batch_size:
        return {"x": ShuffledBatches(features, batch_size)}
    # Keras' own shuffling of arrays is faster.
    return {"x": features, "batch_size": batch_size}


class ShuffledBatches(keras.utils.PyDataset):
    """Whole batches only, in a new order in each epoch."""

    def __init__(self, samples: np.ndarray, batch_size: int) -> None:
        super().__init__()
        self.samples, self.batch_size = samples, batch_size
        # `keras.utils.set_random_seed` seeds this stream.
        self.generator = np.random.default_rng(random.getrandbits(64))
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self.samples) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray]:
        start = index * self.batch_size
        return (self.samples[self.order[start : start + self.batch_size]],)

    def on_epoch_end(self) -> None:
        """Draw a new order."""
        self.order = self.generator.permutation(len(self.samples))
