"""Sign symmetry: the error returns through the signs of the kernel."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.feedback.rule import FeedbackRule, FeedbackWeight, Initializer, RuleContext
from keras_local.ops.backend import Tensor


@serializable
class SignSymmetry(FeedbackRule):
    """The error returns through weights that have the kernel's signs but other magnitudes.

    `delta_(l-1) = (delta_l (|M| * sign(W))^T) * f'`

    Partly local: the feedback synapse has to know one bit of the forward weight, its sign, but not
    its magnitude. A weight of exactly 0 carries no error, so a layer whose kernel starts at zero
    never learns to send one.

    Args:
        magnitude: `"uniform"`: all magnitudes equal `scale` (uSF); `"fixed"`: they are drawn once
            from the layer's `feedback_initializer` (frSF); `"batchwise"`: they are drawn from it
            again in each training step (brSF).
        scale: The magnitude of `"uniform"`; None for the standard deviation of Glorot's
            initializer, `sqrt(2 / (fan_in + fan_out))`.

    Raises:
        ValueError: If `magnitude` is unknown, or `scale` is not positive or given without use.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackDense(2, feedback=kl.feedback.SignSymmetry(scale=0.5))
    >>> layer.build((None, 2))
    >>> _ = layer.kernel.assign([[1.0, -2.0], [3.0, 0.0]])
    >>> np.asarray(layer.feedback_kernel).tolist()
    [[0.5, -0.5], [0.5, 0.0]]

    Source: Liao, Leibo & Poggio 2016, "How important is weight symmetry in backpropagation?"; the
    names follow Sanfiz & Akrout 2021.
    """

    def __init__(
        self,
        magnitude: Literal["uniform", "batchwise", "fixed"] = "uniform",
        scale: float | None = None,
    ) -> None:
        self.magnitude: str = check.one_of(
            "magnitude", magnitude, ("uniform", "batchwise", "fixed")
        )
        if scale is not None:
            check.require(
                magnitude == "uniform", "scale", f"None with magnitude={magnitude!r}", scale
            )
            scale = check.real("scale", scale, minimum=0.0, exclusive=True)
        self.scale = scale

    @property
    def draws(self) -> bool:
        """Return whether magnitudes are drawn in each step."""
        return bool(self.magnitude == "batchwise")

    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """Declare the magnitudes if they are fixed."""
        if self.magnitude != "fixed":
            return []

        def magnitudes(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
            return ops.abs(initializer(shape, dtype=dtype))

        shape = tuple(kernel.shape)
        return [FeedbackWeight("feedback_magnitude", shape, magnitudes, False)]

    def signals(self, synapses: RuleContext, training: bool | None) -> tuple[Tensor, ...]:
        """Return the magnitudes; outside training, one scale replaces those drawn each step."""
        if self.magnitude == "fixed":
            return synapses.feedback
        if self.magnitude == "batchwise" and training and synapses.draw_kernel is not None:
            return (ops.abs(synapses.draw_kernel()),)
        scale = self.scale
        if scale is None:
            scale = (2.0 / sum(synapses.linear_map.fans(tuple(synapses.kernel.shape)))) ** 0.5
        # `cast` would first round a number to single precision.
        return (ops.convert_to_tensor(scale, dtype=synapses.kernel.dtype),)

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """Return `|M| * sign(W)`."""
        return feedback[0] * ops.sign(kernel)

    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Return the magnitudes of a kernel of the same signs."""
        if self.magnitude != "fixed":
            raise ValueError(
                f"SignSymmetry(magnitude={self.magnitude!r}) has no feedback kernel to assign: it "
                "follows from `kernel`."
            )
        same = ops.all(ops.sign(feedback_kernel) == ops.sign(kernel))
        check.require(bool(same), "value", "of the kernel's signs", "other signs")
        return [ops.abs(feedback_kernel)]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"magnitude": self.magnitude, "scale": self.scale}
