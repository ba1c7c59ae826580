"""What a comparison of rules found: a table, a figure and files."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_local.reproduce import json_files
from keras_local.reproduce.compared_figure import figure_of_runs
from keras_local.reproduce.compared_runs import Run
from keras_local.reproduce.statistics import (
    Interval,
    holm,
    interval_of_runs,
    sign_flip,
    smallest_p,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NONE = "–"

_LEVEL = 0.05
"""Below it a p-value is usually called significant."""


@dataclass(frozen=True)
class Row:
    """The numbers of one rule.

    Attributes:
        rule: Name of the rule.
        measured: Mean over the seeds of the measure after the last epoch, with its interval.
        difference: The same for the difference from the control with the same seed; None for the
            control itself.
        p: Two-sided p-value of the exact sign-flip test of these differences, or None.
        p_holm: The p-value corrected for the number of rules by Holm's method, or None.
        gradient_angle: Mean angle in degrees between the gradient that the rule gives and that of
            backpropagation, over all kernels but the highest, after the last epoch; or None.
        kernel_angle: Mean angle in degrees between kernels and feedback kernels, or None.
        step: Time of a training step as a multiple of the control's.
        memory: Bytes of weights, feedback weights and slots of the optimizer.
        rate: The learning rate that was chosen on held-out examples, or None.
    """

    rule: str
    measured: Interval
    difference: Interval | None
    p: float | None
    p_holm: float | None
    gradient_angle: Interval | None
    kernel_angle: Interval | None
    step: float
    memory: int
    rate: float | None


@dataclass(frozen=True)
class Comparison:
    """Rules on the same model and data, from the same seeds: what `compare` returns.

    `print(comparison)` writes the table. A notebook shows it as such, and so does `rich.print`.

    Attributes:
        measure: What was measured, such as `"test error (%)"`.
        rules: The names of the rules; the first is the control.
        seeds: The seeds.
        runs: What each rule did from each seed.
        step_seconds: How long steps of each rule took, in turns.
        settings: The arguments, in words.
    """

    measure: str
    rules: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    step_seconds: dict[str, list[float]]
    settings: dict[str, Any]

    def of(self, rule: str) -> list[Run]:
        """Return the runs of a rule, in the order of the seeds."""
        return [run for run in self.runs if run.rule == rule]

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The numbers of the table, one row for each rule, the control first."""
        control = [run.final for run in self.of(self.rules[0])]
        differences = {
            rule: [run.final - other for run, other in zip(self.of(rule), control, strict=True)]
            for rule in self.rules[1:]
        }
        p_values = {
            rule: sign_flip(values)
            for rule, values in differences.items()
            if np.isfinite(values).all()
        }
        corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
        # A step that another job has held up says nothing: the fast ones count.
        steps = {rule: np.quantile(self.step_seconds[rule], 0.25) for rule in self.rules}
        return tuple(
            Row(
                rule,
                interval_of_runs([run.final for run in self.of(rule)]),
                interval_of_runs(differences[rule]) if rule in differences else None,
                p_values.get(rule),
                corrected.get(rule),
                _angle([run.gradient_angle for run in self.of(rule)]),
                _angle([run.kernel_angle for run in self.of(rule)]),
                float(steps[rule] / steps[self.rules[0]]),
                self.of(rule)[0].memory,
                self.of(rule)[0].rate,
            )
            for rule in self.rules
        )

    @property
    def table(self) -> str:
        """The table in plain text, with notes below it."""
        header, *rows = self._cells()
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(_fit(c, w, i) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in (header, ["-" * width for width in widths], *rows)
        ]
        return "\n".join([*(line.rstrip() for line in lines), "", *self.notes])

    @property
    def markdown(self) -> str:
        """The table in Markdown, with notes below it."""
        header, *rows = self._cells()
        line = ["---", *("--:" for _ in header[1:])]
        lines = ["| " + " | ".join(row) + " |" for row in (header, line, *rows)]
        return "\n".join([*lines, "", *(f"{note}  " for note in self.notes)]).rstrip() + "\n"

    @property
    def notes(self) -> list[str]:
        """What has to be known to read the table."""
        count, control = len(self.seeds), self.rules[0]
        notes = [f"Mean of {count} seeds ± half of the 95 % interval (Student's t)."]
        if count == 1:
            notes = ["One seed: there is no interval, and no difference can be told from chance."]
        if len(self.rules) > 1:
            notes.append(
                f"Differences from {control} are paired by seed; p is that of the exact sign-flip "
                f"test, corrected for {len(self.rules) - 1} comparisons (Holm)."
            )
            tests = len(self.rules) - 1
            least = min(1.0, tests * smallest_p(count))
            if least > _LEVEL:
                enough = 1 + math.ceil(math.log2(tests / _LEVEL))
                notes.append(
                    f"With {count} seed{'s' * (count > 1)} no p can be below {least:.2g}; below "
                    f"{_LEVEL} it can be with {enough}."
                )
        kinds = "weights, feedback weights and slots of the optimizer"
        notes.append(
            f"Step and memory: multiples of {control} ({_size(self.rows[0].memory)} of {kinds}; "
            "activations are not counted)."
        )
        if any(row.gradient_angle for row in self.rows):
            notes.append(
                "Gradient angle: between the gradient that the rule gives and that of "
                "backpropagation, mean over all kernels but the highest."
            )
        for message in dict.fromkeys(text for run in self.runs for text in run.warnings):
            rules = dict.fromkeys(run.rule for run in self.runs if message in run.warnings)
            notes.append(f"Warning ({', '.join(rules)}): {message}")
        return notes

    def figure(self) -> Figure:
        """Draw learning curves and gradient angles, each with the band of its interval.

        Raises:
            ImportError: If matplotlib is missing.
        """
        return figure_of_runs(self.measure, {rule: self.of(rule) for rule in self.rules})

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the table, the figure and one JSON file for each run into a folder.

        Files of the same names are replaced: `table.txt`, `table.md`, `curves.png` and
        `runs/<rule>-s<seed>.json`. Without matplotlib there is no figure. A rule whose name has
        signs that names of files should not have gets `_` for each of them, and a number.

        Args:
            folder: The folder, which is created.

        Returns:
            The folder.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / "table.txt").write_text(self.table + "\n", encoding="utf-8")
        (path / "table.md").write_text(self.markdown, encoding="utf-8")
        for run in self.runs:
            save_run(path, run, self.measure, self.settings)
        try:
            self.figure().savefig(path / "curves.png", dpi=130)
        except ImportError:
            (path / "curves.png").unlink(missing_ok=True)
        return path

    def __str__(self) -> str:
        """Return the table."""
        return self.table

    def _repr_markdown_(self) -> str:
        return self.markdown

    def __rich__(self) -> Any:
        """Return the table for the terminal."""
        from rich.table import Table

        titles, *rows = self._cells()
        table = Table(caption="\n".join(self.notes), caption_justify="left")
        for index, title in enumerate(titles):
            header = title.replace(" ", "\n", 1) if index else title
            table.add_column(header, justify="right" if index else "left", no_wrap=not index)
        for row in rows:
            table.add_row(*row)
        return table

    def _cells(self) -> list[list[str]]:
        rows = self.rows
        columns: list[tuple[str, list[str]]] = [
            ("rule", [row.rule for row in rows]),
            (self.measure, [_number(row.measured) for row in rows]),
        ]
        if len(rows) > 1:
            columns += [
                ("difference", [_number(row.difference, signed=True) for row in rows]),
                ("p", [_NONE if row.p_holm is None else f"{row.p_holm:.2g}" for row in rows]),
            ]
        for title, angles in (
            ("gradient angle", [row.gradient_angle for row in rows]),
            ("kernel angle", [row.kernel_angle for row in rows]),
        ):
            if any(angles):
                columns.append((title, [_number(each, angle=True) for each in angles]))
        columns += [
            ("step", [f"×{row.step:.2f}" for row in rows]),
            ("memory", [f"×{row.memory / rows[0].memory:.2f}" for row in rows]),
        ]
        if any(row.rate is not None for row in rows):
            columns.append(("rate", [_NONE if r.rate is None else f"{r.rate:g}" for r in rows]))
        titles, cells = zip(*columns, strict=True)
        return [list(titles), *(list(row) for row in zip(*cells, strict=True))]


