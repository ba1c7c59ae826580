"""What all files of results have in common: numbers, versions, names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import keras_local as kl
from keras_local.reproduce import cells, json_files, pages
from keras_local.reproduce.experiment import Experiment
from tests.reproduce.test_experiment import GOOD


def facts(variant: str, error: float) -> dict[str, object]:
    return {
        "schema": cells.SCHEMA,
        "id": "mine",
        "preset": "smoke",
        "variant": variant,
        "seed": 0,
        "seconds": 1.0,
        "cpu_seconds": 1.0,
        "history": {"loss": [error]},
        "final": {"test_error": error, "wrong": 0, "images": 10},
        "stand_in": False,
        "command": "",
        **cells.environment(),
    }


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    place = cells.Place(tmp_path, "mine", "smoke", "URFB", 0)
    cells.write(place, {**facts("URFB", np.inf), "dirty": np.bool_(True)}, {})
    text = place.path.read_text()
    stored = json.loads(text, parse_constant=lambda name: 1 / 0)
    assert stored["final"]["test_error"] is None
    assert stored["history"]["loss"] == [None]
    assert stored["dirty"] is True
    found = cells.read(place.path)
    assert np.isnan(found["final"]["test_error"])
    assert np.isnan(found["history"]["loss"][0])


def test_a_diverged_run_is_outside_of_every_order_and_band(tmp_path: Path) -> None:
    experiment = Experiment.from_toml(GOOD)
    for variant, error in (("URFB", np.nan), ("frozen", 0.5)):
        place = cells.Place(tmp_path / "out", "mine", "smoke", variant, 0)
        cells.write(place, facts(variant, error), {})
    (tmp_path / "out" / "mine" / "experiment.toml").write_text(experiment.text)
    written = pages.write(tmp_path / "out", tmp_path / "pages", "2030-01-01")
    page = written[1].read_text()
    assert "- `URFB` better than `frozen` (a run diverged): **no**. Not explained yet." in page
    assert "- `URFB` between 0 and 50: **no**. Not explained yet." in page
    assert "| `URFB` | diverged | 5 (from memory, unverified) | 0 to 50: **outside** | 1 |" in page
    assert "- `frozen` is beaten by 0 of 1 other variants" in page
    index = written[0].read_text()
    assert "| **no** | **outside: URFB; 1 order not met** |" in index


def test_versions_are_those_of_all_that_computes() -> None:
    found = json_files.versions()
    assert list(found) == ["keras_local", "keras", "backend", "numpy", "python"]
    assert found["keras_local"] == kl.__version__
    name, version = found["backend"].split()
    assert name in ("tensorflow", "jax", "torch")
    assert version[0].isdigit()


def test_names_that_differ_only_in_signs_are_different_files() -> None:
    names = ["a rule", "a_rule", "a(rule", "a/rule", "A rule"]
    files = {json_files.file_name(name) for name in names}
    assert len(files) == len(names)
    assert not any(set(file) & set("/ (") for file in files)
    for name in ("URFB-6", "SA+AA", "p_3.5"):
        assert json_files.file_name(name) == name
