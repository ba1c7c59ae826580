"""What `AlignmentMonitor` reports, of layers of the package, of a user, and inside of others."""

from __future__ import annotations

import csv
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers as kl_layers
from keras_local.callbacks import AlignmentMonitor
from keras_local.losses import LocalHinge
from keras_local.metrics import alignment_angle
from tests.callbacks.support import angle, data, reported, stack, train
from tests.support import array, probe
from tests.support_layers import Halved

FA = "feedback_alignment"


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


@pytest.mark.parametrize("wrong", [["third", "forth"], ["activation"]])
def test_unknown_layers(wrong):
    model = stack()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"`layers` must be .*'first', 'second', 'third'") as error:
        train(model, AlignmentMonitor(layers=wrong))
    assert wrong[-1] in str(error.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_unknown_layers_of_a_model_that_is_not_built():
    """Before the first batch, which builds it."""
    model = keras.Sequential([kl_layers.FeedbackDense(2, feedback="urfb", name="only")])
    monitor = AlignmentMonitor(layers=["nowhere"])
    monitor.set_model(model)
    with pytest.raises(ValueError, match=r"`layers` must be .*'only'.*nowhere"):
        monitor.on_train_begin()


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
        ({"measures": {}}, "measures"),
    ],
)
def test_bad_arguments_of_alignment(arguments, match):
    with pytest.raises(ValueError, match=f"`{match}` must be"):
        AlignmentMonitor(**arguments)


def attention() -> keras.Model:
    """Two names twice: a layer of several kernels, one inside of a wrapper."""
    inputs = keras.Input((5, 4))
    x = keras.layers.Dense(4)(inputs)
    x = kl_layers.FeedbackMultiHeadAttention(2, 3, name="attention", feedback=FA)(x, x)
    timed = keras.layers.TimeDistributed(kl_layers.FeedbackDense(3, name="inner", feedback=FA))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(timed(x)))
    model.compile("sgd", "mse")
    return model


def own() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), Halved(3, name="own")])
    model.compile("sgd", "mse")
    return model


def started(model: keras.Model, **options: Any) -> AlignmentMonitor:
    monitor = AlignmentMonitor(**options)
    monitor.set_model(model)
    monitor.on_train_begin()
    return monitor


def test_parts_of_a_layer_and_layers_in_wrappers() -> None:
    found = started(attention(), measures=["alignment_angle"]).initial
    names = ["query", "key", "value", "attention_output", "inner"]
    assert list(found) == [f"alignment_angle/{name}" for name in names]


def test_the_name_of_a_layer_stands_for_its_parts() -> None:
    found = started(attention(), layers=["attention"], measures=["norm_ratio"]).initial
    names = ["query", "key", "value", "attention_output"]
    assert list(found) == [f"norm_ratio/{name}" for name in names]


def test_gradients_of_parts() -> None:
    data = (probe((6, 5, 4)), np.ones((6, 3), "float32"))
    found = started(attention(), data=data, measures=["norm_ratio"]).initial
    assert found["gradient_angle/inner"] == pytest.approx(0.0, abs=0.1)
    assert found["gradient_angle/query"] > 20.0
    assert found["local_gradient_angle/key"] > 20.0


def test_a_layer_of_a_user() -> None:
    model = own()
    found = started(model, measures=["alignment_angle"]).initial
    layer = model.layers[1]
    assert found == {"alignment_angle/own": alignment_angle(layer.kernel, layer.back)}


def test_a_layer_of_a_user_that_cannot_do_without_its_rule() -> None:
    """Its gradient by backpropagation is not known: refused by name, before training."""
    data = (probe((6, 4)), np.ones((6, 3), "float32"))
    with pytest.raises(ValueError, match=r"`model` must be .*`exact_errors`.*Halved 'own'"):
        started(own(), data=data)


class Exact(Halved):
    """Its errors can be made those of the chain rule."""

    def exact_errors(self) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def exact() -> Any:
            self.error_kernel = lambda kernel, *feedback: kernel
            try:
                yield
            finally:
                del self.error_kernel

        return exact()


def test_gradients_above_which_a_layer_of_a_user_stands() -> None:
    below = kl_layers.FeedbackDense(4, name="below")
    model = keras.Sequential([keras.Input((4,)), below, Exact(3, name="own")])
    model.compile("sgd", "mse")
    data = (probe((6, 4)), np.ones((6, 3), "float32"))
    found = started(model, data=data, layers=["below"], measures=["norm_ratio"]).initial
    assert found["gradient_angle/below"] > 5.0


def test_wrong_typed_arguments() -> None:
    for options in ({"every": 0}, {"every": True}, {"measures": "nobody"}, {"measures": None}):
        with pytest.raises((TypeError, ValueError), match=f"`{next(iter(options))}` must be"):
            AlignmentMonitor(**options)
