"""Iterative temporal differencing on MNIST, compared with other rules."""

# %% [markdown]
# # Iterative temporal differencing, compared with other rules
#
# The published setting: 784-32-32-32-10, tangents, 5000 batches of 100 drawn at random, SGD of rate
# 0.01, the mean of each pixel taken off each split. Published test accuracies, from single runs:
# ITD .833, feedback alignment (FBA) .876, backpropagation (VBP) .915, ITD with the squared error
# (LSE) .612. Not published: FBA without derivatives, and hidden layers that do not learn at all.
#
#     python examples/temporal_difference_mnist.py --figure itd.png

# %%
from __future__ import annotations

import argparse
from typing import Any

import keras
import numpy as np

import keras_local as kl

parser = argparse.ArgumentParser(description="ITD on MNIST.")
parser.add_argument(
    "--data", choices=("mnist", "digits"), default="mnist", help="data set (default: %(default)s)"
)
parser.add_argument(
    "--batches",
    type=int,
    default=5000,
    metavar="N",
    help="number of training steps (default: %(default)s)",
)
parser.add_argument(
    "--points",
    type=int,
    default=20,
    metavar="N",
    help="number of tests during training (default: %(default)s)",
)
parser.add_argument(
    "--seeds",
    type=int,
    default=3,
    metavar="COUNT",
    help="number of seeds, counted from 0 (default: %(default)s)",
)
parser.add_argument("--figure", metavar="FILE", help="file for the figure (.png)")
arguments = parser.parse_args()

RUNS: dict[str, dict[str, Any]] = {
    "VBP": {"rule": "backprop"},
    "FBA": {"rule": "feedback_alignment"},
    "linear FBA": {"rule": "linear_feedback_alignment"},
    "ITD, MCE": {},
    "ITD, LSE": {"cost": "lse"},
    "hidden layers frozen": {"rule": "frozen"},
}
SIZE = 100

(images, labels), (test_images, test_labels) = kl.datasets.load(arguments.data, flatten=True)
if arguments.data == "mnist":
    images, labels = images[:55000], labels[:55000]  # The rest was for validation.
images, test_images = images - images.mean(axis=0), test_images - test_images.mean(axis=0)
every = arguments.batches // arguments.points


# %%
class Draws(keras.utils.PyDataset):
    """Batches of different samples, drawn anew each time."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Return how many make an epoch: what is between two tests."""
        return every

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Draw a batch."""
        chosen = self.rng.choice(len(images), SIZE, replace=False)
        return images[chosen], labels[chosen]


# %%
curves: dict[str, np.ndarray] = {}
print(f"{'rule':22}{'test accuracy of each seed':>28}{'mean':>8}{'loss':>8}")
for name, choice in RUNS.items():
    histories, losses = [], []
    for seed in range(arguments.seeds):
        keras.utils.set_random_seed(seed)
        sizes = [images.shape[1], 32, 32, 32, 10]
        network = kl.dynamics.TemporalDifferenceNetwork(sizes, batch_size=SIZE, **choice)
        network.compile(keras.optimizers.SGD(0.01), metrics=["accuracy"])
        history = network.fit(
            Draws(seed),
            epochs=arguments.points,
            validation_data=(test_images, test_labels),
            verbose=0,
        ).history
        histories.append(history["val_accuracy"])
        losses.append(history["val_loss"][-1])
    curves[name] = np.array(histories)
    last = curves[name][:, -1]
    each = " ".join(f"{accuracy:.3f}" for accuracy in last)
    print(f"{name:22}{each:>28}{last.mean():8.3f}{np.mean(losses):8.3f}", flush=True)

# %% [markdown]
# The test accuracy over batches; the shade spans the seeds.

# %%
if arguments.figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps = every * np.arange(1, arguments.points + 1)
    for name, curve in curves.items():
        (line,) = axes.plot(steps, curve.mean(axis=0), label=name)
        axes.fill_between(
            steps, curve.min(axis=0), curve.max(axis=0), color=line.get_color(), alpha=0.2
        )
    axes.set(xlabel="batch", ylabel="test accuracy")
    axes.legend(frameon=False)
    figure.savefig(arguments.figure, dpi=150)
