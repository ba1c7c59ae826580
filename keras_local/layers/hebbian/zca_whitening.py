"""Whitening of inputs, measured on data before training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.layers.feedback.layer import Shape
from keras_local.layers.plain_form import PlainForm, twin_config
from keras_local.ops.backend import Tensor


@serializable
class ZCAWhitening(keras.layers.Layer):
    """Centre inputs and turn their covariance into the unit matrix, by the shortest way.

        y = (x - mean) U (S + epsilon)^(-1/2) U^T,    covariance = U S U^T

    `adapt` measures mean and covariance. Before that, outputs are inputs. Directions whose variance
    is far below `epsilon` are left small rather than blown up.

    Args:
        epsilon: Variance below which directions are damped, positive; relative to the mean
            variance of an input.
        **kwargs: `name`, `dtype`.

    Input and output shape: `(batch, ..., inputs)`; images are flattened before.

    Raises:
        ValueError: If `epsilon` is not positive, or the data of `adapt` have another width, no
            second sample, no variance, or entries that are not finite.

    >>> import numpy as np, keras_local as kl
    >>> mixing = np.array([[3, 1, 0], [0, 2, 1], [0, 0, 1]])
    >>> x = np.random.default_rng(0).normal(size=(500, 3)) @ mixing
    >>> layer = kl.layers.ZCAWhitening(epsilon=1e-6)
    >>> layer.adapt(x)
    >>> np.cov(np.asarray(layer(x)).T).round(2).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """

    plain = keras.layers.Dense

    def __init__(self, epsilon: float = 1e-3, **kwargs: Any) -> None:
        epsilon = check.real("epsilon", epsilon, minimum=0.0, exclusive=True)
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape: Shape) -> None:
        """Create mean and matrix, which change nothing yet."""
        inputs = input_shape[-1]
        if inputs is None:
            raise ValueError(
                "The last axis of the inputs to `ZCAWhitening` must be defined. "
                f"Received: input_shape={input_shape}"
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: inputs})
        self.mean = self.add_weight(
            name="mean", shape=(inputs,), initializer="zeros", trainable=False
        )
        self.matrix = self.add_weight(
            name="matrix", shape=(inputs, inputs), initializer="identity", trainable=False
        )
        self.built = True

    def adapt(self, data: Any) -> None:
        """Measure mean and covariance.

        Args:
            data: Array `(samples, ..., inputs)`, or an iterable of batches of that form, such as a
                batched `tf.data.Dataset`; of tuples, the first entry is taken.
        """
        batches = [data] if hasattr(data, "shape") else data
        count, total, products = 0, np.zeros(()), np.zeros(())
        for batch in batches:
            batch = batch[0] if isinstance(batch, (tuple, list)) else batch
            rows = np.asarray(ops.convert_to_numpy(batch), "float64")
            check.require(rows.ndim >= 2, "data", "of shape (samples, ..., inputs)", rows.shape)
            if self.built:
                width = self.mean.shape[0]
                check.require(rows.shape[-1] == width, "data", f"of width {width}", rows.shape)
            check.require(bool(np.isfinite(rows).all()), "data", "finite", "NaN or infinity")
            rows = rows.reshape(-1, rows.shape[-1])
            count += len(rows)
            total = total + rows.sum(axis=0)
            products = products + rows.T @ rows
        check.require(count > 1, "data", "of at least two samples", count)
        mean = total / count
        values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
        least = self.epsilon * float(np.mean(values))
        check.require(least > 0.0, "data", "of samples that differ", f"variance {np.mean(values)}")
        matrix = vectors @ np.diag((np.maximum(values, 0.0) + least) ** -0.5) @ vectors.T
        if not self.built:
            self.build((None, len(mean)))
        self.mean.assign(mean)
        self.matrix.assign(matrix)

    def call(self, inputs: Tensor) -> Tensor:
        """Return the white inputs."""
        return ops.matmul(inputs - self.mean, self.matrix)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """That of the inputs."""
        return tuple(input_shape)

    def plain_form(self) -> PlainForm:
        """Return a `keras.layers.Dense`: `x matrix - mean matrix`."""
        mean, matrix = map(ops.convert_to_numpy, (self.mean, self.matrix))
        config = {**twin_config(self.get_config(), self.plain), "units": len(mean)}
        return PlainForm(self.plain, config, [matrix, -mean @ matrix])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}
