"""What several workers or replicas cost, for feedback layers beside stock Keras layers.

    python -m benchmarks.distribution [--kind workers replicas] [--rounds 20]

Two worker processes, or two replicas in one process, take the steps that one device takes with the
same global batch; each device computes with one thread. Rounds are interleaved: each of them takes
some epochs of a few steps with every net, on one device and on two. What a call of `fit` costs
before its second epoch is left out, and the time of a round is the median of its epochs. `cost` is
the time of a step on two over that on one, `ours / stock` the quotient of our cost and that of
stock layers which train as many weights in as many products. Both are computed within each round;
the medians over the rounds are printed, and quartiles. For the weight mirror each stock layer has
another one beside it, of the same size, which learns from noise and decays.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

from benchmarks._rounds import ratio

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

KINDS = ("workers", "replicas")
STOCK, WITH_NOISE = "stock", "stock, noise beside"
RULES = {
    "fixed feedback": "feedback_alignment",
    "updated feedback": "kolen_pollack",
    "weight mirror": "weight_mirror",
}
NETS = {STOCK: None, **RULES, WITH_NOISE: WITH_NOISE}
BESIDE = {"weight mirror": WITH_NOISE}
BATCH = 1024


def parser():
    """Return the parser; the processes that are started get the same arguments, and their kind."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS))
    made.add_argument("--rounds", type=int, default=20)
    made.add_argument("--epochs", type=int, default=6, help="epochs of each net in a round")
    made.add_argument("--steps", type=int, default=4, help="steps of an epoch")
    made.add_argument("--units", type=int, default=1024, help="units of the two hidden layers")
    made.add_argument("--process", choices=KINDS, help=argparse.SUPPRESS)
    return made


def start(kind, arguments):
    """Run this script as two workers, or as one process with two replicas; print what it prints."""
    environments = [dict(os.environ)]
    if kind == "workers":
        sockets = [socket.socket() for _ in range(2)]
        for each in sockets:
            each.bind(("localhost", 0))
        addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
        for each in sockets:
            each.close()
        configs = [
            {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": place}}
            for place in range(2)
        ]
        environments = [{**os.environ, "TF_CONFIG": json.dumps(config)} for config in configs]
    command = [sys.executable, "-m", "benchmarks.distribution", "--process", kind, *arguments]
    started = [subprocess.Popen(command, env=environment) for environment in environments]
    if any([each.wait() for each in started]):
        raise SystemExit("A process failed.")


def strategy_of(kind):
    """Return what spreads a step over two; it comes before all other use of TensorFlow."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    if kind == "workers":
        import keras_local as kl

        return kl.distribute.multi_worker()
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def net(rule, arguments, strategy):
    """Return a function that trains for some epochs, on two or one device, and returns times."""
    from contextlib import nullcontext

    import keras
    import numpy as np
    import tensorflow as tf

    import keras_local as kl

    units, times = arguments.units, []

    def dense(inputs, width, activation=None):
        if rule in RULES.values():
            return kl.layers.FeedbackDense(width, activation, feedback=rule)(inputs)
        outputs = keras.layers.Dense(width, activation)(inputs)
        if rule == WITH_NOISE:
            noise = keras.layers.GaussianNoise(1.0)(keras.ops.zeros_like(inputs))
            # The first makes it learn from the noise, the second is the decay of the mirror.
            options = {
                "activity_regularizer": keras.regularizers.L2(1e-3),
                "kernel_regularizer": keras.regularizers.L2(0.05),
            }
            besides.append(keras.layers.Dense(width, activation, **options)(noise))
        return outputs

    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else nullcontext():
        inputs, besides = keras.Input((784,)), []
        outputs = dense(dense(dense(inputs, units, "relu"), units, "relu"), 10)
        model = keras.Model(inputs, [outputs, *besides])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        losses = [loss, *[None] * len(besides)]
        model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), losses, jit_compile=False)
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(BATCH, 784)).astype("float32"), rng.integers(0, 10, BATCH)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = tf.data.Dataset.from_tensors(samples).repeat().with_options(options)

    class Clock(keras.callbacks.Callback):
        """Collects the time of a step in each epoch, in ms."""

        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            times.append(1e3 * (time.perf_counter() - self.began) / arguments.steps)

    def run():
        times.clear()
        model.fit(
            data,
            steps_per_epoch=arguments.steps,
            epochs=arguments.epochs,
            shuffle=False,
            verbose=0,
            callbacks=[Clock()],
        )
        return times[1:]

    return run


def measure(kind, arguments):
    """Take all steps, and let the first process print."""
    strategy = strategy_of(kind)
    config = json.loads(os.environ["TF_CONFIG"]) if kind == "workers" else None
    first = config is None or config["task"]["index"] == 0
    runs = {}
    for name, rule in NETS.items():
        # The workers wait for the first one: it then has the machine for itself.
        runs[name, 1] = net(rule, arguments, None) if first else None
        runs[name, 2] = net(rule, arguments, strategy)
    times = {key: [] for key in runs}
    for count in range(arguments.rounds + 1):
        for key, run in runs.items():
            if run is None:
                continue
            found = run()
            if count:  # The first round traces.
                times[key].append(statistics.median(found))
    if not first:
        return
    print(f"\ntwo {kind}, 784-{arguments.units}-{arguments.units}-10, batches of {BATCH}")
    print(f"{'':20}{'one, ms':>9}{'two, ms':>9}{'cost':>8}   ours / stock, quartiles")
    cost = {
        name: [two / one for one, two in zip(times[name, 1], times[name, 2], strict=True)]
        for name in NETS
    }
    for name in NETS:
        one, two, middle = map(statistics.median, (times[name, 1], times[name, 2], cost[name]))
        beside = ratio(cost, name, BESIDE.get(name, STOCK)) if name in RULES else ""
        print(f"{name:20}{one:9.1f}{two:9.1f}{middle:8.2f}   {beside}", flush=True)


def main():
    """Measure and print."""
    arguments = parser().parse_args()
    if arguments.process:
        measure(arguments.process, arguments)
        return
    flags = ("rounds", "epochs", "steps", "units")
    handed_on = [text for flag in flags for text in (f"--{flag}", str(getattr(arguments, flag)))]
    for kind in arguments.kind:
        start(kind, handed_on)


if __name__ == "__main__":
    main()
