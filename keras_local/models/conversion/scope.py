"""Selection of the layers that a conversion covers, and their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.layers.conversions import plain_class_of
from keras_local.layers.graph_walks import without_trained_weights_below
from keras_local.layers.plain_form import around_inner_layers, has_one_kernel
from keras_local.models.conversion.cloning import is_graph
from keras_local.models.conversion.inner_parts import inner_parts

Choice = Any
"""A layer's name or path, a class of layers, or a function from a layer to a bool."""


@dataclass(frozen=True)
class Place:
    """A layer at one place of the model; a shared layer has several places."""

    layer: keras.layers.Layer
    path: str
    around: tuple[keras.layers.Layer, ...]

    @property
    def names(self) -> set[str]:
        """The names and paths of the layer and of the models around it."""
        parts = self.path.split("/")
        return {*parts, *("/".join(parts[: end + 1]) for end in range(len(parts)))}

    def inside(self, other: Place) -> Place:
        """Return the place of the layer seen from outside of a model that has a place itself."""
        around = (*other.around, other.layer, *self.around)
        return Place(self.layer, f"{other.path}/{self.path}", around)


def places_of(model: keras.Model) -> list[list[Place]]:
    """Return the places of each layer, in order, also inside nested models."""
    found: dict[int, list[Place]] = {}
    for place in _places(model):
        found.setdefault(id(place.layer), []).append(place)
    return list(found.values())


def _places(model: keras.Model, around: tuple[keras.Model, ...] = ()) -> Iterator[Place]:
    for layer in model.layers:
        if is_graph(layer):
            yield from _places(layer, (*around, layer))
        else:
            path = "/".join(part.name for part in (*around, layer))
            yield Place(layer, path, around)


def inner_places(place: Place, composites: bool) -> list[Place]:
    """Return the places of the layers inside of a layer, by the attributes that hold them.

    Without `composites` they are those of a layer in which some have been exchanged.
    """
    layer, made_anew = around_inner_layers(place.layer)
    if isinstance(layer, keras.layers.Wrapper) or not (composites or made_anew):
        return []
    around = (*place.around, place.layer)
    found = []
    for inner in inner_parts(layer, lambda part: False):
        for path in inner.paths:
            here = Place(inner.layer, f"{place.path}/{path}", around)
            found.append(here)
            if is_graph(inner.layer):
                found += [
                    Place(each.layer, f"{here.path}/{each.path}", (*around, *each.around))
                    for each in _places(inner.layer)
                ]
    return found


def paths_for_seeds(model: keras.Model) -> dict[int, str]:
    """Return a path of each layer that does not depend on other layers in the process.

    Names that a user gave are kept. Automatic names of Keras ("dense_7") count all layers of a
    class in the process. Here they count the layers of this model, in its order. Therefore the
    paths are those of a new process, and two builds of one model have the same paths.
    """
    names: dict[int, str] = {}
    counts: Counter[str] = Counter()

    def name_of(layer: Any) -> str:
        if id(layer) not in names:
            stem = _automatic_name(layer)
            given = re.fullmatch(rf"{re.escape(stem)}(_\d+)?", layer.name) is None
            count = counts[stem]
            names[id(layer)] = layer.name if given else f"{stem}_{count}" if count else stem
            counts[stem] += not given
        return names[id(layer)]

    found: dict[int, str] = {}
    for place in _places(model):
        path = "/".join(map(name_of, (*place.around, place.layer)))
        found.setdefault(id(place.layer), path)
    return found


def _automatic_name(layer: Any) -> str:
    """Return the name that Keras gives to the first layer of a class."""
    name = re.sub(r"\W+", "", type(layer).__name__)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class Scope:
    """The layers to convert, selected by `include`, `exclude` and `lowest`."""

    def __init__(
        self, model: keras.Model, include: Any, exclude: Any, lowest: Any, composites: bool = False
    ) -> None:
        lowest = check.flag("lowest", lowest)
        self.unused = set() if lowest else without_trained_weights_below(model)
        self.include = None if include is None else _choices("include", include)
        self.exclude = [] if exclude is None else _choices("exclude", exclude)
        places = list(_places(model))
        places += [inner for place in places for inner in inner_places(place, composites)]
        known = {name for place in places for name in place.names}
        for argument, choices in (("include", self.include or []), ("exclude", self.exclude)):
            names = [choice for choice in choices if isinstance(choice, str)]
            unknown = [name for name in names if name not in known]
            allowed = f"names of layers of {model.name!r}"
            check.require(not unknown, argument, allowed, unknown)

    def covers(self, places: list[Place], kind: type | None) -> bool:
        """Return whether to convert the layer in `places`, which would become `kind`."""
        if id(places[0].layer) in self.unused and kind is not None and has_one_kernel(kind):
            return False
        included = self.include is None or _any_fits(self.include, places)
        return included and not _any_fits(self.exclude, places)


def _choices(argument: str, value: Any) -> list[Choice]:
    single = isinstance(value, str | type) or callable(value)
    choices = [value] if single or not isinstance(value, Iterable) else list(value)
    valid = all(isinstance(choice, str | type) or callable(choice) for choice in choices)
    allowed = "a name, a class of layers, a function of a layer, or several of these"
    check.require(valid, argument, allowed, value)
    return choices


def _any_fits(choices: list[Choice], places: list[Place]) -> bool:
    return any(_fits(choice, place) for choice in choices for place in places)


def _fits(choice: Choice, place: Place) -> bool:
    if isinstance(choice, str):
        return choice in place.names
    if isinstance(choice, type):
        kinds = [type(part) for part in (place.layer, *place.around)]
        twins = [plain_class_of(kind) or kind for kind in kinds]
        return any(issubclass(kind, choice) for kind in (*kinds, *twins))
    return bool(choice(place.layer))
