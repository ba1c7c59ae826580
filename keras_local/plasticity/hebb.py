"""Plain Hebbian learning."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import Normaliser
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Reduction
from keras_local.plasticity.rule import PlasticityRule


@serializable
class Hebb(PlasticityRule):
    """Plain Hebbian learning: `dW_k = y_k x - decay W_k`, with `y = W x`.

    Without decay or a constraint the weights grow without bound, fastest along the leading
    direction of the inputs. All units learn in the same way: they differ only by their initial
    weights.

    Local: it uses pre- and postsynaptic activity, and the weight itself.

    Args:
        decay: Rate at which weights decay, at least 0.
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `ConstantRate()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: For a negative `decay`, or a part of the wrong kind.

    >>> import numpy as np
    >>> from keras_local.plasticity import Hebb
    >>> x, w = np.array([[1.0, 2.0]], "float32"), np.array([[1.0], [1.0]], "float32")
    >>> np.asarray(Hebb().update(x, w)).tolist()
    [[3.0], [6.0]]

    Source: Hebb 1949, "The organization of behavior", in the usual linear form.
    """

    def __init__(
        self,
        decay: float = 0.0,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate, constraint)
        self.decay = check.real("decay", decay, minimum=0.0)

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the activity."""
        return post

    def decays(self, gains: Tensor, post: Tensor) -> Tensor | None:
        """Return the same decay for all units."""
        return self.decay * ops.ones_like(post) if self.decay else None

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"decay": self.decay, **self.parts_config()}
