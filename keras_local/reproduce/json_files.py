"""What all files of results have in common: numbers, versions, names, and how they are written."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_local

_KEPT = "-_.+"
"""Signs that names of files contain, besides letters and digits."""


def plain(value: Any) -> Any:
    """Return a structure as JSON has it: without arrays' types, and null for what is not finite.

    >>> plain({"loss": (np.float32(0.5), float("nan")), 3: np.bool_(True)})
    {'loss': [0.5, None], '3': True}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value


def numbers(value: Any) -> Any:
    """Return numbers of a file with NaN in place of null: what was not finite.

    >>> numbers({"loss": [0.5, None]})
    {'loss': [0.5, nan]}
    """
    if isinstance(value, Mapping):
        return {key: numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [numbers(each) for each in value]
    return float("nan") if value is None else value


def text_of(content: Mapping[str, Any]) -> str:
    """Return a structure as the text of a JSON file."""
    return json.dumps(plain(content), indent=1, allow_nan=False) + "\n"


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of JSON, which is complete or not there."""
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(text_of(content), encoding="utf-8")
    os.replace(temporary, path)


def versions() -> dict[str, str]:
    """Return the versions with which a run computes."""
    backend = keras.backend.backend()
    return {
        "keras_local": keras_local.__version__,
        "keras": keras.version(),
        "backend": f"{backend} {getattr(sys.modules.get(backend), '__version__', '?')}",
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def file_name(name: str) -> str:
    """Return a name that files can have, another one for each name.

    >>> file_name("URFB-6"), file_name("a rule") == file_name("a_rule")
    ('URFB-6', False)
    """
    kept = "".join(each if each.isalnum() or each in _KEPT else "_" for each in name)
    if kept == name:
        return name
    return f"{kept}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
