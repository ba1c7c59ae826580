"""The asymmetric gradient: forward through one kernel, back through another."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import ops
from tests import oracles
from tests.support import BACKEND, array, tensorflow_only, value_and_gradients, whole_numbers

tensor = keras.ops.convert_to_tensor


class Through:
    """Errors return through the second of two weights; each gradient is another formula."""

    def error_kernel(self, kernel: Any, *feedback: Any) -> Any:
        return feedback[1]

    def kernel_gradient(self, signals: ops.Signals) -> Any:
        return signals.kernel_gradient

    def feedback_gradients(self, signals: ops.Signals) -> tuple[Any, ...]:
        return (
            3.0 * signals.kernel_gradient + signals.feedback[0],
            keras.ops.zeros_like(signals.feedback[1]) + keras.ops.sum(signals.outputs),
        )


class Silent(Through):
    """A rule may leave its own weights alone."""

    def feedback_gradients(self, signals: ops.Signals) -> tuple[Any, ...]:
        return None, None


MAPS = {
    "dense": (ops.Dense(), None, (4, 3), (3, 5)),
    "dense-3d": (ops.Dense(), None, (2, 2, 3), (3, 5)),
    "conv1d": (
        ops.Convolution((2,), "same", (1,)),
        oracles.Convolution((2,), "same", (1,)),
        (2, 7, 2),
        (3, 2, 3),
    ),
    "conv2d": (
        ops.Convolution((1, 1), "valid", (2, 1)),
        oracles.Convolution((1, 1), "valid", (2, 1)),
        (2, 5, 4, 2),
        (2, 3, 2, 3),
    ),
    "conv2d-grouped": (
        ops.Convolution((2, 2), "same", (1, 1)),
        oracles.Convolution((2, 2), "same", (1, 1)),
        (2, 5, 4, 4),
        (3, 3, 2, 2),
    ),
    "conv3d": (
        ops.Convolution((1, 1, 1), "same", (1, 1, 1)),
        oracles.Convolution((1, 1, 1), "same", (1, 1, 1)),
        (2, 3, 3, 2, 2),
        (2, 2, 2, 2, 2),
    ),
}


@pytest.fixture(params=MAPS)
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A map, its oracle's adjoints and the tensors that enter."""
    linear_map, oracle, input_shape, kernel_shape = MAPS[request.param]
    x, kernel = whole_numbers(input_shape, 1), whole_numbers(kernel_shape, 2)
    if oracle is None:
        outputs = oracles.dense(x, kernel)
        weights = whole_numbers(outputs.shape, 5)
        below = lambda error, k: oracles.dense_input_gradient(error, k)  # noqa: E731
        change = lambda error: oracles.dense_kernel_gradient(x, error)  # noqa: E731
    else:
        outputs = oracle.apply(x, kernel)
        weights = whole_numbers(outputs.shape, 5)
        below = lambda error, k: oracle.input_gradient(error, k, input_shape)  # noqa: E731
        change = lambda error: oracle.kernel_gradient(x, error, kernel_shape)  # noqa: E731
    return {
        "map": linear_map,
        "arrays": (x, kernel, whole_numbers(kernel_shape, 3), whole_numbers(kernel_shape, 4)),
        "outputs": outputs,
        "error": weights,
        "below": below,
        "change": change,
    }


def weighted(case: dict[str, Any], rule: Any) -> Any:
    """A scalar whose derivative at the outputs is `case["error"]`."""

    def function(x: Any, kernel: Any, first: Any, second: Any) -> Any:
        outputs = ops.asymmetric(case["map"], rule, x, kernel, (first, second))
        return keras.ops.sum(outputs * tensor(case["error"]))

    return function


def test_forward_is_the_plain_map(case: dict[str, Any]) -> None:
    x, kernel, *feedback = (tensor(a) for a in case["arrays"])
    outputs = ops.asymmetric(case["map"], Through(), x, kernel, tuple(feedback))
    np.testing.assert_array_equal(array(outputs), case["outputs"])
    np.testing.assert_array_equal(array(outputs), array(case["map"].apply(x, kernel)))


