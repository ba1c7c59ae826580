"""What the depthwise convolutions of every rank share."""

from __future__ import annotations

from typing import Any

from keras_local import _validation as check
from keras_local import ops
from keras_local.layers.feedback_window import FeedbackWindow, Sizes


class FeedbackDepthwiseConvolution(FeedbackWindow):
    """Interface of a depthwise convolution with a feedback rule; its heirs fix the rank."""

    def __init__(
        self,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        activation: Any = None,
        use_bias: bool = True,
        feedback: Any = "kolen_pollack",
        feedback_initializer: Any = "glorot_uniform",
        depthwise_initializer: Any = "glorot_uniform",
        depthwise_regularizer: Any = None,
        depthwise_constraint: Any = None,
        **conv_args: Any,
    ) -> None:
        depth_multiplier = check.positive_integer("depth_multiplier", depth_multiplier)
        for name in conv_args:
            known = not name.startswith("kernel_")
            allowed = f"given as `{name.replace('kernel', 'depthwise')}`"
            check.require(known, name, allowed, conv_args[name])
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
            kernel_initializer=depthwise_initializer,
            kernel_regularizer=depthwise_regularizer,
            kernel_constraint=depthwise_constraint,
            **conv_args,
        )
        self.depth_multiplier = depth_multiplier

    @property
    def linear_map(self) -> ops.LinearMap:
        """The depthwise convolution."""
        return ops.DepthwiseConvolution(
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def kernel_of(self, channels: int) -> tuple[int, ...]:
        """`(*kernel_size, channels, depth_multiplier)`."""
        return (*self.kernel_size, channels, self.depth_multiplier)

    def output_channels(self, channels: int) -> int:
        """`channels * depth_multiplier`."""
        return channels * self.depth_multiplier

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        for name in ("initializer", "regularizer", "constraint"):
            config[f"depthwise_{name}"] = config.pop(f"kernel_{name}")
        return {**config, "depth_multiplier": self.depth_multiplier}
