"""The locally connected map: against loops, its adjoints, autodiff, and the convolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_local import ops
from tests import oracles, oracles_locally_connected
from tests.support import array, tensorflow_only, value_and_gradients, whole_numbers

# Sums of products of small integers have no rounding error: what differs is a wrong term.
EXACT = 1e-4

few = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
tensor = keras.ops.convert_to_tensor


@dataclass(frozen=True)
class Case:
    """Arguments and shapes of one map."""

    sizes: tuple[int, ...]
    taps: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    channels: tuple[int, int]
    channels_first: bool = False
    batch: int = 2

    @property
    def ours(self) -> ops.LocallyConnected:
        data_format = "channels_first" if self.channels_first else "channels_last"
        return ops.LocallyConnected(self.taps, self.strides, self.padding, data_format)

    @property
    def oracle(self) -> oracles_locally_connected.LocallyConnected:
        return oracles_locally_connected.LocallyConnected(
            self.taps, self.strides, self.padding, self.channels_first
        )

    def tensors(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs, kernel, error at the outputs."""
        c_in, c_out = self.channels
        counts = self.oracle.outputs(self.sizes)
        kernel = whole_numbers((*counts, int(np.prod(self.taps)) * c_in, c_out), seed + 1)
        shapes = [
            (self.batch, c, *space) if self.channels_first else (self.batch, *space, c)
            for c, space in ((c_in, self.sizes), (c_out, counts))
        ]
        return whole_numbers(shapes[0], seed), kernel, whole_numbers(shapes[1], seed + 2)

    def check(self, seed: int = 0) -> None:
        x, kernel, error = self.tensors(seed)
        assert self.ours.positions(self.sizes) == self.oracle.outputs(self.sizes)
        outputs = array(self.ours.apply(tensor(x), tensor(kernel)))
        np.testing.assert_allclose(outputs, self.oracle.apply(x, kernel), atol=EXACT)
        below = array(self.ours.input_gradient(tensor(error), tensor(kernel), tensor(x)))
        expected = self.oracle.input_gradient(error, kernel, x.shape)
        np.testing.assert_allclose(below, expected, atol=EXACT)
        change = array(self.ours.kernel_gradient(tensor(x), tensor(error), tensor(kernel)))
        expected = self.oracle.kernel_gradient(x, error, kernel.shape)
        np.testing.assert_allclose(change, expected, atol=EXACT)
        assert inner(below, x) == pytest.approx(inner(error, outputs), abs=EXACT)
        assert inner(change, kernel) == pytest.approx(inner(error, outputs), abs=EXACT)


def inner(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(np.asarray(a, "float64") * np.asarray(b, "float64")))


