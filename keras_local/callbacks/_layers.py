"""The layers of a model, by name, and functions that compute their inputs."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import keras
import numpy as np

from keras_local import _validation as check
from keras_local.layers.graph_walks import calls_of, has_graph, parts

T = TypeVar("T")


def warn_of_silence(monitor: str, reason: str) -> None:
    warnings.warn(f"{monitor} has nothing to report: {reason}.", stacklevel=2)


def names_of(argument: str, names: Any) -> list[str]:
    several = isinstance(names, Iterable) and not isinstance(names, str | Mapping | np.ndarray)
    listed = list(names) if several else [names]
    valid = several and all(isinstance(name, str) for name in listed)
    check.require(valid, argument, "a sequence of names", listed if several else names)
    return listed


def walk(model: Any) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Return path, layer and surrounding layers of each layer at every depth, once."""
    seen: set[int] = set()

    def below(
        parent: Any, path: str, around: tuple[Any, ...]
    ) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
        for layer in parts(parent):
            if id(layer) not in seen:
                seen.add(id(layer))
                yield f"{path}{layer.name}", layer, around
                yield from below(layer, f"{path}{layer.name}/", (*around, layer))

    yield from below(model, "", ())


def short_names(found: Iterable[tuple[str, str, T]]) -> dict[str, T]:
    """Return objects by their short name, or by their path if the short name is not unique."""
    found = list(found)
    uses = Counter(name for _, name, _ in found)
    return {name if uses[name] == 1 else path: thing for path, name, thing in found}


def layers_by_name(model: Any) -> dict[str, Any]:
    """Return all layers, also nested ones, by name, or by path if a name is not unique."""
    return short_names((path, layer.name, layer) for path, layer, _ in walk(model))


def path_to(graph: Any, layer: Any) -> Callable[[Any], Any] | None:
    """Return a function from a batch of the graph's inputs to the inputs of `layer`."""
    if not has_graph(graph) or len(graph.inputs) != 1:
        return None
    for operation, inputs, _ in calls_of(graph):
        if len(inputs) != 1:
            continue
        if operation is layer:
            within: Callable[[Any], Any] | None = identity
        else:
            within = path_to(operation, layer)
        if within is None:
            continue
        if inputs[0] is graph.inputs[0]:
            return within
        below = keras.Model(graph.inputs[0], inputs[0])
        return partial(_in_sequence, partial(below, training=False), within)
    return None


def _in_sequence(first: Callable[[Any], Any], then: Callable[[Any], Any], batch: Any) -> Any:
    return then(first(batch))


def identity(batch: Any) -> Any:
    return batch
