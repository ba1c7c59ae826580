"""Objects from the names and arguments in an experiment's tables.

A table with a `name` is an object of that class: a layer, a rule, an initializer, and so on. Names
are looked up in public rooms of this package and of Keras, never by an import path.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_local import _validation as check
from keras_local import (
    activations,
    constraints,
    dynamics,
    feedback,
    layers,
    losses,
    models,
    plasticity,
)
from keras_local.reproduce.sections import Encoder, Model

ROOMS: tuple[Any, ...] = (
    layers,
    plasticity,
    feedback,
    activations,
    constraints,
    keras.layers,
    keras.initializers,
    keras.constraints,
    keras.regularizers,
)
"""Where a name in arguments is looked up, the first room that has it."""

NOTHING = {"name": "none"}
"""What stands for None, which TOML does not have."""

_MODELS = {"reference": models.reference, "dynamics": dynamics}

_HALVINGS = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9)
"""At these shares of the training the learning rate is halved (Journe et al. 2023)."""


def made(value: Any, where: str = "arguments") -> Any:
    """Return a value of TOML in which each table with a `name` is the object that it describes.

    >>> made({"name": "KrotovHopfield", "p": 3}).p
    3.0
    >>> made([1, {"name": "krotov_hopfield"}])[1].p
    2.0

    Raises:
        ValueError: If no room has the name, or it does not take the arguments.
    """
    if value == NOTHING:
        return None
    if isinstance(value, Mapping) and "name" in value:
        return _object(value, where)
    if isinstance(value, Mapping):
        return {key: made(each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [made(each, f"{where}.{place}") for place, each in enumerate(value)]
    return value


def _object(table: Mapping[str, Any], where: str) -> Any:
    kind, arguments = looked_up(table, where)
    inner = {key: made(each, f"{where}.{key}") for key, each in arguments.items()}
    try:
        return kind(**inner)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {table['name']}: {error}") from error


def looked_up(table: Mapping[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
    """Return class and arguments of an object, checked against the signature."""
    name = table["name"]
    arguments = {key: each for key, each in table.items() if key != "name"}
    # Keras' own name of the layer is an argument of its constructor too.
    if "called" in arguments:
        arguments["name"] = arguments.pop("called")
    kind = _alias(name, where) or _class_of(name, ROOMS)
    allowed = "the name of a layer, a rule, an activation, a constraint or an initializer"
    check.require(kind is not None, f"{where}: name", allowed, name)
    fits(kind, arguments, f"{where}: {name}")
    return kind, arguments


def _class_of(name: Any, rooms: Sequence[Any]) -> Any:
    """Return the public class of a name in the first room that has it, or None."""
    if not isinstance(name, str) or name.startswith("_"):
        return None
    found = (getattr(room, name, None) for room in rooms)
    return next((each for each in found if inspect.isclass(each)), None)


def _alias(name: Any, where: str) -> Any:
    """Return the class of a rule's alias, or None; one with arguments of its own is refused."""
    for room in (plasticity, feedback):
        try:
            rule = room.get(name)
        except (TypeError, ValueError):
            continue
        kind = type(rule)
        allowed = f"{kind.__name__}, with the arguments for which {name!r} stands"
        check.require(kind().get_config() == rule.get_config(), f"{where}: name", allowed, name)
        return kind
    return None


def fits(function: Any, arguments: Mapping[str, Any], where: str) -> None:
    """Refuse arguments that a function or class does not take."""
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{where}: {error}. Received: {', '.join(arguments) or 'none'}") from error


def maker(name: str, where: str) -> Any:
    """Return the function `reference.NAME`, class `dynamics.NAME` or `dynamics.NAME.preset`."""
    room, *path = name.split(".")
    found: Any = _MODELS.get(room)
    known = found is not None and bool(path) and path[0] in found.__all__
    for part in path if known else []:
        found = getattr(found, part, None)
    allowed = "`reference.NAME`, `dynamics.NAME` or `dynamics.NAME.preset`"
    valid = known and len(path) <= 2 and path[1:] in ([], ["preset"]) and callable(found)
    check.require(valid, where, allowed, name)
    return found


def model_of(settings: Model, shape: Sequence[int]) -> keras.Model:
    """Return the model that the settings describe, for inputs of a shape."""
    if settings.make != "layers":
        function = maker(settings.make, "model.make")
        fits(function, settings.arguments, f"model: {settings.make}")
        arguments = {key: made(each, f"model.{key}") for key, each in settings.arguments.items()}
        model = function(**arguments)
    else:
        parts = [made(each, f"model.layers.{k}") for k, each in enumerate(settings.layers)]
        model = keras.Sequential([keras.Input(tuple(shape)), *parts])
    if settings.feedback is not None:
        initializer = settings.feedback_initializer
        chosen = "glorot_uniform" if initializer is None else made(initializer)
        rule = made(settings.feedback, "model.feedback")
        model = models.convert(model, rule, feedback_initializer=chosen, verbose=False)
    if settings.direct is not None:
        model = models.direct(model, settings.direct)
    if settings.frozen_below is not None:
        freeze_below(model, settings.frozen_below)
    return model


