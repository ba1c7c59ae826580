"""The dynamics of every network that settles, drawn on scikit-learn's digits."""

# %% [markdown]
# # What settling looks like
#
# Each network learns scikit-learn's digits for a few epochs; then the states of a few units of each
# layer are drawn over the phases of one sample. It takes a few minutes.
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
parser.add_argument(
    "--epochs",
    type=int,
    default=10,
    metavar="N",
    help="passes over the training images (default: %(default)s)",
)
parser.add_argument(
    "--seed",
    type=int,
    default=0,
    metavar="N",
    help="seed of the random numbers (default: %(default)s)",
)
parser.add_argument(
    "--figures",
    type=Path,
    default=Path("figures"),
    metavar="DIR",
    help="folder for the figures (default: %(default)s)",
)
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
keras.utils.set_random_seed(arguments.seed)
draw("equilibrium", kl.dynamics.EquilibriumNetwork([64, 32, 10], nudged_steps=10), 0.2)
draw("contrastive_hebbian", kl.dynamics.ContrastiveHebbianNetwork([64, 32, 10]), 0.1)
local_backprop = kl.dynamics.LocalBackpropNetwork([64, 10])
draw("local_backprop", local_backprop, 0.05, scaled=True, batch_size=100)
microcircuit = kl.dynamics.MicrocircuitNetwork([64, 50, 10], form="ode", simulation_time=10.0)
draw("microcircuit", microcircuit, 0.05)
predictive_coding = kl.dynamics.PredictiveCodingNetwork([64, 32, 10])
draw("predictive_coding", predictive_coding, 0.1)

# %% [markdown]
# Two networks take no time to settle. What there is to see is how their errors come to point where
# those of backpropagation do.


# %%
def follow(name: str, networks: dict[str, Any], rate: float, measure: Any, label: str) -> None:
    """Train networks, print their test accuracy, and draw angles after each epoch."""
    (images, labels), test = kl.datasets.load("digits", flatten=True)
    start, logs = {}, {}
    for kind, network in networks.items():
        network.compile(keras.optimizers.SGD(rate), metrics=["accuracy"])
        seen = [measure(network, images[:200], labels[:200])]
        for _ in range(arguments.epochs):
            network.fit(images, labels, batch_size=20, verbose=0)
            seen.append(measure(network, images[:200], labels[:200]))
        _, accuracy = network.evaluate(*test, verbose=0)
        print(f"{name + kind:36}{100 * accuracy:8.2f} % of the test digits", flush=True)
        for layer in seen[0]:
            key = f"alignment_angle/{layer}{kind}"
            start[key], *logs[key] = (angles[layer] for angles in seen)
    figure = kl.plots.alignment(logs, initial=start)
    figure.axes[0].set_ylabel(label)
    figure.savefig(arguments.figures / f"network_{name}.png", dpi=110)


def to_backpropagation(network: Any, images: Any, labels: Any) -> dict[str, float]:
    """Return the angles between changes of kernels and the gradient, where inverses had a part."""
    gradient = kl.dynamics.TemporalDifferenceNetwork(network.sizes, rule="backprop")
    for mine, same in zip(network.synapses, gradient.synapses, strict=True):
        same.kernel.assign(mine.kernel)
        same.bias.assign(mine.bias)
    x, y = keras.ops.convert_to_tensor(images), keras.ops.one_hot(labels, network.classes)
    share = keras.ops.full((len(images),), 1 / len(images))
    found, wanted = (
        [change for _, change in each.changes(x, y, each.free_phase(x), share)]
        for each in (network, gradient)
    )
    hidden = range(len(network.sizes) - 3)
    return {
        f"layer {k + 1}": kl.metrics.alignment_angle(found[2 * k], wanted[2 * k]) for k in hidden
    }


def to_the_way_up(network: Any, images: Any, labels: Any) -> dict[str, float]:
    """Return the angles between weights to apical dendrites and those that lead to the output."""
    angles, up = {}, None
    for k in reversed(range(len(network.apical))):
        kernel = keras.ops.convert_to_tensor(network.synapses[k + 1].kernel)
        up = kernel if up is None else keras.ops.matmul(kernel, up)
        angles[f"layer {k + 1}"] = kl.metrics.alignment_angle(up, network.apical[k].kernel)
    return dict(sorted(angles.items()))


