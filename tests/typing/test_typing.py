"""Signatures that an editor understands: typing errors are seen, and what is right is accepted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found() -> dict[str, list[tuple[int, str]]]:
    """What mypy, with the project's own settings, says to the two files."""
    files = [HERE / "right.py", HERE / "wrong.py"]
    root = HERE.parents[1]
    command = [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml")]
    run = subprocess.run(
        [*command, "--no-error-summary", "--hide-error-context", *map(str, files)],
        cwd=root,
        capture_output=True,
        text=True,
    )
    errors: dict[str, list[tuple[int, str]]] = {path.name: [] for path in files}
    for line in run.stdout.splitlines():
        match = re.match(r"(.*?):(\d+): error: (.*)", line)
        if match:
            errors.setdefault(Path(match[1]).name, []).append((int(match[2]), match[3]))
    assert run.returncode in (0, 1), run.stderr
    return errors


def test_each_mistake_is_one_error(found: dict[str, list[tuple[int, str]]]) -> None:
    lines = (HERE / "wrong.py").read_text().splitlines()
    planted = [number for number, line in enumerate(lines, 1) if line.endswith("# wrong")]
    assert len(planted) == 9
    assert [number for number, _ in found["wrong.py"]] == planted, found["wrong.py"]


def test_what_is_right_is_accepted(found: dict[str, list[tuple[int, str]]]) -> None:
    assert found["right.py"] == []
    assert set(found) == {"right.py", "wrong.py"}
