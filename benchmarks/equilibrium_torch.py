"""A training step of equilibrium propagation beside the same algorithm in plain PyTorch.

    python -m benchmarks.equilibrium_torch [--batch 20] [--threads 2]
    KERAS_BACKEND=jax python -m benchmarks.equilibrium_torch

Scellier and Bengio's network 784-500-10 with its 20 and 4 steps, and the same with two hidden
layers: both phases, the correlations, and the change of the weights. This package as in `fit`
(compiled with XLA, by TensorFlow or by JAX), PyTorch eagerly and without autograd, on fixed
batches; PyTorch has two threads unless told otherwise, the others every core. Ratios are medians
over interleaved rounds, with quartiles.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_local as kl
from benchmarks._rounds import interleaved, ratio

try:
    import torch
except ImportError as error:
    raise SystemExit(f"{error}. This benchmark needs PyTorch.") from error

FREE, NUDGED, NUDGE, STEP_SIZE = 20, 4, 0.5, 0.5
NETS = {(784, 500, 10): (0.1, 0.05), (784, 500, 500, 10): (0.4, 0.1, 0.01)}


class PlainTorch:
    """Equilibrium propagation with a random sign of the nudge, as one writes it in PyTorch."""

    def __init__(self, kernels, rates):
        self.kernels = [torch.tensor(kernel) for kernel in kernels]
        self.biases = [torch.zeros(kernel.shape[1]) for kernel in kernels]
        self.rates = rates
        self.generator = torch.Generator().manual_seed(0)

    def settle(self, drive, layers, steps, targets=None, nudge=0.0):
        """Return the layers after so many steps."""
        kernels, biases = self.kernels, self.biases
        for _ in range(steps):
            fields = [drive]
            for k in range(1, len(layers)):
                fields.append(torch.addmm(biases[k], layers[k - 1], kernels[k]))
            for k in range(len(layers) - 1):
                fields[k] = fields[k] + layers[k + 1] @ kernels[k + 1].T
            if targets is not None:
                fields[-1] = fields[-1] + nudge * (targets - layers[-1])
            layers = [
                (layer + STEP_SIZE * (field - layer)).clamp_(0.0, 1.0)
                for layer, field in zip(layers, fields, strict=True)
            ]
        return layers

    @torch.no_grad()
    def step(self, inputs, targets):
        """Train on a batch."""
        drive = torch.addmm(self.biases[0], inputs, self.kernels[0])
        zeros = [torch.zeros(len(inputs), len(bias)) for bias in self.biases]
        free = self.settle(drive, zeros, FREE)
        sign = 1.0 if torch.rand((), generator=self.generator) < 0.5 else -1.0
        nudged = self.settle(drive, free, NUDGED, targets, sign * NUDGE)
        scale = sign / NUDGE / len(inputs)
        for k, rate in enumerate(self.rates):
            if k:
                contrast = nudged[k - 1].T @ nudged[k] - free[k - 1].T @ free[k]
            else:
                contrast = inputs.T @ (nudged[k] - free[k])
            self.kernels[k].add_(contrast, alpha=rate * scale)
            self.biases[k].add_((nudged[k] - free[k]).sum(0), alpha=rate * scale)
        return 0.5 * (free[-1] - targets).square().sum(1).mean()


def training_step(network, inputs, targets):
    """Return a function that runs one compiled training step, as `fit` does."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        data = (tf.constant(inputs), tf.constant(targets))
        train = tf.function(network.train_step, jit_compile=True, autograph=False)
        return lambda: train(data)
    import jax

    data = (jax.numpy.asarray(inputs), jax.numpy.asarray(targets))
    train = jax.jit(network.train_step, donate_argnums=0)
    state = [
        [variable.value for variable in variables]
        for variables in (
            network.trainable_variables,
            network.non_trainable_variables,
            network.optimizer.variables,
            network.metrics_variables,
        )
    ]

    def step():
        nonlocal state
        logs, state = train(state, data)
        jax.block_until_ready(logs)

    return step


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("A step of this package over one in plain PyTorch: median [quartiles]")
    for sizes, rates in NETS.items():
        keras.utils.set_random_seed(0)
        network = kl.dynamics.EquilibriumNetwork(
            list(sizes),
            nudge=NUDGE,
            free_steps=FREE,
            nudged_steps=NUDGED,
            step_size=STEP_SIZE,
            rate_factors=rates,
        )
        network.compile(keras.optimizers.SGD(1.0))
        network.optimizer.build(network.trainable_variables)
        rng = np.random.default_rng(0)
        inputs = rng.random((arguments.batch, sizes[0]), "float32")
        targets = np.eye(10, dtype="float32")[rng.integers(0, 10, arguments.batch)]
        plain = PlainTorch([synapses.kernel.numpy() for synapses in network.synapses], rates)
        tensors = (torch.tensor(inputs), torch.tensor(targets))
        steps = {
            "keras_local": training_step(network, inputs, targets),
            "PyTorch": lambda plain=plain, tensors=tensors: plain.step(*tensors),
        }
        times = interleaved(steps, arguments.rounds, repeats=20)
        middle = {name: sorted(each)[len(each) // 2] for name, each in times.items()}
        print(
            f"  {'-'.join(map(str, sizes)):20s}{ratio(times, 'keras_local', 'PyTorch')}"
            f"   {middle['keras_local']:.2f} ms, PyTorch {middle['PyTorch']:.2f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
