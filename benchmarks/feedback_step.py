"""One train step of feedback layers beside the same net of stock Keras layers.

    python -m benchmarks.feedback_step [--net mlp conv] [--optimizer sgd momentum adam] [--jit]
    python -m benchmarks.feedback_step --rules all --optimizer momentum [--idle drop]

TensorFlow, a compiled graph on a fixed batch. Ratios are medians over interleaved rounds, with
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

RULES = {
    "symmetric": "symmetric",
    "fixed feedback": "feedback_alignment",
    "updated feedback": "kolen_pollack",
    "updated, weight of its own": kl.feedback.KolenPollack(separate=True),
}
# With the products of a step that the rule needs beside those of backpropagation.
MORE_RULES = {
    "sign symmetry": "sign_symmetry",
    "direct feedback": "direct_feedback",  # one less a layer, one through fewer weights more
    "symmetric alignment": "symmetric_alignment",  # none
    "the same, lowest layer stock": "lowest",  # none
    "activation alignment": "activation_alignment",  # two
    "weight mirror": "weight_mirror",  # two
    "information alignment": "information_alignment",  # three
}
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(1e-3),
    "momentum": lambda: keras.optimizers.SGD(1e-3, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(1e-4),
}


def mlp(dense):
    """Return the layers of 3072-1024-1024-10, the input shape and the batch size."""
    layers = [dense(1024, activation="relu"), dense(1024, activation="relu"), dense(10)]
    return layers, (3072,), 128


def conv(dense, conv2d):
    """Return three 3x3 convolutions of 64 channels on 32x32x3, the input shape, the batch size."""
    layers = [conv2d(64, 3, padding="same", activation="relu") for _ in range(3)]
    return [*layers, keras.layers.Flatten(), dense(10)], (32, 32, 3), 64


def step(net, rule, optimizer, jit, idle):
    """Return a function that runs one train step."""
    keras.utils.set_random_seed(0)
    if rule in (None, "direct_feedback", "lowest"):
        dense, conv2d = keras.layers.Dense, keras.layers.Conv2D
    else:

        def dense(*args, **kwargs):
            return kl.layers.FeedbackDense(*args, feedback=rule, idle_feedback=idle, **kwargs)

        def conv2d(*args, **kwargs):
            return kl.layers.FeedbackConv2D(*args, feedback=rule, idle_feedback=idle, **kwargs)

    layers, shape, batch = mlp(dense) if net == "mlp" else conv(dense, conv2d)
    model = keras.Sequential([keras.Input(shape), *layers])
    if rule == "direct_feedback":
        model = kl.models.direct(model, rule)
    if rule == "lowest":
        model = kl.models.convert(model, "symmetric_alignment", lowest=False, verbose=False)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(OPTIMIZERS[optimizer](), loss, jit_compile=jit)
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    data = (
        tf.constant(rng.normal(size=(batch, *shape)).astype("float32")),
        tf.constant(rng.integers(0, 10, batch)),
    )
    train = tf.function(model.train_step, jit_compile=jit, autograph=False)
    return lambda: train(data)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", nargs="+", choices=("mlp", "conv"), default=["mlp", "conv"])
    parser.add_argument("--optimizer", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS))
    parser.add_argument("--rules", choices=("few", "all"), default="few")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--idle", choices=("keep", "drop"), default="keep", help="`idle_feedback` of all layers"
    )
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    arguments = parser.parse_args()
    rules = {**RULES, **(MORE_RULES if arguments.rules == "all" else {})}
    print("One train step over that of stock Keras layers: median [quartiles]")
    for net in arguments.net:
        for optimizer in arguments.optimizer:
            steps = {"stock": step(net, None, optimizer, arguments.jit, arguments.idle)}
            for name, rule in rules.items():
                steps[name] = step(net, rule, optimizer, arguments.jit, arguments.idle)
            times = interleaved(steps, arguments.rounds, repeats=20 if net == "mlp" else 5)
            stock = sorted(times["stock"])[len(times["stock"]) // 2]
            print(f"\n{net}, {optimizer} (stock step {stock:.1f} ms)")
            for name in rules:
                print(f"  {name:28s}{ratio(times, name, 'stock')}", flush=True)


if __name__ == "__main__":
    main()
