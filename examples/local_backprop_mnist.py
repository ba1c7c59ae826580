"""Baserdem's slides: ten digits, one layer and two layers on MNIST."""

# %% [markdown]
# # Local backpropagation on MNIST
#
# The experiments of B. Baserdem's slides (2017). `ten`: one image of each digit, tested on itself;
# `single`: one layer on all of MNIST, by full batches; `dual`: two layers. Each is run with `A`
# fixed and learned, with thresholds and without, with ReLU and ReSU, and tested with the feedback
# to the highest layer blocked and unblocked. The slides end at an error of 0.32 for `single` after
# ten epochs, of 0 for `ten`, and at 0.74 to 0.84 for `dual`.
#
#     python examples/local_backprop_mnist.py --experiment ten --figure ten.png
#
# Learning rates: 0.003 as in the slides, for `ten` 0.01. Epochs: 10, for `ten` 40.

# %%
from __future__ import annotations

import argparse
from typing import Any

import keras
import numpy as np

import keras_local as kl

parser = argparse.ArgumentParser(description="Baserdem's experiments.")
parser.add_argument(
    "--experiment",
    choices=("ten", "single", "dual"),
    default="ten",
    help="experiment (default: %(default)s)",
)
parser.add_argument(
    "--data", choices=("mnist", "digits"), default="mnist", help="data set (default: %(default)s)"
)
parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training images")
parser.add_argument(
    "--hidden",
    type=int,
    default=30,
    metavar="UNITS",
    help="units of each hidden layer (default: %(default)s)",
)
parser.add_argument("--rate", type=float, metavar="RATE", help="learning rate")
parser.add_argument(
    "--samples",
    type=int,
    default=60000,
    metavar="N",
    help="number of training images (default: %(default)s)",
)
parser.add_argument(
    "--all", action="store_true", help="run all variants, not only that of the slides"
)
parser.add_argument(
    "--seed",
    type=int,
    default=0,
    metavar="N",
    help="seed of the random numbers (default: %(default)s)",
)
parser.add_argument("--figure", metavar="FILE", help="file for the figure (.png)")
arguments = parser.parse_args()

ten = arguments.experiment == "ten"
epochs = arguments.epochs or (40 if ten else 10)
rate = arguments.rate or ((0.01 if arguments.data == "mnist" else 0.3) if ten else 0.003)

# Errors after the first and the last epoch, read off the slide, blocked and unblocked.
SLIDE = {"single": {"blocked": (0.477, 0.317), "unblocked": (0.506, 0.319)}}
VARIANTS: dict[str, dict[str, Any]] = {
    "A = 1, bias, ReLU": {},
    "A learned": {"fix_A": None},
    "no bias": {"learn_bias": False},
    "ReSU": {"activation": "resu"},
}

# %% [markdown]
# Pixels of mean 0 and variance 1 over all of them, as the slides' curves begin.

# %%
(images, labels), (test_images, test_labels) = kl.datasets.load(arguments.data, flatten=True)
mean, deviation = images.mean(), images.std()
images, test_images = (images - mean) / deviation, (test_images - mean) / deviation
images, labels = images[: arguments.samples], labels[: arguments.samples]
if ten:
    first = [int(np.argmax(labels == digit)) for digit in range(10)]
    images, labels = images[first], labels[first]
    test_images, test_labels = images, labels


# %%
class Curves(keras.callbacks.Callback):
    """Errors with the feedback blocked and not, and the averages of the layers, each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, list[float]] = {"blocked": [], "unblocked": []}
        self.averages: list[list[float]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Test both ways, and average the squares of the units of some training images."""
        for name, blocked in (("blocked", True), ("unblocked", False)):
            self.model.block_feedback = blocked
            wrong = []
            for start in range(0, len(test_images), 1000):
                batch = slice(start, start + 1000)
                scores = keras.ops.convert_to_numpy(scored(self.model, test_images[batch]))
                wrong.append(np.argmax(scores, axis=-1) != test_labels[batch])
            self.errors[name].append(float(np.mean(np.concatenate(wrong))))
        self.model.block_feedback = True
        some = slice(0, 500)
        states = [layer[-1] for layer in self.model.trajectories(images[some], labels[some])]
        errors = self.model.errors(images[some], states, labels[some])
        self.averages.append([float(np.mean(np.square(u))) for u in [*errors, *states]])


def scored(network: Any, inputs: Any) -> Any:
    """Return the class scores, in the present mode of the test."""
    states = network.free_phase(keras.ops.convert_to_tensor(inputs, "float32"))
    return network.scores(inputs, states)


# %%
sizes = [images.shape[1], *([arguments.hidden] if arguments.experiment == "dual" else []), 10]
runs: dict[str, Curves] = {}
print(f"{'variant':22}{'error, blocked':>16}{'unblocked':>12}")
for name, variant in VARIANTS.items():
    if name != "A = 1, bias, ReLU" and not arguments.all:
        continue
    keras.utils.set_random_seed(arguments.seed)
    network = kl.dynamics.LocalBackpropNetwork(sizes, **variant)
    network.compile(keras.optimizers.SGD(rate))
    runs[name] = Curves()
    network.fit(
        images,
        labels,
        batch_size=len(images),
        epochs=epochs,
        shuffle=False,
        callbacks=[runs[name]],
        verbose=0,
    )
    blocked, unblocked = (runs[name].errors[each][-1] for each in ("blocked", "unblocked"))
    print(f"{name:22}{blocked:16.3f}{unblocked:12.3f}", flush=True)

# %%
if arguments.figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, run in runs.items():
        (line,) = left.plot(range(1, epochs + 1), run.errors["blocked"], label=name)
        left.plot(range(1, epochs + 1), run.errors["unblocked"], "--", color=line.get_color())
    for name, mark in (("blocked", "o"), ("unblocked", "s")):
        if points := SLIDE.get(arguments.experiment, {}).get(name):
            left.plot([1, 10], points, mark, color="0.4", fillstyle="none", label=f"slide, {name}")
    left.set(xlabel="epoch", ylabel="error (dashed: unblocked)")
    left.legend(frameon=False)
    averages = np.array(next(iter(runs.values())).averages)
    layers = len(sizes) - 1
    names = [f"D{k + 1}" for k in range(layers + 1)] + [f"X{k + 1}" for k in range(layers)]
    right.semilogy(range(1, epochs + 1), averages, label=names)
    right.set(xlabel="epoch", ylabel="mean square, with labels")
    right.legend(frameon=False)
    figure.savefig(arguments.figure, dpi=150)
