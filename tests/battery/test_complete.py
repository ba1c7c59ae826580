"""Whatever the package exports has its row: in this battery, or in that of the networks."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import keras

import keras_local as kl
from tests.battery.cells import build
from tests.battery.table import ROWS
from tests.dynamics import table as networks
from tests.support import tensorflow_only

pytestmark = tensorflow_only

NO_ROW = {
    # Records, which hold what is put into them.
    "ActiveUnits",
    "Activity",
    "ErrorKernel",
    "FeedbackWeight",
    "LearningForm",
    "OwnWeight",
    "PlainForm",
    "RuleContext",
    "Synapses",
    # Interfaces that could be made and are not meant to be.
    "FeedbackLayer",
    "HebbianLayer",
    "WrappedPlasticity",
    "WrappedRule",
}


def exported(module: Any) -> set[str]:
    classes = {name: getattr(module, name) for name in module.__all__}
    return {
        name
        for name, value in classes.items()
        if inspect.isclass(value) and not inspect.isabstract(value) and name not in NO_ROW
    }


def names(config: Any) -> Iterator[str]:
    """The classes of all objects that a config tells of."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config["class_name"]
        for value in config.values():
            yield from names(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from names(value)


def layers_of(model: keras.Model) -> set[str]:
    found = set()
    for layer in model._flatten_layers():
        found.add(type(layer).__name__)
        found.update(names(keras.saving.serialize_keras_object(layer)))
    # Sums of primitives, and what a rule takes by default, are not written down with a class.
    return found


ELSEWHERE = {
    # Put around layers by `convert`; tests/models/conversion/test_composites.py takes its paths.
    "Converted",
}


def test_rules_parts_and_layers() -> None:
    covered: set[str] = set()
    for row in ROWS:
        covered |= layers_of(build(row))
    for module in (kl.feedback, kl.plasticity, kl.layers):
        assert sorted(exported(module) - covered - ELSEWHERE) == [], module.__name__


def test_networks() -> None:
    covered: set[str] = set()
    for row in networks.ROWS:
        covered |= {type(layer).__name__ for layer in row.make()._flatten_layers()}
    assert sorted(exported(kl.dynamics) - covered - {"Network"}) == []
