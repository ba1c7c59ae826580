"""TensorFlow: loops, gradients and assertions in graphs, and their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Tensors = tuple[tf.Tensor, ...]


def scan(
    step: Callable[[Tensors, Tensors], tuple[Tensors, Tensors]],
    carry: Tensors,
    sequences: Tensors,
    like: Sequence[tuple[Any, Any]],
    reverse: bool = False,
) -> tuple[Tensors, Tensors]:
    """Return the last carry and the stacked outputs of a step along the first axis.

    `like` is shape and type of each output. No gradient is wanted, so that nothing is kept for one.
    """
    static = sequences[0].shape[0]
    length = tf.shape(sequences[0])[0] if static is None else static

    def array(shape: Any, dtype: Any) -> tf.TensorArray:
        return tf.TensorArray(dtype, size=length, element_shape=shape)

    def body(done: tf.Tensor, carry: Tensors, written: Any) -> Any:
        place = length - 1 - done if reverse else done
        carry, outputs = step(carry, tuple(each.read(place) for each in read))
        pairs = zip(written, outputs, strict=True)
        return done + 1, tuple(carry), tuple(each.write(place, value) for each, value in pairs)

    read = [array(each.shape[1:], each.dtype).unstack(each) for each in sequences]
    written = tuple(array(shape, dtype) for shape, dtype in like)
    loop = (tf.constant(0), tuple(carry), written)
    _, carry, written = tf.while_loop(lambda done, *_: done < length, body, loop)
    stacked = tuple(each.stack() for each in written)
    for tensor in stacked:
        tensor.set_shape((static, *tensor.shape[1:]))
    return carry, stacked


def gradients(function: Callable[..., tf.Tensor], tensors: list[Any]) -> list[tf.Tensor]:
    """Differentiate a scalar function of tensors."""
    tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return list(tape.gradient(value, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO))


def pull_back(
    function: Callable[..., Any], tensors: Sequence[tf.Tensor], upstream: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
    """Return the errors at the tensors for those at the several outputs of a function."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        outputs = list(function(*tensors))
    errors = [tf.cast(error, each.dtype) for error, each in zip(upstream, outputs, strict=True)]
    zero = tf.UnconnectedGradients.ZERO
    found = tape.gradient(outputs, list(tensors), errors, unconnected_gradients=zero)
    return list(found)


def assured(tensor: tf.Tensor, condition: tf.Tensor, message: str) -> tf.Tensor:
    """Return the tensor behind an assertion, which XLA leaves out."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(tensor)


def of_block(
    forward: Callable[[Any], tuple[tf.Tensor, tf.Tensor | None]],
    inputs: Any,
    variables: Sequence[Any],
) -> tuple[tf.Tensor, list[Any]]:
    """Return the outputs of a block, and the gradients of its loss."""
    with tf.GradientTape() as tape:
        outputs, loss = forward(inputs)
    if loss is None:
        return outputs, [None] * len(variables)
    return outputs, tape.gradient(loss, list(variables))


def apply_gradients(optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
    """Let an optimizer make a step."""
    optimizer.apply(gradients, variables)


def after(tensor: tf.Tensor, others: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return a tensor that exists only when all others have been computed."""
    with tf.control_dependencies(others):
        return tf.identity(tensor)
