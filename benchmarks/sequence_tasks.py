"""What recurrent layers learn by each time rule on small tasks that need a memory.

    python -m benchmarks.sequence_tasks [--task xor adding sines] [--seeds 0 1 2]

For each seed: accuracy of the delayed exclusive or, squared error of adding and of sines, as means
over the last 50 batches. "last step" gets no credit through states; "frozen" trains the readout.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_local as kl

STEPS, UNITS, BATCH = 20, 24, 32
RULES = ("frozen", "last step", "random feedback", "eprop", "bptt")


def lstm_model(rule, channels):
    """Return an LSTM below a readout of its last output."""
    time_rule = "bptt" if rule in ("frozen", "last step", "bptt") else "eprop"
    layer = kl.layers.FeedbackLSTM(
        UNITS, feedback="symmetric", time_rule=time_rule, return_state=True
    )
    layer.trainable = rule != "frozen"
    above = "feedback_alignment" if rule == "random feedback" else "symmetric"
    readout = kl.layers.FeedbackDense(1, feedback=above)
    inputs = keras.Input((STEPS, channels))
    if rule == "last step":
        _, *states = layer(inputs[:, :-1])
        states = [keras.ops.stop_gradient(state) for state in states]
        hidden, *_ = layer(inputs[:, -1:], initial_state=states)
    else:
        hidden, *_ = layer(inputs)
    return keras.Model(inputs, readout(hidden))


def trained_on(task, rule, seed):
    """Train on new sequences in each batch, and return the mean score of the last 50."""
    keras.utils.set_random_seed(seed)
    draw, batches = {"xor": (kl.datasets.delayed_xor, 600), "adding": (kl.datasets.adding, 800)}[
        task
    ]
    model = lstm_model(rule, 3 if task == "xor" else 2)
    loss = keras.losses.BinaryCrossentropy(from_logits=True) if task == "xor" else "mse"
    metrics = [keras.metrics.BinaryAccuracy(threshold=0.0)] if task == "xor" else ["mse"]
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=metrics)
    x, y = draw(batches * BATCH, STEPS, seed)
    y = y.reshape(-1, 1).astype("float32")
    model.fit(x[: -50 * BATCH], y[: -50 * BATCH], batch_size=BATCH, shuffle=False, verbose=0)
    parts = [model.fit(x[-50 * BATCH :], y[-50 * BATCH :], BATCH, shuffle=False, verbose=0)]
    return parts[0].history["binary_accuracy" if task == "xor" else "mse"][-1]


def sines(rule, seed, trials=4000, units=50, tau=10.0):
    """Return the squared error of the last 50 trials of producing a curve.

    NumPy draws the first weights, so that every backend learns the same.
    """
    rng = np.random.default_rng(seed)
    x, y = kl.datasets.sines()
    steps = x.shape[1]
    layer = kl.layers.LeakyRNN(
        units,
        tau,
        use_bias=False,
        feedback="symmetric",
        time_rule="bptt" if rule in ("frozen", "bptt") else rule.split()[0],
        recurrent_initializer=lambda shape, dtype=None: rng.normal(0.0, 1.5 / units**0.5, shape),
        return_sequences=True,
    )
    layer.trainable = rule != "frozen"
    random = rule == "eprop random"
    readout = kl.layers.FeedbackDense(
        1,
        use_bias=False,
        feedback="feedback_alignment" if random else "symmetric",
        kernel_initializer=lambda shape, dtype=None: rng.uniform(-0.1, 0.1, shape),
        feedback_initializer=lambda shape, dtype=None: rng.normal(0.0, 1.0, shape),
    )
    inputs, state = keras.Input((steps, 1)), keras.Input((units,))
    model = keras.Model([inputs, state], readout(layer(inputs, initial_state=[state])))

    def loss(target, output):
        return 0.5 * keras.ops.sum(keras.ops.square(target - output))

    model.compile(keras.optimizers.SGD(0.03), loss=lambda t, o: loss(t, o) / steps)
    first = np.full((1, units), 0.1, "float32")
    data = [np.repeat(each, trials, axis=0) for each in (x, first, y)]
    history = []
    for part in (slice(0, trials - 50), slice(trials - 50, trials)):
        chunk = [each[part] for each in data]
        found = model.fit(chunk[:2], chunk[2], batch_size=1, shuffle=False, verbose=0)
        history.append(2.0 * found.history["loss"][-1])
    return history[-1]


def main():
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = ("xor", "adding", "sines")
    parser.add_argument("--task", nargs="+", choices=tasks, default=tasks)
    parser.add_argument("--rule", nargs="+", default=None)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    for task in arguments.task:
        of_sines = ("frozen", "eprop random", "eprop", "snap1", "bptt")
        for rule in arguments.rule or (of_sines if task == "sines" else RULES):
            run = sines if task == "sines" else lambda rule, seed, t=task: trained_on(t, rule, seed)
            scores = [run(rule, seed) for seed in arguments.seeds]
            print(f"{task:7s} {rule:16s}", *(f"{score:.4f}" for score in scores), flush=True)


if __name__ == "__main__":
    main()
