"""Gradients and training on any backend, in a few lines each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import pytest

BACKEND = keras.backend.backend()

tensorflow_only = pytest.mark.skipif(BACKEND != "tensorflow", reason="needs TensorFlow")


@functools.cache
def two_replicas() -> Any:
    """The strategy of every test with replicas.

    One for the whole process: a second one would begin to number its reductions anew, and the
    runtime would take them for those of the first.
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def cases(values: Iterable[Any], daily: Sequence[Any]) -> list[Any]:
    """Parameters of a test; what is not in `daily` is more of the same: `tox -e thorough`."""
    rare = [value for value in values if value not in daily]
    marked = [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.thorough)
        for value in rare
    ]
    return [*daily, *marked]


def array(tensor: Any) -> np.ndarray:
    """The values of a tensor or variable."""
    return np.array(keras.ops.convert_to_numpy(tensor))


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The function as the backend's compiler makes it, where there is one."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False, **options)
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    return function


def probe(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Random float32 numbers, of order one."""
    return np.random.default_rng(seed).normal(size=tuple(shape)).astype("float32")


def whole_numbers(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Random small integers as float32: sums of products of them are exact."""
    return np.random.default_rng(seed).integers(-4, 5, size=tuple(shape)).astype("float32")


def value_and_gradients(
    function: Callable[..., Any], *arrays: np.ndarray
) -> tuple[float, list[np.ndarray]]:
    """A scalar function's value and its gradients at all arguments; zero where there is none."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tensors = [tf.constant(a) for a in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        gradients = tape.gradient(value, tensors)
    elif BACKEND == "jax":
        import jax

        positions = tuple(range(len(arrays)))
        tensors = [jax.numpy.asarray(a) for a in arrays]
        value, gradients = jax.value_and_grad(function, positions)(*tensors)
    else:
        import torch

        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        value = function(*tensors)
        gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    return float(array(value)), [
        np.zeros_like(a) if g is None else array(g) for a, g in zip(arrays, gradients, strict=True)
    ]


def model_gradients(
    model: keras.layers.Layer, inputs: np.ndarray, loss: Callable[[Any], Any]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Gradients of `loss(model(inputs))` plus the model's own losses.

    Returns:
        The gradient at each trainable variable, in order, by "position:name" ("0:kernel"), and at
        the inputs.
    """
    variables = model.trainable_variables
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tensor = tf.constant(inputs)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = loss(model(tensor, training=True)) + sum(model.losses)
        gradients = tape.gradient(value, [v.value for v in variables] + [tensor])
        gradients = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
    elif BACKEND == "jax":
        import jax

        def objective(trainable: Any, tensor: Any) -> Any:
            outputs, _, losses = model.stateless_call(
                trainable,
                [v.value for v in model.non_trainable_variables],
                tensor,
                training=True,
                return_losses=True,
            )
            return loss(outputs) + sum(losses)

        trained, below = jax.grad(objective, (0, 1))([v.value for v in variables], inputs)
        gradients = [*trained, below]
    else:
        import torch

        tensor = torch.tensor(inputs, requires_grad=True)
        value = loss(model(tensor, training=True)) + sum(model.losses)
        gradients = torch.autograd.grad(
            value, [v.value for v in variables] + [tensor], allow_unused=True
        )
    shapes = [v.shape for v in variables] + [inputs.shape]
    arrays = [
        np.zeros(shape, "float32") if g is None else array(g)
        for g, shape in zip(gradients, shapes, strict=True)
    ]
    names = [f"{i}:{v.name}" for i, v in enumerate(variables)]
    return dict(zip(names, arrays[:-1], strict=True)), arrays[-1]


def compile_options(jit_compile: bool = False) -> dict[str, Any]:
    """Graph mode on TensorFlow (its default would be XLA), the backend's default elsewhere."""
    return {"jit_compile": jit_compile} if BACKEND == "tensorflow" else {}


def train(
    model: keras.Model,
    optimizer: Any,
    inputs: np.ndarray,
    targets: np.ndarray | None,
    loss: Any,
    epochs: int = 1,
    batch_size: int = 8,
    **options: Any,
) -> list[float]:
    """Compile and fit in a fixed order; return the loss of each epoch."""
    model.compile(optimizer, loss, **{**compile_options(), **options})
    history = model.fit(
        inputs, targets, epochs=epochs, batch_size=batch_size, shuffle=False, verbose=0
    )
    return [float(value) for value in history.history["loss"]]


def copy_kernels(source: keras.Model, target: keras.Model) -> None:
    """Give the layers of `target` the kernels, biases and feedback kernels of `source`."""
    for one, other in zip(source.layers, target.layers, strict=True):
        if getattr(one, "kernel", None) is None:
            continue
        # Copies: on JAX two variables would share one buffer, which a step then gives away.
        other.kernel.assign(array(one.kernel))
        if one.bias is not None:
            other.bias.assign(array(one.bias))
        if getattr(one, "feedback_kernel", None) is None:
            continue
        if getattr(other, "feedback_kernel", None) is not None:
            other.assign_feedback_kernel(array(one.feedback_kernel))


def weights_of(model: keras.Model) -> list[np.ndarray]:
    """Copies of all weights."""
    return [np.array(weight) for weight in model.get_weights()]


def largest_difference(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """The largest absolute difference between two lists of arrays."""
    return max(
        float(np.max(np.abs(np.asarray(a, "float64") - np.asarray(b, "float64"))))
        for a, b in zip(first, second, strict=True)
    )
