"""Rules whose feedback weights learn from activity: behind the loop, from all steps at once."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from keras_local import feedback
from tests import oracles_recurrent as oracle
from tests.layers.recurrent.nets import (
    KINDS,
    MASK,
    TOLERANCE,
    B,
    T,
    U,
    data,
    double,
    gradients,
    layer,
    parameters,
)
from tests.support import BACKEND, array

RULES: dict[str, Any] = {
    "weight_mirror": lambda: feedback.WeightMirror(0.5, 0.5),
    "symmetric_alignment": lambda: feedback.SymmetricAlignment(0.5, 0.5),
    "activation_alignment": lambda: feedback.ActivationAlignment(0.5, 0.5),
    "information_alignment": lambda: feedback.InformationAlignment(0.5, 0.5, 0.5),
    "every": lambda: feedback.InformationAlignment(0.5, 0.5, 0.5, every=2, centre=True),
    "noisy": lambda: feedback.NoisyUpdates(feedback.KolenPollack(), 0.1),
    "brsf": lambda: feedback.SignSymmetry("batchwise"),
}


@pytest.mark.parametrize("mask", [None, MASK], ids=["", "mask"])
@pytest.mark.parametrize(
    "kind",
    [
        "lstm",
        "gru_before",
        *(pytest.param(k, marks=pytest.mark.thorough) for k in ("simple", "gru", "leaky")),
    ],
)
def test_activation_alignment_of_every_step(kind: str, mask: Any) -> None:
    """`dB = x^T (x B - x W) / samples`: masked steps are no samples.

    A gate before the recurrent kernel changes what the candidate's synapses see.
    """
    with double():
        p = parameters(kind)
        x, errors = data()
        rule = feedback.ActivationAlignment(0.5, 0.5)
        found = gradients(layer(kind, p, feedback=rule), x, errors, mask)
        seen = oracle.run(kind, p, x, mask)
        counted = np.ones((B, T), bool) if mask is None else mask
        before = np.stack([s["h_"] for s in seen], axis=1)
        for name, inputs, w, b in (
            ("inputs", x, p["w"], p["bw"]),
            ("recurrent", before, p["u"], p["bu"]),
        ):
            rows = inputs[counted]
            expected = 0.5 * rows.T @ (rows @ b - rows @ w) / len(rows)
            if kind == "gru_before" and name == "recurrent":
                gated = (np.stack([s["r"] for s in seen], axis=1) * before)[counted]
                candidate = np.s_[:, 2 * U :]
                expected[candidate] = (
                    0.5 * gated.T @ (gated @ b[candidate] - gated @ w[candidate]) / len(rows)
                )
            np.testing.assert_allclose(found[f"{name}/feedback_kernel"], expected, atol=TOLERANCE)


def test_centred_inputs_do_not_see_what_is_masked() -> None:
    """With a mean that is subtracted, and any content under the mask."""
    with double():
        p = parameters("lstm")
        x, errors = data()
        errors = errors * MASK[..., None]
        rule = feedback.InformationAlignment(0.5, 0.5, 0.5, centre=True)
        found = []
        for content in (0.0, 1e6):
            made = layer("lstm", p, feedback=rule)
            filled = np.where(MASK[..., None], x, content)
            found.append(gradients(made, filled, errors, MASK))
        for name in ("inputs/feedback_kernel", "recurrent/feedback_kernel", "inputs/kernel"):
            np.testing.assert_allclose(found[0][name], found[1][name], atol=max(TOLERANCE, 1e-7))
        rows = x[MASK] - x[MASK].mean(axis=0)
        forward = x[MASK] @ p["w"]
        back = forward @ p["bw"].T
        samples = len(rows)
        expected = (-0.5 * rows.T @ forward + 0.5 * back.T @ forward) / samples + 0.5 * p["bw"]
        np.testing.assert_allclose(
            found[0]["inputs/feedback_kernel"], expected, atol=max(TOLERANCE, 1e-7)
        )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(
            kind,
            name,
            marks=pytest.mark.daily
            if (kind, name) == ("lstm", "weight_mirror")
            else pytest.mark.thorough,
        )
        for kind in ("simple", "lstm", "gru_before")
        for name in RULES
    ],
)
def test_every_rule_trains(name: str, kind: str) -> None:
    """As a graph and compiled, with sequences of unknown length, and a dropout."""
    make, options, _ = KINDS[kind]
    for jit in (False, True) if BACKEND == "tensorflow" else ("auto",):
        keras.utils.set_random_seed(2)
        model = keras.Sequential(
            [
                keras.Input((None, 4)),
                make(U, feedback=RULES[name](), recurrent_dropout=0.2, dropout=0.1, **options),
                kl.layers.FeedbackDense(2, feedback=RULES[name]()),
            ]
        )
        model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=jit)
        x = np.random.default_rng(0).normal(size=(8, T, 4)).astype("float32")
        y = x[:, -1, :2]
        first = model.evaluate(x, y, verbose=0)
        model.fit(x, y, epochs=15, batch_size=8, verbose=0)
        assert model.evaluate(x, y, verbose=0) < first


def test_the_weight_mirror_learns_the_recurrent_kernel() -> None:
    """From noise alone: the angle falls in a phase without errors."""
    keras.utils.set_random_seed(1)
    rule = feedback.WeightMirror(0.5, 0.5, respond=False)
    made = kl.layers.FeedbackSimpleRNN(8, feedback=rule)
    model = keras.Sequential([keras.Input((12, 4)), made])
    x = np.random.default_rng(0).normal(size=(64, 12, 4)).astype("float32")

    def angle() -> float:
        return float(
            kl.metrics.alignment_angle(made.recurrent_kernel, made.recurrent_feedback_kernel)
        )

    before = angle()
    kl.models.align(model, x, epochs=8, batch_size=16, verbose=0)
    assert before > 60.0
    assert angle() < 25.0


class Cell(keras.layers.Layer):
    """A user's cell, in which two feedback layers stand."""

    def __init__(self, units: int, rule: Any, **options: Any) -> None:
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units
        self.below = kl.layers.FeedbackDense(units, feedback=rule)
        self.across = kl.layers.FeedbackDense(units, use_bias=False, feedback=rule)

    def build(self, shape: Any) -> None:
        self.below.build(shape)
        self.across.build((None, self.units))

    def call(self, inputs: Any, states: Any) -> Any:
        state = keras.ops.tanh(self.below(inputs) + self.across(states[0]))
        return state, [state]


