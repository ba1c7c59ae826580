"""`keras-local compare`: what it hands on, what it writes, how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from keras_local.reproduce import cli

FILE = """
import keras
import numpy as np
import beside
import keras_local as kl

inputs = np.random.default_rng(0).normal(size=(40, 5)).astype("float32")
labels = (inputs[:, 0] > 0).astype("int32")

def data():
    return (inputs, labels), (inputs, labels)

def network():
    hidden = keras.layers.Dense(beside.UNITS, "relu")
    return keras.Sequential([keras.Input((5,)), hidden, keras.layers.Dense(2)])

weak = kl.feedback.KolenPollack(decay=0.1)
slow = keras.optimizers.SGD(0.01)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("UNITS = 4\n")
    path = tmp_path / "net.py"
    path.write_text(FILE)
    return path


def test_it_prints_and_writes(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found"
    words = f"compare {file}:network --rules frfb weak --data data --seeds 2 --epochs 1"
    options = f"--batch-size 10 --optimizer slow --out {out}"
    assert cli.main([*words.split(), *options.split()]) == 0
    printed = capsys.readouterr()
    table = (out / "table.txt").read_text()
    assert printed.out.startswith(table)
    assert [line.split()[0] for line in table.splitlines()[2:5]] == ["symmetric", "frfb", "weak"]
    assert "symmetric" in printed.err  # The progress.
    runs = sorted(path.name for path in (out / "runs").iterdir())
    assert runs == [
        f"{name}-s{seed}.json" for name in ("frfb", "symmetric", "weak") for seed in "01"
    ]
    content = (out / "runs" / "weak-s0.json").read_text()
    assert '"decay": 0.1' in content
    assert '"learning_rate": 0.00999' in content


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("net.py --rules frfb", "FILE.py:FUNCTION"),
        ("missing.py:network --rules frfb", "an existing .py file"),
        ("net.py:nothing --rules frfb", "network"),
        ("net.py:network --rules nothing", "'nothing'"),
        ("net.py:network --rules frfb --data letters", "letters"),
        ("net.py:network --rules frfb --data data --seeds 0", "`seeds`"),
    ],
)
def test_it_refuses(
    words: str,
    message: str,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(file.parent)
    assert cli.main(["compare", *words.split()]) == 1
    assert message in capsys.readouterr().err
    assert not (file.parent / "keras-local-comparison").exists()
