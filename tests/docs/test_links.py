"""Links and paths in README, docs and the other pages lead somewhere; the network is not asked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
"""A link or a picture: `[text](target)`."""
CITED = re.compile(r"(?:examples|benchmarks|tests|docs|\.ci|\.github)/[\w./-]*\w")
"""A path in the text or in a command."""
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    found = [*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(page for page in found if "_build" not in page.parts)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The names of the headings of a page, as they stand behind `#` in a link."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    slugs = set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
    for heading in headings:
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slugs.add(re.sub(r"[^\w -]", "", plain.lower()).replace(" ", "-"))
    return slugs


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    found = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        missing = not target.exists()
        if missing or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", pages(), ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_broken_links_are_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b` (c)\n\n[x](missing.md) ![y](no.png) [z](#a-b-c) [w](#none) [v](https://none)\n"
        "[u](page.md#a-b-c) [t](page.md#d)\n\n```\n[in code](nothing.md)\n```\n"
    )
    assert broken(page) == ["missing.md", "no.png", "#none", "page.md#d"]


@pytest.mark.parametrize("page", pages(), ids=name)
def test_cited_files_exist_and_are_in_the_source_distribution(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    include = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    # Hatchling adds these by itself.
    contained = [*include, "/README.md", "/LICENSE", "/pyproject.toml", "/.gitignore"]
    own = "/" + name(page)
    assert any(own == path or own.startswith(path + "/") for path in contained)
    for cited in CITED.findall(page.read_text(encoding="utf-8")):
        path = ROOT / cited
        made = any(part in cited for part in ("_build", "NAME", "rule_", "YOUR"))
        inside = any(f"/{cited}".startswith(each) for each in contained)
        assert made or (inside and any(path.parent.glob(path.name + "*"))), cited
