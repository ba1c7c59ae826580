"""Measures of feedback rules: linear networks, equal starts, fixed points."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np

from keras_local import _validation as check
from keras_local import losses, metrics, models
from keras_local.layers import FeedbackDense
from keras_local.reproduce.making import made, maker
from keras_local.reproduce.outcome import Outcome, Run


def linear_feedback(
    run: Run,
    sizes: list[int],
    epsilon: float | None,
    samples: int = 2000,
    learning_rate: float = 0.05,
    steps: int = 2000,
) -> Outcome:
    """Train a linear network on a linear teacher; feedback kernels learn `epsilon` times as fast.

    Computed in double precision in NumPy, from Amit 2019, equation of the linear theory: the error
    falls faster the larger `epsilon` is, and `R - epsilon W^T` stays as it is. With `epsilon` below
    0 errors go through the transposed kernels.

    Args:
        run: The run, for its seed.
        sizes: Units of each layer, inputs first.
        epsilon: Rate of the feedback kernels over that of the kernels.
        samples: Number of inputs, from a standard normal distribution.
        learning_rate: Learning rate of the kernels.
        steps: Steps of gradient descent on all samples.
    """
    check.sizes("sizes", sizes, len(sizes))
    generator = np.random.default_rng(run.seed)
    x = generator.standard_normal((samples, sizes[0]))
    teacher = generator.standard_normal((sizes[0], sizes[-1])) / sizes[0] ** 0.5
    targets = x @ teacher
    pairs = list(itertools.pairwise(sizes))
    kernels, feedback = (
        [generator.uniform(-1, 1, pair) * (6 / sum(pair)) ** 0.5 for pair in pairs]
        for _ in range(2)
    )
    backprop = epsilon is None or epsilon < 0
    rate = 0.0 if backprop else float(epsilon or 0.0)
    kept = [b - rate * w for w, b in zip(kernels, feedback, strict=True)]
    curve: list[float] = []
    for _ in range(steps):
        states = [x]
        for kernel in kernels:
            states.append(states[-1] @ kernel)
        error = (states[-1] - targets) / samples
        curve.append(float(np.sum(np.square(states[-1] - targets)) / samples / 2.0))
        changes = []
        for place in range(len(kernels) - 1, -1, -1):
            changes.append(states[place].T @ error)
            error = error @ (kernels if backprop else feedback)[place].T
        for kernel, back, change in zip(kernels, feedback, reversed(changes), strict=True):
            kernel -= learning_rate * change
            back -= learning_rate * rate * change
    drift = max(
        float(np.max(np.abs(b - rate * w - first)))
        for w, b, first in zip(kernels, feedback, kept, strict=True)
    )
    correlations = {
        f"weight_correlation/layer{k + 1}": float(np.corrcoef(w.ravel(), b.ravel())[0, 1])
        for k, (w, b) in enumerate(zip(kernels, feedback, strict=True))
    }
    at = min(800, steps) - 1
    final = {"log10_loss": float(np.log10(max(curve[at], 1e-300))), "drift": drift, **correlations}
    shown = {"loss": [float(each) for each in curve[:: max(1, steps // 100)]]}
    return Outcome(final, shown)


def equal_start(
    run: Run,
    model: dict[str, Any],
    layers: list[str],
    feedback: Any,
    steps: int = 200,
    batch_size: int = 50,
) -> Outcome:
    """Train one network twice from equal kernels, by backpropagation and by a rule.

    The feedback kernels of the rule start equal to the kernels. Updated random feedback then stays
    equal to them, so that both networks learn the same.

    Args:
        run: The run, with its data.
        model: `make` and `arguments` of the network, without its rule.
        layers: Names of its layers with feedback kernels.
        feedback: The rule.
        steps: Number of steps.
        batch_size: Images in each step.
    """
    if run.arrays is None:
        raise ValueError(check.refusal("data", "given", "none"))
    images, labels = run.arrays.train
    losses_of: dict[str, list[float]] = {}
    for name, rule in (("backprop", "symmetric"), ("rule", made(feedback))):
        keras.utils.set_random_seed(run.seed)
        network = maker(model["make"], "model.make")(**model.get("arguments", {}), feedback=rule)
        for layer in layers if name == "rule" else []:
            network.get_layer(layer).assign_feedback_kernel(network.get_layer(layer).kernel)
        network.compile(keras.optimizers.SGD(0.1), losses.LocalHinge())
        keras.utils.set_random_seed(run.seed)  # the same dropout
        curve = []
        for step in range(steps):
            first = step * batch_size % (len(images) - batch_size + 1)
            chosen = slice(first, first + batch_size)
            curve.append(float(network.train_on_batch(images[chosen], labels[chosen])))
        losses_of[name] = curve
    apart = np.max(np.abs(np.subtract(losses_of["backprop"], losses_of["rule"])))
    return Outcome({"largest_difference": float(apart)}, dict(losses_of))


def fixed_point(
    run: Run,
    feedback: dict[str, Any],
    sizes: list[int],
    learning_rate: float = 0.05,
    steps: int = 2000,
    samples: int = 200,
    condition: float = 30.0,
) -> Outcome:
    """Let feedback kernels learn beside a kernel that does not, and return their angle.

    Args:
        run: The run, for its seed.
        feedback: A rule that learns from activity.
        sizes: Inputs and units.
        learning_rate: Learning rate of SGD.
        steps: Steps on all samples.
        samples: Number of inputs.
        condition: Largest over smallest variance of the inputs, along random directions; 1 for
            white inputs. How long a rule needs for which activity matters grows with it.
    """
    condition = check.real("condition", condition, 1.0)
    generator = np.random.default_rng(run.seed)
    x, _ = np.linalg.qr(generator.standard_normal((samples, sizes[0])))
    axes, _ = np.linalg.qr(generator.standard_normal((sizes[0], sizes[0])))
    variances = np.geomspace(condition, 1.0, sizes[0])
    x = samples**0.5 * x * np.sqrt(variances / variances.mean()) @ axes.T
    keras.utils.set_random_seed(run.seed)
    layer = FeedbackDense(sizes[1], use_bias=False, feedback=made(feedback))
    model = keras.Sequential([keras.Input((sizes[0],)), layer])
    angles = [metrics.alignment_angle(layer.kernel, layer.feedback_kernel)]
    if steps == 0:
        return Outcome({"angle": float(angles[0])}, {"angle": [float(angles[0])]})
    models.align(
        model,
        np.tile(x.astype("float32"), (steps, 1)),
        batch_size=samples,
        optimizer=keras.optimizers.SGD(learning_rate),
        shuffle=False,
        verbose=0,
    )
    angles.append(metrics.alignment_angle(layer.kernel, layer.feedback_kernel))
    return Outcome({"angle": float(angles[-1])}, {"angle": [float(each) for each in angles]})
