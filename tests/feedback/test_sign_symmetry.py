"""Sign symmetry: signs of the kernel, magnitudes of their own."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from keras_local import feedback, layers, metrics
from tests.support import BACKEND, array, model_gradients, probe


def built(rule: feedback.FeedbackRule, shape: tuple[int, int] = (40, 30), **arguments):
    layer = layers.FeedbackDense(shape[1], feedback=rule, use_bias=False, **arguments)
    layer.build((None, shape[0]))
    return layer


def below(layer: layers.FeedbackLayer, inputs: np.ndarray, target: np.ndarray) -> np.ndarray:
    """What arrives below the layer when `target` is the error at its outputs."""
    model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
    _, gradient = model_gradients(
        model, inputs, lambda y: keras.ops.sum(y * keras.ops.convert_to_tensor(target))
    )
    return gradient


def test_uniform_sends_signs_times_one_scale() -> None:
    layer = built(feedback.SignSymmetry())
    inputs, target = probe((3, 40), 1), probe((3, 30), 2)
    wanted = np.sqrt(2 / 70) * target @ np.sign(array(layer.kernel)).T
    np.testing.assert_allclose(below(layer, inputs, target), wanted, rtol=1e-5, atol=1e-6)


def test_convolution_scale_has_the_fans_of_the_convolution() -> None:
    layer = layers.FeedbackConv2D(5, 3, feedback="usf")
    layer.build((None, 8, 8, 2))
    magnitudes = np.abs(array(layer.feedback_kernel))
    np.testing.assert_allclose(magnitudes, np.sqrt(2 / (9 * 2 + 9 * 5)), rtol=1e-6)


def test_fixed_magnitudes_stay_and_signs_follow_the_kernel() -> None:
    layer = built(feedback.SignSymmetry("fixed"))
    magnitude = np.abs(array(layer.feedback_kernel))
    assert magnitude.std() > 0.01
    flipped = -array(layer.kernel)
    layer.kernel.assign(flipped)
    np.testing.assert_allclose(
        array(layer.feedback_kernel), magnitude * np.sign(flipped), rtol=1e-6
    )
    inputs, target = probe((3, 40), 1), probe((3, 30), 2)
    wanted = target @ (magnitude * np.sign(flipped)).T
    np.testing.assert_allclose(below(layer, inputs, target), wanted, rtol=1e-4, atol=1e-5)


def test_batchwise_magnitudes_are_drawn_anew_from_the_law() -> None:
    limit = 0.2
    layer = built(
        feedback.SignSymmetry("batchwise"),
        feedback_initializer=keras.initializers.RandomUniform(-limit, limit),
    )
    # One unit of error at one output at a time shows that column of the error kernel.
    inputs, target = probe((30, 40), 1), np.eye(30, dtype="float32")
    first, second = below(layer, inputs, target), below(layer, inputs, target)
    signs = np.sign(array(layer.kernel)).T
    for sent in (first, second):
        np.testing.assert_array_equal(np.sign(sent), signs)
        assert np.abs(sent).max() <= limit
        assert np.abs(sent).mean() == pytest.approx(limit / 2, rel=0.1)
    # The helper's stateless call on JAX begins at the same seed each time.
    assert BACKEND == "jax" or np.mean(first == second) < 0.01


@pytest.mark.parametrize(
    ("law", "degrees"), [("uniform", 30.0), ("normal", np.degrees(np.arccos(np.sqrt(2 / np.pi))))]
)
def test_angle_to_the_kernel_is_known(law: str, degrees: float) -> None:
    draws = {
        "uniform": keras.initializers.RandomUniform(-0.1, 0.1, seed=1),
        "normal": keras.initializers.RandomNormal(stddev=0.1, seed=1),
    }
    layer = built(feedback.SignSymmetry(), (300, 200), kernel_initializer=draws[law])
    assert degrees == pytest.approx({"uniform": 30, "normal": 37}[law], abs=0.2)
    assert metrics.alignment_angle(layer.kernel, layer.feedback_kernel) == pytest.approx(
        degrees, abs=1.0
    )


def test_zero_weights_send_nothing() -> None:
    layer = built(feedback.SignSymmetry(), (4, 3), kernel_initializer="zeros")
    assert not below(layer, probe((2, 4)), probe((2, 3), 1)).any()


def test_assignment() -> None:
    layer = built(feedback.SignSymmetry("fixed"), (4, 3))
    value = 3.0 * array(layer.kernel)
    layer.assign_feedback_kernel(value)
    np.testing.assert_allclose(array(layer.feedback_kernel), value, rtol=1e-6)
    with pytest.raises(ValueError, match="of the kernel's signs"):
        layer.assign_feedback_kernel(-value)
    np.testing.assert_allclose(array(layer.feedback_kernel), value, rtol=1e-6)
    with pytest.raises(ValueError, match="has no feedback kernel to assign"):
        built(feedback.SignSymmetry(), (4, 3)).assign_feedback_kernel(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"magnitude": "random"}, "`magnitude` must be one of 'uniform', 'batchwise', 'fixed'"),
        ({"scale": 0.0}, "`scale` must be a finite number greater than 0"),
        ({"magnitude": "fixed", "scale": 1.0}, "`scale` must be None with magnitude='fixed'"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        feedback.SignSymmetry(**arguments)


@pytest.mark.skipif(BACKEND == "jax", reason="single precision")
def test_the_scale_has_the_precision_of_the_kernel() -> None:
    for scale, wanted in ((0.1, 0.1), (None, np.sqrt(2.0 / 7.0))):
        rule = feedback.SignSymmetry(scale=scale)
        layer = layers.FeedbackDense(3, feedback=rule, dtype="float64")
        layer.build((None, 4))
        kernel = array(layer.kernel)
        np.testing.assert_allclose(
            array(layer.feedback_kernel), wanted * np.sign(kernel), rtol=1e-15
        )
