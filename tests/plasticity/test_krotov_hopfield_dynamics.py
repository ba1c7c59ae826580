"""The slow form of Krotov and Hopfield's rule: its state of rest, its norms, its objective."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import plasticity
from keras_local.plasticity import KrotovHopfield, KrotovHopfieldDynamics, NoNormaliser
from tests import oracles_hebbian as oracle
from tests.plasticity.encoders import assert_close
from tests.support import array, probe

tensor = keras.ops.convert_to_tensor


@pytest.mark.parametrize("inhibition", [0.0, 0.3, 0.7])
def test_rest_by_trying_every_active_set(inhibition: float) -> None:
    rule = KrotovHopfieldDynamics(inhibition=inhibition)
    currents = probe((12, 6))
    currents[0] = -np.abs(currents[0])  # Nobody is active.
    expected = [oracle.steady_state(row, inhibition) for row in currents.astype("float64")]
    assert_close(array(rule.steady_state(tensor(currents))), np.array(expected), 1e-6)


@pytest.mark.parametrize("inhibition", [0.0, 0.1, 0.5])
def test_closed_form_is_where_the_dynamics_ends(inhibition: float) -> None:
    currents = tensor(np.random.default_rng(0).random((5, 6)).astype("float32"))
    settled, run = (
        array(KrotovHopfieldDynamics(inhibition=inhibition, solver=solver).steady_state(currents))
        for solver in ("closed_form", "ode")
    )
    np.testing.assert_allclose(run, settled, atol=2e-6)
    np.testing.assert_array_equal(np.argmax(settled, axis=-1), np.argmax(array(currents), axis=-1))


def test_the_duration_counts() -> None:
    currents = tensor(np.random.default_rng(0).random((5, 6)).astype("float32"))
    short = KrotovHopfieldDynamics(solver="ode", duration=1.0).steady_state(currents)
    settled = KrotovHopfieldDynamics().steady_state(currents)
    assert np.max(np.abs(array(short) - array(settled))) > 0.01


def test_more_inhibition_leaves_fewer_units_active() -> None:
    """As many as for evenly spaced currents: `n` with `1 - n / 51 > w S_n`."""
    currents = tensor(np.random.default_rng(0).random((200, 50)).astype("float32"))
    n = np.arange(1, 51)
    last = 51.0
    for w in (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 0.95):
        h = array(KrotovHopfieldDynamics(inhibition=w).steady_state(currents))
        active = np.mean(np.sum(h > 0.0, axis=-1))
        sums = (n - n**2 / 102.0) / (1.0 - w + n * w)
        assert active == pytest.approx(n[1.0 - n / 51.0 > w * sums].max(), abs=1.2)
        assert active < last
        last = active


def test_threshold_for() -> None:
    currents = tensor(np.random.default_rng(0).random((200, 50)).astype("float32"))
    rule = KrotovHopfieldDynamics()
    threshold = rule.threshold_for(currents, winners=1.5)
    h = array(rule.steady_state(currents))
    assert np.mean(np.sum(h >= threshold, axis=-1)) == pytest.approx(1.5, abs=0.02)
    with pytest.raises(ValueError, match=r"`winners` must be.*Received"):
        rule.threshold_for(currents, winners=51)
    with pytest.raises(ValueError, match=r"`winners` must be few enough"):
        rule.threshold_for(currents, winners=40)


@pytest.mark.parametrize("p", [2.0, 3.0, 4.0, 5.0])
def test_norms_move_towards_one(p: float) -> None:
    """`d/dt sum |W|^p = p (sum_b G I) (1 - sum |W|^p)`, for each unit."""
    x, w = probe((40, 9)), 0.5 * probe((9, 6), 1)
    rule = KrotovHopfieldDynamics(p, delta=0.9, threshold=0.6, inhibition=0.2)
    post = rule.currents(tensor(x), tensor(w))
    change = array(rule.change(tensor(x), post, tensor(w)))
    slope = p * np.sign(w) * np.abs(w.astype("float64")) ** (p - 1.0)
    norms = np.sum(np.abs(w.astype("float64")) ** p, axis=0)
    drive = np.sum(array(rule.gains(post)) * array(post).astype("float64"), axis=0)
    assert drive.min() < 0.0 < drive.max()
    assert_close(np.sum(slope * change, axis=0), p * drive * (1.0 - norms), 1e-5)


class Smooth(plasticity.PlasticityRule):
    """Gains that are the slope of an objective: `g = F'(Q)` with `F = softplus(4 Q - 1) / 4`."""

    def __init__(self, p: float, norms: Any) -> None:
        self.krotov, self.norms = KrotovHopfield(p), norms

    def metric(self, kernel: Any, *own: Any, **options: Any) -> Any:
        return self.krotov.metric(kernel)

    def gains(self, post: Any, *own: Any) -> Any:
        return keras.ops.sigmoid(4.0 * post / self.norms - 1.0)


@pytest.mark.parametrize("p", [2.0, 3.0, 4.0, 5.0])
def test_smooth_gains_climb_their_objective(p: float) -> None:
    """`C = sum F(Q)` with `Q = I / <W, W>^((p-1)/p)`, full batch, small steps of the rule."""
    x, w = probe((20, 6)).astype("float64"), probe((6, 3), 1).astype("float64")
    values = []
    for _ in range(40):
        norms = np.sum(np.abs(w) ** p, axis=0) ** ((p - 1.0) / p)
        rule = Smooth(p, tensor(norms))
        post = rule.currents(tensor(x), tensor(w))
        values.append(np.sum(np.logaddexp(0.0, 4.0 * array(post) / norms - 1.0) / 4.0))
        w = w + 1e-3 * array(rule.change(tensor(x), post, tensor(w)))
    assert np.min(np.diff(values)) > 0.0


def test_without_anti_hebbian_learning_it_is_spherical_k_means() -> None:
    """p = 2, delta = 0, one winner: the cost of the assignment falls."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 8))
    x = centres[rng.integers(0, 4, 200)] + 0.3 * rng.normal(size=(200, 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    w = rng.normal(size=(8, 4))
    w /= np.linalg.norm(w, axis=0)
    rule = KrotovHopfield(delta=0.0, normaliser=NoNormaliser())
    costs = []
    for _ in range(60):
        costs.append(np.sum(1.0 - np.max(x @ (w / np.linalg.norm(w, axis=0)), axis=1)))
        single = tensor(x.astype("float32")), tensor(w.astype("float32"))
        w = w + 2e-3 * array(rule.update(*single))
    assert np.max(np.diff(costs)) <= 1e-9
    assert costs[-1] < 0.8 * costs[0]


WRONG: list[tuple[str, Any]] = [
    ("p", 0.5),
    ("delta", -0.1),
    ("threshold", 0.0),
    ("inhibition", -0.1),
    ("inhibition", 1.0),
    ("solver", "euler"),
    ("tau", 0.0),
    ("duration", 0.0),
    ("normaliser", "max"),
]


@pytest.mark.parametrize(("argument", "value"), WRONG)
def test_bad_input(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be.*Received"):
        KrotovHopfieldDynamics(**{argument: value})
