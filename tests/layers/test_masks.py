"""What a mask leaves out changes nothing: no weight, no mean, no memory, whatever stands there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from keras_local import layers
from tests.support import (
    BACKEND,
    array,
    compile_options,
    largest_difference,
    two_replicas,
    weights_of,
)

STEPS, MORE, FEATURES, BATCH = 5, 3, 4, 6
RNG = np.random.default_rng(4)
X = RNG.random((BATCH, STEPS, FEATURES)).astype("float32")
VALID = np.ones((BATCH, STEPS), bool)
VALID[1, 3:], VALID[4, 0] = False, False

plasticity = kl.plasticity
RULES: dict[str, Callable[[], Any]] = {
    "hebb": plasticity.Hebb,
    "oja": plasticity.Oja,
    "oja_subspace": plasticity.OjaSubspace,
    "sanger": plasticity.Sanger,
    "bcm": plasticity.BCM,
    "krotov_hopfield": lambda: plasticity.KrotovHopfield(p=3.0),
    "krotov_dynamics": plasticity.KrotovHopfieldDynamics,
    "soft_hebb": plasticity.SoftHebb,
    "hard_wta": plasticity.HardWTA,
    "kwta": plasticity.KWTA,
    "hpca": plasticity.HPCA,
    "foldiak": plasticity.Foldiak,
    "similarity_matching": plasticity.SimilarityMatching,
    "convallis": plasticity.Convallis,
    "nonlinear": plasticity.NonlinearHebbian,
    "eligibility": lambda: plasticity.EligibilityRule(plasticity.Oja(), tau=4.0),
    "reward": plasticity.RewardModulatedHebb,
    "third_factor": plasticity.ThirdFactor,
}


MODULATED = ("eligibility", "reward", "third_factor")


def padded(content: float) -> tuple[np.ndarray, np.ndarray]:
    """Masked steps inside hold `content`, and more of them are behind."""
    behind = np.full((BATCH, MORE, FEATURES), content, "float32")
    inside = np.where(VALID[..., None], X, np.float32(content))
    mask = np.concatenate([VALID, np.zeros((BATCH, MORE), bool)], axis=1)
    return np.concatenate([inside, behind], axis=1), mask


class Learner(keras.Model):
    """A layer whose mask, and third factor, come with the inputs."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        others = {key: inputs[key] for key in inputs if key != "x"}
        return self.layer(inputs["x"], training=training, **others)


def learned(make: Callable[[], Any], **inputs: Any) -> list[np.ndarray]:
    """The weights of a layer after two steps of training on the same batch."""
    keras.utils.set_random_seed(3)
    model = Learner(make())
    model.layer.build(inputs["x"].shape)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    for _ in range(2):
        model.train_on_batch(inputs)
    return [array(weight) for weight in model.layer.weights]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


LAW = keras.initializers.RandomNormal(stddev=0.7, seed=2)


