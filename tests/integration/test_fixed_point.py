"""Where Krotov and Hopfield's rule comes to rest on real digits."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import pytest

from keras_local import datasets, layers
from keras_local.models import pretrain
from keras_local.plasticity import KrotovHopfield
from tests.support import BACKEND, array

pytestmark = [
    pytest.mark.daily,
    pytest.mark.skipif(BACKEND != "tensorflow", reason="long runs on one backend only"),
    pytest.mark.filterwarnings("ignore:Only .* have converged"),
]


@dataclass(frozen=True)
class Trained:
    """An encoder of 32 units that has come to rest, in numbers."""

    start: np.ndarray
    kernel: np.ndarray
    mean_norms: list[float]
    report: dict[str, float]
    images: np.ndarray
    delta: float

    @property
    def gains(self) -> np.ndarray:
        """Of each image, with the kernel as it is."""
        currents = self.images @ self.kernel
        order = np.argsort(-currents, axis=1)
        gains = np.zeros(currents.shape)
        rows = np.arange(len(currents))
        gains[rows, order[:, 0]] = 1.0
        gains[rows, order[:, 1]] = -self.delta
        return gains

    @property
    def norms(self) -> np.ndarray:
        return np.sum(self.kernel**2, axis=0)

    @property
    def won(self) -> np.ndarray:
        """Which units win an image."""
        return np.any(self.gains > 0.0, axis=0)

    def alignment(self, gains: np.ndarray) -> np.ndarray:
        """Cosine between the weights of each unit that wins and its `sum_b G v`."""
        drawn = (self.images.T @ gains)[:, self.won]
        kernel = self.kernel[:, self.won]
        lengths = np.linalg.norm(drawn, axis=0) * np.linalg.norm(kernel, axis=0)
        return np.sum(drawn * kernel, axis=0) / lengths


def images() -> np.ndarray:
    return datasets.load("digits", flatten=True)[0][0]


def train(delta: float, epochs: int) -> Trained:
    keras.utils.set_random_seed(1)
    inputs = images()
    start = keras.initializers.RandomUniform(0.0, 1.0, seed=2)
    layer = layers.HebbianDense(32, KrotovHopfield(delta=delta), kernel_initializer=start, name="h")
    encoder = keras.Sequential([keras.Input((64,)), layer])
    before = array(layer.kernel)
    history = pretrain(encoder, inputs, epochs, batch_size=50, step_size=0.05, verbose=0)["h"]
    return Trained(
        before,
        array(layer.kernel).astype("float64"),
        history.history["mean_norm"],
        history.report,
        inputs.astype("float64"),
        delta,
    )


@pytest.fixture(scope="module")
def hebbian() -> Trained:
    """Without anti-Hebbian learning; 2800 steps."""
    return train(delta=0.0, epochs=100)


@pytest.fixture(scope="module")
def anti_hebbian() -> Trained:
    """6020 steps."""
    return train(delta=0.4, epochs=215)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["hebbian", "anti_hebbian"])
def test_norms_approach_one_from_above(name: str, request: pytest.FixtureRequest) -> None:
    trained: Trained = request.getfixturevalue(name)
    won = trained.won
    assert won.mean() > 0.9
    assert np.sum(trained.start**2, axis=0).min() > 10.0
    assert np.all(trained.norms[won] > 0.9999)
    assert np.all(trained.norms[won] < 1.05)
    assert 1.0 < trained.norms[won].mean() < 1.02
    # It gets there from above and stays above, epoch by epoch.
    assert min(trained.mean_norms) > 1.0
    assert trained.mean_norms[0] > 5.0
    assert trained.mean_norms[-1] < 1.02
    assert trained.report["converged"] > 0.9
    assert trained.report["dead"] < 0.1


def test_weights_are_the_mean_of_the_images_won(hebbian: Trained) -> None:
    alignment = hebbian.alignment(hebbian.gains)
    assert np.min(alignment) > 0.999
    assert np.median(alignment) > 0.9998


def test_weights_are_the_images_won_less_the_near_misses(anti_hebbian: Trained) -> None:
    gains = anti_hebbian.gains
    distance = 1.0 - np.median(anti_hebbian.alignment(gains))
    assert distance < 0.01
    # Not merely the mean of the images won: that is much further away.
    assert 1.0 - np.median(anti_hebbian.alignment(np.maximum(gains, 0.0))) > 5.0 * distance


def test_weights_stay_positive_without_anti_hebbian_learning(hebbian: Trained) -> None:
    assert hebbian.start.min() >= 0.0
    assert hebbian.images.min() >= 0.0
    assert hebbian.kernel.min() >= 0.0


def test_negative_weights_come_from_anti_hebbian_learning(anti_hebbian: Trained) -> None:
    assert anti_hebbian.start.min() >= 0.0
    assert np.mean(anti_hebbian.kernel < -1e-3) > 0.1


def test_units_that_start_inside_the_sphere_never_win() -> None:
    """The first few that win grow towards the sphere, and win from then on; a warning says so."""
    dead = {}
    for name, deviation in (("inside", 0.05), ("outside", 1.0)):
        keras.utils.set_random_seed(1)
        start = keras.initializers.RandomNormal(stddev=deviation, seed=3)
        layer = layers.HebbianDense(64, kernel_initializer=start, name=name)
        encoder = keras.Sequential([keras.Input((64,)), layer])
        arguments = {"epochs": 40, "batch_size": 50, "step_size": 0.02, "verbose": 0}
        if name == "inside":
            with pytest.warns(UserWarning, match="'inside' start inside the unit sphere"):
                history = pretrain(encoder, images(), **arguments)[name]
        else:
            history = pretrain(encoder, images(), **arguments)[name]
        dead[name] = history.report["dead"]
    assert dead["inside"] > 0.5
    assert dead["outside"] < 0.4
