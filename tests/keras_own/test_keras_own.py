"""Keras' own tests, which its wheel holds, with feedback layers in the places of Keras'."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import keras
import pytest

from tests.keras_own import left_out
from tests.support import tensorflow_only

SOURCE = Path(keras.__file__).parent / "src"
CONVOLUTIONS = ("conv", "conv_transpose", "depthwise_conv", "separable_conv")
CALLBACKS = (
    "backup_and_restore",
    "callback",
    "csv_logger",
    "early_stopping",
    "lambda_callback",
    "learning_rate_scheduler",
    "model_checkpoint",
    "monitor_callback",
    "reduce_lr_on_plateau",
    "swap_ema_weights",
    "terminate_on_nan",
)
GROUPS: dict[str, tuple[list[str], dict[str, str]]] = {
    "dense": (["layers/core/dense", "layers/core/einsum_dense"], left_out.DENSE),
    "convolutions": ([f"layers/convolutional/{name}" for name in CONVOLUTIONS], left_out.CONV),
    "attention": (["layers/attention/multi_head_attention"], left_out.ATTENTION),
    "recurrent": (
        [f"layers/rnn/{name}" for name in ("simple_rnn", "lstm", "gru", "bidirectional")],
        left_out.RECURRENT,
    ),
    "models": (
        [f"models/{name}" for name in ("cloning", "functional", "model", "sequential")],
        left_out.MODELS,
    ),
    "training": (
        ["trainers/trainer", *(f"callbacks/{name}" for name in CALLBACKS)],
        left_out.TRAINING,
    ),
    "saving": (["saving/saving_lib", "layers/layer"], left_out.SAVING),
}
VERSION = tuple(int(part) for part in keras.__version__.split(".")[:2])


@pytest.mark.thorough
@pytest.mark.timeout(3600)
@tensorflow_only
@pytest.mark.skipif(VERSION != (3, 15), reason="what is left out was listed for Keras 3.15")
@pytest.mark.parametrize(("files", "known"), GROUPS.values(), ids=GROUPS)
def test_keras_own(files: list[str], known: dict[str, str], tmp_path: Path) -> None:
    """What is listed fails, all else passes."""
    paths = [str(SOURCE / f"{name}_test.py") for name in files]
    missing = [path for path in paths if not Path(path).exists()]
    assert not missing, "Keras' wheel no longer holds these"
    outcomes = tmp_path / "outcomes.json"
    options = ["-q", "-c", os.devnull, "--rootdir", str(SOURCE), "--import-mode=importlib"]
    plugins = ["-p", "tests.keras_own.plugin", "-p", "no:cacheprovider", "-W", "ignore"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *plugins, "--tb=line", *paths],
        env={**os.environ, "KERAS_OWN_OUTCOMES": str(outcomes)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert outcomes.exists(), run.stdout[-2000:] + run.stderr[-2000:]
    found: dict[str, str] = json.loads(outcomes.read_text())
    passed = {name for name, outcome in found.items() if outcome == "passed"}
    failed = {name for name, outcome in found.items() if outcome == "failed"}
    assert len(passed) > 5 * len(files), run.stdout[-2000:]
    listed = {pattern: {name for name in found if fnmatchcase(name, pattern)} for pattern in known}
    unlisted = failed.difference(*listed.values())
    assert not unlisted, f"{sorted(unlisted)}\n{run.stdout[-4000:]}"
    stale = {pattern: names & passed for pattern, names in listed.items() if names & passed}
    assert not stale, f"no longer to be left out: {stale}"
    idle = [pattern for pattern, names in listed.items() if not names & failed]
    assert not idle, f"nothing that fails is named by {idle}"
