"""An initializer for kernels that differ between positions, with the scale of a convolution."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.ops.backend import Tensor


@serializable
class ConvolutionScaling(keras.initializers.VarianceScaling):
    """Variance scaling with the fans of a convolution with the same window.

    `keras.initializers.VarianceScaling` would count the positions of a locally connected kernel as
    taps, so that all weights would start too small. Here the fans are `taps * c_in` and
    `taps * c_out` for any number of positions.

    Args:
        taps: Number of taps of the kernel, which is the product of `kernel_size`.
        scale: As in `VarianceScaling`, like the other arguments.
        mode: `"fan_in"`, `"fan_out"` or `"fan_avg"`.
        distribution: `"truncated_normal"`, `"untruncated_normal"` or `"uniform"`.
        seed: An integer or a `keras.random.SeedGenerator`.

    Shape: `(*positions, taps * c_in, c_out)`.

    >>> import numpy as np
    >>> from keras_local.layers.feedback.convolution_scaling import ConvolutionScaling
    >>> initializer = ConvolutionScaling(9, scale=2.0, seed=1)
    >>> kernel = np.asarray(initializer((20, 20, 9 * 4, 8)))
    >>> bool(abs(kernel.var() / (2.0 / 36) - 1) < 0.05)
    True
    """

    def __init__(
        self,
        taps: int,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
    ) -> None:
        super().__init__(scale=scale, mode=mode, distribution=distribution, seed=seed)
        self.taps = check.positive_integer("taps", taps)
        self._given_seed = super().get_config()["seed"]

    @classmethod
    def like(cls, initializer: keras.initializers.VarianceScaling, taps: int) -> ConvolutionScaling:
        """Return `initializer` with other fans and the same seed, drawn or given."""
        found = cls(
            taps, initializer.scale, initializer.mode, initializer.distribution, initializer.seed
        )
        found._given_seed = initializer.get_config()["seed"]
        return found

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        """Draw a kernel."""
        *_, fan_in, outputs = shape
        fan_out = self.taps * outputs
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        # If the whole kernel is seen as one matrix, its fan is the number of rows.
        rows = math.prod(shape[:-1])
        initializer = keras.initializers.VarianceScaling(
            self.scale * rows / fans[self.mode], "fan_in", self.distribution, self.seed
        )
        return ops.reshape(initializer((rows, outputs), dtype=dtype), shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "taps": self.taps,
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            "seed": self._given_seed,
        }


def at_each_position(argument: str, initializer: Any, taps: int) -> Any:
    """Return an initializer that draws weights for each position as for a convolution.

    Args:
        argument: Name of the argument, for the message.
        initializer: A Keras initializer, or any callable of shape and dtype.
        taps: Number of taps of the kernel.

    Raises:
        ValueError: For `Orthogonal`, which has no meaning for many kernels at once.
    """
    check.require(
        not isinstance(initializer, keras.initializers.Orthogonal),
        argument,
        "an initializer that draws weights independently",
        initializer,
    )
    if isinstance(initializer, keras.initializers.VarianceScaling):
        return ConvolutionScaling.like(initializer, taps)
    return initializer
