"""The example of a learner on a device learns its new classes, in a small file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "learn_on_device.py"


@pytest.mark.daily
def test_learn_on_device(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("sklearn")
    learner = tmp_path / "learner.tflite"
    command = [sys.executable, str(SCRIPT), "--pretraining-epochs", "60", "--learner", str(learner)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (
        [float(number) for number in re.findall(r"\d\.\d+", line)]
        for line in done.stdout.splitlines()
        if line.startswith("accuracy")
    )
    assert before[0] == 0.0
    assert after[0] > 0.6
    assert after[1] > before[1] - 0.15
    assert learner.stat().st_size < 150_000
    assert "modules of TensorFlow or Keras: []" in done.stdout
