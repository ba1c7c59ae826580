"""Functions and the base class that all kinds of convolutions share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import keras

from keras_local import _validation as check
from keras_local._types import Sizes
from keras_local.layers.feedback.layer import FeedbackLayer, Shape


def checked_window(
    rank: int,
    kernel_size: Sizes,
    strides: Sizes,
    padding: str,
    data_format: str | None,
    paddings: tuple[str, ...] = ("valid", "same"),
) -> tuple[tuple[int, ...], tuple[int, ...], str, str]:
    """Return kernel size, strides, padding and data format in the form that layers keep.

    Raises:
        ValueError: If one of them is invalid; the message names it.
    """
    formats = ("channels_last", "channels_first")
    return (
        check.sizes("kernel_size", kernel_size, rank),
        check.sizes("strides", strides, rank),
        check.one_of("padding", padding.lower() if isinstance(padding, str) else padding, paddings),
        check.one_of(
            "data_format",
            keras.config.image_data_format() if data_format is None else data_format,
            formats,
        ),
    )


class FeedbackWindow(FeedbackLayer):
    """Interface of a convolution of any kind with a feedback rule.

    A convolution defines the shape of its kernel (`kernel_of`), its number of output channels
    (`output_channels`) and its linear map.
    """

    rank: ClassVar[int]

    dilated_strides: ClassVar[bool] = True
    """Whether strides and dilation may both differ from 1."""

    def __init__(
        self,
        kernel_size: Sizes,
        strides: Sizes,
        padding: str,
        data_format: str | None,
        dilation_rate: Sizes,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        kernel_size, strides, padding, data_format = checked_window(
            self.rank, kernel_size, strides, padding, data_format, self.paddings()
        )
        dilation_rate = check.sizes("dilation_rate", dilation_rate, self.rank)
        check.require(
            self.dilated_strides or max(strides) == 1 or max(dilation_rate) == 1,
            "dilation_rate",
            f"1 where strides are not (strides={strides})",
            dilation_rate,
        )
        super().__init__(*args, **kwargs)
        self.kernel_size = kernel_size
        self.strides = strides
        self.dilation_rate = dilation_rate
        self.padding = padding
        self.data_format = data_format
        self.input_spec = keras.layers.InputSpec(min_ndim=self.rank + 2)

    @classmethod
    def paddings(cls) -> tuple[str, ...]:
        """Return the paddings that `padding` may name."""
        return ("valid", "same")

    @abstractmethod
    def kernel_of(self, channels: int) -> tuple[int, ...]:
        """Return the kernel's shape for inputs with this number of channels."""

    @abstractmethod
    def output_channels(self, channels: int) -> int:
        """Return the number of output channels for inputs with this number of channels."""

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """Return the shape from `kernel_of`, after a check of the inputs."""
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
        """Return the output channels on the channel axis, and 1 for other axes."""
        ones = (1,) * self.rank
        channels = self.output_channels(self.input_spec.axes[self._channel_axis])
        last = self.data_format == "channels_last"
        return (1, *ones, channels) if last else (1, channels, *ones)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the output shape of the built-in layer."""
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
