"""A fit that is stopped inside of an epoch and taken up again is the uninterrupted one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import callbacks, dynamics, layers, models
from keras_local.callbacks import ResumeExactly, resume_fit
from tests.support import array, compile_options, probe, tensorflow_only

X, Y = probe((26, 6)), np.arange(26) % 3
WEIGHTS = np.linspace(0.5, 1.5, 26).astype("float32")
RUN: dict[str, Any] = {"every": 2, "batch_size": 4, "epochs": 3, "verbose": 0}
"""7 batches an epoch, the last of 2 samples."""


def net(units: int = 5, optimizer: Any = None, steps: int = 1) -> keras.Model:
    """Noise of a rule, dropout, a rule with feedback weights, moments, a metric."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.FeedbackDense(units, "tanh", feedback="weight_mirror"),
            keras.layers.Dropout(0.3),
            layers.FeedbackDense(3, feedback="kolen_pollack"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(0.01) if optimizer is None else optimizer,
        loss,
        metrics=["accuracy"],
        steps_per_execution=steps,
        **compile_options(),
    )
    return model


def readout() -> keras.Model:
    keras.utils.set_random_seed(1)  # Frozen features, which the state holds as well.
    encoder = keras.Sequential([keras.Input((6,)), layers.HebbianDense(8)])
    return models.readout(encoder, 3)


def network() -> keras.Model:
    model = dynamics.EquilibriumNetwork([6, 5, 3], free_steps=4, persistent=26)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"])
    return model


class Stop(Exception):
    """Stands for the end of the process."""


