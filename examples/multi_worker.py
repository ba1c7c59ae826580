"""Two worker processes, started by one command, learn what one process learns."""

# %% [markdown]
# # Several workers
#
# A worker is a process with its own devices. Each holds a share of every batch, and all hold the
# same weights. This script starts its workers on this machine, trains with them a network with
# feedback weights, and without labels a hidden layer by the rule of Krotov and Hopfield. Then it
# trains both in this process alone, from the same start and with the same batches, and compares.
#
#     python examples/multi_worker.py
#     python examples/multi_worker.py --workers 4 --epochs 5
#
# On several machines each worker is started by hand, or by a scheduler, with the same `TF_CONFIG`
# but for the number of the worker, and there is nothing to compare.

# %%
from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_local as kl

BATCH = 100

parser = argparse.ArgumentParser(description="Training on several worker processes.")
parser.add_argument(
    "--workers",
    type=int,
    default=2,
    metavar="COUNT",
    help="number of worker processes (default: %(default)s)",
)
parser.add_argument(
    "--epochs",
    type=int,
    default=10,
    help="passes over the training images (default: %(default)s)",
)
parser.add_argument(
    "--seed", type=int, default=0, help="seed of the random numbers (default: %(default)s)"
)
# Each worker gets it from the process that starts it.
parser.add_argument("--results", metavar="FILE", help="file of the results")
arguments = parser.parse_args()

# %% [markdown]
# What TensorFlow computes before the strategy is made would be on one device only, so that the
# strategy comes first.

# %%
worker = "TF_CONFIG" in os.environ
strategy = kl.distribute.multi_worker() if worker else None


def scope() -> Any:
    """Return the scope in which models are built and compiled."""
    return strategy.scope() if strategy else nullcontext()


def batches(*arrays: np.ndarray) -> tf.data.Dataset:
    """Return whole batches of all workers together; each worker takes its share of every batch."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    samples = tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0])
    return samples.batch(BATCH, drop_remainder=True).with_options(options)


# %% [markdown]
# The network with feedback weights: fixed random ones below, and ones that learn.


# %%
def feedback_net() -> keras.Model:
    """Return a network whose errors return through feedback weights."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            kl.layers.FeedbackDense(100, "tanh", feedback="feedback_alignment"),
            kl.layers.FeedbackDense(50, "tanh", feedback="kolen_pollack"),
            kl.layers.FeedbackDense(10, feedback="kolen_pollack"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    return model


def encoder() -> keras.Model:
    """Return a hidden layer that learns without labels."""
    start = keras.initializers.RandomUniform(0.0, 1.0, seed=1)
    hidden = kl.layers.HebbianDense(
        100, plasticity=kl.plasticity.KrotovHopfield(p=2), kernel_initializer=start
    )
    return keras.Sequential([keras.Input((64,)), hidden])


def train() -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Train both; return their weights, and what was measured."""
    (images, labels), (test_images, test_labels) = kl.datasets.load("digits", flatten=True)
    keras.utils.set_random_seed(arguments.seed)
    with scope():
        model, features = feedback_net(), encoder()
    began = time.perf_counter()
    model.fit(batches(images, labels), epochs=arguments.epochs, shuffle=False, verbose=0)
    measured = {"seconds of the network": time.perf_counter() - began}
    tested = model.evaluate(batches(test_images, test_labels), verbose=0)
    measured["accuracy of the network"] = float(tested[1])
    began = time.perf_counter()
    kl.models.pretrain(
        features,
        batches(images),
        epochs=4 * arguments.epochs,
        batch_size=BATCH,
        step_size=0.1,
        verbose=0,
    )
    measured["seconds of pretraining"] = time.perf_counter() - began
    found = {"network": model, "encoder": features}
    weights = {
        f"{name} {weight.path}": np.asarray(weight)
        for name, each in found.items()
        for weight in each.weights
    }
    return weights, measured


# %% [markdown]
# A worker trains, keeps what it has, and is done. The number of a worker is in its `TF_CONFIG`.

# %%
if worker:
    weights, measured = train()
    place = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    np.savez(f"{arguments.results}_{place}.npz", **weights)
    Path(f"{arguments.results}_{place}.json").write_text(json.dumps(measured))
    raise SystemExit


# %% [markdown]
# Without `TF_CONFIG` the script starts the workers, each in a process of its own.


# %%
def clusters() -> list[str]:
    """Return `TF_CONFIG` of each worker, with free ports of this machine."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(arguments.workers)]
        for each in sockets:
            each.bind(("localhost", 0))
        addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": place}})
        for place in range(arguments.workers)
    ]


with tempfile.TemporaryDirectory() as folder:
    results = str(Path(folder) / "worker")
    flags = {"--epochs": arguments.epochs, "--seed": arguments.seed, "--results": results}
    command = [sys.executable, __file__, *(str(part) for flag in flags.items() for part in flag)]
    workers = [
        subprocess.Popen(command, env={**os.environ, "TF_CONFIG": config}) for config in clusters()
    ]
    if any([each.wait() for each in workers]):
        raise SystemExit("A worker failed.")
    several = [
        dict(np.load(f"{results}_{place}.npz").items()) for place in range(arguments.workers)
    ]
    measured_several = json.loads(Path(f"{results}_0.json").read_text())

# %% [markdown]
# The same in this process alone, and the comparison.

# %%
weights, measured = train()
print(f"{'':26}{'one process':>14}{f'{arguments.workers} workers':>14}")
for name, value in measured.items():
    print(f"{name:26}{value:14.3f}{measured_several[name]:14.3f}")
print("\nlargest difference of a weight, and its largest entry")
for name, values in weights.items():
    apart = max(float(np.abs(values - each[name]).max()) for each in several)
    print(f"{name:58}{apart:10.1e}{float(np.abs(values).max()):10.3f}")
