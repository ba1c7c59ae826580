"""Programs rely on the names of arguments and on what stands in for those left out."""

from __future__ import annotations

import inspect
import json

import keras
import pytest

from tests.golden.signatures import FILE, modules, signatures
from tests.support import tensorflow_only


@tensorflow_only
def test_arguments_and_defaults_are_those_that_were_published() -> None:
    """New ones may come; `python -m tests.golden.signatures` writes a change down that is meant."""
    now, published = signatures(), json.loads(FILE.read_text())
    assert len(published) > 150
    different = {
        f"{name}({argument})": (default, now.get(name, {}).get(argument, "is gone"))
        for name, arguments in published.items()
        for argument, default in arguments.items()
        if name in now and now[name].get(argument, "is gone") != default
    }
    assert not different


def test_a_changed_default_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_local.feedback import Noise

    monkeypatch.setattr(Noise.__init__, "__defaults__", (2.0, "normal"))
    assert signatures()["keras_local.feedback.Noise"]["stddev"] == "2.0"


INTERFACES = {
    "AlignmentRule",
    "Competition",
    "Constraint",
    "FeedbackLayer",
    "FeedbackRule",
    "HebbianLayer",
    "LocalLoss",
    "Network",
    "Normaliser",
    "PlasticityRule",
    "Primitive",
    "RatePolicy",
    "Reduction",
    "Strategy",
    "WrappedRule",
}


def test_all_but_the_interfaces_is_found_by_its_name_in_files() -> None:
    classes = {
        value
        for module in modules()
        for name, value in vars(module).items()
        if name[0] != "_" and inspect.isclass(value) and hasattr(value, "get_config")
        if value.__module__.startswith("keras_local.")
    }
    names = {each.__name__: keras.saving.get_registered_name(each) for each in classes}
    assert len(names) > 120
    unregistered = {name for name, found in names.items() if found != f"keras_local>{name}"}
    assert unregistered == INTERFACES
