"""A rule made of products of a function of post and a function of pre."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import activations, ops

from keras_local import _keras_objects as objects
from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import Activation
from keras_local.constraints import Constraint
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import Normaliser
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Reduction
from keras_local.plasticity.rule import DENSE, PlasticityRule


@serializable
class SeparableRule(PlasticityRule):
    """A sum of products: `dW_ik = mean_b m_b sum_r c_r a_r(u_bk) b_r(x_bi) - decay W_ik`.

    Each term costs one matrix product. Use it to write such a rule without a class of your own.

    Local: it uses pre- and postsynaptic activity, the weight itself, and the modulator if there is
    one.

    Args:
        terms: Tuples `(c_r, a_r, b_r)` of a number, a function of the currents and a function of
            the inputs: names of Keras activations, or registered functions.
        decay: Rate at which weights decay, at least 0.
        reduction: How changes are reduced over samples; `Mean()` by default.
        normaliser: How the size of a change is bounded; none by default.
        rate: How the step size depends on time and weights; `ConstantRate()` by default.
        constraint: What weights must obey after each step; none by default.

    Raises:
        ValueError: For no terms, a term of another form, an unknown function, a negative decay, or
            a part of the wrong kind.

    >>> import numpy as np
    >>> from keras_local.plasticity import SeparableRule
    >>> rule = SeparableRule([(1.0, "relu", "linear"), (-0.5, "linear", "relu")])
    >>> x, w = np.array([[1.0, -2.0]], "float32"), np.array([[2.0], [0.0]], "float32")
    >>> np.asarray(rule.update(x, w)).tolist()
    [[1.0], [-4.0]]
    """

    def __init__(
        self,
        terms: Sequence[tuple[float, Activation, Activation]],
        decay: float = 0.0,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(reduction, normaliser, rate, constraint)
        form = "one or more tuples of a number, a function of post and a function of pre"
        valid = check.is_sequence(terms) and len(terms) > 0
        valid = valid and all(check.is_sequence(term) and len(term) == 3 for term in terms)
        check.require(valid, "terms", form, terms)
        self.terms = [
            (
                check.real("terms", factor),
                objects.activation("terms", post),
                objects.activation("terms", pre),
            )
            for factor, post, pre in terms
        ]
        self.decay = check.real("decay", decay, minimum=0.0)

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the gains of the first term; `change` uses all terms."""
        factor, function, _ = self.terms[0]
        return factor * function(post)

    def change(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> Tensor:
        """Return the sum of the terms' products, minus the decay."""
        change = 0.0
        for factor, of_post, of_pre in self.terms:
            gains = factor * of_post(post)
            gains = gains if modulator is None else gains * modulator
            change = change + linear_map.kernel_gradient(of_pre(pre), gains, kernel)
        if self.decay == 0.0:
            return change
        return change - self.decay * kernel * linear_map.unit_sum(ops.ones_like(post))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        terms = [
            (factor, activations.serialize(post), activations.serialize(pre))
            for factor, post, pre in self.terms
        ]
        return {"terms": terms, "decay": self.decay, **self.parts_config()}
