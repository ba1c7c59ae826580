"""SoftHebb: what is exact about it, and that it finds clusters."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from keras_local.plasticity import HardWTA, NoNormaliser, NormDistance, SoftHebb
from tests.plasticity.encoders import assert_close
from tests.plasticity.settle import settle
from tests.support import array, compile_options, compiled, probe

tensor = ops.convert_to_tensor


def test_shares_sum_to_one() -> None:
    post = tensor(probe((50, 9)))
    shares = array(SoftHebb(2.0, anti_hebbian=False).gains(post))
    np.testing.assert_allclose(shares.sum(axis=-1), 1.0, rtol=1e-6)
    assert np.all(shares > 0.0)


def test_signed_shares_sum_to_twice_the_winner_less_one() -> None:
    post = tensor(probe((50, 9)))
    signed = array(SoftHebb(2.0).gains(post))
    shares = array(SoftHebb(2.0, anti_hebbian=False).gains(post))
    np.testing.assert_allclose(signed.sum(axis=-1), 2.0 * shares.max(axis=-1) - 1.0, atol=1e-6)
    np.testing.assert_allclose(np.abs(signed), shares, rtol=1e-6)
    assert np.all((signed > 0.0).sum(axis=-1) == 1)


def test_equal_currents_win_together() -> None:
    currents = np.array([[0.5, 2.0, 2.0, -1.0], [0.0, 0.0, 0.0, 0.0]], "float32")
    gains = array(SoftHebb().gains(tensor(currents)))
    np.testing.assert_array_equal(gains > 0, [[False, True, True, False], [True] * 4])
    assert gains[0, 1] == gains[0, 2]


def test_each_compiled_row_has_one_winner() -> None:
    """A product that is fused with the difference from the largest is not rounded before."""
    factors = tensor(probe((400, 7))), tensor(probe((400, 1), 1))
    gains = compiled(lambda a, b: SoftHebb().gains(a * b), **compile_options(jit_compile=True))
    signs = np.sign(array(gains(*factors)))
    np.testing.assert_array_equal(signs.sum(axis=-1), 2.0 - 7.0)
    winners = array(factors[0] * factors[1]).argmax(axis=-1)
    np.testing.assert_array_equal(signs[np.arange(400), winners], 1.0)


def test_half_precision_has_one_winner() -> None:
    gains = SoftHebb().gains(ops.cast(tensor(np.linspace(0.0, 1.0, 12).reshape(3, 4)), "bfloat16"))
    np.testing.assert_array_equal(array(gains) > 0.0, [[False, False, False, True]] * 3)
    assert np.all(array(gains) != 0.0)


def test_a_large_beta_is_winner_take_all() -> None:
    x, w = tensor(probe((20, 6))), tensor(probe((6, 5), 1))
    hard, soft = array(HardWTA().update(x, w)), array(SoftHebb(1e4).update(x, w))
    assert_close(soft, hard.astype("float64"), 1e-6)
    assert np.max(np.abs(array(SoftHebb(0.1).update(x, w)) - hard)) > 0.1


@pytest.mark.parametrize("anti_hebbian", [False, True])
def test_norms_after_a_finite_step(anti_hebbian: bool) -> None:
    """`|w + c (x - u w)|^2 - |w|^2 = 2 c u (1 - |w|^2) + c^2 |x - u w|^2`, for one sample."""
    rule = SoftHebb(0.5, anti_hebbian, normaliser=NoNormaliser(), rate=NormDistance(1e-9))
    x, w = probe((1, 6)).astype("float64"), 0.4 * probe((6, 5), 1).astype("float64")
    u = (x @ w)[0]
    gains = array(rule.gains(tensor(u[None])))[0].astype("float64")
    after = w + array(rule.change(tensor(x), tensor(u[None]), tensor(w))).astype("float64")
    grown = np.sum(after**2, axis=0) - np.sum(w**2, axis=0)
    left = x.T - w * u
    expected = 2.0 * gains * u * (1.0 - np.sum(w**2, axis=0)) + gains**2 * np.sum(left**2, axis=0)
    assert_close(grown, expected, 1e-6)


def clusters(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Five centres on the unit sphere, and samples of length 1 around them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, 16))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    samples = centres[rng.integers(0, 5, 20000)] + 0.15 * rng.normal(size=(20000, 16))
    return centres, samples / np.linalg.norm(samples, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return clusters()


def trained(data: tuple[np.ndarray, np.ndarray], rule: SoftHebb, step_size: float) -> np.ndarray:
    start = np.random.default_rng(1).normal(size=(16, 10))
    start *= 5.0 / np.linalg.norm(start, axis=0)
    batches = data[1].reshape(2000, 10, 16)
    return settle(rule, batches, start, step_size, decay=False)[0]


def found(data: tuple[np.ndarray, np.ndarray], kernel: np.ndarray) -> np.ndarray:
    """The best cosine of a unit with each centre."""
    return np.max(data[0] @ kernel / np.linalg.norm(kernel, axis=0), axis=1)


@pytest.mark.slow
def test_clusters_are_found_in_one_pass(data: tuple[np.ndarray, np.ndarray]) -> None:
    assert np.all(found(data, trained(data, SoftHebb(12.0), 0.08)) > 0.95)


@pytest.mark.slow
def test_inputs_of_length_one_need_a_large_beta(data: tuple[np.ndarray, np.ndarray]) -> None:
    assert np.sum(found(data, trained(data, SoftHebb(0.2, False), 0.08)) > 0.95) < 3


@pytest.mark.slow
def test_positive_rule_brings_all_norms_to_one(data: tuple[np.ndarray, np.ndarray]) -> None:
    kernel = trained(data, SoftHebb(4.0, anti_hebbian=False), 0.08)
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1.0, atol=1e-2)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), "1", None])
def test_bad_beta(beta: object) -> None:
    with pytest.raises(ValueError, match=r"`beta` must be.*Received"):
        SoftHebb(beta)  # type: ignore[arg-type]
