"""Where an error uses a feedback kernel that no graph of its own layer shows to be of use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, models
from tests.support import (
    BACKEND,
    array,
    compile_options,
    probe,
    tensorflow_only,
    two_replicas,
)

RULE = "symmetric_alignment"


def dense(units: int = 6, idle: Any = "drop", **options: Any) -> Any:
    return layers.FeedbackDense(units, "tanh", feedback=RULE, idle_feedback=idle, **options)


def learns(layer: Any) -> bool:
    return bool(layer.rule_weights[0].trainable)


def fit(model: keras.Model, optimizer: Any = "sgd", **options: Any) -> keras.Model:
    model.compile(optimizer, "mse", **{**compile_options(), **options})
    return go_on(model)


def go_on(model: keras.Model) -> keras.Model:
    width = model(probe((1, 6))).shape[-1]
    model.fit(
        probe((16, 6)), np.zeros((16, width)), batch_size=8, epochs=2, shuffle=False, verbose=0
    )
    return model


def inner(idle: str) -> keras.Model:
    return keras.Sequential([keras.Input((6,)), dense(5, idle), dense(6, idle)], name="inner")


def stack(*parts: Any) -> keras.Model:
    return keras.Sequential([keras.Input((6,)), *parts])


class Above(keras.Model):
    """A model in Python, in which no graph shows what is below a layer."""

    def __init__(self, top: keras.Model) -> None:
        super().__init__()
        self.below = keras.layers.Dense(6)
        self.top = top

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.top(self.below(inputs), training=training)


class Holder(keras.layers.Layer):
    """A layer in Python with a model inside."""

    def __init__(self, held: keras.Model) -> None:
        super().__init__()
        self.held = held

    def build(self, input_shape: Any) -> None:
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.held(inputs, training=training)


def functional(idle: str) -> keras.Model:
    inputs = keras.Input((6,))
    return keras.Model(inputs, inner(idle)(keras.layers.Dense(6)(inputs)))


def of_another_shape(idle: str) -> keras.Model:
    # Keras does not go through an inner graph if the shapes are those that it has seen.
    inputs = keras.Input((6,), batch_size=8)
    return keras.Model(inputs, inner(idle)(keras.layers.Dense(6)(inputs)))


NESTED: dict[str, Callable[[str], keras.Model]] = {
    "functional": functional,
    "another shape": of_another_shape,
    "sequential": lambda idle: stack(keras.layers.Dense(6), inner(idle)),
    "twice": lambda idle: stack(keras.layers.Dense(6), stack(inner(idle))),
    "a layer": lambda idle: stack(keras.layers.Dense(6), Holder(inner(idle))),
    "subclass": lambda idle: Above(inner(idle)),
    "subclass of a subclass": lambda idle: Above(Above(inner(idle))),
    "a model over itself": lambda idle: (lambda model: stack(model, model))(inner(idle)),
}


def lowest(model: Any) -> Any:
    """The layer of five units, whose kernel would be idle if its own model were all."""
    return next(each for each in model._flatten_layers() if getattr(each, "units", 0) == 5)


def made(how: Callable[[str], keras.Model], idle: str) -> keras.Model:
    keras.utils.set_random_seed(3)
    return how(idle)


@pytest.mark.few(5, rest="daily")
@pytest.mark.parametrize("how", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize("eager", [True, False])
def test_an_error_that_needs_it_finds_it_trained(how: Any, eager: bool) -> None:
    kept, dropped = (made(how, idle) for idle in ("keep", "drop"))
    for model in (kept, dropped):
        fit(model, keras.optimizers.SGD(0.1, momentum=0.9), run_eagerly=eager)
    assert learns(lowest(dropped))
    assert len(kept.optimizer.variables) == len(dropped.optimizer.variables)
    for one, other in zip(kept.weights, dropped.weights, strict=True):
        np.testing.assert_array_equal(array(one), array(other))


@pytest.mark.parametrize("how", [functional, NESTED["twice"]], ids=["functional", "sequential"])
def test_nested_and_loaded_it_goes_on_as_before(how: Any, tmp_path: Path) -> None:
    model = fit(made(how, "drop"), keras.optimizers.Adam(0.1))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        go_on(each)
    pairs = zip(
        [*model.weights, *model.optimizer.variables],
        [*loaded.weights, *loaded.optimizer.variables],
        strict=True,
    )
    for one, other in pairs:
        np.testing.assert_array_equal(array(one), array(other))


@pytest.mark.parametrize("between", [lambda: keras.layers.Flatten(), lambda: stack(Flat())])
def test_nested_with_nothing_below_it_is_idle(between: Any) -> None:
    model = fit(stack(between(), inner("drop")))
    assert not learns(lowest(model))


class Flat(keras.layers.Layer):
    """A layer without weights."""

    def call(self, inputs: Any) -> Any:
        return inputs * 2.0


def test_alone_first_and_then_in_another_model() -> None:
    top = fit(inner("drop"))
    assert not learns(lowest(top))
    before = array(lowest(top).rule_weights[0])
    fit(Above(top))
    assert learns(lowest(top))
    assert np.abs(array(lowest(top).rule_weights[0]) - before).max() > 1e-4


def test_it_is_idle_above_frozen_layers_until_one_is_thawed() -> None:
    below = keras.layers.Dense(6, trainable=False)
    model = fit(stack(below, keras.layers.Activation("tanh"), dense(), dense()))
    first, second = model.layers[2:]
    start = array(first.rule_weights[0])
    assert not learns(first)
    assert learns(second)
    assert len(model.trainable_weights) == 5
    below.trainable = True
    assert learns(first)
    fit(model)
    assert np.abs(array(first.rule_weights[0]) - start).max() > 1e-4
    below.trainable = False
    now = array(first.rule_weights[0])
    fit(model)
    np.testing.assert_array_equal(array(first.rule_weights[0]), now)


@pytest.mark.parametrize("eager", [True, False])
def test_above_a_frozen_layer_all_else_learns_the_same(eager: bool) -> None:
    results = []
    for idle in ("keep", "drop"):
        keras.utils.set_random_seed(3)
        below = keras.layers.Dense(6, trainable=False)
        model = stack(below, dense(5, idle), dense(6, idle))
        fit(model, keras.optimizers.SGD(0.1, momentum=0.9), run_eagerly=eager)
        idle_weight = model.layers[1].rule_weights[0]
        results.append([array(each) for each in model.weights if each is not idle_weight])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=0.0 if eager else 1e-6)


def test_frozen_and_loaded_the_optimizer_has_its_state(tmp_path: Path) -> None:
    below = keras.layers.Dense(6, trainable=False)
    model = fit(stack(below, dense(), dense()), keras.optimizers.Adam(0.1))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not learns(loaded.layers[1])
    pairs = zip(model.optimizer.variables, loaded.optimizer.variables, strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(array(one), array(other))
    go_on(loaded)


def test_statistics_below_are_not_trained() -> None:
    below = keras.layers.Normalization()
    below.adapt(probe((16, 6)))
    model = fit(stack(below, dense()))
    assert not learns(model.layers[1])


def test_a_weight_that_the_user_froze_stays_frozen() -> None:
    below = keras.layers.Dense(6)
    model = stack(below, dense())
    weight = model.layers[1].rule_weights[0]
    weight.trainable = False
    for value in (False, True):
        below.trainable = value
        assert len(model.trainable_weights) == 2 + 2 * value
        assert not weight.trainable


def test_two_layers_that_are_below_each_other() -> None:
    one, other = dense(), dense()
    inputs = [keras.Input((6,)), keras.Input((6,))]
    model = keras.Model(inputs, [other(one(inputs[0])), one(other(inputs[1]))])
    assert [len(each.trainable_weights) for each in (one, other, model)] == [3, 3, 6]


def test_one_layer_in_two_models() -> None:
    shared = dense()
    alone = stack(shared)
    above = stack(keras.layers.Dense(6), shared)
    for model in (alone, above, alone):
        fit(model)
        assert learns(shared)


def test_align_above_layers_that_it_freezes() -> None:
    model = stack(keras.layers.Dense(6), dense(), dense())
    start = [array(layer.rule_weights[0]) for layer in model.layers[1:]]
    models.align(model, probe((32, 6)), batch_size=8, verbose=0)
    for layer, before in zip(model.layers[1:], start, strict=True):
        assert np.abs(array(layer.rule_weights[0]) - before).max() > 1e-4
        assert learns(layer)
    assert len(model.trainable_weights) == 8


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a step for each backend is another")
def test_a_model_that_trains_two_others() -> None:
    import tensorflow as tf

    class Adversaries(keras.Model):
        """The step of a generator and a discriminator, as Keras' examples write it."""

        def __init__(self) -> None:
            super().__init__()
            self.generator = stack(keras.layers.Dense(6))
            self.discriminator = stack(dense(5), dense(1))
            self.optimizers = [keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1)]

        def train_step(self, data: Any) -> dict[str, Any]:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self.discriminator(data, training=True))
                loss += sum(self.discriminator.losses)
            weights = self.discriminator.trainable_weights
            self.optimizers[0].apply(tape.gradient(loss, weights), weights)
            with tf.GradientTape() as tape:
                made = self.generator(data, training=True)
                loss = tf.reduce_mean(self.discriminator(made, training=True))
            weights = self.generator.trainable_weights
            self.optimizers[1].apply(tape.gradient(loss, weights), weights)
            return {"loss": loss}

    model = Adversaries()
    first = model.discriminator.layers[0]
    start = array(first.rule_weights[0])
    model.compile(**compile_options())
    model.fit(probe((16, 6)), batch_size=8, verbose=0)
    assert learns(first)
    assert np.abs(array(first.rule_weights[0]) - start).max() > 1e-6


