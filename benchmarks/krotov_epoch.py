"""An epoch of `models.pretrain` beside its steps alone.

    python -m benchmarks.krotov_epoch [--samples 20000] [--units 2000]

TensorFlow, 784 inputs, batches of 100. "epoch" is an epoch of `pretrain` as a user runs it, with
its input pipeline, shuffling, progress and report; "steps" is as many calls of the same compiled
step on one batch in memory. What the epoch takes longer is spent outside of the step. Medians over
interleaved rounds, with quartiles.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_local as kl
from benchmarks._rounds import ratio
from benchmarks.krotov_step import INPUTS, keras_step
from keras_local.layers.hebbian.active_units import ActiveUnitsDense

BATCH = 100


class Seconds(keras.callbacks.Callback):
    """Notes how long each epoch takes, from its begin to that of the next."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.begins: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Note the time."""
        self.begins.append(time.perf_counter())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.random((arguments.samples, INPUTS), dtype="float32")
    images *= rng.random(images.shape, dtype="float32") < 0.2
    kernel = rng.normal(size=(INPUTS, arguments.units)).astype("float32")
    count = len(images) // BATCH
    for p in (2, 3):
        rule = kl.plasticity.KrotovHopfield(p=p, rank=7)
        step = keras_step(ActiveUnitsDense(kernel, rule, BATCH), images[:BATCH])
        step()
        times: dict[str, list[float]] = {"epoch": [], "steps": []}
        for _ in range(arguments.rounds):
            layer = kl.layers.HebbianDense(arguments.units, rule)
            encoder = keras.Sequential([keras.Input((INPUTS,)), layer])
            layer.kernel.assign(kernel)
            seconds = Seconds()
            # The first epoch compiles, and nothing begins after the last one.
            kl.models.pretrain(
                encoder, images, epochs=3, batch_size=BATCH, verbose=0, callbacks=[seconds]
            )
            times["epoch"].append(1e3 * (seconds.begins[2] - seconds.begins[1]))
            start = time.perf_counter()
            for _ in range(count):
                step()
            times["steps"].append(1e3 * (time.perf_counter() - start))
        print(f"\np = {p}, {arguments.samples} samples, {INPUTS} -> {arguments.units}:")
        for name, values in times.items():
            print(f"  {name:6s}{sorted(values)[len(values) // 2]:9.0f} ms")
        print(f"  epoch / steps   {ratio(times, 'epoch', 'steps')}", flush=True)


if __name__ == "__main__":
    main()
