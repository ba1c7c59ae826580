"""One train step of a recurrent layer with a rule beside the built-in layer.

    python -m benchmarks.recurrent_step [--layer LSTM GRU SimpleRNN] [--inputs 128] [--rounds 15]

128 units, 100 steps, batches of 64; on the backend that `KERAS_BACKEND` names. Ratios are medians
over interleaved rounds, with quartiles.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_local as kl
from benchmarks._rounds import interleaved, ratio

STEPS, UNITS, BATCH = 100, 128, 64
RULES = {
    "symmetric": {"feedback": "symmetric"},
    "fixed feedback": {"feedback": "feedback_alignment"},
    "updated feedback": {"feedback": "kolen_pollack"},
    "eprop": {"feedback": "feedback_alignment", "time_rule": "eprop"},
}


def step(layer, inputs):
    """Return a function that runs one train step of a layer below a readout."""
    model = keras.Sequential([keras.Input((STEPS, inputs)), layer, keras.layers.Dense(10)])
    compiled = keras.backend.backend() == "jax"
    model.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=compiled)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, STEPS, inputs)).astype("float32")
    y = rng.normal(size=(BATCH, STEPS, 10)).astype("float32")
    return lambda: model.train_on_batch(x, y)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ("LSTM", "GRU", "SimpleRNN")
    parser.add_argument("--layer", nargs="+", choices=kinds, default=["LSTM"])
    parser.add_argument("--inputs", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    print("One train step over that of the built-in layer: median [quartiles]")
    for kind in arguments.layer:
        stock, ours = getattr(keras.layers, kind), getattr(kl.layers, f"Feedback{kind}")
        options = {"return_sequences": True}
        steps = {"stock": step(stock(UNITS, **options), arguments.inputs)}
        for name, rule in RULES.items():
            if (kind, name) != ("SimpleRNN", "eprop"):
                steps[name] = step(ours(UNITS, **rule, **options), arguments.inputs)
        times = interleaved(steps, arguments.rounds, repeats=3)
        print(f"\n{kind}, {keras.backend.backend()}")
        for name in list(steps)[1:]:
            print(f"  {name:20s}{ratio(times, name, 'stock')}", flush=True)


if __name__ == "__main__":
    main()
