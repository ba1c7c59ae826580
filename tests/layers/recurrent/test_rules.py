"""Errors return through feedback kernels, in space and in time: a loop in NumPy says where to."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from keras_local.ops import abilities
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
from tests.support import BACKEND, array, tensorflow_only

MODES = [None, False, True] if BACKEND == "tensorflow" else [None]
"""Eagerly, as a graph, compiled by XLA; elsewhere as it comes."""


MORE = dict.fromkeys(KINDS, pytest.mark.thorough) | {"gru_before": pytest.mark.daily}
DAILY = [pytest.param(kind, marks=() if kind == "lstm" else MORE[kind]) for kind in KINDS]
"""Of the others, what is tested in each run is alike."""


@pytest.mark.parametrize("kind", DAILY)
@pytest.mark.parametrize(
    "mask", [pytest.param(None, marks=pytest.mark.thorough), MASK], ids=["", "mask"]
)
def test_feedback_alignment(kind: str, mask: Any) -> None:
    with double():
        p = parameters(kind)
        x, errors = data()
        made = layer(kind, p, feedback="feedback_alignment")
        seen = oracle.run(kind, p, x, mask)
        expected = oracle.backward(kind, p, seen, errors)
        for mode in MODES[1:] if BACKEND == "tensorflow" else MODES:
            found = gradients(made, x, errors, mask, mode)
            outputs = np.stack([s["out"] for s in seen], axis=1)
            np.testing.assert_allclose(found["outputs"], outputs, atol=TOLERANCE)
            assert difference(found, expected) < TOLERANCE
    exact = oracle.backward(kind, {**p, "bw": p["w"], "bu": p["u"]}, seen, errors)
    assert difference(found, exact) > 1e-2


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_unrolled_backwards_with_a_first_state(kind: str) -> None:
    """Other ways through the sequence, with `symmetric` in the rule's place, equal backprop."""
    with double():
        p = parameters(kind)
        x, errors = data()
        exact = {**p, "bw": p["w"], "bu": p["u"]}
        for options in ({"unroll": True}, {"go_backwards": True}):
            made = layer(kind, exact, feedback="feedback_alignment", **options)
            turned = x[:, ::-1] if "go_backwards" in options else x
            seen = oracle.run(kind, exact, turned)
            expected = oracle.backward(kind, exact, seen, errors)
            if "go_backwards" in options:
                expected["x"] = expected["x"][:, ::-1]
            assert difference(gradients(made, x, errors), expected) < TOLERANCE


@pytest.mark.parametrize("kind", DAILY)
@pytest.mark.parametrize("rule", ["feedback_alignment", "kolen_pollack"])
def test_each_step_for_itself_or_all_at_once(kind: str, rule: str, monkeypatch: Any) -> None:
    """Steps that send their own errors, and a loop backwards over all, give the same."""
    found = []
    with double():
        x, errors = data()
        for apart in (False, True):
            monkeypatch.setattr(abilities, "OVERLAPS_STEPS", apart)
            made = layer(kind, parameters(kind), feedback=rule)
            found.append(gradients(made, x, errors, MASK))
    assert difference(found[0], found[1]) < TOLERANCE
    np.testing.assert_allclose(found[0]["outputs"], found[1]["outputs"], atol=TOLERANCE)


@pytest.mark.parametrize("kind", DAILY)
def test_kolen_pollack(kind: str) -> None:
    """Both feedback kernels receive the sum over time that their kernels receive."""
    with double():
        p = parameters(kind)
        x, errors = data()
        rule = kl.feedback.KolenPollack(separate=True)
        found = gradients(layer(kind, p, feedback=rule), x, errors)
        expected = oracle.backward(kind, p, oracle.run(kind, p, x), errors)
        assert difference(found, expected) < TOLERANCE
        for part in ("inputs", "recurrent"):
            np.testing.assert_array_equal(found[f"{part}/feedback_kernel"], found[f"{part}/kernel"])


@pytest.mark.parametrize(
    "rule", ["kolen_pollack", kl.feedback.KolenPollack(separate=True)], ids=str
)
@pytest.mark.parametrize(
    "kind", ["lstm", *(pytest.param(k, marks=pytest.mark.thorough) for k in KINDS if k != "lstm")]
)
def test_the_difference_of_the_kernels_is_constant(kind: str, rule: Any) -> None:
    with double():
        p = parameters(kind)
        made = layer(kind, p, feedback=rule)
        model = keras.Sequential([keras.Input((T, 4)), made])
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
        x, targets = data()
        before = array(made.recurrent_kernel)
        model.fit(x, targets, epochs=10, batch_size=B, verbose=0)
        assert np.abs(array(made.recurrent_kernel) - before).max() > 1e-3
        for one, other, start in (
            (made.recurrent_feedback_kernel, made.recurrent_kernel, p["bu"] - p["u"]),
            (made.feedback_kernel, made.kernel, p["bw"] - p["w"]),
        ):
            np.testing.assert_allclose(array(one) - array(other), start, atol=TOLERANCE)


