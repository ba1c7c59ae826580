"""Run the tests of a module on a changed copy of it."""

from __future__ import annotations

import ast
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.mutants.choice import Mutant, changed, patch

SURVIVED, KILLED, UNFINISHED, UNTESTED = "survived", "killed", "unfinished", "untested"

HEAVY = ("tensorflow", "keras", "sklearn.linear_model", "matplotlib.pyplot", "hypothesis", "pytest")
"""Imported once for all runs."""

FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What became of a change.

    Attributes:
        path: The file.
        difference: The lines before and after. They name a change, also when others move it.
        outcome: Whether the tests noticed.
        seconds: How long they took.
        by: The first test that failed.
    """

    path: str
    difference: str
    outcome: str
    seconds: float
    by: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.path, self.difference


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
    """The examples of a file, its own tests, and those of its rooms that name what it defines.

    Where none does, all of its rooms, as for what is private, and those of others that do.
    Defaults of public arguments are known to one test for all rooms.
    """
    parts = Path(path).with_suffix("").parts[1:]
    own: list[Path] = []
    room: list[Path] = []
    for depth in range(len(parts), 0, -1):
        folder = root / "tests" / Path(*parts[: depth - 1])
        own += sorted(folder.glob(f"test_{parts[depth - 1].lstrip('_')}*.py"))
        place = root / "tests" / Path(*parts[:depth])
        if place.is_dir():
            room = sorted(place.rglob("test_*.py"))
            break
    above = [root / "tests" / Path(*parts[:depth]) for depth in range(1, len(parts))]
    room += [each for folder in above for each in sorted(folder.glob("test_*.py"))]
    names = public_names((root / path).read_text())
    every = sorted((root / "tests").rglob("test_*.py"))
    naming = [each for each in room if names and names.search(with_support(root, each))]
    elsewhere = [each for each in every if names and names.search(each.read_text())]
    whole = parts[-1].startswith("_") or not naming
    found = [*own, *(room if whole else naming), *([] if naming else elsewhere)]
    found = [*(root / "tests/golden").glob("test_signatures.py"), *found]
    return [path, *dict.fromkeys(each.relative_to(root).as_posix() for each in found)]


def public_names(source: str) -> re.Pattern[str] | None:
    """What finds a use of a class or function of a module."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    names = [node.name for node in ast.parse(source).body if isinstance(node, kinds)]
    return re.compile(rf"\b({'|'.join(names)})\b") if names else None


def with_support(root: Path, test: Path) -> str:
    """The text of a test file and of what it imports from beside it."""
    text = test.read_text()
    beside = ".".join(test.relative_to(root).parent.parts)
    modules = re.findall(rf"^from {beside}\.(\w+) import", text, re.MULTILINE)
    files = [test.parent / f"{name}.py" for name in modules]
    return "\n".join([text, *(each.read_text() for each in files if each.exists())])


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
        path = self.root / mutant.path
        before = path.read_text()
        after = changed(self.root, mutant)
        if after is None:
            raise ValueError(f"{mutant.place} does not apply: the file is another one than before.")
        tests = mirror_tests(self.root, mutant.path)
        start = time.monotonic()
        path.write_text(after)
        try:
            outcome, by = self.ask(tests)
        finally:
            path.write_text(before)
        seconds = time.monotonic() - start
        return Verdict(mutant.path, patch(before, after), outcome, seconds, by)

    def ask(self, tests: Sequence[str]) -> tuple[str, str]:
        """Run tests up to the first that fails; all that are not thorough count."""
        with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(list(HEAVY))
            child = context.Process(target=run_tests, args=(str(self.root), tests, log.name))
            child.start()
            child.join(self.limit)
            if child.exitcode is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.join()
                return UNFINISHED, ""
            shown = Path(log.name).read_text(errors="replace")
        if child.exitcode == 4 and "while loading conftest" not in shown:
            raise RuntimeError(f"pytest did not run:\n{shown}")
        outcome = {0: SURVIVED, 5: UNTESTED}.get(child.exitcode, KILLED)
        found = FAILED.findall(shown) or [f"exit status {child.exitcode}"]
        return outcome, found[0] if outcome == KILLED else ""

    def unjust(self, killers: Iterable[str]) -> list[str]:
        """Those of the tests that fail although nothing is changed."""
        # A name is cut off at a space of its arguments: all cases of the test stand for it.
        names = [name if name.endswith("]") else name.split("[")[0] for name in killers]
        left = dict.fromkeys(name for name in names if name.startswith(("tests/", "keras_local/")))
        found: list[str] = []
        while left:
            outcome, by = self.ask(list(left))
            if outcome == SURVIVED:
                break
            found.append(by)
            if left.pop(by, by) == by:
                break
        return found


def run_tests(root: str, tests: Sequence[str], log: str) -> None:
    """Run pytest on the copy, in a process that has imported what takes long to import."""
    os.setsid()
    stream = os.open(log, os.O_WRONLY | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.chdir(root)
    os.environ["PYTHONPATH"] = root
    # Without the project itself, whose modules would come first.
    sys.path[:] = [
        root,
        *(place for place in sys.path if not (Path(place) / "tests/mutants").is_dir()),
    ]
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "keras_local")]:
        del sys.modules[name]
    sys.dont_write_bytecode = True
    import pytest

    # A change may make a loop endless: that counts as noticed.
    arguments = ["-x", "-q", "-rfE", "-p", "no:cacheprovider", "--timeout=120"]
    status = pytest.main([*arguments, "-m", "not thorough", *tests], plugins=[Order(tests)])
    sys.stdout.flush()
    os._exit(int(status))


class Order:
    """The tests of the module itself first, those of its room then, daily ones at the end."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.place = {name: place for place, name in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        def place(item: pytest.Item) -> tuple[bool, int]:
            late = item.get_closest_marker("daily") or item.get_closest_marker("slow")
            return late is not None, self.place.get(item.nodeid.split("::")[0], 0)

        items.sort(key=place)


class Record:
    """Verdicts in a file, one a line: a run that was stopped goes on where it was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[tuple[str, str], Verdict] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                verdict = Verdict(**json.loads(line))
                self.known[verdict.key] = verdict

    def forget_survivors(self) -> None:
        """Only in this run: the file keeps the verdicts, of which the last counts."""
        self.known = {key: each for key, each in self.known.items() if each.outcome == KILLED}

    def add(self, verdict: Verdict) -> None:
        self.known[verdict.key] = verdict
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as stream:
            stream.write(json.dumps(asdict(verdict)) + "\n")


def summary(verdicts: list[Verdict]) -> str:
    """The survivors, and how many there are."""
    alive = [each for each in verdicts if each.outcome != KILLED]
    parts = [f"{each.outcome}: {each.path}\n{each.difference}\n" for each in alive]
    killed = len(verdicts) - len(alive)
    return "\n".join([*parts, f"{killed} of {len(verdicts)} killed"])
