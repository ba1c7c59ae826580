"""Nonlinear Hebbian learning: projection pursuit by one neuron."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint, UnitLength
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import Normaliser
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Reduction
from keras_local.plasticity.rule import PlasticityRule

_Function = Callable[[Tensor, float, float], Tensor]

Nonlinearity = Literal[
    "linear",
    "relu",
    "squared_relu",
    "quadratic",
    "cubic",
    "sigmoid",
    "sparse_coding",
    "soft_threshold",
    "bcm",
]

NONLINEARITIES: dict[str, _Function] = {
    "linear": lambda u, low, high: u,
    "relu": lambda u, low, high: ops.relu(u - low),
    "squared_relu": lambda u, low, high: ops.square(ops.relu(u - low)),
    "quadratic": lambda u, low, high: ops.relu(u - low) * (u - high),
    "cubic": lambda u, low, high: u * u * u,
    "sigmoid": lambda u, low, high: ops.sigmoid(u),
    "sparse_coding": lambda u, low, high: u - ops.tanh(u),
    "soft_threshold": lambda u, low, high: ops.sign(u) * ops.relu(ops.abs(u) - low),
    "bcm": lambda u, low, high: ops.relu(u) * (u - low),
}


@serializable
class NonlinearHebbian(PlasticityRule):
    """A nonlinear function of the current teaches: `dW_k = f(u_k) x`, with weights of length 1.

    The rule increases the mean of `F(W_k x)`, with `F' = f`. This is projection pursuit, in which
    the form of `f` matters little as long as it rewards heavy tails. Inputs have to be white and
    centred (`layers.ZCAWhitening`); otherwise units find the first principal component. Units learn
    independently; with the constraint `constraints.Orthogonal()` they find different directions.

    | nonlinearity | `f(u)` |
    |---|---|
    | `"linear"` | `u`, a control that selects nothing |
    | `"relu"` | `max(u - theta, 0)` |
    | `"squared_relu"` | `max(u - theta, 0)^2` |
    | `"quadratic"` | `max(u - theta, 0) (u - theta_2)`: weakens between the two thresholds |
    | `"cubic"` | `u^3` |
    | `"sigmoid"` | `1 / (1 + exp(-u))` |
    | `"sparse_coding"` | `u - tanh(u)` |
    | `"soft_threshold"` | `sign(u) max(abs(u) - theta, 0)` |
    | `"bcm"` | `max(u, 0) (u - theta)` |

    Local: it uses pre- and postsynaptic activity; a unit has to know the length of its weights.

    Args:
        nonlinearity: One of the names above.
        theta: First threshold, of nonlinearities that have one.
        theta_2: Second threshold of `"quadratic"`.
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `ConstantRate()` by default.
        constraint: What weights must obey after each step; `UnitLength()` by default.

    Raises:
        ValueError: For an unknown nonlinearity, a threshold that is not a number, or a part of the
            wrong kind.

    >>> import numpy as np
    >>> from keras_local.plasticity import NonlinearHebbian
    >>> np.asarray(NonlinearHebbian("quadratic").gains(np.array([[0.0, 1.5, 3.0]]))).tolist()
    [[-0.0, -0.25, 2.0]]

    Source: Brito & Gerstner 2016, "Nonlinear Hebbian learning as a unifying principle in receptive
    field formation"; the form of `"quadratic"` is our reading of its figure 7.
    """

    constraint: Constraint | None = UnitLength()

    def __init__(
        self,
        nonlinearity: Nonlinearity = "cubic",
        theta: float = 1.0,
        theta_2: float = 2.0,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate, constraint)
        self.nonlinearity: Nonlinearity = check.one_of(
            "nonlinearity", nonlinearity, tuple(NONLINEARITIES)
        )
        self.theta = check.real("theta", theta)
        self.theta_2 = check.real("theta_2", theta_2)

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return `f(u)`."""
        return NONLINEARITIES[self.nonlinearity](post, self.theta, self.theta_2)

    def decays(self, gains: Tensor, post: Tensor) -> None:
        """Return None: the constraint bounds the weights."""
        return

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "nonlinearity": self.nonlinearity,
            "theta": self.theta,
            "theta_2": self.theta_2,
            **self.parts_config(),
        }
