"""What a page says, for tests that look at a report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Text, sources and outline of a page; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.visible: list[str] = []
        self.hidden: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.ids: dict[str, str] = {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.sources.append(value or "")
            if tag == "img" and name == "alt":
                assert value
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        (self.hidden if "details" in self.open else self.visible).append(data)


def text_of(parts: list[str]) -> str:
    """One line of text."""
    return re.sub(r"\s+", " ", " ".join(parts))


def numbers(value: Any) -> Iterator[int | float]:
    """All numbers of a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def numbers_missing(page: Page, results: str) -> list[int | float]:
    """Numbers of a `results.json` that the page does not hold."""
    text = text_of(page.hidden + page.visible)
    written = set(re.findall(r"-?\d[\d.]*(?:e[+-]?\d+)?", text))
    found = list(numbers(json.loads(results)))
    assert len(found) > 50
    return [number for number in found if json.dumps(number) not in written]
