"""Recurrent layers with given weights, beside the oracle's parameters, in double precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

import keras_local as kl
from tests.support import BACKEND, array

B, T, N, U = 3, 7, 4, 5
KINDS: dict[str, tuple[type, dict[str, Any], int]] = {
    "simple": (kl.layers.FeedbackSimpleRNN, {}, 1),
    "leaky": (kl.layers.LeakyRNN, {"tau": 3.0}, 1),
    "lstm": (kl.layers.FeedbackLSTM, {}, 4),
    "gru": (kl.layers.FeedbackGRU, {}, 3),
    "gru_before": (kl.layers.FeedbackGRU, {"reset_after": False}, 3),
}
MASK = np.array(
    [[1, 1, 1, 1, 1, 0, 0], [0, 1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1]],
    bool,
)
PRECISION = "float64" if BACKEND == "tensorflow" else "float32"
"""JAX and Keras on PyTorch make single precision of double."""
TOLERANCE = 1e-12 if PRECISION == "float64" else 2e-5


@contextmanager
def double() -> Iterator[None]:
    """Double precision where there is any."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(PRECISION)
    keras.config.set_dtype_policy(PRECISION)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def parameters(kind: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights and feedback weights, of order one half."""
    rng = np.random.default_rng(seed)
    columns = KINDS[kind][2] * U
    bias = (2, columns) if kind == "gru" else (columns,)
    found = {
        "w": rng.normal(size=(N, columns)),
        "u": rng.normal(size=(U, columns)),
        "b": rng.normal(size=bias),
        "bw": rng.normal(size=(N, columns)),
        "bu": rng.normal(size=(U, columns)),
    }
    found = {name: 0.5 * value for name, value in found.items()}
    if kind == "leaky":
        found["tau"] = np.array(3.0)
    return found


def layer(kind: str, p: dict[str, np.ndarray], **options: Any) -> Any:
    """The layer with these weights; feedback kernels are set where it has any."""
    make, arguments, _ = KINDS[kind]
    made = make(U, **{"return_sequences": True, **arguments, **options})
    made.build((B, T, N))
    made.kernel.assign(p["w"])
    made.recurrent_kernel.assign(p["u"])
    made.bias.assign(p["b"])
    if made.inputs_part.rule.has_own_kernel:
        made.inputs_part.assign_feedback_kernel(p["bw"])
    if made.recurrent_part.rule.weights(made.recurrent_kernel, np.zeros):
        made.recurrent_part.assign_feedback_kernel(p["bu"])
    return made


def data(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and errors at the outputs."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(B, T, N)), rng.normal(size=(B, T, U))


def gradients(
    made: Any, x: np.ndarray, errors: np.ndarray, mask: Any = None, compiled: bool | None = None
) -> dict[str, np.ndarray]:
    """Outputs, and the gradients of `sum(errors * outputs)` plus the layer's own losses.

    At the weights by their paths behind the layer's name ("recurrent/kernel"), and at "x".
    """
    variables = made.trainable_variables
    names = [v.path.split("/", 1)[1].replace(f"{made.name}_", "") for v in variables]
    mask = None if mask is None else keras.ops.convert_to_tensor(mask)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def step(x: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = made(x, mask=mask, training=True)
                value = tf.reduce_sum(outputs * errors) + sum(
                    tf.cast(loss, outputs.dtype) for loss in made.losses
                )
            places = [v.value for v in variables] + [x]
            return outputs, tape.gradient(value, places, unconnected_gradients="zero")

        if compiled is not None:
            step = tf.function(step, jit_compile=compiled, autograph=False)
        outputs, found = step(tf.constant(x, PRECISION))
    elif BACKEND == "jax":
        import jax

        def objective(trainable: Any, x: Any) -> Any:
            outputs, _, losses = made.stateless_call(
                trainable,
                [v.value for v in made.non_trainable_variables],
                x,
                mask=mask,
                training=True,
                return_losses=True,
            )
            return jax.numpy.sum(outputs * errors) + sum(losses), outputs

        step = jax.grad(objective, (0, 1), has_aux=True)
        if compiled is not False:
            step = jax.jit(step)
        found, outputs = step([v.value for v in variables], x.astype("float32"))
        found = [*found[0], found[1]]
    else:
        import torch

        tensor = torch.tensor(x.astype("float32"), requires_grad=True)
        outputs = made(tensor, mask=mask, training=True)
        value = (outputs * torch.tensor(errors.astype("float32"))).sum() + sum(made.losses)
        found = torch.autograd.grad(
            value, [v.value for v in variables] + [tensor], allow_unused=True
        )
    shapes = [v.shape for v in variables] + [x.shape]
    arrays = [
        np.zeros(shape) if g is None else array(g) for g, shape in zip(found, shapes, strict=True)
    ]
    return {"outputs": array(outputs), **dict(zip([*names, "x"], arrays, strict=True))}


def difference(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest difference, of the oracle's names."""
    names = {"inputs/kernel": "w", "recurrent/kernel": "u", "recurrent/bias": "b", "x": "x"}
    return max(
        float(np.max(np.abs(found[name] - expected[short])))
        for name, short in names.items()
        if short in expected and name in found
    )
