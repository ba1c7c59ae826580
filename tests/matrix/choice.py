"""Which rows and columns the matrix has, and which of its cells a part of it has."""

from __future__ import annotations

import functools
import subprocess
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

Key = tuple[str, str]

COLUMNS = (
    "eager",
    "graph",
    "XLA",
    "fp16",
    "bf16",
    "2 replicas",
    "2 workers",
    "JAX",
    "JAX 2 devices",
    "Torch",
    ".keras",
    "SavedModel",
    "ONNX",
    "LiteRT",
    "learner",
    "kill and resume",
    "golden",
)

BACKENDS = {"JAX": "jax", "Torch": "torch"}
"""Of the columns that are not TensorFlow's."""

NEEDS = {**BACKENDS, "JAX 2 devices": "jax", "ONNX": "onnxruntime", "LiteRT": "ai_edge_litert"}
"""Packages without which a column is not run."""

LEFT_OUT = ("alias-", "services-")
"""How names of cases begin that are the same as other rows, or no rows."""


@functools.cache
def all_row_names() -> tuple[str, ...]:
    """All rows: what the batteries, pretraining and readouts have, in a process of its own."""
    command = "from tests.distribute.cases import CASES; print('ROWS', *CASES)"
    said = subprocess.run(
        [sys.executable, "-c", command],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    line = next(each for each in said.splitlines() if each.startswith("ROWS "))
    return rows_of(line.split()[1:])


def rows_of(cases: Iterable[str]) -> tuple[str, ...]:
    """The rows among the names of cases."""
    return tuple(name for name in cases if not name.startswith(LEFT_OUT))


def row_names(starts: tuple[str, ...]) -> list[str]:
    """The rows of which the names begin so."""
    return [name for name in all_row_names() if name.startswith(starts)]


def chosen(rows: Iterable[str], columns: Iterable[str], fraction: float) -> set[Key]:
    """Return the cells of some rows; whether a row is among them does not depend on the others."""
    some = [row for row in rows if zlib.crc32(row.encode()) < fraction * 2**32]
    return {(row, column) for row in some for column in columns}
