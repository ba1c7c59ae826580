"""Exported learners in the LiteRT interpreter: size, operators, and what `learn` costs.

    python -m benchmarks.learners

Inputs are those of the digits, 64 numbers. Times are medians over calls, one thread.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

import keras_local as kl

CALLS = 200


def learners() -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    """Yield name, model and shape of a sample."""
    for name, rule in (("Krotov-Hopfield", "krotov_hopfield"), ("Oja", "oja")):
        layer = kl.layers.HebbianDense(32, plasticity=rule)
        yield f"{name}, 32 units", keras.Sequential([keras.Input((64,)), layer]), (64,)
    for rule, momentum in (("feedback_alignment", 0.0), ("kolen_pollack", 0.9)):
        model = keras.Sequential(
            [
                keras.Input((64,)),
                kl.layers.FeedbackDense(32, "relu", feedback=rule),
                kl.layers.FeedbackDense(16, "relu", feedback=rule),
                kl.layers.FeedbackDense(10, "softmax", feedback=rule),
            ]
        )
        optimizer = keras.optimizers.SGD(0.1, momentum=momentum)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        name = rule.replace("_", " ") + (", momentum" if momentum else "")
        yield f"{name}, 32-16-10", model, (64,)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            kl.layers.FeedbackConv2D(8, 3, activation="relu", feedback="kolen_pollack"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            kl.layers.FeedbackDense(10, "softmax", feedback="kolen_pollack"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    yield "Kolen-Pollack, convolution of 8 filters, pooling, 10", model, (8, 8, 1)
    network = kl.dynamics.EquilibriumNetwork([64, 24, 10], free_steps=20, nudged_steps=4)
    network.compile(keras.optimizers.SGD(0.1))
    yield "equilibrium propagation, 64-24-10, 20 + 4 steps", network, (64,)
    encoder = keras.Sequential([keras.Input((64,)), kl.layers.HebbianDense(32)])
    head = kl.models.hebbian_readout(encoder, 10)
    x = np.random.default_rng(0).random((32, 64))
    head.train_on_batch(x, np.arange(32) % 10)
    yield "class means on 32 frozen Krotov-Hopfield units", head, (64,)


def microseconds(call: Callable[[], Any]) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times[CALLS // 10 :])


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    print("| learner | kB | operators | batch | `infer`, us | `learn`, us | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, model, shape in learners():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "learner.tflite"
            report = kl.models.export_learner(model, path, format="litert")
            runtime = Interpreter(model_path=str(path))
        labelled = any(entry.name == "y" for entry in report.inputs)
        infer, learn = (runtime.get_signature_runner(each) for each in ("infer", "learn"))
        for batch in (1, 32):
            x = rng.random((batch, *shape)).astype("float32")
            inputs = {"x": x, "rate": np.float32(1e-3)}
            if labelled:
                inputs["y"] = rng.integers(0, 10, batch).astype("int32")
            costs = [
                microseconds(lambda: infer(x=inputs["x"])),  # noqa: B023
                microseconds(lambda: learn(**inputs)),  # noqa: B023
            ]
            size, operators = f"{report.size / 1000:.0f}", len(report.operators)
            print(
                f"| {name} | {size} | {operators} | {batch} | {costs[0]:.0f} | {costs[1]:.0f} | "
                f"{costs[1] / costs[0]:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
