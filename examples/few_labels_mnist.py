"""How many labels does MNIST need? Features learned without labels against backpropagation."""

# %% [markdown]
# # MNIST with few labels
#
# Competing hidden units (Krotov & Hopfield 2019) learn from all 60,000 images without a label. Then
# readouts learn the classes from the labels of 10, 100, 1000 or all images. Beside them is the
# same network, 784-2000-10, trained from end to end by backpropagation on the same labelled images.
#
#     python examples/few_labels_mnist.py --preset quick --choose
#     python examples/few_labels_mnist.py --preset quick --figure few_labels.png
#
# The encoder of each seed is pretrained once and kept in the folder that `--encoders` names. The
# results are kept in the file that `--results` names, so that a run can be continued.

# %%
from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_local as kl

# %% [markdown]
# The labelled images are balanced, as many of each class. Each method has a grid of settings;
# `--choose` compares them for each number of labels on held-out training images, in a run with a
# seed of its own, and writes its choice into the results. Without a choice, a method takes the
# first setting of its grid. The test images are for the errors in the table.

# %%
PRESETS = {
    "smoke": {"samples": 2000, "units": 100, "pretraining": 2, "steps": 20, "epochs": 1},
    "quick": {"samples": 60000, "units": 2000, "pretraining": 20, "steps": 1000, "epochs": 10},
    "paper": {"samples": 60000, "units": 2000, "pretraining": 100, "steps": 2000, "epochs": 60},
}
LABELS = (10, 100, 1000, 60000)
HELD_OUT = 10000
BATCH_SIZE = 100

Settings = dict[str, float | str]
GRID: dict[str, list[Settings]] = {
    "readout": [
        {"loss": loss, "rate": 3e-3, "decay": decay}
        for decay in (0.0, 1.0, 10.0)
        for loss in ("power", "crossentropy", "squared_hinge")
    ],
    "neighbours": [{"neighbours": k, "power": n} for k in (1, 3, 5) for n in (1.0, 2.0, 4.5)],
    "class means": [{"power": n} for n in (1.0, 2.0, 4.5)],
    "backprop": [
        {"loss": loss, "rate": 1e-3, "decay": decay, "dropout": dropout}
        for decay in (0.0, 10.0)
        for dropout in (0.0, 0.5)
        for loss in ("crossentropy", "squared_hinge")
    ],
}
parser = argparse.ArgumentParser(description="Accuracy against the number of labels, on MNIST.")
parser.add_argument(
    "--preset", choices=PRESETS, default="quick", help="size of the run (default: %(default)s)"
)
parser.add_argument(
    "--seeds",
    type=int,
    default=3,
    metavar="COUNT",
    help="number of seeds, counted from 0 (default: %(default)s)",
)
parser.add_argument(
    "--labels",
    type=int,
    nargs="+",
    default=LABELS,
    metavar="N",
    help="numbers of labels (default: all of them)",
)
parser.add_argument(
    "--results",
    default="few_labels.json",
    metavar="FILE",
    help="file of the results (default: %(default)s)",
)
parser.add_argument(
    "--encoders",
    default="encoders",
    metavar="DIR",
    help="folder of the pretrained encoders (default: %(default)s)",
)
parser.add_argument("--figure", metavar="FILE", help="file for the figure (.png)")
parser.add_argument(
    "--choose", action="store_true", help="compare settings on held-out images, and keep the best"
)
arguments = parser.parse_args()
preset = PRESETS[arguments.preset]
path = Path(arguments.results)
# "choice" is a position in the grid, "test" the accuracy of each seed.
results: dict[str, Any] = {"choice": {}, "test": {}}
if path.exists():
    results = json.loads(path.read_text())


def keep() -> None:
    """Write what has been measured."""
    path.write_text(json.dumps(results, indent=1, sort_keys=True))


# %% [markdown]
# Both kinds of training have as many steps: at least `steps`, and at least `epochs` epochs.
# The step size of Adam falls to zero, the decay is that of AdamW.


# %%
def optimizer(settings: Settings, steps: int) -> keras.optimizers.Optimizer:
    """Return AdamW with a step size that falls to zero."""
    schedule = keras.optimizers.schedules.CosineDecay(settings["rate"], steps)
    return keras.optimizers.AdamW(schedule, weight_decay=settings["decay"])


def loss(settings: Settings) -> keras.losses.Loss:
    """Return the loss that the settings name."""
    if settings["loss"] == "power":
        return kl.losses.PowerLoss(power=4, beta=0.3)
    if settings["loss"] == "squared_hinge":
        return kl.losses.SquaredHinge()
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> None:
    """Train on labelled images; few of them are repeated, so that epochs have more than a step."""
    again = copies(len(images))
    images, labels = np.tile(images, (again, 1)), np.tile(labels, again)
    model.fit(images, labels, batch_size=BATCH_SIZE, epochs=epochs_of(len(images)), verbose=0)


