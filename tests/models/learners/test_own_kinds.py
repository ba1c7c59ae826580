"""A rule, a layer, a network and a step of training of somebody's own are exported as ours are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import keras_local as kl
from tests.models.learners.runner import run, saved_model
from tests.models.learners.table import CLASSES, INPUTS, STEPS, Row, labels, samples
from tests.plugin.package.feedback import Homeostatic
from tests.plugin.package.layers import FeedbackBlockDense
from tests.plugin.package.network import TwoPasses
from tests.plugin.package.plasticity import Foldiak


def layer() -> Any:
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((INPUTS,)),
            FeedbackBlockDense(8, activation="relu", damping=0.5, feedback="kolen_pollack"),
            kl.layers.FeedbackDense(CLASSES, "softmax", feedback=Homeostatic()),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    return model


def rule() -> Any:
    start = keras.initializers.RandomNormal(stddev=0.3, seed=1)
    hebbian = kl.layers.HebbianDense(8, plasticity=Foldiak(), kernel_initializer=start)
    model = keras.Sequential([keras.Input((INPUTS,)), hebbian])
    model.compile(keras.optimizers.SGD(0.05))
    return model


def network() -> Any:
    keras.utils.set_random_seed(3)
    model = TwoPasses([INPUTS, 8, CLASSES])
    model.compile(keras.optimizers.SGD(0.05), jit_compile=False)
    return model


@pytest.mark.daily
@pytest.mark.few(1)
@pytest.mark.parametrize("make", [rule, layer, network])
def test_of_ones_own(make: Any, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    assert run(Row(make.__name__, make), "litert", tmp_path) <= 1e-5


class TwoSteps(keras.Model):
    """A model with a step of its own: the change of its weight is said by a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = self.add_weight(shape=(INPUTS,), initializer="zeros")
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return ops.matmul(inputs, self.kernel)

    def learning_form(self) -> kl.layers.LearningForm:
        def loss(x: Any, y: Any) -> Any:
            assert y is None
            self.steps.assign(self.steps + 1.0)
            change = ops.mean(x, axis=0) - ops.convert_to_tensor(self.kernel)
            return kl.ops.surrogate_loss(self.kernel, change)

        spec = keras.layers.InputSpec(shape=(None, INPUTS), dtype="float32")
        return kl.layers.LearningForm(loss=loss, infer=self, samples=[spec])


def test_a_learning_form(tmp_path: Path) -> None:
    report = kl.models.export_learner(TwoSteps(), tmp_path)
    assert [entry.name for entry in report.inputs] == ["x", "rate"]
    x = samples(Row("", network))
    weights, losses = saved_model(tmp_path, [{"x": each, "rate": np.float32(0.1)} for each in x])
    expected = np.zeros(INPUTS)
    for each in x:
        expected += 0.1 * (each.mean(axis=0) - expected)
    np.testing.assert_allclose(weights["w0"], expected, rtol=1e-5)
    assert losses == [0.0] * STEPS
    assert weights["w1"] == STEPS


def test_state_goes_out_and_in(tmp_path: Path) -> None:
    """What `weights` returns, `restore` brings back, momenta too; inference is that of here."""
    import tensorflow as tf

    model = layer()
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
    x, y = samples(Row("", layer)), labels()
    model.train_on_batch(x[0], y[0])
    kl.models.export_learner(model, tmp_path)
    loaded = tf.saved_model.load(str(tmp_path))
    learner = loaded.signatures
    scores = learner["infer"](x=tf.constant(x[0]))["outputs"].numpy()
    np.testing.assert_allclose(scores, model.predict_on_batch(x[0]), rtol=1e-5)

    def step(number: int) -> float:
        inputs = {"x": x[number], "y": y[number], "rate": np.float32(0.05)}
        return float(learner["learn"](**{k: tf.constant(v) for k, v in inputs.items()})["loss"])

    step(1)
    kept = learner["weights"]()
    first = step(2), step(3)
    learner["restore"](**kept)
    assert (step(2), step(3)) == first


def test_a_bad_batch_changes_nothing(tmp_path: Path) -> None:
    """A network undoes a step with NaN, and a Hebbian layer leaves it out; both learn on."""
    import tensorflow as tf

    for make, labelled in ((network, True), (rule, False)):
        kl.models.export_learner(make(), tmp_path / make.__name__)
        loaded = tf.saved_model.load(str(tmp_path / make.__name__))
        learner = loaded.signatures
        x, y = samples(Row("", make))[0], {"y": tf.constant(labels()[0])} if labelled else {}
        rate = tf.constant(0.05)
        before = learner["weights"]()
        loss = learner["learn"](x=tf.constant(x * np.float32("nan")), rate=rate, **y)["loss"]
        after = learner["weights"]()
        assert np.isnan(float(loss))
        assert all(np.array_equal(before[name], after[name]) for name in before)
        assert np.isfinite(float(learner["learn"](x=tf.constant(x), rate=rate, **y)["loss"]))
        then = learner["weights"]()
        assert any(not np.array_equal(before[name], then[name]) for name in before)