def freeze_below(model: keras.Model, name: str) -> None:
    """Let no layer below a layer of a model learn."""
    names = [layer.name for layer in model.layers]
    check.one_of("frozen_below", name, names)
    for layer in model.layers[: names.index(name)]:
        layer.trainable = False


def encoder_of(settings: Encoder, shape: Sequence[int]) -> keras.Model:
    """Return the encoder that the settings describe, for inputs of a shape."""
    if settings.make != "layers":
        function = maker(settings.make, "encoder.make")
        fits(function, settings.arguments, f"encoder: {settings.make}")
        found: keras.Model = function(**made(settings.arguments, "encoder.arguments"))
        return found
    parts = [made(each, f"encoder.layers.{k}") for k, each in enumerate(settings.layers)]
    return keras.Sequential([keras.Input(tuple(shape)), *(parts or [keras.layers.Identity()])])


def loss_of(table: Any) -> Any:
    """Return a loss: of a name with a meaning here, or an object of `losses`.

    >>> loss_of({"name": "LocalHinge"}).off_class_factor
    1.0
    """
    named = {"logistic": logistic, "half_squared": half_squared, None: None}
    if table == "softmax":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if not isinstance(table, Mapping):
        check.one_of("loss", table, ("softmax", *named))
        return named[table]
    arguments = {key: each for key, each in table.items() if key != "name"}
    name = table.get("name")
    kind = _class_of(name, (losses, keras.losses))
    check.require(kind is not None, "loss: name", "a loss of `losses` or `keras.losses`", name)
    fits(kind, arguments, f"loss: {name}")
    return kind(**arguments)


def logistic(targets: Any, outputs: Any) -> Any:
    """Return the cross-entropy of each output between 0 and 1, summed over outputs."""
    return keras.ops.sum(keras.ops.binary_crossentropy(targets, outputs), axis=-1)


def half_squared(targets: Any, outputs: Any) -> Any:
    """Return half the squared distance, summed over outputs."""
    return 0.5 * keras.ops.sum(keras.ops.square(targets - outputs), axis=-1)


def optimizer_of(
    table: Mapping[str, Any], steps: int, epochs: int, bias_rate: float | None = None
) -> Any:
    """Return an optimizer, with the schedule of its learning rate if it has one.

    Args:
        table: Name, arguments, and `schedule`.
        steps: Steps in an epoch.
        epochs: Number of epochs.
        bias_rate: Factor on the learning rate of biases.
    """
    arguments = {key: each for key, each in table.items() if key not in ("name", "schedule")}
    name, schedule = table.get("name"), table.get("schedule")
    kind = getattr(keras.optimizers, str(name), None)
    valid = inspect.isclass(kind) and issubclass(kind, keras.optimizers.Optimizer)
    check.require(valid, "optimizer: name", "an optimizer of Keras", name)
    fits(kind, arguments, f"optimizer: {name}")

    def one(factor: float) -> Any:
        rate = arguments.get("learning_rate", 0.001) * factor
        scheduled = rate if schedule is None else _schedule(schedule, rate, steps, epochs)
        return kind(**{**arguments, "learning_rate": scheduled})  # type: ignore[misc]

    if bias_rate is None:
        return one(1.0)
    several = keras.optimizers.OptimizerMap(one(1.0))
    several[".*bias"] = one(bias_rate)
    return keras.optimizers.MultiOptimizer(several)


def _schedule(schedule: Any, rate: float, steps: int, epochs: int) -> Any:
    total = max(1, steps * epochs)
    if schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(rate, total)
    if schedule == "halvings":
        at = [int(share * total) for share in _HALVINGS]
        rates = [rate / 2**place for place in range(len(at) + 1)]
        return keras.optimizers.schedules.PiecewiseConstantDecay(at, rates)
    valid = isinstance(schedule, Mapping) and set(schedule) == {"at", "factor"}
    allowed = '"cosine", "halvings" or { at = [epochs], factor = number }'
    check.require(valid, "schedule", allowed, schedule)
    at = [int(epoch * steps) for epoch in schedule["at"]]
    rates = [rate * schedule["factor"] ** place for place in range(len(at) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(at, rates)
