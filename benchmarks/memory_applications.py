"""Peak memory of a step of networks of `keras.applications`, by backpropagation and by `pred`.

    python -m benchmarks.memory_applications [--nets MobileNetV2 ResNet50]

and the same with `KERAS_BACKEND=jax` in front. Images of 96 x 96 pixels, 10 classes, batches of 64,
gradient descent with momentum. Peaks are measured as in `_memory`, above what the process holds at
rest.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_local as kl
from benchmarks import _memory

BATCH = 64


def application(name: str, loss: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return a compiled network with one batch; `loss` is that of blocks, or `"backprop"`."""
    model = getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3), classes=10)
    if loss != "backprop":
        model = kl.models.local_losses(model, loss)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        "sparse_categorical_crossentropy",
        jit_compile=keras.backend.backend() == "jax",
    )
    images = np.random.default_rng(0).normal(size=(BATCH, 96, 96, 3)).astype("float32")
    return model, images, np.zeros(BATCH, "int32")


def main() -> None:
    """Measure each network in processes of its own, and print megabytes and their ratio."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--nets", nargs="+", default=["MobileNetV2", "ResNet50"])
    backend = keras.backend.backend()
    print(f"{backend:14}{'backprop':>12}{'pred':>12}{'ratio':>8}")
    for name in made.parse_args().nets:
        maker = "benchmarks.memory_applications:application"
        whole, blocks = (
            _memory.peak(maker, name, loss, backend=backend) for loss in ("backprop", "pred")
        )
        print(f"{name:14}{whole:9.1f} MB{blocks:9.1f} MB{blocks / whole:8.3f}", flush=True)


if __name__ == "__main__":
    main()
