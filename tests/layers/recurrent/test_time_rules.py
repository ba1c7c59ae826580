"""Credit in time: what a stop on messages gives is the sum of traces that run forwards in time."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from tests import oracles_recurrent as oracle
from tests.layers.recurrent.nets import (
    KINDS,
    MASK,
    TOLERANCE,
    B,
    T,
    U,
    data,
    difference,
    double,
    gradients,
    layer,
    parameters,
)
from tests.support import BACKEND, array

WITH_TRACES = ("leaky", "lstm", "gru")
MODES = [False, pytest.param(True, marks=pytest.mark.daily)] if BACKEND == "tensorflow" else [None]


def made_with(kind: str, p: Any, time_rule: str, **options: Any) -> Any:
    """The layer; below it nothing is wanted but backpropagation."""
    return layer(kind, p, feedback="symmetric", time_rule=time_rule, **options)


@pytest.mark.parametrize("kind", WITH_TRACES)
@pytest.mark.parametrize("mode", MODES)
def test_eprop_is_the_sum_of_traces(kind: str, mode: Any) -> None:
    with double():
        p = parameters(kind)
        x, signals = data()
        expected = oracle.traces(kind, p, oracle.run(kind, p, x), signals)
        found = gradients(made_with(kind, p, "eprop"), x, signals, compiled=mode)
        if kind == "gru":
            # The trace of the second bias is that of the messages' fields.
            del expected["b"]
        assert difference(found, expected) < TOLERANCE


@pytest.mark.parametrize("kind", [*WITH_TRACES, pytest.param("simple", marks=pytest.mark.daily)])
@pytest.mark.filterwarnings("ignore:.*time_rule='eprop' credits")
def test_eprop_is_the_adjoint_without_errors_across(kind: str) -> None:
    with double():
        p = parameters(kind)
        p["bw"] = p["w"]
        x, signals = data()
        for mask in (None, MASK):
            seen = oracle.run(kind, p, x, mask)
            expected = oracle.backward(kind, p, seen, signals, cross=False)
            found = gradients(made_with(kind, p, "eprop"), x, signals, mask)
            assert difference(found, expected) < TOLERANCE


@pytest.mark.parametrize("kind", ["leaky", "simple"])
def test_snap1_is_the_sum_of_its_traces(kind: str) -> None:
    with double():
        p = parameters(kind)
        x, signals = data()
        leak = 1 - 1 / 3.0 if kind == "leaky" else 0.0
        expected = oracle.snap1(p, oracle.run(kind, p, x), signals, leak)
        found = gradients(made_with(kind, p, "snap1"), x, signals)
        assert difference(found, expected) < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_backpropagation_is_real_time_learning(kind: str) -> None:
    """And, of all cells, what a loop of NumPy sends back."""
    with double():
        p = parameters(kind)
        p["bw"], p["bu"] = p["w"], p["u"]
        x, errors = data()
        found = gradients(layer(kind, p, feedback="symmetric"), x, errors)
        expected = oracle.backward(kind, p, oracle.run(kind, p, x), errors)
        assert difference(found, expected) < TOLERANCE
        if kind == "leaky":
            assert difference(found, oracle.rtrl(p, x, errors, 3.0)) < TOLERANCE


@pytest.mark.parametrize("kind", WITH_TRACES)
def test_backpropagation_is_the_sum_of_traces_with_exact_signals(kind: str) -> None:
    """The same traces; the signal alone needs to know of later steps."""
    with double():
        p = parameters(kind)
        p["bw"], p["bu"] = p["w"], p["u"]
        x, errors = data()
        seen = oracle.run(kind, p, x)
        signals = oracle.backward(kind, p, seen, errors)["signals"]
        assert np.abs(signals - errors).max() > 1e-2
        expected = oracle.traces(kind, p, seen, signals)
        if kind == "gru":
            # The trace of the second bias is that of the messages' fields.
            del expected["b"]
        found = gradients(layer(kind, p, feedback="symmetric"), x, errors)
        assert difference(found, expected) < TOLERANCE


@pytest.mark.filterwarnings("ignore:.*time_rule='eprop' credits")
@pytest.mark.parametrize(
    "kind", ["leaky", "lstm", "gru", pytest.param("simple", marks=pytest.mark.daily)]
)
def test_without_recurrent_weights_eprop_is_exact(kind: str) -> None:
    with double():
        p = parameters(kind)
        p["u"] = np.zeros_like(p["u"])
        x, errors = data()
        exact, online = (
            gradients(made_with(kind, p, rule), x, errors) for rule in ("bptt", "eprop")
        )
        for name, value in exact.items():
            np.testing.assert_allclose(online[name], value, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_with_diagonal_recurrent_weights_snap1_is_exact(kind: str) -> None:
    """A unit then hears of itself alone, by every gate; e-prop drops what comes that way."""
    with double():
        p = parameters(kind)
        p["u"] = p["u"] * np.tile(np.eye(U), (1, KINDS[kind][2]))
        x, errors = data()
        exact = gradients(made_with(kind, p, "bptt"), x, errors)
        found = gradients(made_with(kind, p, "snap1"), x, errors)
        for name, value in exact.items():
            np.testing.assert_allclose(found[name], value, atol=TOLERANCE, err_msg=name)
        if kind in WITH_TRACES:
            online = gradients(made_with(kind, p, "eprop"), x, errors)
            assert np.abs(online["inputs/kernel"] - exact["inputs/kernel"]).max() > 1e-2


@pytest.mark.filterwarnings("ignore:.*time_rule='eprop' credits")
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "gru_before"])
def test_one_step_is_backpropagation(kind: str) -> None:
    with double():
        p = parameters(kind)
        x, errors = (each[:, :1] for each in data())
        exact = gradients(made_with(kind, p, "bptt"), x, errors)
        for rule in ("eprop", "snap1"):
            found = gradients(made_with(kind, p, rule), x, errors)
            for name, value in exact.items():
                np.testing.assert_allclose(found[name], value, atol=TOLERANCE)


def test_masked_steps_change_nothing() -> None:
    """Steps inside and behind, of any content."""
    with double():
        p = parameters("lstm")
        x, errors = data()
        made = made_with("lstm", p, "eprop")
        errors = errors * MASK[..., None]
        whole = gradients(made, x, errors, MASK)
        for content in (0.0, 1e6):
            filled = np.where(MASK[..., None], x, content)
            found = gradients(made, filled, errors, MASK)
            for name in ("inputs/kernel", "recurrent/kernel", "recurrent/bias"):
                np.testing.assert_array_equal(found[name], whole[name])
    kept = gradients(made_with("lstm", p, "eprop"), x[2:], errors[2:])
    assert np.isfinite(kept["x"]).all()


def test_the_learning_signal_is_what_the_layer_above_sends() -> None:
    """Random feedback of the readout is RFLO's; the credit in time is the layer's own."""
    with double():
        p = parameters("leaky")
        x, _ = data()
        made = made_with("leaky", p, "eprop")
        readout = kl.layers.FeedbackDense(2, feedback="feedback_alignment")
        readout.build((B, T, U))
        model = keras.Sequential([keras.Input((T, 4)), made, readout])
        targets = np.random.default_rng(4).normal(size=(B, T, 2))
        loss = keras.losses.MeanSquaredError(reduction="sum")
        model.compile(keras.optimizers.SGD(1e-3), loss)
        before = array(made.kernel)
        outputs = model.predict(x, verbose=0)
        model.train_on_batch(x, targets)
        signals = (outputs - targets) @ array(readout.feedback_kernel).T
        expected = oracle.traces("leaky", p, oracle.run("leaky", p, x), signals)["w"]
        # The loss is a mean over the last axis of squares.
        found = (before - array(made.kernel)) / 1e-3
        np.testing.assert_allclose(
            found,
            expected,
            atol=max(TOLERANCE * 1e3, 1e-9),
            rtol=1e-4 if BACKEND != "tensorflow" else 1e-7,
        )


class TestRefused:
    def test_an_unknown_rule(self) -> None:
        with pytest.raises(ValueError, match="`time_rule` must be one of 'bptt', 'eprop', 'snap1'"):
            kl.layers.FeedbackLSTM(3, time_rule="rtrl")  # type: ignore[arg-type]

    @pytest.mark.parametrize("rule", ["eprop", "snap1"])
    def test_recurrent_feedback_without_an_effect(self, rule: Any) -> None:
        with pytest.raises(ValueError, match="`recurrent_feedback` must be None with time_rule"):
            kl.layers.FeedbackLSTM(3, time_rule=rule, recurrent_feedback="symmetric")

    def test_a_reset_gate_without_credit(self) -> None:
        with pytest.raises(ValueError, match="`reset_after` must be True with time_rule='eprop'"):
            kl.layers.FeedbackGRU(3, time_rule="eprop", reset_after=False)
        # A string from a file is another object.
        config = json.loads(json.dumps(kl.layers.FeedbackGRU(3, time_rule="eprop").get_config()))
        with pytest.raises(TypeError, match="`reset_after` must be True with time_rule='eprop'"):
            kl.layers.FeedbackGRU.from_config({**config, "reset_after": False})

    def test_units_without_a_memory_are_warned_of(self) -> None:
        with pytest.warns(UserWarning, match=r"credit for itself alone. `kl.layers.LeakyRNN`"):
            kl.layers.FeedbackSimpleRNN(3, time_rule="eprop")

    @pytest.mark.parametrize("tau", [0.5, float("nan"), "1", None])
    def test_a_time_constant_below_one_step(self, tau: Any) -> None:
        with pytest.raises(ValueError, match="`tau` must be a finite number at least 1"):
            kl.layers.LeakyRNN(3, tau)
