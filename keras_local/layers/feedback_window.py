"""What the layers share whose kernel is a window that moves over the inputs."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import keras

from keras_local import _validation as check
from keras_local.layers.feedback_layer import FeedbackLayer, Shape


class FeedbackWindow(FeedbackLayer):
    """Interface of a depthwise or transposed convolution with a feedback rule."""

    rank: ClassVar[int]

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...],
        padding: str,
        data_format: str | None,
        dilation_rate: int | tuple[int, ...],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        kernel_size = check.sizes("kernel_size", kernel_size, self.rank)
        strides = check.sizes("strides", strides, self.rank)
        dilation_rate = check.sizes("dilation_rate", dilation_rate, self.rank)
        padding = check.one_of("padding", str(padding).lower(), ("valid", "same"))
        formats = ("channels_last", "channels_first")
        data_format = data_format or keras.config.image_data_format()
        data_format = check.one_of("data_format", data_format, formats)
        super().__init__(*args, **kwargs)
        self.kernel_size = kernel_size
        self.strides = strides
        self.dilation_rate = dilation_rate
        self.padding = padding
        self.data_format = data_format
        self.input_spec = keras.layers.InputSpec(min_ndim=self.rank + 2)

    @abstractmethod
    def kernel_of(self, channels: int) -> tuple[int, ...]:
        """Return the kernel's shape for inputs with a number of channels."""

    @abstractmethod
    def output_channels(self, channels: int) -> int:
        """Return the number of output channels for inputs with a number of channels."""

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """The shape that `kernel_of` says, once the inputs are known to fit."""
        check.require(
            len(input_shape) == self.rank + 2,
            "input_shape",
            f"of rank {self.rank + 2} for {type(self).__name__}",
            tuple(input_shape),
        )
        channels = input_shape[self._channel_axis]
        if channels is None:
            raise ValueError(
                f"The channels of the inputs to `{type(self).__name__}` must be defined. "
                f"Received: input_shape={input_shape}"
            )
        # Refuses inputs that are smaller than the kernel.
        self.compute_output_shape(input_shape)
        self.input_spec = keras.layers.InputSpec(
            min_ndim=self.rank + 2, axes={self._channel_axis: channels}
        )
        return self.kernel_of(channels)

    @property
    def _channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def bias_shape(self) -> tuple[int, ...]:
        """The output channels on the channel axis, 1 elsewhere."""
        ones = (1,) * self.rank
        channels = self.output_channels(self.input_spec.axes[self._channel_axis])
        last = self.data_format == "channels_last"
        return (1, *ones, channels) if last else (1, channels, *ones)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """As in the built-in layer."""
        kernel = keras.KerasTensor(self.kernel_of(input_shape[self._channel_axis] or 1))
        outputs = self.linear_map.apply(keras.KerasTensor(input_shape), kernel)
        return tuple(outputs.shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
        }
