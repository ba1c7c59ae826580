"""What the convolutions of every rank share."""

from __future__ import annotations

from typing import Any, ClassVar

import keras

from keras_local import _validation as check
from keras_local import ops
from keras_local.layers.feedback_layer import FeedbackLayer, Shape


class FeedbackConvolution(FeedbackLayer):
    """Interface of a convolution with a feedback rule; `FeedbackConv1D/2D/3D` fix its rank."""

    rank: ClassVar[int]

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
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
        kernel_size = check.sizes("kernel_size", kernel_size, self.rank)
        strides = check.sizes("strides", strides, self.rank)
        dilation_rate = check.sizes("dilation_rate", dilation_rate, self.rank)
        check.require(
            max(strides) == 1 or max(dilation_rate) == 1,
            "dilation_rate",
            f"1 where strides are not (strides={strides})",
            dilation_rate,
        )
        padding = check.one_of("padding", str(padding).lower(), self.paddings())
        formats = ("channels_last", "channels_first")
        data_format = data_format or keras.config.image_data_format()
        data_format = check.one_of("data_format", data_format, formats)
        super().__init__(activation, use_bias, feedback, feedback_initializer, **conv_args)
        self.filters = filters
        self.groups = groups
        self.kernel_size = kernel_size
        self.strides = strides
        self.dilation_rate = dilation_rate
        self.padding = padding
        self.data_format = data_format
        self.input_spec = keras.layers.InputSpec(min_ndim=self.rank + 2)

    @classmethod
    def paddings(cls) -> tuple[str, ...]:
        """The paddings that `padding` may name."""
        return ("valid", "same")

    @property
    def linear_map(self) -> ops.LinearMap:
        """The convolution."""
        return ops.Convolution(
            strides=self.strides,
            padding="valid" if self.padding == "causal" else self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    @property
    def _channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """`(*kernel_size, channels // groups, filters)`."""
        check.require(
            len(input_shape) == self.rank + 2,
            "input_shape",
            f"of rank {self.rank + 2} for {type(self).__name__}",
            tuple(input_shape),
        )
        channels = input_shape[self._channel_axis]
        if channels is None or channels % self.groups:
            raise ValueError(
                f"The channels of the inputs to `{type(self).__name__}` must be defined and divide "
                f"by groups={self.groups}. Received: input_shape={input_shape}"
            )
        # Refuses inputs that are smaller than the kernel.
        self.compute_output_shape(input_shape)
        self.input_spec = keras.layers.InputSpec(
            min_ndim=self.rank + 2, axes={self._channel_axis: channels}
        )
        return (*self.kernel_size, channels // self.groups, self.filters)

    def bias_shape(self) -> tuple[int, ...]:
        """The filters on the channel axis, 1 elsewhere."""
        ones = (1,) * self.rank
        last = self.data_format == "channels_last"
        return (1, *ones, self.filters) if last else (1, self.filters, *ones)

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
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
        }
