"""The command line: what it accepts, what it hands on, how it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import keras_local
from keras_local.reproduce import cli, demo
from keras_local.reproduce.settings import DemoSettings


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Catch what the command hands to the demo, and run nothing."""
    caught: list[dict[str, Any]] = []

    def run(settings: DemoSettings, out: Path, **others: Any) -> None:
        caught.append({"settings": settings, "out": out, **others})

    monkeypatch.setattr(demo, "run", run)
    return caught


def test_defaults(calls: list[dict[str, Any]]) -> None:
    assert cli.main(["demo"]) == 0
    (call,) = calls
    assert call["settings"] == DemoSettings.of("digits")
    assert call["out"] == Path("keras-local-demo")
    assert (call["seed"], call["quick"]) == (0, False)
    assert call["command"] == "keras-local demo"


def test_all_arguments(calls: list[dict[str, Any]]) -> None:
    arguments = ["demo", "--data", "mnist", "--out", "my report", "--seed", "7", "--quick"]
    assert cli.main(arguments) == 0
    (call,) = calls
    assert call["settings"] == DemoSettings.of("mnist").quick()
    assert call["out"] == Path("my report")
    assert (call["seed"], call["quick"]) == (7, True)
    # What the report prints can be pasted into a shell.
    assert call["command"] == "keras-local demo --data mnist --out 'my report' --seed 7 --quick"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["dmeo"], "dmeo"),
        (["demo", "--data", "letters"], "letters"),
        (["demo", "--seed", "-1"], "from 0 to 2**32 - 1. Received: '-1'"),
        (["demo", "--seed", "4294967296"], "4294967296"),
        (["demo", "--seed", "one"], "'one'"),
        (["demo", "--fast"], "--fast"),
    ],
)
def test_unreadable_arguments(
    arguments: list[str],
    message: str,
    calls: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert calls == []


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo", "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(option in printed for option in ("--data", "--out", "--seed", "--quick"))
    assert "digits" in printed
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert keras_local.__version__ in capsys.readouterr().out


def test_a_file_in_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report"
    file.write_text("mine")
    assert cli.main(["demo", "--out", str(file)]) == 1
    error = capsys.readouterr().err
    assert "keras-local: error: `out` must be a folder" in error
    assert str(file) in error
    assert file.read_text() == "mine"


def test_a_file_above_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert cli.main(["demo", "--out", str(file / "report")]) == 1
    assert "keras-local: error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("`x` must be y"), 1, "keras-local: error: `x` must be y"),
        (ImportError("pip install it"), 1, "keras-local: error: pip install it"),
        (RuntimeError("no network"), 1, "keras-local: error: no network"),
        (KeyboardInterrupt(), 130, "keras-local: interrupted"),
    ],
)
def test_refusals(
    error: BaseException,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*arguments: Any, **others: Any) -> None:
        raise error

    monkeypatch.setattr(demo, "run", run)
    assert cli.main(["demo"]) == status
    assert capsys.readouterr().err.strip() == message


def test_mistakes_of_our_own_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: Any, **others: Any) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(demo, "run", run)
    with pytest.raises(TypeError, match="a bug"):
        cli.main(["demo"])
