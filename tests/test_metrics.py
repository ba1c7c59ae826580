from __future__ import annotations

import math
import types

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_local.layers import HebbianConv2D, HebbianDense, HebbianLocallyConnected2D
from keras_local.metrics import (
    alignment_angle,
    convergence_report,
    norm_ratio,
    weight_correlation,
    win_counts,
)
from tests.support import array, probe

PAIRS = [alignment_angle, norm_ratio, weight_correlation]


def hebbian(kernel, p=2.0):
    """Stand in for a Hebbian layer."""
    return types.SimpleNamespace(
        name="hebbian", kernel=kernel, plasticity=types.SimpleNamespace(norm_exponent=p)
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16), size=st.integers(2, 30))
def test_pairs_equal_loops(seed, size):
    rng = np.random.default_rng(seed)
    w, b = rng.normal(size=(2, size)) + 0.3
    dot = sum(x * y for x, y in zip(w, b, strict=True))
    ww, bb = sum(x * x for x in w), sum(y * y for y in b)
    angle = math.degrees(math.acos(max(-1, min(1, dot / math.sqrt(ww * bb)))))
    assert alignment_angle(w, b) == pytest.approx(angle, abs=1e-5)
    assert norm_ratio(w, b) == pytest.approx(math.sqrt(bb / ww))
    assert weight_correlation(w, b) == pytest.approx(np.corrcoef(w, b)[0, 1], abs=1e-12)


def test_known_values():
    assert alignment_angle([1.0, 0.0], [1.0, 1.0]) == pytest.approx(45.0, abs=1e-12)
    assert alignment_angle([1.0, 0.0], [-2.0, 0.0]) == 180.0
    # The mean counts for the angle and not for the correlation.
    assert alignment_angle([11.0, 12.0], [12.0, 11.0]) < 5.0
    assert weight_correlation([11.0, 12.0], [12.0, 11.0]) == pytest.approx(-1.0)


def test_angle_is_exact_where_the_cosine_is_not():
    w = np.random.default_rng(0).normal(size=(300, 7))
    assert alignment_angle(w, w) == 0.0
    assert alignment_angle(w, -w) == 180.0
    assert alignment_angle(w, 1.7 * w) < 1e-12
    turned = alignment_angle([1.0, 0.0], [1.0, 1e-9])
    assert turned == pytest.approx(math.degrees(1e-9), rel=1e-9)


def test_scale_does_not_turn():
    w, b = np.random.default_rng(0).normal(size=(2, 5, 4))
    assert alignment_angle(1e-12 * w, 1e12 * b) == pytest.approx(alignment_angle(w, b))
    assert norm_ratio(w, 3 * w) == pytest.approx(3.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_arrays_tensors_and_variables(dtype):
    rng = np.random.default_rng(0)
    variable = keras.Variable(rng.normal(size=(3, 3, 2, 4)), dtype=dtype)
    tensor = ops.cast(rng.normal(size=(3, 3, 2, 4)), dtype)
    arrays = [np.asarray(ops.convert_to_numpy(x)).astype("float64") for x in (variable, tensor)]
    for measure in PAIRS:
        result = measure(variable, tensor)
        assert type(result) is float
        assert result == measure(*arrays)
        assert result == measure(variable.value, arrays[1])


def test_no_direction_is_nan():
    zero, one = np.zeros(3), np.ones(3)
    assert math.isnan(alignment_angle(zero, one))
    assert math.isnan(alignment_angle(one, zero))
    assert math.isnan(norm_ratio(zero, one))
    assert norm_ratio(one, zero) == 0.0
    assert math.isnan(weight_correlation(one, np.arange(3.0)))
    assert math.isnan(weight_correlation(np.arange(3.0), one))
    assert math.isnan(alignment_angle([np.nan, 1.0], [1.0, 1.0]))
    for measure in PAIRS:
        assert math.isnan(measure(np.zeros((0, 3)), np.zeros((0, 3))))


@pytest.mark.parametrize("measure", PAIRS)
def test_shapes_must_agree(measure):
    with pytest.raises(ValueError, match=r"`feedback_kernel` must be .*\(2, 3\).*\(3, 2\)"):
        measure(np.ones((2, 3)), np.ones((3, 2)))


@pytest.mark.parametrize("p", [2.0, 3.0, 4.5])
def test_wins_equal_loops(p):
    rng = np.random.default_rng(3)
    kernel, inputs = rng.normal(size=(6, 9)), rng.normal(size=(50, 6))
    inputs[7] = 0.0
    counts = [0] * 9
    for v in inputs:
        if not any(v):
            continue
        currents = [
            sum(v[i] * math.copysign(abs(w) ** (p - 1), w) for i, w in enumerate(kernel[:, k]))
            for k in range(9)
        ]
        counts[currents.index(max(currents))] += 1
    assert sum(counts) == 49
    layer = hebbian(keras.Variable(kernel), p)
    assert win_counts(layer, inputs).tolist() == counts
    assert win_counts(layer, inputs, batch_size=7).tolist() == counts
    assert win_counts(layer, inputs.reshape(10, 5, 6)).tolist() == counts
    assert win_counts(layer, ops.convert_to_tensor(inputs)).tolist() == counts


def test_the_exponent_decides_who_wins():
    kernel = np.array([[0.9, 0.6], [0.0, 0.6]])
    assert win_counts(hebbian(kernel, 2.0), [[1.0, 1.0]]).tolist() == [0, 1]
    assert win_counts(hebbian(kernel, 4.0), [[1.0, 1.0]]).tolist() == [1, 0]


def test_report_equals_loops():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 8), scale=0.4)
    inputs = rng.random((4, 5))
    norms = [sum(abs(w) ** 3 for w in kernel[:, k]) for k in range(8)]
    near = sum(abs(n - 1) < 0.5 for n in norms) / 8
    assert 0 < near < 1
    report = convergence_report(hebbian(kernel, 3.0), inputs, tolerance=0.5)
    won = np.count_nonzero(win_counts(hebbian(kernel, 3.0), inputs)) / 8
    assert report == {
        "mean_norm": pytest.approx(sum(norms) / 8),
        "converged": near,
        "won": won,
        "dead": 1 - won,
    }
    assert set(convergence_report(hebbian(kernel))) == {"mean_norm", "converged"}


