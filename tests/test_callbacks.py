from __future__ import annotations

import csv
import math
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.activations import RePU
from keras_local.callbacks import AlignmentMonitor, ConvergenceMonitor
from keras_local.feedback import SignSymmetry
from keras_local.layers import (
    DirectFeedback,
    FeedbackConv2D,
    FeedbackDense,
    FeedbackSeparableConv2D,
    HebbianDense,
    LocallyConnected2D,
)
from keras_local.losses import LocalHinge
from keras_local.plasticity import KrotovHopfield
from tests.support import cases, two_replicas

MEASURES = ("alignment_angle", "norm_ratio", "weight_correlation")


def array(tensor):
    return np.asarray(ops.convert_to_numpy(tensor)).astype("float64")


def angle(layer):
    w, b = array(layer.kernel).ravel(), array(layer.feedback_kernel).ravel()
    return math.degrees(math.acos(w @ b / math.sqrt((w @ w) * (b @ b))))


def data(shape=(4,), samples=32, classes=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(samples, *shape)).astype("float32"), rng.integers(0, classes, samples)


def train(model, monitors, epochs=1, shape=(4,), classes=3, **kwargs):
    model.compile(keras.optimizers.SGD(0.1), LocalHinge(), **kwargs)
    x, y = data(shape, classes=classes)
    callbacks = monitors if isinstance(monitors, list) else [monitors]
    return model.fit(x, y, batch_size=16, epochs=epochs, callbacks=callbacks, verbose=0)


def reported(history):
    keys = [key for key in history.history if "/" in key]
    names = sorted({key.split("/", 1)[1] for key in keys})
    assert sorted(keys) == sorted(f"{measure}/{name}" for measure in MEASURES for name in names)
    return names


def stack(feedback="kolen_pollack"):
    return keras.Sequential(
        [
            keras.Input((4,)),
            FeedbackDense(6, activation="tanh", feedback=feedback, name="first"),
            FeedbackDense(5, activation="tanh", feedback=feedback, name="second"),
            FeedbackDense(3, feedback=feedback, name="third"),
        ]
    )


def test_values_are_those_of_the_kernels():
    model, monitor = stack(), AlignmentMonitor()
    before = {layer.name: angle(layer) for layer in model.layers}
    history = train(model, monitor, epochs=3)
    assert reported(history) == ["second", "third"]
    for layer in model.layers[1:]:
        angles = history.history[f"alignment_angle/{layer.name}"]
        assert len(angles) == 3
        assert len(set(angles)) == 3, "the kernels learn, so the angle moves"
        assert angles[-1] == pytest.approx(angle(layer), abs=1e-3)
        initial = monitor.initial[f"alignment_angle/{layer.name}"]
        assert initial == pytest.approx(before[layer.name], abs=1e-3)
        w, b = array(layer.kernel), array(layer.feedback_kernel)
        ratio = history.history[f"norm_ratio/{layer.name}"][-1]
        assert ratio == pytest.approx(np.linalg.norm(b) / np.linalg.norm(w), rel=1e-5)
        correlation = history.history[f"weight_correlation/{layer.name}"][-1]
        assert correlation == pytest.approx(np.corrcoef(w.ravel(), b.ravel())[0, 1], rel=1e-4)


def test_fixed_feedback_moves_too():
    history = train(stack("feedback_alignment"), AlignmentMonitor(), epochs=2)
    first, second = history.history["alignment_angle/third"]
    assert first != second


def test_nothing_moves_without_learning():
    model = stack()
    model.compile(keras.optimizers.SGD(0.0), LocalHinge())
    monitor = AlignmentMonitor()
    history = model.fit(*data(), epochs=2, callbacks=[monitor], verbose=0).history
    for key, value in monitor.initial.items():
        assert history[key] == [value, value]


def test_lowest_layer_only_if_named():
    history = train(stack(), AlignmentMonitor(layers=["first", "third"]))
    assert reported(history) == ["first", "third"]


