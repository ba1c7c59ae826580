"""What a release consists of agrees: version, changelog, citation, README, workflow."""

from __future__ import annotations

import re
from pathlib import Path

import keras_local

ROOT = Path(__file__).parents[1]
VERSION = keras_local.__version__


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    assert f"\nversion: {VERSION}\n" in text("CITATION.cff")
    changelog = text("CHANGELOG.md")
    assert "\n## [Unreleased]\n" in changelog
    released = f"\n## [{VERSION}] - " in changelog
    assert released or f"What is to become {VERSION}." in changelog
    assert set(re.findall(r"keras_local-([\d.]+)-py3", text("README.md"))) == {VERSION}


def test_public_hosting_runs_the_same_checks() -> None:
    workflow = text(".github/workflows/checks.yml")
    assert "run: bash .ci/run" in workflow
    # It waits longer than the checks may take.
    assert int(re.findall(r"timeout-minutes: (\d+)", workflow)[0]) >= 60


def test_the_templates_ask_for_what_contributing_promises() -> None:
    template = text(".github/PULL_REQUEST_TEMPLATE.md")
    for words in (".ci/run", "CHANGELOG.md", "CONTRIBUTING.md#what-each-needs"):
        assert words in template
    assert "DeprecationWarning" in text("CONTRIBUTING.md")
    for step in ("tox run -e build", "git tag", "tests.golden.make", "-e thorough"):
        assert step in text("RELEASE.md")
