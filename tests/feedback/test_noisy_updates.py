"""Noise on the updates of feedback weights: how large it is."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from tests.support import array, compile_options, tensorflow_only, two_replicas


def step(replicas: Any = None) -> np.ndarray:
    """What one step with the rate 1 adds to feedback weights that learn nothing else."""
    keras.utils.set_random_seed(3)

    def made() -> keras.Model:
        # A rate of 0: of the rule inside nothing reaches the feedback weights.
        rule = feedback.NoisyUpdates(feedback.KolenPollack(rate=0.0), stddev=0.1)
        model = keras.Sequential([keras.Input((30,)), layers.FeedbackDense(40, feedback=rule)])
        model.compile(keras.optimizers.SGD(1.0), "mse", **compile_options())
        return model

    if replicas is None:
        model = made()
    else:
        with replicas.scope():
            model = made()
    before = array(model.layers[0].feedback_kernel)
    model.fit(np.zeros((8, 30)), np.zeros((8, 40)), batch_size=8, verbose=0)
    return array(model.layers[0].feedback_kernel) - before


def test_the_deviation_is_that_of_the_argument() -> None:
    assert step().std() == pytest.approx(0.1, rel=0.05)


@tensorflow_only
def test_replicas_add_the_noise_of_one_device() -> None:
    np.testing.assert_allclose(step(two_replicas()), step(), atol=1e-6)
