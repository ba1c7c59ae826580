"""What the convolutions of every rank share."""

from __future__ import annotations

from typing import Any

import keras

from keras_local import _validation as check
from keras_local import ops
from keras_local.layers.feedback_layer import Shape
from keras_local.layers.feedback_window import FeedbackWindow, Sizes


class FeedbackConvolution(FeedbackWindow):
    """Interface of a convolution with a feedback rule; `FeedbackConv1D/2D/3D` fix its rank."""

    dilated_strides = False

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        feedback: Any = "kolen_pollack",
        feedback_initializer: Any = "glorot_uniform",
        **conv_args: Any,
    ) -> None:
        filters = check.positive_integer("filters", filters)
        groups = check.positive_integer("groups", groups)
        check.require(filters % groups == 0, "groups", f"a divisor of filters={filters}", groups)
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            feedback,
            feedback_initializer,
            **conv_args,
        )
        self.filters = filters
        self.groups = groups

    @property
    def linear_map(self) -> ops.LinearMap:
        """The convolution."""
        return ops.Convolution(
            strides=self.strides,
            padding="valid" if self.padding == "causal" else self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """The shape that `kernel_of` says, once the inputs are known to fit."""
        shape = super().kernel_shape(input_shape)
        check.require(
            (input_shape[self._channel_axis] or 0) % self.groups == 0,
            "input_shape",
            f"one whose channels divide by groups={self.groups}",
            tuple(input_shape),
        )
        return shape

    def kernel_of(self, channels: int) -> tuple[int, ...]:
        """`(*kernel_size, channels // groups, filters)`."""
        return (*self.kernel_size, channels // self.groups, self.filters)

    def output_channels(self, channels: int) -> int:
        """The filters."""
        return self.filters

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """As in the built-in convolution."""
        channels = input_shape[self._channel_axis]
        inputs = keras.KerasTensor(input_shape)
        # Sizes do not depend on the groups, and the symbolic convolution knows none.
        kernel = keras.KerasTensor((*self.kernel_size, channels, self.filters))
        return tuple(
            keras.ops.conv(
                inputs,
                kernel,
                strides=list(self.strides),
                padding=self.padding,
                dilation_rate=self.dilation_rate,
                data_format=self.data_format,
            ).shape
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "groups": self.groups,
        }
