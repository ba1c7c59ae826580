"""The transposed convolution: against loops, against its definition, against autodiff."""

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
    """Arguments and shapes of one transposed convolution; `sizes` and `outputs` in space."""

    sizes: tuple[int, ...]
    outputs: tuple[int, ...]
    taps: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    channels: tuple[int, int]
    output_padding: tuple[int, ...] | None = None
    channels_first: bool = False

    @property
    def ours(self) -> ops.TransposedConvolution:
        form = "channels_first" if self.channels_first else "channels_last"
        return ops.TransposedConvolution(
            self.strides, self.padding, self.dilation, form, self.output_padding
        )

    def shape(self, sizes: tuple[int, ...], channels: int) -> tuple[int, ...]:
        return (2, channels, *sizes) if self.channels_first else (2, *sizes, channels)

    def tensors(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs, kernel and error."""
        before, behind = self.channels
        return (
            whole_numbers(self.shape(self.sizes, before), seed),
            whole_numbers((*self.taps, behind, before), seed + 1),
            whole_numbers(self.shape(self.outputs, behind), seed + 2),
        )

    def skip_where_stock_fails(self) -> None:
        try:
            array(self.ours.apply(*self.tensors()[:2]))
        except Exception as error:
            pytest.skip(f"{BACKEND} has no such convolution: {type(error).__name__}")


CASES = {
    "1d": Case((5,), (7,), (3,), (1,), (1,), "valid", (3, 2)),
    "1d-same-stride": Case((4,), (8,), (3,), (2,), (1,), "same", (3, 2)),
    "1d-tap-beyond-stride": Case((4,), (12,), (2,), (3,), (1,), "valid", (2, 3)),
    "2d": Case((4, 3), (6, 4), (3, 2), (1, 1), (1, 1), "valid", (3, 2)),
    "2d-same": Case((4, 3), (4, 3), (3, 2), (1, 1), (1, 1), "same", (2, 3)),
    "2d-same-stride": Case((3, 4), (6, 8), (3, 3), (2, 2), (1, 1), "same", (2, 3)),
    "2d-same-stride-even": Case((3, 4), (6, 12), (4, 4), (2, 3), (1, 1), "same", (2, 2)),
    "2d-same-tap-beyond-stride": Case((3, 2), (9, 4), (2, 1), (3, 2), (1, 1), "same", (2, 2)),
    "2d-stride": Case((3, 4), (7, 9), (3, 3), (2, 2), (1, 1), "valid", (1, 2)),
    "2d-tap-beyond-stride": Case((3, 2), (9, 4), (2, 1), (3, 2), (1, 1), "valid", (2, 2)),
    "2d-output-padding": Case((3, 4), (8, 8), (3, 2), (2, 2), (1, 1), "valid", (2, 2), (1, 0)),
    "2d-same-output-padding": Case((3, 4), (5, 8), (3, 3), (2, 2), (1, 1), "same", (2, 2), (0, 1)),
    "2d-same-output-padding-wide": Case(
        (3, 3), (8, 9), (5, 4), (3, 4), (1, 1), "same", (2, 1), (1, 1)
    ),
    "2d-dilated": Case((4, 4), (8, 5), (3, 2), (1, 1), (2, 1), "valid", (2, 2)),
    "2d-dilated-same": Case((4, 5), (4, 5), (3, 2), (1, 1), (2, 3), "same", (2, 2)),
    "3d-same-stride": Case((2, 2, 3), (4, 4, 3), (3, 2, 3), (2, 2, 1), (1,) * 3, "same", (2, 1)),
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
    """As the adjoint of the convolution that leads from the outputs to the inputs."""
    x, kernel, error = case.tensors()
    oracle = oracles.Convolution(case.strides, case.padding, case.dilation, case.channels_first)
    expected = oracle.apply(error, kernel)
    assert expected.shape == x.shape
    outputs = oracle.input_gradient(x, kernel, error.shape)
    tensor = keras.ops.convert_to_tensor
    np.testing.assert_allclose(
        array(case.ours.apply(tensor(x), tensor(kernel))), outputs, atol=EXACT
    )
    below = array(case.ours.input_gradient(tensor(error), tensor(kernel), tensor(x)))
    np.testing.assert_allclose(below, expected, atol=EXACT)
    change = array(case.ours.kernel_gradient(tensor(x), tensor(error), tensor(kernel)))
    expected = oracle.kernel_gradient(error, x, kernel.shape)
    np.testing.assert_allclose(change, expected, atol=EXACT)
    assert np.abs(expected).max() > 1
    assert inner(below, x) == pytest.approx(inner(error, outputs), abs=EXACT)
    assert inner(change, kernel) == pytest.approx(inner(error, outputs), abs=EXACT)


@pytest.mark.few(10, rest="thorough")
def test_against_autodiff(case: Case) -> None:
    x, kernel, error = case.tensors(5)

    def objective(x: Any, kernel: Any) -> Any:
        outputs = keras.ops.conv_transpose(
            x,
            kernel,
            list(case.strides),
            case.padding,
            case.output_padding,
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


def test_adjoints_read_only_the_shape_of_their_template() -> None:
    case = CASES["2d-same-stride"]
    x, kernel, error = (keras.ops.convert_to_tensor(a) for a in case.tensors())
    nan = float("nan")
    assert np.isfinite(array(case.ours.input_gradient(error, kernel, x * nan))).all()
    assert np.isfinite(array(case.ours.kernel_gradient(x, error, kernel * nan))).all()


def test_fans() -> None:
    """Counted: the inputs that reach one output, the outputs that one input reaches."""
    transposed = ops.TransposedConvolution((1, 1), "valid", (1, 1))
    x, kernel = np.zeros((1, 7, 7, 3), "float32"), np.ones((2, 3, 4, 3), "float32")
    x[0, 3, 3, 1] = 1
    reached = int(array(transposed.apply(x, kernel)).sum())
    error = np.zeros((1, 8, 9, 4), "float32")
    error[0, 3, 4, 2] = 1
    below = transposed.input_gradient(*map(keras.ops.array, (error, kernel, x)))
    assert transposed.fans(kernel.shape) == (int(array(below).sum()), reached) == (18, 24)
