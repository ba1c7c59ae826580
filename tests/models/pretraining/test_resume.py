"""A pretraining that is stopped and taken up again ends where it would have ended, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, plasticity
from keras_local.models import pretrain
from tests.support import array, tensorflow_only, weights_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:Only .* have converged"),
    pytest.mark.filterwarnings("ignore:The units of layer"),
    pytest.mark.filterwarnings("ignore:Layer .*:UserWarning"),
]

DATA = np.random.default_rng(0).random((45, 12)).astype("float32")
KROTOV = plasticity.KrotovHopfield(p=3, rank=3)
ARGUMENTS: dict[str, Any] = {"epochs": 4, "batch_size": 10, "step_size": 0.05, "verbose": 0}


def two_layers(units: int = 15) -> keras.Model:
    first = layers.HebbianDense(units, KROTOV)
    return keras.Sequential([keras.Input((12,)), first, layers.HebbianDense(6)])


def normalised() -> keras.Model:
    lower, upper = layers.HebbianDense(15, KROTOV), layers.HebbianDense(6, "soft_hebb")
    between = keras.layers.BatchNormalization()
    return keras.Sequential([keras.Input((12,)), lower, between, upper])


def noisy() -> keras.Model:
    """Draws, and a rule with a memory."""
    layer = layers.HebbianDense(6, "bcm")
    return keras.Sequential([keras.Input((12,)), keras.layers.GaussianNoise(0.1), layer])


CASES: dict[str, tuple[Callable[[], keras.Model], bool]] = {
    "two_layers": (two_layers, True),
    "normalised": (normalised, True),
    "at_once": (two_layers, False),
    "noisy": (noisy, True),
}


class Stop(Exception):
    """Stands for the end of the process."""


class StopAt(keras.callbacks.Callback):
    """Stops when so many epochs have begun."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.left = epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stop


def values(model: keras.Model) -> list[np.ndarray]:
    return [array(each) for each in model.variables]