class TestInACellOfOnesOwn:
    @pytest.mark.parametrize(
        "rule",
        [
            "feedback_alignment",
            *(
                pytest.param(r, marks=pytest.mark.thorough)
                for r in ("kolen_pollack", "usf", "symmetric")
            ),
        ],
    )
    def test_rules_that_learn_from_errors_alone(self, rule: Any) -> None:
        """It learns as the recurrent layer with the same weights does."""
        keras.utils.set_random_seed(3)
        own = keras.Sequential([keras.Input((T, 4)), keras.layers.RNN(Cell(U, rule))])
        ours = keras.Sequential(
            [keras.Input((T, 4)), kl.layers.FeedbackSimpleRNN(U, feedback=rule)]
        )
        cell, made = own.layers[0].cell, ours.layers[0]
        made.kernel.assign(array(cell.below.kernel))
        made.recurrent_kernel.assign(array(cell.across.kernel))
        if made.inputs_part._feedback_weights:
            made.inputs_part.assign_feedback_kernel(array(cell.below.feedback_kernel))
            made.recurrent_part.assign_feedback_kernel(array(cell.across.feedback_kernel))
        x = np.random.default_rng(0).normal(size=(8, T, 4)).astype("float32")
        before = array(made.kernel)
        for model in (own, ours):
            model.compile(keras.optimizers.SGD(0.1), "mse")
            model.fit(x, x[:, 0, :1] * np.ones((8, U)), epochs=5, batch_size=8, verbose=0)
        np.testing.assert_allclose(array(cell.below.kernel), array(made.kernel), atol=1e-5)
        np.testing.assert_allclose(
            array(cell.across.kernel), array(made.recurrent_kernel), atol=1e-5
        )
        assert np.abs(array(made.kernel) - before).max() > 1e-3

    @pytest.mark.parametrize(
        ("rule", "why"),
        [
            ("weight_mirror", "learns from activity"),
            ("brsf", "draws random numbers"),
            *(
                pytest.param(r, "learns from activity", marks=pytest.mark.daily)
                for r in ("information_alignment", kl.feedback.KolenPollack(decay=0.1))
            ),
        ],
        ids=str,
    )
    def test_others_are_refused_in_words(self, rule: Any, why: str) -> None:
        model = keras.Sequential([keras.Input((T, 4)), keras.layers.RNN(Cell(U, rule))])
        model.compile("sgd", "mse")
        before = [array(w) for w in model.weights]
        with pytest.raises(
            ValueError, match=rf"`feedback` must be a rule that.*{why}.*unroll=True"
        ):
            model.train_on_batch(np.ones((2, T, 4)), np.ones((2, U)))
        for one, other in zip(before, model.weights, strict=True):
            np.testing.assert_array_equal(one, array(other))
        assert model.predict(np.ones((2, T, 4)), verbose=0).shape == (2, U)

    @pytest.mark.daily
    def test_but_where_the_steps_are_written_out(self) -> None:
        cell = Cell(U, "weight_mirror")
        model = keras.Sequential([keras.Input((T, 4)), keras.layers.RNN(cell, unroll=True)])
        model.compile("sgd", "mse")
        before = array(cell.across.feedback_kernel)
        model.fit(np.ones((4, T, 4)), np.ones((4, U)), verbose=0)
        assert np.abs(array(cell.across.feedback_kernel) - before).max() > 0
