"""Tests of rules look at layers of every place, also at the lowest."""

from __future__ import annotations

from typing import Any

import pytest

from keras_local.layers.feedback.resting import Rest


@pytest.fixture(autouse=True)
def every_feedback_kernel_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rests, and when, is tested in `tests/layers/feedback/test_resting.py`."""

    def awake(self: Rest, layer: Any, rule: Any, unused: bool) -> None:
        self.set(False, layer.trainable)

    monkeypatch.setattr(Rest, "settle", awake)
