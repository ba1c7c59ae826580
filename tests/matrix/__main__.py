"""Run the cells of the matrix that have not been run, and write the page of the documentation.

`python -m tests.matrix` takes hours on two cores; it can be stopped, and goes on where it
was. `--fraction 0.1` runs a tenth of the rows, always the same; `--table` runs none.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.matrix import page
from tests.matrix.choice import BACKENDS, COLUMNS, NEEDS, Key, chosen, row_names
from tests.matrix.record import BEGUN, Cell, Record

ROOT = Path(__file__).parents[2]
IN_GROUPS = ("2 replicas", "2 workers", "JAX 2 devices")
"""Columns that are known a chunk at a time."""


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    add = parser.add_argument
    add("--columns", nargs="*", default=list(COLUMNS), choices=list(COLUMNS), metavar="COLUMN")
    add("--rows", nargs="*", default=[""], metavar="ROW", help="how their names begin (all)")
    add("--fraction", type=float, default=1.0, help="of the rows, always the same (1)")
    add("--again", action="store_true", help="also what was run before")
    add("--failed", action="store_true", help="also what was run before and is no yes")
    add("--table", action="store_true", help="write the page from what is known")
    add("--processes", type=int, default=2, help="side by side (2)")
    add("--chunk", type=int, default=40, help="rows a process (40)")
    add("--torch", default=sys.executable, metavar="PYTHON", help="one that has PyTorch")
    add("--patience", type=float, default=1800.0, help="seconds in which a process must say more")
    add(
        "--record",
        type=Path,
        default=ROOT / ".tox/matrix-cells.jsonl",
        help="(.tox/matrix-cells.jsonl)",
    )
    add("--page", type=Path, default=ROOT / "docs/matrix.md", help="(docs/matrix.md)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    given = parsed(arguments)
    record = Record(given.record.resolve())
    rows = row_names(tuple(given.rows))
    if not given.table:
        done = {} if given.again else record.done()
        known = {key for key, cell in done.items() if not given.failed or cell.said == "yes"}
        wanted = chosen(rows, given.columns, given.fraction) - known
        run(wanted, rows, given, record)
    cells = record.done()
    given.page.write_text(page.text(row_names(("",)), cells))
    print(page.summary(row_names(("",)), cells))
    return 0


def run(wanted: set[Key], rows: list[str], given: argparse.Namespace, record: Record) -> None:
    """Run cells; those of the column to which all compare come first."""
    print(f"{len(wanted)} cells to run", flush=True)
    chunks = [
        (column, names[first : first + given.chunk])
        for column in given.columns
        if can_run(column, given)
        for names in [[row for row in rows if (row, column) in wanted]]
        for first in range(0, len(names), given.chunk)
    ]
    for first in (True, False):
        these = [each for each in chunks if (each[0] == "graph") is first]
        with ThreadPoolExecutor(max_workers=given.processes) as pool:
            for _ in pool.map(lambda each: run_chunk(*each, given=given, record=record), these):
                pass


def run_chunk(column: str, names: list[str], given: argparse.Namespace, record: Record) -> None:
    """Run cells of a column in a process of its own, and in another one if it dies."""
    start, left = time.monotonic(), list(names)
    while left:
        ended = run_process(column, left, given, record)
        found = record.read()
        begun = [name for name in left if _said(found, name, column) == BEGUN]
        if ended and not begun and column not in IN_GROUPS:
            begun = left[:1]
        elif ended and column in IN_GROUPS:
            begun = left
        record.add(Cell(name, column, "dies", ended) for name in begun)
        place = left.index(begun[-1]) + 1 if begun else len(left)
        left = left[place:]
    print(f"{time.monotonic() - start:6.0f} s  {column}: {len(names)} cells", flush=True)


def _said(found: dict[Key, Cell], name: str, column: str) -> str:
    cell = found.get((name, column))
    return "" if cell is None else cell.said


def interpreter(column: str, given: argparse.Namespace) -> str:
    """The Python that runs a column."""
    return str(given.torch) if column == "Torch" else sys.executable


def can_run(column: str, given: argparse.Namespace) -> bool:
    """Whether the package is there that a column needs."""
    package = NEEDS.get(column)
    if package is None:
        return True
    command = f"import importlib.util, sys; sys.exit(not importlib.util.find_spec({package!r}))"
    found = subprocess.run([interpreter(column, given), "-c", command]).returncode == 0
    if not found:
        print(f"{column} is not run: {package} is not installed", flush=True)
    return found


def run_process(column: str, names: list[str], given: argparse.Namespace, record: Record) -> str:
    """Run a process that adds cells to the record; return how it died, if it did."""
    backend, python = BACKENDS.get(column, "tensorflow"), interpreter(column, given)
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        order = Path(folder) / "order.json"
        order.write_text(json.dumps({"column": column, "rows": names, "record": str(record.path)}))
        with (Path(folder) / "log").open("w+") as log:
            process = subprocess.Popen(
                [python, "-m", "tests.matrix.process", str(order)],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = _wait(process, record, given.patience)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            log.seek(0)
            last = " ".join(log.read()[-300:].split())
    return "" if code == 0 else f"the process ended with {code}: {last}"


def _wait(process: subprocess.Popen[bytes], record: Record, patience: float) -> int:
    """Wait for the end of a process, or until it has said nothing for too long."""
    size, since = -1, time.monotonic()
    while (code := process.poll()) is None:
        now = record.path.stat().st_size if record.path.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        if time.monotonic() - since > patience:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()
        time.sleep(0.5)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