def copies(count: int) -> int:
    """Return how often images are repeated in an epoch."""
    return max(1, 1000 // count)


def epochs_of(count: int) -> int:
    """Return the number of epochs over so many images."""
    return max(preset["epochs"], -(-preset["steps"] // steps_of(count)))


def steps_of(count: int) -> int:
    """Return the steps in an epoch."""
    return -(-count // BATCH_SIZE)


# %%
def classifier(
    method: str, settings: Settings, encoder: keras.Model, images: np.ndarray, labels: np.ndarray
) -> keras.Model:
    """Return a model of one of the methods, trained on labelled images."""
    count = len(images) * copies(len(images))
    steps = epochs_of(count) * steps_of(count)
    if method == "readout":
        model = kl.models.readout(
            encoder, 10, loss=loss(settings), optimizer=optimizer(settings, steps)
        )
        fit(model, images, labels)
    elif method == "neighbours":
        model = kl.models.nearest_neighbours(
            encoder, 10, settings["neighbours"], power=settings["power"]
        )
        model.fit(images, labels)
    elif method == "class means":
        model = kl.models.hebbian_readout(encoder, 10, power=settings["power"])
        model.fit(images, labels, batch_size=1000, verbose=0)
    else:
        model = keras.Sequential(
            [
                keras.Input((784,)),
                keras.layers.Dense(preset["units"], activation="relu"),
                keras.layers.Dropout(settings["dropout"]),
                keras.layers.Dense(10),
            ]
        )
        model.compile(optimizer(settings, steps), loss(settings), metrics=["accuracy"])
        fit(model, images, labels)
    return model


def pretrained(seed: int, images: np.ndarray) -> keras.Model:
    """Return the encoder of a seed, from its file if there is one."""
    file = Path(arguments.encoders) / f"{arguments.preset}_{seed}.keras"
    if file.exists():
        return keras.models.load_model(file)
    start = time.perf_counter()
    keras.utils.set_random_seed(seed)
    hidden = kl.layers.HebbianDense(
        preset["units"],
        plasticity=kl.plasticity.KrotovHopfield(p=3, rank=7, delta=0.4),
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.6),
    )
    encoder = keras.Sequential([keras.Input((784,)), hidden])
    kl.models.pretrain(
        encoder,
        images,
        epochs=preset["pretraining"],
        batch_size=BATCH_SIZE,
        step_size=0.04,
        verbose=2,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    encoder.save(file)
    print(f"encoder of seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    return encoder


def balanced(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return indices of labelled images, as many of each class; all if all are asked for."""
    order = np.random.default_rng(seed).permutation(len(labels))
    if count >= len(labels):
        return order
    return np.concatenate([order[labels[order] == c][: count // 10] for c in range(10)])


# %%
(images, labels), (test_images, test_labels) = kl.datasets.load("mnist", flatten=True)
images, labels = images[: preset["samples"]], labels[: preset["samples"]]
counts = sorted({min(count, len(images)) for count in arguments.labels})


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Return the accuracy in percent."""
    return 100.0 * model.evaluate(x, y, batch_size=500, verbose=0)[1]


# %% [markdown]
# The choice: the last training images are held out from readouts and backpropagation. Pretraining
# sees no labels, so its encoder may stay.

# %%
if arguments.choose:
    held = min(HELD_OUT, len(images) // 5)
    encoder = pretrained(0, images)
    for count in counts:
        chosen = balanced(labels[:-held], count, seed=1000)
        for method, grid in GRID.items():
            found = []
            for settings in grid:
                # With very many labels, what helps against few is left out, and what is slow.
                if count > 1000 and settings.get("decay", 1.0) > 0.0:
                    continue
                keras.utils.set_random_seed(1000)
                model = classifier(method, settings, encoder, images[chosen], labels[chosen])
                found.append(accuracy(model, images[-held:], labels[-held:]))
            if not found:
                continue
            best = int(np.argmax(found))
            results["choice"][f"{method} {count}"] = best
            keep()
            each = " ".join(f"{value:.2f}" for value in found)
            print(f"{count:6} {method:12} {each}  best: {grid[best]}", flush=True)
    raise SystemExit

# %%
for seed in range(arguments.seeds):
    for count in counts:
        chosen = balanced(labels, count, seed)
        for method, grid in GRID.items():
            measured = results["test"].setdefault(f"{method} {count}", {})
            if str(seed) in measured:
                continue
            encoder = pretrained(seed, images)
            keras.utils.set_random_seed(seed)
            # What is too slow to compare with all labels is chosen as for 1000.
            place = results["choice"].get(f"{method} {count}")
            if place is None:
                place = results["choice"].get(f"{method} 1000", 0)
            start = time.perf_counter()
            model = classifier(method, grid[place], encoder, images[chosen], labels[chosen])
            measured[str(seed)] = accuracy(model, test_images, test_labels)
            keep()
            took = time.perf_counter() - start
            print(
                f"seed {seed} {count:6} {method:12} {measured[str(seed)]:6.2f} {took:6.0f} s",
                flush=True,
            )

measured = {key: list(values.values()) for key, values in results["test"].items()}
print(f"\n{'test accuracy (%)':18}" + "".join(f"{count:>24}" for count in counts))
for method in GRID:
    cells = [measured[f"{method} {count}"] for count in counts]
    texts = (f"{np.mean(cell):.2f} ({min(cell):.2f} to {max(cell):.2f})" for cell in cells)
    print(f"{method:18}" + "".join(f"{text:>24}" for text in texts))

# %% [markdown]
# The mean over the seeds; the shade spans them.

# %%
if arguments.figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    looks = {
        "readout": ("#0072B2", "Hebbian features, linear readout"),
        "neighbours": ("#009E73", "Hebbian features, nearest neighbours"),
        "class means": ("#CC79A7", "Hebbian features, class means"),
        "backprop": ("#000000", "backpropagation from end to end"),
    }
    for method, (colour, name) in looks.items():
        runs = np.array([measured[f"{method} {count}"] for count in counts])
        axes.plot(counts, 100 - runs.mean(axis=1), "o-", color=colour, label=name)
        axes.fill_between(
            counts, 100 - runs.max(axis=1), 100 - runs.min(axis=1), color=colour, alpha=0.2, lw=0
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("labelled images")
    axes.set_ylabel("test error (%)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(arguments.figure, dpi=150)
