"""A rule that multiplies the input by a third factor."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_local._serialization import serializable
from keras_local.ops.backend import Tensor
from keras_local.plasticity.rule import PlasticityRule


@serializable
class ThirdFactor(PlasticityRule):
    """Input times modulator: `dW_k = mean_b m_bk x_b`, with `m` given in the layer's call.

    The modulator determines which rule this is:

    * `target - y`: the delta rule, least squares;
    * `f'(u) (e B)`, an error through fixed random weights: feedback alignment; through the
      weights of the layer above: backpropagation;
    * `(R - baseline) xi / sigma^2`, for noise `xi` of standard deviation `sigma` that was added to
      the units, and the reward `R` that followed: node perturbation (REINFORCE).

    Without a modulator the layer does not learn.

    Local: it uses the input and the signal that reaches the unit.

    Args:
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `ConstantRate()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: If a part is of the wrong kind.

    >>> import numpy as np
    >>> from keras_local.plasticity import ThirdFactor
    >>> x, w = np.array([[1.0, 2.0]], "float32"), np.zeros((2, 1), "float32")
    >>> error = np.array([[3.0]], "float32")
    >>> np.asarray(ThirdFactor().update(x, w, modulator=error)).tolist()
    [[3.0], [6.0]]

    Source: node perturbation is Williams 1992, "Simple statistical gradient-following algorithms
    for connectionist reinforcement learning".
    """

    needs_modulator = True

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return 1: only the modulator differs between samples."""
        return ops.ones_like(post)

    def decays(self, gains: Tensor, post: Tensor) -> None:
        """Return None: there is no decay."""
        return

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return self.parts_config()