def test_chosen_measures():
    history = train(stack(), AlignmentMonitor(measures=["alignment_angle"]))
    keys = [key for key in history.history if "/" in key]
    assert keys == ["alignment_angle/second", "alignment_angle/third"]


def test_every_repeats_the_last_value(tmp_path):
    monitor = AlignmentMonitor(every=2)
    path = tmp_path / "log.csv"
    history = train(stack(), [monitor, keras.callbacks.CSVLogger(path)], epochs=5)
    angles = history.history["alignment_angle/third"]
    assert angles[0] == monitor.initial["alignment_angle/third"]
    assert angles[1] == angles[2] != angles[0]
    assert angles[3] == angles[4] != angles[1]
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["alignment_angle/third"]) for row in rows] == pytest.approx(angles)


def test_early_stopping_can_watch_it():
    stop = keras.callbacks.EarlyStopping("alignment_angle/third", mode="max", patience=1)
    history = train(stack(), [AlignmentMonitor(), stop], epochs=30)
    assert len(history.epoch) < 30, "the angle falls"


def test_tensorboard_receives_the_values(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("summaries are written by TensorFlow")
    pytest.importorskip("tensorboard")
    from tensorflow.core.util import event_pb2
    from tensorflow.data import TFRecordDataset

    board = keras.callbacks.TensorBoard(tmp_path)
    history = train(stack(), [AlignmentMonitor(), board], epochs=2)
    (path,) = (tmp_path / "train").glob("events*")
    values = []
    for record in TFRecordDataset(str(path)):
        for value in event_pb2.Event.FromString(record.numpy()).summary.value:
            if value.tag == "epoch_alignment_angle/third":
                values.append(float(np.frombuffer(value.tensor.tensor_content, "float32")[0]))
    assert values == pytest.approx(history.history["alignment_angle/third"], rel=1e-5)


def test_training_twice_starts_anew():
    model, monitor = stack(), AlignmentMonitor()
    train(model, monitor)
    final = angle(model.layers[-1])
    train(model, monitor)
    assert monitor.initial["alignment_angle/third"] == pytest.approx(final, abs=1e-3)


def test_resumed_epochs_count_from_their_number():
    model, monitor = stack(), AlignmentMonitor(every=3)
    model.compile(keras.optimizers.SGD(0.1), LocalHinge())
    fit = model.fit(*data(), epochs=3, initial_epoch=2, callbacks=[monitor], verbose=0)
    key = "alignment_angle/third"
    assert fit.history[key] != [monitor.initial[key]]


# -- which layers use their feedback kernel --------------------------------------------------


def test_convolutions_and_layers_without_weights_below():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Rescaling(2.0),
            FeedbackConv2D(3, 3, activation="relu", name="first"),
            keras.layers.MaxPooling2D(),
            FeedbackConv2D(4, 2, name="second"),
            keras.layers.Flatten(),
            FeedbackDense(3, feedback="symmetric", name="symmetric"),
        ]
    )
    assert reported(train(model, AlignmentMonitor(), shape=(6, 6, 1))) == ["second"]


def test_built_by_the_first_batch():
    model = keras.Sequential([FeedbackDense(6, name="first"), FeedbackDense(3, name="second")])
    monitor = AlignmentMonitor(every=2)
    assert reported(train(model, monitor, epochs=2)) == ["second"]
    if keras.backend.backend() == "tensorflow":
        assert monitor.initial == {}
    else:
        assert monitor.initial


def test_unknown_layers_of_a_model_built_by_the_first_batch():
    model = keras.Sequential([FeedbackDense(6, name="first"), FeedbackDense(3, name="second")])
    with pytest.raises(ValueError, match="'first', 'second'"):
        train(model, AlignmentMonitor(layers=["third"]))


def test_any_trained_layer_below_counts():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5), FeedbackDense(3, name="only")]
    )
    assert reported(train(model, AlignmentMonitor())) == ["only"]


