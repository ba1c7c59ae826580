"""Feedback weights that no error uses rest: they keep their values, and cost nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import callbacks, feedback, layers, models
from tests.support import BACKEND, array, compile_options, probe, tensorflow_only, two_replicas

X, Y = probe((16, 5)), np.arange(16) % 3
SA = feedback.SymmetricAlignment(0.5, 0.5)
RULES: dict[str, Any] = {
    "symmetric_alignment": lambda: SA,
    "activation_alignment": lambda: feedback.ActivationAlignment(0.5, 0.5, every=2),
    "information_alignment": lambda: "information_alignment",
    "kolen_pollack": lambda: feedback.KolenPollack(separate=True),
    "kolen_pollack_decay": lambda: feedback.KolenPollack(decay=0.1),
    "wrapped": lambda: feedback.MatchedNorm(feedback.RandomConnectivity(SA, 0.7, seed=2)),
}


def stack(rule: Any, lowest: Any = None) -> keras.Sequential:
    """Three layers, whose first values are the same each time."""
    units = {"a": 4, "b": 6, "c": 3}
    return keras.Sequential(
        [
            keras.Input((5,)),
            *(
                layers.FeedbackDense(
                    n,
                    "tanh",
                    feedback=lowest if name == "a" and lowest is not None else rule,
                    kernel_initializer=keras.initializers.GlorotUniform(seed=n),
                    name=name,
                )
                for name, n in units.items()
            ),
        ]
    )


def compiled(model: keras.Model, optimizer: Any = None) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1, 0.9), loss, **compile_options())
    return model


def fit(model: keras.Model, epochs: int = 1) -> list[float]:
    options = {"batch_size": 8, "epochs": epochs, "shuffle": False, "verbose": 0}
    losses: list[float] = model.fit(X, Y, **options).history["loss"]
    return losses


def rests(model: keras.Model) -> list[bool]:
    return [layer.feedback_rests for layer in model.layers]


def sent(model: keras.Model) -> list[Any]:
    return [array(layer.feedback_kernel) for layer in model.layers]


def moved(model: keras.Model, before: list[Any]) -> list[bool]:
    return [bool(np.any(a != b)) for a, b in zip(sent(model), before, strict=True)]


def momenta(model: keras.Model) -> int:
    return sum(len(variable.shape) > 0 for variable in model.optimizer.variables)


@pytest.mark.parametrize("name", [name for name in RULES if name != "kolen_pollack_decay"])
def test_the_lowest_rests_and_all_else_is_equal_to_the_bit(name: str) -> None:
    """It learns like a net whose lowest layer has no feedback weights, as a built-in one."""
    model = compiled(stack(RULES[name]()))
    plain = compiled(stack(RULES[name](), lowest="symmetric"))
    before = [array(weight) for weight in model.layers[0].rule_weights]
    assert fit(model, 3) == fit(plain, 3)
    assert rests(model) == [True, False, False]
    assert momenta(model) == momenta(plain) == 8
    for one, other in zip(model.layers[0].rule_weights, before, strict=True):
        np.testing.assert_array_equal(array(one), other)
    for one, other in zip(model.layers, plain.layers, strict=True):
        np.testing.assert_array_equal(array(one.kernel), array(other.kernel))
    for one, other in zip(model.layers[1:], plain.layers[1:], strict=True):
        np.testing.assert_array_equal(array(one.feedback_kernel), array(other.feedback_kernel))


@pytest.mark.parametrize("name", RULES)
def test_always_trained(name: str) -> None:
    model, always = (
        compiled(stack(rule))
        for rule in (RULES[name](), feedback.AlwaysTrained(feedback.get(RULES[name]())))
    )
    before, shapes = array(always.layers[0].rule_weights[0]), [w.shape for w in model.weights]
    np.testing.assert_allclose(fit(model, 3), fit(always, 3), rtol=1e-5)
    assert rests(always) == [False] * 3
    assert np.any(array(always.layers[0].rule_weights[0]) != before)
    assert momenta(model) == momenta(always) - 1
    assert [weight.shape for weight in model.weights] == shapes


def test_noise_is_not_drawn_for_it() -> None:
    model = compiled(stack(feedback.NoisyUpdates(feedback.WeightMirror())))
    before, state = sent(model), array(model.layers[0].rule_states[0])
    fit(model)
    assert moved(model, before) == [False, True, True]
    np.testing.assert_array_equal(array(model.layers[0].rule_states[0]), state)


@pytest.mark.parametrize("rule", ["kolen_pollack", "feedback_alignment", "symmetric"])
def test_what_costs_nothing_does_not_rest(rule: str) -> None:
    model = compiled(stack(rule))
    fit(model)
    assert rests(model) == [False] * 3


def test_a_kernel_that_learns_by_the_feedback_needs_it() -> None:
    model = compiled(stack(feedback.SymmetricAlignment(update_forward=True)))
    fit(model)
    assert rests(model) == [False] * 3


def test_one_rule_by_name() -> None:
    model = compiled(stack(SA, lowest=feedback.AlwaysTrained(SA)))
    before = sent(model)
    fit(model)
    assert moved(model, before) == [True] * 3


def test_above_trained_layers_of_another_model_it_learns() -> None:
    """The inner model alone would let its lowest layer rest."""
    inner = compiled(stack(SA))
    fit(inner)
    assert rests(inner) == [True, False, False]
    outer = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5), inner])
    before = sent(inner)
    fit(compiled(outer))
    assert rests(inner) == [False] * 3
    assert moved(inner, before) == [True] * 3
    fit(compiled(inner))
    assert rests(inner) == [True, False, False]


def test_freezing_and_unfreezing_below() -> None:
    model = stack(SA)
    model.layers[0].trainable = False
    fit(compiled(model))
    assert rests(model)[1:] == [True, False]
    before = sent(model)
    fit(compiled(model))
    assert moved(model, before) == [False, False, True]
    model.layers[0].trainable = True
    fit(compiled(model))
    assert rests(model) == [True, False, False]
    assert moved(model, before) == [False, True, True]
    assert momenta(model) == 8


def test_a_frozen_model_that_learns_again() -> None:
    """Keras then sets the flag of every weight."""
    model = compiled(stack(SA))
    fit(model)
    model.trainable = False
    model.trainable = True
    before = sent(model)
    fit(compiled(model))
    assert rests(model) == [True, False, False]
    assert moved(model, before) == [False, True, True]


def test_branches() -> None:
    """A layer that is shared needs its errors if one of its calls does."""
    first, second = keras.Input((5,)), keras.Input((5,))
    shared = layers.FeedbackDense(5, feedback=SA)
    alone = layers.FeedbackDense(5, feedback=SA)
    added = keras.layers.Add()([shared(first), shared(keras.layers.Dense(5)(second))])
    outputs = keras.layers.Dense(3)(keras.layers.Add()([added, alone(first)]))
    model = compiled(keras.Model([first, second], outputs))
    model.fit([X, X], Y, verbose=0)
    assert (shared.feedback_rests, alone.feedback_rests) == (False, True)


def test_nobody_knows_what_lies_below_in_a_model_with_its_own_call() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layers.FeedbackDense(3, feedback=SA)

        def call(self, inputs: Any) -> Any:
            return self.layer(inputs)

    model = compiled(Own())
    fit(model)
    assert not model.layer.feedback_rests


@pytest.mark.skipif(BACKEND == "jax", reason="there it is not known")
def test_a_gradient_at_the_inputs_uses_the_error() -> None:
    class Adversarial(keras.Model):
        def train_step(self, *data: Any) -> Any:
            x = data[-1][0]
            if BACKEND == "torch":
                self(x.requires_grad_(True), training=True)
                return {"loss": 0.0}
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = self(x, training=True)
            return {"loss": tf.reduce_sum(tape.gradient(outputs, x))}

    inputs = keras.Input((5,))
    layer = layers.FeedbackDense(3, feedback=SA)
    model = compiled(Adversarial(inputs, layer(inputs)))
    fit(model)
    assert not layer.feedback_rests
    fit(compiled(keras.Model(inputs, layer(inputs))))
    assert layer.feedback_rests


@pytest.mark.parametrize("kind", ["keras", "weights"])
def test_a_file_holds_it_and_training_goes_on(kind: str, tmp_path: Path) -> None:
    model = compiled(stack(SA))
    fit(model)
    if kind == "keras":
        model.save(tmp_path / "net.keras")
        again = keras.saving.load_model(tmp_path / "net.keras")
        assert rests(again) == [True, False, False]
    else:
        model.save_weights(tmp_path / "net.weights.h5")
        again = compiled(stack(SA))
        again(X)  # Called, it knows its optimizer's variables before they are loaded.
        again.optimizer.build(again.trainable_variables)
        again.load_weights(tmp_path / "net.weights.h5")
    assert len(again.optimizer.variables) == len(model.optimizer.variables)
    again.jit_compile = model.jit_compile
    assert fit(model, 2) == fit(again, 2)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(array(one), array(other))


def test_a_file_of_an_earlier_version_goes_on_as_it_was(tmp_path: Path) -> None:
    """Its config does not say what rests, and its optimizer has a momentum for each kernel."""
    model = stack(SA)
    config = model.layers[0].get_build_config()
    assert config.pop("feedback_rests") is False
    old = layers.FeedbackDense.from_config(model.layers[0].get_config())
    old.build_from_config(config)
    fit(compiled(keras.Sequential([keras.Input((5,)), old])))
    assert not old.feedback_rests
    assert "feedback_rests" not in old.get_build_config()


def test_a_run_that_is_taken_up_again(tmp_path: Path) -> None:
    """Its optimizer is built before the first step."""
    options: dict[str, Any] = {"every": 1, "batch_size": 8, "verbose": 0}
    for epochs in (1, 3):
        model = compiled(stack(SA))
        callbacks.resume_fit(model, X, Y, directory=tmp_path / "run", epochs=epochs, **options)
    whole = compiled(stack(SA))
    callbacks.resume_fit(whole, X, Y, directory=tmp_path / "whole", epochs=3, **options)
    assert rests(model) == rests(whole) == [True, False, False]
    assert momenta(model) == 8
    for one, other in zip(model.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(array(one), array(other))


def test_the_phase_that_trains_feedback_alone() -> None:
    model = compiled(stack(SA))
    fit(model)
    before = sent(model)
    models.align(model, X, batch_size=8, verbose=0)
    assert moved(model, before) == [True] * 3
    assert rests(model) == [True, False, False]
    before = sent(model)
    fit(model)
    assert moved(model, before) == [False, True, True]


def test_a_monitor_reports_it_if_asked_to() -> None:
    model = compiled(stack(SA))
    fit(model)
    monitor = callbacks.AlignmentMonitor(layers=["a", "b"])
    history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[monitor]).history
    assert len(set(history["norm_ratio/b"])) == 2
    assert np.isfinite(history["alignment_angle/a"]).all()


@tensorflow_only
def test_two_replicas() -> None:
    with two_replicas().scope():
        model = compiled(stack(SA))
    before = sent(model)
    fit(model)
    assert rests(model) == [True, False, False]
    assert moved(model, before) == [False, True, True]
    assert momenta(model) == 8
