"""Run the tests of a module on a changed copy of it."""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.mutants.choice import Mutant

SURVIVED, KILLED, TIMEOUT, UNTESTED = "survived", "killed", "timeout", "untested"


@dataclass(frozen=True)
class Verdict:
    """What became of a change.

    Attributes:
        key: The change.
        outcome: Whether the tests noticed.
        seconds: How long they took.
        difference: The change as a patch.
    """

    key: str
    outcome: str
    seconds: float
    difference: str


def copy_project(root: Path, target: Path) -> None:
    """Copy what git tracks, and what it does not ignore, so that nobody else's files change."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        names = run.stdout.split("\0")
    except (subprocess.CalledProcessError, FileNotFoundError):
        names = [path.relative_to(root).as_posix() for path in root.rglob("*")]
    for name in names:
        source = root / name
        if name and source.is_file() and not name.startswith((".git/", ".tox/")):
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(source.read_bytes())


def mirror_tests(root: Path, path: str) -> list[str]:
    """The tests that mirror a file: its own first, then those of its room; and its examples."""
    parts = Path(path).with_suffix("").parts[1:]
    found: list[Path] = []
    for depth in range(len(parts), 0, -1):
        folder = root / "tests" / Path(*parts[: depth - 1])
        found += sorted(folder.glob(f"test_{parts[depth - 1]}*.py"))
        room = root / "tests" / Path(*parts[:depth])
        if room.is_dir():
            found += sorted(room.rglob("test_*.py"))
            break
    return [path, *dict.fromkeys(each.relative_to(root).as_posix() for each in found)]


class Copy:
    """A copy of the project in which one line at a time is another one."""

    def __init__(self, root: Path, limit: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mutants-")
        self.root = Path(self._folder.name)
        self.limit = limit
        copy_project(root, self.root)

    def close(self) -> None:
        self._folder.cleanup()

    def try_out(self, mutant: Mutant) -> Verdict:
        """Change the line, run the tests, change it back."""
        import cosmic_ray.plugins
        from cosmic_ray.mutating import mutate_code

        path = self.root / mutant.path
        before = path.read_text()
        operator = cosmic_ray.plugins.get_operator(mutant.operator)()
        after = mutate_code(before, operator, mutant.occurrence)
        if after is None:
            raise ValueError(f"{mutant.key} does not apply: the file is another one than before.")
        start = time.monotonic()
        path.write_text(after)
        try:
            outcome = self.ask(mutant.path)
        finally:
            path.write_text(before)
        patch = difflib.unified_diff(
            before.splitlines(), after.splitlines(), mutant.path, mutant.path, "", "", 0, ""
        )
        return Verdict(mutant.key, outcome, time.monotonic() - start, "\n".join(patch))

    def ask(self, path: str) -> str:
        """Run the tests of a file; all that is not thorough counts."""
        command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += ["-m", "not thorough", *mirror_tests(self.root, path)]
        try:
            # Without the path of the project itself, whose modules would come first.
            run = subprocess.run(
                command,
                cwd=self.root,
                capture_output=True,
                timeout=self.limit,
                env=_environment(self.root),
            )
        except subprocess.TimeoutExpired:
            return TIMEOUT
        return {0: SURVIVED, 5: UNTESTED}.get(run.returncode, KILLED)


def _environment(root: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(root)}


class Record:
    """Verdicts in a file, one a line: a run that was stopped goes on where it was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, Verdict] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                verdict = Verdict(**json.loads(line))
                self.known[verdict.key] = verdict

    def add(self, verdict: Verdict) -> None:
        self.known[verdict.key] = verdict
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as stream:
            stream.write(json.dumps(asdict(verdict)) + "\n")


def summary(verdicts: list[Verdict]) -> str:
    """The survivors, and how many there are."""
    alive = [each for each in verdicts if each.outcome in (SURVIVED, UNTESTED)]
    parts: list[Any] = [f"{each.outcome}: {each.key}\n{each.difference}\n" for each in alive]
    killed = len(verdicts) - len(alive)
    return "\n".join([*parts, f"{killed} of {len(verdicts)} killed"])
