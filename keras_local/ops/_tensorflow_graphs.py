"""TensorFlow: loops, gradients and assertions in graphs, and their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

Tensors = tuple[tf.Tensor, ...]
Step = Callable[[Tensors, Tensors], tuple[Tensors, Tensors]]


def scan(
    step: Step,
    carry: Tensors,
    sequences: Tensors,
    like: Sequence[tuple[Any, Any]],
    reverse: bool = False,
) -> tuple[Tensors, Tensors]:
    """Return the last carry and the stacked outputs of a step along the first axis.

    `like` is shape and type of each output. No gradient is wanted, so that nothing is kept for one.
    """

    def elements(place: tf.Tensor) -> Tensors:
        # Slices share the memory of a sequence, whereas an array would be a copy of it.
        return tuple(each[place] for each in sequences)

    return _loop(step, carry, elements, sequences[0], like, reverse)


def differentiable_scan(
    step: Step, carry: Tensors, sequences: Tensors, like: Sequence[tuple[Any, Any]]
) -> tuple[Tensors, Tensors]:
    """Do the same for a loop through which gradients return."""
    # The gradient of a slice would have the size of the sequence, in each step.
    arrays = [
        tf.TensorArray(each.dtype, _length(each), element_shape=each.shape[1:]).unstack(each)
        for each in sequences
    ]

    def elements(place: tf.Tensor) -> Tensors:
        return tuple(each.read(place) for each in arrays)

    return _loop(step, carry, elements, sequences[0], like, False)


def _length(sequence: tf.Tensor) -> Any:
    static = sequence.shape[0]
    return tf.shape(sequence)[0] if static is None else static


def _loop(
    step: Step,
    carry: Tensors,
    elements: Callable[[tf.Tensor], Tensors],
    first: tf.Tensor,
    like: Sequence[tuple[Any, Any]],
    reverse: bool,
) -> tuple[Tensors, Tensors]:
    static, length = first.shape[0], _length(first)

    def body(done: tf.Tensor, carry: Tensors, written: Any) -> Any:
        place = length - 1 - done if reverse else done
        carry, outputs = step(carry, elements(place))
        pairs = zip(written, outputs, strict=True)
        return done + 1, tuple(carry), tuple(each.write(place, value) for each, value in pairs)

    written = tuple(tf.TensorArray(dtype, length, element_shape=shape) for shape, dtype in like)
    loop = (tf.constant(0), tuple(carry), written)
    # XLA needs to know how often, for the gradient.
    _, carry, written = tf.while_loop(
        lambda done, *_: done < length, body, loop, maximum_iterations=length
    )
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
    forward: Callable[[Any], tuple[tf.Tensor, tf.Tensor | None, Any]],
    inputs: Any,
    variables: Sequence[Any],
) -> tuple[tf.Tensor, list[Any], Any]:
    """Return the outputs of a block, the gradients of its loss, and what else it returns."""
    with tf.GradientTape() as tape:
        outputs, loss, found = forward(inputs)
    if loss is None:
        return outputs, [None] * len(variables), found
    return outputs, tape.gradient(loss, list(variables)), found


def in_state(model: Any, step: Callable[[Any], Any], arguments: tuple[Any, ...]) -> Any:
    """Make a training step: Keras passes no state here."""
    return step(*arguments)


def added_losses() -> list[tf.Tensor]:
    """Return nothing: layers know what their calls have added to the loss."""
    return []


_APART = tuple(
    getattr(keras.optimizers, name)
    for name in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Lion")
)
"""Optimizers whose states all belong to single weights, but for the count of steps."""


def updates_in_parts(optimizer: Any) -> bool:
    """Return whether weights may be updated in groups, each of which counts as a step."""
    if type(optimizer) not in _APART:
        return False
    together = (
        optimizer.gradient_accumulation_steps or optimizer.global_clipnorm or optimizer.use_ema
    )
    # Replicas exchange gradients of all weights at once.
    return not together and tf.distribute.get_strategy().num_replicas_in_sync == 1


def apply_gradients(optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
    """Let an optimizer make a step, once all gradients exist.

    What it computes without them, such as momentum times its factor, would otherwise be computed at
    the beginning of the step and be held, in the size of all weights.
    """
    with tf.control_dependencies([each for each in gradients if each is not None]):
        optimizer.apply(gradients, variables)


def after(tensor: tf.Tensor, others: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return a tensor that exists only when all others have been computed."""
    with tf.control_dependencies(others):
        return tf.identity(tensor)
