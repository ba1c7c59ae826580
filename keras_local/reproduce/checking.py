"""What can be checked of settings before anything is built: names, arguments, optimizers."""

from __future__ import annotations

from typing import Any, get_args

from keras_local import _validation as check
from keras_local import feedback
from keras_local.layers.direct.resolve import DirectAlias
from keras_local.reproduce.making import (
    fits,
    loss_of,
    made,
    maker,
    optimizer_of,
)
from keras_local.reproduce.measures import function_of
from keras_local.reproduce.sections import Encoder, Model, Settings


def check_settings(settings: Settings, where: str) -> None:
    """Refuse names that do not exist and arguments that objects do not take.

    Layers and rules are made, but no weights, and no data is loaded.

    Raises:
        ValueError: For such a name or argument; the message begins with `where`.
    """
    try:
        for part in (settings.model, settings.encoder):
            if part is not None:
                _check_made(part)
        if settings.model is not None:
            check.one_of("direct", settings.model.direct, (*get_args(DirectAlias), None))
            _check_feedback(settings.model)
        if settings.train is not None:
            training = settings.train
            loss_of(training.loss)
            optimizer_of(training.optimizer, 1, training.epochs, training.bias_rate)
        if settings.readout is not None:
            loss_of(settings.readout.loss)
            optimizer_of(settings.readout.optimizer, 1, settings.readout.epochs)
        if settings.measure is not None:
            arguments: dict[str, Any] = {"run": None, **settings.measure.arguments}
            fits(function_of(settings.measure.function), arguments, settings.measure.function)
            made(settings.measure.arguments, "measure.arguments")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _check_made(part: Model | Encoder) -> None:
    made(list(part.layers), "layers")
    if part.make != "layers":
        fits(maker(part.make, "make"), part.arguments, part.make)
        for key, each in part.arguments.items():
            made(each, f"arguments.{key}")


def _check_feedback(model: Model) -> None:
    # What networks that settle call feedback is not a rule.
    of_network = model.arguments.get("feedback") if model.make.startswith("reference.") else None
    for rule in (model.feedback, of_network):
        found = made(rule, "feedback")
        if found is not None:
            feedback.get(found)