class StopAfter(keras.callbacks.Callback):
    """Stops after so many batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stop


def values(model: keras.Model) -> list[np.ndarray]:
    return [array(each) for each in (*model.variables, *model.optimizer.variables)]


def start_alike(model: keras.Model, other: keras.Model) -> None:
    for one, value in zip(model.variables, other.variables, strict=True):
        one.assign(array(value))


def with_stops(
    make: Callable[[], keras.Model],
    first: keras.Model,
    fit: Callable[..., Any],
    stops: tuple[int, ...] = (3, 5, 0, 6),
) -> tuple[keras.Model, Any]:
    """The model and history after a run that was stopped and taken up again by fresh models."""
    model = first
    for batches in stops:
        with pytest.raises(Stop):
            fit(model, callbacks=StopAfter(batches))
        model = make()
    return model, fit(model)


def assert_equal(one: keras.Model, other: keras.Model) -> None:
    for found, expected in zip(values(one), values(other), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("make", "shuffle"),
    [
        (net, True),
        pytest.param(readout, True, marks=[tensorflow_only, pytest.mark.daily]),
        pytest.param(network, False, marks=[tensorflow_only, pytest.mark.daily]),
    ],
    ids=["feedback", "readout", "persistent"],
)
@pytest.mark.filterwarnings("ignore:No unit of layer")
def test_resumed_equals_uninterrupted(
    make: Callable[[], keras.Model], shuffle: bool, tmp_path: Path
) -> None:
    def fit(model: keras.Model, folder: str = "run", **options: Any) -> Any:
        arguments = {**RUN, "shuffle": shuffle, "validation_data": (X[:9], Y[:9]), **options}
        return resume_fit(model, X, Y, directory=tmp_path / folder, **arguments)

    whole, first = make(), make()
    start_alike(first, whole)
    expected = fit(whole, "whole").history
    model, history = with_stops(make, first, fit)
    assert_equal(model, whole)
    assert history.history == expected
    assert history.epoch == [0, 1, 2]
    assert len(expected["val_loss"]) == 3
    # It is over: nothing changes. It can be made longer.
    again = make()
    assert fit(again).history == expected
    assert_equal(again, whole)
    assert fit(again, epochs=4).epoch == [0, 1, 2, 3]


def test_weights_of_samples_and_structures(tmp_path: Path) -> None:
    """What `fit` takes: dicts and lists, weights of samples, a share to validate on."""

    def make() -> keras.Model:
        a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
        hidden = keras.layers.Concatenate()(
            [layers.FeedbackDense(4)(a), layers.FeedbackDense(4)(b)]
        )
        model = keras.Model([a, b], layers.FeedbackDense(1)(hidden))
        model.compile("sgd", "mse", weighted_metrics=["mae"], **compile_options())
        return model

    given: dict[str, Any] = {"sample_weight": WEIGHTS, "validation_split": 0.2, **RUN}
    targets = Y[:, None].astype("float32")

    def fit(model: keras.Model, folder: str = "run", **options: Any) -> Any:
        x = {"a": X, "b": X[:, ::-1]} if folder == "run" else {"b": X[:, ::-1], "a": X}
        return resume_fit(model, x, targets, directory=tmp_path / folder, **{**given, **options})

    whole, first = make(), make()
    start_alike(first, whole)
    expected = fit(whole, "whole").history
    model, history = with_stops(make, first, fit, stops=(3,))
    assert history.history == expected
    assert "val_mae" in expected
    assert_equal(model, whole)
    listed = make()
    start_alike(listed, first)
    resume_fit(listed, [X, X[:, ::-1]], targets, directory=tmp_path / "list", **given)


def test_order_is_that_of_fit_without_shuffling(tmp_path: Path) -> None:
    stock, ours = (net(optimizer=keras.optimizers.SGD(0.1)) for _ in range(2))
    start_alike(ours, stock)
    fitted = stock.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0, class_weight=CLASSES)
    options = {**RUN, "epochs": 2, "shuffle": False, "class_weight": CLASSES}
    found = resume_fit(ours, X, Y, directory=tmp_path, **options)
    np.testing.assert_allclose(found.history["loss"], fitted.history["loss"], rtol=1e-6)
    for one, other in zip(values(ours), values(stock), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


CLASSES = {0: 1.0, 1: 2.0, 2: 0.5}


@pytest.mark.daily
def test_several_steps_at_once(tmp_path: Path) -> None:
    def fit(model: keras.Model, folder: str = "run", **options: Any) -> Any:
        arguments = {**RUN, "batch_size": 5, **options}
        return resume_fit(model, X, Y, directory=tmp_path / folder, **arguments)

    whole = net(steps=2)
    first = net(steps=2)
    start_alike(first, whole)
    expected = fit(whole, "whole").history
    model, history = with_stops(lambda: net(steps=2), first, fit, stops=(2, 1))
    assert history.history == expected
    assert_equal(model, whole)


@pytest.mark.daily
def test_a_function_of_the_place(tmp_path: Path) -> None:
    """What any source of data needs: a stream that begins anywhere."""

    class Batches(keras.utils.PyDataset):
        def __init__(self, first: int) -> None:
            super().__init__()
            self.first = first

        @property
        def num_batches(self) -> None:
            return None

        def __getitem__(self, index: int) -> Any:
            rows = np.random.default_rng(self.first + index).permutation(len(X))[:4]
            return X[rows], Y[rows]

    def fit(model: keras.Model, folder: str = "run", **options: Any) -> Any:
        arguments = {**RUN, "steps_per_epoch": 5, **options}
        stream = lambda epoch, batch: Batches(5 * epoch + batch)  # noqa: E731
        return resume_fit(model, stream, directory=tmp_path / folder, **arguments)

    whole, first = net(), net()
    start_alike(first, whole)
    expected = fit(whole, "whole").history
    model, history = with_stops(net, first, fit, stops=(3, 4))
    assert history.history == expected
    assert_equal(model, whole)


def test_callbacks_see_one_training(tmp_path: Path) -> None:
    seen: list[str] = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            seen.append("begin")

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            seen.append(f"{epoch} of {self.params['steps']}")

        def on_train_end(self, logs: Any = None) -> None:
            seen.append("end")

    with pytest.raises(Stop):
        resume_fit(net(), X, Y, directory=tmp_path, callbacks=[StopAfter(5)], **RUN)
    resume_fit(net(), X, Y, directory=tmp_path, callbacks=[Look()], **RUN)
    assert seen == ["begin", "0 of 3", "1 of 7", "2 of 7", "end"]


def test_a_run_that_a_callback_has_ended_stays_ended(tmp_path: Path) -> None:
    stop = keras.callbacks.EarlyStopping("loss", mode="max", patience=0, restore_best_weights=True)
    first = net()
    options = {**RUN, "directory": tmp_path, "epochs": 9}
    epochs = resume_fit(first, X, Y, callbacks=stop, **options).epoch
    assert len(epochs) < 9
    assert resume_fit(net(), X, Y, **options).epoch == epochs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 5}, "`directory` must be .*batch_size: 4 there, 5 here"),
        ({"x": X[:24], "y": Y[:24]}, "`directory` must be .*data: "),
        ({"x": X + 1}, "`directory` must be .*data: "),
        ({"shuffle": False}, "`directory` must be .*shuffle: True there"),
        ({"seed": 3}, "`directory` must be .*seed: none there, 3 here"),
        ({"model": {"units": 6}}, "`directory` must be .*model: "),
        ({"model": {"optimizer": "sgd"}}, "`directory` must be .*optimizer: "),
        ({"model": {"steps": 3}}, "`every` must be a multiple of the 3 steps"),
        ({"model": {"steps": 2}}, "`steps_per_execution` must be a divisor of the 7 batches"),
        ({"x": X[:0], "y": Y[:0]}, "`x` must be at least one sample"),
        ({"y": Y[:9]}, "`y` must be 26 samples"),
        ({"sample_weight": WEIGHTS[:9]}, "`sample_weight` must be 26 samples"),
        ({"steps_per_epoch": 3}, "`steps_per_epoch` must be left out with arrays"),
        ({"x": iter([(X, Y)]), "y": None}, "`x` must be arrays, or a function"),
        ({"x": lambda epoch, batch: 3, "y": None}, "`steps_per_epoch` must be given"),
        ({"every": 0}, "`every` must be"),
        ({"shuffle": 1}, "`shuffle` must be True or False"),
        ({"validation_split": 1.0}, "`validation_split` must be less than 1"),
        ({"callbacks": [3]}, "`callbacks` must be a list of Keras callbacks"),
        ({"callbacks": keras.callbacks.BackupAndRestore("x")}, "`callbacks` must be .*BackupAnd"),
        (
            {"callbacks": keras.callbacks.CallbackList([keras.callbacks.BackupAndRestore("x")])},
            "`callbacks` must be .*BackupAnd",
        ),
    ],
)
@pytest.mark.daily
@pytest.mark.few(6)
def test_another_run_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        resume_fit(net(), X, Y, directory=tmp_path, callbacks=StopAfter(4), **RUN)
    file = (tmp_path / "fit.npz").read_bytes()
    change = dict(change)
    model = net(**change.pop("model", {}))
    before = [array(each) for each in model.variables]
    arguments = {"x": X, "y": Y, **RUN, **change}
    with pytest.raises(ValueError, match=message):
        resume_fit(model, directory=tmp_path, **arguments)
    for one, other in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(array(one), other)
    assert (tmp_path / "fit.npz").read_bytes() == file


class TestCallback:
    def test_needs_restore(self, tmp_path: Path) -> None:
        resume = ResumeExactly(tmp_path)
        with pytest.raises(ValueError, match=r"`ResumeExactly` must be restored before `fit`"):
            net().fit(X, Y, verbose=0, callbacks=[resume])
        resume.restore(net())
        encoder = keras.Sequential([keras.Input((6,)), layers.HebbianDense(4)])
        with pytest.raises(ValueError, match=r"`ResumeExactly` must be restored before `fit`"):
            models.pretrain(encoder, X, 1, 4, verbose=0, callbacks=[resume])

    def test_model_must_be_ready(self, tmp_path: Path) -> None:
        resume = callbacks.ResumeExactly(tmp_path)
        model = keras.Sequential([layers.FeedbackDense(3)])
        with pytest.raises(ValueError, match="`model` must be compiled"):
            resume.restore(model)
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match="`model` must be built"):
            resume.restore(model)
        with pytest.raises(ValueError, match="`run` must be a dict"):
            ResumeExactly(tmp_path, run={"x": X})

    def test_weights_that_diverged_are_not_written(self, tmp_path: Path) -> None:
        model = net(optimizer=keras.optimizers.SGD(1e38))
        resume = ResumeExactly(tmp_path, every=1)
        resume.restore(model)
        model.fit(X, Y, batch_size=4, epochs=3, verbose=0, callbacks=[resume])
        assert not all(np.isfinite(array(each)).all() for each in model.weights)
        fresh = net(optimizer=keras.optimizers.SGD(1e38))
        ResumeExactly(tmp_path).restore(fresh)
        assert all(np.isfinite(array(each)).all() for each in fresh.weights)

    def test_a_model_that_is_built_by_its_first_batch(self, tmp_path: Path) -> None:
        def make() -> keras.Model:
            model = keras.Sequential([layers.FeedbackDense(4), layers.FeedbackDense(3)])
            model.compile("adam", "mse", **compile_options())
            return model

        targets = np.eye(3, dtype="float32")[Y]
        with pytest.raises(Stop):
            resume_fit(make(), X, targets, directory=tmp_path, callbacks=StopAfter(4), **RUN)
        history = resume_fit(make(), X, targets, directory=tmp_path, **RUN)
        assert history.epoch == [0, 1, 2]


@tensorflow_only
def test_persistent_states_need_their_order(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`shuffle` must be False"):
        resume_fit(network(), X, Y, directory=tmp_path, **RUN)