def test_report_of_a_convolution_kernel():
    kernel = np.zeros((2, 2, 1, 2))
    kernel[..., 0] = 0.5
    report = convergence_report(hebbian(kernel))
    assert report == {"mean_norm": 0.5, "converged": 0.5}
    with pytest.raises(ValueError, match=r"`layer` must be .*\(inputs, units\)"):
        convergence_report(hebbian(kernel), np.ones((1, 4)))


def test_bad_input():
    layer = hebbian(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"`inputs` must be .*3\).*\(5, 4\)"):
        convergence_report(layer, np.ones((5, 4)))
    with pytest.raises(ValueError, match=r"`inputs` must be .*at least one sample"):
        win_counts(layer, np.ones((0, 3)))
    with pytest.raises(ValueError, match="`tolerance` must be"):
        convergence_report(layer, tolerance=0.0)
    with pytest.raises(ValueError, match="`batch_size` must be"):
        win_counts(layer, np.ones((5, 3)), batch_size=0)
    with pytest.raises(ValueError, match=r"`layer` must be .*plasticity"):
        convergence_report(keras.layers.Dense(3, name="plain"))


@pytest.mark.parametrize("kind", [HebbianConv2D, HebbianLocallyConnected2D])
def test_positions_are_samples_or_have_units_of_their_own(kind):
    """In a convolution the filters of all positions are the same units."""
    layer = kind(3, 2, plasticity="krotov_hopfield")
    images = probe((5, 4, 3, 2))
    images[3] = 0.0
    images[4] = -np.abs(images[4])
    layer.build(images.shape)
    # Of one image all currents are negative: the least of them wins, and is no silence.
    layer.kernel.assign(np.abs(probe(layer.kernel.shape, 1)))
    currents = array(layer.currents(images))
    assert currents.shape == (5, 3, 2, 3)
    assert np.all(currents[4] < 0.0)
    wanted = np.zeros((3, 2, 3), int)
    for image in (0, 1, 2, 4):
        for row in range(3):
            for column in range(2):
                found = currents[image, row, column].tolist()
                wanted[row, column, found.index(max(found))] += 1
    if kind is HebbianConv2D:
        wanted = wanted.sum(axis=(0, 1))
    for batch_size in (1024, 2):
        np.testing.assert_array_equal(win_counts(layer, images, batch_size=batch_size), wanted)
    report = convergence_report(layer, images)
    assert report["won"] == np.mean(wanted > 0)
    assert report["dead"] == np.mean(wanted == 0)


def test_samples_of_a_layer_of_units_may_have_axes_in_front():
    layer = HebbianDense(3, "hebb")
    layer.build((None, 4))
    inputs = probe((2, 5, 4))
    wanted = np.bincount(array(layer.currents(inputs.reshape(10, 4))).argmax(axis=1), minlength=3)
    assert win_counts(layer, inputs).tolist() == wanted.tolist()
    with pytest.raises(ValueError, match=r"`inputs` must be .*4\).*\(2, 3\)"):
        win_counts(layer, np.ones((2, 3)))
    with pytest.raises(ValueError, match="`layer` must be a layer that is built"):
        win_counts(HebbianDense(3, "hebb"), inputs)
