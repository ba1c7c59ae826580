"""What is known of cells: a file of lines, to which each process adds as soon as it knows more."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterable
from pathlib import Path

YES, BEGUN = "yes", "begun"


@dataclasses.dataclass(frozen=True)
class Cell:
    """What came of one row in one column.

    Attributes:
        row: Name of the row.
        column: Name of the column.
        said: "yes", a word that says why not, or "begun".
        why: The whole message, where it is not "yes".
        day: When it was run.
    """

    row: str
    column: str
    said: str
    why: str = ""
    day: str = dataclasses.field(default_factory=lambda: datetime.date.today().isoformat())


class Record:
    """The cells that a file knows; the last line of a cell counts.

    Args:
        path: The file, which need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, cells: Iterable[Cell]) -> None:
        """Write cells down at once, so that a kill loses none of them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(dataclasses.asdict(cell)) + "\n" for cell in cells]
        with self.path.open("a") as file:
            file.write("".join(lines))

    def read(self) -> dict[tuple[str, str], Cell]:
        """Return all cells, also those that have only begun."""
        found: dict[tuple[str, str], Cell] = {}
        if not self.path.exists():
            return found
        for line in self.path.read_text().splitlines():
            try:
                cell = Cell(**json.loads(line))
            except ValueError:  # A line that was cut off by a kill.
                continue
            found[cell.row, cell.column] = cell
        return found

    def done(self) -> dict[tuple[str, str], Cell]:
        """Return the cells that were run to their end."""
        return {key: cell for key, cell in self.read().items() if cell.said != BEGUN}
