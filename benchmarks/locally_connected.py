"""Locally connected layers beside the other ways to compute the same.

    python -m benchmarks.locally_connected [--jit] [--rounds 15]

TensorFlow, a compiled graph on a fixed batch: outputs, gradient at the inputs and gradient at the
kernel. The candidates take patches of the inputs (by the backend's own operation, or as shifted
slices), then multiply them (as an Einstein sum, or as a product batched over positions), or add up
one product for each tap; TensorFlow differentiates them. Ratios are medians over interleaved
rounds, with quartiles.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from keras import ops

from benchmarks._rounds import interleaved, ratio
from keras_local import layers
from keras_local.ops import LocallyConnected

# Batch, size of the inputs, channels, taps, stride, filters.
CASES = {
    "32x32x3, 5x5 -> 32, batch 50": (50, 32, 3, 5, 1, 32),
    "16x16x32, 3x3 -> 32, batch 64": (64, 16, 32, 3, 1, 32),
    "16x16x32, 3x3 / 2 -> 64, batch 64": (64, 16, 32, 3, 2, 64),
}


def windows(x, taps, stride, count):
    """Return the shifted slices of the inputs, one for each tap."""
    reach = stride * (count - 1) + 1
    return [
        x[:, i : i + reach : stride, j : j + reach : stride]
        for i in range(taps)
        for j in range(taps)
    ]


def candidates(taps, stride, count):
    """Return each way as a function of inputs and kernel."""

    def extract(x):
        return ops.image.extract_patches(x, (taps, taps), (stride, stride))

    def slices(x):
        return tf.concat(windows(x, taps, stride, count), -1)

    def einsum(patches, kernel):
        return tf.einsum("bhwi,hwio->bhwo", patches, kernel)

    def batched(patches, kernel):
        rows, filters = kernel.shape[-2:]
        patches = tf.transpose(tf.reshape(patches, (-1, count**2, rows)), (1, 0, 2))
        outputs = tf.matmul(patches, tf.reshape(kernel, (count**2, rows, filters)))
        return tf.reshape(tf.transpose(outputs, (1, 0, 2)), (-1, count, count, filters))

    def offsets(x, kernel):
        parts = tf.split(kernel, taps**2, axis=-2)
        pairs = zip(windows(x, taps, stride, count), parts, strict=True)
        return tf.add_n([einsum(window, part) for window, part in pairs])

    return {
        "extract, einsum": lambda x, kernel: einsum(extract(x), kernel),
        "slices, einsum": lambda x, kernel: einsum(slices(x), kernel),
        "slices, batched": lambda x, kernel: batched(slices(x), kernel),
        "extract, batched": lambda x, kernel: batched(extract(x), kernel),
        "sum over taps": offsets,
    }


def differentiated(function, x, kernel, error, jit):
    """Return a function that computes outputs and both gradients."""

    @tf.function(autograph=False, jit_compile=jit)
    def run(x, kernel, error):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            outputs = function(x, kernel)
        return outputs, *tape.gradient(outputs, [x, kernel], error)

    return lambda: run(x, kernel, error)


def local_layer(case, rule):
    """Return a built layer without bias."""
    _, size, channels, taps, stride, filters = case
    layer = layers.LocallyConnected2D(filters, taps, stride, use_bias=False, feedback=rule)
    layer.build((None, size, size, channels))
    return layer


def of_layer(layer, x, error, jit):
    """Return a function that computes the layer's outputs and its gradients."""

    @tf.function(autograph=False, jit_compile=jit)
    def run(x, error):
        weights = [v.value for v in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x)
        return outputs, *tape.gradient(outputs, [x, *weights], error)

    return lambda: run(x, error)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    print("Forward and both gradients over the fastest candidate: median [quartiles]")
    for name, case in CASES.items():
        batch, size, channels, taps, stride, filters = case
        count = (size - taps) // stride + 1
        rows = taps**2 * channels
        x, kernel, error = (
            tf.constant(rng.normal(size=shape).astype("float32"))
            for shape in (
                (batch, size, size, channels),
                (count, count, rows, filters),
                (batch, count, count, filters),
            )
        )
        ways = candidates(taps, stride, count)
        steps = {
            way: differentiated(function, x, kernel, error, arguments.jit)
            for way, function in ways.items()
        }
        local = LocallyConnected((taps, taps), (stride, stride), "valid")
        steps["ours, the map"] = differentiated(local.apply, x, kernel, error, arguments.jit)
        check_agreement(steps)
        for rule in ("symmetric", "feedback_alignment", "kolen_pollack"):
            layer = local_layer(case, rule)
            steps[f"ours, {rule}"] = of_layer(layer, x, error, arguments.jit)
        times = interleaved(steps, arguments.rounds, repeats=2)
        best = min(ways, key=lambda way: np.median(times[way]))
        print(f"\n{name} (fastest candidate: {best}, {np.median(times[best]):.1f} ms)")
        for way in steps:
            print(
                f"  {way:26s}{np.median(times[way]):8.1f} ms {ratio(times, way, best)}", flush=True
            )


def check_agreement(steps):
    """Refuse to time what does not compute the same."""
    results = [[part.numpy() for part in step()] for step in steps.values()]
    for way, parts in zip(steps, results, strict=True):
        for part, expected in zip(parts, results[0], strict=True):
            if np.abs(part - expected).max() > 1e-4 * np.abs(expected).max():
                raise ArithmeticError(f"{way} computes something else")


if __name__ == "__main__":
    main()
