"""Training block by block: the step, what surrounds it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from keras_local import models
from keras_local.models.local import LocalLoss, Prediction, Similarity
from tests.models.local.support import (
    CLASSES,
    LOSS,
    SummedLosses,
    images,
    residual,
    stock_twin,
    vgg,
)
from tests.support import array, largest_difference, probe, tensorflow_only, two_replicas


def learner(loss: Any = "pred", optimizer: Any = None, **options: Any) -> Any:
    keras.utils.set_random_seed(5)
    model = models.local_losses(vgg(), loss)
    optimizer = keras.optimizers.Adam(0.01) if optimizer is None else optimizer
    model.compile(optimizer, LOSS, **{"jit_compile": False, **options})
    return model


def weights_by_layer(model: Any) -> dict[str, list[np.ndarray]]:
    return {layer.name: [array(w) for w in layer.weights] for layer in model.layers}


def values(model: Any) -> list[np.ndarray]:
    return [array(weight) for weight in model.weights]


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["pred", "sim", "pred_sim"])
def test_the_step_is_that_of_a_stock_model_with_cuts(kind: str) -> None:
    """Five steps, beside a stock model with cuts in its graph and heads as further outputs."""
    x, y = images()
    model, twin = learner(kind, keras.optimizers.SGD(0.1, momentum=0.9)), stock_twin(kind)
    for layer in model.network.layers:
        if layer.weights:
            twin.get_layer(layer.name).set_weights(layer.get_weights())
    if kind != "pred":
        for block, head in zip(model.blocks, model.heads, strict=True):
            projection = head if kind == "sim" else head.parts[1]
            twin.get_layer(f"sim_{block}").set_weights(projection.get_weights())
    start = values(model.network)
    for _ in range(5):
        model.train_on_batch(x, y)
        twin.train_on_batch(x, [y] * len(twin.outputs))
    assert largest_difference(start, values(model.network)) > 1e-2
    for layer in model.network.layers:
        if layer.weights:
            theirs = twin.get_layer(layer.name).get_weights()
            assert largest_difference(layer.get_weights(), theirs) < 2e-5


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["pred", "sim", "pred_sim"])
def test_the_step_is_that_of_the_sum_of_losses(kind: str) -> None:
    """Five steps of Adam, beside Keras' own step with all losses in one sum."""
    x, y = images()
    model = learner(kind)
    twin = SummedLosses(keras.models.clone_model(model.network), kind)
    twin.set_weights(model.get_weights())
    twin.compile(keras.optimizers.Adam(0.01), LOSS, jit_compile=False)
    for _ in range(5):
        logs = [each.train_on_batch(x, y, return_dict=True) for each in (model, twin)]
        assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], abs=1e-6)
    assert largest_difference(values(model), values(twin)) <= 1e-7


