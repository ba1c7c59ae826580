"""Backpropagation against losses of blocks, in the same net, on Fashion-MNIST."""

# %% [markdown]
# # A loss for each block
#
# Nokland & Eidnes (2019) train every layer of a network by a loss of its own: a linear classifier
# on its outputs (`pred`), the similarities of the samples of a batch (`sim`), or both. Here is
# their VGG8B, eight layers with weights, of an eighth of its width, trained by backpropagation
# (BP), by these three, and by the biological form of the classifier, in which no error passes
# through a trained weight above a block. All have the same images, steps and rates: Adam, 2e-3,
# divided by 4 after 3/4 of the epochs. Of 5e-4, that of the source, and 2e-3, this was the better
# one for BP and for `pred` on training images that were held out.
#
# A block ends behind a pooling, so that its loss sees what goes up. In the source the loss sees the
# maps before they are pooled (`--cut before`). In a net this narrow little is left of them then:
# of 3 x 3 maps, 64 numbers.
#
#     python examples/local_losses_fashion_mnist.py

# %%
from __future__ import annotations

import argparse
from itertools import pairwise

import keras
import numpy as np

import keras_local as kl

parser = argparse.ArgumentParser(description="Losses of blocks, on Fashion-MNIST.")
parser.add_argument(
    "--epochs",
    type=int,
    default=8,
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
    default=10000,
    metavar="N",
    help="number of training images (default: %(default)s)",
)
parser.add_argument(
    "--batch-size",
    type=int,
    default=128,
    metavar="N",
    help="images in each step (default: %(default)s)",
)
parser.add_argument(
    "--rules",
    nargs="+",
    metavar="NAME",
    default=["BP", "pred", "sim", "pred_sim", "bio"],
    help="names of the rules to run (default: all)",
)
parser.add_argument(
    "--cut",
    choices=["behind", "before"],
    default="behind",
    help="end blocks behind a pooling, or before it as in the source (default: %(default)s)",
)
arguments = parser.parse_args()

WIDTH = 0.125


# %%
def network(rule: str) -> keras.Model:
    """Return the net; with a slope below zero where similarities are learned, as in the source."""
    slope = 0.01 if rule in ("sim", "pred_sim") else 0.0
    model = kl.models.reference.vgg8b(input_shape=(28, 28, 1), width=WIDTH, slope=slope)
    if rule == "BP":
        return model
    loss = kl.models.local.Prediction(bio=True) if rule == "bio" else rule
    return kl.models.local_losses(model, loss, blocks_of(model))


def blocks_of(model: keras.Model) -> list[str] | None:
    """Return the last layer of each block: the activation, or the pooling that follows it."""
    if arguments.cut == "before":
        return None
    names = pairwise(layer.name for layer in model.layers)
    return [
        above if above.endswith("_pool") else name
        for name, above in names
        if name.endswith("_relu")
    ]


# %%
(images, labels), (test_images, test_labels) = kl.datasets.load("fashion_mnist")
images, labels = images[: arguments.samples], labels[: arguments.samples]
steps = arguments.epochs * -(-len(images) // arguments.batch_size)

print(f"{'rule':9}{'test accuracy':>28}{'mean':>8}")
for rule in arguments.rules:
    accuracies = []
    for seed in range(arguments.seeds):
        keras.utils.set_random_seed(seed)
        model = network(rule)
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([3 * steps // 4], [2e-3, 5e-4])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        model.fit(
            images, labels, batch_size=arguments.batch_size, epochs=arguments.epochs, verbose=0
        )
        _, accuracy = model.evaluate(test_images, test_labels, verbose=0)
        accuracies.append(100 * accuracy)
    each = " ".join(f"{accuracy:.2f}" for accuracy in accuracies)
    print(f"{rule:9}{each:>28}{np.mean(accuracies):8.2f}", flush=True)
