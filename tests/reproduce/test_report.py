"""The report: it holds every number, needs nothing from outside, and says what was cut short."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from keras_local.reproduce import report
from keras_local.reproduce.results import (
    Images,
    Pretrained,
    Results,
    Score,
    Served,
    Trained,
)
from tests.reproduce.page import Page, numbers_missing, text_of


def trained(key: str, **others: Any) -> Trained:
    values: dict[str, Any] = {
        "key": key,
        "label": f"Label of {key}",
        "detail": f"detail of {key}",
        "test": Score(7, 397),
        "training": Score(11, 1400),
        "weights": 12345,
        "seconds": 12.34,
        "curve": {"passes": [1, 2], "test_error": [0.0625, 7 / 397]},
    }
    return Trained(**{**values, **others})


def results(**others: Any) -> Results:
    angles = {"conv2": [90.25, 81.5, 71.125], "scores": [89.75, 60.5, 41.875]}
    values: dict[str, Any] = {
        "command": "keras-local demo --out 'a <b> & c'",
        "seed": 17,
        "quick": False,
        "images": Images("digits", (8, 8, 1), 10, 1400, 1400, 1000, 397, 397),
        "error_paths": [
            trained("backprop"),
            trained("fixed", angles=angles),
            trained("updated", angles=angles, test=Score(23, 397)),
        ],
        "features": [trained("hebbian", test=Score(5, 397)), trained("random")],
        "pretrained": Pretrained(64, 4004, 0.953125, 0.046875, 0.9375, 1.01875, 34.5),
        "served": Served("saved_model", 397, 3.75e-6, 31.5, 396, 18944, 19612, 40600, True, 9.5),
        "seconds": {"Load the images": 0.25, "Backpropagation": 31.5},
        "total_seconds": 238.0,
        "cpu_seconds": 76.75,
        "settings": {"data": {"name": "digits", "training": None}, "encoder": {"rank": 2}},
        "environment": {"python": "3.11.7", "keras": "3.15.1"},
        "notes": [],
    }
    return Results(**{**values, **others})


PICTURES = {
    name: b"\x89PNG" + name.encode()
    for name in ("learning_curves", "alignment", "receptive_fields", "readout_curves")
}


def test_every_number_of_the_results_is_in_the_report() -> None:
    page = Page(report.render(results(), PICTURES))
    assert numbers_missing(page, results().to_json()) == []


def test_headline_numbers_are_formatted_right() -> None:
    visible = text_of(Page(report.render(results(), PICTURES)).visible).replace("\xa0", " ")
    for expected in (
        "1.26 % test error of a linear readout of Hebbian features",  # 5 / 397
        "5.79 % test error with updated random feedback, 1.76 % with backpropagation",
        "90° to 57° angle",  # (90.25 + 89.75) / 2, (71.125 + 41.875) / 2 = 56.5
        "3.8e-06 largest difference of a class score",
        "396 of 397 images",
        "One of 397 test images is 0.25 %",
        "the first 1,000 of 1,400 training images",
        "3.8e-06",
        "19.6 kB (1.04 times)",
        "95.31 %",
        "3 min 58 s",
        "76.8 s of processor time",
        "seed 17",
        "keras-local demo --out 'a <b> & c'",
        "3.15.1",
        "rank = 2",
    ):
        assert expected.replace("57°", f"{56.5:.0f}°") in visible


def test_it_needs_nothing_from_outside() -> None:
    text = report.render(results(), PICTURES)
    page = Page(text)
    assert len(page.sources) == len(PICTURES)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


def test_it_is_made_for_screens_of_all_kinds() -> None:
    text = report.render(results(), PICTURES)
    assert text.startswith("<!DOCTYPE html>")
    assert '<html lang="en">' in text
    assert "width=device-width" in text
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text


def test_text_is_escaped() -> None:
    text = report.render(results(notes=["<script>alert(1)</script>"]), PICTURES)
    assert "'a <b> & c'" not in text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_a_quick_run_says_so() -> None:
    assert "Quick run." not in report.render(results(), PICTURES)
    visible = text_of(Page(report.render(results(quick=True), PICTURES)).visible)
    assert "Quick run." in visible
    assert "The errors mean nothing." in visible


def test_warnings_are_passed_on() -> None:
    notes = ["no unit has converged", "a > b"]
    visible = text_of(Page(report.render(results(notes=notes), PICTURES)).visible)
    assert all(note in visible for note in notes)
    assert "Warnings" in visible
    assert "Warnings" not in text_of(Page(report.render(results(), PICTURES)).visible)


def test_parts_of_a_data_set_are_told() -> None:
    images = Images("mnist", (28, 28, 1), 10, 60_000, 60_000, 10_000, 500, 10_000)
    visible = text_of(Page(report.render(results(images=images), PICTURES)).visible)
    assert "The same convolutional network, the first 10,000 of 60,000 training images" in visible
    assert "64 features, 60,000 training images" in visible
    assert "the first 500 of 10,000 test images" in visible


@pytest.mark.parametrize("channels", [1, 3])
def test_the_caption_names_the_colours_that_are_there(channels: int) -> None:
    images = Images("digits", (8, 8, channels), 10, 1400, 1400, 1000, 397, 397)
    text = report.render(results(images=images), PICTURES)
    assert ("Red pixels raise" in text) == (channels == 1)


def test_without_any_error() -> None:
    rows = [trained(key, test=Score(0, 397)) for key in ("hebbian", "random")]
    paths = [dataclasses.replace(row, test=Score(0, 397)) for row in results().error_paths]
    Page(report.render(results(features=rows, error_paths=paths), PICTURES))


def test_what_is_not_finite_stays_json() -> None:
    served = dataclasses.replace(results().served, largest_difference=float("nan"))
    stored = json.loads(results(served=served).to_json())
    assert stored["served"]["largest_difference"] is None


def test_files_are_written_and_replaced(tmp_path: Path) -> None:
    figure = Figure(figsize=(1, 1))
    figure.add_subplot()
    figures = {name: figure for name in PICTURES}
    (tmp_path / "alignment.png").write_bytes(b"old")
    (tmp_path / "other.png").write_bytes(b"mine")
    report.write(tmp_path, results(), figures)
    first = (tmp_path / "index.html").read_bytes()
    assert (tmp_path / "alignment.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "other.png").read_bytes() == b"mine"
    # Nothing but the results decides what is written: no date, no random names.
    report.write(tmp_path, results(), figures)
    assert (tmp_path / "index.html").read_bytes() == first


def shown(**others: Any) -> str:
    output = io.StringIO()
    report.show(Console(file=output, width=80), results(**others), Path("some/report"))
    return output.getvalue().replace("\xa0", " ")


def test_the_console_shows_the_table_and_the_way_to_the_report() -> None:
    printed = shown()
    assert re.search(r"Label of updated +5.79 % +0.79 % +90° to 56° +12.3 s", printed)
    assert re.search(r"Label of hebbian +1.26 % +0.79 % +12.3 s", printed)
    assert printed.rstrip().endswith("report: some/report/index.html")
    assert "396 of 397 images" in printed
    assert "mean nothing" not in printed
    assert "Quick run: the errors mean nothing." in shown(quick=True)
    assert "note: a warning" in shown(notes=["a warning"])
