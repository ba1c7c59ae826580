"""Fixed against updated random feedback in a deep net, on Fashion-MNIST."""

# %% [markdown]
# # Does feedback have to learn? Six hidden layers on Fashion-MNIST
#
# Amit (2019) reports that fixed random feedback degrades with depth while updated random feedback
# does not. Here are a net of two and one of six hidden layers of 128 units each, with his ramp and
# his hinge loss, trained by backpropagation (BP), fixed (FRFB) and updated feedback (URFB), with
# nothing tuned for any of them.
#
#     python examples/depth_fashion_mnist.py --figure depth_fashion_mnist.png

# %%
from __future__ import annotations

import argparse

import keras
import numpy as np

import keras_local as kl

parser = argparse.ArgumentParser(description="Feedback in deep nets, on Fashion-MNIST.")
parser.add_argument(
    "--epochs",
    type=int,
    default=5,
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
parser.add_argument("--figure", metavar="FILE", help="file for the figure (.png)")
arguments = parser.parse_args()

RULES = {"BP": "symmetric", "FRFB": "frfb", "URFB": "urfb"}
DEPTHS = (2, 6)


# %%
def network(rule: str, depth: int) -> keras.Model:
    """Return a net of `depth` hidden layers: ramp units, linear outputs."""
    hidden = [
        kl.layers.FeedbackDense(128, activation=kl.activations.Ramp(), feedback=rule)
        for _ in range(depth)
    ]
    outputs = kl.layers.FeedbackDense(10, feedback=rule)
    return keras.Sequential([keras.Input((784,)), *hidden, outputs])


# %%
(images, labels), (test_images, test_labels) = kl.datasets.load("fashion_mnist", flatten=True)
images, labels = images[: arguments.samples], labels[: arguments.samples]

curves: dict[tuple[int, str], np.ndarray] = {}
print(f"{'depth':>5}  {'rule':5}{'test accuracy':>28}{'mean':>8}")
for depth in DEPTHS:
    for name, rule in RULES.items():
        histories = []
        for seed in range(arguments.seeds):
            keras.utils.set_random_seed(seed)
            model = network(rule, depth)
            model.compile(keras.optimizers.SGD(0.1), kl.losses.LocalHinge(), metrics=["accuracy"])
            history = model.fit(
                images,
                labels,
                batch_size=100,
                epochs=arguments.epochs,
                validation_data=(test_images, test_labels),
                verbose=0,
            )
            histories.append([100 * value for value in history.history["val_accuracy"]])
        curves[depth, name] = np.array(histories)
        last = curves[depth, name][:, -1]
        each = " ".join(f"{accuracy:.2f}" for accuracy in last)
        print(f"{depth:5}  {name:5}{each:>28}{last.mean():8.2f}", flush=True)

# %% [markdown]
# The test accuracy after each epoch; the shade spans the seeds. Nothing is chosen on it.

# %%
if arguments.figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    colours = {"BP": "#000000", "FRFB": "#D55E00", "URFB": "#0072B2"}
    panels = figure.subplots(1, len(DEPTHS), sharey=True)
    for depth, panel in zip(DEPTHS, panels, strict=True):
        for name, colour in colours.items():
            runs = curves[depth, name]
            epochs = np.arange(1, runs.shape[1] + 1)
            panel.plot(epochs, runs.mean(axis=0), color=colour, label=name, marker="o")
            panel.fill_between(
                epochs, runs.min(axis=0), runs.max(axis=0), color=colour, alpha=0.2, linewidth=0
            )
        panel.set_title(f"{depth} hidden layers")
        panel.set_xlabel("epoch")
        panel.set_xticks(epochs)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("test accuracy (%)")
    panels[-1].legend(frameon=False, loc="lower right")
    figure.savefig(arguments.figure, dpi=150)
