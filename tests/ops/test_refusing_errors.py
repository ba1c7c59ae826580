"""A tensor at which no error may arrive."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras import ops as keras_ops

from keras_local import ops
from tests.support import array, compiled, probe


def refuse(*signals: Any) -> None:
    raise ValueError("refused")


def product(inputs: Any, kernel: Any) -> Any:
    return keras_ops.sum(ops.refusing_errors(inputs, refuse) @ kernel)


def test_the_tensor_is_the_same() -> None:
    inputs = probe((2, 3))
    function = compiled(lambda inputs: ops.refusing_errors(inputs, refuse))
    np.testing.assert_array_equal(array(function(keras_ops.convert_to_tensor(inputs))), inputs)


def test_gradients_of_other_tensors() -> None:
    inputs = probe((2, 3))
    kernel = keras_ops.convert_to_tensor(probe((3, 4), 1))
    constant = keras_ops.convert_to_tensor(inputs)
    found = ops.gradients(lambda kernel: product(constant, kernel), [kernel])[0]
    expected = np.repeat(inputs.sum(0)[:, None], 4, axis=1)
    np.testing.assert_allclose(array(found), expected, rtol=1e-5)


@pytest.mark.parametrize("compile_it", [True, False])
def test_an_error_is_refused(compile_it: bool) -> None:
    kernel = keras_ops.convert_to_tensor(probe((3, 4), 1))

    def gradient(inputs: Any) -> Any:
        # A layer below: the error is on its way to the layer's weights.
        return ops.gradients(lambda below: product(keras_ops.tanh(below), kernel), [inputs])[0]

    function = compiled(gradient) if compile_it else gradient
    with pytest.raises(ValueError, match="refused"):
        function(keras_ops.convert_to_tensor(probe((2, 3))))
