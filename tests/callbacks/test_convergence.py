"""What `ConvergenceMonitor` reports of Hebbian layers."""

from __future__ import annotations

import math
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.activations import RePU
from keras_local.callbacks import AlignmentMonitor, ConvergenceMonitor
from keras_local.layers import (
    FeedbackDense,
    HebbianDense,
)
from keras_local.losses import LocalHinge
from keras_local.plasticity import KrotovHopfield
from tests.callbacks.support import (
    data,
    train,
)
from tests.support import array, two_replicas


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


@pytest.mark.few(1)
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


@pytest.mark.daily
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
