"""Activation alignment: feedback weights learn the projection of the forward weights."""

from __future__ import annotations

from typing import Any

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.feedback.alignment_rule import AlignmentRule, Noise
from keras_local.feedback.primitives import Amplify, Regulariser, Sparsify


@serializable
class ActivationAlignment(AlignmentRule):
    """The feedback weights learn to project the inputs like the kernel (AA).

    `R = sparsify / 2 mean |u|^2 - amplify mean <u, z>` with `z = M(x, W)`, `u = M(x, B)`, and
    therefore `dB = x^T (sparsify u - amplify z)`. For a frozen kernel and inputs of full rank `B`
    converges to `amplify / sparsify W`, which is `W` itself by default. It converges slowest along
    the directions in which the inputs vary least.

    Not local: a synapse would have to know the inputs of the other synapses of its neuron. It costs
    one more forward product and one product of activities.

    The step is stable while `learning_rate * sparsify * v < 2`, with `v` the largest eigenvalue of
    the inputs' second moment (of patches, in a convolution).

    Args:
        sparsify: Rate of the term `|u|^2`.
        amplify: Rate of the term `<u, z>`.
        noise: Noise that drives the layer, as in `AlignmentRule`.
        centre: Whether the mean over the batch is subtracted from the inputs.
        respond: Whether the outputs are computed with bias and activation.
        every: The feedback kernel learns in one of this many steps.
        update_forward: Whether the kernel learns by the same regulariser.

    Raises:
        ValueError: If a rate is negative, or another argument is invalid; the message names it.

    >>> import keras_local as kl
    >>> kl.layers.FeedbackDense(3, feedback="activation_alignment").feedback.amplify
    0.01

    Source: Kunin et al. 2020, "Two routes to scalable credit assignment without weight symmetry".
    """

    def __init__(
        self,
        sparsify: float = 0.01,
        amplify: float = 0.01,
        *,
        noise: Noise | None = None,
        centre: bool = False,
        respond: bool = False,
        every: int = 1,
        update_forward: bool = False,
    ) -> None:
        self.sparsify = check.real("sparsify", sparsify, minimum=0.0)
        self.amplify = check.real("amplify", amplify, minimum=0.0)
        super().__init__(
            noise=noise,
            centre=centre,
            respond=respond,
            every=every,
            update_forward=update_forward,
        )

    @property
    def regulariser(self) -> Regulariser:
        """Return the regulariser, `sparsify + amplify`."""
        return Sparsify(self.sparsify) + Amplify(self.amplify)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"sparsify": self.sparsify, "amplify": self.amplify, **super().get_config()}
