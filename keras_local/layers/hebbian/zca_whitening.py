"""Whitening of inputs, measured on data before training."""

from __future__ import annotations

import math
from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from keras_local import _keras_objects as objects
from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import DType, LayerArguments
from keras_local.layers.feedback.layer import Shape
from keras_local.layers.plain_form import PlainForm, twin_config
from keras_local.ops.backend import Tensor


@serializable
class ZCAWhitening(keras.layers.Layer):
    """ZCA whitening: inputs are centred, and their covariance becomes the unit matrix.

        y = (x - mean) U (S + epsilon)^(-1/2) U^T,    covariance = U S U^T

    `adapt` measures mean and covariance. Before that, the outputs equal the inputs. Directions
    whose variance is far below `epsilon` stay small and are not amplified.

    Inputs with more axes, such as images, are flattened inside the layer, so that pixels become
    uncorrelated. For n entries the matrix has n times n.

    Args:
        epsilon: Variance below which directions are damped, positive; relative to the mean
            variance of an input.
        flatten: Whether all axes except the batch are whitened together. With False only the last
            axis is whitened, and each place along the other axes is a sample. This is right for
            sequences, but neighbouring pixels of an image stay correlated.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy.
        trainable: Without effect: only `adapt` changes mean and matrix.
        **kwargs: The other arguments of every Keras layer.

    Input and output shape: `(batch, ..., inputs)`. All sizes except the batch must be known; with
    `flatten=False`, only the size of the last axis.

    Raises:
        ValueError: If `epsilon` is not positive, or the data of `adapt` have another shape, no
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

    def __init__(
        self,
        epsilon: float = 1e-3,
        flatten: bool = True,
        *,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        epsilon = check.real("epsilon", epsilon, minimum=0.0, exclusive=True)
        flatten = check.flag("flatten", flatten)
        policy = objects.dtype_policy("dtype", dtype)
        trainable = check.flag("trainable", trainable)
        super().__init__(name=name, dtype=policy, trainable=trainable, **kwargs)
        self.epsilon = epsilon
        self.flatten = flatten
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape: Shape) -> None:
        """Create mean and matrix, which do not change the inputs before `adapt`."""
        sizes = tuple(input_shape[1:]) if self.flatten else (input_shape[-1],)
        if None in sizes:
            axes = "All axes of the inputs but the batch" if self.flatten else "The last axis"
            raise ValueError(
                f"{axes} must be defined for `ZCAWhitening`. Received: input_shape={input_shape}"
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=len(input_shape) if self.flatten else None,
            min_ndim=2,
            axes={place - len(sizes): size for place, size in enumerate(sizes)},
        )
        self.sizes = tuple(int(size or 0) for size in sizes)
        inputs = math.prod(self.sizes)
        self.mean = self.add_weight(
            name="mean", shape=(inputs,), initializer="zeros", trainable=False
        )
        self.matrix = self.add_weight(
            name="matrix", shape=(inputs, inputs), initializer="identity", trainable=False
        )
        self.built = True

    def adapt(self, data: Any, mask: Any = None) -> None:
        """Measure mean and covariance.

        Args:
            data: Array `(samples, ..., inputs)`, or an iterable of batches of that form, such as a
                batched `tf.data.Dataset`. If batches are tuples, the first entry is used.
            mask: For an array, which samples there are, `(samples, ...)`; by default all.
        """
        if mask is not None:
            data = self._present(data, mask)
        batches = [data] if hasattr(data, "shape") else data
        count, total, products = 0, np.zeros(()), np.zeros(())
        sizes: tuple[int, ...] | None = self.sizes if self.built else None
        for batch in batches:
            batch = batch[0] if isinstance(batch, (tuple, list)) else batch
            rows = np.asarray(ops.convert_to_numpy(batch), "float64")
            check.require(rows.ndim >= 2, "data", "of shape (samples, ..., inputs)", rows.shape)
            if sizes is None:
                sizes = rows.shape[1:] if self.flatten else rows.shape[-1:]
            fits = rows.shape[-len(sizes) :] == sizes and (
                not self.flatten or rows.ndim == len(sizes) + 1
            )
            check.require(fits, "data", f"of shape (samples, ..., {str(sizes)[1:-1]})", rows.shape)
            check.require(bool(np.isfinite(rows).all()), "data", "finite", "NaN or infinity")
            rows = rows.reshape(-1, math.prod(sizes))
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
            self.build((None, *(sizes or ())))
        self.mean.assign(mean)
        self.matrix.assign(matrix)

    def _present(self, data: Any, mask: Any) -> np.ndarray:
        """Return the rows that a mask keeps."""
        check.require(hasattr(data, "shape"), "mask", "None, or `data` an array", "a mask")
        rows, keep = np.asarray(data), np.asarray(mask, "bool")
        shape = rows.shape[:1] if self.flatten else rows.shape[:-1]
        check.require(keep.shape == shape, "mask", f"of shape {shape}", keep.shape)
        kept: np.ndarray = rows[keep]
        return kept

    def call(self, inputs: Tensor) -> Tensor:
        """Return the white inputs."""
        rows = self._rows(inputs)
        white = ops.matmul(rows - self.mean, self.matrix)
        return white if rows is inputs else ops.reshape(white, (-1, *self.sizes))

    def _rows(self, inputs: Tensor) -> Tensor:
        """Return the inputs with one axis for all entries that are whitened together."""
        if len(self.sizes) == 1:
            return inputs
        return ops.reshape(inputs, (-1, math.prod(self.sizes)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the inputs."""
        return tuple(input_shape)

    def plain_form(self) -> PlainForm:
        """Return a `keras.layers.Dense` that computes `x matrix - mean matrix`."""
        mean, matrix = map(ops.convert_to_numpy, (self.mean, self.matrix))
        config = {**twin_config(self.get_config(), self.plain), "units": len(mean)}
        weights = [matrix, -mean @ matrix]
        if len(self.sizes) == 1:
            return PlainForm(self.plain, config, weights)
        return PlainForm(self.plain, config, weights, before=self._rows, behind=self._shaped)

    def _shaped(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        return ops.reshape(outputs, (-1, *self.sizes))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "epsilon": self.epsilon, "flatten": self.flatten}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ZCAWhitening:
        """Restore the layer; older configs without `flatten` whiten one axis."""
        return cls(**{"flatten": False, **config})
