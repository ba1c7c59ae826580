"""Linear maps: forward against loops, and both adjoints by the identity that defines them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_local import ops
from tests import oracles
from tests.support import BACKEND, array, whole_numbers

# Sums of products of small integers have no rounding error: what differs is a wrong term.
EXACT = 1e-4

few = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def inner(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(np.asarray(a, "float64") * np.asarray(b, "float64")))


@few
@given(
    leading=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_dense(leading: list[int], inputs: int, outputs: int, seed: int) -> None:
    x = whole_numbers((*leading, inputs), seed)
    kernel = whole_numbers((inputs, outputs), seed + 1)
    error = whole_numbers((*leading, outputs), seed + 2)
    dense, tensor = ops.Dense(), keras.ops.convert_to_tensor

    forward = array(dense.apply(tensor(x), tensor(kernel)))
    np.testing.assert_allclose(forward, oracles.dense(x, kernel), atol=EXACT)
    below = array(dense.input_gradient(tensor(error), tensor(kernel), tensor(x)))
    np.testing.assert_allclose(below, oracles.dense_input_gradient(error, kernel), atol=EXACT)
    change = array(dense.kernel_gradient(tensor(x), tensor(error), tensor(kernel)))
    np.testing.assert_allclose(change, oracles.dense_kernel_gradient(x, error), atol=EXACT)
    assert inner(below, x) == pytest.approx(inner(error, oracles.dense(x, kernel)), abs=EXACT)
    assert inner(change, kernel) == pytest.approx(inner(below, x), abs=EXACT)


@dataclass(frozen=True)
class Case:
    """Arguments and shapes of one convolution."""

    sizes: tuple[int, ...]
    taps: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    groups: int
    channels: tuple[int, int]
    channels_first: bool = False
    batch: int = 2

    def check(self, seed: int = 0) -> None:
        data_format = "channels_first" if self.channels_first else "channels_last"
        ours = ops.Convolution(self.strides, self.padding, self.dilation, data_format)
        oracle = oracles.Convolution(self.strides, self.padding, self.dilation, self.channels_first)
        c_in, c_out = (self.groups * channels for channels in self.channels)
        shape = (c_in, *self.sizes) if self.channels_first else (*self.sizes, c_in)
        x = whole_numbers((self.batch, *shape), seed)
        kernel = whole_numbers((*self.taps, c_in // self.groups, c_out), seed + 1)
        outputs = oracle.apply(x, kernel)
        error = whole_numbers(outputs.shape, seed + 2)

        tensor = keras.ops.convert_to_tensor
        forward = array(ours.apply(tensor(x), tensor(kernel)))
        np.testing.assert_allclose(forward, outputs, atol=EXACT)
        below = array(ours.input_gradient(tensor(error), tensor(kernel), tensor(x)))
        np.testing.assert_allclose(below, oracle.input_gradient(error, kernel, x.shape), atol=EXACT)
        change = array(ours.kernel_gradient(tensor(x), tensor(error), tensor(kernel)))
        np.testing.assert_allclose(
            change, oracle.kernel_gradient(x, error, kernel.shape), atol=EXACT
        )
        assert inner(below, x) == pytest.approx(inner(error, outputs), abs=EXACT)
        assert inner(change, kernel) == pytest.approx(inner(error, outputs), abs=EXACT)


@st.composite
def cases(draw: st.DrawFn, rank: int) -> Case:
    """Any convolution that Keras allows: strides or dilation, not both."""
    largest = {1: 9, 2: 6, 3: 4}[rank]
    dilated = draw(st.booleans())

    def per_axis(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    taps = per_axis(1, 3 if rank < 3 else 2)
    strides = (1,) * rank if dilated else per_axis(1, 3)
    dilation = per_axis(1, 2) if dilated else (1,) * rank
    return Case(
        sizes=tuple(
            draw(st.integers((n - 1) * d + 1, max(largest, (n - 1) * d + 1)))
            for n, d in zip(taps, dilation, strict=True)
        ),
        taps=taps,
        strides=strides,
        dilation=dilation,
        padding=draw(st.sampled_from(["valid", "same"])),
        groups=draw(st.sampled_from([1, 1, 2])),
        channels=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        batch=draw(st.integers(1, 2)),
    )


@few
@given(case=cases(1), seed=st.integers(0, 1000))
def test_convolution_1d(case: Case, seed: int) -> None:
    case.check(seed)


@few
@given(case=cases(2), seed=st.integers(0, 1000))
def test_convolution_2d(case: Case, seed: int) -> None:
    case.check(seed)


@few
@given(case=cases(3), seed=st.integers(0, 1000))
def test_convolution_3d(case: Case, seed: int) -> None:
    case.check(seed)


CASES = {
    "1d-same-stride": Case((8,), (3,), (2,), (1,), "same", 1, (3, 4)),
    "1d-dilated": Case((9,), (3,), (1,), (3,), "valid", 1, (3, 4)),
    "1d-grouped": Case((8,), (3,), (2,), (1,), "same", 3, (2, 2)),
    "2d-same-stride-even": Case((8, 8), (3, 3), (2, 2), (1, 1), "same", 1, (2, 3)),
    "2d-tap-beyond-stride": Case((7, 8), (2, 1), (3, 3), (1, 1), "valid", 1, (2, 3)),
    "2d-unequal": Case((7, 9), (2, 3), (1, 2), (1, 1), "same", 1, (2, 3)),
    "2d-grouped-dilated": Case((7, 7), (3, 2), (1, 1), (2, 1), "same", 2, (2, 2)),
    "2d-depthwise": Case((5, 5), (3, 3), (1, 1), (1, 1), "same", 4, (1, 2)),
    "3d-same-stride": Case((4, 5, 4), (3, 2, 3), (2, 2, 2), (1, 1, 1), "same", 1, (2, 2)),
    "3d-dilated": Case((5, 4, 5), (2, 2, 2), (1, 1, 1), (2, 1, 2), "valid", 1, (1, 2)),
    "3d-grouped": Case((3, 4, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1), "same", 2, (1, 2)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_convolution_corners(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_convolution_channels_first(case: Case) -> None:
    case = replace(case, channels_first=True)
    try:
        keras.ops.convert_to_numpy(forward_alone(case))
    except Exception as error:
        pytest.skip(f"{BACKEND} has no such forward convolution: {type(error).__name__}")
    case.check()


def forward_alone(case: Case) -> Any:
    """What the stock layer would compute: where it fails there is nothing to match."""
    c_in, c_out = (case.groups * channels for channels in case.channels)
    return keras.ops.conv(
        np.ones((case.batch, c_in, *case.sizes), "float32"),
        np.ones((*case.taps, c_in // case.groups, c_out), "float32"),
        strides=list(case.strides),
        padding=case.padding,
        dilation_rate=case.dilation,
        data_format="channels_first",
    )


def test_adjoints_read_only_the_shape_of_their_template() -> None:
    ours = ops.Convolution((1, 1), "same", (1, 1))
    tensor = keras.ops.convert_to_tensor
    x, kernel, error = (
        tensor(whole_numbers(shape, seed))
        for seed, shape in enumerate([(2, 5, 5, 3), (3, 3, 3, 4), (2, 5, 5, 4)])
    )
    nan_inputs, nan_kernel = x * float("nan"), kernel * float("nan")
    assert np.isfinite(array(ours.input_gradient(error, kernel, nan_inputs))).all()
    assert np.isfinite(array(ours.kernel_gradient(x, error, nan_kernel))).all()