def test_without_a_cut_it_is_stock_training() -> None:
    x, y = images()
    stock = vgg()
    model = models.local_losses(stock, blocks=[])
    for each in (stock, model):
        each.compile(keras.optimizers.Adam(0.01), LOSS, jit_compile=False)
        each.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for ours, theirs in zip(model.network.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_error_crosses_a_cut() -> None:
    x, y = images()
    # All losses but that of the second block are without effect: only its layers change.
    silent = Silent()
    losses = {"relu0": silent, "relu1": Similarity(), "hidden": silent}
    model = models.local_losses(vgg(), losses)
    model.compile(keras.optimizers.SGD(0.1), lambda y, p: 0.0 * keras.ops.sum(p), jit_compile=False)
    before = weights_by_layer(model.network)
    model.train_on_batch(x, y)
    after = weights_by_layer(model.network)
    changed = {
        name
        for name, old in before.items()
        if name.startswith(("conv", "hidden", "logits"))
        and not np.array_equal(old[0], after[name][0])
    }
    assert changed == {"conv1"}


@keras.saving.register_keras_serializable("tests")
class Silent(LocalLoss):
    """A loss without a gradient."""

    def __call__(self, head: Any, outputs: Any, targets: Any, sample_weight: Any = None) -> Any:
        return 0.0 * keras.ops.sum(keras.ops.cast(outputs, "float32"))


def test_the_first_step_of_a_prediction_leaves_the_block() -> None:
    x, y = images()
    model = learner("pred")
    before = weights_by_layer(model.network)
    logs = model.train_on_batch(x, y, return_dict=True)
    after = weights_by_layer(model.network)
    assert logs["relu0/loss"] == pytest.approx(np.log(CLASSES), abs=1e-6)
    for name in ("conv0", "conv1", "hidden"):
        for old, new in zip(before[name], after[name], strict=True):
            np.testing.assert_array_equal(old, new)
    assert not np.array_equal(before["logits"][0], after["logits"][0])


def test_logs() -> None:
    x, y = images()
    keras.utils.set_random_seed(1)
    model = models.local_losses(vgg(), {"relu0": "sim", "relu1": "pred", "hidden": "pred_sim"})
    model.compile("adam", LOSS, metrics=["accuracy"])
    history = model.fit(x, y, validation_data=(x, y), batch_size=8, verbose=0).history
    blocks = {"relu0/loss", "relu1/loss", "hidden/loss", "relu1/accuracy", "hidden/accuracy"}
    outputs = {"loss", "accuracy"}
    assert set(history) == blocks | outputs | {f"val_{name}" for name in outputs}
    assert set(model.evaluate(x, y, verbose=0, return_dict=True)) == outputs
    assert set(model.test_on_batch(x, y, return_dict=True)) == outputs


@pytest.mark.few(1)
@tensorflow_only
@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"jit_compile": True}])
def test_graph_eager_and_xla(options: dict[str, Any]) -> None:
    x, y = images()
    ends = []
    for chosen in ({}, options):
        model = learner("pred_sim", keras.optimizers.SGD(0.1), **chosen)
        start = values(model)
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        ends.append(values(model))
    assert largest_difference(start, ends[0]) > 1e-2
    assert largest_difference(*ends) < 1e-5


def test_saving_and_resuming(tmp_path: Path) -> None:
    x, y = images()
    model = learner("pred_sim")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.blocks == model.blocks
    for each in (model, again):
        each.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert largest_difference(values(model), values(again)) == 0.0
    model.save_weights(tmp_path / "model.weights.h5")
    other = learner("pred_sim")
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "model.weights.h5")
    assert largest_difference(values(model), values(other)) == 0.0


@tensorflow_only
def test_heads_do_not_ship(tmp_path: Path) -> None:
    x, y = images()
    model = learner("pred")
    model.fit(x, y, verbose=0)
    plain = models.to_plain(model)
    assert [tuple(w.shape) for w in plain.weights] == [
        tuple(w.shape) for w in model.network.weights
    ]
    assert len(model.weights) == len(plain.weights) + 6
    expected = model.predict(x, verbose=0)
    np.testing.assert_array_equal(plain.predict(x, verbose=0), expected)
    import tensorflow as tf

    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(array(served.serve(x)), expected, atol=1e-6)
    models.export(model, tmp_path / "small")
    served = tf.saved_model.load(str(tmp_path / "small"))
    np.testing.assert_allclose(array(served.serve(x)), expected, atol=1e-6)


@tensorflow_only
def test_two_replicas_equal_one_device() -> None:
    x, y = images()

    def trained() -> Any:
        keras.utils.set_random_seed(5)
        model = models.local_losses(vgg(norm=False), "pred")
        start = values(model)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), LOSS, jit_compile=False)
        model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        assert largest_difference(start, values(model)) > 1e-2
        return model

    one = trained()
    with two_replicas().scope():
        two = trained()
    assert largest_difference(values(one), values(two)) < 1e-6


def test_gradients_can_be_accumulated_for_a_prediction() -> None:
    x, y = images()
    ends = []
    for size, steps in ((16, None), (8, 2)):
        keras.utils.set_random_seed(5)
        model = models.local_losses(vgg(norm=False), "pred")
        optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps)
        model.compile(optimizer, LOSS, jit_compile=False)
        start = values(model)
        model.fit(x, y, batch_size=size, epochs=3, shuffle=False, verbose=0)
        ends.append(values(model))
        assert largest_difference(start, ends[-1]) > 1e-2
    assert largest_difference(*ends) < 1e-6


