"""SoftHebb on CIFAR-10: three convolutions learn in one epoch without labels, then a readout."""

# %% [markdown]
# # SoftHebb on CIFAR-10
#
# The network of Journe et al. (2023): three layers of convolutions, 96, 384 and 1536 filters, learn
# in one pass over the images, without labels and all at once. A linear readout with dropout then
# learns the classes on the frozen features. Published: 80.31 % of the test images. There are two
# controls: the same network with random filters, and the authors' network with hard winners only.
#
#     python examples/softhebb_cifar10.py --preset paper
#     python examples/softhebb_cifar10.py --preset paper --features random
#     python examples/softhebb_cifar10.py --preset paper --features hard_wta
#
# The paper's preset needs a GPU (`KERAS_BACKEND=jax` or `tensorflow`); `small` is a narrow network
# of two layers for two cores.

# %%
from __future__ import annotations

import argparse
import time

import keras

import keras_local as kl

# %%
PRESETS = {
    "smoke": {"samples": 2000, "width": 0.125, "depth": 2, "readout": 2},
    "small": {"samples": 50000, "width": 0.25, "depth": 2, "readout": 10},
    "paper": {"samples": 50000, "width": 1.0, "depth": 3, "readout": 50},
}

parser = argparse.ArgumentParser(description="SoftHebb on CIFAR-10.")
parser.add_argument(
    "--preset", choices=PRESETS, default="small", help="size of the run (default: %(default)s)"
)
parser.add_argument(
    "--features",
    choices=("softhebb", "hard_wta", "random"),
    default="softhebb",
    help="what the readout learns from (default: %(default)s)",
)
parser.add_argument(
    "--seed",
    type=int,
    default=0,
    metavar="N",
    help="seed of the random numbers (default: %(default)s)",
)
parser.add_argument("--depth", type=int, metavar="N", help="number of layers")
parser.add_argument(
    "--readout-epochs",
    type=int,
    metavar="N",
    help="passes over the training images for the readout",
)
parser.add_argument("--figure", metavar="FILE", help="file for the figure (.png)")
parser.add_argument("--save", metavar="FILE", help="file for the classifier (.keras)")
arguments = parser.parse_args()
preset = PRESETS[arguments.preset]
depth = arguments.depth or preset["depth"]
epochs = arguments.readout_epochs or preset["readout"]
keras.utils.set_random_seed(arguments.seed)

# %%
(images, labels), (test_images, test_labels) = kl.datasets.load("cifar10")
images, labels = images[: preset["samples"]], labels[: preset["samples"]]

# %% [markdown]
# Ten images a step; every layer has a step size of its own, which falls with the distance of each
# unit from the unit sphere. Batch normalisation takes the statistics of the batch while the layers
# learn.

# %%
start = time.perf_counter()
encoder = kl.models.reference.softhebb(
    "cifar10",
    width=preset["width"],
    depth=depth,
    competition="hard" if arguments.features == "hard_wta" else "soft",
)
kl.models.pretrain(
    encoder,
    images,
    epochs=1,
    batch_size=10,
    # For random filters a step too small to change them: normalisation measures its statistics.
    step_size=1e-30 if arguments.features == "random" else 1.0,
    greedy=False,
    verbose=2,
)
pretrained = time.perf_counter()
if arguments.figure:
    kl.plots.receptive_fields(encoder.get_layer("hebbian1")).savefig(arguments.figure, dpi=100)

# %% [markdown]
# The readout of the source: Adam, 64 images a step, and a step size that is halved seven times.

# %%
steps = epochs * -(-len(images) // 64)
fractions = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9)
schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
    [int(fraction * steps) for fraction in fractions],
    [1e-3 / 2**halvings for halvings in range(len(fractions) + 1)],
)
encoder.trainable = False
classifier = keras.Sequential([encoder, keras.layers.Dropout(0.5), keras.layers.Dense(10)])
classifier.compile(
    keras.optimizers.Adam(schedule),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
classifier.fit(images, labels, batch_size=64, epochs=epochs, verbose=2)
done = time.perf_counter()

# %%
accuracy = classifier.evaluate(test_images, test_labels, batch_size=100, verbose=0)[1]
print(
    f"{arguments.features}, preset {arguments.preset}, {depth} layers, {epochs} readout epochs, "
    f"seed {arguments.seed}: test accuracy {100 * accuracy:.2f} % on {len(test_images)} images; "
    f"pretraining {pretrained - start:.0f} s, readout {done - pretrained:.0f} s"
)
if arguments.save:
    classifier.save(arguments.save)
