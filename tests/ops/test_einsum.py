"""The Einstein sum: against NumPy's, against its definition, against autodiff."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import ops
from tests.support import array, value_and_gradients, whole_numbers

# Sums of products of small integers have no rounding error: what differs is a wrong term.
EXACT = 1e-4

# Equation, the same without an ellipsis for NumPy, shape of the inputs, shape of the kernel.
CASES: dict[str, tuple[str, str, tuple[int, ...], tuple[int, ...]]] = {
    "dense": ("ab,bc->ac", "ab,bc->ac", (2, 3), (3, 4)),
    "transposed-kernel": ("ab,cb->ac", "ab,cb->ac", (2, 3), (4, 3)),
    "sequence": ("abc,cd->abd", "abc,cd->abd", (2, 3, 4), (4, 5)),
    "attention-in": ("abc,cde->abde", "abc,cde->abde", (2, 3, 4), (4, 2, 5)),
    "attention-out": ("abcd,cde->abe", "abcd,cde->abe", (2, 3, 2, 5), (2, 5, 4)),
    "over-the-sequence": ("abc,bd->acd", "abc,bd->acd", (2, 3, 4), (3, 5)),
    "axis-in-all": ("abc,acd->abd", "abc,acd->abd", (2, 3, 4), (2, 4, 5)),
    "locally-connected": ("abc,bcd->abd", "abc,bcd->abd", (2, 3, 4), (3, 4, 5)),
    "ellipsis-left": ("...x,xy->...y", "abx,xy->aby", (2, 3, 4), (4, 5)),
    "ellipsis-of-one": ("...x,xy->...y", "ax,xy->ay", (2, 4), (4, 5)),
    "ellipsis-of-three": ("...ab,bc->...ac", "xyzab,bc->xyzac", (2, 1, 3, 2, 4), (4, 5)),
    "ellipsis-of-none": ("...ab,bc->...ac", "ab,bc->ac", (2, 4), (4, 5)),
    "summed-input": ("abc,cd->ad", "abc,cd->ad", (2, 3, 4), (4, 5)),
    "summed-inputs-behind-ellipsis": ("...abc,cd->...d", "xabc,cd->xd", (2, 2, 3, 4), (4, 5)),
    "kernel-beside": ("abc,de->ade", "abc,de->ade", (2, 3, 4), (2, 3)),
    "ellipsis-right": ("ab...,bc->ac...", "abx,bc->acx", (2, 3, 4), (3, 5)),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[ops.Einsum, str, np.ndarray, np.ndarray]:
    equation, plain, inputs, kernel = CASES[request.param]
    return ops.Einsum(equation), plain, whole_numbers(inputs), whole_numbers(kernel, 1)


def inner(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(np.asarray(a, "float64") * np.asarray(b, "float64")))


@pytest.mark.few(8, rest="thorough")
def test_against_numpy(case: tuple[ops.Einsum, str, np.ndarray, np.ndarray]) -> None:
    ours, plain, x, kernel = case
    outputs = np.einsum(plain, x, kernel)
    error = whole_numbers(outputs.shape, 2)
    tensor = keras.ops.convert_to_tensor
    np.testing.assert_allclose(array(ours.apply(tensor(x), tensor(kernel))), outputs, atol=EXACT)
    below = array(ours.input_gradient(tensor(error), tensor(kernel), tensor(x)))
    change = array(ours.kernel_gradient(tensor(x), tensor(error), tensor(kernel)))
    # The definition, unit by unit: what a unit of the inputs and one of the kernel add.
    expected = [inner(error, np.einsum(plain, unit, kernel)) for unit in units(x.shape)]
    np.testing.assert_allclose(below.ravel(), expected, atol=EXACT)
    expected = [inner(error, np.einsum(plain, x, unit)) for unit in units(kernel.shape)]
    np.testing.assert_allclose(change.ravel(), expected, atol=EXACT)
    assert np.abs(change).max() > 1
    assert inner(below, x) == pytest.approx(inner(error, outputs), abs=EXACT)
    assert inner(change, kernel) == pytest.approx(inner(error, outputs), abs=EXACT)


def units(shape: tuple[int, ...]) -> np.ndarray:
    """All arrays of a shape with a single 1."""
    size = int(np.prod(shape))
    return np.eye(size, dtype="float32").reshape(size, *shape)


@pytest.mark.few(8, rest="thorough")
def test_against_autodiff(case: tuple[ops.Einsum, str, np.ndarray, np.ndarray]) -> None:
    ours, plain, x, kernel = case
    error = whole_numbers(np.einsum(plain, x, kernel).shape, 7)

    def objective(x: Any, kernel: Any) -> Any:
        outputs = keras.ops.einsum(ours.equation, x, kernel)
        return keras.ops.sum(outputs * keras.ops.convert_to_tensor(error))

    _, (below, change) = value_and_gradients(objective, x, kernel)
    x, kernel, error = (keras.ops.convert_to_tensor(a) for a in (x, kernel, error))
    np.testing.assert_allclose(array(ours.input_gradient(error, kernel, x)), below, atol=EXACT)
    np.testing.assert_allclose(array(ours.kernel_gradient(x, error, kernel)), change, atol=EXACT)


def test_fans(case: tuple[ops.Einsum, str, np.ndarray, np.ndarray]) -> None:
    """Counted: the inputs that reach one output, the outputs that one input reaches."""
    ours, plain, x, kernel = case
    before, behind = plain.split(",")
    if set(before) - set(behind):
        pytest.skip("what is summed without a weight counts as one input")
    ones = np.ones_like(kernel)
    reached = np.count_nonzero(np.einsum(plain, units(x.shape)[0], ones))
    outputs = np.einsum(plain, x, kernel).shape
    reaching = np.einsum(plain, np.ones_like(x), ones).ravel()[0]
    assert ours.fans(kernel.shape) == (reaching, reached), outputs


REFUSED = {
    "no-arrow": ("ab,bc", "an equation"),
    "three-operands": ("ab,bc,cd->ad", "an equation"),
    "blanks": ("ab, bc -> ac", "an equation"),
    "ellipsis-lost": ("...ab,bc->ac", "an equation"),
    "ellipsis-moved": ("...b,bc->c...", "an equation"),
    "ellipsis-on-both-sides": ("...b...,bc->...c...", "an equation"),
    "kernel-ellipsis": ("ab,b...->a...", "an equation"),
    "twice": ("aab,bc->ac", "each letter once in a term"),
    "summed-kernel": ("ab,bcd->ac", "two terms or three"),
    "new-output": ("ab,bc->acd", "two terms or three"),
    "number": (3, "an equation"),
    "none": (None, "an equation"),
}


@pytest.mark.parametrize(("equation", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(equation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"`equation` must be .*{message}.*Received") as refusal:
        ops.Einsum(equation)
    assert repr(equation) in str(refusal.value)
