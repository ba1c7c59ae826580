"""Krotov and Hopfield's rule as a formula: against loops, and what holds exactly."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keras_local import plasticity
from keras_local.plasticity import KrotovHopfield
from tests.oracles_plasticity import Krotov
from tests.plasticity.encoders import CLEAR, assert_close, krotov, problem
from tests.support import BACKEND, array, probe, whole_numbers

# JAX computes in float32 unless told otherwise, and so does the matrix product of Keras on Torch.
PRECISION = "float64" if BACKEND == "tensorflow" else "float32"
EXACT = 1e-12 if PRECISION == "float64" else 1e-5


def tensor(values: Any, dtype: str = PRECISION) -> Any:
    return keras.ops.convert_to_tensor(np.asarray(values, dtype))


def change_of(rule: KrotovHopfield, inputs: np.ndarray, kernel: np.ndarray, **kind: Any) -> Any:
    v, w = tensor(inputs, **kind), tensor(kernel, **kind)
    return array(rule.change(v, rule.currents(v, w), w))


def update_of(rule: KrotovHopfield, inputs: np.ndarray, kernel: np.ndarray, **kind: Any) -> Any:
    return array(rule.update(tensor(inputs, **kind), tensor(kernel, **kind)))


class TestWorkedExample:
    """One sample (1, 2) and three units (1, -2), (0, 1), (2, 1), by hand.

    With p = 2 their currents are -3, 2, 4; with p = 3 they are 1 - 4*2 = -7, 2, 4 + 2 = 6.
    """

    inputs = np.array([[1.0, 2.0]])
    kernel = np.array([[1.0, 0.0, 2.0], [-2.0, 1.0, 1.0]])
    # The winner: v - I w; the unit of the given rank: -delta (v - I w).
    by_hand: tuple[tuple[float, int, list[list[float]]], ...] = (
        (2.0, 2, [[0.0, -0.5, -7.0], [0.0, 0.0, -2.0]]),
        (2.0, 3, [[-2.0, 0.0, -7.0], [2.0, 0.0, -2.0]]),
        (3.0, 3, [[-4.0, 0.0, -11.0], [6.0, 0.0, -4.0]]),
    )

    @pytest.mark.parametrize(("p", "rank", "change"), by_hand)
    def test_change(self, p: float, rank: int, change: list[list[float]]) -> None:
        rule = KrotovHopfield(p, rank, delta=0.5)
        np.testing.assert_array_equal(change_of(rule, self.inputs, self.kernel), change)
        oracle = Krotov(p, rank, delta=0.5)
        np.testing.assert_array_equal(oracle.change(self.inputs, self.kernel), change)

    def test_update_has_a_largest_entry_of_one(self) -> None:
        update = update_of(KrotovHopfield(2.0, 3, 0.5), self.inputs, self.kernel)
        expected = np.array([[-2.0, 0.0, -7.0], [2.0, 0.0, -2.0]]) / 7.0
        np.testing.assert_allclose(update, expected, rtol=1e-6)
        oracle = Krotov(2.0, 3, 0.5).step(self.inputs, self.kernel, 1.0)
        np.testing.assert_allclose(oracle - self.kernel, expected, rtol=1e-12, atol=1e-12)


class TestAgainstLoops:
    @pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 4.5, 5.0])
    def test_metric(self, p: float) -> None:
        weights = np.array([[-2.0, -1.0, -0.3, 0.0, 0.3, 1.0, 2.0]])
        expected = [[Krotov(p).strength(w) for w in weights[0]]]
        np.testing.assert_allclose(
            array(KrotovHopfield(p).metric(tensor(weights))), expected, EXACT
        )

    def test_p_two_costs_nothing(self) -> None:
        kernel = tensor(probe((3, 2)))
        assert KrotovHopfield(2).metric(kernel) is kernel
        assert KrotovHopfield(2).metric_is_identity
        assert not KrotovHopfield(3).metric_is_identity

    @pytest.mark.parametrize("rank", [2, 3, 7, 40])
    def test_gains_and_active_units(self, rank: int) -> None:
        currents = probe((25, 40))
        expected = Krotov(rank=rank, delta=0.3).gains(currents)
        rule = KrotovHopfield(rank=rank, delta=0.3)
        np.testing.assert_allclose(array(rule.gains(tensor(currents))), expected, rtol=1e-6)

        active = rule.active_units(tensor(currents))
        units, gains = array(active.units), array(active.gains)
        samples = np.arange(25)[:, None]
        assert units.shape == gains.shape == (25, KrotovHopfield.active)
        np.testing.assert_allclose(gains, expected[samples, units], rtol=1e-6)
        np.testing.assert_allclose(array(active.currents), currents[samples, units], rtol=1e-6)

    @pytest.mark.skipif(BACKEND == "torch", reason="Torch ranks equal currents as it likes")
    def test_of_equal_currents_the_lower_unit_is_ranked_first(self) -> None:
        expected = [[1.0, -0.4, 0.0, 0.0], [0.0, 1.0, -0.4, 0.0]]
        currents = [[0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 2.0, 2.0]]
        np.testing.assert_allclose(Krotov().gains(np.array(currents)), expected)
        gains = KrotovHopfield().gains(tensor(currents, "float32"))
        np.testing.assert_allclose(array(gains), expected, rtol=1e-6)

    def test_equal_currents_still_have_one_winner_and_one_loser(self) -> None:
        gains = array(KrotovHopfield().gains(tensor(np.zeros((3, 5)), "float32")))
        expected = np.tile(np.array([-0.4, 0.0, 0.0, 0.0, 1.0], "float32"), (3, 1))
        np.testing.assert_allclose(np.sort(gains, axis=1), expected, rtol=1e-6)

    # JAX compiles every operation anew for each shape.
    @settings(max_examples=5 if BACKEND == "jax" else 40, deadline=None)
    @given(
        samples=st.integers(1, 7),
        inputs=st.integers(1, 6),
        units=st.integers(2, 9),
        rank=st.integers(2, 9),
        p=st.sampled_from([1.0, 2.0, 2.5, 3.0, 4.5]),
        delta=st.sampled_from([0.0, 0.1, 0.4, 1.0, 3.0]),
        seed=st.integers(0, 999),
    )
    def test_change(
        self, samples: int, inputs: int, units: int, rank: int, p: float, delta: float, seed: int
    ) -> None:
        oracle = Krotov(p, min(rank, units), delta)
        v, w = probe((samples, inputs), seed), probe((inputs, units), seed + 1)
        assume(oracle.closest_rivals(v, w) > CLEAR)
        assert_close(change_of(krotov(oracle), v, w), oracle.change(v, w), 10 * EXACT)

    @pytest.mark.parametrize("p", [2.0, 3.0])
    def test_update_in_float32(self, p: float) -> None:
        oracle = Krotov(p, rank=3)
        v, w = problem(units=20)
        assert oracle.closest_rivals(v, w) > CLEAR
        expected = oracle.change(v, w) / np.max(np.abs(oracle.change(v, w)))
        update = update_of(krotov(oracle), v, w, dtype="float32")
        assert update.dtype == "float32"
        assert_close(update, expected, 2e-6)
        assert np.max(np.abs(update)) == pytest.approx(1.0, rel=1e-6)


class TestInvariants:
    @pytest.mark.parametrize("p", [2.0, 3.0, 4.0, 5.0])
    def test_norms_move_towards_one(self, p: float) -> None:
        """`sum_i dN/dW_i D_i = p (sum_b G I) (1 - N)` with `N = sum_i |W_i|^p`, for each unit."""
        v, w = problem(units=6, inputs=9)
        w *= 0.5
        rule = KrotovHopfield(p, rank=2, delta=2.0)
        change = change_of(rule, v, w)
        slope = p * np.sign(w) * np.abs(w.astype("float64")) ** (p - 1.0)
        norms = np.sum(np.abs(w.astype("float64")) ** p, axis=0)
        currents = v.astype("float64") @ (slope / p)
        gains = Krotov(p, rank=2, delta=2.0).gains(currents)
        # Both sides of 1, drives of both signs: else the test would say little.
        assert norms.min() < 0.7
        assert norms.max() > 1.3
        drive = np.sum(gains * currents, axis=0)
        assert drive.min() < 0.0 < drive.max()
        moved = np.sum(slope * change, axis=0)
        assert_close(moved, p * drive * (1.0 - norms), 10 * EXACT)

    @staticmethod
    def distinct(p: float) -> tuple[np.ndarray, np.ndarray, KrotovHopfield]:
        """Whole numbers, so that every sum is exact in any order, and no equal currents."""
        oracle = Krotov(p, rank=3, delta=0.5)
        for seed in itertools.count():
            v, w = whole_numbers((6, 11), seed), whole_numbers((11, 8), seed + 1)
            if oracle.closest_rivals(v, w) > 0.0:
                return v, w, krotov(oracle)
        raise AssertionError

    @pytest.mark.parametrize("p", [2.0, 3.0])
    def test_permuted_units_change_alike(self, p: float) -> None:
        v, w, rule = self.distinct(p)
        order = np.random.default_rng(0).permutation(w.shape[1])
        expected = update_of(rule, v, w)[:, order]
        np.testing.assert_array_equal(update_of(rule, v, w[:, order]), expected)
        assert np.any(expected != update_of(rule, v, w))

    @pytest.mark.parametrize("p", [2.0, 3.0])
    def test_permuted_inputs_change_alike(self, p: float) -> None:
        v, w, rule = self.distinct(p)
        order = np.random.default_rng(0).permutation(len(w))
        expected = update_of(rule, v, w)[order]
        np.testing.assert_array_equal(update_of(rule, v[:, order], w[order]), expected)
        assert np.any(expected != update_of(rule, v, w))

    @pytest.mark.parametrize("p", [2.0, 3.0])
    def test_a_doubled_batch_makes_the_same_step(self, p: float) -> None:
        """The change doubles, the normalised step does not."""
        v, w, rule = self.distinct(p)
        twice = np.concatenate([v, v])
        np.testing.assert_array_equal(change_of(rule, twice, w), 2.0 * change_of(rule, v, w))
        np.testing.assert_array_equal(update_of(rule, twice, w), update_of(rule, v, w))

    def test_the_anti_hebbian_part_is_linear_in_delta(self) -> None:
        v, w, _ = self.distinct(2.0)
        none, some, more = (change_of(KrotovHopfield(2, 3, d), v, w) for d in (0.0, 0.5, 2.0))
        np.testing.assert_array_equal(more - none, 4.0 * (some - none))
        assert np.any(some != none)

    def test_only_ranked_units_change(self) -> None:
        v, w = problem(units=50, batch=3)
        gains = Krotov(rank=7).gains(v.astype("float64") @ w)
        moved = np.any(change_of(KrotovHopfield(rank=7), v, w) != 0.0, axis=0)
        np.testing.assert_array_equal(moved, np.any(gains != 0.0, axis=0))
        assert 3 <= moved.sum() <= 6

    def test_inputs_of_zero_change_nothing(self) -> None:
        w = probe((5, 4))
        update = update_of(KrotovHopfield(3), np.zeros((2, 5)), w)
        np.testing.assert_array_equal(update, np.zeros((5, 4)))


class TestParts:
    """What is done with the change: reduction, normaliser, rate, in this order."""

    def test_mean_without_normaliser(self) -> None:
        v, w = problem(units=8, inputs=5, batch=4)
        rule = KrotovHopfield(reduction=plasticity.Mean(), normaliser=plasticity.NoNormaliser())
        assert_close(update_of(rule, v, w), Krotov().change(v, w) / 4.0, 10 * EXACT)

    def test_rate_comes_after_the_normaliser(self) -> None:
        v, w = problem(units=8, inputs=5, batch=4)
        rule = KrotovHopfield(
            normaliser=plasticity.UnitMaxAbs(), rate=plasticity.NormDistance(power=2.0)
        )
        change = Krotov().change(v, w)
        largest = np.max(np.abs(change), axis=0)
        lengths = np.sqrt(np.sum(w.astype("float64") ** 2, axis=0))
        expected = change / np.where(largest > 0.0, largest, 1.0) * (lengths - 1.0) ** 2
        assert_close(update_of(rule, v, w), expected, 10 * EXACT)


class TestConfig:
    def test_defaults(self) -> None:
        rule = KrotovHopfield()
        assert (rule.p, rule.rank, rule.delta) == (2.0, 2, 0.4)
        assert isinstance(rule.reduction, plasticity.Sum)
        assert isinstance(rule.normaliser, plasticity.MaxAbs)
        assert isinstance(rule.rate, plasticity.LinearDecay)

    def test_round_trip(self) -> None:
        rule = KrotovHopfield(
            p=3.5,
            rank=7,
            delta=0.1,
            reduction=plasticity.Mean(),
            normaliser=plasticity.UnitMaxAbs(),
            rate=plasticity.NormDistance(power=0.25),
        )
        config = plasticity.serialize(rule)
        assert config["registered_name"] == "keras_local>KrotovHopfield"
        restored = plasticity.get(config)
        assert isinstance(restored, KrotovHopfield)
        assert restored.get_config() == rule.get_config()
        assert (restored.p, restored.rank, restored.delta) == (3.5, 7, 0.1)
        assert isinstance(restored.reduction, plasticity.Mean)
        assert isinstance(restored.normaliser, plasticity.UnitMaxAbs)
        assert isinstance(restored.rate, plasticity.NormDistance)
        assert restored.rate.power == 0.25

    def test_alias_and_object(self) -> None:
        assert isinstance(plasticity.get("krotov_hopfield"), KrotovHopfield)
        rule = KrotovHopfield(p=3)
        assert plasticity.get(rule) is rule

    @pytest.mark.parametrize("identifier", ["krotov", None, 3, KrotovHopfield])
    def test_unknown_rule(self, identifier: Any) -> None:
        with pytest.raises(ValueError, match=r"plasticity.*krotov_hopfield.*Received") as error:
            plasticity.get(identifier)
        assert repr(identifier) in str(error.value)


WRONG: list[tuple[str, Any]] = [
    ("p", 0.999),
    ("p", -2),
    ("p", float("nan")),
    ("p", float("inf")),
    ("p", "2"),
    ("p", None),
    ("p", True),
    ("rank", 1),
    ("rank", 0),
    ("rank", -2),
    ("rank", 2.0),
    ("rank", "2"),
    ("delta", -1e-9),
    ("delta", float("nan")),
    ("delta", float("inf")),
    ("delta", None),
]


@pytest.mark.parametrize(("argument", "value"), WRONG)
def test_bad_input(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be.*Received") as error:
        KrotovHopfield(**{argument: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("argument", ["reduction", "normaliser", "rate"])
def test_bad_part(argument: str) -> None:
    try:
        KrotovHopfield(**{argument: "sum"})
    except ValueError as error:
        assert argument in str(error)  # noqa: PT017
    else:
        raise AssertionError(f"{argument}='sum' was accepted")


def test_rank_above_units() -> None:
    KrotovHopfield(rank=7).check_units(7)
    with pytest.raises(ValueError, match=r"`rank` must be at most units=6.*Received: rank=7"):
        KrotovHopfield(rank=7).check_units(6)
