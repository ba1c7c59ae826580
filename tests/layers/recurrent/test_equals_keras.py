"""With the symmetric rule a recurrent layer is the built-in one; the loop of the rules agrees."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from tests.layers.recurrent.nets import MASK, B, N, T, U, data, double, gradients
from tests.support import BACKEND, array, tensorflow_only, weights_of

PAIRS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "simple": (kl.layers.FeedbackSimpleRNN, keras.layers.SimpleRNN, {}),
    "lstm": (kl.layers.FeedbackLSTM, keras.layers.LSTM, {}),
    "gru": (kl.layers.FeedbackGRU, keras.layers.GRU, {}),
    "gru_before": (kl.layers.FeedbackGRU, keras.layers.GRU, {"reset_after": False}),
}
OPTIONS: list[dict[str, Any]] = [
    {"unroll": unroll, "stateful": stateful, **dropout}
    for unroll, stateful, dropout in itertools.product(
        (False, True),
        (False, True),
        ({}, {"dropout": 0.3, "seed": 3}, {"dropout": 0.3, "recurrent_dropout": 0.2, "seed": 3}),
    )
]
OFTEN = (
    "lstm",
    {"unroll": False, "stateful": True, "dropout": 0.3, "recurrent_dropout": 0.2, "seed": 3},
)


def cases() -> list[Any]:
    found = []
    for kind, options in itertools.product(PAIRS, OPTIONS):
        name = "-".join([kind, *(f"{k}={v}" for k, v in options.items() if v)])
        mark = () if (kind, options) == OFTEN else pytest.mark.thorough
        found.append(pytest.param(kind, options, id=name, marks=mark))
    return found


def pair(kind: str, options: dict[str, Any], own_loop: bool = False) -> tuple[Any, Any]:
    """Our layer and the built-in one, with the same weights."""
    ours, stock, arguments = PAIRS[kind]
    options = {**arguments, "return_sequences": True, **options}
    both = ours(U, feedback="symmetric", **options), stock(U, **options)
    rng = np.random.default_rng(7)
    for made in both:
        made.build((B, T, N))
    values = [0.5 * rng.normal(size=w.shape) for w in both[1].weights]
    for made in both:
        made.set_weights(values)
    if own_loop:
        both[0]._is_stock = lambda: False
    return both


@pytest.mark.parametrize(
    "mask", [pytest.param(None, marks=pytest.mark.thorough), MASK], ids=["", "mask"]
)
@pytest.mark.parametrize(("kind", "options"), cases())
def test_outputs_and_gradients(kind: str, options: dict[str, Any], mask: Any) -> None:
    """Two batches, so that states are kept; the second way goes through the loop of the rules."""
    with double():
        x, errors = data()
        for own_loop, bound in ((False, 0.0), (True, 1e-12 if BACKEND == "tensorflow" else 1e-4)):
            ours, stock = pair(kind, options, own_loop)
            for batch in (x, x[:, ::-1].copy()):
                found = gradients(ours, batch, errors, mask, False)
                expected = gradients(stock, batch, errors, mask, False)
                for one, other in zip(found.values(), expected.values(), strict=True):
                    np.testing.assert_allclose(one, other, rtol=0, atol=bound)
            if options["stateful"]:
                for one, other in zip(ours.states, stock.states, strict=True):
                    np.testing.assert_allclose(array(one), array(other), atol=bound)
                ours.reset_state()
                assert not array(ours.states[0]).any()


@pytest.mark.parametrize(
    "kind", ["lstm", *(pytest.param(k, marks=pytest.mark.thorough) for k in PAIRS if k != "lstm")]
)
def test_ten_steps_of_fit(kind: str) -> None:
    x, _ = data()
    ours, stock, options = PAIRS[kind]
    ended = []
    for make in (lambda **o: ours(U, feedback="symmetric", **o), lambda **o: stock(U, **o)):
        keras.utils.set_random_seed(4)
        model = keras.Sequential(
            [keras.Input((T, N)), make(dropout=0.2, **options), keras.layers.Dense(2)]
        )
        model.compile(keras.optimizers.Adam(0.01), "mse")
        model.fit(x, x[:, 0, :2], epochs=10, batch_size=B, shuffle=False, verbose=0)
        ended.append(weights_of(model))
    for one, other in zip(*ended, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", PAIRS)
def test_states_go_in_and_out(kind: str) -> None:
    """First states, last states, zeros under the mask, the other direction."""
    x, _ = data()
    x = x.astype("float32")
    options = {"return_state": True, "go_backwards": True, "zero_output_for_mask": True}
    for own_loop in (False, True):
        ours, stock = pair(kind, options, own_loop)
        count = len(stock.get_initial_state(B))
        states = [np.full((B, U), 0.1 * (i + 1), "float32") for i in range(count)]
        found = ours(x, initial_state=states, mask=MASK)
        expected = stock(x, initial_state=states, mask=MASK)
        assert len(found) == len(expected) == 1 + count
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(array(one), array(other), atol=1e-6)


def test_outputs_before_the_first_step_that_counts() -> None:
    """Zero, whatever the first state is, as in Keras on TensorFlow."""
    x = data()[0].astype("float32")
    ours = pair("gru", {}, own_loop=True)[0]
    outputs = array(ours(x, initial_state=[np.ones((B, U), "float32")], mask=MASK))
    assert not outputs[1, 0].any()
    assert outputs[0, 0].any()


@tensorflow_only
def test_the_batch_size_of_kept_states_is_fixed() -> None:
    made = kl.layers.FeedbackLSTM(U, stateful=True, feedback="feedback_alignment")
    made.build((B, T, N))
    with pytest.raises(ValueError, match="`inputs` must be of batches of 3"):
        made(np.ones((2, T, N), "float32"))


def test_the_built_in_loop_is_used() -> None:
    """And that of cuDNN, where there is one: the layer says what the built-in one says."""
    made = kl.layers.FeedbackLSTM(U, feedback="symmetric")
    made.build((B, T, N))
    called: list[Any] = []
    made.stock.call = lambda *arguments, **options: called.append(options) or arguments[0][:, 0]
    made.stock.supports_jit = False
    made(np.ones((B, T, N), "float32"))
    assert len(called) == 1
    made._support_compilation()
    assert made.supports_jit is False
    other = kl.layers.FeedbackLSTM(U)
    other.stock.supports_jit = False
    other._support_compilation()
    assert other.supports_jit is True


@pytest.mark.parametrize("kind", PAIRS)
def test_config_and_weights_are_those_of_keras(kind: str) -> None:
    ours, stock = pair(kind, {"dropout": 0.1, "seed": 2})
    theirs = stock.get_config()
    mine = ours.get_config()
    rules = {"feedback", "feedback_initializer", "time_rule"}
    assert set(mine) - set(theirs) == rules
    assert {k: v for k, v in mine.items() if k not in rules | {"name"}} == {
        k: v for k, v in theirs.items() if k != "name"
    }
    assert [w.shape for w in ours.weights] == [w.shape for w in stock.weights]
    again = type(ours).from_config(mine)
    assert again.get_config() == mine


class TestRefused:
    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("units", 0),
            ("units", "3"),
            ("units", 10**30),
            ("dropout", 1.5),
            ("recurrent_dropout", None),
            ("seed", -1),
            ("stateful", 1),
            ("unroll", "no"),
            ("activation", 3),
            ("recurrent_activation", "sigmoids"),
            ("unit_forget_bias", None),
            ("recurrent_initializer", "orthogonals"),
            ("recurrent_feedback", "kolen"),
            ("recurrent_feedback_initializer", 3),
            ("use_cudnn", "yes"),
            ("implementation", 3),
            ("connectivity", 0.0),
            ("feedback", kl.feedback.KolenPollack),
            ("lora_rank", 2),
        ],
    )
    def test_wrong_arguments_by_name(self, argument: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f"`{argument}` must be"):
            kl.layers.FeedbackLSTM(**{"units": 3, argument: value})

    def test_unrolling_an_unknown_length(self) -> None:
        made = kl.layers.FeedbackLSTM(3, unroll=True)
        made.build((None, None, 4))
        with pytest.raises(ValueError, match="`unroll` must be False"):
            made.call(keras.Input((None, 4)))

    def test_a_rule_once_the_layer_is_built(self) -> None:
        made = kl.layers.FeedbackGRU(3)
        made.feedback = "symmetric"
        assert isinstance(made.recurrent_feedback, kl.feedback.Symmetric)
        made.build((None, None, 2))
        with pytest.raises(ValueError, match="`feedback` must be left as it is"):
            made.feedback = "usf"
