"""The Einstein sum of inputs and kernel."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from dataclasses import dataclass

from keras import ops

from keras_local import _validation as check
from keras_local.ops.backend import Tensor
from keras_local.ops.linear_maps import LinearMap

_FORM = re.compile(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?")


@dataclass(frozen=True)
class Einsum(LinearMap):
    """The map `y = einsum(equation, x, kernel)`, as in `keras.layers.EinsumDense`.

    Both adjoints are Einstein sums with the three terms of the equation exchanged: `"ab,bc->ac"`
    sends errors down by `"ac,bc->ab"` and compares by `"ab,ac->bc"`. An ellipsis means all axes of
    the inputs that are not named. The inputs are summed without a weight over a letter that only
    they have.

    Args:
        equation: `"x,k->y"`, `"...x,k->...y"` or `"x...,k->y..."` where `x`, `k` and `y` are the
            axes of inputs, kernel and outputs, one letter each.

    Raises:
        ValueError: For another form, a letter that is twice in one term, and a letter of kernel or
            outputs that is in only one term.

    >>> import numpy as np
    >>> from keras_local import ops
    >>> ops.Einsum("...x,xy->...y").apply(np.ones((2, 5, 3)), np.ones((3, 4))).shape[-1]
    4
    """

    equation: str

    def __post_init__(self) -> None:
        """Refuse an equation whose adjoints are not Einstein sums."""
        form = "an equation 'x,k->y', '...x,k->...y' or 'x...,k->y...'"
        match = _FORM.fullmatch(self.equation) if isinstance(self.equation, str) else None
        check.require(match is not None, "equation", form, self.equation)
        before, inputs, behind, kernel, out_before, outputs, out_behind = (
            match.groups() if match else ("",) * 7
        )
        elided = (before, behind) == (out_before, out_behind) and not (before and behind)
        check.require(elided, "equation", form, self.equation)
        once = all(len(set(term)) == len(term) for term in (inputs, kernel, outputs))
        check.require(once, "equation", f"{form} with each letter once in a term", self.equation)
        count = Counter(inputs + kernel + outputs)
        check.require(
            all(count[letter] > 1 for letter in kernel + outputs),
            "equation",
            f"{form} with each letter of kernel and outputs in two terms or three",
            self.equation,
        )

    def apply(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return `einsum(equation, inputs, kernel)`."""
        return ops.einsum(self.equation, inputs, kernel)

    def input_gradient(self, upstream: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
        """Return the sum over the axes of the outputs."""
        x, k, y = self._terms(len(inputs.shape))
        summed = [place for place, letter in enumerate(x) if letter not in y + k]
        if not summed:
            return ops.einsum(f"{y},{k}->{x}", upstream, kernel)
        kept = "".join(letter for letter in x if letter in y + k)
        error = ops.einsum(f"{y},{k}->{kept}", upstream, kernel)
        # Each of the inputs that are summed without a weight gets the error of their sum.
        return ops.broadcast_to(ops.expand_dims(error, summed), ops.shape(inputs))

    def kernel_gradient(self, inputs: Tensor, upstream: Tensor, kernel: Tensor) -> Tensor:
        """Return the product of activity and error, summed over the axes that the kernel lacks."""
        x, k, y = self._terms(len(inputs.shape))
        return ops.einsum(f"{x},{y}->{k}", inputs, upstream)

    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the sizes of the kernel axes that outputs lack, and of those that inputs lack.

        Inputs that are summed without a weight count as one.
        """
        x, k, y = re.findall(r"[a-zA-Z]+", self.equation)
        sizes = dict(zip(k, kernel_shape, strict=True))
        return (
            math.prod(size for axis, size in sizes.items() if axis not in y),
            math.prod(size for axis, size in sizes.items() if axis not in x),
        )

    def _terms(self, rank: int) -> tuple[str, str, str]:
        """Return the three terms, with a letter for each axis of an ellipsis."""
        named = re.findall(r"[a-zA-Z]+", self.equation)
        free = [letter for letter in string.ascii_letters if letter not in self.equation]
        elided = "".join(free[: rank - len(named[0])])
        x, k, y = re.split(",|->", self.equation.replace("...", elided))
        return x, k, y
