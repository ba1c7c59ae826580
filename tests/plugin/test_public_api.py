"""The package of the user's has nothing but the public API in its hands."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent / "package"


def test_it_imports_what_is_public() -> None:
    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                assert not node.module.startswith("keras_local"), path.name
                assert not node.module.startswith("tests.") or "plugin.package" in node.module
            if isinstance(node, ast.Attribute):
                # No private attribute of any object but its own.
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                own = isinstance(node.value, ast.Name) and node.value.id == "self"
                assert own or not private, f"{path.name}: {node.attr}"
