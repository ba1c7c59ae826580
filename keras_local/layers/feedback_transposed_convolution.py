"""What the transposed convolutions of every rank share."""

from __future__ import annotations

from typing import Any

from keras_local import _validation as check
from keras_local import ops
from keras_local.layers.feedback_window import FeedbackWindow, Sizes


class FeedbackTransposedConvolution(FeedbackWindow):
    """Interface of a transposed convolution with a feedback rule; its heirs fix the rank."""

    dilated_strides = False

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        output_padding: Sizes | None = None,
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        activation: Any = None,
        use_bias: bool = True,
        feedback: Any = "kolen_pollack",
        feedback_initializer: Any = "glorot_uniform",
        **conv_args: Any,
    ) -> None:
        filters = check.positive_integer("filters", filters)
        strides = check.sizes("strides", strides, self.rank)
        if output_padding is not None:
            output_padding = check.sizes("output_padding", output_padding, self.rank, minimum=0)
            check.require(
                all(more < stride for more, stride in zip(output_padding, strides, strict=True)),
                "output_padding",
                f"less than strides={strides}",
                output_padding,
            )
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
        self.output_padding = output_padding

    @property
    def linear_map(self) -> ops.LinearMap:
        """The transposed convolution."""
        return ops.TransposedConvolution(
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
            output_padding=self.output_padding,
        )

    def kernel_of(self, channels: int) -> tuple[int, ...]:
        """`(*kernel_size, filters, channels)`."""
        return (*self.kernel_size, self.filters, channels)

    def output_channels(self, channels: int) -> int:
        """The filters."""
        return self.filters

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "output_padding": self.output_padding,
        }