def save_run(folder: Path, run: Run, measure: str, settings: dict[str, Any]) -> None:
    """Write one run; the file is complete or not there."""
    target = folder / "runs" / f"{json_files.file_name(run.rule)}-s{run.seed}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "schema": 1,
        "id": "compare",
        "variant": run.rule,
        "seed": run.seed,
        "settings": settings,
        "versions": json_files.versions(),
        "seconds": run.seconds,
        "history": {**run.logs, measure: run.measured, **run.angles},
        "final": {measure: run.final},
        "extra": {"memory_bytes": run.memory, "rate": run.rate},
        "warnings": list(run.warnings),
    }
    json_files.write(target, content)


def _angle(values: list[float | None]) -> Interval | None:
    found = [value for value in values if value is not None]
    return interval_of_runs(found) if found else None


def _number(found: Interval | None, angle: bool = False, signed: bool = False) -> str:
    """Return a mean and half of its interval, with two digits of the half."""
    if found is None:
        return _NONE
    if math.isnan(found.mean):
        return "diverged"
    alone = math.isnan(found.half) or found.half == 0.0
    size = abs(found.mean) / 10.0 if alone else found.half
    places = 0 if angle or not size else min(6, max(0, 1 - math.floor(math.log10(size))))
    mean = f"{found.mean:{'+' if signed else ''}.{places}f}"
    text = mean if math.isnan(found.half) else f"{mean} ± {found.half:.{places}f}"
    return f"{text}°" if angle else text


def _fit(cell: str, width: int, place: int) -> str:
    return cell.rjust(width) if place else cell.ljust(width)


def _size(count: float) -> str:
    unit = min(3, int(math.log10(max(count, 1.0))) // 3)
    return f"{count / 1000.0**unit:.3g} {('B', 'kB', 'MB', 'GB')[unit]}"
