"""The page of the matrix, from what is known of its cells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tests.matrix.choice import COLUMNS, Key
from tests.matrix.record import YES, Cell

NOT_RUN = "not run"

HEAD = """# What runs where

<!-- `python -m tests.matrix` writes this page; what is changed here by hand is lost. -->

One row for each layer with each rule, for pretraining, readouts, recurrent layers and every
network; one column for each way of training, saving and exporting. Each cell is run: a tiny model
takes a few steps of training there. "yes" says that what came out was compared, and is equal;
anything else is a word for the reason, and the list below the table has the whole of it.

{summary}

The command `tox -e matrix`, or `python -m tests.matrix` where everything is installed, runs the
cells that have not been run and writes this page. It takes hours on two cores, can be
stopped at any time, and goes on where it was. `tox -e matrix -- --fraction 0.1` runs a tenth of
the rows, always the same. A row of the batteries in `tests/` is a row here by itself.

| column | what is compared with the training in graph mode on one device, of four steps |
|---|---|
| graph | nothing: weights move, and everything is finite |
| eager, XLA | weights after the same training, to 1e-5 of the largest entry of each |
| fp16, bf16 | mixed precision: weights, to 1 % (fp16) or 5 % (bf16) of the way they have gone |
| 2 replicas, 2 workers | weights; `MirroredStrategy`, and two processes with `multi_worker` |
| JAX, Torch | weights, with the other backend |
| JAX 2 devices | weights, with `DataParallel`, against one device of JAX |
| .keras | a saved and loaded model predicts and learns on as the one that was saved, bit for bit |
| SavedModel, ONNX, LiteRT | predictions of the file that `kl.models.export` writes |
| learner | two steps of the LiteRT file that `kl.models.export_learner` writes, and here, to 1e-5 |
| kill and resume | a process is killed; another model goes on, and ends with the same weights |
| golden | files of earlier versions with the classes of this row load, predict and learn the same |

"""

FOOT = """
"trains": it learns there, and draws other random numbers than TensorFlow in graph mode does, so
that weights cannot be compared. "skips": the loss scale of Keras leaves out the first steps in
fp16, with stock layers as well. "dies": the process ended. A number is by how much it differs.
"not run": nothing is known yet.

"""


def said(cells: Mapping[Key, Cell], row: str, column: str) -> str:
    """What a cell says."""
    cell = cells.get((row, column))
    return NOT_RUN if cell is None else cell.said


def summary(rows: Sequence[str], cells: Mapping[Key, Cell]) -> str:
    """How many cells say what."""
    counts = Counter(said(cells, row, column) for row in rows for column in COLUMNS)
    total = len(rows) * len(COLUMNS)
    yes, missing = counts.pop(YES, 0), counts.pop(NOT_RUN, 0)
    others = ", ".join(f"{word} {count}" for word, count in counts.most_common())
    return (
        f"{len(rows)} rows and {len(COLUMNS)} columns are {total} cells: {yes} yes, "
        f"{sum(counts.values())} with another word{f' ({others})' if others else ''}, "
        f"{missing} not run."
    )


def text(rows: Sequence[str], cells: Mapping[Key, Cell]) -> str:
    """The whole page."""
    known = [cells[row, column] for row in rows for column in COLUMNS if (row, column) in cells]
    days = sorted({cell.day for cell in known})
    when = f" Run on {' to '.join(dict.fromkeys([days[0], days[-1]]))}." if days else ""
    return HEAD.format(summary=summary(rows, cells) + when) + "\n".join(
        [*table(rows, cells), FOOT, *reasons(known)]
    )


def table(rows: Iterable[str], cells: Mapping[Key, Cell]) -> list[str]:
    """The lines of the table."""
    lines = [f"| row | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    for row in rows:
        words = " | ".join(said(cells, row, column) for column in COLUMNS)
        lines.append(f"| {row} | {words} |")
    return lines


def reasons(known: Iterable[Cell]) -> list[str]:
    """The reason of each cell that does not say yes, once for cells of the same."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for cell in known:
        if cell.said != YES:
            # Names that Keras counts up, and where an object is, differ from run to run.
            why = re.sub(r"_\d+\b| at 0x\w+", "", cell.why)
            places.setdefault((cell.column, cell.said, why), []).append(cell.row)
    return [
        f"- **{column}, {word}**: `{why.replace('`', chr(39))}` In: {', '.join(rows)}."
        for (column, word, why), rows in places.items()
    ]


def parsed(page: str) -> dict[Key, str]:
    """What the cells of a page say."""
    lines = page.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("| row |"))
    columns = [each.strip() for each in lines[first].strip("|").split("|")][1:]
    found: dict[Key, str] = {}
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        row, *words = (each.strip() for each in line.strip("|").split("|"))
        found.update({(row, column): word for column, word in zip(columns, words, strict=True)})
    return found
