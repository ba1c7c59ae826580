"""The weight mirror against the angles that its formula gives in NumPy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers, metrics, models
from tests.support import BACKEND, array, probe

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="thousands of steps, on one backend"),
    pytest.mark.filterwarnings("ignore:Gradients do not exist"),
]


def mirrored(layer: layers.FeedbackLayer, shape: tuple[int, ...], steps: int, batch: int) -> None:
    """The inputs do not matter: noise drives the layer."""
    model = keras.Sequential([keras.Input(shape), layer])
    layer.assign_feedback_kernel(np.zeros(layer.kernel.shape))
    data = np.zeros((steps * batch, *shape), "float32")
    models.align(
        model, data, optimizer=keras.optimizers.SGD(1.0), batch_size=batch, shuffle=False, verbose=0
    )


# Angle in degrees and norm ratio after 2000 steps; no outside number enters but these, which a
# plain NumPy loop of the formula gave.
@pytest.mark.parametrize(
    ("activation", "angle", "ratio"),
    [("linear", 3.3, 0.99), ("relu", 3.8, 0.50), ("sigmoid", 3.9, 0.20)],
)
def test_dense(activation: str, angle: float, ratio: float) -> None:
    keras.utils.set_random_seed(0)
    rule = feedback.WeightMirror(amplify=0.01, decay=0.01)
    layer = layers.FeedbackDense(30, activation, feedback=rule)
    layer.build((None, 40))
    layer.kernel.assign(probe((40, 30), 1) / np.sqrt(40))
    mirrored(layer, (40,), 2000, 64)
    assert 0.0 < metrics.alignment_angle(layer.kernel, layer.feedback_kernel) < 1.5 * angle
    assert metrics.norm_ratio(layer.kernel, layer.feedback_kernel) == pytest.approx(ratio, abs=0.05)


# With zeros around the image, the outer taps take part at fewer of the 12 (or 6) places a row.
TAPS = {(1, "same"): [11 / 12, 1, 11 / 12], (1, "valid"): [1, 1, 1], (2, "same"): [1, 1, 5 / 6]}


@pytest.mark.parametrize(
    ("strides", "padding", "activation"),
    [(1, "same", None), (1, "valid", None), (2, "same", None), (1, "same", "relu")],
)
def test_convolution_is_divided_by_positions(strides: int, padding: str, activation: Any) -> None:
    keras.utils.set_random_seed(0)
    rule = feedback.WeightMirror(amplify=0.02, decay=0.02)
    layer = layers.FeedbackConv2D(
        6, 3, strides=strides, padding=padding, activation=activation, feedback=rule
    )
    layer.build((None, 12, 12, 4))
    kernel = probe((3, 3, 4, 6), 2)
    layer.kernel.assign(kernel)
    batch = 16
    mirrored(layer, (12, 12, 4), 300, batch)
    assert 0.0 < metrics.alignment_angle(layer.kernel, layer.feedback_kernel) < 10.5
    taken = np.outer(*[TAPS[strides, padding]] * 2)[:, :, None, None] * kernel
    # Half of the answers of a rectifier pass; a batch mean takes its share of the variance along.
    expected = np.linalg.norm(taken) / np.linalg.norm(kernel) * (1 - 1 / batch)
    expected *= 0.5 if activation else 1.0
    ratio = metrics.norm_ratio(layer.kernel, layer.feedback_kernel)
    assert ratio == pytest.approx(expected, rel=0.03)


def test_noise_is_new_in_each_step_and_follows_the_seed() -> None:
    ends = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        layer = layers.FeedbackDense(3, feedback="weight_mirror")
        layer.build((None, 4))
        layer.kernel.assign(np.ones((4, 3)))
        mirrored(layer, (4,), 1, 2)
        first = array(layer.feedback_kernel)
        mirrored(layer, (4,), 1, 2)
        assert np.any(array(layer.feedback_kernel) != first)
        ends.append(first)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.any(ends[0] != ends[2])
