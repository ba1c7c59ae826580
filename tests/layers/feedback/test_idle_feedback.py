"""A feedback kernel that no error uses takes no part in training, if the layer is told so."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers, metrics, models
from keras_local.feedback import FeedbackWeight
from tests.support import BACKEND, array, compile_options, probe, tensorflow_only

SYMMETRIC = "symmetric_alignment"
RULES = {
    "symmetric": SYMMETRIC,
    "activation": "activation_alignment",
    "information": "information_alignment",
    "every second step": feedback.SymmetricAlignment(every=2),
    "rate": feedback.KolenPollack(rate=0.5),
    "decay": feedback.KolenPollack(decay=0.1),
}


def dense(units: int = 6, rule: Any = SYMMETRIC, idle: Any = "drop", **options: Any) -> Any:
    return layers.FeedbackDense(units, "tanh", feedback=rule, idle_feedback=idle, **options)


def learns(layer: Any) -> bool:
    return bool(layer.rule_weights[0].trainable)


def fit(model: keras.Model, optimizer: Any = "sgd", **options: Any) -> keras.Model:
    model.compile(optimizer, "mse", **{**compile_options(), **options})
    targets = np.zeros((16, *model.output_shape[1:])) if model.built else np.zeros((16, 6))
    model.fit(probe((16, 6)), targets, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model


def net(rule: Any, idle: str) -> keras.Model:
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [keras.Input((6,)), dense(5, rule, idle), dense(4, rule, idle), dense(3, rule, idle)]
    )


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_all_else_learns_the_same_to_the_bit(rule: Any) -> None:
    # A compiler may round otherwise where a tensor has one use less.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        momentum = [keras.optimizers.SGD(0.1, momentum=0.9) for _ in range(2)]
        kept = fit(net(rule, "keep"), momentum[0], run_eagerly=True)
        dropped = fit(net(rule, "drop"), momentum[1], run_eagerly=True)
    first = array(net(rule, "drop").layers[0].rule_weights[0])
    assert len(dropped.trainable_weights) == len(kept.trainable_weights) - 1
    assert len(dropped.optimizer.variables) == len(kept.optimizer.variables) - 1
    for one, other in zip(kept.weights, dropped.weights, strict=True):
        if other is dropped.layers[0].rule_weights[0]:
            np.testing.assert_array_equal(array(other), first)
            assert np.abs(array(one) - first).max() > 1e-4
        else:
            np.testing.assert_array_equal(array(one), array(other))


def test_a_layer_keeps_it_unless_told() -> None:
    layer = layers.FeedbackDense(6, feedback=SYMMETRIC)
    fit(keras.Sequential([keras.Input((6,)), layer]))
    assert learns(layer)
    assert "idle_feedback" not in layer.get_config()


@pytest.mark.parametrize("value", ["none", None, True, 1])
def test_unknown_values_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"idle_feedback.* must be one of 'keep', 'drop'"):
        dense(idle=value)


def test_no_weights_below() -> None:
    layer = dense()
    inputs = keras.Input((6,))
    hidden = keras.layers.Dropout(0.1)(keras.ops.tanh(keras.layers.Flatten()(inputs)))
    fit(keras.Model(inputs, layer(hidden)))
    assert not learns(layer)
    assert layer.feedback_kernel.shape == layer.kernel.shape


def test_weights_below() -> None:
    layer = dense()
    fit(keras.Sequential([keras.Input((6,)), keras.layers.Dense(6), layer]))
    assert learns(layer)


def test_a_layer_that_is_called_twice() -> None:
    layer = dense()
    inputs = keras.Input((6,))
    fit(keras.Model(inputs, layer(layer(inputs))))
    assert learns(layer)


def test_a_layer_outside_of_a_graph() -> None:
    layer = dense()
    layer(probe((2, 6)), training=True)
    assert learns(layer)


def test_freezing_and_thawing() -> None:
    model = keras.Sequential([keras.Input((6,)), dense(), dense()])
    for value in (False, True):
        model.trainable = value
        assert model.layers[0].trainable is value
        assert model.layers[0].kernel.trainable is value
        assert not learns(model.layers[0])
        assert learns(model.layers[1]) is value


def test_a_kernel_that_learns_from_feedback_weights_needs_them() -> None:
    layer = dense(rule=feedback.ActivationAlignment(update_forward=True))
    fit(keras.Sequential([keras.Input((6,)), layer]))
    assert learns(layer)


@pytest.mark.parametrize("wrap", [feedback.MatchedNorm, feedback.NoisyUpdates])
def test_wrappers_say_what_the_rule_inside_says(wrap: Any) -> None:
    for rule in (feedback.SymmetricAlignment(), feedback.SymmetricAlignment(update_forward=True)):
        layer = dense(rule=wrap(rule))
        fit(keras.Sequential([keras.Input((6,)), layer]))
        assert learns(layer) is rule.update_forward


def test_connectivity() -> None:
    layer = dense(connectivity=0.5)
    fit(keras.Sequential([keras.Input((6,)), layer]))
    assert not learns(layer)


class Delta(feedback.FeedbackRule):
    """A user's rule, which knows nothing of idle kernels: B learns from the error."""

    def weights(self, kernel: Any, initializer: Any) -> list[FeedbackWeight]:
        return [FeedbackWeight("b", tuple(kernel.shape), initializer, True)]

    def error_kernel(self, kernel: Any, *weights: Any) -> Any:
        return weights[0]

    def assignment(self, kernel: Any, value: Any) -> list[Any]:
        return [value]

    def feedback_gradients(self, signals: Any) -> tuple[Any, ...]:
        return (signals.kernel_gradient,)