def test_frozen_layers_below_do_not_count():
    model = stack()
    model.layers[0].trainable = False
    assert reported(train(model, AlignmentMonitor())) == ["third"]


def test_functional_branches():
    inputs = keras.Input((4,))
    left = FeedbackDense(5, name="left")(inputs)
    right = FeedbackDense(5, name="right")(ops.tanh(inputs) * 2)
    merged = keras.layers.Concatenate()([left, right, inputs])
    outputs = FeedbackDense(3, name="top")(merged)
    assert reported(train(keras.Model(inputs, outputs), AlignmentMonitor())) == ["top"]


def test_residual_and_shared_layers():
    inputs = keras.Input((4,))
    shared = FeedbackDense(4, activation="tanh", name="shared")
    once = shared(inputs)
    twice = keras.layers.Add()([shared(once), inputs])
    outputs = FeedbackDense(3, name="top")(twice)
    # The second use of the shared layer sends the error down to the first.
    assert reported(train(keras.Model(inputs, outputs), AlignmentMonitor())) == ["shared", "top"]


def test_nested_models():
    bottom = keras.Sequential(
        [keras.Input((4,)), FeedbackDense(6, name="a"), FeedbackDense(5, name="b")],
        name="bottom",
    )
    inner = keras.Input((5,))
    top = keras.Model(inner, FeedbackDense(3, name="c")(inner), name="top")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, top(bottom(inputs)))
    assert reported(train(model, AlignmentMonitor())) == ["b", "c"]
    sequential = keras.Sequential([keras.Input((4,)), bottom, top])
    assert reported(train(sequential, AlignmentMonitor())) == ["b", "c"]


def test_nested_model_with_several_inputs():
    one, two = keras.Input((4,)), keras.Input((5,))
    joined = keras.layers.Concatenate()(
        [FeedbackDense(3, name="one")(one), FeedbackDense(3, name="two")(two)]
    )
    join = keras.Model([one, two], joined)
    inputs = keras.Input((4,))
    hidden = FeedbackDense(5, name="hidden")(inputs)
    model = keras.Model(inputs, FeedbackDense(3, name="top")(join([inputs, hidden])))
    # Only the second input of the nested model comes from trained weights.
    assert reported(train(model, AlignmentMonitor())) == ["top", "two"]


def test_wrapped_layer():
    model = keras.Sequential(
        [
            keras.Input((2, 4)),
            keras.layers.TimeDistributed(FeedbackDense(5, name="first")),
            keras.layers.TimeDistributed(FeedbackDense(4, name="second")),
            keras.layers.Flatten(),
            FeedbackDense(3, name="third"),
        ]
    )
    assert reported(train(model, AlignmentMonitor(), shape=(2, 4))) == ["second", "third"]


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.low = FeedbackDense(5, name="low")
        self.blocks = [FeedbackDense(4, name="middle"), FeedbackDense(3, name="high")]

    def call(self, inputs):
        x = self.low(inputs)
        for block in self.blocks:
            x = block(x)
        return x


def test_subclassed_models_report_all_or_the_named():
    assert reported(train(Subclassed(), AlignmentMonitor())) == ["high", "low", "middle"]
    named = AlignmentMonitor(layers=["high", "middle"])
    assert reported(train(Subclassed(), named)) == ["high", "middle"]


def test_subclassed_model_inside_a_functional_one():
    inputs = keras.Input((4,))
    outputs = FeedbackDense(3, name="top")(Subclassed()(inputs))
    model = keras.Model(inputs, outputs)
    assert reported(train(model, AlignmentMonitor())) == ["high", "low", "middle", "top"]


def test_names_that_occur_twice():
    def part(name):
        return keras.Sequential(
            [keras.Input((4,)), FeedbackDense(4, name="same"), FeedbackDense(4, name=name)],
            name=f"part_{name}",
        )

    model = keras.Sequential(
        [keras.Input((4,)), part("a"), part("b"), FeedbackDense(3, name="top")]
    )
    names = ["a", "b", "part_b/same", "top"]
    assert reported(train(model, AlignmentMonitor())) == names
    assert reported(train(model, AlignmentMonitor(layers=["part_a/same"]))) == ["part_a/same"]


