"""Checks for people who write their own rule.

Each function raises an `AssertionError` that says what does not hold. They need no test framework.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import layers
from keras_local.feedback import FeedbackRule
from keras_local.plasticity import PlasticityRule


def check_feedback_rule(rule: FeedbackRule, tolerance: float = 1e-5, seed: int = 0) -> None:
    """Check that a feedback rule does what the interface promises, dense and convolutional.

    * its config restores it;
    * the error kernel has the kernel's shape, and `assignment` sets it;
    * the forward pass is that of the plain layer, exactly;
    * the error that reaches the layer below is the one carried by the error kernel;
    * weights that are not declared trainable stay.

    What the feedback weights should receive is known to the rule's author alone: compare one step
    with the formula in a test of your own.

    Args:
        rule: The rule.
        tolerance: Largest deviation allowed, relative to the largest entry.
        seed: Seed of weights and data.

    Raises:
        AssertionError: If one of these does not hold.

    >>> import keras_local as kl
    >>> kl.testing.check_feedback_rule(kl.feedback.FeedbackAlignment())
    """
    _check_config(rule)
    _check_error_path(layers.FeedbackDense(3, feedback=rule), (5,), tolerance, seed)
    _check_error_path(layers.FeedbackConv2D(3, 2, feedback=rule), (4, 4, 2), tolerance, seed)


def check_plasticity_rule(
    rule: PlasticityRule,
    change: Callable[[np.ndarray, np.ndarray], np.ndarray],
    inputs: int = 12,
    units: int = 8,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> None:
    """Check a plasticity rule against a formula of your own, in NumPy.

    * its config restores it;
    * its change of the kernel is `change(pre, kernel)`;
    * one step of `fit` with plain SGD moves a `HebbianDense` kernel by the step size times the
      rule's update, and moves it at all.

    Args:
        rule: The rule.
        change: Function of inputs `(batch, inputs)` and kernel `(inputs, units)`, both float64
            arrays, that returns the change summed over the batch. Write it from the paper, not
            from the rule.
        inputs: Number of inputs.
        units: Number of units.
        tolerance: Largest deviation allowed, relative to the largest entry.
        seed: Seed of weights and data.

    Raises:
        AssertionError: If one of these does not hold.
    """
    _check_config(rule)
    rng = np.random.default_rng(seed)
    pre = rng.random((32, inputs)).astype("float32")
    kernel = rng.normal(size=(inputs, units)).astype("float32")
    tensors = ops.convert_to_tensor(pre), ops.convert_to_tensor(kernel)
    computed = rule.change(tensors[0], rule.currents(*tensors), tensors[1])
    wanted = change(pre.astype("float64"), kernel.astype("float64"))
    _check_close("the change", computed, wanted, tolerance)

    layer = layers.HebbianDense(units, plasticity=rule)
    model = keras.Sequential([keras.Input((inputs,)), layer])
    layer.kernel.assign(kernel)
    update = ops.convert_to_numpy(rule.update(*tensors))
    model.compile(keras.optimizers.SGD(0.01))
    model.fit(pre, batch_size=len(pre), shuffle=False, verbose=0)
    moved = ops.convert_to_numpy(layer.kernel) - kernel
    _check(np.any(moved != 0), "one step of fit moves the kernel")
    # The difference of two float32 kernels is known to a few of their last digits only.
    rounding = 1e-6 * np.abs(kernel).max() / np.abs(0.01 * update).max()
    _check_close("the step of fit", moved, 0.01 * update, tolerance + rounding)


def _check(holds: Any, what: str) -> None:
    if not holds:
        raise AssertionError(f"This does not hold: {what}.")


def _check_close(name: str, computed: Any, wanted: np.ndarray, tolerance: float) -> None:
    computed = np.asarray(ops.convert_to_numpy(computed))
    _check(computed.shape == wanted.shape, f"{name} has the shape {wanted.shape}")
    deviation = np.abs(computed - wanted).max() / max(np.abs(wanted).max(), 1e-30)
    _check(
        deviation <= tolerance,
        f"{name} is as expected to a relative {tolerance:g} (deviation {deviation:.3g})",
    )


def _check_config(rule: Any) -> None:
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rule))
    _check(type(restored) is type(rule), "the config restores the class (is it registered?)")
    _check(restored.get_config() == rule.get_config(), "the config restores the arguments")


def _check_error_path(
    layer: layers.FeedbackLayer, shape: tuple[int, ...], tolerance: float, seed: int
) -> None:
    name = type(layer).__name__
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(6, *shape)).astype("float32")
    below = keras.layers.Dense(shape[-1], use_bias=False)
    model = keras.Sequential([keras.Input(shape), below, layer])
    weights = layer._feedback_weights
    kernel = ops.convert_to_numpy(layer.kernel)
    if weights:
        chosen = rng.normal(size=kernel.shape).astype("float32")
        layer.assign_feedback_kernel(chosen)
        _check_close(f"{name}: the assigned feedback kernel", layer.feedback_kernel, chosen, 1e-6)
    error_kernel = layer.feedback_kernel if weights else layer.kernel.value

    hidden = ops.matmul(inputs, below.kernel)
    plain = layer.linear_map.apply(hidden, layer.kernel) + layer.bias
    _check_close(f"{name}: the output", layer(hidden), ops.convert_to_numpy(plain), 0.0)

    # One step of SGD with step size 1 on the loss sum(y * target) shows the gradients: the error
    # at the outputs is `target`, whatever the weights.
    target = rng.normal(size=tuple(plain.shape)).astype("float32")
    sent = layer.linear_map.input_gradient(ops.convert_to_tensor(target), error_kernel, hidden)
    wanted = np.tensordot(inputs, ops.convert_to_numpy(sent), (range(len(shape)),) * 2)
    before = ops.convert_to_numpy(below.kernel)
    stored = [ops.convert_to_numpy(weight) for weight in weights]
    model.compile(keras.optimizers.SGD(1.0), loss=_inner_product)
    model.fit(inputs, target, batch_size=len(inputs), shuffle=False, verbose=0)
    _check_close(
        f"{name}: the gradient below the layer",
        before - ops.convert_to_numpy(below.kernel),
        wanted,
        max(tolerance, 1e-5),
    )
    for weight, old in zip(weights, stored, strict=True):
        moved = bool(np.any(ops.convert_to_numpy(weight) != old))
        _check(weight.trainable or not moved, f"{name}: {weight.name} is not trainable and stays")


def _inner_product(target: Any, outputs: Any) -> Any:
    product = target * outputs
    # Keras takes the mean over the batch.
    return ops.sum(ops.reshape(product, (ops.shape(product)[0], -1)), axis=-1) * ops.cast(
        ops.shape(product)[0], product.dtype
    )
