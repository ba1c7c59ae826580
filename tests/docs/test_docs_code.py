"""Every block of Python code in README and docs runs as written, without a warning."""

from __future__ import annotations

import re
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest

from tests.support import tensorflow_only

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


NEEDS = {
    "export.md": ("ai_edge_litert", "onnxruntime", "openvino", "tf2onnx"),
    "sweeps.md": ("keras_tuner",),
}
"""Optional packages of a page, which the daily run has."""


def blocks(page: Path) -> list[tuple[int, str]]:
    """The blocks of a page in order, each with the number of its first line."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in BLOCK.finditer(text)]


def pages() -> list[Path]:
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [file for file in files if "_build" not in file.parts and blocks(file)]


def run(page: Path) -> dict[str, Any]:
    """Execute the blocks of a page in one namespace, as a reader would who types them in."""
    namespace: dict[str, Any] = {"__name__": f"docs_{page.stem}"}
    for lines_above, source in blocks(page):
        # Tracebacks then name the page and its own line numbers.
        exec(compile("\n" * lines_above + source, str(page), "exec"), namespace)
    return namespace


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a page writes goes into a folder that nothing needs; what it registers is forgotten."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    # Other tests register classes of the same names.
    registered = keras.saving.get_custom_objects()
    before = dict(registered)
    yield
    registered.clear()
    registered.update(before)


def parameters() -> list[Any]:
    """The pages; the one that newcomers read first each time, of those of rules a sample daily."""
    names = [(page, page.relative_to(ROOT).as_posix()) for page in pages()]
    rules = [name for _, name in names if name.startswith("docs/rules/")]
    marks = {name: pytest.mark.daily for _, name in names}
    marks |= {name: pytest.mark.thorough for k, name in enumerate(rules) if k % 3}
    marks["README.md"] = ()
    return [pytest.param(page, id=name, marks=marks[name]) for page, name in names]


@tensorflow_only
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", parameters())
def test_every_block_runs(page: Path) -> None:
    for package in NEEDS.get(page.name, ()):
        pytest.importorskip(package)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("error", module="docs_")
        assert run(page)


def test_pages_with_code_are_found() -> None:
    found = {page.relative_to(ROOT).as_posix() for page in pages()}
    assert {"README.md", "docs/tour.md", "docs/faq.md", "docs/guides/own_rule.md"} <= found
    assert {f"docs/rules/{name}.md" for name in ("symmetric", "krotov_hopfield")} <= found


def test_a_wrong_block_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\nx = 1\n```\n\nmore\n\n```python\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as failure:
        run(page)
    assert failure.traceback[-1].lineno == 9


def test_the_first_install_line_is_enough_for_the_first_block() -> None:
    """What the block imports at some point is in the extras that the line names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    line = re.search(r'pip install "\.\[(.*)\]"', readme)
    assert line
    wanted, found = line[1].split(","), set(project["dependencies"])
    while wanted:
        for requirement in extras[wanted.pop()]:
            inner = re.fullmatch(r"keras-local\[(.*)\]", requirement)
            wanted += inner[1].split(",") if inner else []
            found.add(requirement)
    assert {"tensorflow", "scikit-learn", "matplotlib", "numpy"} <= found
