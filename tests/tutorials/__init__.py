"""The tutorials: scripts in docs/tutorials, and the notebooks that they give."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def fingerprint(script: Path) -> str:
    """Return what a notebook says of the script that it was made from."""
    return hashlib.sha256(script.read_bytes()).hexdigest()
