"""Small networks and data for the tests of local losses."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_local.models.local.model import LocalLosses
from tests.support import probe

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
CLASSES = 3


def images(samples: int = 16) -> tuple[np.ndarray, np.ndarray]:
    return probe((samples, 8, 8, 2), 3), np.arange(samples) % CLASSES


def vgg(norm: bool = True, dropout: float = 0.0) -> keras.Model:
    """Two convolutions with pooling between, a hidden dense layer, logits."""
    layers: list[Any] = [keras.Input((8, 8, 2))]
    for number, filters in enumerate((5, 4)):
        layers += [keras.layers.MaxPooling2D()] if number else []
        layers += [keras.layers.Conv2D(filters, 3, padding="same", name=f"conv{number}")]
        layers += [keras.layers.BatchNormalization(name=f"norm{number}")] if norm else []
        layers += [keras.layers.ReLU(name=f"relu{number}")]
        layers += [keras.layers.Dropout(dropout, seed=number)] if dropout else []
    layers += [keras.layers.Flatten(), keras.layers.Dense(6, "tanh", name="hidden")]
    return keras.Sequential([*layers, keras.layers.Dense(CLASSES, name="logits")], name="vgg")


def residual() -> keras.Model:
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    x = keras.layers.ReLU(name="stem_relu")(x)
    y = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="lower")(x)
    y = keras.layers.Conv2D(4, 3, padding="same", name="upper")(y)
    x = keras.layers.ReLU(name="sum_relu")(keras.layers.Add(name="sum")([x, y]))
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="logits")(x), name="residual")


class PairLoss(keras.losses.Loss):
    """The similarity loss of a batch, for a stock model with several outputs."""

    def __init__(self, deviations: bool) -> None:
        super().__init__(reduction="none")
        self.deviations = deviations

    def call(self, y_true: Any, y_pred: Any) -> Any:
        ops = keras.ops
        if self.deviations:
            mean = ops.mean(y_pred, axis=(1, 2), keepdims=True)
            y_pred = ops.sqrt(ops.sum((y_pred - mean) ** 2, axis=(1, 2)) + 1e-20)
        target = ops.one_hot(ops.reshape(ops.cast(y_true, "int32"), (-1,)), CLASSES)
        difference = self.correlations(y_pred) - self.correlations(target)
        return ops.reshape(ops.mean(difference * difference), (1,))

    @staticmethod
    def correlations(rows: Any) -> Any:
        ops = keras.ops
        rows = rows - ops.mean(rows, axis=1, keepdims=True)
        rows = rows / ops.sqrt(ops.sum(rows * rows, axis=1, keepdims=True) + 1e-20)
        return ops.matmul(rows, ops.transpose(rows))


def stock_twin(kind: str) -> keras.Model:
    """The network of `vgg` by stock Keras alone: cuts in its graph, heads as further outputs."""
    inputs = x = keras.Input((8, 8, 2))
    outputs: list[Any] = []
    losses: list[Any] = []
    weights: list[float] = []
    share = {"pred": (1.0, 0.0), "sim": (0.0, 1.0), "pred_sim": (0.01, 0.99)}[kind]

    def judge(x: Any, name: str) -> Any:
        if share[0]:
            flat = keras.layers.Flatten()(x)
            dense = keras.layers.Dense(CLASSES, kernel_initializer="zeros", name=f"pred_{name}")
            outputs.append(dense(flat))
            losses.append(LOSS)
            weights.append(share[0])
        if share[1]:
            maps = len(x.shape) == 4
            name = f"sim_{name}"
            layer: Any = keras.layers.Dense(x.shape[-1], use_bias=False, name=name)
            if maps:
                layer = keras.layers.Conv2D(
                    x.shape[-1], 3, padding="same", use_bias=False, name=name
                )
            outputs.append(layer(x))
            losses.append(PairLoss(maps))
            weights.append(share[1])
        return keras.ops.stop_gradient(x)

    for number, filters in enumerate((5, 4)):
        x = keras.layers.MaxPooling2D()(x) if number else x
        x = keras.layers.Conv2D(filters, 3, padding="same", name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
        x = judge(keras.layers.ReLU()(x), f"relu{number}")
    x = keras.layers.Dense(6, "tanh", name="hidden")(keras.layers.Flatten()(x))
    x = judge(x, "hidden")
    outputs.append(keras.layers.Dense(CLASSES, name="logits")(x))
    model = keras.Model(inputs, outputs)
    optimizer, weights = keras.optimizers.SGD(0.1, momentum=0.9), [*weights, 1.0]
    model.compile(optimizer, [*losses, LOSS], loss_weights=weights, jit_compile=False)
    return model


class SummedLosses(LocalLosses):
    """The same model, trained by Keras' own step with the sum of all losses on a cut graph."""

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        self.seen: list[Any] = []
        for block in self._parts().hidden:
            inputs = block.graph(inputs, training=training)
            self.seen.append(inputs)
            inputs = keras.ops.stop_gradient(inputs)
        return self._parts().top(inputs, training=training)

    def train_step(self, *arguments: Any) -> Any:
        return keras.Model.train_step(self, *arguments)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **_: Any
    ) -> Any:
        total = super().compute_loss(x, y, y_pred, sample_weight)
        rows = keras.ops.one_hot(keras.ops.cast(y, "int32"), CLASSES)
        found = []
        for block, outputs in zip(self._parts().hidden, self.seen, strict=True):
            found.append(block.loss.with_scores(block.head, outputs, rows, sample_weight)[0])
            # Its value is not part of the logs.
            total += found[-1] - keras.ops.stop_gradient(found[-1])
        return total