def test_it_shrinks_with_decay() -> None:
    with double():
        p = parameters("lstm")
        made = layer("lstm", p, feedback=kl.feedback.KolenPollack(decay=0.5))
        model = keras.Sequential([keras.Input((T, 4)), made])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        x, targets = data()
        model.fit(x, targets, epochs=5, batch_size=B, verbose=0)
        gap = array(made.recurrent_feedback_kernel) - array(made.recurrent_kernel)
        expected = (p["bu"] - p["u"]) * (1 - 0.1 * 0.5) ** 5
        np.testing.assert_allclose(gap, expected, atol=max(TOLERANCE, 1e-12))


@pytest.mark.parametrize("kind", ["lstm", "gru_before"])
def test_sign_symmetry(kind: str) -> None:
    with double():
        p = parameters(kind)
        x, errors = data()
        made = layer(kind, p, feedback=kl.feedback.FeedbackAlignment())
        made = KINDS[kind][0](
            U, return_sequences=True, feedback=kl.feedback.SignSymmetry(scale=0.3), **KINDS[kind][1]
        )
        made.build((B, T, 4))
        for variable, name in ((made.kernel, "w"), (made.recurrent_kernel, "u"), (made.bias, "b")):
            variable.assign(p[name])
        signs = {**p, "bw": 0.3 * np.sign(p["w"]), "bu": 0.3 * np.sign(p["u"])}
        expected = oracle.backward(kind, signs, oracle.run(kind, signs, x), errors)
        assert difference(gradients(made, x, errors), expected) < TOLERANCE


def test_magnitudes_are_drawn_once_a_batch() -> None:
    """Not in each step: then one feedback kernel explains all errors of a call."""
    with double():
        x, errors = data()
        rule = kl.feedback.SignSymmetry("batchwise")
        made = kl.layers.FeedbackSimpleRNN(U, return_sequences=True, feedback=rule)
        made.build((B, T, 4))
        drawn: list[Any] = []
        part = made.recurrent_part
        original = type(part.rule).signals

        def signals(self: Any, *arguments: Any) -> Any:
            found = original(self, *arguments)
            drawn.append(found)
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(part.rule), "signals", signals)
            first = gradients(made, x, errors)
        assert len(drawn) == 2  # inputs and messages
        if BACKEND != "jax":  # There a state that is drawn from is handed on by the caller.
            assert np.abs(gradients(made, x, errors)["x"] - first["x"]).max() > 1e-3


@pytest.mark.parametrize("kind", DAILY)
def test_recurrent_feedback_of_its_own(kind: str) -> None:
    """Errors may go down by one rule and back in time by another."""
    with double():
        p = parameters(kind)
        x, errors = data()
        made = layer(kind, p, feedback="feedback_alignment", recurrent_feedback="symmetric")
        mixed = {**p, "bu": p["u"]}
        expected = oracle.backward(kind, mixed, oracle.run(kind, mixed, x), errors)
        assert difference(gradients(made, x, errors), expected) < TOLERANCE


def test_detached_sends_nothing_down() -> None:
    with double():
        p = parameters("lstm")
        x, errors = data()
        made = layer("lstm", p, feedback="detached", recurrent_feedback="symmetric")
        found = gradients(made, x, errors)
        assert not found["x"].any()
        exact = {**p, "bw": p["w"], "bu": p["u"]}
        expected = oracle.backward("lstm", exact, oracle.run("lstm", exact, x), errors)
        del expected["x"]
        assert difference(found, expected) < TOLERANCE


def test_feedback_starts_apart_from_the_kernels() -> None:
    """Also where the initializers have seeds; and as the recurrent kernel is drawn: orthogonal."""
    start = keras.initializers.Orthogonal(seed=5)
    made = kl.layers.FeedbackSimpleRNN(
        6, feedback="feedback_alignment", recurrent_initializer=start
    )
    made.build((None, None, 3))
    u, b = array(made.recurrent_kernel), array(made.recurrent_feedback_kernel)
    assert np.abs(u - b).max() > 0.1
    np.testing.assert_allclose(b @ b.T, np.eye(6), atol=1e-5)


def test_the_stream_of_seeds_is_that_of_keras() -> None:
    """What is made behind our layer starts as behind the built-in one."""
    drawn = []
    for make in (keras.layers.LSTM, kl.layers.FeedbackLSTM):
        keras.utils.set_random_seed(3)
        made, behind = make(4, dropout=0.1), keras.layers.Dense(2)
        made.build((None, None, 3))
        behind.build((None, 4))
        drawn.append([array(behind.kernel), *map(array, made.trainable_variables[:1])])
    for one, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(one, other)


@tensorflow_only
def test_length_and_batch_size_unknown() -> None:
    model = keras.Sequential(
        [keras.Input((None, 4)), kl.layers.FeedbackLSTM(5), keras.layers.Dense(1)]
    )
    for jit in (False, True):
        model.compile("sgd", "mse", jit_compile=jit)
        for batch, length in ((2, 3), (4, 6)):
            loss = model.train_on_batch(np.ones((batch, length, 4)), np.ones((batch, 1)))
            assert np.isfinite(loss)
