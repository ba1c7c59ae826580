"""Rules and the objects that they hold: what they show, and which of them are equal."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import activations, constraints, feedback, plasticity
from keras_local._serialization import Strategy


@keras.saving.register_keras_serializable(package="keras_local_tests")
def product(pre: Any, post: Any, weight: Any) -> Any:
    return pre * post


INTERFACES = (Strategy, constraints.Constraint, feedback.WrappedRule)

PARTS: dict[str, dict[str, Any]] = {
    "LocalAlignment": {"regulariser": feedback.Decay(0.1)},
    "MatchedNorm": {"rule": feedback.FeedbackAlignment()},
    "NoisyUpdates": {"rule": feedback.KolenPollack()},
    "RandomConnectivity": {"rule": feedback.FeedbackAlignment(), "probability": 0.5},
    "Regulariser": {"terms": [feedback.Decay(0.1), feedback.Amplify(0.2)]},
    "PointwiseRule": {"function": product},
    "SeparableRule": {"terms": [(1.0, "relu", "linear")]},
    "rate": {"rate": 0.25},
    "power": {"power": 2.0},
    "base": {"base": "hebb"},
}
"""What a class needs that has arguments without a default: by its name, or by the argument's."""


def small_classes() -> list[type]:
    """Return every exported class whose objects are what their arguments say."""
    found = {}
    for module in (activations, constraints, feedback, plasticity):
        for name, value in vars(module).items():
            if not isinstance(value, type) or not value.__module__.startswith("keras_local"):
                continue
            if issubclass(value, (Strategy, keras.constraints.Constraint)):
                if value not in INTERFACES and not inspect.isabstract(value):
                    found[name] = value
    return [found[name] for name in sorted(found)]


def made(cls: type) -> Any:
    if cls.__name__ in PARTS:
        return cls(**PARTS[cls.__name__])
    needed = [
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    return cls(**{name: value for part in needed for name, value in PARTS[part].items()})


def ids(cls: type) -> str:
    return cls.__name__


@pytest.mark.parametrize("cls", small_classes(), ids=ids)
def test_every_small_object_is_readable_and_equal_by_value(cls: type) -> None:
    first, second = made(cls), made(cls)
    assert repr(first).startswith(f"{cls.__name__}(")
    assert " object at 0x" not in repr(first)
    assert first == second
    assert hash(first) == hash(second)
    assert first in {second}
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(first))
    assert restored == first
    assert repr(restored) == repr(first)
    assert first != object()
    assert first != feedback.KolenPollack(rate=0.123)


def test_most_classes_are_looked_at() -> None:
    """So that the walk above cannot become empty unnoticed."""
    assert len(small_classes()) > 50


def varied(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value * 0.75 + 0.01 if isinstance(value, float) else None


@pytest.mark.parametrize("cls", small_classes(), ids=ids)
def test_objects_that_differ_in_an_argument_differ(cls: type) -> None:
    one = made(cls)
    config = one.get_config()
    for name, value in config.items():
        other_value = varied(value)
        if other_value is None:
            continue
        try:
            other = cls.from_config({**config, name: other_value})  # type: ignore[attr-defined]
        except ValueError:
            continue
        if other.get_config() != config:
            assert one != other, name
            assert repr(one) != repr(other), name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (feedback.KolenPollack(), "KolenPollack(rate=1.0, decay=0.0)"),
        (feedback.KolenPollack(separate=True), "KolenPollack(rate=1.0, decay=0.0, separate=True)"),
        (feedback.Symmetric(), "Symmetric()"),
        (
            feedback.MatchedNorm(feedback.NoisyUpdates(feedback.KolenPollack(decay=0.5))),
            "MatchedNorm(rule=NoisyUpdates(rule=KolenPollack(decay=0.5)))",
        ),
        (
            feedback.LocalAlignment(feedback.Decay(0.1) + feedback.SelfAlign(0.2)),
            "LocalAlignment(regulariser=Regulariser(terms=[Decay(rate=0.1), "
            "SelfAlign(rate=0.2)]), every=1)",
        ),
        (plasticity.EligibilityRule(plasticity.Hebb()), "EligibilityRule(base=Hebb(), tau=10.0)"),
        (
            plasticity.PointwiseRule(product),
            "PointwiseRule(function=keras_local_tests>product, block=32)",
        ),
        (activations.Ramp(), "Ramp(scale=0.5)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_repr(value: Any, text: str) -> None:
    assert repr(value) == text


class Masked(feedback.FeedbackRule):
    """A rule of a user with an array among its arguments."""

    def __init__(self, mask: Any, law: Any = None) -> None:
        self.mask, self.law = np.asarray(mask), law

    def weights(self, kernel: Any, initializer: Any) -> list[feedback.FeedbackWeight]:
        return []

    def error_kernel(self, kernel: Any, *feedback: Any) -> Any:
        return kernel * self.mask

    def assignment(self, kernel: Any, feedback_kernel: Any) -> list[Any]:
        raise ValueError("fixed")

    def get_config(self) -> dict[str, Any]:
        if self.law == "broken":
            raise RuntimeError("no config")
        return {"mask": self.mask, "law": self.law}


def test_arrays_among_the_arguments() -> None:
    assert Masked([1, 0]) == Masked([1, 0])
    assert hash(Masked([1, 0])) == hash(Masked([1, 0]))
    assert Masked([1, 0]) != Masked([0, 1])
    assert Masked([1, 0], {1: 2}) != Masked([1, 0], {1: 3})


def test_an_object_without_a_config_equals_itself_alone() -> None:
    one, other = Masked([1], "broken"), Masked([1], "broken")
    assert one == one
    assert one != other
    assert hash(one) == hash(one)
    assert "Masked object at" in repr(one)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("kolen_polack", "Did you mean 'kolen_pollack'?"),
        ("Symmetric", "Did you mean 'symmetric'?"),
        (feedback.KolenPollack, r"write `KolenPollack\(...\)`"),
        (plasticity.Hebb(), r"Received: feedback=Hebb\(decay=0.0\)"),
        (10**5000, "Received: feedback=<int>"),
        ({"class_name": "Nothing"}, "Received: feedback={'class_name': 'Nothing'}"),
    ],
    ids=["typo", "class_name", "class", "family", "huge", "config"],
)
def test_a_wrong_identifier_gets_a_hint(wrong: Any, hint: str) -> None:
    with pytest.raises(ValueError, match="`feedback` must be a FeedbackRule") as refusal:
        feedback.get(wrong)
    assert refusal.match(hint)
    assert "'weight_mirror'" in str(refusal.value)
