"""Dendritic microcircuits on MNIST, in the steady form."""

# %% [markdown]
# # Dendritic microcircuits on MNIST
#
# The published network, 784-500-500-10 with fixed random top-down weights, batches of 10, labels of
# 0.8 and 0.1. The published mixing factors, learning rates and initial weights are not known to us;
# these are the ones that worked on scikit-learn's digits, scaled to the number of inputs. Published
# test error: 1.96 %.
#
#     python examples/microcircuit_mnist.py

# %%
from __future__ import annotations

import argparse
import time

import keras

import keras_local as kl

parser = argparse.ArgumentParser(description="Dendritic microcircuits on MNIST.")
parser.add_argument("--data", choices=("mnist", "digits"), default="mnist")
parser.add_argument("--hidden", type=int, nargs="+", default=[500, 500])
parser.add_argument("--epochs", type=int, default=40)
parser.add_argument("--batch_size", type=int, default=10)
parser.add_argument("--rate", type=float, default=0.05)
parser.add_argument("--lam", type=float, default=0.1, help="all three mixing factors")
parser.add_argument("--limit", type=float, default=0.05, help="largest initial weight")
parser.add_argument("--down", type=float, default=0.3, help="largest top-down weight")
parser.add_argument("--top_down", choices=("fixed", "transposed", "learned"), default="fixed")
parser.add_argument("--samples", type=int, default=60000, help="training images")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

# %%
(images, labels), test = kl.datasets.load(arguments.data, flatten=True)
images, labels = images[: arguments.samples], labels[: arguments.samples]

keras.utils.set_random_seed(arguments.seed)
network = kl.dynamics.MicrocircuitNetwork(
    [images.shape[1], *arguments.hidden, 10],
    lam=arguments.lam,
    top_down=arguments.top_down,
    learn_apical=arguments.top_down == "learned",
    kernel_initializer=keras.initializers.RandomUniform(-arguments.limit, arguments.limit),
    top_down_initializer=keras.initializers.RandomUniform(-arguments.down, arguments.down),
)
network.compile(keras.optimizers.SGD(arguments.rate), metrics=["accuracy"])
begin = time.perf_counter()
history = network.fit(
    images,
    labels,
    batch_size=arguments.batch_size,
    epochs=arguments.epochs,
    validation_data=test,
    verbose=2,
)
minutes = (time.perf_counter() - begin) / 60
error = 100 * (1 - history.history["val_accuracy"][-1])
print(f"{arguments.epochs} epochs, {minutes:.1f} min, {error:.2f} % test error")
