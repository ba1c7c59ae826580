"""The weight mirror: feedback weights learn the kernel from noise."""

from __future__ import annotations

from typing import Any

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.feedback.alignment_rule import AlignmentRule, Noise
from keras_local.feedback.primitives import Amplify, Decay, Regulariser


@serializable
class WeightMirror(AlignmentRule):
    """The feedback kernel learns from noise that is sent through the layer (WM).

    Independent zero-mean noise `xi` drives each layer. The layer responds with
    `y = f(M(xi, W) + b)`, and the feedback kernel learns by the product of both:
    `dB = decay B - amplify xi^T y`. For a linear response the mean of `xi^T y` is the noise's
    variance times `W`; a nonlinearity rescales it. In a convolution the product is divided by the
    number of positions.

    Local: it uses the product of pre- and postsynaptic activity, and a decay. With the layer's own
    inputs in place of noise (`noise=None`) `B` converges to the inputs' second moment times `W`,
    which is not aligned with `W`. It costs one more forward product and one product of activities.

    The decay keeps `B` bounded. To keep its norm equal to the kernel's, wrap the rule:
    `MatchedNorm(WeightMirror())`. `models.align(model, inputs)` runs a phase in which only the
    feedback kernels learn.

    Args:
        amplify: Rate of the product.
        decay: Rate of the decay.
        noise: The noise; normal with standard deviation 1 by default.
        centre: Whether the batch mean of the noise is subtracted: less variance, same mean.
        respond: Whether the response is computed with bias and activation.
        every: The feedback kernel learns in one of this many steps.
        update_forward: Whether the kernel learns by the same regulariser.

    Raises:
        ValueError: If a rate is negative, or another argument is invalid; the message names it.

    >>> import keras_local as kl
    >>> kl.layers.FeedbackDense(3, feedback="weight_mirror").feedback.noise.stddev
    1.0

    Source: Akrout et al. 2019, "Deep learning without weight transport"; as a sum of primitives in
    Kunin et al. 2020.
    """

    def __init__(
        self,
        amplify: float = 0.1,
        decay: float = 0.1,
        noise: Noise | None = Noise(),  # noqa: B008
        centre: bool = True,
        respond: bool = True,
        *,
        every: int = 1,
        update_forward: bool = False,
    ) -> None:
        self.amplify = check.real("amplify", amplify, minimum=0.0)
        self.decay = check.real("decay", decay, minimum=0.0)
        super().__init__(
            noise=noise,
            centre=centre,
            respond=respond,
            every=every,
            update_forward=update_forward,
        )

    @property
    def regulariser(self) -> Regulariser:
        """Return the regulariser, `amplify + decay`."""
        return Amplify(self.amplify) + Decay(self.decay)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"amplify": self.amplify, "decay": self.decay, **super().get_config()}
