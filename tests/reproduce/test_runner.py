"""Runs of experiments: each kind, kept results, kills, refusals, and the pages of results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from keras_local.reproduce import cells, cli, runner
from tests.reproduce.test_experiment import GOOD

PRETRAIN = """
id = "features"
source = "Somebody 2030"
title = "Do features help?"
kind = "pretrain"
control = ["random"]
figures = ["bars", "receptive_fields"]
[data]
name = "digits"
flatten = true
train = 300
test = 100
[encoder]
layers = [{ name = "HebbianDense", units = 20, plasticity = { name = "krotov_hopfield", p = 3 } }]
epochs = 20
batch_size = 20
step_size = 0.05
[readout]
optimizer = { name = "Adam", learning_rate = 0.03 }
epochs = 5
batch_size = 20
[variants]
bio = {}
random = { "encoder.epochs" = 0 }
raw = { "encoder.layers" = [], "encoder.epochs" = 0, "readout.power" = 1.0 }
neighbours = { "readout.kind" = "neighbours" }
means = { "readout.kind" = "class_means" }
dense = { "readout.kind" = "dense", "readout.standardise" = true }
end-to-end = { "readout.kind" = "end_to_end", "readout.hidden" = 20 }
few = { "data.labels" = 50 }
[presets.smoke]
order = [["bio", "random", 0.0]]
"""

MEASURE = """
id = "linear"
source = "Somebody 2030"
title = "Does the error fall?"
kind = "measure"
metric = "log10_loss"
control = ["slow"]
figures = ["table", "curves"]
[measure]
function = "linear_feedback"
arguments = { sizes = [8, 6, 4], epsilon = 1.0, samples = 50, steps = 100 }
[variants]
fast = {}
slow = { "measure.arguments.epsilon" = 0.0 }
[presets.smoke]
order = [["fast", "slow", 0.0]]
"""


def run(text: str, folder: Path, *words: str) -> int:
    """Run an experiment of a file, by the command."""
    path = folder / "experiment.toml"
    path.write_text(text)
    out = ["--preset", "smoke", "--out", str(folder / "out")]
    return cli.main(["run", str(path), *out, *words])


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return all results, without what differs between two runs."""
    found = {}
    for path, facts in cells.results(folder / "out"):
        found[path.stem] = {key: each for key, each in facts.items() if key not in cells.TIMES}
    return found


LONGER = GOOD.replace('"train.epochs" = 1', '"train.epochs" = 6')


@pytest.mark.few(1, rest="daily")
@pytest.mark.parametrize("text", [LONGER, PRETRAIN, MEASURE], ids=["train", "pretrain", "measure"])
def test_each_kind_runs_and_has_pages(text: str, tmp_path: Path) -> None:
    assert run(text, tmp_path) == 0
    found = results(tmp_path)
    for facts in found.values():
        assert facts["schema"] == cells.SCHEMA
        assert facts["final"]
        if "test_error" in facts["final"]:
            final = facts["final"]
            assert final["test_error"] == final["wrong"] / final["images"]
            assert final["test_error"] < 0.9
    if "mine" in text:
        assert found["URFB-s0"]["final"]["test_error"] < found["frozen-s0"]["final"]["test_error"]
        logs = next((tmp_path / "out").glob("*/*/logs/URFB-s0/train.csv")).read_text()
        assert logs.count("\n") == 7
    if text == PRETRAIN:
        assert len(found) == 8
        errors = {name: facts["final"]["test_error"] for name, facts in found.items()}
        assert max(errors["bio-s0"], errors["means-s0"], errors["neighbours-s0"]) < 0.5
    assert not list((tmp_path / "out").glob("*/*/.unfinished"))
    words = ["report", str(tmp_path / "out"), "--date", "2030-01-01"]
    pages = []
    for name in ("first", "second"):
        assert cli.main([*words, "--out", str(tmp_path / name)]) == 0
        files = sorted(each for each in (tmp_path / name).rglob("*") if each.is_file())
        pages.append({str(each.relative_to(tmp_path / name)): each.read_bytes() for each in files})
    assert pages[0] == pages[1]
    page = pages[0]["somebody-2030.md"].decode()
    assert ", 95 % interval |" in page
    if "mine" in text:
        assert "5 (from memory, unverified)" in page
        assert "**Unverified:** the published values of URFB are from memory." in page
    index = pages[0]["index.md"].decode()
    assert "## Not run" in index
    assert "```{toctree}\n:hidden:\n\nsomebody-2030\n```" in index


