"""Four error paths on MNIST: backpropagation, fixed, Kolen-Pollack and mirrored feedback."""

# %% [markdown]
# # Without weight transport: MNIST, 784-500-10
#
# The network of the reference code of Akrout et al. (2019): sigmoid units, a sigmoid
# cross-entropy, and four error paths. The logs released with that code give test
# accuracies after ten epochs: backpropagation 94.12 %, fixed random feedback (FA) 90.86 %,
# Kolen-Pollack (KP) 95.41 %, weight mirror (WM) 90.49 %.
#
#     python examples/weight_transport_mnist.py

# %%
from __future__ import annotations

import argparse

import keras
import numpy as np

import keras_local as kl

parser = argparse.ArgumentParser(description="Feedback without weight transport, on MNIST.")
parser.add_argument(
    "--epochs",
    type=int,
    default=10,
    metavar="N",
    help="passes over the training images (default: %(default)s)",
)
parser.add_argument(
    "--seeds",
    type=int,
    default=3,
    metavar="COUNT",
    help="number of seeds, counted from 0 (default: %(default)s)",
)
parser.add_argument(
    "--samples",
    type=int,
    default=60000,
    metavar="N",
    help="number of training images (default: %(default)s)",
)
arguments = parser.parse_args()

# %% [markdown]
# The step sizes are those of the logs. The mirror of that code learns at 0.01 from the product of
# noise and answer summed over 128 examples, with a step of its own; here the optimizer's step of
# 0.05 and a mean over examples stand before it, hence the rate. It has no decay.

# %%
BATCH_SIZE = 128
WM_STEP = 0.05
mirror = kl.feedback.WeightMirror(
    amplify=0.01 * BATCH_SIZE / WM_STEP,
    decay=0.0,
    noise=kl.feedback.Noise(0.05 / 3**0.5, "uniform"),
    centre=False,
)
RULES = {
    "BP": ("symmetric", 0.2, 94.12),
    "FA": ("feedback_alignment", 0.2, 90.86),
    "KP": ("kolen_pollack", 0.3, 95.41),
    "WM": (mirror, WM_STEP, 90.49),
}


# %% [markdown]
# All weights start normal with deviation `sqrt(1 / (n_in + n_out))`, biases too. In the reference
# code the gradient of a bias is divided by the batch size twice; an optimizer of its own does that
# here. The loss is summed over the ten outputs.


# %%
def network(rule: kl.feedback.FeedbackRule | str, seed: int) -> keras.Model:
    """Return the network with one rule in both layers."""

    def layer(inputs: int, units: int, number: int) -> keras.layers.Layer:
        initializers = [
            keras.initializers.RandomNormal(
                stddev=(inputs + units) ** -0.5, seed=1000 * seed + 10 * number + i
            )
            for i in range(3)
        ]
        return kl.layers.FeedbackDense(
            units,
            "sigmoid",
            feedback=rule,
            kernel_initializer=initializers[0],
            bias_initializer=initializers[1],
            feedback_initializer=initializers[2],
        )

    return keras.Sequential([keras.Input((784,)), layer(784, 500, 0), layer(500, 10, 1)])


def loss(targets: keras.KerasTensor, outputs: keras.KerasTensor) -> keras.KerasTensor:
    """Sigmoid cross-entropy, summed over the outputs."""
    return keras.ops.sum(keras.ops.binary_crossentropy(targets, outputs), axis=-1)


def optimizer(step: float) -> keras.optimizers.Optimizer:
    """SGD, whose step is 128 times smaller for biases."""
    steps = keras.optimizers.OptimizerMap(keras.optimizers.SGD(step))
    steps[".*bias"] = keras.optimizers.SGD(step / BATCH_SIZE)
    return keras.optimizers.MultiOptimizer(steps)


# %%
(images, labels), (test_images, test_labels) = kl.datasets.load("mnist", flatten=True)
whole = min(arguments.samples, len(images)) // BATCH_SIZE * BATCH_SIZE
images, labels = images[:whole], labels[:whole]
targets, test_targets = (np.eye(10, dtype="float32")[each] for each in (labels, test_labels))

print(f"{'':4}{'test accuracy':>28}{'mean':>8}{'published':>11}   angle of the output's feedback")
for name, (rule, step, published) in RULES.items():
    accuracies, angles = [], []
    for seed in range(arguments.seeds):
        keras.utils.set_random_seed(seed)
        model = network(rule, seed)
        if name == "WM":
            phase = keras.optimizers.SGD(step)
            kl.models.align(
                model, images, batch_size=BATCH_SIZE, optimizer=phase, shuffle=False, verbose=0
            )
        model.compile(optimizer(step), loss, metrics=["categorical_accuracy"])
        model.fit(
            images,
            targets,
            batch_size=BATCH_SIZE,
            epochs=arguments.epochs,
            shuffle=False,
            verbose=0,
        )
        accuracies.append(100 * model.evaluate(test_images, test_targets, verbose=0)[1])
        top = model.layers[-1]
        if top.feedback_kernel is not None:
            angles.append(kl.metrics.alignment_angle(top.kernel, top.feedback_kernel))
    each = " ".join(f"{accuracy:.2f}" for accuracy in accuracies)
    angle = f"{np.mean(angles):.0f} degrees" if angles else "-"
    print(f"{name:4}{each:>28}{np.mean(accuracies):8.2f}{published:11.2f}   {angle}", flush=True)
