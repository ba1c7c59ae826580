"""Equilibrium propagation on MNIST, with Scellier and Bengio's settings."""

# %% [markdown]
# # Equilibrium propagation on MNIST
#
# The published networks with one to three hidden layers, their phases, nudges and learning rates,
# batches of 20 and random signs of the nudge. Published: 25, 60 and 500 epochs, test errors of 2
# to 3 %.
#
#     python examples/equilibrium_mnist.py
#     python examples/equilibrium_mnist.py --preset 784-500-500-10 --epochs 60

# %%
from __future__ import annotations

import argparse
import time

import keras

import keras_local as kl

PRESETS = ("784-500-10", "784-500-500-10", "784-500-500-500-10")

parser = argparse.ArgumentParser(description="Equilibrium propagation on MNIST.")
parser.add_argument(
    "--preset", choices=PRESETS, default="784-500-10", help="size of the run (default: %(default)s)"
)
parser.add_argument(
    "--epochs",
    type=int,
    default=25,
    metavar="N",
    help="passes over the training images (default: %(default)s)",
)
parser.add_argument(
    "--batch-size",
    type=int,
    default=20,
    metavar="N",
    help="images in each step (default: %(default)s)",
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
arguments = parser.parse_args()

# %%
(images, labels), test = kl.datasets.load("mnist", flatten=True)
images, labels = images[: arguments.samples], labels[: arguments.samples]

keras.utils.set_random_seed(arguments.seed)
network = kl.dynamics.EquilibriumNetwork.preset(arguments.preset)
# The rates of the layers are factors in the preset.
network.compile(keras.optimizers.SGD(1.0), metrics=["accuracy"])
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
print(f"{arguments.preset}: {arguments.epochs} epochs, {minutes:.1f} min, {error:.2f} % test error")
