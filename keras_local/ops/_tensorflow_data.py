"""Pipelines of `tf.data`: checks of batches, for any backend, and an order without state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from keras_local.ops.datasets import Order


def asserted(
    dataset: tf.data.Dataset,
    sample_shape: tuple[int | None, ...],
    limit: float,
    expected: Any,
    argument: str,
    parts: int,
) -> tf.data.Dataset:
    """Return a dataset that stops at a batch that does not fit; see `keras_local.ops.datasets`."""
    where = f" in every batch of `{argument}`"

    @tf.autograph.experimental.do_not_convert
    def checked(*batch: tf.Tensor) -> Any:
        inputs = batch[0]
        conditions = _sizes_hold(inputs, sample_shape, argument, where)
        conditions.append(_within(inputs, limit, argument, where))
        if expected is not None:
            hold = _classes_hold if expected.kind == "classes" else _numbers_hold
            conditions += hold(batch[1], tf.shape(inputs)[0], expected, where)
        if len(batch) == 3:
            weights = tf.cast(batch[2], "float32")
            conditions.append(_within(weights, tf.float32.max, "sample_weight", where))
        with tf.control_dependencies([_refusal(*condition) for condition in conditions]):
            batch = tuple(tf.identity(part) for part in batch)
        batch[0].set_shape((None, *sample_shape))
        return batch if parts > 1 or isinstance(dataset.element_spec, tuple) else batch[0]

    return dataset.map(checked)


_EPOCHS = 1 << 40
"""More than there will be."""


def ordered(arrays: Any, order: Order) -> tf.data.Dataset:
    """Return batches of arrays in an order; see `keras_local.ops.datasets`."""
    whole, rest = divmod(order.samples, order.batch_size)
    cut = whole * order.batch_size

    def drawn(epoch: tf.Tensor) -> tf.Tensor:
        if order.seed is None:
            return tf.range(order.samples, dtype="int64")
        places = tf.numpy_function(order.of_epoch, [epoch], tf.int64)
        return tf.ensure_shape(places, (order.samples,))

    def batches(places: tf.Tensor) -> tf.data.Dataset:
        rows = tf.reshape(places[:cut], (whole, order.batch_size))
        found = tf.data.Dataset.from_tensor_slices(rows)
        if rest and not order.drop_remainder:
            found = found.concatenate(tf.data.Dataset.from_tensors(places[cut:]))
        return found

    def gathered(places: tf.Tensor, arrays: Any) -> Any:
        return tf.nest.map_structure(lambda array: tf.gather(array, places), arrays)

    epochs = tf.data.Dataset.range(order.epoch, _EPOCHS)
    places = epochs.map(drawn).prefetch(1).flat_map(batches).skip(order.batch)
    data = tf.data.Dataset.zip((places, tf.data.Dataset.from_tensors(arrays).repeat()))
    data = data.map(gathered, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return data.with_options(options)


_Condition = tuple[tf.Tensor, str, Callable[[], tf.Tensor]]
"""A condition, the message if it is false, and the values to show then."""


def _refusal(held: tf.Tensor, said: str, seen: Callable[[], tf.Tensor]) -> tf.Operation:
    """Return an assertion that computes its message only if it fails."""

    def refuse() -> tf.Operation:
        return tf.debugging.Assert(False, [f"Refused: {said}", seen()], summarize=3)

    return tf.cond(held, tf.no_op, refuse)


def _sizes_hold(
    inputs: tf.Tensor, sample_shape: tuple[int | None, ...], argument: str, where: str
) -> list[_Condition]:
    shape = tf.shape(inputs)
    said = f"`{argument}` must be of shape {(None, *sample_shape)}{where}"
    conditions = [
        (shape[axis] == size, f"{said}. Received: {argument}= shape ", lambda: shape)
        for axis, size in enumerate(sample_shape, start=1)
        if size is not None and inputs.shape[axis] is None
    ]
    said = f"`{argument}` must be at least one sample{where}. Received: {argument}= shape "
    return [*conditions, (shape[0] > 0, said, lambda: shape)]


def _within(values: tf.Tensor, limit: float, argument: str, where: str) -> _Condition:
    if not values.dtype.is_floating:
        values = tf.cast(values, "float32")
    # Comparisons with NaN are false.
    inside = tf.abs(values) <= tf.cast(min(limit, values.dtype.max), values.dtype)
    said = f"`{argument}` must be finite (no NaN), and at most {limit:.2g} in absolute value{where}"
    said += f". Received: {argument}= "
    return tf.reduce_all(inside), said, lambda: tf.boolean_mask(values, ~inside)


def _numbers_hold(
    targets: tf.Tensor, samples: tf.Tensor, expected: Any, where: str
) -> list[_Condition]:
    targets = tf.cast(targets, "float64")
    said = f"`y` must be one target for each sample{where}. Received: y= shape "
    conditions = [(tf.shape(targets)[0] == samples, said, lambda: tf.shape(targets))]
    if targets.shape.rank == 2:
        said = f"`y` must be {expected.form}{where}. Received: y= shape "
        fits = tf.shape(targets)[1] == expected.outputs
        conditions.append((fits, said, lambda: tf.shape(targets)))
    low, high = expected.bounds
    # Comparisons with NaN are false.
    inside = (targets >= low) & (targets <= high) & (tf.abs(targets) < float("inf"))
    said = f"`y` must be {expected.range}{where}. Received: y= "
    return [*conditions, (tf.reduce_all(inside), said, lambda: tf.boolean_mask(targets, ~inside))]


def _classes_hold(
    labels: tf.Tensor, samples: tf.Tensor, expected: Any, where: str
) -> list[_Condition]:
    classes, smoothed = expected.outputs, expected.smoothed
    labels = tf.cast(labels, "float64")
    said = f"`y` must be one label for each sample{where}. Received: y= shape "
    conditions = [(tf.shape(labels)[0] == samples, said, lambda: tf.shape(labels))]
    if labels.shape.rank == 1 or labels.shape[1] == 1:
        valid = (labels >= 0) & (labels < classes) & (labels == tf.floor(labels))
        said = f"`y` must be integers from 0 to {classes - 1}{where}. Received: y= "
        return [*conditions, (tf.reduce_all(valid), said, lambda: tf.boolean_mask(labels, ~valid))]
    said = f"`y` must be one-hot labels of {classes} classes{where}. Received: y= shape "
    conditions.append((tf.shape(labels)[1] == classes, said, lambda: tf.shape(labels)))
    entries = labels >= 0 if smoothed else (labels == 0) | (labels == 1)
    total = tf.reduce_sum(labels, axis=1)
    valid = tf.reduce_all(entries, axis=1) & (tf.abs(total - 1.0) < 1e-3)
    rows = "one-hot rows, or smoothed ones: no entry negative, the sum 1"
    rows = rows if smoothed else "one-hot rows (one entry 1, all others 0) or integer labels"
    said = f"`y` must be {rows}{where}. Received: y= "
    return [*conditions, (tf.reduce_all(valid), said, lambda: tf.boolean_mask(labels, ~valid))]
