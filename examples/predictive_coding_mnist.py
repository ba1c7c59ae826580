"""Predictive coding and Z-IL on MNIST, beside backpropagation in the same network."""

# %% [markdown]
# # Predictive coding on MNIST
#
# Whittington and Bogacz's network, 784-500-500-10 of logistic units, learns with Adam at a rate of
# 0.001 and batches of 20 (published: 100 epochs). It is trained by predictive coding, with fixed
# predictions, by Z-IL, and by backpropagation of the same loss from the same initial weights. Z-IL
# is backpropagation up to rounding, so that differences between the two are chance. The variance of
# the outputs and the step size of predictive coding were chosen among 1, 10, 100 and 0.1, 0.3 on
# held-out training images, in a transcription that is not in this tree; `--held-out 10000` measures
# on such images.
#
#     python examples/predictive_coding_mnist.py --epochs 10

# %%
from __future__ import annotations

import argparse
import time
from typing import Any

import keras

import keras_local as kl

parser = argparse.ArgumentParser(description="Predictive coding on MNIST.")
parser.add_argument(
    "--data", choices=("mnist", "digits"), default="mnist", help="data set (default: %(default)s)"
)
parser.add_argument(
    "--hidden",
    type=int,
    nargs="+",
    default=[500, 500],
    metavar="UNITS",
    help="units of each hidden layer (default: %(default)s)",
)
parser.add_argument(
    "--epochs",
    type=int,
    default=10,
    metavar="N",
    help="passes over the training images (default: %(default)s)",
)
parser.add_argument(
    "--rules", nargs="+", metavar="NAME", help="names of the rules to run (default: all)"
)
parser.add_argument(
    "--batch-size",
    type=int,
    default=20,
    metavar="N",
    help="images in each step (default: %(default)s)",
)
parser.add_argument(
    "--rate", type=float, default=0.001, metavar="RATE", help="learning rate (default: %(default)s)"
)
parser.add_argument(
    "--variance",
    type=float,
    default=10.0,
    metavar="VARIANCE",
    help="variance of the outputs (default: %(default)s)",
)
parser.add_argument(
    "--steps", type=int, default=50, metavar="N", help="steps of settling (default: %(default)s)"
)
parser.add_argument(
    "--step-size", type=float, default=0.3, metavar="SIZE", help="step size (default: %(default)s)"
)
parser.add_argument(
    "--samples",
    type=int,
    default=60000,
    metavar="N",
    help="number of training images (default: %(default)s)",
)
parser.add_argument(
    "--seed",
    type=int,
    default=0,
    metavar="N",
    help="seed of the random numbers (default: %(default)s)",
)
parser.add_argument(
    "--held-out",
    type=int,
    default=0,
    metavar="N",
    help="train without the last N training images, and test on these",
)
arguments = parser.parse_args()

(images, labels), (test_images, test_labels) = kl.datasets.load(arguments.data, flatten=True)
if arguments.held_out:
    test_images, test_labels = images[-arguments.held_out :], labels[-arguments.held_out :]
    images, labels = images[: -arguments.held_out], labels[: -arguments.held_out]
images, labels = images[: arguments.samples], labels[: arguments.samples]
targets = keras.utils.to_categorical(labels, 10)
test_targets = keras.utils.to_categorical(test_labels, 10)
sizes = [images.shape[1], *arguments.hidden, 10]


# %%
def twin() -> keras.Model:
    """Return the same network of built-in layers, with the same loss."""
    hidden = [keras.layers.Dense(units, activation="sigmoid") for units in sizes[1:-1]]
    return keras.Sequential([keras.Input((sizes[0],)), *hidden, keras.layers.Dense(10)])


def half_squared_distance(y_true: Any, y_pred: Any) -> Any:
    """Return the loss of the networks."""
    return 0.5 * keras.ops.sum(keras.ops.square(y_true - y_pred), axis=-1)


NETWORKS = {
    "backpropagation": None,
    "Z-IL": {"inference": "zil"},
    "fixed predictions": {
        "inference": "fixed_prediction",
        "steps": len(arguments.hidden),
        "step_size": 1.0,
    },
    "predictive coding": {
        "steps": arguments.steps,
        "step_size": arguments.step_size,
        "output_variance": arguments.variance,
    },
}

print(f"{'rule':20}{'test error':>12}{'minutes':>9}")
for name in arguments.rules or NETWORKS:
    choice = NETWORKS[name]
    keras.utils.set_random_seed(arguments.seed)
    start = kl.dynamics.PredictiveCodingNetwork(sizes).get_weights()
    model = twin() if choice is None else kl.dynamics.PredictiveCodingNetwork(sizes, **choice)
    model.set_weights(start)
    loss = {"loss": half_squared_distance} if choice is None else {}
    model.compile(keras.optimizers.Adam(arguments.rate), metrics=["accuracy"], **loss)
    begin = time.perf_counter()
    history = model.fit(
        images,
        targets,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        validation_data=(test_images, test_targets),
        verbose=0,
    )
    minutes = (time.perf_counter() - begin) / 60
    error = 100 * (1 - history.history["val_accuracy"][-1])
    print(f"{name:20}{error:10.2f} %{minutes:9.1f}", flush=True)