def test_backward_goes_through_the_error_kernel(case: dict[str, Any]) -> None:
    value, (below, change, first, second) = value_and_gradients(
        weighted(case, Through()), *case["arrays"]
    )
    _, kernel, one, two = case["arrays"]
    assert value == np.sum(case["outputs"] * case["error"])
    np.testing.assert_array_equal(below, case["below"](case["error"], two))
    assert np.abs(below - case["below"](case["error"], kernel)).max() > 1
    np.testing.assert_array_equal(change, case["change"](case["error"]))
    np.testing.assert_array_equal(first, 3.0 * case["change"](case["error"]) + one)
    np.testing.assert_array_equal(second, np.full_like(two, case["outputs"].sum()))


def test_rule_may_leave_its_weights_alone(case: dict[str, Any]) -> None:
    _, (_, change, first, second) = value_and_gradients(weighted(case, Silent()), *case["arrays"])
    np.testing.assert_array_equal(change, case["change"](case["error"]))
    assert not first.any()
    assert not second.any()


def test_two_maps_in_a_row() -> None:
    """The error of the upper map, sent through its error kernel, drives the lower map."""
    x, first, second, back = (
        whole_numbers(shape, seed) for seed, shape in enumerate([(3, 4), (4, 2), (2, 5), (2, 5)])
    )
    error = whole_numbers((3, 5), 9)

    def function(x: Any, first: Any, second: Any, back: Any) -> Any:
        hidden = ops.asymmetric(ops.Dense(), Through(), x, first, (first, first))
        outputs = ops.asymmetric(ops.Dense(), Through(), hidden, second, (back, back))
        return keras.ops.sum(outputs * tensor(error))

    _, (_, change, _, _) = value_and_gradients(function, x, first, second, back)
    # `first` also is its own feedback weight twice: 3 x the product, itself, and the output sum.
    delta = error @ back.T
    product = x.T @ delta
    own = 4.0 * product + first + (x @ first).sum()
    np.testing.assert_array_equal(change, own)


def test_the_forward_product_is_computed_once() -> None:
    """The map's `apply` runs once for value and gradient together."""
    calls = []

    class Counting(ops.LinearMap):
        def apply(self, inputs: Any, kernel: Any) -> Any:
            calls.append("apply")
            return keras.ops.matmul(inputs, kernel)

        def input_gradient(self, upstream: Any, kernel: Any, inputs: Any) -> Any:
            calls.append("input")
            return keras.ops.matmul(upstream, keras.ops.transpose(kernel))

        def kernel_gradient(self, inputs: Any, upstream: Any, kernel: Any) -> Any:
            calls.append("kernel")
            return keras.ops.matmul(keras.ops.transpose(inputs), upstream)

        def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
            return kernel_shape[0], kernel_shape[1]

    def function(x: Any, kernel: Any) -> Any:
        outputs = ops.asymmetric(Counting(), Silent(), x, kernel, (kernel, kernel))
        return keras.ops.sum(outputs)

    value_and_gradients(function, whole_numbers((2, 3)), whole_numbers((3, 2)))
    assert sorted(calls) == ["apply", "input", "kernel"]


@tensorflow_only
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_compiled_on_tensorflow(case: dict[str, Any], jit_compile: bool) -> None:
    import tensorflow as tf

    variables = [tf.Variable(a) for a in case["arrays"]]

    @tf.function(jit_compile=jit_compile)
    def step() -> Any:
        with tf.GradientTape() as tape:
            value = weighted(case, Through())(*variables)
        return tape.gradient(value, variables)

    below, change, first, _ = (array(g) for g in step())
    _, _, one, two = case["arrays"]
    np.testing.assert_array_equal(below, case["below"](case["error"], two))
    np.testing.assert_array_equal(change, case["change"](case["error"]))
    np.testing.assert_array_equal(first, 3.0 * case["change"](case["error"]) + one)


@pytest.mark.skipif(BACKEND != "jax", reason="needs JAX")
def test_compiled_on_jax(case: dict[str, Any]) -> None:
    import jax

    compiled = jax.jit(jax.grad(weighted(case, Through()), (0, 1, 2)))
    below, change, first = (array(g) for g in compiled(*case["arrays"]))
    _, _, one, two = case["arrays"]
    np.testing.assert_array_equal(below, case["below"](case["error"], two))
    np.testing.assert_array_equal(change, case["change"](case["error"]))
    np.testing.assert_array_equal(first, 3.0 * case["change"](case["error"]) + one)
