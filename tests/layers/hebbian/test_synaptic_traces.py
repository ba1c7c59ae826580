"""Potentials of spikes, and what the Convallis rule learns from them."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, models
from keras_local.plasticity import Convallis
from tests.plasticity.encoders import assert_close
from tests.support import BACKEND, array, compile_options, probe

tensor = keras.ops.convert_to_tensor


def spikes(shape: tuple[int, ...], rate: float = 0.2, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < rate).astype("float32")


@pytest.mark.parametrize("rise", [None, 2.0])
def test_potentials(rise: float | None) -> None:
    """One spike after the other, in loops."""
    trains, decay = spikes((2, 15, 3)), 5.0
    expected = np.zeros(trains.shape)
    for b, start, i in zip(*np.nonzero(trains), strict=True):
        for t in range(start, 15):
            expected[b, t, i] += math.exp(-(t - start) / decay)
            if rise is not None:
                expected[b, t, i] -= math.exp(-(t - start) / rise)
    if rise is not None:
        fine = np.linspace(0.0, 20.0, 200001)
        expected /= np.max(np.exp(-fine / decay) - np.exp(-fine / rise))
    assert_close(array(layers.SynapticTraces(decay, rise)(trains)), expected, 1e-5)


def test_round_trip() -> None:
    layer = layers.SynapticTraces(7.0, 3.0, name="traces")
    assert layers.SynapticTraces.from_config(layer.get_config()).get_config() == layer.get_config()


def test_the_plain_twin_has_a_layer_above() -> None:
    stack = [layers.SynapticTraces(4.0, 2.0), layers.HebbianDense(4)]
    model = keras.Sequential([keras.Input((5, 3)), *stack])
    plain = models.to_plain(model)
    trains = probe((2, 5, 3))
    assert plain.output_shape == (None, 5, 4)
    assert_close(array(plain(trains)), array(model(trains)), 1e-6)


class TestProtocols:
    """A single synapse, pre spikes, and a potential that is imposed."""

    rule = Convallis()

    def change(self, times: list[int], potential: np.ndarray) -> float:
        train = np.zeros((1, len(potential), 1), "float32")
        train[0, times] = 1.0
        psi = layers.SynapticTraces(4.0)(train)[0]
        post = tensor(potential[:, None].astype("float32"))
        return float(array(self.rule.change(psi, post, tensor([[0.1]])))[0, 0])

    def test_nothing_far_below_the_lower_threshold(self) -> None:
        rest = np.full(20, self.rule.theta_ltd - 4.0 * self.rule.width - 0.3)
        assert abs(self.change([3], rest)) < 0.01
        assert abs(self.change([3], rest + 0.8)) > 0.5

    def test_weak_depolarisation_weakens_and_strong_strengthens(self) -> None:
        """The timing is the same."""
        pulse = np.zeros(20)
        pulse[4:8] = 1.0
        assert self.change([4], 0.5 * pulse) < -0.1
        assert self.change([4], 1.5 * pulse) > 0.1

    def test_a_triplet_is_not_the_sum_of_its_pairs(self) -> None:
        """Post-pre-post, where two potentials add up to more than the upper threshold."""
        kernel = np.exp(-np.arange(20) / 4.0)
        first, second = np.zeros(20), np.zeros(20)
        first[2:] = 0.6 * kernel[:-2]
        second[6:] = 0.6 * kernel[:-6]
        pairs = self.change([4], first) + self.change([4], second)
        triplet = self.change([4], first + second)
        assert pairs < 0.0
        assert triplet - pairs > 0.1


@pytest.mark.skipif(BACKEND == "jax", reason="a constraint with a memory")
def test_a_unit_comes_to_prefer_one_group_of_spike_trains() -> None:
    """Two groups of ten inputs that fire in turn, in sequences of 20 steps."""
    rng = np.random.default_rng(0)
    active = np.repeat(np.eye(2), 10, axis=1)[np.arange(400) % 2]
    trains = (rng.random((400, 20, 20)) < 0.5 * active[:, None]).astype("float32")
    keras.utils.set_random_seed(0)
    layer = layers.HebbianDense(
        1,
        Convallis(mean_rate=0.6, maximum=0.08),
        kernel_initializer=keras.initializers.RandomUniform(0.01, 0.05),
    )
    model = keras.Sequential([keras.Input((20, 20)), layers.SynapticTraces(3.0, 1.0), layer])
    model.compile(keras.optimizers.SGD(0.02), **compile_options())
    model.fit(trains, batch_size=20, epochs=25, shuffle=False, verbose=0)
    low, high = np.sort(array(layer.kernel).reshape(2, 10).mean(axis=1))
    assert (high - low) / (high + low) > 0.5


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tau_decay": 0.0}, "tau_decay"),
    ({"tau_decay": 5.0, "tau_rise": 5.0}, "tau_rise"),
    ({"tau_rise": -1.0}, "tau_rise"),
]


@pytest.mark.parametrize(("arguments", "name"), WRONG)
def test_bad_input(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be.*Received"):
        layers.SynapticTraces(**arguments)


@pytest.mark.parametrize("tau_rise", [None, 2.0])
def test_steps_that_are_left_out_take_no_time(tau_rise: float | None) -> None:
    """The potentials of the other steps are those of the series without them."""
    layer = layers.SynapticTraces(8.0, tau_rise)
    x = probe((2, 6, 3))
    present = np.array([True, False, True, True, False, True])
    short = array(layers.SynapticTraces(8.0, tau_rise)(x[:, present]))
    masked = array(layer(x, mask=np.stack([present] * 2)))
    np.testing.assert_allclose(masked[:, present], short, rtol=1e-5, atol=1e-6)
    whole = array(layer(x, mask=np.ones((2, 6), bool)))
    np.testing.assert_allclose(whole, array(layer(x)), rtol=1e-5, atol=1e-6)