@pytest.mark.parametrize("loss", ["sim", "pred_sim"])
def test_gradients_of_pairs_cannot_be_accumulated(loss: str) -> None:
    model = models.local_losses(vgg(), loss)  # type: ignore[arg-type]
    inner = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    for optimizer in (inner, keras.optimizers.LossScaleOptimizer(inner)):
        with pytest.raises(ValueError, match="`optimizer` must be one without"):
            model.compile(optimizer, LOSS)
    assert not model.compiled


@pytest.mark.daily
@tensorflow_only
def test_half_precision_scales_each_loss() -> None:
    x, y = images()
    ends = []
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        try:
            keras.utils.set_random_seed(5)
            model = models.local_losses(vgg(), "pred_sim")
            start = values(model)
            model.compile(keras.optimizers.SGD(0.1), LOSS, jit_compile=False)
            assert all(weight.dtype == "float32" for head in model.heads for weight in head.weights)
            model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        finally:
            keras.config.set_dtype_policy("float32")
        ends.append(values(model))
    way = largest_difference(start, ends[0])
    assert way > 1e-2
    # Gradients that are not scaled, but divided by the scale, would not move the blocks at all.
    assert largest_difference(*ends) < 0.2 * way


@pytest.mark.thorough
@tensorflow_only
def test_steps_per_execution() -> None:
    x, y = images()
    ends = []
    for steps in (1, 2):
        model = learner("pred", steps_per_execution=steps)
        start = values(model)
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
        ends.append(values(model))
    assert largest_difference(start, ends[0]) > 1e-3
    assert largest_difference(*ends) == 0.0


def test_a_feedback_layer_keeps_its_rule_inside_a_block() -> None:
    layers = [
        kl.layers.FeedbackDense(7, "tanh", feedback="feedback_alignment", name="lower"),
        kl.layers.FeedbackDense(6, "tanh", feedback="feedback_alignment", name="upper"),
    ]
    stack = keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(CLASSES)])
    model = models.local_losses(stack, "pred", ["upper"])
    model.compile(keras.optimizers.SGD(0.1), LOSS, jit_compile=False)
    x, y = probe((8, 5)), np.arange(8) % CLASSES
    model.train_on_batch(x, y)
    upper, lower = model.network.get_layer("upper"), model.network.get_layer("lower")
    head = model.heads[0].layers[-1]
    old = [array(layer.kernel).copy() for layer in (lower, upper, head)]
    feedback = array(upper.feedback_kernel)
    bias, upper_bias, head_bias = map(array, (lower.bias, upper.bias, head.bias))
    h = np.tanh(x @ old[0] + bias)
    g = np.tanh(h @ old[1] + upper_bias)
    logits = g @ old[2] + head_bias
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    delta = (chance - np.eye(CLASSES)[y]) / 8 @ old[2].T * (1 - g * g)
    expected = old[0] - 0.1 * x.T @ (delta @ feedback.T * (1 - h * h))
    model.train_on_batch(x, y)
    np.testing.assert_allclose(array(lower.kernel), expected, atol=1e-6)


def test_a_hebbian_layer_learns_by_its_rule_inside_a_block() -> None:
    x, y = probe((8, 5)), np.arange(8) % CLASSES
    keras.utils.set_random_seed(2)
    hebbian = kl.layers.HebbianDense(6, plasticity=kl.plasticity.HardWTA())
    alone = keras.Sequential([keras.Input((5,)), hebbian])
    stack = keras.Sequential(
        [keras.Input((5,)), hebbian, keras.layers.Dense(4, "relu"), keras.layers.Dense(CLASSES)]
    )
    model = models.local_losses(stack, "sim")
    model.compile(keras.optimizers.SGD(0.1), LOSS, jit_compile=False)
    alone.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    alone.train_on_batch(x)
    model.train_on_batch(x, y)
    found = array(model.network.layers[1].kernel)
    np.testing.assert_allclose(found, array(hebbian.kernel), atol=1e-6)


def test_regularizers_act_on_their_block() -> None:
    x, y = images()
    ends = []
    for strength in (0.0, 0.5):
        keras.utils.set_random_seed(5)
        network = vgg(norm=False)
        network.get_layer("conv0").kernel_regularizer = keras.regularizers.L2(strength)
        model = models.local_losses(network, "pred")
        model.compile(keras.optimizers.SGD(0.1), LOSS, jit_compile=False)
        start = array(model.network.get_layer("conv0").kernel).copy()
        model.train_on_batch(x, y)
        ends.append((start, array(model.network.get_layer("conv0").kernel)))
    # The first step of a prediction changes nothing but by the regularizer.
    np.testing.assert_array_equal(*ends[0])
    np.testing.assert_allclose(ends[1][1], (1.0 - 0.1) * ends[1][0], atol=1e-6)


