"""Checks for people who write their own rule.

Each function raises an `AssertionError` that says what is wrong. They need no test framework.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import layers
from keras_local.feedback import FeedbackRule
from keras_local.plasticity import PlasticityRule


def check_feedback_rule(rule: FeedbackRule, tolerance: float = 1e-5, seed: int = 0) -> None:
    """Check that a feedback rule satisfies the interface, dense and convolutional.

    * its config restores it;
    * the error kernel has the kernel's shape, and `assignment` sets it, up to its length and to
      signs that a rule prescribes, or raises an error;
    * the forward pass is exactly that of the plain layer;
    * the error that reaches the layer below is carried by the error kernel, and there is none if
      `sends_errors` is False; if a rule `draws` its error kernel, only the presence of an error is
      checked;
    * weights that are not declared trainable are changed only by the rule (a memory), and not by
      an optimizer.

    Only the author of the rule knows how the feedback weights should change: compare one step with
    the formula in your own test.

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
    change: Callable[..., np.ndarray],
    inputs: int = 12,
    units: int = 8,
    tolerance: float = 1e-5,
    seed: int = 0,
    memory: Callable[..., Sequence[np.ndarray]] | None = None,
) -> None:
    """Check a plasticity rule against a formula of your own, in NumPy.

    * its config restores it;
    * its change of the kernel is `change(pre, kernel, *own)`;
    * the updates of its own weights are `memory(pre, kernel, *own)`, if that is given;
    * one step of `fit` with plain SGD changes a `HebbianDense` kernel by the step size times the
      rule's update, under its constraint, and this change is not zero;
    * the step sets the rule's own weights to the values that the rule returns.

    If the rule has `needs_modulator`, it gets a modulator, one number for each sample, and both
    functions are called with `modulator=`, an array `(batch, 1)`.

    Args:
        rule: The rule.
        change: Function of inputs `(batch, inputs)`, kernel `(inputs, units)` and the rule's own
            weights, all float64 arrays, that returns the change summed over the batch. Write it
            from the paper, not from the rule.
        inputs: Number of inputs.
        units: Number of units.
        tolerance: Largest deviation allowed, relative to the largest entry.
        seed: Seed of weights and data.
        memory: Function of the same arguments that returns the expected result of `own_updates`,
            one array for each of the rule's own weights.

    Raises:
        AssertionError: If one of these does not hold.

    >>> import numpy as np, keras_local as kl
    >>> kl.testing.check_plasticity_rule(
    ...     kl.plasticity.Hebb(), lambda pre, kernel: pre.T @ (pre @ kernel)
    ... )
    """
    _check_config(rule)
    rng = np.random.default_rng(seed)
    pre = rng.random((32, inputs)).astype("float32")
    kernel = rng.normal(size=(inputs, units)).astype("float32")
    modulator = rng.normal(size=(32, 1)).astype("float32")
    own = _near_their_start(rule, (inputs, units), rng)
    arrays = (pre, kernel, *own)
    tensors = [ops.convert_to_tensor(each) for each in arrays]
    wide = [each.astype("float64") for each in arrays]
    gated = {"modulator": modulator} if rule.needs_modulator else {}
    factors = {name: ops.convert_to_tensor(value) for name, value in gated.items()}
    post = rule.currents(*tensors)
    computed = rule.change(tensors[0], post, *tensors[1:], **factors)
    _check_close("the change", computed, change(*wide, **gated), tolerance)
    if memory is not None:
        updates = rule.own_updates(tensors[0], post, *tensors[1:], **factors)
        wanted = memory(*wide, **gated)
        _check(len(updates) == len(wanted), "there is one update for each weight of the rule")
        for number, (update, expected) in enumerate(zip(updates, wanted, strict=True)):
            _check_close(f"the rule's own weight {number}", update, expected, tolerance)
    _check_step_of_fit(rule, tensors, modulator, tolerance)


def _near_their_start(
    rule: PlasticityRule, shape: tuple[int, int], rng: np.random.Generator
) -> list[np.ndarray]:
    """Return values for the rule's own weights, a little above their first values."""
    starts = [
        ops.convert_to_numpy(keras.initializers.get(weight.initializer)(weight.shape, "float32"))
        for weight in rule.own_weights(shape)
    ]
    return [start + 0.1 * rng.random(start.shape).astype("float32") for start in starts]


