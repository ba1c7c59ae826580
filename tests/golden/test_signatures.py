"""Programs rely on the names of arguments and on what stands in for those left out."""

from __future__ import annotations

import json

import pytest

from tests.golden.signatures import FILE, signatures
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