# %%
keras.utils.set_random_seed(arguments.seed)
sizes = [64, 64, 64, 64, 10]
propagation = {
    kind: kl.dynamics.DifferenceTargetPropagation(sizes, inverse_rate=rate, seed=0)
    for kind, rate in ((", learned inverse", 0.336), (", random inverse", 0.0))
}
label = "angle between the change and\nthat of backpropagation (degrees)"
follow("difference_target", propagation, 0.1, to_backpropagation, label)
dendrites = {"": kl.dynamics.SegregatedDendritesNetwork([64, 50, 50, 10])}
label = "angle between apical weights and\nweights on the way up (degrees)"
follow("segregated_dendrites", dendrites, 2.0, to_the_way_up, label)

# %% [markdown]
# Forward-Forward compares what the right label and a wrong one do to the goodness of each layer.


# %%
def goodness(network: Any, images: Any, labels: Any) -> dict[str, float]:
    """Return the mean goodness of each layer with the right label, and with the others."""
    states = network.free_phase(keras.ops.convert_to_tensor(images, network.working_dtype))
    right = keras.utils.to_categorical(labels, network.classes)
    means = {}
    for k, layer in enumerate(network.goodness(states)):
        layer = keras.ops.convert_to_numpy(layer)
        means[f"layer {k + 1}, right label"] = float(layer[right == 1.0].mean())
        means[f"layer {k + 1}, wrong labels"] = float(layer[right == 0.0].mean())
    return means


keras.utils.set_random_seed(arguments.seed)
(images, labels), (test_images, test_labels) = kl.datasets.load("digits", flatten=True)
network = kl.dynamics.ForwardForwardNetwork([64, 100, 100, 10])
network.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
curves: dict[str, dict[str, list[float]]] = {}
for _ in range(2 * arguments.epochs):
    network.fit(images, labels, batch_size=50, verbose=0)
    for name, mean in goodness(network, test_images, test_labels).items():
        curves.setdefault(name, {"goodness": []})["goodness"].append(mean)
_, accuracy = network.evaluate(test_images, test_labels, verbose=0)
print(f"{'forward_forward':36}{100 * accuracy:8.2f} % of the test digits", flush=True)
figure = kl.plots.learning_curves(curves, "goodness")
figure.axes[0].set_ylabel("goodness of test digits")
figure.savefig(arguments.figures / "network_forward_forward.png", dpi=110)

# %% [markdown]
# Recirculation encodes four patterns in two units, and both ways through the weights become alike.

# %%
patterns = keras.ops.tile(keras.ops.eye(4), (25, 1))
errors: dict[str, dict[str, list[float]]] = {}
angles: dict[str, list[float]] = {}
first: dict[str, float] = {}
for regression in (0.5, 0.75, 0.9):
    keras.utils.set_random_seed(arguments.seed + 1)
    autoencoder = kl.dynamics.RecirculationAutoencoder(4, 2, regression)
    # What the decoder learns is proportional to the share of the reconstruction.
    autoencoder.compile(keras.optimizers.SGD(2.5 / (1 - regression)))
    name = f"regression {regression}"
    key = f"alignment_angle/{name}"
    synapses = autoencoder.synapses
    first[key] = kl.metrics.alignment_angle(synapses.kernel, synapses.feedback_kernel)
    for _ in range(4 * arguments.epochs):
        autoencoder.fit(patterns, batch_size=4, shuffle=False, verbose=0)
        error = autoencoder.evaluate(patterns[:4], verbose=0)
        errors.setdefault(name, {"loss": []})["loss"].append(error)
        angle = kl.metrics.alignment_angle(synapses.kernel, synapses.feedback_kernel)
        angles.setdefault(key, []).append(angle)
    print(f"recirculation, {name:21}{error:10.4f} error, {angle:5.1f} degrees", flush=True)
figure = kl.plots.learning_curves(errors, "loss")
figure.axes[0].set_ylabel("error of the reconstruction")
figure.savefig(arguments.figures / "network_recirculation.png", dpi=110)
figure = kl.plots.alignment(angles, initial=first)
figure.savefig(arguments.figures / "network_recirculation_angle.png", dpi=110)
