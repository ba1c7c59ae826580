"""Every feedback rule on one small network and real digits: accuracies, angles, figures."""

# %% [markdown]
# # Which feedback rule?
#
# One convolutional network, two convolutions and two dense layers of tanh units, learns
# scikit-learn's handwritten digits (1400 for training, 397 for tests) with every feedback rule of
# the package. All runs have the same settings, tuned for none of them: SGD with step size
# 0.1 falling to zero, momentum 0.9, batches of 50, 25 epochs, softmax and cross-entropy.
#
#     python examples/compare_feedback_rules.py --figures figures

# %%
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_local as kl

parser = argparse.ArgumentParser(description="All feedback rules on digits.")
parser.add_argument(
    "--epochs",
    type=int,
    default=25,
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
    "--rules", nargs="*", metavar="NAME", help="names of the rules to run (default: all)"
)
parser.add_argument("--figures", type=Path, metavar="DIR", help="folder for the figures")
arguments = parser.parse_args()

(images, labels), (test_images, test_labels) = kl.datasets.load("digits")
BATCH_SIZE, STEP = 50, 0.1
HIDDEN = ("conv1", "conv2", "hidden")

RULES: dict[str, Any] = {
    "symmetric": "symmetric",
    "feedback_alignment": "feedback_alignment",
    "kolen_pollack": "kolen_pollack",
    "sign_symmetry": "sign_symmetry",
    "sign_symmetry_fixed": "frsf",
    "sign_symmetry_batchwise": "brsf",
    "weight_mirror": "weight_mirror",
    "symmetric_alignment": "symmetric_alignment",
    "activation_alignment": "activation_alignment",
    "information_alignment": "information_alignment",
    "matched_norm": kl.feedback.MatchedNorm(kl.feedback.FeedbackAlignment()),
    "direct_feedback": "direct_feedback",
    "direct_random_target": "direct_random_target",
}


# %%
def network(rule: Any) -> keras.Model:
    """Return the net; the two direct rules are put on afterwards."""
    direct = rule in ("direct_feedback", "direct_random_target")
    feedback = "symmetric" if direct else rule
    inputs = keras.Input(images.shape[1:])
    x = kl.layers.FeedbackConv2D(
        16, 3, padding="same", activation="tanh", feedback=feedback, name="conv1"
    )(inputs)
    x = keras.layers.MaxPooling2D()(x)
    x = kl.layers.FeedbackConv2D(
        32, 3, padding="same", activation="tanh", feedback=feedback, name="conv2"
    )(x)
    x = keras.layers.Flatten()(x)
    x = kl.layers.FeedbackDense(64, "tanh", feedback=feedback, name="hidden")(x)
    scores = kl.layers.FeedbackDense(10, feedback=feedback, name="scores")(x)
    model = keras.Model(inputs, scores)
    return kl.models.direct(model, rule) if direct else model


def train(rule: Any, seed: int) -> dict[str, list[float]]:
    """Train one net; return its logs."""
    keras.utils.set_random_seed(seed)
    model = network(rule)
    steps = len(images) // BATCH_SIZE
    rate = keras.optimizers.schedules.CosineDecay(STEP, steps * arguments.epochs)
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    watched = any(getattr(layer, "feedback_kernel", None) is not None for layer in model.layers)
    history = model.fit(
        images,
        labels,
        batch_size=BATCH_SIZE,
        epochs=arguments.epochs,
        validation_data=(test_images, test_labels),
        callbacks=[kl.callbacks.AlignmentMonitor()] if watched else [],
        verbose=0,
    )
    logs: dict[str, list[float]] = history.history
    return logs


# %%
runs: dict[str, list[dict[str, list[float]]]] = {}
print("| rule | test error (%) | for each seed | angle at the end: conv2, hidden, scores |")
print("|---|---|---|---|")
for name in arguments.rules or RULES:
    runs[name] = [train(RULES[name], seed) for seed in range(arguments.seeds)]
    errors = [100 * (1 - logs["val_accuracy"][-1]) for logs in runs[name]]
    angles = [
        np.mean([logs[f"alignment_angle/{layer}"][-1] for logs in runs[name]])
        for layer in ("conv2", "hidden", "scores")
        if f"alignment_angle/{layer}" in runs[name][0]
    ]
    each = ", ".join(f"{error:.2f}" for error in errors)
    print(
        f"| `{name}` | {np.mean(errors):.2f} | {each} | "
        f"{', '.join(f'{angle:.0f}°' for angle in angles) or '–'} |",
        flush=True,
    )

# %% [markdown]
# A figure for each rule: its test error beside those of backpropagation and of fixed random
# feedback, and the angles between its kernels and feedback kernels, of the first seed.


# %%
def draw(name: str, path: Path) -> None:
    """Draw one rule's curves."""
    from matplotlib.figure import Figure

    angles = {k: v for k, v in runs[name][0].items() if k.startswith("alignment_angle/")}
    figure = Figure(figsize=(8 if angles else 4.4, 3.2), layout="constrained")
    left, *others = figure.subplots(1, 2 if angles else 1, squeeze=False)[0]
    shown = {"symmetric": ("#000000", "--"), "feedback_alignment": ("#D55E00", ":")}
    for each, (colour, dashes) in {**shown, name: ("#0072B2", "-")}.items():
        curves = 100 * (1 - np.array([logs["val_accuracy"] for logs in runs[each]]))
        epochs = np.arange(1, curves.shape[1] + 1)
        left.plot(
            epochs, curves.mean(axis=0), color=colour, linestyle=dashes, label=each, linewidth=1.8
        )
        left.fill_between(
            epochs, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.12, linewidth=0
        )
    left.set_yscale("log")
    left.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    left.minorticks_off()
    left.set_ylabel("test error (%)")
    left.legend(frameon=False, fontsize=9)
    palette = ("#009E73", "#CC79A7", "#E69F00")
    for right in others:
        for colour, (key, values) in zip(palette, angles.items(), strict=False):
            right.plot(epochs, values, color=colour, label=key.split("/")[1], linewidth=1.8)
        right.axhline(90, color="0.4", linestyle=(0, (4, 3)), linewidth=1.2)
        right.set_ylim(0, 100)
        right.set_yticks(range(0, 91, 15))
        right.set_ylabel("angle to the kernel (degrees)")
        right.legend(frameon=False, fontsize=9)
    for axes in (left, *others):
        axes.set_xlabel("epoch")
        axes.grid(True, color="0.9", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


if arguments.figures:
    arguments.figures.mkdir(parents=True, exist_ok=True)
    for name in runs:
        if name not in ("symmetric", "feedback_alignment"):
            draw(name, arguments.figures / f"rule_{name}.png")