def test_results_are_kept_and_others_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(MEASURE, tmp_path) == 0
    before = {path: path.stat().st_mtime_ns for path, _ in cells.results(tmp_path / "out")}
    assert run(MEASURE, tmp_path) == 0
    assert before == {path: path.stat().st_mtime_ns for path, _ in cells.results(tmp_path / "out")}
    assert "0 runs done, 2 kept" in capsys.readouterr().out
    words = ["--set", "measure.arguments.steps=50"]
    assert run(MEASURE, tmp_path, *words) == 1
    assert "--force" in capsys.readouterr().err
    assert run(MEASURE, tmp_path, *words, "--force") == 0
    facts = results(tmp_path)["fast-s0"]
    assert facts["settings"]["measure"]["arguments"]["steps"] == 50


def test_a_failed_run_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = MEASURE.replace("slow = {", 'slow = { "measure.arguments.samples" = -1,')
    assert run(broken, tmp_path, "--seeds", "2") == 1
    assert "2 runs done, 0 kept, 2 failed" in capsys.readouterr().out
    assert sorted(results(tmp_path)) == ["fast-s0", "fast-s1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--variants", "fats"], "fats"),
        (["--set", "measure.arguments.step=3"], "step"),
        (["--set", "nothing"], "KEY=VALUE"),
        (["--set", "train.epochs=3"], "train"),
        (["--preset", "paper"], "paper"),
        (["--preset", "smoke", "--all"], "--all"),
    ],
)
def test_nothing_runs_if_a_word_is_wrong(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(MEASURE, tmp_path, *words) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.daily
def test_an_interrupted_run_ends_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = GOOD.replace('"train.epochs" = 1', '"train.epochs" = 3, "train.record" = ["norm_ratio"]')
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    assert run(text, whole, "--variants", "URFB") == 0

    original = runner.EpochTable.on_epoch_begin

    def interrupted(self: runner.EpochTable, epoch: int, logs: Any = None) -> None:
        original(self, epoch, logs)
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner.EpochTable, "on_epoch_begin", interrupted)
        assert run(text, broken, "--variants", "URFB") == 130
    assert not results(broken)
    assert run(text, broken, "--variants", "URFB") == 0
    (facts,) = [facts for _, facts in cells.results(broken / "out")]
    assert facts["resumed"]
    assert results(broken) == results(whole)


@pytest.mark.daily
@pytest.mark.few(1)
@pytest.mark.slow
@pytest.mark.parametrize("text", [GOOD, PRETRAIN], ids=["train", "pretrain"])
def test_a_killed_run_ends_with_the_same_result(text: str, tmp_path: Path) -> None:
    if text == GOOD:
        text = text.replace('"train.epochs" = 1', '"train.epochs" = 40')
    else:
        text = text.replace("epochs = 20", "epochs = 400")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = ("--variants", "URFB" if text.startswith(GOOD[:20]) else "bio")
    for folder in (whole, broken):
        folder.mkdir()
        (folder / "experiment.toml").write_text(text)
    assert run(text, whole, *words) == 0
    command = [sys.executable, "-m", "keras_local.reproduce.cli", "run"]
    command += [str(broken / "experiment.toml"), "--preset", "smoke"]
    command += ["--out", str(broken / "out"), *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < end:
        # Some epochs are over, and the state of them is on the disk.
        tables = list((broken / "out").glob("*/*/logs/*/*.csv"))
        if tables and tables[0].read_text().count("\n") > 3:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.01)
    process.wait(timeout=60)
    assert run(text, broken, *words) == 0
    assert json.dumps(results(broken), sort_keys=True) == json.dumps(results(whole), sort_keys=True)
