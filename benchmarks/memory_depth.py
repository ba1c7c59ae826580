"""Peak memory and time of a training step against the number of layers.

    python -m benchmarks.memory_depth [--depths 4 8 16 32] [--backends tensorflow jax]
    python -m benchmarks.memory_depth --time [--rounds 5]

Memory is measured in a process of its own for each number (see `_memory`); time is the median of
interleaved steps, over that of backpropagation through as many layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BATCH = 256


def _images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(BATCH, 16, 16, 16)).astype("float32"), rng.integers(0, 10, BATCH)


def _blocks(depth: int) -> Any:
    """Return blocks of convolution, normalisation and ReLU, and a linear output."""
    import keras

    keras.utils.set_random_seed(0)
    blocks: list[Any] = []
    for number in range(depth):
        blocks += [
            keras.layers.Conv2D(16, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("relu", name=f"block_{number}"),
        ]
    top = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input((16, 16, 16)), *blocks, *top])


def _compiled(model: Any, jit: bool = False) -> Any:
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=jit)
    return model


def backpropagation(depth: int) -> Any:
    """Return the stock net with a batch."""
    return (_compiled(_blocks(depth)), *_images())


def direct_random_target(depth: int) -> Any:
    """Return the net in which targets go to the hidden layers."""
    import keras_local as kl

    return (_compiled(kl.models.direct(_blocks(depth), "direct_random_target")), *_images())


def hebbian(depth: int) -> Any:
    """Return layers that learn together without labels."""
    import keras

    import keras_local as kl

    keras.utils.set_random_seed(0)
    layers = [
        kl.layers.HebbianConv2D(16, 3, padding="same", plasticity=kl.plasticity.HardWTA())
        for _ in range(depth)
    ]
    model = keras.Sequential([keras.Input((16, 16, 16)), *layers])
    model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
    images = _images()[0]
    return model, images, None


def hebbian_dense(depth: int) -> Any:
    """Return dense layers that learn together without labels."""
    import keras

    import keras_local as kl

    keras.utils.set_random_seed(0)
    layers = [kl.layers.HebbianDense(500, plasticity=kl.plasticity.HardWTA()) for _ in range(depth)]
    model = keras.Sequential([keras.Input((500,)), *layers])
    model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(2560, 500)).astype("float32"), None


def forward_forward(depth: int, jit: Any = "auto") -> Any:
    """Return a network that compares samples with right and wrong labels."""
    import keras

    import keras_local as kl

    keras.utils.set_random_seed(0)
    model = kl.dynamics.ForwardForwardNetwork([500, *([500] * depth), 10])
    model.compile(keras.optimizers.SGD(0.01), jit_compile=jit)
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(BATCH, 500)).astype("float32"), rng.integers(0, 10, BATCH)
