"""The upper rooms ask layers and rules what they are: nobody recognises a class of the package.

What a layer, rule, optimizer or model can do stands on its interface (`layers/plain_form.py`,
`FeedbackRule`, `PlasticityRule`), so that a user's own takes every path that those of the package
take. Read from the source: no test of a class, and no look for an attribute, of our own.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest

import keras_local

ROOT = Path(keras_local.__file__).parent
ROOMS = ("models", "callbacks", "plots", "metrics.py", "testing.py")
"""Where nothing of ours is recognised."""

ARGUMENTS = {"FeedbackRule", "LocalLoss", "PlasticityRule"}
"""Interfaces that an argument has to be of: a check of the argument, not of a kind of it."""

BACKENDS = {"tensorflow", "jax", "torch"}

ALLOWED: dict[tuple[str, str], str] = {
    ("metrics.py", 'hasattr(layer, "currents")'): (
        "layers of this package say by which currents units compete; any other object with a "
        "`kernel` and a `plasticity` is taken too, by the formula of its exponent"
    ),
    ("metrics.py", 'hasattr(layer, "linear_map")'): (
        "the same: without a map, the units of a kernel are its last axis"
    ),
}
"""Line of code to the reason for which it may stand there; five at most."""


def files(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        path = ROOT / room
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


@functools.cache
def classes() -> dict[str, ast.ClassDef]:
    """All classes of the package, by name."""
    return {
        node.name: node
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }


@functools.cache
def attributes() -> set[str]:
    """Attributes of our layers, rules and the like that Keras' own classes do not have."""
    names: set[str] = set()
    for node in classes().values():
        for part in ast.walk(node):
            if isinstance(part, ast.FunctionDef):
                names.add(part.name)
            if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
                names.add(part.attr)
        names |= {
            target.id
            for part in node.body
            if isinstance(part, (ast.Assign, ast.AnnAssign))
            for target in (part.targets if isinstance(part, ast.Assign) else [part.target])
            if isinstance(target, ast.Name)
        }
    kinds = (
        keras.Model,
        keras.Sequential,
        keras.optimizers.SGD,
        keras.callbacks.History,
        keras.initializers.GlorotUniform,
        keras.initializers.Constant,
        keras.Variable,
    )
    theirs = {name for kind in kinds for name in dir(kind)}
    for layer in (keras.layers.Dense(1), keras.layers.Conv2D(1, 1), keras.layers.ReLU()):
        theirs |= set(dir(layer)) | {"kernel", "bias", "epoch", "history", "params", "seed"}
    return {name for name in names - theirs if not name.startswith("__")}


def recognitions(tree: ast.AST, ours: set[str], names: set[str]) -> Iterator[ast.AST]:
    """The nodes that test for a class or look for an attribute of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("isinstance", "issubclass") and _mentions(node.args[1], ours):
                yield node
            if node.func.id in ("hasattr", "getattr") and len(node.args) > 1:
                name = node.args[1]
                if isinstance(name, ast.Constant) and name.value in names:
                    yield node
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            kinds = any(_is_kind(side) for side in sides)
            told = [side for side in sides if isinstance(side, ast.Constant)]
            named = any(side.value in ours for side in told if isinstance(side.value, str))
            if kinds and (named or any(_mentions(side, ours) for side in sides)):
                yield node
        if isinstance(node, ast.MatchClass) and _mentions(node.cls, ours):
            yield node


def _mentions(node: ast.AST, ours: set[str]) -> bool:
    """Whether a class of ours is named: alone, or as an attribute of anything but Keras."""
    return any(
        (isinstance(part, ast.Name) and part.id in ours)
        or (
            isinstance(part, ast.Attribute)
            and part.attr in ours
            and not ast.unparse(part).startswith("keras.")
        )
        for part in ast.walk(node)
    )


def _is_kind(node: ast.AST) -> bool:
    """`type(x)`, `x.__class__`, or a name of one of these."""
    return any(
        (isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "type")
        or (isinstance(part, ast.Attribute) and part.attr in ("__class__", "__name__"))
        for part in ast.walk(node)
    )


def test_nothing_of_ours_is_recognised() -> None:
    ours, names = set(classes()) - ARGUMENTS, attributes()
    lines: list[str] = []
    used: set[tuple[str, str]] = set()
    for path in files(*ROOMS):
        source = path.read_text()
        place = str(path.relative_to(ROOT))
        for node in recognitions(ast.parse(source), ours, names):
            code = ast.get_source_segment(source, node) or ""
            if (place, code) in ALLOWED:
                used.add((place, code))
            else:
                lines.append(f"{place}:{node.lineno}: {code}")  # type: ignore[attr-defined]
    assert not lines, "\n".join(lines)
    assert used == set(ALLOWED), "an exception that nobody needs any more"
    assert len(ALLOWED) <= 5


def test_no_backend_is_named_outside_of_ops() -> None:
    """Names in strings; what is imported, the import contracts hold."""
    lines = []
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        if place.parts[0] in ("ops", "reproduce"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in BACKENDS:
                lines.append(f"{place}:{node.lineno}: {node.value}")
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(layer, FeedbackLayer)",
        "isinstance(layer, (keras.layers.Layer, layers.HebbianDense))",
        "issubclass(kind, FeedbackLayer)",
        "type(rule) is KolenPollack",
        "type(rule) in (KolenPollack, Symmetric)",
        "type(rule).__name__ == 'KolenPollack'",
        "rule.__class__ == KolenPollack",
        "hasattr(layer, 'plasticity')",
        "getattr(layer, 'feedback_kernel', None)",
    ],
)
def test_it_is_noticed(line: str) -> None:
    assert list(recognitions(ast.parse(line), set(classes()) - ARGUMENTS, attributes()))
