"""The depthwise convolution: against loops, against its definition, against autodiff."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import ops
from tests import oracles
from tests.support import BACKEND, array, value_and_gradients, whole_numbers

# Sums of products of small integers have no rounding error: what differs is a wrong term.
EXACT = 1e-4


@dataclass(frozen=True)
class Case:
    """Arguments and shapes of one depthwise convolution."""

    sizes: tuple[int, ...]
    taps: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    channels: int
    multiplier: int
    channels_first: bool = False

    @property
    def ours(self) -> ops.DepthwiseConvolution:
        form = "channels_first" if self.channels_first else "channels_last"
        return ops.DepthwiseConvolution(self.strides, self.padding, self.dilation, form)

    def tensors(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        shape = (
            (self.channels, *self.sizes) if self.channels_first else (*self.sizes, self.channels)
        )
        x = whole_numbers((2, *shape), seed)
        return x, whole_numbers((*self.taps, self.channels, self.multiplier), seed + 1)

    def skip_where_stock_fails(self) -> None:
        try:
            array(self.ours.apply(*self.tensors()))
        except Exception as error:
            pytest.skip(f"{BACKEND} has no such depthwise convolution: {type(error).__name__}")


CASES = {
    "1d": Case((7,), (3,), (1,), (1,), "valid", 3, 2),
    "1d-same-stride": Case((8,), (3,), (2,), (1,), "same", 3, 1),
    "1d-dilated": Case((9,), (3,), (1,), (3,), "same", 2, 2),
    "1d-strided-dilated": Case((9,), (2,), (2,), (3,), "same", 2, 2),
    "2d": Case((5, 6), (3, 2), (1, 1), (1, 1), "valid", 3, 1),
    "2d-same": Case((5, 6), (3, 3), (1, 1), (1, 1), "same", 2, 3),
    "2d-same-stride-even": Case((6, 6), (3, 3), (2, 2), (1, 1), "same", 2, 2),
    "2d-tap-beyond-stride": Case((7, 8), (2, 1), (3, 3), (1, 1), "valid", 2, 1),
    "2d-unequal": Case((6, 7), (2, 3), (1, 2), (1, 1), "same", 2, 2),
    "2d-dilated": Case((7, 7), (3, 2), (1, 1), (2, 1), "valid", 2, 2),
    "2d-dilated-same": Case((7, 6), (3, 2), (1, 1), (2, 3), "same", 2, 1),
    "2d-strided-dilated": Case((8, 7), (3, 2), (2, 2), (2, 2), "same", 2, 2),
    "2d-strided-dilated-valid": Case((8, 9), (3, 2), (2, 2), (1, 3), "valid", 1, 2),
    "2d-one-channel": Case((5, 5), (2, 2), (2, 2), (1, 1), "valid", 1, 3),
}


@pytest.fixture(params=[*CASES, *(f"{name}-channels-first" for name in CASES)])
def case(request: pytest.FixtureRequest) -> Case:
    name = request.param.removesuffix("-channels-first")
    case = replace(CASES[name], channels_first=name != request.param)
    case.skip_where_stock_fails()
    return case


def inner(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(np.asarray(a, "float64") * np.asarray(b, "float64")))


@pytest.mark.few(10, rest="thorough")
def test_against_loops(case: Case) -> None:
    """As a convolution with a group for each channel."""
    x, kernel = case.tensors()
    flat = (*case.taps, 1, case.channels * case.multiplier)
    oracle = oracles.Convolution(case.strides, case.padding, case.dilation, case.channels_first)
    outputs = oracle.apply(x, kernel.reshape(flat))
    error = whole_numbers(outputs.shape, 2)
    tensor = keras.ops.convert_to_tensor
    np.testing.assert_allclose(
        array(case.ours.apply(tensor(x), tensor(kernel))), outputs, atol=EXACT
    )
    below = array(case.ours.input_gradient(tensor(error), tensor(kernel), tensor(x)))
    expected = oracle.input_gradient(error, kernel.reshape(flat), x.shape)
    np.testing.assert_allclose(below, expected, atol=EXACT)
    change = array(case.ours.kernel_gradient(tensor(x), tensor(error), tensor(kernel)))
    expected = oracle.kernel_gradient(x, error, flat).reshape(kernel.shape)
    np.testing.assert_allclose(change, expected, atol=EXACT)
    assert np.abs(expected).max() > 1
    assert inner(below, x) == pytest.approx(inner(error, outputs), abs=EXACT)
    assert inner(change, kernel) == pytest.approx(inner(error, outputs), abs=EXACT)


@pytest.mark.few(10, rest="thorough")
def test_against_autodiff(case: Case) -> None:
    x, kernel = case.tensors(5)
    error = whole_numbers(array(case.ours.apply(x, kernel)).shape, 7)

    def objective(x: Any, kernel: Any) -> Any:
        outputs = keras.ops.depthwise_conv(
            x,
            kernel,
            case.strides,
            case.padding,
            case.ours.data_format,
            case.dilation,
        )
        return keras.ops.sum(outputs * keras.ops.convert_to_tensor(error))

    _, (below, change) = value_and_gradients(objective, x, kernel)
    x, kernel, error = (keras.ops.convert_to_tensor(a) for a in (x, kernel, error))
    np.testing.assert_allclose(array(case.ours.input_gradient(error, kernel, x)), below, atol=EXACT)
    np.testing.assert_allclose(
        array(case.ours.kernel_gradient(x, error, kernel)), change, atol=EXACT
    )


@pytest.mark.parametrize("name", ["2d-same", "2d-dilated"])
def test_adjoints_read_only_the_shape_of_their_template(name: str) -> None:
    case = CASES[name]
    x, kernel = (keras.ops.convert_to_tensor(a) for a in case.tensors())
    error = keras.ops.ones_like(case.ours.apply(x, kernel))
    nan = float("nan")
    assert np.isfinite(array(case.ours.input_gradient(error, kernel, x * nan))).all()
    assert np.isfinite(array(case.ours.kernel_gradient(x, error, kernel * nan))).all()


def test_fans() -> None:
    """Counted: the inputs that reach one output, the outputs that one input reaches."""
    depthwise = ops.DepthwiseConvolution((1, 1), "valid", (1, 1))
    x, kernel = np.zeros((1, 7, 7, 3), "float32"), np.ones((2, 3, 3, 4), "float32")
    x[0, 3, 3, 1] = 1
    reached = int(array(depthwise.apply(x, kernel)).sum())
    error = np.zeros((1, 6, 5, 12), "float32")
    error[0, 3, 2, 7] = 1
    reaching = int(array(depthwise.input_gradient(*map(keras.ops.array, (error, kernel, x)))).sum())
    assert depthwise.fans(kernel.shape) == (reaching, reached) == (6, 24)
