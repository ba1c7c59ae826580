"""One step of Amit's net by hand: two samples, three layers, every number of it.

Ramp of slope 1/2, hinge with mu = 1/2, batch mean, no biases. The numbers were computed once by a
separate script and are repeated here; the loop-level oracle has to give them as well.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import activations, feedback, layers, losses
from tests import oracles
from tests.support import array, compile_options, model_gradients

INPUTS = np.array([[1, -1], [2, 1]], "float32")
LABELS = np.array([0, 2])
KERNELS = [
    np.array(kernel, "float32")
    for kernel in (
        [[1.5, 0.5, -1], [0, 0.75, 0.5]],
        [[1, -1], [0.5, 1], [-0.5, 2]],
        [[1, 0.25, -0.5], [-1, 1, 0.5]],
    )
]
FEEDBACK = [
    # Nothing below the first layer needs an error: this kernel must not matter.
    np.full((2, 3), 7.0, "float32"),
    np.array([[0.5, 1], [-1, 0.5], [1, 0]], "float32"),
    np.array([[0.2, -0.4, 0.6], [1, 0.5, -0.5]], "float32"),
]
FIRST = [[0.75, -0.125, -0.75], [1, 0.875, -0.75]]
SECOND = [[0.53125, -1], [0.90625, -0.8125]]
OUTPUTS = [[1.53125, -0.8671875, -0.765625], [1.71875, -0.5859375, -0.859375]]
LOSS = 1.8046875
DELTA_3 = [[0, 0.25, 0.25], [0.25, 0.25, -0.5]]
G3 = [[0.2265625, 0.359375, -0.3203125], [-0.203125, -0.453125, 0.15625]]
BACKPROPAGATION = {
    "delta": [
        [[-0.015625, -0.0078125, 0.0078125], [0, 0.0078125, -0.1953125]],
        [[-0.03125, 0], [0.28125, -0.125]],
        DELTA_3,
    ],
    "gradient": [
        [[-0.015625, 0.0078125, -0.3828125], [0.015625, 0.015625, -0.203125]],
        [[0.2578125, -0.125], [0.25, -0.109375], [-0.1875, 0.09375]],
        G3,
    ],
}
RANDOM_FEEDBACK = {
    "delta": [
        [[0.00625, -0.0125, 0.0125], [0, 0.165625, -0.0875]],
        [[0.025, 0], [-0.175, 0.3125]],
        DELTA_3,
    ],
    "gradient": [
        [[0.00625, 0.31875, -0.1625], [-0.00625, 0.178125, -0.1]],
        [[-0.15625, 0.3125], [-0.15625, 0.2734375], [0.1125, -0.234375]],
        G3,
    ],
}
RULES = {
    "symmetric": (feedback.Symmetric(), BACKPROPAGATION),
    "feedback_alignment": (feedback.FeedbackAlignment(), RANDOM_FEEDBACK),
    "kolen_pollack": (feedback.KolenPollack(), RANDOM_FEEDBACK),
    "kolen_pollack-separate": (feedback.KolenPollack(separate=True), RANDOM_FEEDBACK),
}


def net(rule: feedback.FeedbackRule, use_bias: bool = False) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((2,)),
            layers.FeedbackDense(3, activations.Ramp(), use_bias, feedback=rule),
            layers.FeedbackDense(2, activations.Ramp(), use_bias, feedback=rule),
            layers.FeedbackDense(3, None, use_bias, feedback=rule),
        ]
    )
    for layer, kernel, feedback_kernel in zip(model.layers, KERNELS, FEEDBACK, strict=True):
        layer.kernel.assign(kernel)
        if layer.feedback_kernel is not None:
            layer.assign_feedback_kernel(feedback_kernel)
    return model


def equal(actual: Any, expected: Any) -> None:
    """To the last digit that float32 holds: powers of two exactly, tenths rounded."""
    np.testing.assert_allclose(array(actual), np.array(expected), rtol=2e-6, atol=1e-8)


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> tuple[feedback.FeedbackRule, dict[str, Any]]:
    return RULES[request.param]


def test_forward(rule: tuple[feedback.FeedbackRule, dict[str, Any]]) -> None:
    model = net(rule[0])
    hidden = keras.ops.convert_to_tensor(INPUTS)
    for layer, expected in zip(model.layers, (FIRST, SECOND, OUTPUTS), strict=True):
        hidden = layer(hidden)
        equal(hidden, expected)
    loss = losses.LocalHinge()
    assert float(array(loss(LABELS, hidden))) == pytest.approx(LOSS, abs=1e-7)


def test_gradients(rule: tuple[feedback.FeedbackRule, dict[str, Any]]) -> None:
    model = net(rule[0])
    loss = losses.LocalHinge()
    gradients, _ = model_gradients(model, INPUTS, lambda outputs: loss(LABELS, outputs))
    kernels = [g for name, g in gradients.items() if name.endswith(":kernel")]
    for gradient, expected in zip(kernels, rule[1]["gradient"], strict=True):
        equal(gradient, expected)
    own = [g for name, g in gradients.items() if name.endswith(":feedback_kernel")]
    for gradient, kernel_gradient in zip(own, kernels if own else [], strict=True):
        np.testing.assert_array_equal(gradient, kernel_gradient)
    assert bool(own) == (getattr(rule[0], "separate", None) is True)


def test_errors_at_the_fields(rule: tuple[feedback.FeedbackRule, dict[str, Any]]) -> None:
    """The gradient of a bias is the error at the field, for a batch of one sample."""
    model = net(rule[0], use_bias=True)
    loss = losses.LocalHinge()
    for sample in range(2):
        chosen = slice(sample, sample + 1)
        gradients, _ = model_gradients(
            model, INPUTS[chosen], lambda outputs, chosen=chosen: loss(LABELS[chosen], outputs)
        )
        biases = [g for name, g in gradients.items() if name.endswith(":bias")]
        for gradient, delta in zip(biases, rule[1]["delta"], strict=True):
            # The table's errors carry the mean over its two samples.
            equal(gradient / 2, delta[sample])


def test_one_fit_step(rule: tuple[feedback.FeedbackRule, dict[str, Any]]) -> None:
    model = net(rule[0])
    model.compile(keras.optimizers.SGD(0.1), losses.LocalHinge(), **compile_options())
    history = model.fit(INPUTS, LABELS, batch_size=2, epochs=1, verbose=0)
    assert history.history["loss"][0] == pytest.approx(LOSS, abs=1e-6)
    for i, layer in enumerate(model.layers):
        step = 0.1 * np.array(rule[1]["gradient"][i])
        np.testing.assert_allclose(array(layer.kernel), KERNELS[i] - step, atol=2e-7)
        if layer.feedback_kernel is None:
            continue
        moved = 0.0 if rule[0].get_config() == {} else step
        np.testing.assert_allclose(array(layer.feedback_kernel), FEEDBACK[i] - moved, atol=5e-7)


@pytest.mark.parametrize("table", [BACKPROPAGATION, RANDOM_FEEDBACK], ids=["bp", "random"])
def test_the_oracle_gives_the_same_numbers(table: dict[str, Any]) -> None:
    step = oracles.feedback_step(
        INPUTS,
        LABELS,
        KERNELS,
        KERNELS if table is BACKPROPAGATION else FEEDBACK,
        activation=oracles.ramp,
        derivative=oracles.ramp_derivative,
        loss=oracles.local_hinge,
    )
    assert step.loss == pytest.approx(LOSS, abs=1e-12)
    for activity, expected in zip(step.activities[1:], (FIRST, SECOND, OUTPUTS), strict=True):
        np.testing.assert_allclose(activity, expected, atol=1e-12)
    for delta, expected in zip(step.deltas, table["delta"], strict=True):
        # The feedback kernels are tenths rounded to float32.
        np.testing.assert_allclose(delta, expected, atol=1e-8)
    for gradient, expected in zip(step.kernel_gradients, table["gradient"], strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-7)