def modulators(rule: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The third factor of a rule that has one: for all steps, and for those that count."""
    if rule not in MODULATED:
        return {}, {}
    factor = np.linspace(-1.0, 2.0, BATCH, dtype="float32")[:, None]
    every = np.repeat(factor, STEPS + MORE, axis=1)
    return {"modulator": every}, {"modulator": every[:, :STEPS][VALID]}


@pytest.mark.parametrize("rule", RULES)
def test_rows_that_are_masked_do_not_count(rule: str) -> None:
    """A mask is as good as leaving the rows out; it moves something; content is never seen."""

    def make() -> Any:
        return layers.HebbianDense(5, plasticity=RULES[rule](), kernel_initializer=LAW)

    every, rows = modulators(rule)
    kept = learned(make, x=X[VALID], **rows)
    start = learned(make, x=X[VALID], mask=np.zeros(VALID.sum(), bool), **rows)
    assert not np.allclose(kept[0], start[0])
    for content in (0.0, 1e6):
        x, mask = padded(content)
        assert_same(learned(make, x=x, mask=mask, **every), kept)


# The constraint of Convallis goes on towards the mean rate in every step of the optimizer.
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "convallis"])
def test_nothing_present_changes_nothing(rule: str) -> None:
    def make() -> Any:
        return layers.HebbianDense(5, plasticity=RULES[rule](), kernel_initializer=LAW)

    modulator = {"modulator": np.ones((BATCH,), "float32")}
    modulator = modulator if rule in MODULATED else {}
    x, mask = padded(1e6)
    model = Learner(make())
    model.layer.build(x.shape)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    model.train_on_batch({"x": x, "mask": mask, **modulator})
    before = [array(weight) for weight in model.layer.weights]
    model.train_on_batch({"x": x, "mask": np.zeros_like(mask), **modulator})
    # A constraint acts again on weights that obey it.
    assert_same([array(weight) for weight in model.layer.weights], before)


WAYS = ["graph", "xla", "replicas"] if BACKEND == "tensorflow" else ["compiled"]


def fitted(make: Callable[[], Any], way: str, **inputs: Any) -> list[np.ndarray]:
    """The weights after two steps of `fit`, as a graph, compiled, or shared by two replicas."""
    keras.utils.set_random_seed(3)
    with two_replicas().scope() if way == "replicas" else nullcontext():
        model = Learner(make())
        model.layer.build(inputs["x"].shape)
        model.compile(keras.optimizers.SGD(0.1), **compile_options(way == "xla"))
    # TensorFlow adds up what its replicas see, and adds no booleans.
    inputs = {name: value.astype("float32") for name, value in inputs.items()}
    model.fit(inputs, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    return [array(weight) for weight in model.layer.weights]


@pytest.mark.few(3)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("way", WAYS)
def test_masked_rows_do_not_count_in_any_way_of_training(rule: str, way: str) -> None:
    """Two replicas see different numbers of valid rows, and learn from all of them alike."""

    def make() -> Any:
        return layers.HebbianDense(5, plasticity=RULES[rule](), kernel_initializer=LAW)

    every, rows = modulators(rule)
    x, mask = padded(1e6)
    assert_same(fitted(make, way, x=x, mask=mask, **every), learned(make, x=X[VALID], **rows))


def test_pointwise_rules() -> None:
    rule = plasticity.PointwiseRule(lambda x, y, w: x * y - w)

    def make() -> Any:
        return layers.HebbianDense(5, plasticity=rule, kernel_initializer=LAW)

    x, mask = padded(1e6)
    assert_same(learned(make, x=x, mask=mask), learned(make, x=X[VALID]))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("rule", ["oja", "bcm", "krotov_hopfield"])
def test_padding_behind_a_sequence(padding: Any, rule: str) -> None:
    """A convolution over time learns what it learns of the sequences without their padding."""

    def make() -> Any:
        return layers.HebbianConv1D(
            5, 3, padding=padding, plasticity=RULES[rule](), kernel_initializer=LAW
        )

    expected = learned(make, x=X)
    for content in (0.0, 1e6):
        behind = np.full((BATCH, MORE, FEATURES), content, "float32")
        mask = np.arange(STEPS + MORE)[None] < np.full((BATCH, 1), STEPS)
        assert_same(learned(make, x=np.concatenate([X, behind], 1), mask=mask), expected)


def test_masks_that_a_convolution_cannot_serve() -> None:
    for arguments in ({"padding": "reflect"}, {"padding": "same", "strides": 2}):
        layer = layers.HebbianConv1D(5, 3, **arguments)
        with pytest.raises(ValueError, match="`padding` must be"):
            layer(X, mask=VALID)
    with pytest.raises(ValueError, match="`mask` must be of fewer axes"):
        layers.HebbianDense(3)(X, mask=np.ones(X.shape, bool))


@pytest.mark.slow
def test_images_and_separate_weights() -> None:
    """What is masked in an image is not seen, by shared weights and by those of each position."""
    images = RNG.random((BATCH, 5, 4, 2)).astype("float32")
    mask = np.ones((BATCH, 5, 4), bool)
    mask[:, 3:] = False
    mask[0, 1, 1] = False
    for kind in (layers.HebbianConv2D, layers.HebbianLocallyConnected2D):
        for rule in ("oja", "bcm", "similarity_matching"):

            def make(kind: Any = kind, rule: str = rule) -> Any:
                return kind(3, 2, plasticity=RULES[rule](), kernel_initializer=LAW)

            found = [
                learned(make, x=np.where(mask[..., None], images, np.float32(content)), mask=mask)
                for content in (0.0, 1e6)
            ]
            assert_same(*found)
            # Positions that never see a whole patch keep their weights.
            if kind is layers.HebbianLocallyConnected2D:
                layer = make()
                layer.build(images.shape)
                np.testing.assert_array_equal(found[0][0][2:], array(layer.weights[0])[2:])
                assert not np.allclose(found[0][0][:2], array(layer.weights[0])[:2])


ACTIVE = [
    kl.feedback.WeightMirror(noise=None),
    kl.feedback.ActivationAlignment(centre=True, respond=True),
    kl.feedback.InformationAlignment(update_forward=True),
    kl.feedback.SymmetricAlignment(),
]


def feedback_layer(rule: Any) -> Any:
    return layers.FeedbackDense(
        5,
        "tanh",
        feedback=rule,
        kernel_initializer=LAW,
        feedback_initializer=keras.initializers.RandomNormal(seed=5),
    )


@pytest.mark.parametrize("rule", ACTIVE, ids=lambda rule: type(rule).__name__)
def test_feedback_that_learns_from_activity(rule: Any) -> None:
    kept = learned(lambda: feedback_layer(rule), x=X[VALID])
    flat = [padded(content) for content in (0.0, 1e6)]
    for x, mask in flat:
        rows = x.reshape(-1, FEATURES)
        found = learned(lambda: feedback_layer(rule), x=rows, mask=mask.reshape(-1))
        assert_same(found, kept)
    assert_same(*(learned(lambda: feedback_layer(rule), x=x, mask=mask) for x, mask in flat))


@pytest.mark.few(2)
@pytest.mark.parametrize("rule", ACTIVE, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("way", WAYS)
def test_activity_in_any_way_of_training(rule: Any, way: str) -> None:
    """Two replicas have different numbers of rows that count."""
    (clean, mask), (x, _) = padded(0.0), padded(1e6)
    step_by_step = learned(lambda: feedback_layer(rule), x=clean, mask=mask)
    assert_same(fitted(lambda: feedback_layer(rule), way, x=x, mask=mask), step_by_step)


KINDS: dict[str, Callable[..., Any]] = {
    "dense": lambda **options: layers.FeedbackDense(5, "tanh", **options),
    "simple": lambda **options: layers.FeedbackSimpleRNN(5, **options),
    "lstm": lambda **options: layers.FeedbackLSTM(5, **options),
    "gru": lambda **options: layers.FeedbackGRU(5, **options),
    "leaky": lambda **options: layers.LeakyRNN(5, 3.0, time_rule="eprop", **options),
    "cells": lambda **options: layers.FeedbackRNN(
        [keras.layers.GRUCell(4), keras.layers.LSTMCell(5)], **options
    ),
    "direct": lambda **options: layers.FeedbackDense(5, "tanh", feedback="detached"),
    "attention": lambda **options: layers.FeedbackMultiHeadAttention(2, 3, **options),
}


def below_a_loss(kind: str) -> keras.Model:
    """A layer between a mask and the logits of each step; the last feature says what is there."""
    inputs = keras.Input((None, FEATURES + 1))
    cut = keras.layers.Lambda(lambda x: x[..., :-1], mask=lambda x, _: x[..., -1] > 0.5)
    options: dict[str, Any] = {"feedback": kl.feedback.ActivationAlignment(0.5, 0.5, centre=True)}
    if kind in ("simple", "lstm", "gru", "leaky", "cells"):
        options["return_sequences"] = True
    if kind == "attention":
        hidden = cut(inputs)
        hidden = KINDS[kind](**options)(hidden, hidden)
    else:
        hidden = KINDS[kind](**options)(cut(inputs))
    if kind != "direct":
        return keras.Model(inputs, keras.layers.Dense(3)(hidden))
    logits = layers.FeedbackDense(3, feedback="detached")(hidden)
    return keras.Model(inputs, layers.DirectFeedback()([logits, hidden]))


@pytest.mark.daily
@pytest.mark.few(4)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_below_a_loss_in_any_way_of_training(kind: str, way: str) -> None:
    """Padding behind changes no weight, of errors or of statistics, whatever stands there."""
    labels = np.random.default_rng(3).integers(0, 3, (BATCH, STEPS + MORE))
    found = []
    for content, steps in ((0.0, STEPS), (0.0, STEPS + MORE), (1e6, STEPS + MORE)):
        x, mask = padded(content)
        x = np.concatenate([x, mask[..., None]], axis=-1).astype("float32")[:, :steps]
        keras.utils.set_random_seed(3)
        with two_replicas().scope() if way == "replicas" else nullcontext():
            model = below_a_loss(kind)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.SGD(0.1), loss, **compile_options(way == "xla"))
        before = weights_of(model)
        model.fit(x, labels[:, :steps], batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
        found.append(weights_of(model))
        assert largest_difference(before, found[-1]) > 1e-3
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


def test_traces_stand_still() -> None:
    for options in ({}, {"tau_rise": 1.0}):
        traces = layers.SynapticTraces(3.0, **options)
        expected = array(traces(X))
        mask = np.array([True, False, True, True, False, True, True, False])
        x = np.full((BATCH, 8, FEATURES), 1e6, "float32")
        x[:, mask] = X
        found = array(layers.SynapticTraces(3.0, **options)(x, mask=np.tile(mask, (BATCH, 1))))
        np.testing.assert_allclose(found[:, mask], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found[:, 1], found[:, 0])


def test_whitening() -> None:
    x, mask = padded(1e6)
    whole, some = (layers.ZCAWhitening(flatten=False) for _ in range(2))
    whole.adapt(X[VALID])
    some.adapt(x, mask)
    for one, other in zip(some.weights, whole.weights, strict=True):
        np.testing.assert_allclose(array(one), array(other), rtol=1e-6)
    with pytest.raises(ValueError, match="`mask` must be"):
        some.adapt(x, mask[:, :2])


def test_masks_are_passed_on() -> None:
    inputs = keras.Input((STEPS, FEATURES))
    hidden = keras.layers.Masking()(inputs)
    hidden = layers.HebbianDense(5)(hidden)
    hidden = layers.HebbianConv1D(4, 2)(hidden)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(hidden))
    short = np.where(np.arange(STEPS)[None, :, None] < 3, X, np.float32(0.0))
    lower = keras.Model(inputs, hidden)
    expected = array(lower(short))[:, :2].mean(axis=1)
    np.testing.assert_allclose(array(model(short)), expected, rtol=1e-5, atol=1e-6)


def test_networks_refuse_masks() -> None:
    network = kl.dynamics.BurstpropNetwork([FEATURES, 3])
    with pytest.raises(ValueError, match="`mask` must be None: BurstpropNetwork"):
        network(X[:, 0], mask=VALID[:, 0])
