"""The arguments of what is public, with their defaults, as they were published.

`python -m tests.golden.signatures` writes them down again, after a change that is meant.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras_local

FILE = Path(__file__).parent / "signatures.json"

Signatures = dict[str, dict[str, str]]


def modules() -> Iterator[Any]:
    """The modules and packages from which users import."""
    for found in pkgutil.walk_packages(keras_local.__path__, "keras_local."):
        parts = found.name.split(".")[1:]
        hidden = any(part.startswith("_") for part in parts) or parts[0] == "ops"
        if not hidden and (found.ispkg or len(parts) == 1):
            yield importlib.import_module(found.name)


def signatures() -> Signatures:
    """The defaults of each argument of each public class and function, by its name."""
    found: Signatures = {}
    for module in modules():
        names = getattr(module, "__all__", None) or [
            name for name in vars(module) if name[0] != "_"
        ]
        for name in names:
            value = getattr(module, name)
            if not str(getattr(value, "__module__", "")).startswith(module.__name__):
                continue
            try:
                parameters = inspect.signature(value).parameters.values()
            except (TypeError, ValueError):
                continue
            found[f"{module.__name__}.{name}"] = {
                each.name: "" if each.default is each.empty else described(each.default)
                for each in parameters
            }
    return found


def described(default: Any) -> str:
    """A default in words that are the same in every process."""
    return getattr(default, "__qualname__", None) or repr(default)


if __name__ == "__main__":
    FILE.write_text(json.dumps(signatures(), indent=1, sort_keys=True) + "\n")