def test_many_residual_blocks():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, trainable=False)(inputs)
    for index in range(40):
        x = keras.layers.Add()([x, FeedbackDense(4, name=f"block{index}")(x)])
    model = keras.Model(inputs, x)
    monitor = AlignmentMonitor(measures=["norm_ratio"])
    monitor.set_model(model)
    monitor.on_train_begin()
    assert list(monitor.initial) == [f"norm_ratio/block{index}" for index in range(1, 40)]


# -- gradients ---------------------------------------------------------------------------------


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


def gradients_of(logs):
    return {key: value for key, value in logs.items() if "gradient_angle/" in key}


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


def test_bad_data_of_alignment():
    x, y = data()
    for wrong in (x, (x,), (x, y, y), (x, y[:5]), (x[:0], y[:0]), (x, None), ([], []), "xy"):
        with pytest.raises(ValueError, match="`data` must be a pair"):
            AlignmentMonitor(data=wrong)
    model = stack()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"`data` must be a pair.*\(32, 5\)"):
        train(model, AlignmentMonitor(data=(np.ones((32, 5)), y)))
    monitor = AlignmentMonitor(data=(x, y))
    without = stack()
    without.compile("sgd")
    monitor.set_model(without)
    with pytest.raises(ValueError, match=r"`data` must be None.*without a loss"):
        monitor.on_train_begin()
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [["third", "forth"], ["activation"]])
def test_unknown_layers(wrong):
    model = stack()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"`layers` must be .*'first', 'second', 'third'") as error:
        train(model, AlignmentMonitor(layers=wrong))
    assert wrong[-1] in str(error.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_without_feedback_kernel_cannot_be_named():
    with pytest.raises(ValueError, match="`layers` must be"):
        train(stack("symmetric"), AlignmentMonitor(layers=["third"]))


@pytest.mark.parametrize("feedback", ["symmetric", None])
def test_a_model_without_feedback_warns(feedback):
    model = stack(feedback) if feedback else keras.Sequential([keras.layers.Dense(3)])
    with pytest.warns(UserWarning, match="nothing to report"):
        history = train(model, AlignmentMonitor())
    assert reported(history) == []


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"every": 0}, "every"),
        ({"every": 1.5}, "every"),
        ({"layers": "third"}, "layers"),
        ({"layers": [3]}, "layers"),
        ({"layers": 3}, "layers"),
        ({"measures": ["angle"]}, "measures"),
        ({"measures": "alignment_angle"}, "measures"),
    ],
)
def test_bad_arguments_of_alignment(arguments, match):
    with pytest.raises(ValueError, match=f"`{match}` must be"):
        AlignmentMonitor(**arguments)


# -- convergence -------------------------------------------------------------------------------


def hebbian(units=8, p=2.0, **kwargs):
    rule = KrotovHopfield(p=p, rank=2, delta=0.4)
    return HebbianDense(units, plasticity=rule, **kwargs)


def convergence(layer, inputs, tolerance):
    """Report by loops."""
    kernel, p = array(layer.kernel), layer.plasticity.p
    norms = [sum(abs(w) ** p for w in unit) for unit in kernel.T]
    wins = [0] * len(norms)
    for v in np.asarray(inputs, "float64"):
        currents = [
            sum(math.copysign(abs(w) ** (p - 1), w) * x for w, x in zip(unit, v, strict=True))
            for unit in kernel.T
        ]
        wins[currents.index(max(currents))] += 1
    units = len(norms)
    return {
        "mean_norm": sum(norms) / units,
        "converged": sum(abs(n - 1) < tolerance for n in norms) / units,
        "won": sum(n > 0 for n in wins) / units,
        "dead": sum(n == 0 for n in wins) / units,
    }


