"""One Krotov-Hopfield step beside its forward product and beside NumPy.

    python -m benchmarks.krotov_step [--units 2000] [--batch 100] [--rank 7]

TensorFlow, a compiled graph on a fixed batch of 784 inputs. "pretrain" is the step of
`models.pretrain`; "fit" that of a `HebbianDense` in a model of its own. "NumPy" is the rule line
by line in NumPy's own float64, "tuned" the same in float32 with a partial sort. Each runs 40 times
in a row, as a training does: the first steps after another candidate find cold caches. Ratios are
medians over interleaved rounds, with quartiles.
"""

from __future__ import annotations

import argparse
import os
from functools import partial

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_local as kl
from benchmarks._rounds import interleaved, ratio
from keras_local.layers.hebbian.active_units import ActiveUnitsDense

INPUTS = 784


def numpy_step(weights, batch, p, rank, delta, step_size):
    """Change `weights` (one row a unit) in place; the rule line by line, without loops."""
    currents = batch @ (np.sign(weights) * np.abs(weights) ** (p - 1)).T
    order = np.argsort(-currents, axis=1)
    gains = np.zeros_like(currents)
    rows = np.arange(len(batch))
    gains[rows, order[:, 0]] = 1.0
    gains[rows, order[:, rank - 1]] = -delta
    change = gains.T @ batch - (gains * currents).sum(0)[:, None] * weights
    weights += step_size * change / np.abs(change).max()


def tuned_numpy_step(weights, batch, p, rank, delta, step_size):
    """Do the same with what NumPy offers to save work: no power for p = 2, a partial sort."""
    metric = weights if p == 2 else weights * np.abs(weights) ** (p - 2)
    currents = batch @ metric.T
    best = np.argpartition(-currents, rank - 1, axis=1)[:, :rank]
    ranked = np.take_along_axis(
        best, np.argsort(-np.take_along_axis(currents, best, 1), axis=1), axis=1
    )
    gains = np.zeros_like(currents)
    rows = np.arange(len(batch))
    gains[rows, ranked[:, 0]] = 1.0
    gains[rows, ranked[:, -1]] = -delta
    change = gains.T @ batch - (gains * currents).sum(0)[:, None] * weights
    weights += step_size * change / np.abs(change).max()


def keras_step(layer, batch):
    """Return a function that trains a model of one layer on one batch."""
    model = keras.Sequential([keras.Input((INPUTS,)), layer])
    model.compile(keras.optimizers.SGD(0.04), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    train = tf.function(model.train_step, autograph=False)
    data = (tf.constant(batch),)
    return lambda: train(data)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rank", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    units, size, rank = arguments.units, arguments.batch, arguments.rank
    rng = np.random.default_rng(0)
    # As sparse as images of digits.
    images = rng.random((size, INPUTS)) * (rng.random((size, INPUTS)) < 0.2)
    batch = images.astype("float32")
    kernel = rng.normal(size=(INPUTS, units)).astype("float32")
    for p in (2, 3):
        rule = kl.plasticity.KrotovHopfield(p=p, rank=rank)
        layer = kl.layers.HebbianDense(units, plasticity=rule)
        layer.build((None, INPUTS))
        layer.kernel.assign(kernel)
        weights = tf.Variable(kernel)
        inputs = tf.constant(batch)
        product = tf.function(lambda weights=weights, inputs=inputs: tf.matmul(inputs, weights))
        double = np.ascontiguousarray(kernel.T).astype("float64")
        single = np.ascontiguousarray(kernel.T)
        images64 = batch.astype("float64")
        steps = {
            "forward product": product,
            "pretrain": keras_step(ActiveUnitsDense(kernel, rule, size), batch),
            "fit": keras_step(layer, batch),
            "NumPy": partial(numpy_step, double, images64, p, rank, 0.4, 0.04),
            "NumPy, tuned": partial(tuned_numpy_step, single, batch, p, rank, 0.4, 0.04),
        }
        times = interleaved(steps, arguments.rounds, repeats=40)
        print(f"\np = {p}, {INPUTS} -> {units}, batch {size}, rank {rank}: median [quartiles]")
        for name, values in times.items():
            print(f"  {name:16s}{sorted(values)[len(values) // 2]:8.2f} ms")
        print(f"  pretrain / forward product  {ratio(times, 'pretrain', 'forward product')}")
        print(f"  fit / forward product       {ratio(times, 'fit', 'forward product')}")
        print(f"  NumPy / pretrain            {ratio(times, 'NumPy', 'pretrain')}")
        print(
            f"  NumPy, tuned / pretrain     {ratio(times, 'NumPy, tuned', 'pretrain')}", flush=True
        )


if __name__ == "__main__":
    main()
