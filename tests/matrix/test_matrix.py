"""The matrix: its page has every cell, and says what its cells say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.distribute.cases import CASES
from tests.matrix import __main__ as command
from tests.matrix import choice, page, process, reasons
from tests.matrix.record import BEGUN, YES, Cell, Record
from tests.support import tensorflow_only

PAGE = Path(__file__).parents[2] / "docs/matrix.md"
CHEAP = ("graph", "eager", "SavedModel")

pytestmark = tensorflow_only


def test_the_page_has_the_rows_of_the_batteries_and_no_blank_cell() -> None:
    """`python -m tests.matrix --table` adds the rows that are new; a few may wait for it."""
    said, rows = page.parsed(PAGE.read_text()), choice.rows_of(CASES)
    on_page = list(dict.fromkeys(row for row, _ in said))
    assert list(said) == [(row, column) for row in on_page for column in choice.COLUMNS]
    assert all(said.values())
    assert [row for row in on_page if row not in rows] == []
    assert len(on_page) >= 0.95 * len(rows)


@pytest.mark.daily
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_same_tenth_says_what_the_page_says(tmp_path: Path) -> None:
    """In the columns that take little time, in this process."""
    record, rows = Record(tmp_path / "matrix.jsonl"), choice.rows_of(CASES)
    for column in CHEAP:
        wanted = choice.chosen(rows, [column], 0.1)
        process.run(column, [row for row in rows if (row, column) in wanted], record)
    found, on_page = record.done(), page.parsed(PAGE.read_text())
    assert len(found) >= 0.05 * len(rows) * len(CHEAP)
    different = {
        key: (cell.said, cell.why)
        for key, cell in found.items()
        if cell.said not in (YES, on_page.get(key))
    }
    assert different == {}


def test_what_was_run_before_is_known(tmp_path: Path) -> None:
    """Also if a process was killed while it wrote."""
    record = Record(tmp_path / "matrix.jsonl")
    record.add([Cell("a", "graph", BEGUN), Cell("a", "graph", YES), Cell("b", "graph", BEGUN)])
    with record.path.open("a") as file:
        file.write('{"row": "c", "colu')
    assert [cell.said for cell in record.read().values()] == [YES, BEGUN]
    assert list(record.done()) == [("a", "graph")]


def test_a_cell_in_which_a_process_dies_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its column are run nevertheless."""
    given = command.parsed(["--record", str(tmp_path / "matrix.jsonl")])
    record, started = Record(given.record), []

    def run_process(column: str, names: list[str], *_: object) -> str:
        started.append(list(names))
        for name in names:
            record.add([Cell(name, column, BEGUN)])
            if name == "b":
                return "the process ended with -11: "
            record.add([Cell(name, column, YES)])
        return ""

    monkeypatch.setattr(command, "run_process", run_process)
    command.run_chunk("ONNX", ["a", "b", "c"], given, record)
    assert started == [["a", "b", "c"], ["c"]]
    said = {name: cell.said for (name, _), cell in record.done().items()}
    assert said == {"a": YES, "b": "dies", "c": YES}


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_a_process_that_ends_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = command.parsed(["--torch", "/bin/false", "--record", str(tmp_path / "matrix.jsonl")])
    assert "ended with 1" in command.run_process("Torch", ["a"], given, Record(given.record))
    assert not command.can_run("Torch", given)


def test_reasons_are_words() -> None:
    refused = ValueError(
        "`model` must be made of operations that 'litert' has. Received: "
        "model=DepthwiseConv2dNativeBackpropFilter in layer 'a', MatrixSolve in layer 'b'"
    )
    assert reasons.word_of(refused) == "DepthwiseConv2dNativeBackpropFilter"
    assert reasons.word_of(reasons.Says("2e-03", "differs")) == "2e-03"
    assert reasons.word_of(TypeError("what else")) == "TypeError"


def test_the_page_counts_its_cells() -> None:
    cells = {
        ("a", "graph"): Cell("a", "graph", YES, day="2026-01-02"),
        ("a", "ONNX"): Cell("a", "ONNX", "Erfc", "ONNX has no `Erfc` in layer_7", "2026-01-05"),
    }
    text = page.text(["a", "b"], cells)
    assert "34 cells: 1 yes, 1 with another word (Erfc 1), 32 not run." in text
    assert "Run on 2026-01-02 to 2026-01-05." in text
    assert "- **ONNX, Erfc**: `ONNX has no 'Erfc' in layer` In: a." in text
    assert page.parsed(text)["a", "ONNX"] == "Erfc"
    assert page.parsed(text)["b", "golden"] == page.NOT_RUN