def histories(found: dict[str, Any]) -> list[Any]:
    """What the histories hold; names are numbered through the process."""
    return [(each.epoch, list(each.history.values()), each.report) for each in found.values()]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if i == 0 else pytest.mark.daily) for i, name in enumerate(CASES)],
)
def test_resumed_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    make, greedy = CASES[name]
    arguments = {**ARGUMENTS, "greedy": greedy}
    whole, first = make(), make()
    for one, other in zip(first.variables, whole.variables, strict=True):
        one.assign(array(other))
    expected = pretrain(whole, DATA, resume_from=tmp_path / "whole", **arguments)

    encoder = first
    for stops in (1, 2, 1, 3):
        try:
            pretrain(
                encoder, DATA, resume_from=tmp_path / "run", callbacks=StopAt(stops), **arguments
            )
        except Stop:
            encoder = make()  # A new process draws other weights.
    found = pretrain(encoder, DATA, resume_from=tmp_path / "run", **arguments)
    for one, other in zip(values(encoder), values(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    assert histories(found) == histories(expected)
    # Once more: it is over, and nothing changes.
    again = make()
    assert histories(pretrain(again, DATA, resume_from=tmp_path / "run", **arguments)) == histories(
        found
    )
    for one, other in zip(values(again), values(whole), strict=True):
        np.testing.assert_array_equal(one, other)


@tensorflow_only
def test_dataset_of_a_fixed_order(tmp_path: Path) -> None:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(DATA).batch(10)
    whole, encoder = two_layers(), two_layers()
    encoder.set_weights(whole.get_weights())
    pretrain(whole, data, **ARGUMENTS)
    with pytest.raises(Stop):
        pretrain(encoder, data, resume_from=tmp_path, callbacks=StopAt(6), **ARGUMENTS)
    encoder = two_layers()
    pretrain(encoder, data, resume_from=tmp_path, **ARGUMENTS)
    for one, other in zip(weights_of(encoder), weights_of(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_killed_before_the_first_epoch(tmp_path: Path) -> None:
    """The first weights and the order are those of the first process."""
    encoder = two_layers()
    start = weights_of(encoder)
    with pytest.raises(Stop):
        pretrain(encoder, DATA, resume_from=tmp_path, callbacks=StopAt(0), **ARGUMENTS)
    other = two_layers()
    with pytest.raises(Stop):
        pretrain(other, DATA, resume_from=tmp_path, callbacks=StopAt(0), **ARGUMENTS)
    for one, before in zip(weights_of(other), start, strict=True):
        np.testing.assert_array_equal(one, before)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 9}, "batch_size: 10 there, 9 here"),
        ({"epochs": 5}, "epochs: 4 there, 5 here"),
        ({"step_size": 0.1}, "step_size"),
        ({"greedy": False}, "greedy"),
        ({"data": DATA[:40]}, "data: "),
        ({"data": DATA + 0.01}, "data: "),
        ({"encoder": 14}, "encoder: "),
    ],
    ids=["batch_size", "epochs", "step_size", "greedy", "length", "contents", "encoder"],
)
def test_another_run_is_refused(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        pretrain(two_layers(), DATA, resume_from=tmp_path, callbacks=StopAt(2), **ARGUMENTS)
    file = (tmp_path / "pretraining.npz").read_bytes()
    encoder = two_layers(change.pop("encoder", 15))
    data = change.pop("data", DATA)
    before = weights_of(encoder)
    with pytest.raises(ValueError, match=f"`resume_from` must be .*{named}"):
        pretrain(encoder, data, resume_from=tmp_path, **{**ARGUMENTS, **change})
    for one, other in zip(weights_of(encoder), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (tmp_path / "pretraining.npz").read_bytes() == file


@pytest.mark.parametrize("contents", [b"", b"no archive", b"PK\x03\x04 half of one"])
def test_a_file_of_another_kind_is_refused(contents: bytes, tmp_path: Path) -> None:
    (tmp_path / "pretraining.npz").write_bytes(contents)
    with pytest.raises(ValueError, match="`resume_from` must be a directory whose pretraining"):
        pretrain(two_layers(), DATA, resume_from=tmp_path, **ARGUMENTS)
    assert (tmp_path / "pretraining.npz").read_bytes() == contents


@pytest.mark.parametrize("place", ["", 3, None, "file/below"])
def test_no_directory_is_refused(place: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    if place is None:
        place = "denied"
        monkeypatch.setattr("keras_local._runs.os.access", lambda *_: False)
    with pytest.raises(ValueError, match="`resume_from` must be the path of a directory"):
        pretrain(two_layers(), DATA, resume_from=place, **ARGUMENTS)


def test_initial_epoch_goes_on_with_the_step_sizes() -> None:
    """Two halves are one training; the order is that of the data."""
    whole, halves = two_layers(), two_layers()
    halves.set_weights(whole.get_weights())
    data = DATA[:10]  # One batch: every order is the same but for rounding.
    one = pretrain(whole, data, **ARGUMENTS)
    lower, upper = halves.layers
    upper.trainable = False
    pretrain(halves, data, callbacks=StopTraining(1), **ARGUMENTS)
    found = pretrain(halves, data, initial_epoch=2, **ARGUMENTS)
    np.testing.assert_allclose(array(lower.kernel), array(whole.layers[0].kernel), atol=1e-5)
    history = next(iter(one.values())).history["mean_norm"]
    np.testing.assert_allclose(found[lower.name].history["mean_norm"], history[2:], rtol=1e-4)
    assert found[lower.name].epoch == [2, 3]
    with pytest.raises(ValueError, match="`initial_epoch` must be an integer of at least 0"):
        pretrain(halves, data, initial_epoch=4, **ARGUMENTS)


class StopTraining(keras.callbacks.Callback):
    """Ends a fit after an epoch, as EarlyStopping does."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.last = epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = epoch >= self.last


class TestCallbacks:
    def test_what_they_save_is_the_encoder(self, tmp_path: Path) -> None:
        encoder = two_layers()
        kernels = []

        class Look(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                kernels.append(weights_of(encoder))
                assert self.model.get_config()["layers"] == encoder.get_config()["layers"]

        saver = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
        weights = keras.callbacks.ModelCheckpoint(
            tmp_path / "last.weights.h5", save_weights_only=True
        )
        pretrain(encoder, DATA, callbacks=[saver, weights, Look()], **ARGUMENTS)
        # The second layer's files stand in the place of the first one's.
        for epoch in (1, 4):
            loaded = keras.saving.load_model(tmp_path / f"{epoch}.keras")
            for one, other in zip(weights_of(loaded), kernels[3 + epoch], strict=True):
                np.testing.assert_array_equal(one, other)
        again = two_layers()
        again.load_weights(tmp_path / "last.weights.h5")
        for one, other in zip(weights_of(again), weights_of(encoder), strict=True):
            np.testing.assert_array_equal(one, other)

    @tensorflow_only
    def test_tensorboard_writes(self, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        log = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1)
        pretrain(two_layers(), DATA, callbacks=log, **ARGUMENTS)
        assert list(tmp_path.rglob("events.*"))

    def test_best_weights_are_restored(self) -> None:
        encoder = two_layers()
        kernels: list[np.ndarray] = []

        class Look(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                kernels.append(array(encoder.layers[0].kernel))
                logs["score"] = -abs(epoch - 1)

        stop = keras.callbacks.EarlyStopping(
            "score", mode="max", patience=1, restore_best_weights=True
        )
        pretrain(encoder, DATA, callbacks=[Look(), stop], **ARGUMENTS)
        np.testing.assert_array_equal(array(encoder.layers[0].kernel), kernels[1])
        assert np.any(kernels[2] != kernels[1])

    def test_weights_that_one_loads_are_learned_from(self, tmp_path: Path) -> None:
        """A form of the layer that is trained in its place has them too."""
        encoder, other = two_layers(), two_layers()
        other.save_weights(tmp_path / "other.weights.h5")
        other.layers[1].trainable = False

        class Load(keras.callbacks.Callback):
            loaded = False

            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                if not self.loaded:
                    self.loaded = True
                    self.model.load_weights(tmp_path / "other.weights.h5")

        data = DATA[:10]
        pretrain(encoder, data, callbacks=Load(), **ARGUMENTS)
        pretrain(other, data, **ARGUMENTS)
        np.testing.assert_allclose(
            array(encoder.layers[0].kernel), array(other.layers[0].kernel), atol=1e-5
        )

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_backup_is_refused(self, wrapped: bool, tmp_path: Path) -> None:
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        encoder = two_layers()
        before = weights_of(encoder)
        given = keras.callbacks.CallbackList([backup]) if wrapped else backup
        with pytest.raises(ValueError, match=r"`callbacks` must be .*`resume_from`"):
            pretrain(encoder, DATA, callbacks=given, **ARGUMENTS)
        for one, other in zip(weights_of(encoder), before, strict=True):
            np.testing.assert_array_equal(one, other)