@pytest.mark.parametrize("p", [2.0, 3.0])
def test_convergence_of_a_trained_encoder(p):
    x = np.random.default_rng(0).random((60, 6)).astype("float32")
    model = keras.Sequential([keras.Input((6,)), hebbian(p=p, name="hebbian")])
    layer = model.layers[0]
    before = convergence(layer, x, 0.3)
    model.compile(keras.optimizers.SGD(0.05), loss=None)
    monitor = ConvergenceMonitor(data=x, tolerance=0.3)
    history = model.fit(x, batch_size=10, epochs=20, callbacks=[monitor], verbose=0).history
    after = convergence(layer, x, 0.3)
    for measure in before:
        key = f"{measure}/hebbian"
        assert len(history[key]) == 20
        assert monitor.initial[key] == pytest.approx(before[measure], rel=1e-4)
        assert history[key][-1] == pytest.approx(after[measure], rel=1e-4)
    assert history["mean_norm/hebbian"][-1] < 0.7 * monitor.initial["mean_norm/hebbian"]


def test_without_data_only_the_norms():
    model = keras.Sequential([keras.Input((6,)), hebbian(name="hebbian")])
    monitor = ConvergenceMonitor()
    monitor.set_model(model)
    monitor.on_train_begin()
    logs = {"loss": 1.0}
    monitor.on_epoch_end(0, logs)
    assert set(logs) == {"loss", "mean_norm/hebbian", "converged/hebbian"}


def deep():
    bottom = keras.Sequential(
        [keras.Input((6,)), hebbian(7, activation=RePU(2.0), name="low")], name="bottom"
    )
    return keras.Sequential(
        [
            keras.Input((2, 3)),
            keras.layers.Flatten(),
            bottom,
            keras.layers.UnitNormalization(),
            keras.layers.Dropout(0.9),
            hebbian(5, name="high"),
        ]
    )


def test_data_reach_deeper_layers():
    model = deep()
    x = np.random.default_rng(0).normal(size=(2100, 2, 3)).astype("float32")
    monitor = ConvergenceMonitor(data=x)
    monitor.set_model(model)
    monitor.on_train_begin()
    low = model.layers[1].layers[0]
    flat = x.reshape(-1, 6)
    hidden = np.maximum(flat @ array(low.kernel), 0) ** 2
    hidden /= np.maximum(np.linalg.norm(hidden, axis=-1, keepdims=True), 1e-12)
    expected = {
        **{f"{k}/low": v for k, v in convergence(low, flat, 0.1).items()},
        **{f"{k}/high": v for k, v in convergence(model.layers[-1], hidden, 0.1).items()},
    }
    assert monitor.initial == pytest.approx(expected, rel=1e-4)


def test_data_by_layer():
    model = deep()
    inputs = np.random.default_rng(0).random((9, 7))
    monitor = ConvergenceMonitor(data={"high": inputs})
    monitor.set_model(model)
    monitor.on_train_begin()
    assert "won/low" not in monitor.initial
    expected = convergence(model.layers[-1], inputs, 0.1)
    assert monitor.initial["won/high"] == pytest.approx(expected["won"])


def test_every_of_convergence():
    model = keras.Sequential([keras.Input((6,)), hebbian(name="hebbian")])
    model.compile(keras.optimizers.SGD(0.05), loss=None)
    x = np.random.default_rng(0).random((40, 6)).astype("float32")
    monitor = ConvergenceMonitor(every=2, data=x)
    history = model.fit(x, batch_size=10, epochs=3, callbacks=[monitor], verbose=0).history
    norms = history["mean_norm/hebbian"]
    assert norms[0] == monitor.initial["mean_norm/hebbian"]
    assert norms[0] != norms[1] == norms[2]


