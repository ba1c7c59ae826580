"""The tutorials run, and their notebooks were made from the scripts that lie beside them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import keras
import pytest

from tests.support import tensorflow_only
from tests.tutorials import FOLDER, SCRIPTS, fingerprint

AGAIN = "run `python -m tox run -e tutorials`"
NEEDS = {"device": ("ai_edge_litert",)}
EACH_DAY = ("features", "device")


def cells(script: Path) -> list[str]:
    """The cells of a script as a notebook contains them."""
    found = []
    for part in script.read_text(encoding="utf-8").split("# %%")[1:]:
        kind, _, text = part.partition("\n")
        lines = text.strip("\n").split("\n")
        if "markdown" in kind:
            lines = [line[2:] for line in lines]
        found.append("\n".join(lines))
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_notebooks_are_those_of_the_scripts(script: Path) -> None:
    notebook = json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))
    assert notebook["metadata"]["made_from"] == fingerprint(script), AGAIN
    # The last cell says how it was made.
    *shown, made = ("".join(cell["source"]) for cell in notebook["cells"])
    assert shown == cells(script), AGAIN
    assert f"tutorials -- {script.stem}`" in made
    ran = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in ran] == list(range(1, len(ran) + 1)), AGAIN
    kinds = {kind for cell in ran for out in cell["outputs"] for kind in out.get("data", {})}
    assert "image/png" in kinds or script.stem == "device", AGAIN


def test_there_are_tutorials_and_all_are_listed() -> None:
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert len(SCRIPTS) >= 6
    for script in SCRIPTS:
        assert f"({script.stem}.ipynb)" in index
        assert f"\n{script.stem}\n" in index
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {script.stem for script in SCRIPTS}


def parameters() -> list[Any]:
    marks = {True: pytest.mark.daily, False: pytest.mark.thorough}
    return [
        pytest.param(each, id=each.stem, marks=marks[each.stem in EACH_DAY]) for each in SCRIPTS
    ]


@tensorflow_only
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("script", parameters())
def test_tutorials_run(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("sklearn", "matplotlib", *NEEDS.get(script.stem, ())):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    registered = keras.saving.get_custom_objects()
    before = dict(registered)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            source = script.read_text(encoding="utf-8")
            exec(compile(source, str(script), "exec"), {"__name__": "tutorial"})
    finally:
        registered.clear()
        registered.update(before)
