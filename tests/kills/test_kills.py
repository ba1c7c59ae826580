"""Runs that are killed end where they would have ended, bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.kills.cases import CASES
from tests.kills.runner import difference, killed
from tests.support import tensorflow_only

pytestmark = [
    tensorflow_only,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.mark.thorough
@pytest.mark.parametrize("name", CASES)
def test_stopped_in_this_process(name: str, tmp_path: Path) -> None:
    assert difference(CASES[name], tmp_path, epochs=name in ("pretraining", "at_once")) == 0.0


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "kills"),
    [
        pytest.param("feedback", 1, marks=pytest.mark.daily),
        *(pytest.param(name, 5, marks=pytest.mark.thorough) for name in CASES),
    ],
)
def test_killed(name: str, kills: int, tmp_path: Path) -> None:
    found = killed(name, kills, seed=1, folder=tmp_path)
    assert (found.unreadable, found.gap) == (0, 0.0)
    assert found.kills == kills
    # The kills came within the training, and what was written before them counted.
    assert 0 < found.last < found.whole
