"""Gradients of blocks with losses of their own, against derivatives by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.ops.blocks import Part, cut, in_blocks
from tests.support import BACKEND, array

X = np.array([1.0, 2.0, -3.0], "float32")


def variable(value: float) -> keras.Variable:
    return keras.Variable(np.float32(value))


@pytest.mark.skipif(BACKEND == "jax", reason="JAX takes the gradient of the sum on a cut graph")
def test_each_block_gets_the_gradient_of_its_own_loss() -> None:
    """y = a x with the loss y^2, z = b y with the loss z: da = 2 a x^2, db = y, and no more."""
    low, middle, high = variable(2.0), variable(5.0), variable(0.5)
    inputs = ops.convert_to_tensor(X)

    def first(x):
        y = x * ops.convert_to_tensor(low)
        return y, ops.sum(ops.square(y))

    def silent(y):
        return y * ops.convert_to_tensor(middle), None

    def last(y):
        z = y * ops.convert_to_tensor(high)
        return z, ops.sum(z)

    parts = [Part(first, [low]), Part(silent, [middle]), Part(last, [high])]
    outputs, gradients = in_blocks(parts, inputs)
    np.testing.assert_allclose(array(outputs), 2.0 * 5.0 * 0.5 * X)
    assert [len(each) for each in gradients] == [1, 1, 1]
    assert array(gradients[0][0]) == pytest.approx(2 * 2.0 * np.sum(X**2))
    assert gradients[1] == [None]
    assert array(gradients[2][0]) == pytest.approx(2.0 * 5.0 * np.sum(X))


def test_a_cut_keeps_the_mask() -> None:
    tensor = ops.convert_to_tensor(X)
    mask = ops.convert_to_tensor(X > 0)
    tensor._keras_mask = mask
    np.testing.assert_array_equal(array(cut(tensor)), X)
    np.testing.assert_array_equal(array(cut(tensor)._keras_mask), X > 0)