def test_a_frozen_block_is_skipped() -> None:
    x, y = images()
    network = vgg()
    for name in ("conv0", "norm0"):
        network.get_layer(name).trainable = False
    model = models.local_losses(network, "pred")
    model.compile("adam", LOSS, jit_compile=False)
    head = values(model.heads[0])
    model.fit(x, y, verbose=0)
    assert largest_difference(head, values(model.heads[0])) == 0.0
    assert largest_difference(values(model.heads[1]), [0.0 * w for w in values(model.heads[1])]) > 0


@pytest.mark.daily
def test_labels_in_rows_and_weights_of_samples() -> None:
    x, y = images()
    ends = []
    rows = np.eye(CLASSES, dtype="float32")[y]
    for labels in (y, rows):
        model = learner("pred_sim", keras.optimizers.SGD(0.1))
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(model.optimizer, LOSS if labels is y else loss, jit_compile=False)
        weights = np.linspace(0.0, 1.0, len(y))
        model.fit(x, labels, sample_weight=weights, epochs=2, shuffle=False, verbose=0)
        ends.append(values(model))
    assert largest_difference(*ends) < 1e-6


@pytest.mark.parametrize("labels", [np.array([0, 1, 3] * 4), np.eye(3)[[0, 1, 2] * 4] * 2, None])
def test_labels_that_are_not_classes_are_refused(labels: Any) -> None:
    x, _ = images(12)
    if labels is None:
        labels = probe((12, 3))
    model = learner("pred")
    before = values(model)
    for call in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match=r"`y` must be .*losses of blocks of your own"):
            call(x, labels)
    assert largest_difference(before, values(model)) == 0.0


class Distance:
    """A user's own loss, for values, without the interface."""

    def head(self, block_output: Any) -> Any:
        return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])

    def __call__(self, head: Any, outputs: Any, targets: Any) -> Any:
        return keras.ops.square(head(outputs)[:, 0] - targets)


def test_a_loss_of_ones_own() -> None:
    x = images()[0]
    y = x.mean(axis=(1, 2, 3))
    network = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    model = models.local_losses(network, Distance())
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    history = model.fit(x, y, epochs=30, verbose=0).history
    assert history["conv/loss"][-1] < 0.5 * history["conv/loss"][0]
    model.fit(x, y, sample_weight=np.ones(len(y)), verbose=0)


def test_a_loss_for_each_block() -> None:
    with pytest.raises(ValueError, match="`loss` must be a loss, or a dict with a loss for each"):
        models.local_losses(vgg(), {"relu0": "pred"})
    with pytest.raises(ValueError, match="`loss` must be one of"):
        models.local_losses(vgg(), "predsim")  # type: ignore[arg-type]


@pytest.mark.daily
def test_it_learns() -> None:
    """A task in which each class has a bright corner of its own."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, CLASSES, 256)
    x = generator.normal(size=(256, 8, 8, 2)).astype("float32")
    for label, (row, column) in enumerate(((0, 0), (0, 4), (4, 0))):
        x[y == label, row : row + 4, column : column + 4] += 1.0
    for loss in ("pred", "pred_sim"):
        keras.utils.set_random_seed(3)
        model = models.local_losses(vgg(), loss)  # type: ignore[arg-type]
        model.compile(keras.optimizers.Adam(0.01), LOSS, metrics=["accuracy"], jit_compile=False)
        history = model.fit(x, y, batch_size=32, epochs=8, verbose=0).history
        assert history["accuracy"][-1] > 0.9, loss


def test_the_arguments_are_not_changed() -> None:
    network = residual()
    before = [array(weight).copy() for weight in network.weights]
    x, y = images()
    model = models.local_losses(network, Prediction(limit=64))
    model.compile("sgd", LOSS)
    model.fit(x, y, verbose=0)
    assert largest_difference(before, [array(weight) for weight in network.weights]) == 0.0
    fresh = models.local_losses(network, keep_weights=False)
    assert largest_difference(before, fresh.network.get_weights()) > 0.0