@tensorflow_only
def test_in_a_wrapper_of_keras() -> None:
    inputs = keras.Input((3, 6))
    hidden = keras.layers.Dense(6)(inputs)
    model = keras.Model(inputs, keras.layers.TimeDistributed(inner("drop"))(hidden))
    model.compile("sgd", "mse", **compile_options())
    model.fit(probe((8, 3, 6)), np.zeros((8, 3, 6)), verbose=0)
    assert learns(lowest(model))


@tensorflow_only
@pytest.mark.parametrize(("how", "used"), [(Above, True), (stack, False)])
def test_two_replicas(how: Any, used: bool) -> None:
    with two_replicas().scope():
        model = how(inner("drop"))
        model.compile("sgd", "mse", jit_compile=False)
    model.fit(probe((16, 6)), np.zeros((16, 6)), batch_size=8, verbose=0)
    assert learns(lowest(model)) is used


@tensorflow_only
@pytest.mark.parametrize(("how", "used"), [(Above, True), (stack, False)])
def test_with_xla(how: Any, used: bool) -> None:
    model = fit(how(inner("drop")), jit_compile=True)
    assert learns(lowest(model)) is used


@tensorflow_only
def test_a_learner_has_what_the_model_has(tmp_path: Path) -> None:
    model = stack(dense(5), dense())
    model.compile(keras.optimizers.SGD(0.1), "mse", **compile_options())
    start = array(lowest(model).rule_weights[0])
    report = models.export_learner(model, tmp_path / "learner", batch_size=8)
    assert len(report.weights) == len(model.trainable_weights) == 5
    assert not learns(lowest(model))
    np.testing.assert_array_equal(array(lowest(model).rule_weights[0]), start)
