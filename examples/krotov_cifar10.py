"""Competing hidden units on CIFAR-10: unsupervised pretraining, then a linear readout."""

# %% [markdown]
# # Competing hidden units on CIFAR-10
#
# A layer of 2000 units, each connected to all 3072 pixels and colours, learns without a label, by
# the rule of Krotov & Hopfield (2019); a linear readout learns the classes on the frozen features.
# The published test error of this net is 49.25 %, that of backpropagation from end to end 44.74 %.
#
#     python examples/krotov_cifar10.py --preset quick
#     python examples/krotov_cifar10.py --preset paper
#     python examples/krotov_cifar10.py --preset quick --held-out 10000 --p 3 --delta 0.2
#
# With `--held-out`, so many training images are left out, and the error is measured on them. The
# defaults were chosen in this way, in a transcription of the rule that is not in this tree, among
# p = 2, 3, 5, rank 2 and 7, delta 0 to .6, and powers 1 to 70.

# %%
from __future__ import annotations

import argparse
import time

import keras

import keras_local as kl

# %%
PRESETS = {
    "smoke": {"samples": 2000, "units": 100, "pretraining": 2, "readout": 2},
    "quick": {"samples": 50000, "units": 2000, "pretraining": 15, "readout": 20},
    "paper": {"samples": 50000, "units": 2000, "pretraining": 30, "readout": 60},
}
BATCH_SIZE = 200

parser = argparse.ArgumentParser(description="Krotov-Hopfield learning on CIFAR-10.")
parser.add_argument(
    "--preset", choices=PRESETS, default="quick", help="size of the run (default: %(default)s)"
)
parser.add_argument(
    "--seed",
    type=int,
    default=0,
    metavar="N",
    help="seed of the random numbers (default: %(default)s)",
)
parser.add_argument(
    "--p", type=float, default=2.0, metavar="P", help="`p` of the rule (default: %(default)s)"
)
parser.add_argument(
    "--rank", type=int, default=2, metavar="RANK", help="`rank` of the rule (default: %(default)s)"
)
parser.add_argument(
    "--delta",
    type=float,
    default=0.6,
    metavar="DELTA",
    help="`delta` of the rule (default: %(default)s)",
)
parser.add_argument(
    "--step-size", type=float, default=0.02, metavar="SIZE", help="step size (default: %(default)s)"
)
parser.add_argument(
    "--power",
    type=float,
    default=30.0,
    metavar="POWER",
    help="power of the rectified currents in the readout (default: %(default)s)",
)
parser.add_argument(
    "--held-out",
    type=int,
    default=0,
    metavar="N",
    help="train without the last N training images, and test on these",
)
parser.add_argument("--figure", metavar="FILE", help="file for the figure (.png)")
parser.add_argument("--save", metavar="FILE", help="file for the classifier (.keras)")
arguments = parser.parse_args()
preset = PRESETS[arguments.preset]
keras.utils.set_random_seed(arguments.seed)

# %% [markdown]
# Pixels between 0 and 1, one row an image.

# %%
(images, labels), (test_images, test_labels) = kl.datasets.load("cifar10", flatten=True)
images, labels = images[: preset["samples"]], labels[: preset["samples"]]
if arguments.held_out:
    test_images, test_labels = images[-arguments.held_out :], labels[-arguments.held_out :]
    images, labels = images[: -arguments.held_out], labels[: -arguments.held_out]

# %% [markdown]
# The units start at images, just outside of the unit sphere, so that none of them is dead and few
# steps are needed.

# %%
start = time.perf_counter()
rule = kl.plasticity.KrotovHopfield(arguments.p, arguments.rank, arguments.delta)
hidden = kl.layers.HebbianDense(preset["units"], plasticity=rule, name="hidden")
encoder = keras.Sequential([keras.Input((3072,)), hidden])
kl.models.reseed(encoder, images, units="all", seed=arguments.seed)
kl.models.pretrain(
    encoder,
    images,
    epochs=preset["pretraining"],
    batch_size=BATCH_SIZE,
    step_size=arguments.step_size,
    verbose=2,
)
pretrained = time.perf_counter()
if arguments.figure:
    kl.plots.receptive_fields(hidden, (32, 32, 3), units=64).savefig(arguments.figure, dpi=100)

# %% [markdown]
# The readout: unit-norm images, steep currents, cross-entropy, and Adam with a step size that
# falls to zero.

# %%
steps = preset["readout"] * -(-len(images) // 100)
classifier = kl.models.readout(
    encoder,
    classes=10,
    power=arguments.power,
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
)
classifier.fit(images, labels, batch_size=100, epochs=preset["readout"], verbose=2)
done = time.perf_counter()

# %%
accuracy = classifier.evaluate(test_images, test_labels, verbose=0)[1]
kind = "held-out" if arguments.held_out else "test"
print(
    f"preset {arguments.preset}, seed {arguments.seed}: "
    f"{kind} error {100 * (1 - accuracy):.2f} % on {len(test_images)} images; "
    f"pretraining {pretrained - start:.0f} s, readout {done - pretrained:.0f} s"
)
if arguments.save:
    classifier.save(arguments.save)
