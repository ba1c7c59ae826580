"""Which lines are changed, and how: a sample of what cosmic-ray's operators can do."""

from __future__ import annotations

import ast
import difflib
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

AREAS = (
    "keras_local/ops",
    "keras_local/feedback",
    "keras_local/plasticity",
    "keras_local/layers",
    "keras_local/models",
    "keras_local/dynamics",
    "keras_local/losses",
    "keras_local/metrics",
    "keras_local/callbacks",
)

SKIPPED_FILES = re.compile(r"/(_jax|_torch|__init__)\.py$")
"""Backends that the tests of one run do not see, and lists of names."""

# Changes that mean nothing: unions of types, and identity for equality or the reverse, which are
# the same for short strings, small numbers and what equals only itself.
SKIPPED_OPERATORS = re.compile(
    r"BinaryOperator_BitOr_|VariableReplacer|VariableInserter"
    r"|Operator_(Is_Eq|IsNot_NotEq|Eq_Is|NotEq_IsNot)$"
)
MEANINGLESS_DECORATORS = ("abstractmethod", "final", "overload", "functools.cache", "dataclass")


@dataclass(frozen=True)
class Mutant:
    """One change of one line.

    Attributes:
        path: The file, from the root of the project.
        line: Number of the line.
        operator: Name of the operator of cosmic-ray.
        occurrence: Which of the places where it applies in the file.
    """

    path: str
    line: int
    operator: str
    occurrence: int

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}:{self.operator.removeprefix('core/')}"


def files(root: Path, areas: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each area with each of its files."""
    for area in areas:
        place = root / area
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            name = path.relative_to(root).as_posix()
            if path.exists() and not SKIPPED_FILES.search(name):
                yield area, name


def silent_lines(source: str) -> set[int]:
    """Lines on which nothing happens when the program runs, or nothing but its beginning.

    That are annotations, the names of types, and what stands under `if TYPE_CHECKING`.
    """
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.AST | None] = []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            parts = [node.returns, *(argument.annotation for argument in every)]
            # A default on the line of its annotation is worth a change all the same.
            every_default = [*arguments.defaults, *arguments.kw_defaults]
            keep = {each.lineno for each in every_default if each is not None}
            for part in parts:
                if part is not None:
                    lines |= set(range(part.lineno, (part.end_lineno or 0) + 1)) - keep
            continue
        if isinstance(node, ast.AnnAssign) and node.value is None:
            parts = [node]
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            parts = [node]
        for part in parts:
            if part is not None:
                lines |= set(range(part.lineno, (part.end_lineno or 0) + 1))
    return lines


def mutants_of(root: Path, path: str) -> list[Mutant]:
    """All changes of a file that cosmic-ray knows and that could be noticed."""
    import cosmic_ray.plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    source = (root / path).read_text()
    silent, text = silent_lines(source), source.splitlines()
    nodes = list(ast_nodes(get_ast(source)))
    found = []
    for operator_name in cosmic_ray.plugins.operator_names():
        operator = cosmic_ray.plugins.get_operator(operator_name)
        if SKIPPED_OPERATORS.search(operator_name) or operator.arguments():
            continue
        positions = [place for node in nodes for place in operator().mutation_positions(node)]
        for occurrence, (start, _) in enumerate(positions):
            line = text[start[0] - 1]
            meaningless = line.lstrip().startswith("@") and any(
                name in line for name in MEANINGLESS_DECORATORS
            )
            if start[0] not in silent and not meaningless:
                found.append(Mutant(path, start[0], operator_name, occurrence))
    return found


def changed(root: Path, mutant: Mutant) -> str | None:
    """The file with the change; None where it is no Python (`>>` for a lone `*`), or nothing."""
    import cosmic_ray.plugins
    from cosmic_ray.mutating import mutate_code

    operator = cosmic_ray.plugins.get_operator(mutant.operator)()
    before = (root / mutant.path).read_text()
    after = mutate_code(before, operator, mutant.occurrence) or "?"
    try:
        ast.parse(after)
    except SyntaxError:
        return None
    # Lengths that agree are what `strict` asserts.
    same = [text.replace("strict=False", "strict=True") for text in (before, after)]
    return after if same[0] != same[1] else None


def patch(before: str, after: str) -> str:
    """The lines that are changed, without their numbers."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def shares(sizes: dict[str, int], count: int, least: int) -> dict[str, int]:
    """Divide `count` in proportion to the sizes, but not less than `least` each."""
    total = sum(sizes.values())
    wanted = {name: max(least, round(count * size / total)) for name, size in sizes.items()}
    wanted = {name: min(number, sizes[name]) for name, number in wanted.items()}
    while sum(wanted.values()) > count:
        wanted[max(wanted, key=lambda name: wanted[name])] -= 1
    while sum(wanted.values()) < min(count, total):
        wanted[max(wanted, key=lambda name: sizes[name] - wanted[name])] += 1
    return wanted


def rank(seed: int, *parts: object) -> str:
    """A place in a random order that what is changed elsewhere does not move."""
    return hashlib.sha256(repr((seed, *parts)).encode()).hexdigest()


def _named_lines(root: Path, path: str) -> dict[tuple[object, ...], list[Mutant]]:
    """The changes of each line, which is named by its text and not by its number."""
    text = (root / path).read_text().splitlines()
    seen: dict[str, int] = defaultdict(int)
    names = {}
    for number, line in enumerate(text, start=1):
        names[number] = (path, line.strip(), seen[line.strip()])
        seen[line.strip()] += 1
    lines: dict[tuple[object, ...], list[Mutant]] = defaultdict(list)
    for mutant in mutants_of(root, path):
        lines[names[mutant.line]].append(mutant)
    return lines


def sample(root: Path, areas: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """So many lines over all areas, each with one change.

    Lines follow from the seed and their own text, so that a sample stays nearly the same while
    other lines of the package are written.
    """
    lines: dict[str, dict[tuple[object, ...], list[Mutant]]] = {}
    for area in areas:
        found = {}
        for _, path in files(root, [area]):
            found.update(_named_lines(root, path))
        if found:
            lines[area] = found
    least = min(5, count // max(len(lines), 1))
    wanted = shares({area: len(each) for area, each in lines.items()}, count, least)
    chosen: list[tuple[str, Mutant]] = []
    for area, each in lines.items():
        found = 0
        for name in sorted(each, key=lambda name: rank(seed, *name)):
            one_of = {
                rank(seed, *name, mutant.operator, place): mutant
                for place, mutant in enumerate(each[name])
            }
            for key in sorted(one_of):
                if found < wanted[area] and changed(root, one_of[key]) is not None:
                    chosen.append((rank(seed, "order", *name), one_of[key]))
                    found += 1
                    break
    # In an order without areas: whoever stops early has seen every area.
    return [mutant for _, mutant in sorted(chosen, key=lambda pair: pair[0])]