def test_encoder_built_by_the_first_batch():
    model = keras.Sequential([hebbian(name="low"), hebbian(name="high")])
    model.compile(keras.optimizers.SGD(0.05), loss=None)
    x = np.random.default_rng(0).random((40, 6)).astype("float32")
    monitor = ConvergenceMonitor(data=x)
    history = model.fit(x, batch_size=10, epochs=2, callbacks=[monitor], verbose=0).history
    assert {"won/low", "won/high", "mean_norm/high"} <= set(history)


class Replacement(keras.layers.Layer):
    """Trains in the place of another layer, as pretraining may."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer
        self.plasticity = layer.plasticity
        self.kernel = self.add_weight(shape=(6, 4), initializer="ones", name="own")

    def call(self, inputs):
        return ops.matmul(inputs, self.kernel)


def test_the_weights_that_learn_are_measured():
    layer = hebbian(4, name="inner")
    layer.build((None, 6))
    model = keras.Sequential([keras.Input((6,)), Replacement(layer, name="outer")])
    monitor = ConvergenceMonitor()
    monitor.set_model(model)
    monitor.on_train_begin()
    assert monitor.initial == {"mean_norm/outer": 6.0, "converged/outer": 0.0}


def test_a_model_without_plasticity_warns():
    with pytest.warns(UserWarning, match="nothing to report"):
        train(keras.Sequential([keras.layers.Dense(3)]), ConvergenceMonitor())


def test_bad_input_of_convergence():
    model = deep()
    for wrong in ({"highest": np.ones((3, 7))}, {"flatten": np.ones((3, 6))}):
        monitor = ConvergenceMonitor(data=wrong)
        monitor.set_model(model)
        with pytest.raises(ValueError, match=r"`data` must be .*'low', 'high'"):
            monitor.on_train_begin()
    monitor = ConvergenceMonitor(data={"high": np.ones((3, 6))})
    monitor.set_model(model)
    with pytest.raises(ValueError, match=r"`inputs` must be .*7\)"):
        monitor.on_train_begin()
    for arguments, match in (({"tolerance": 0}, "tolerance"), ({"every": -1}, "every")):
        with pytest.raises(ValueError, match=f"`{match}` must be"):
            ConvergenceMonitor(**arguments)


class SubclassedEncoder(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = hebbian(4, name="hidden")

    def call(self, inputs):
        return self.hidden(inputs)


def test_subclassed_encoders_need_data_by_layer():
    model = SubclassedEncoder()
    x = np.random.default_rng(0).random((10, 6)).astype("float32")
    for built in (False, True):
        if built:
            model(x)
        monitor = ConvergenceMonitor(data=x)
        monitor.set_model(model)
        with pytest.raises(ValueError, match="`data` must be a mapping"):
            monitor.on_train_begin()
    monitor = ConvergenceMonitor(data={"hidden": x})
    monitor.set_model(model)
    monitor.on_train_begin()
    assert "won/hidden" in monitor.initial


def test_layers_that_need_two_inputs_need_data_by_layer():
    one, two = keras.Input((4,)), keras.Input((6,))
    merged = keras.layers.Concatenate()([one, hebbian(5, name="low")(two)])
    model = keras.Model([one, two], hebbian(3, name="high")(merged))
    monitor = ConvergenceMonitor(data=np.ones((3, 6)))
    monitor.set_model(model)
    with pytest.raises(ValueError, match="`data` must be a mapping"):
        monitor.on_train_begin()


def test_two_replicas():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("MirroredStrategy")
    with two_replicas().scope():
        model = keras.Sequential(
            [
                keras.Input((4,)),
                hebbian(6, activation="relu", name="low"),
                hebbian(5, name="high"),
                FeedbackDense(3, name="top"),
            ]
        )
        model.compile(keras.optimizers.SGD(0.01), LocalHinge())
    x, y = data()
    monitors = [AlignmentMonitor(), ConvergenceMonitor(data=x)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = model.fit(x, y, batch_size=16, callbacks=monitors, verbose=0).history
    assert {"alignment_angle/top", "won/low", "dead/high"} <= set(history)