@st.composite
def cases(draw: st.DrawFn, rank: int) -> Case:
    def per_axis(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    taps = per_axis(1, 4 if rank == 1 else 3)
    return Case(
        sizes=tuple(draw(st.integers(n, 7)) for n in taps),
        taps=taps,
        strides=per_axis(1, 4 if rank == 1 else 3),
        padding=draw(st.sampled_from(["valid", "same"])),
        channels=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        channels_first=draw(st.booleans()),
        batch=draw(st.integers(1, 3)),
    )


@few
@given(case=cases(1), seed=st.integers(0, 1000))
def test_one_dimension(case: Case, seed: int) -> None:
    case.check(seed)


@few
@given(case=cases(2), seed=st.integers(0, 1000))
@pytest.mark.slow
def test_two_dimensions(case: Case, seed: int) -> None:
    case.check(seed)


CASES = {
    "1d": Case((8,), (3,), (1,), "valid", (2, 3)),
    "1d-same-stride": Case((8,), (3,), (2,), "same", (3, 2)),
    "2d": Case((5, 6), (3, 2), (1, 1), "valid", (2, 3)),
    "2d-same-stride": Case((6, 7), (3, 3), (2, 2), "same", (2, 3)),
    "2d-inputs-that-nobody-sees": Case((7, 8), (2, 1), (3, 3), "valid", (2, 3)),
    "2d-taps-no-multiple-of-strides": Case((9, 8), (5, 3), (2, 2), "same", (1, 2)),
    "2d-smaller-than-the-kernel": Case((2, 3), (5, 5), (1, 1), "same", (2, 2)),
}
FORMATS = {"last": False, "first": True}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.mark.parametrize("channels_first", FORMATS.values(), ids=FORMATS)
def test_corners(case: Case, channels_first: bool) -> None:
    replace(case, channels_first=channels_first).check()


@pytest.mark.few(6, rest="thorough")
@pytest.mark.parametrize("channels_first", FORMATS.values(), ids=FORMATS)
def test_adjoints_are_what_the_backend_differentiates(case: Case, channels_first: bool) -> None:
    """A layer without feedback weights leaves the gradient to the backend."""
    case = replace(case, channels_first=channels_first)
    x, kernel, error = case.tensors()
    _, (below, change) = value_and_gradients(
        lambda x, kernel: keras.ops.sum(case.ours.apply(x, kernel) * tensor(error)), x, kernel
    )
    np.testing.assert_array_equal(below, case.oracle.input_gradient(error, kernel, x.shape))
    np.testing.assert_array_equal(change, case.oracle.kernel_gradient(x, error, kernel.shape))


@pytest.mark.few(6, rest="thorough")
@pytest.mark.parametrize("channels_first", FORMATS.values(), ids=FORMATS)
def test_one_kernel_for_all_positions_is_a_convolution(case: Case, channels_first: bool) -> None:
    case = replace(case, channels_first=channels_first)
    x, kernel, error = case.tensors()
    shared = whole_numbers((*case.taps, *case.channels), 9)
    kernel = np.broadcast_to(shared.reshape(kernel.shape[-2:]), kernel.shape).astype("float32")
    ones = (1,) * len(case.taps)
    convolution = oracles.Convolution(case.strides, case.padding, ones, channels_first)
    outputs = array(case.ours.apply(tensor(x), tensor(kernel)))
    np.testing.assert_array_equal(outputs, convolution.apply(x, shared))
    below = array(case.ours.input_gradient(tensor(error), tensor(kernel), tensor(x)))
    np.testing.assert_array_equal(below, convolution.input_gradient(error, shared, x.shape))
    change = array(case.ours.kernel_gradient(tensor(x), tensor(error), tensor(kernel)))
    summed = change.sum(axis=tuple(range(len(case.taps)))).reshape(shared.shape)
    np.testing.assert_array_equal(summed, convolution.kernel_gradient(x, error, shared.shape))


def test_adjoints_read_only_the_shape_of_their_template() -> None:
    case = CASES["2d-same-stride"]
    x, kernel, error = (tensor(a) for a in case.tensors())
    nan_inputs, nan_kernel = x * float("nan"), kernel * float("nan")
    assert np.isfinite(array(case.ours.input_gradient(error, kernel, nan_inputs))).all()
    assert np.isfinite(array(case.ours.kernel_gradient(x, error, nan_kernel))).all()


def test_an_empty_batch() -> None:
    case = replace(CASES["2d-same-stride"], batch=0)
    x, kernel, error = (tensor(a) for a in case.tensors())
    assert tuple(case.ours.apply(x, kernel).shape) == tuple(error.shape)
    assert tuple(case.ours.input_gradient(error, kernel, x).shape) == tuple(x.shape)
    assert not array(case.ours.kernel_gradient(x, error, kernel)).any()


@pytest.mark.parametrize("name", ["1d-same-stride", "2d-same-stride"])
def test_fans_are_those_of_the_convolution(name: str) -> None:
    case = CASES[name]
    _, kernel, _ = case.tensors()
    convolution = ops.Convolution(case.strides, case.padding, (1,) * len(case.taps))
    expected = convolution.fans((*case.taps, *case.channels))
    assert case.ours.fans(kernel.shape) == expected


@pytest.mark.few(4, rest="thorough")
@tensorflow_only
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_compiled_with_any_batch_size(case: Case, jit_compile: bool) -> None:
    import tensorflow as tf

    x, kernel, error = case.tensors()
    any_batch = [tf.TensorSpec((None, *a.shape[1:])) for a in (x, error)]

    @tf.function(
        jit_compile=jit_compile,
        autograph=False,
        input_signature=[*any_batch, tf.TensorSpec(kernel.shape)],
    )
    def all_three(x: Any, error: Any, kernel: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = case.ours.apply(x, kernel)
        below = case.ours.input_gradient(error, kernel, x)
        change = case.ours.kernel_gradient(x, error, kernel)
        return outputs, below, tape.gradient(outputs, x, error), change

    outputs, below, differentiated, change = all_three(x, error, kernel)
    np.testing.assert_array_equal(array(outputs), case.oracle.apply(x, kernel))
    expected = case.oracle.input_gradient(error, kernel, x.shape)
    np.testing.assert_array_equal(array(below), expected)
    np.testing.assert_array_equal(array(differentiated), expected)
    np.testing.assert_array_equal(
        array(change), case.oracle.kernel_gradient(x, error, kernel.shape)
    )
