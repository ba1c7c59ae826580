"""Fixed random feedback against the loop-level oracle."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests import oracles
from tests.feedback.nets import (
    LOSS,
    NETS,
    biases,
    data,
    dense_net,
    feedback_kernels,
    fit,
    kernels,
    parts,
)
from tests.support import largest_difference, model_gradients


def test_gradients_equal_the_oracle() -> None:
    model = dense_net("feedback_alignment")
    inputs, labels = data(model)
    gradients, _ = model_gradients(model, inputs, lambda outputs: LOSS(labels, outputs))
    step = oracles.feedback_step(
        inputs, labels, kernels(model), feedback_kernels(model), biases(model)
    )
    names = [name.split(":")[1] for name in gradients]
    assert names == ["kernel", "bias"] * 3
    expected = [
        array
        for pair in zip(step.kernel_gradients, step.bias_gradients, strict=True)
        for array in pair
    ]
    for actual, wanted in zip(gradients.values(), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)
        assert np.abs(wanted).max() > 1e-3
    # The same through the forward kernels is another gradient.
    other = oracles.feedback_step(inputs, labels, kernels(model), kernels(model), biases(model))
    assert np.abs(other.kernel_gradients[0] - step.kernel_gradients[0]).max() > 1e-2


def test_error_below_the_first_layer_goes_through_its_feedback_kernel() -> None:
    model = dense_net("feedback_alignment")
    inputs, labels = data(model)
    _, below = model_gradients(model, inputs, lambda outputs: LOSS(labels, outputs))
    step = oracles.feedback_step(
        inputs, labels, kernels(model), feedback_kernels(model), biases(model)
    )
    expected = step.deltas[0] @ feedback_kernels(model)[0].T
    np.testing.assert_allclose(below, expected, rtol=1e-5, atol=1e-6)


def test_training_equals_the_oracle() -> None:
    model = dense_net("feedback_alignment")
    inputs, labels = data(model)
    start = kernels(model), feedback_kernels(model), biases(model)
    batches = [(inputs[:8], labels[:8]), (inputs[8:], labels[8:])] * 5
    expected, _, expected_biases, losses = oracles.train_feedback(batches, *start, 0.2)
    history = fit(model, keras.optimizers.SGD(0.2), 10)
    assert largest_difference(kernels(model), expected) < 2e-6
    assert largest_difference(biases(model), expected_biases) < 2e-6
    assert history == pytest.approx(losses, abs=1e-5)
    back, *_ = oracles.train_feedback(batches, start[0], start[0], start[2], 0.2)
    assert largest_difference(expected, back) > 1e-2


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.2),
        lambda: keras.optimizers.AdamW(0.02, weight_decay=0.1),
    ],
    ids=["sgd", "adamw"],
)
def test_feedback_kernels_never_change(net, optimizer) -> None:
    model = net("feedback_alignment")
    start, feedback_start = kernels(model), feedback_kernels(model)
    losses = fit(model, optimizer())
    assert sum(losses[-2:]) < sum(losses[:2])
    for before, after in zip(start, kernels(model), strict=True):
        assert np.abs(before - after).max() > 1e-2
    for before, after in zip(feedback_start, feedback_kernels(model), strict=True):
        np.testing.assert_array_equal(before, after)


def test_feedback_kernels_are_weights_but_not_trained() -> None:
    for layer in parts(dense_net("frfb")):
        assert [w.name for w in layer.trainable_weights] == ["kernel", "bias"]
        assert [w.name for w in layer.non_trainable_weights] == ["feedback_kernel"]


def test_convolution_gradients_equal_the_oracle() -> None:
    """The error of the upper convolution reaches the lower one through its feedback kernel."""
    model = NETS["conv"]("feedback_alignment")
    inputs, labels = data(model, 4)
    gradients, below = model_gradients(model, inputs, lambda outputs: LOSS(labels, outputs))
    first = oracles.Convolution((1, 1), "same", (1, 1))
    second = oracles.Convolution((2, 2), "valid", (1, 1))
    (k1, k2, k3), (b1, b2, b3), (c1, c2, c3) = (
        kernels(model),
        feedback_kernels(model),
        biases(model),
    )
    h1 = first.apply(inputs, k1) + c1
    h2 = second.apply(np.tanh(h1), k2) + c2
    flat = np.tanh(h2).reshape(4, -1)
    _, delta = oracles.cross_entropy(oracles.dense(flat, k3) + c3, labels)
    g3 = oracles.dense_kernel_gradient(flat, delta)
    delta = oracles.dense_input_gradient(delta, b3).reshape(h2.shape)
    delta = delta * oracles.tanh_derivative(h2)
    g2 = second.kernel_gradient(np.tanh(h1), delta, k2.shape)
    delta = second.input_gradient(delta, b2, h1.shape) * oracles.tanh_derivative(h1)
    g1 = first.kernel_gradient(inputs, delta, k1.shape)
    for name, expected in zip(["0:kernel", "2:kernel", "4:kernel"], [g1, g2, g3], strict=True):
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-4, atol=1e-6)
        assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(gradients["1:bias"], delta.sum((0, 1, 2)), rtol=1e-4, atol=1e-6)
    expected = first.input_gradient(delta, b1, inputs.shape)
    np.testing.assert_allclose(below, expected, rtol=1e-4, atol=1e-6)
