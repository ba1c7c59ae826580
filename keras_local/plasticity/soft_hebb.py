"""SoftHebb: soft competition with anti-Hebbian losers."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint
from keras_local.ops.backend import Tensor
from keras_local.ops.precision import precise
from keras_local.plasticity.normaliser import MaxAbs, Normaliser
from keras_local.plasticity.rate import NormDistance, RatePolicy
from keras_local.plasticity.reduction import Reduction, Sum
from keras_local.plasticity.rule import PlasticityRule

# For inputs of length 1, SoftHebb finds clusters with a beta of 4 and none with 1.
_STEEP = 2.0


@serializable
class SoftHebb(PlasticityRule):
    """Soft winner-take-all whose losers learn against the Hebbian direction.

    For currents `u`, in a convolution at each position:

        y = softmax(beta u)
        G_k = y_k for the winner, -y_k for all others
        dW_k = sum_b G_bk (x_b - u_bk W_k)
        W_k += step_size * | |W_k| - 1 |^q * dW_k / max|dW|

    With `anti_hebbian=False`, `G = y` for all units, and the norm of every unit converges to 1.
    With `anti_hebbian=True`, a unit that never wins need not reach it. `beta` is relative to the
    length of the inputs: for inputs of length 1 it has to be large (about 4 to 12), for normalised
    patches of 75 inputs about 1. Units win together if their currents differ by less than a
    millionth.

    Local: it uses the input, and the unit's own current and weights; the softmax represents
    inhibition among the units. Not local: the scalar `max|dW|`, which is common to the layer.

    Args:
        beta: Inverse temperature of the softmax, positive.
        anti_hebbian: Whether losers learn against the Hebbian direction.
        reduction: How changes are reduced over samples; `Sum()` by default.
        normaliser: How the size of a change is bounded; `MaxAbs()` by default.
        rate: How the step size depends on time and weights; `NormDistance(0.5)` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: If `beta` is not positive, or a part is of the wrong kind.

    >>> import numpy as np
    >>> from keras import ops
    >>> from keras_local.plasticity import SoftHebb
    >>> currents = ops.log([[1.0, 2.0, 5.0]])
    >>> np.asarray(SoftHebb(beta=1.0).gains(currents)).round(4).tolist()
    [[-0.125, -0.25, 0.625]]

    Source: Moraitis et al. 2022, "SoftHebb"; Journe et al. 2023, "Hebbian deep learning without
    feedback", in the form of the authors' code.
    """

    reduction = Sum()
    normaliser = MaxAbs()
    rate = NormDistance(0.5)

    def __init__(
        self,
        beta: float = 1.0,
        anti_hebbian: bool = True,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate, constraint)
        self.beta = check.real("beta", beta, minimum=0.0, exclusive=True)
        self.anti_hebbian = check.flag("anti_hebbian", anti_hebbian)

    @property
    def norm_exponent(self) -> float:
        """Return 2: units converge to length 1."""
        return 2.0

    @property
    def every_unit_converges(self) -> bool:
        """Return whether losers are Hebbian: otherwise units that never win need not converge."""
        return not self.anti_hebbian

    def advice(self, input_length: float) -> str | None:
        """Return a warning if the softmax is too flat to tell the winner from the others."""
        contrast = self.beta * input_length
        if contrast >= _STEEP:
            return None
        return (
            f"The competition is nearly flat: `beta` times the length of the inputs is "
            f"{contrast:.3g}, and units of length 1 hardly differ. Scale the inputs up, by batch "
            f"normalisation for example, or give `SoftHebb` a `beta` of at least "
            f"{_STEEP / max(input_length, 1e-30):.3g}."
        )

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the softmax, with the sign of the losers reversed."""
        post = ops.cast(post, precise(post.dtype))
        shares = ops.softmax(self.beta * post, axis=-1)
        if not self.anti_hebbian:
            return shares
        # Compilers may round a current differently in the difference and in the maximum; hence the
        # margin. Comparing and selecting would take more passes over the currents.
        largest = ops.max(post, axis=-1, keepdims=True)
        margin = 1e-6 * ops.abs(largest) + 1e-30
        return shares * ops.sign(post - (largest - margin))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"beta": self.beta, "anti_hebbian": self.anti_hebbian, **self.parts_config()}