def _check_step_of_fit(
    rule: PlasticityRule, tensors: list[Any], modulator: np.ndarray, tolerance: float
) -> None:
    """Make one step of SGD, and compare the weights with the values of the rule."""
    pre, kernel, *own = tensors
    factors: dict[str, Any] = {}
    silent = rule.needs_modulator or not np.any(ops.convert_to_numpy(rule.update(*tensors)))
    if silent:
        factors = {"modulator": ops.convert_to_tensor(modulator)}
    update = rule.update(*tensors, **factors)
    updates = rule.own_updates(pre, rule.currents(*tensors), kernel, *own, **factors)

    inputs, third = keras.Input(tuple(pre.shape[1:])), keras.Input(())
    layer = layers.HebbianDense(int(kernel.shape[-1]), plasticity=rule)
    outputs = layer(inputs, modulator=third) if silent else layer(inputs)
    model = keras.Model([inputs, third] if silent else inputs, outputs)
    for weight, value in zip([layer.kernel, *layer.own_weights], [kernel, *own], strict=True):
        # A copy, because a compiled step on JAX donates the buffers of its weights.
        weight.assign(ops.copy(value))
    rate = 0.01
    model.compile(keras.optimizers.SGD(rate))
    data = [ops.convert_to_numpy(pre), modulator[:, 0]] if silent else ops.convert_to_numpy(pre)
    model.fit(data, batch_size=len(modulator), shuffle=False, verbose=0)

    after = [
        before + rate * step if weight.trainable else step
        for weight, before, step in zip(layer.own_weights, own, updates, strict=True)
    ]
    start = ops.convert_to_numpy(kernel)
    step = ops.convert_to_numpy(rule.constrain(kernel + rate * update, *after)) - start
    moved = ops.convert_to_numpy(layer.kernel) - start
    _check(np.any(moved != 0), "one step of fit moves the kernel")
    # The difference of two float32 kernels has only a few correct digits.
    rounding = 1e-6 * np.abs(start).max() / max(np.abs(step).max(), 1e-30)
    _check_close("the step of fit", moved, step, tolerance + rounding)
    for weight, value in zip(layer.own_weights, after, strict=True):
        wanted = ops.convert_to_numpy(value)
        _check_close(f"{weight.name} after the step of fit", weight, wanted, max(tolerance, 1e-5))


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
    name, rule = type(layer).__name__, layer.feedback
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(6, *shape)).astype("float32")
    below = keras.layers.Dense(shape[-1], use_bias=False)
    model = keras.Sequential([keras.Input(shape), below, layer])
    _check_assignment(layer, rng)
    error_kernel = layer.feedback_kernel
    error_kernel = layer.kernel.value if error_kernel is None else error_kernel
    same = tuple(np.shape(error_kernel)) == tuple(layer.kernel.shape)
    _check(same, f"{name}: the error kernel has the kernel's shape")

    hidden = ops.matmul(inputs, below.kernel)
    plain = layer.linear_map.apply(hidden, layer.kernel) + layer.bias
    _check_close(f"{name}: the output", layer(hidden), ops.convert_to_numpy(plain), 0.0)

    # One step of SGD with step size 1 on the loss sum(y * target) shows the gradients, because the
    # error at the outputs is `target` for all weights.
    target = rng.normal(size=tuple(plain.shape)).astype("float32")
    sent = layer.linear_map.input_gradient(ops.convert_to_tensor(target), error_kernel, hidden)
    wanted = np.tensordot(inputs, ops.convert_to_numpy(sent), (range(len(shape)),) * 2)
    before = ops.convert_to_numpy(below.kernel)
    expected = _after_a_call(layer, hidden)
    model.compile(keras.optimizers.SGD(1.0), loss=_inner_product)
    with warnings.catch_warnings():
        # If a rule sends no errors, the layer below gets no gradient.
        warnings.filterwarnings("ignore", "Gradients do not exist")
        model.fit(inputs, target, batch_size=len(inputs), shuffle=False, verbose=0)
    gradient = before - ops.convert_to_numpy(below.kernel)
    if not rule.sends_errors:
        _check(not np.any(gradient), f"{name}: no error reaches the layer below")
    elif rule.draws and not np.allclose(gradient, wanted, tolerance, tolerance):
        # The error kernel may be drawn again in each step.
        _check(np.all(np.isfinite(gradient)) and np.any(gradient), f"{name}: an error goes down")
    else:
        allowed = max(tolerance, 1e-5)
        _check_close(f"{name}: the gradient below the layer", gradient, wanted, allowed)
    for weight, value in zip(layer.rule_weights, expected, strict=True):
        stays = np.allclose(ops.convert_to_numpy(weight), value, tolerance, tolerance)
        what = f"{name}: {weight.name} is not trainable, and no optimizer changes it"
        _check(weight.trainable or stays or rule.draws, what)


def _check_assignment(layer: layers.FeedbackLayer, rng: np.random.Generator) -> None:
    """Assign a feedback kernel, with the kernel's signs if the rule takes no others."""
    kernel = ops.convert_to_numpy(layer.kernel)
    chosen = rng.normal(size=kernel.shape).astype("float32")
    try:
        layer.assign_feedback_kernel(chosen)
    except ValueError:
        chosen = np.abs(chosen) * np.sign(kernel)
        try:
            layer.assign_feedback_kernel(chosen)
        except ValueError:
            return  # A rule without its own feedback kernel raises an error.
    found = ops.convert_to_numpy(layer.feedback_kernel)
    # A wrapper may give it another length.
    length = np.sum(found * chosen) / np.sum(chosen * chosen)
    name = type(layer).__name__
    _check(length > 0.0, f"{name}: the assigned feedback kernel carries the errors")
    _check_close(f"{name}: the assigned feedback kernel", found, length * chosen, 1e-5)


def _after_a_call(layer: layers.FeedbackLayer, inputs: Any) -> list[np.ndarray]:
    """Return the weights of the rule after a call in training, and restore them."""
    variables = [*layer.rule_weights, *layer.rule_states]
    before = [ops.convert_to_numpy(variable) for variable in variables]
    layer(inputs, training=True)
    after = [ops.convert_to_numpy(weight) for weight in layer.rule_weights]
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    return after


def _inner_product(target: Any, outputs: Any) -> Any:
    product = target * outputs
    # Keras takes the mean over the batch.
    return ops.sum(ops.reshape(product, (ops.shape(product)[0], -1)), axis=-1) * ops.cast(
        ops.shape(product)[0], product.dtype
    )
