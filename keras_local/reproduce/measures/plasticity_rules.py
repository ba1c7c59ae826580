"""Measures of plasticity rules on small tasks whose answer is known."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_local import layers, models, plasticity
from keras_local.reproduce.making import made
from keras_local.reproduce.outcome import Outcome, Run


def learned(
    run: Run,
    rule: Any,
    samples: np.ndarray,
    units: int,
    epochs: int,
    batch_size: int,
    step_size: float,
    **arguments: Any,
) -> keras.layers.Layer:
    """Return a Hebbian layer that has learned from samples."""
    keras.utils.set_random_seed(run.seed)
    layer = layers.HebbianDense(units, plasticity=made(rule), **made(arguments))
    encoder = keras.Sequential([keras.Input(samples.shape[1:]), layer])
    models.pretrain(
        encoder,
        samples.astype("float32"),
        epochs=epochs,
        batch_size=batch_size,
        step_size=step_size,
        verbose=0,
        callbacks=run.callbacks("pretrain"),
    )
    return layer


def kernel_of(layer: Any) -> np.ndarray:
    """Return the kernel in double precision, one column a unit."""
    return np.asarray(keras.ops.convert_to_numpy(layer.kernel), "float64")


def principal_components(
    run: Run, rule: Any, units: int, epochs: int = 20, step_size: float = 0.03, size: int = 20_000
) -> Outcome:
    """Learn principal components of a Gaussian of ten inputs, of variances 5 down to 0.2.

    The result is how far the units span another space than the first components, and the smallest
    cosine between a unit and the component of its number.

    Args:
        run: The run, for its seed.
        rule: The plasticity rule.
        units: Number of units.
        epochs: Passes over the samples.
        step_size: Step size in the first epoch.
        size: Number of samples.
    """
    generator = np.random.default_rng(run.seed)
    basis, _ = np.linalg.qr(generator.standard_normal((10, 10)))
    spread = np.sqrt(np.linspace(5.0, 0.2, 10))
    samples = generator.standard_normal((size, 10)) * spread @ basis.T
    samples -= samples.mean(axis=0)
    layer = learned(
        run,
        rule,
        samples,
        units,
        epochs,
        50,
        step_size,
        kernel_initializer={"name": "RandomNormal", "stddev": 0.1},
    )
    weights = kernel_of(layer)
    _, vectors = np.linalg.eigh(np.cov(samples.T))
    first = vectors[:, ::-1][:, :units]
    span, _ = np.linalg.qr(weights)
    apart = np.linalg.norm(span @ span.T - first @ first.T)
    cosines = np.abs(np.sum(weights * first, axis=0)) / np.linalg.norm(weights, axis=0)
    return Outcome({"subspace_error": float(apart), "least_cosine": float(cosines.min())})


def nonlinear_mixture(
    run: Run, rule: Any, steps: int = 6000, batch_size: int = 200, step_size: float = 0.02
) -> Outcome:
    """Find a heavy-tailed direction in a whitened mixture of two Laplace and eight normal sources.

    The result is the largest cosine between a unit and one of the two directions.

    Args:
        run: The run, for its seed.
        rule: The plasticity rule.
        steps: Number of steps.
        batch_size: Samples in each step.
        step_size: Step size in the first epoch.
    """
    generator = np.random.default_rng(run.seed)
    count = 20_000
    sources = generator.standard_normal((count, 10))
    sources[:, :2] = generator.laplace(size=(count, 2)) / 2**0.5
    basis, _ = np.linalg.qr(generator.standard_normal((10, 10)))
    samples = sources @ basis.T
    epochs = max(1, round(steps * batch_size / count))
    start = {"name": "RandomNormal", "stddev": 10**-0.5}
    layer = learned(run, rule, samples, 1, epochs, batch_size, step_size, kernel_initializer=start)
    weights = kernel_of(layer)[:, 0]
    cosines = np.abs(basis[:, :2].T @ weights) / np.linalg.norm(weights)
    return Outcome({"cosine": float(cosines.max())})


def bcm(run: Run, rule: Any, epochs: int = 80, step_size: float = 0.05) -> Outcome:
    """Let six units learn four patterns of equal probability, and return how selective they are.

    A unit that has become selective responds to one pattern with `1 / p = 4` and not to the others.

    Args:
        run: The run, for its seed.
        rule: The plasticity rule.
        epochs: Passes over each pattern 50 times.
        step_size: Step size in the first epoch.
    """
    generator = np.random.default_rng(run.seed)
    patterns = np.abs(generator.standard_normal((4, 8)))
    patterns /= np.linalg.norm(patterns, axis=1, keepdims=True)
    start = {"name": "RandomUniform", "minval": 0.0, "maxval": 0.1}
    samples = np.tile(patterns, (50, 1))
    layer = learned(run, rule, samples, 6, epochs, 4, step_size, kernel_initializer=start)
    responses = np.sort(np.maximum(patterns @ kernel_of(layer), 0.0), axis=0)
    selectivity = 1.0 - responses[-2] / np.maximum(responses[-1], 1e-12)
    final = {"response": float(responses[-1].mean()), "selectivity": float(selectivity.mean())}
    return Outcome(final)


def convallis_rate(run: Run, rule: Any, epochs: int = 40, step_size: float = 0.02) -> Outcome:
    """Show a unit two groups of ten inputs in turn; does it learn to tell them apart?

    Args:
        run: The run, for its seed.
        rule: The plasticity rule.
        epochs: Passes over 1,000 samples.
        step_size: Step size in the first epoch.
    """
    generator = np.random.default_rng(run.seed)
    groups = np.repeat(np.eye(2), 10, axis=1)
    samples = np.tile(groups, (500, 1)) * generator.uniform(0.5, 1.5, (1000, 20))
    start = {"name": "RandomUniform", "minval": 0.02, "maxval": 0.08}
    layer = learned(run, rule, samples, 1, epochs, 20, step_size, kernel_initializer=start)
    potentials = np.sort(groups @ kernel_of(layer)[:, 0])
    contrast = (potentials[1] - potentials[0]) / max(1e-12, abs(potentials).sum())
    return Outcome({"selectivity": float(contrast), "highest": float(potentials[1])})


def eligibility_delay(run: Run, delay: int, tau: float = 10.0) -> Outcome:
    """Reward a layer some steps after it was active; how much does it still learn from that?

    The change should be in proportion to `(1 - 1 / tau)^delay`.

    Args:
        run: The run, for its seed.
        delay: Steps between activity and reward.
        tau: Time constant of the trace.
    """
    change = _rewarded(run, delay, tau) / _rewarded(run, 0, tau)
    expected = (1.0 - 1.0 / tau) ** delay
    return Outcome({"relative_error": abs(change / expected - 1.0), "share": float(change)})


def _rewarded(run: Run, delay: int, tau: float) -> float:
    generator = np.random.default_rng(run.seed)
    pre = generator.uniform(0.1, 1.0, (1, 5)).astype("float32")
    kernel = keras.ops.convert_to_tensor(generator.uniform(0.1, 1.0, (5, 3)).astype("float32"))
    rule = plasticity.EligibilityRule("hebb", tau=tau)
    trace = keras.ops.zeros((5, 3))
    for step in range(delay + 1):
        x = keras.ops.convert_to_tensor(pre if step == 0 else np.zeros_like(pre))
        reward = keras.ops.ones((1, 1)) * float(step == delay)
        post = rule.currents(x, kernel, trace)
        change = rule.update(x, kernel, trace, post=post, modulator=reward)
        (trace,) = rule.held_updates(x, post, kernel, trace)
    return float(np.linalg.norm(keras.ops.convert_to_numpy(change)))
