"""Angles between the gradients that are learned from and those of backpropagation."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_local as kl
from keras_local.callbacks import AlignmentMonitor
from keras_local.feedback import SignSymmetry
from keras_local.layers import (
    DirectFeedback,
    FeedbackConv2D,
    FeedbackDense,
    FeedbackSeparableConv2D,
    LocallyConnected2D,
)
from keras_local.losses import LocalHinge
from tests.callbacks.support import (
    Subclassed,
    data,
    gradients_of,
    stack,
    train,
)
from tests.support import array, cases, two_replicas


def between(a, b):
    a, b = np.ravel(a), np.ravel(b)
    return math.degrees(math.acos(np.clip(a @ b / math.sqrt((a @ a) * (b @ b)), -1, 1)))


def errors(model, x, targets, feedback):
    """Return activities and the errors at the fields of tanh layers below a linear one."""
    kernels = [array(layer.kernel) for layer in model.layers]
    activities = [x.astype("float64")]
    for kernel, layer in zip(kernels, model.layers, strict=True):
        field = activities[-1] @ kernel + array(layer.bias)
        activities.append(field if layer is model.layers[-1] else np.tanh(field))
    found = [2 * (activities[-1] - targets) / targets.size]
    for index in (2, 1):
        sent = found[0] @ (feedback[index] if feedback else kernels[index]).T
        found.insert(0, sent * (1 - activities[index] ** 2))
    return activities, found


def oracle(model, x, targets):
    kernels = [array(layer.kernel) for layer in model.layers]
    feedback = [array(layer.feedback_kernel) for layer in model.layers]
    activities, learned = errors(model, x, targets, feedback)
    _, exact = errors(model, x, targets, None)
    angles = {}
    for index, layer in enumerate(model.layers):
        below = activities[index].T
        angles[f"gradient_angle/{layer.name}"] = between(
            below @ learned[index], below @ exact[index]
        )
        if index:
            sent = (learned[index] @ other[index].T for other in (feedback, kernels))
            angles[f"local_gradient_angle/{layer.name}"] = between(*sent)
    return angles


def test_gradient_angles_are_those_of_the_formula():
    model = stack("feedback_alignment")
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(20, 4)).astype("float32"), rng.normal(size=(20, 3)).astype("float32")
    before = oracle(model, x, t)
    assert before["gradient_angle/first"] > 5 < before["local_gradient_angle/second"]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    monitor = AlignmentMonitor(data=(x, t))
    history = model.fit(x, t, batch_size=5, epochs=3, callbacks=[monitor], verbose=0).history
    assert gradients_of(monitor.initial) == pytest.approx(before, abs=0.05)
    last = {key: values[-1] for key, values in gradients_of(history).items()}
    assert last == pytest.approx(oracle(model, x, t), abs=0.05)
    assert last["gradient_angle/third"] == pytest.approx(0, abs=1e-3)


def test_no_angle_between_gradients_of_backpropagation():
    model = stack("symmetric")
    history = train(model, AlignmentMonitor(data=data())).history
    keys = [f"gradient_angle/{name}" for name in ("first", "second", "third")]
    assert [history[key][0] for key in keys] == pytest.approx([0, 0, 0], abs=1e-3)
    assert list(gradients_of(history)) == keys
    model = stack("feedback_alignment")
    for layer in model.layers:
        layer.assign_feedback_kernel(layer.kernel)
    monitor = AlignmentMonitor(data=data())
    train(model, monitor)
    assert len(gradients_of(monitor.initial)) == 5
    assert max(gradients_of(monitor.initial).values()) < 1e-3


def noisy(feedback):
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            FeedbackConv2D(3, 3, activation="relu", feedback=feedback, name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.3, seed=1),
            FeedbackSeparableConv2D(4, 2, activation="relu", feedback=feedback, name="separable"),
            LocallyConnected2D(3, 2, feedback=feedback, activation="tanh", name="local"),
            keras.layers.Flatten(),
            FeedbackDense(3, feedback=feedback, name="top"),
        ]
    )


@pytest.mark.few(1)
@pytest.mark.few(1)
@pytest.mark.parametrize(
    "feedback",
    cases(
        ["kolen_pollack", "weight_mirror", "batchwise", "feedback_alignment"],
        daily=["kolen_pollack", "weight_mirror"],
    ),
)
def test_measuring_gradients_changes_nothing(feedback):
    rule = SignSymmetry("batchwise") if feedback == "batchwise" else feedback
    x, y = data((6, 6, 2))
    ends = []
    for batch in (None, (x[:10], y[:10])):
        model = noisy(rule)
        model.compile(keras.optimizers.Adam(0.01), LocalHinge(), metrics=["accuracy"])
        monitor = AlignmentMonitor(data=batch)
        history = model.fit(x, y, batch_size=16, epochs=2, callbacks=[monitor], verbose=0).history
        variables = [*model.variables, *model.optimizer.variables]
        assert bool(gradients_of(history)) == bool(batch)
        scalars = history["loss"], history["accuracy"]
        ends.append(([array(v) for v in variables], scalars))
    for old, new in zip(ends[0][0], ends[1][0], strict=True):
        np.testing.assert_array_equal(old, new)
    assert ends[0][1] == ends[1][1]
    angles = gradients_of(history)
    names = ["conv", "depthwise", "pointwise", "local", "top"]
    assert [key for key in angles if key[0] == "g"] == [f"gradient_angle/{n}" for n in names]
    assert [key for key in angles if key[0] == "l"] == [
        f"local_gradient_angle/{n}" for n in names[1:]
    ]
    assert all(0 <= values[-1] <= 180 for values in angles.values())
    assert min(values[-1] for key, values in angles.items() if key[0] == "l") > 1


@pytest.mark.daily
def test_gradient_angles_with_two_replicas():
    """As by the formula, and measuring them changes no weight on any replica."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("MirroredStrategy")
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(16, 4)).astype("float32"), rng.normal(size=(16, 3)).astype("float32")
    held_out = x[:10], t[:10]
    ends = []
    for batch in (None, held_out):
        keras.utils.set_random_seed(0)
        with two_replicas().scope():
            model = stack("feedback_alignment")
            model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", jit_compile=False)
        before = oracle(model, *held_out)
        monitor = AlignmentMonitor(data=batch)
        options = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
        history = model.fit(x, t, callbacks=[monitor], **options).history
        variables = [*model.variables, *model.optimizer.variables]
        ends.append([array(copy) for v in variables for copy in v.value.values])
    assert gradients_of(monitor.initial) == pytest.approx(before, abs=0.05)
    last = {key: values[-1] for key, values in gradients_of(history).items()}
    assert last == pytest.approx(oracle(model, *held_out), abs=0.05)
    assert abs(last["gradient_angle/first"] - before["gradient_angle/first"]) > 0.1
    for old, new in zip(*ends, strict=True):
        np.testing.assert_array_equal(old, new)


