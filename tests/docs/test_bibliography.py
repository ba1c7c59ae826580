"""The bibliography has every paper that a page refers to, once, with a link to the page."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
REFERENCES = re.compile(r"^## References\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
PAPER = re.compile(r"- (.*?\(?(?:19|20)\d\d\)?)[.,]")
"""Authors and year."""


def flat(text: str) -> str:
    return " ".join(text.split())


def entries(text: str) -> list[str]:
    return [flat(entry) for entry in re.split(r"^(?=- )", text, flags=re.MULTILINE)[1:]]


def test_papers_of_the_pages() -> None:
    bibliography = entries((DOCS / "bibliography.md").read_text(encoding="utf-8"))
    missing, count = [], 0
    for page in sorted(DOCS.rglob("*.md")):
        for section in REFERENCES.findall(page.read_text(encoding="utf-8")):
            for entry in entries(section):
                paper = PAPER.match(entry)
                if paper is None or "://" in paper.group(1):
                    continue  # A link to code.
                count += 1
                link = f"({page.relative_to(DOCS).as_posix()})"
                found = [each for each in bibliography if each.startswith(paper.group(0))]
                if len(found) != 1 or link not in found[0]:
                    missing.append(f"{page.name}: {paper.group(1)}")
    assert not missing, missing
    assert count > 50
    assert len(set(bibliography)) == len(bibliography)
