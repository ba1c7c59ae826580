"""Measures of learning from a reward: node perturbation, and right or wrong."""

from __future__ import annotations

import keras
import numpy as np

from keras_local import _validation as check
from keras_local import layers
from keras_local.reproduce.outcome import Outcome, Run, tested, wrong_of


def node_perturbation(
    run: Run, draws: int, shuffled: bool = False, stddev: float = 0.05, samples: int = 20
) -> Outcome:
    """Compare the mean change by node perturbation with the gradient, in a layer of tangents.

    Noise is added to the units, and `(R - baseline) noise / stddev^2` is the modulator of
    `ThirdFactor`; the reward is minus the squared error. The result is the cosine with the
    gradient.

    Args:
        run: The run, for its seed.
        draws: How many draws of the noise the mean is over.
        shuffled: Whether the rewards are those of other draws, as a control.
        stddev: Standard deviation of the noise.
        samples: Number of samples.
    """
    generator = np.random.default_rng(run.seed)
    x = generator.standard_normal((samples, 8))
    kernel, top = generator.standard_normal((8, 5)) / 8**0.5, generator.standard_normal((5, 3))
    targets = generator.standard_normal((samples, 3))

    def reward(u: np.ndarray) -> np.ndarray:
        error = np.tanh(u) @ top - targets[rows]
        return np.asarray(-0.5 * np.sum(np.square(error), axis=-1))

    rows = np.arange(samples)
    u = x @ kernel
    hidden = np.tanh(u)
    delta = ((hidden @ top - targets) @ top.T) * (1.0 - np.square(hidden))
    gradient = -x.T @ delta / samples
    baseline = reward(u)
    rows = generator.integers(0, samples, draws)
    noise = stddev * generator.standard_normal((draws, 5))
    gain = reward(u[rows] + noise) - baseline[rows]
    if shuffled:
        gain = generator.permutation(gain)
    modulator = gain[:, None] * noise / stddev**2
    change = _third_factor(x[rows], kernel, modulator)
    cosine = np.sum(change * gradient) / (np.linalg.norm(change) * np.linalg.norm(gradient))
    return Outcome({"cosine": float(cosine)})


def _third_factor(x: np.ndarray, kernel: np.ndarray, modulator: np.ndarray) -> np.ndarray:
    """Return the change of the kernel by a layer with `ThirdFactor`, in one step of `fit`."""
    inputs, signal = keras.Input((x.shape[1],)), keras.Input((modulator.shape[1],))
    layer = layers.HebbianDense(kernel.shape[1], plasticity="third_factor")
    model = keras.Model([inputs, signal], layer(inputs, modulator=signal))
    layer.kernel.assign(kernel)
    model.compile(keras.optimizers.SGD(1.0))
    before = keras.ops.convert_to_numpy(layer.kernel).copy()
    model.fit([x, modulator], batch_size=len(x), epochs=1, verbose=0)
    return np.asarray(keras.ops.convert_to_numpy(layer.kernel) - before, "float64")


def reward_hebb(
    run: Run, epochs: int, teacher: str = "reward", learning_rate: float = 0.5
) -> Outcome:
    """Let class units learn from whether their guess was right, and from nothing else.

    A class is drawn from the softmax of the scores; the chosen unit is the postsynaptic activity,
    and the modulator is 1 for a right guess and 0 for a wrong one, minus its probability.

    Args:
        run: The run, with its data.
        epochs: Passes over the samples.
        teacher: `"reward"`; `"shuffled"`, the rewards of other samples; `"delta"`, the full error.
        learning_rate: Learning rate.
    """
    check.one_of("teacher", teacher, ("reward", "shuffled", "delta"))
    if run.arrays is None:
        raise ValueError(check.refusal("data", "given", "none"))
    generator = np.random.default_rng(run.seed)
    (x, labels), (x_test, y_test) = run.arrays.train, run.arrays.test
    classes = run.arrays.classes
    inputs, signal = keras.Input((x.shape[1],)), keras.Input((classes,))
    layer = layers.HebbianDense(classes, plasticity="third_factor", kernel_initializer="zeros")
    model = keras.Model([inputs, signal], layer(inputs, modulator=signal))
    model.compile(keras.optimizers.SGD(learning_rate))
    curve = []
    for _ in range(epochs):
        for batch in np.array_split(generator.permutation(len(x)), max(1, len(x) // 50)):
            kernel = keras.ops.convert_to_numpy(layer.kernel)
            modulator = _signal(x[batch] @ kernel, labels[batch], teacher, generator)
            model.train_on_batch([x[batch], modulator])
        scores = x_test @ keras.ops.convert_to_numpy(layer.kernel)
        curve.append(wrong_of(scores, y_test) / len(y_test))
    wrong = round(curve[-1] * len(y_test))
    return Outcome(tested(wrong, len(y_test)), {"test_error": curve})


def _signal(
    scores: np.ndarray, labels: np.ndarray, teacher: str, generator: np.random.Generator
) -> np.ndarray:
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    right = np.eye(scores.shape[1])[labels]
    if teacher == "delta":
        return np.asarray(right - shares, "float32")
    drawn = (shares.cumsum(axis=1) > generator.random((len(shares), 1))).argmax(axis=1)
    reward = (drawn == labels).astype("float64")
    if teacher == "shuffled":
        reward = generator.permutation(reward)
    chosen = np.eye(scores.shape[1])[drawn]
    baseline = np.sum(shares * right, axis=1)
    if teacher == "shuffled":
        baseline = np.full(len(reward), reward.mean())
    return np.asarray((reward - baseline)[:, None] * (chosen - shares), "float32")