def test_gradient_angles_of_direct_feedback():
    inputs = keras.Input((4,))
    hidden = FeedbackDense(6, "tanh", feedback="detached", name="hidden")(inputs)
    logits = FeedbackDense(3, feedback="detached", name="top")(hidden)
    direct = DirectFeedback(name="direct")
    model = keras.Model(inputs, direct([logits, hidden]))
    monitor = AlignmentMonitor(data=data())
    train(model, monitor)
    assert list(monitor.initial) == ["gradient_angle/hidden", "gradient_angle/top"]
    assert monitor.initial["gradient_angle/hidden"] > 5
    # Through the kernel's transpose it is backpropagation.
    direct.feedback_kernels[0].assign(ops.transpose(model.get_layer("top").kernel))
    monitor.on_train_begin()
    assert monitor.initial["gradient_angle/hidden"] == pytest.approx(0, abs=1e-3)


def test_gradient_angles_of_stock_layers_that_learn_directly():
    """The cut and the errors are those of the formula, in NumPy."""
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(6, "tanh", name="hidden")
    top = keras.layers.Dense(3, name="top")
    model = kl.models.direct(keras.Sequential([keras.Input((4,)), hidden, top]))
    x, t = np.random.default_rng(1).normal(size=(2, 20, 4)).astype("float32")
    t = t[:, :3]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    monitor = AlignmentMonitor(data=(x, t))
    model.fit(x, t, epochs=1, callbacks=[monitor], verbose=0)
    assert list(monitor.initial) == ["gradient_angle/hidden", "gradient_angle/top"]
    monitor.on_train_begin()
    kernels = [array(model.get_layer(name).kernel) for name in ("hidden", "top")]
    (feedback,) = (array(b) for b in model.get_layer("direct_feedback").feedback_kernels)
    units = np.tanh(x @ kernels[0] + array(model.get_layer("hidden").bias))
    error = units @ kernels[1] + array(model.get_layer("top").bias) - t
    sent, exact = (x.T @ ((error @ way) * (1 - units**2)) for way in (feedback, kernels[1].T))
    cosine = (sent * exact).sum() / np.linalg.norm(sent) / np.linalg.norm(exact)
    assert monitor.initial["gradient_angle/top"] == pytest.approx(0, abs=1e-3)
    expected = np.degrees(np.arccos(cosine))
    assert expected > 5
    assert monitor.initial["gradient_angle/hidden"] == pytest.approx(expected, abs=0.05)
    chosen = AlignmentMonitor(layers=["hidden"], data=(x, t))
    model.fit(x, t, epochs=1, callbacks=[chosen], verbose=0)
    assert list(chosen.initial) == ["gradient_angle/hidden"]


def test_gradient_angles_of_other_models():
    inputs = [keras.Input((4,), name="one"), keras.Input((4,), name="two")]
    shared = FeedbackDense(4, "tanh", name="shared")
    joined = keras.layers.Add()([shared(shared(inputs[0])), shared(inputs[1])])
    model = keras.Model(inputs, [FeedbackDense(3, name=name)(joined) for name in ("a", "b")])
    x, y = data()
    model.compile("sgd", [LocalHinge(), LocalHinge()], loss_weights=[1.0, 0.5])
    monitor = AlignmentMonitor(data=([x, x], [y, y]), every=2)
    history = model.fit([x, x], [y, y], epochs=2, callbacks=[monitor], verbose=0).history
    for name in ("shared", "a", "b"):
        assert history[f"local_gradient_angle/{name}"][0] > 1
    subclassed = AlignmentMonitor(layers=["high", "middle"], data=data())
    history = train(Subclassed(), subclassed).history
    assert sorted(gradients_of(history)) == sorted(
        f"{kind}/{name}"
        for kind in ("gradient_angle", "local_gradient_angle")
        for name in ("high", "middle")
    )
