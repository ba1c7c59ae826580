"""Convolutions that learn by a plasticity rule."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import (
    Activation,
    ConstraintLike,
    DType,
    InitializerLike,
    LayerArguments,
    RegularizerLike,
    Sizes,
)
from keras_local.layers import masks
from keras_local.layers.feedback.layer import Shape
from keras_local.layers.hebbian.layer import HebbianLayer, lower
from keras_local.ops import Convolution, LinearMap, Scaled
from keras_local.ops.backend import Tensor
from keras_local.ops.precision import precise
from keras_local.plasticity import PlasticityLike

HebbianPadding = Literal["valid", "same", "reflect"]
"""How a convolution treats the borders of its inputs."""


class HebbianConvolution(HebbianLayer):
    """Interface of a convolution with a plasticity rule; `HebbianConv1D` and `2D` fix its rank."""

    rank: ClassVar[int]

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: HebbianPadding = "valid",
        plasticity: PlasticityLike = "krotov_hopfield",
        activation: Activation = None,
        patch_norm: bool = False,
        floor: float = 1e-3,
        kernel_initializer: InitializerLike | None = None,
        kernel_constraint: ConstraintLike = None,
        local_rate: float = 1.0,
        global_rate: float = 0.0,
        border: int | None = None,
        *,
        activity_regularizer: RegularizerLike = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        filters = check.positive_integer("filters", filters)
        kernel_size = check.sizes("kernel_size", kernel_size, self.rank)
        strides = check.sizes("strides", strides, self.rank)
        padding = check.one_of("padding", lower(padding), ("valid", "same", "reflect"))
        patch_norm = check.flag("patch_norm", patch_norm)
        floor = check.real("floor", floor, minimum=0.0, exclusive=True)
        if border is not None:
            border = check.positive_integer("border", border)
            check.require(padding == "reflect", "border", 'None without padding="reflect"', border)
        super().__init__(
            filters,
            plasticity,
            activation,
            kernel_initializer,
            kernel_constraint,
            local_rate,
            global_rate,
            activity_regularizer=activity_regularizer,
            name=name,
            dtype=dtype,
            trainable=trainable,
            **kwargs,
        )
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.patch_norm = patch_norm
        self.floor = floor
        self.border = border
        self.input_spec = keras.layers.InputSpec(ndim=self.rank + 2)

    @property
    def linear_map(self) -> LinearMap:
        """Return the convolution; reflected inputs are padded before it."""
        return self._convolution

    @property
    def _convolution(self) -> Convolution:
        return Convolution(
            strides=self.strides,
            padding="same" if self.padding == "same" else "valid",
            dilation_rate=(1,) * self.rank,
        )

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """Return `(*kernel_size, channels, filters)`."""
        name, sizes = type(self).__name__, tuple(input_shape)
        allowed = f"of rank {self.rank + 2} for {name}"
        check.require(len(sizes) == self.rank + 2, "input_shape", allowed, sizes)
        channels = sizes[-1]
        if channels is None:
            raise ValueError(
                f"The channels of the inputs to `{name}` must be defined. "
                f"Received: input_shape={sizes}"
            )
        if self.padding == "reflect":
            # No more inputs can be reflected than there are behind the border.
            enough = all(
                size is None or size > behind
                for size, (_, behind) in zip(sizes[1:-1], self._mirrored, strict=True)
            )
            allowed = (
                "larger than the border that is reflected (half of `kernel_size`, or `border`)"
            )
            check.require(enough, "input_shape", allowed, sizes)
        # Refuses inputs that are smaller than the kernel.
        self.compute_output_shape(input_shape)
        axes = {-1: channels}
        self.input_spec = keras.layers.InputSpec(ndim=self.rank + 2, axes=axes)
        return (*self.kernel_size, channels, self.filters)

    def arrange(self, inputs: Tensor) -> Tensor:
        """Reflect the inputs at their borders if `padding="reflect"`."""
        if self.padding != "reflect":
            return inputs
        return ops.pad(inputs, [(0, 0), *self._mirrored, (0, 0)], mode="reflect")

    @property
    def _mirrored(self) -> list[tuple[int, int]]:
        """Return how many inputs are mirrored before and behind, in each dimension."""
        if self.border is not None:
            return [(self.border, self.border)] * self.rank
        return [((taps - 1) // 2, taps // 2) for taps in self.kernel_size]

    def samples_of(self, present: Tensor) -> Tensor:
        """Return which positions are samples to learn from.

        With `"valid"` those whose patch is present as a whole; with `"same"` those that are present
        themselves, so that what is left out acts as the zeros behind the border do.
        """
        exact = self.padding == "valid" or (self.padding == "same" and set(self.strides) == {1})
        allowed = '"valid", or "same" with strides of 1, for inputs with a mask'
        check.require(exact, "padding", allowed, self.padding)
        if self.padding == "same":
            return present
        return masks.complete(self._convolution, present, ops.ones((*self.kernel_size, 1, 1)))

    def compute_mask(self, inputs: Tensor, previous_mask: Any) -> Any:
        """Return which positions there are; None without a mask."""
        if previous_mask is None:
            return None
        present = self.samples_of(masks.spread(previous_mask, inputs))
        return ops.squeeze(present, -1)

    def map_of(self, arranged: Tensor) -> LinearMap:
        """Return the convolution; with `patch_norm` it divides by the lengths of the patches."""
        convolution = self._convolution
        if not self.patch_norm:
            return convolution
        return Scaled(convolution, 1.0 / self.patch_lengths(arranged))

    def patch_lengths(self, arranged: Tensor) -> Tensor:
        """Return `max(|patch|, floor)` of every position, from a convolution with ones."""
        pixels = ops.cast(arranged, precise(arranged.dtype))
        squares = ops.sum(ops.square(pixels), axis=-1, keepdims=True)
        window = ops.ones((*self.kernel_size, 1, 1), dtype=squares.dtype)
        total = self._convolution.apply(squares, window)
        lengths = ops.sqrt(ops.maximum(total, self.floor**2))
        return ops.cast(lengths, arranged.dtype)

    def input_length(self, inputs: Any) -> float:
        """Return the mean length of patches, which is at most 1 with `patch_norm`."""
        arranged = self.arrange(ops.convert_to_tensor(inputs, dtype=self.compute_dtype))
        return 1.0 if self.patch_norm else float(ops.mean(self.patch_lengths(arranged)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the output shape of the built-in convolution for the padded inputs."""
        channels, sizes = input_shape[-1], list(input_shape[1:-1])
        if self.padding == "reflect":
            sizes = [
                None if size is None else before + size + behind
                for size, (before, behind) in zip(sizes, self._mirrored, strict=True)
            ]
        inputs = keras.KerasTensor((input_shape[0], *sizes, channels))
        kernel = keras.KerasTensor((*self.kernel_size, channels, self.filters))
        padding = "same" if self.padding == "same" else "valid"
        return tuple(ops.conv(inputs, kernel, strides=list(self.strides), padding=padding).shape)

    @property
    def plain_sums_are_outputs(self) -> bool:
        """Return whether the built-in convolution computes the sums: not with `patch_norm`."""
        return not self.patch_norm

    def plain_sums(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the outputs of the built-in convolution divided by the lengths of the patches."""
        if not self.patch_norm:
            return outputs
        squares = ops.sum(ops.square(inputs), axis=-1, keepdims=True)
        # A NumPy array, because a tensor would become an input of an ONNX file.
        window = np.ones((*self.kernel_size, 1, 1), self.compute_dtype)
        padding = "same" if self.padding == "same" else "valid"
        total = ops.conv(squares, window, strides=list(self.strides), padding=padding)
        return outputs / ops.sqrt(ops.maximum(total, self.floor**2))

    def _plain_config(self, plain: type[keras.layers.Layer]) -> dict[str, Any]:
        config = super()._plain_config(plain)
        # Reflected inputs are padded before the convolution.
        return {**config, "padding": "same" if self.padding == "same" else "valid"}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "patch_norm": self.patch_norm,
            "floor": self.floor,
            "border": self.border,
        }


@serializable
class HebbianConv1D(HebbianConvolution):
    """Convolution in one dimension whose kernel learns by a plasticity rule, without labels.

    Forward `y = f(conv(x, W))`, without bias. The kernel learns as in `HebbianDense`, with the
    patch of each position as one sample: the filters of a position compete with each other, and the
    change of a filter is the sum over all positions. It is computed like the gradient of a
    convolution, so that patches are not stored.

    With `patch_norm`, patches have unit length, in the forward pass and in learning:

        u = conv(x, W) / max(|patch|, floor)

    Then the outputs do not depend on the contrast of a patch. A steep activation, such as
    `activations.RePU(40)`, makes them a nearly hard assignment.

    Local: it uses the patch, the filter's own current and its weights. Not local: the sum over
    positions, which share the weights, and everything that is not local in the rule.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"`, `"same"` (zeros) or `"reflect"`, which mirrors the inputs at their
            borders: `(kernel_size - 1) // 2` before and `kernel_size // 2` behind, or `border`.
        plasticity: A `keras_local.plasticity` rule or its alias.
        activation: Activation function; none by default.
        patch_norm: Whether patches are divided by their length.
        floor: Least length by which a patch is divided, so that black patches give 0.
        kernel_initializer: Initializer of the kernel; normal with standard deviation 1 by default.
        kernel_constraint: A Keras constraint on the kernel; by default the constraint of the rule.
        local_rate: Factor on the change of the rule, at least 0.
        global_rate: Factor on the gradient that all other losses have at the kernel, at least 0.
        border: How many inputs `padding="reflect"` mirrors at every border; by default the number
            that keeps the size.
        activity_regularizer: Regularizer of the outputs.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy; weights and learning stay in float32 under mixed
            precision.
        trainable: Whether the layer learns.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, steps', filters)` with the sizes
    of the built-in layer; `"reflect"` without a `border` has the sizes of `"same"`.

    Raises:
        ValueError: For a wrong argument or input shape; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.HebbianConv1D(4, 3, padding="reflect", patch_norm=True)
    >>> tuple(layer(np.ones((2, 8, 3), "float32")).shape)
    (2, 8, 4)

    Source: Grinberg, Hopfield & Krotov 2019, "Local unsupervised learning for image analysis", for
    the division by the patch's length; we added the floor.
    """

    rank = 1
    plain = keras.layers.Conv1D


@serializable
class HebbianConv2D(HebbianConvolution):
    """Convolution in two dimensions whose kernel learns by a plasticity rule, without labels.

    Forward `y = f(conv(x, W))`, without bias. The kernel learns as in `HebbianDense`, with the
    patch of each position as one sample: the filters of a position compete with each other, and the
    change of a filter is the sum over all positions. It is computed like the gradient of a
    convolution, so that patches are not stored.

    With `patch_norm`, patches have unit length, in the forward pass and in learning:

        u = conv(x, W) / max(|patch|, floor)

    Then the outputs do not depend on the contrast of a patch. A steep activation, such as
    `activations.RePU(40)`, makes them a nearly hard assignment.

    Local: it uses the patch, the filter's own current and its weights. Not local: the sum over
    positions, which share the weights, and everything that is not local in the rule.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"`, `"same"` (zeros) or `"reflect"`, which mirrors the inputs at their
            borders: `(kernel_size - 1) // 2` before and `kernel_size // 2` behind, or `border`.
        plasticity: A `keras_local.plasticity` rule or its alias.
        activation: Activation function; none by default.
        patch_norm: Whether patches are divided by their length.
        floor: Least length by which a patch is divided, so that black patches give 0.
        kernel_initializer: Initializer of the kernel; normal with standard deviation 1 by default.
        kernel_constraint: A Keras constraint on the kernel; by default the constraint of the rule.
        local_rate: Factor on the change of the rule, at least 0.
        global_rate: Factor on the gradient that all other losses have at the kernel, at least 0.
        border: How many inputs `padding="reflect"` mirrors at every border; by default the number
            that keeps the size.
        activity_regularizer: Regularizer of the outputs.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy; weights and learning stay in float32 under mixed
            precision.
        trainable: Whether the layer learns.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, height, width, channels)`. Output shape:
    `(batch, height', width', filters)` with the sizes of the built-in layer; `"reflect"` without a
    `border` has the sizes of `"same"`.

    Raises:
        ValueError: For a wrong argument or input shape; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.HebbianConv2D(4, 3, padding="reflect", patch_norm=True)
    >>> tuple(layer(np.ones((2, 8, 8, 3), "float32")).shape)
    (2, 8, 8, 4)

    Source: Grinberg, Hopfield & Krotov 2019, "Local unsupervised learning for image analysis", for
    the division by the patch's length; we added the floor.
    """

    rank = 2
    plain = keras.layers.Conv2D