class Local(Delta):
    """B and the kernel learn from activity."""

    def local_gradients(self, synapses: Any, inputs: Any, outputs: Any) -> tuple[Any, ...]:
        return None, synapses.feedback[0]


class LocalButApart(Local):
    """The same, and says so."""

    @property
    def feedback_teaches_kernel(self) -> bool:
        return False


@pytest.mark.parametrize(("rule", "used"), [(Delta, False), (Local, True), (LocalButApart, False)])
def test_rules_of_a_user(rule: Any, used: bool) -> None:
    layer = dense(rule=rule())
    fit(keras.Sequential([keras.Input((6,)), layer]))
    assert learns(layer) is used


def test_saving_and_going_on(tmp_path: Path) -> None:
    model = fit(net(SYMMETRIC, "drop"), keras.optimizers.Adam(0.1))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not learns(loaded.layers[0])
    assert learns(loaded.layers[1])
    targets = np.zeros((16, 3))
    for each in (model, loaded):
        each.fit(probe((16, 6)), targets, batch_size=8, shuffle=False, verbose=0)
    pairs = zip(model.weights, loaded.weights, strict=True)
    pairs = [*pairs, *zip(model.optimizer.variables, loaded.optimizer.variables, strict=True)]
    for one, other in pairs:
        np.testing.assert_array_equal(array(one), array(other))


def test_weights_of_either_load_into_the_other(tmp_path: Path) -> None:
    for one, other in (("keep", "drop"), ("drop", "keep")):
        model, second = fit(net(SYMMETRIC, one)), net(SYMMETRIC, other)
        model.save_weights(tmp_path / f"{one}.weights.h5")
        second.load_weights(tmp_path / f"{one}.weights.h5")
        for ours, theirs in zip(model.weights, second.weights, strict=True):
            np.testing.assert_array_equal(array(ours), array(theirs))


def test_align_is_asked_for() -> None:
    model = keras.Sequential([keras.Input((6,)), dense()])
    models.align(model, np.ones((400, 6)), batch_size=1, verbose=0)
    layer = model.layers[0]
    assert metrics.alignment_angle(layer.kernel, layer.feedback_kernel) < 5
    assert not learns(layer)


def test_an_error_in_inference_needs_no_training() -> None:
    model = keras.Sequential([keras.Input((6,)), dense()])
    assert error_at_inputs(model, training=False).shape == (16, 6)
    with pytest.raises(ValueError, match="`idle_feedback` of layer"):
        error_at_inputs(model, training=True)


def error_at_inputs(model: Any, training: bool) -> np.ndarray:
    """The gradient of the outputs' sum at the inputs."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        inputs = tf.constant(probe((16, 6)))
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = tf.reduce_sum(model(inputs, training=training))
        return array(tape.gradient(total, inputs))
    if BACKEND == "jax":
        import jax

        state = [each.value for each in model.non_trainable_variables]

        def total_of(weights: Any, inputs: Any) -> Any:
            return model.stateless_call(weights, state, inputs, training=training)[0].sum()

        weights = [each.value for each in model.trainable_variables]
        return np.array(jax.grad(jax.jit(total_of), 1)(weights, probe((16, 6))))
    import torch

    inputs = torch.tensor(probe((16, 6)), requires_grad=True)
    model(inputs, training=training).sum().backward()
    return np.array(inputs.grad)


@tensorflow_only
def test_a_function_inside_of_a_tape_is_refused_where_it_is_differentiated() -> None:
    # While it is traced, it cannot know whether the tape around it watches its argument.
    import tensorflow as tf

    model = keras.Sequential([keras.Input((6,)), dense()])
    inner = tf.function(lambda inputs: model(inputs, training=True))
    variable = tf.Variable(probe((16, 6)))
    with pytest.raises(ValueError, match="`idle_feedback` of layer"), tf.GradientTape() as tape:
        tape.gradient(inner(variable * 1.0), variable)


@tensorflow_only
def test_a_step_of_ones_own() -> None:
    import tensorflow as tf

    model, optimizer = net(SYMMETRIC, "drop"), keras.optimizers.SGD(0.1)

    @tf.function(autograph=False)
    def step(inputs: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(inputs, training=True)) + sum(model.losses)
        weights = model.trainable_weights
        optimizer.apply(tape.gradient(loss, weights), weights)

    before = array(model.layers[0].kernel)
    step(tf.constant(probe((16, 6))))
    assert np.abs(array(model.layers[0].kernel) - before).max() > 1e-3
