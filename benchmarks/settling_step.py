"""A settling step of a network beside a bare loop of the matrix products that it needs.

    python -m benchmarks.settling_step [--batch 20 200] [--steps 100]

TensorFlow, compiled with XLA as in `fit` (`--graph`: as a graph), on a fixed batch. The free phase
of an `EquilibriumNetwork` is timed against a loop of as many steps that does nothing but its
products: each layer through the weights below and above it, added where two meet. Ratios are
medians over interleaved rounds, with quartiles.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_local as kl
from benchmarks._rounds import interleaved, ratio

NETS = ([784, 500, 10], [784, 500, 500, 10], [784, 500, 500, 500, 10])


def bare_loop(network, inputs, steps):
    """Return a function that makes the products of so many steps."""
    first, *above = [tf.constant(synapses.kernel.numpy()) for synapses in network.synapses]

    def products(*layers):
        fields = []
        for index in range(len(layers)):
            field = layers[index - 1] @ above[index - 1] if index else drive
            if index < len(above):
                field = field + tf.matmul(layers[index + 1], above[index], transpose_b=True)
            fields.append(field)
        return fields

    def loop():
        nonlocal drive
        drive = inputs @ first
        layers = [tf.zeros((len(inputs), units)) for units in network.sizes[1:]]
        return tf.while_loop(lambda *_: True, products, layers, maximum_iterations=steps)

    drive = None
    return loop


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--graph", action="store_true", help="without XLA")
    arguments = parser.parse_args()
    print("Free phase over the bare loop of its products: median [quartiles]")
    for sizes in NETS:
        for batch in arguments.batch:
            keras.utils.set_random_seed(0)
            # Small weights, so that nothing grows in the bare loop.
            network = kl.dynamics.EquilibriumNetwork(
                sizes,
                free_steps=arguments.steps,
                kernel_initializer=keras.initializers.RandomUniform(-0.02, 0.02),
            )
            rng = np.random.default_rng(0)
            inputs = tf.constant(rng.random((batch, sizes[0]), "float32"))
            compiled = {"jit_compile": not arguments.graph, "autograph": False}
            bare = tf.function(bare_loop(network, inputs, arguments.steps), **compiled)
            free = tf.function(network.free_phase, **compiled)
            steps = {"settling": lambda free=free, inputs=inputs: free(inputs), "bare": bare}
            times = interleaved(steps, arguments.rounds, repeats=3)
            each = 1e3 * sorted(times["bare"])[len(times["bare"]) // 2] / arguments.steps
            name = "-".join(map(str, sizes))
            print(
                f"  {name:22s} batch {batch:4d}  {ratio(times, 'settling', 'bare')}"
                f"   bare step {each:.0f} us",
                flush=True,
            )


if __name__ == "__main__":
    main()
