"""The results that lie in `results/`: their pages, their settings, and numbers that pages quote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from keras_local.reproduce import cells, pages
from keras_local.reproduce.drawings import factor
from keras_local.reproduce.experiment import Experiment

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
PAGES = ROOT / "docs" / "results"
QUOTED = re.compile(r"([−-]?\d[\d.,]*)(?:[  ]?%)?<!-- result: (\S+) (\S+) (\S+) -->")
"""A number, and behind it `<!-- result: ID PRESET VARIANT -->`, which readers do not see."""


def committed() -> list[dict[str, Any]]:
    return [facts for _, facts in cells.results(RESULTS)]


def test_the_pages_are_those_of_the_results(tmp_path: Path) -> None:
    index = (PAGES / "index.md").read_text(encoding="utf-8")
    date = re.findall(r"^Written by `keras-local report` on (\d{4}-\d\d-\d\d):", index, re.M)
    pages.write(RESULTS, tmp_path, date[0], figures=False)
    again = "see `keras-local report results --out docs/results --no-figures`"
    names = [sorted(each.name for each in folder.glob("*")) for folder in (tmp_path, PAGES)]
    assert names[0] == names[1], again
    for name in names[0]:
        assert (tmp_path / name).read_bytes() == (PAGES / name).read_bytes(), (name, again)
        unexplained = f"{name}: say in `[explained]` of the experiment what is known"
        assert "Not explained yet." not in (PAGES / name).read_text(encoding="utf-8"), unexplained


def test_results_are_whole_and_of_the_settings_of_the_catalogue() -> None:
    seeds: dict[tuple[str, str], dict[str, list[int]]] = {}
    for facts in committed():
        name = " ".join(str(facts[key]) for key in ("id", "preset", "variant", "seed"))
        settings = Experiment.of(facts["id"]).settings(facts["preset"], facts["variant"])
        assert facts["settings_sha"] == settings.sha, f"{name}: the experiment has changed since"
        assert not facts["dirty"], name
        assert not facts["stand_in"], name
        of_variants = seeds.setdefault((facts["id"], facts["preset"]), {})
        of_variants.setdefault(facts["variant"], []).append(facts["seed"])
    for (name, preset), of_variants in seeds.items():
        assert preset in ("quick", "paper"), name
        assert set(of_variants) == set(Experiment.of(name).variants_of(preset)), name
        assert all(sorted(each) == [0, 1, 2] for each in of_variants.values()), name


def quoted() -> list[tuple[str, ...]]:
    """Return page, paragraph, number, id, preset and variant of each quoted number."""
    found = []
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for path in sorted(each for each in files if "_build" not in each.parts):
        for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
            for words in QUOTED.findall(paragraph):
                found.append((path.relative_to(ROOT).as_posix(), paragraph, *words))
            marks = re.findall("<!-- result: (?!ID )", paragraph)  # The guide explains them.
            assert len(QUOTED.findall(paragraph)) == len(marks), paragraph
    return found


def test_quoted_numbers_are_those_of_the_results() -> None:
    every = committed()
    assert quoted()
    for page, paragraph, number, name, preset, variant in quoted():
        where = (name, preset, variant)
        experiment = Experiment.of(name)
        found = [
            factor(experiment) * facts["final"][experiment.metric]
            for facts in every
            if (facts["id"], facts["preset"], facts["variant"]) == where
        ]
        assert found, f"{page}: there is no result of {where}"
        places = len(number.partition(".")[2])
        mean = f"{sum(found) / len(found):.{places}f}"
        assert number.replace("−", "-").replace(",", "") == mean, f"{page}: {where}"
        assert f"`{name}`" in paragraph, f"{page}: a reader is not told that it is of {name}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("17.5 %<!-- result: a-b quick BP -->", ("17.5", "a-b", "quick", "BP")),
        ("−3.25<!-- result: a paper x-1 -->", ("−3.25", "a", "paper", "x-1")),
    ],
)
def test_quotes_are_found(text: str, expected: tuple[str, ...]) -> None:
    assert QUOTED.findall(text) == [expected]
