"""Constructors refuse what they cannot use, and name the argument that the user wrote."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from keras_local import activations, feedback, optimizers, plasticity

RULE = feedback.KolenPollack()
GIVEN: dict[type, dict[str, Any]] = {
    feedback.ActivationAlignment: {},
    feedback.FeedbackAlignment: {},
    feedback.Symmetric: {},
    feedback.Detached: {},
    feedback.InformationAlignment: {},
    feedback.KolenPollack: {},
    feedback.LocalAlignment: {"regulariser": feedback.Decay(0.1)},
    feedback.MatchedNorm: {"rule": RULE},
    feedback.Noise: {},
    feedback.NoisyUpdates: {"rule": RULE},
    feedback.RandomConnectivity: {"rule": RULE, "probability": 0.5},
    feedback.SignSymmetry: {},
    feedback.SymmetricAlignment: {},
    feedback.WeightMirror: {},
    feedback.Regulariser: {"terms": [feedback.Decay(0.1)]},
    **{
        term: {"rate": 0.1}
        for term in (
            feedback.Amplify,
            feedback.Decay,
            feedback.Nullify,
            feedback.SelfAlign,
            feedback.Sparsify,
        )
    },
    activations.Ramp: {},
    activations.RePU: {},
    activations.Triangle: {},
}
WRONG = [
    "no such thing",
    [],
    {},
    object(),
    float("nan"),
    float("inf"),
    -1.5,
    10**400,
    1j,
    np.ones(2),
    feedback.KolenPollack,
    plasticity.Hebb(),
    lambda: 0.1,
]


def arguments() -> list[tuple[type, str]]:
    return [(cls, name) for cls in GIVEN for name in inspect.signature(cls).parameters]


@pytest.mark.parametrize(
    ("cls", "name"), arguments(), ids=lambda value: getattr(value, "__name__", value)
)
def test_a_wrong_argument_is_named(cls: type, name: str) -> None:
    for wrong in WRONG:
        with pytest.raises(ValueError, match=f"^`{name}` must be") as refusal:
            cls(**{**GIVEN[cls], name: wrong})
        assert f"Received: {name}=" in str(refusal.value)


@pytest.mark.parametrize("flag", ["centre", "respond", "update_forward"])
def test_a_flag_is_a_bool(flag: str) -> None:
    for wrong in (None, 0, 1, 1.0, "False", "no", np.int64(1)):
        with pytest.raises(ValueError, match=f"`{flag}` must be True or False"):
            feedback.WeightMirror(**{flag: wrong})
    assert getattr(feedback.WeightMirror(**{flag: np.True_}), flag) is True


def test_none_is_refused_where_it_has_no_meaning() -> None:
    optional = {"noise", "separate", "scale", "seed"}
    for cls, name in arguments():
        if name in optional and cls is not activations.Ramp:
            cls(**{**GIVEN[cls], name: None})
            continue
        with pytest.raises(ValueError, match=f"^`{name}` must be"):
            cls(**{**GIVEN[cls], name: None})


def test_unknown_arguments_are_type_errors() -> None:
    for cls in GIVEN:
        with pytest.raises(TypeError, match=r"evry|takes no arguments"):
            cls(**GIVEN[cls], evry=2)


@pytest.mark.parametrize("wrong", [feedback.FeedbackAlignment, "frfb", plasticity.Hebb(), None])
def test_a_wrapper_takes_rules_only(wrong: Any) -> None:
    for cls, more in (
        (feedback.MatchedNorm, {}),
        (feedback.NoisyUpdates, {}),
        (feedback.RandomConnectivity, {"probability": 0.5}),
    ):
        with pytest.raises(ValueError, match=r"^`rule` must be a FeedbackRule"):
            cls(wrong, **more)


def test_a_class_in_place_of_an_object_gets_a_hint() -> None:
    with pytest.raises(ValueError, match=r"write `FeedbackAlignment\(...\)`"):
        feedback.MatchedNorm(feedback.FeedbackAlignment)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"learning_rate": None}, "learning_rate"),
        ({"learning_rate": -0.1}, "learning_rate"),
        ({"learning_rate": True}, "learning_rate"),
        ({"momentum": 1.5}, "momentum"),
        ({"momentum": "0.9"}, "momentum"),
        ({"nesterov": 1}, "nesterov"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"use_ema": "yes"}, "use_ema"),
        ({"clipnorm": 0.0}, "clipnorm"),
        ({"gradient_accumulation_steps": 0.5}, "gradient_accumulation_steps"),
    ],
    ids=str,
)
def test_the_optimizer_names_its_arguments(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}`"):
        optimizers.BatchManhattan(**arguments)
