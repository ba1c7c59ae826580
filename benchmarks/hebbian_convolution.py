"""A step of SoftHebb in a convolution beside the forward convolution alone.

    python -m benchmarks.hebbian_convolution [--batch 10]

TensorFlow, a compiled graph on a fixed batch, the first layer of the CIFAR-10 preset: 96 filters of
5 x 5 on images of 32 x 32 x 3, borders reflected. Ratios are medians over interleaved rounds, with
quartiles.
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=31)
    arguments = parser.parse_args()
    images = np.random.default_rng(0).normal(size=(arguments.batch, 32, 32, 3)).astype("float32")
    padded = tf.constant(np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect"))
    encoder = kl.models.reference.softhebb("cifar10", depth=1)
    layer = encoder.get_layer("hebbian1")
    kernel = tf.Variable(layer.kernel)
    forward = tf.function(lambda: tf.nn.conv2d(padded, kernel, 1, "VALID"))
    model = keras.Sequential([keras.Input((32, 32, 3)), layer])
    model.compile(keras.optimizers.SGD(1.0), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    train = tf.function(model.train_step, autograph=False)
    data = (tf.constant(images),)
    steps = {"forward": forward, "step": lambda: train(data)}
    times = interleaved(steps, arguments.rounds, repeats=20)
    print(f"\nSoftHebb, 96 filters of 5 x 5, batch {arguments.batch}: median [quartiles]")
    for name, values in times.items():
        print(f"  {name:8s}{sorted(values)[len(values) // 2]:8.2f} ms")
    print(f"  step / forward   {ratio(times, 'step', 'forward')}", flush=True)


if __name__ == "__main__":
    main()
