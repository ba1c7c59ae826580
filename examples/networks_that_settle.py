"""The dynamics of every network that settles, drawn on scikit-learn's digits."""

# %% [markdown]
# # What settling looks like
#
# Each network learns scikit-learn's digits for a few epochs; then the states of a few units of each
# layer are drawn over the phases of one sample. It takes about a minute.
#
#     python examples/networks_that_settle.py --figures figures

# %%
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras

import keras_local as kl

parser = argparse.ArgumentParser(description="The dynamics of networks that settle.")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--figures", type=Path, default=Path("figures"), help="where to save figures")
arguments = parser.parse_args()
arguments.figures.mkdir(parents=True, exist_ok=True)


# %%
def draw(name: str, network: Any, rate: float, scaled: bool = False, batch_size: int = 20) -> None:
    """Train a network, print its test accuracy, and draw its states over time."""
    (images, labels), (test_images, test_labels) = kl.datasets.load("digits", flatten=True)
    if scaled:
        mean, deviation = images.mean(), images.std()
        images, test_images = (images - mean) / deviation, (test_images - mean) / deviation
    network.compile(keras.optimizers.SGD(rate), metrics=["accuracy"])
    network.fit(images, labels, batch_size=batch_size, epochs=arguments.epochs, verbose=0)
    _, accuracy = network.evaluate(test_images, test_labels, verbose=0)
    print(f"{name:24}{100 * accuracy:8.2f} % of the test digits", flush=True)
    # The label of another digit, so that there is something to see.
    states = network.trajectories(test_images[:4], (test_labels[:4] + 1) % 10)
    # Only networks with a second phase behind the free one have a mark.
    microcircuit = isinstance(network, kl.dynamics.MicrocircuitNetwork)
    mark = network.steps if microcircuit else getattr(network, "free_steps", None)
    figure = kl.plots.trajectories(states, sample=0, mark=mark)
    figure.savefig(arguments.figures / f"network_{name}.png", dpi=110)


# %%
keras.utils.set_random_seed(0)
draw("equilibrium", kl.dynamics.EquilibriumNetwork([64, 32, 10], nudged_steps=10), 0.2)
draw("contrastive_hebbian", kl.dynamics.ContrastiveHebbianNetwork([64, 32, 10]), 0.1)
local_backprop = kl.dynamics.LocalBackpropNetwork([64, 10])
draw("local_backprop", local_backprop, 0.05, scaled=True, batch_size=100)
microcircuit = kl.dynamics.MicrocircuitNetwork([64, 50, 10], form="ode", simulation_time=10.0)
draw("microcircuit", microcircuit, 0.05)
predictive_coding = kl.dynamics.PredictiveCodingNetwork([64, 32, 10])
draw("predictive_coding", predictive_coding, 0.1)
