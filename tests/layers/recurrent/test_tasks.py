"""Recurrent layers learn what needs a memory, by each time rule."""

from __future__ import annotations

import pytest

from benchmarks.sequence_tasks import sines, trained_on


@pytest.mark.thorough
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_delayed_xor_needs_credit_in_time(seed: int) -> None:
    """600 batches; credit for the last step alone stays near chance."""
    assert trained_on("xor", "eprop", seed) >= 0.95
    assert trained_on("xor", "last step", seed) <= 0.7


@pytest.mark.thorough
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_feedback_local_online_learning(seed: int) -> None:
    """A third of the error that a network with frozen recurrent weights keeps, or less."""
    assert sines("eprop random", seed) <= sines("frozen", seed) / 3


@pytest.mark.daily
def test_adding() -> None:
    """To guess the mean has an error of 1/6."""
    assert trained_on("adding", "eprop", 1) < 0.05
