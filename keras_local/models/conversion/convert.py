"""Conversion of any Keras model to a model whose errors return through feedback weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
from keras import initializers, ops

from keras_local import _validation as check
from keras_local import feedback as feedback_rules
from keras_local import layers as our_layers
from keras_local.feedback import FeedbackRule
from keras_local.layers import FeedbackLayer
from keras_local.models.conversion.cloning import (
    Cloning,
    copy_of,
    feedback_parts,
    forward_values,
    forward_weights,
    has_rule,
    mask_of,
    require_graph,
    sublayers,
)
from keras_local.models.conversion.conversion_report import conversion_report, kernels
from keras_local.models.conversion.graph_walks import without_trained_weights_below

Choice = Any
"""A layer's name or path, a class of layers, or a function from a layer to a bool."""


def convert(
    model: keras.Model,
    feedback: Any = "kolen_pollack",
    feedback_initializer: Any = "glorot_uniform",
    include: Choice | Iterable[Choice] = None,
    exclude: Choice | Iterable[Choice] = None,
    lowest: bool = True,
    keep_weights: bool = True,
    connectivity: Any = None,
    seed: int | None = None,
    verbose: bool = True,
) -> keras.Model:
    """Return a model that predicts the same and whose errors return by a feedback rule.

    Every dense layer, convolution and attention becomes the feedback layer of the same name; a
    feedback layer that is there already gets the new rule. Everything else (normalisation with its
    statistics, pooling, sums, the graph itself, shared layers) stays as it is. The model given is
    not changed and shares no weight with the result; `to_plain` leads back. With
    `feedback="symmetric"` the result learns as the model does, bit for bit.

    A layer that sends errors down through kernels of its own and has no feedback form (a
    recurrent layer, a wrapper around a dense layer, a subclass of a built-in layer)
    would remain on backpropagation unseen, so it is refused unless it is excluded.

    Args:
        model: A built Sequential or functional model, nested or not, without a `call` or
            `train_step` of its own.
        feedback: A `keras_local.feedback` rule or its alias, or a function from a layer of `model`
            to one of these, or to None for a layer to leave as it is. Each layer gets a copy.
        feedback_initializer: Law of the initial feedback kernels, drawn for each layer
            independently of all others and of the kernels. None takes each layer's own
            `kernel_initializer`.
        include: What to convert: a name (of a layer or a nested model, or their path, `"a/b"`), a
            class of layers, a function from a layer to a bool, or several of these. Everything that
            can be converted, by default.
        exclude: What to leave as it is; likewise.
        lowest: Whether to convert layers below which nothing is trained too. Their feedback kernels
            would carry an error to nowhere: without them all kernels learn the same, in less time
            where a rule trains feedback kernels. A layer of several kernels is converted anyhow.
            Leave it at True if the result will stand on top of other layers that are trained.
        keep_weights: Whether the result starts with the weights of `model`, statistics and states
            of random generators among them, or with new ones.
        connectivity: Probability with which each forward and each feedback synapse exists, as in
            the feedback layers, or a function from a layer of `model` to it or to None. With fewer
            synapses the result no longer predicts the same. None leaves all synapses that exist.
        seed: Where the feedback kernels are drawn from, by layer name. None takes the present state
            of the generator that `keras.utils.set_random_seed` sets. Neither changes that state.
        verbose: Whether to print the `conversion_report`.

    Returns:
        A model of the same kind and name, not compiled.

    Raises:
        ValueError: For a model or layer that cannot be converted, naming all of them; for a choice
            that fits no layer; for an unknown rule. Nothing has been changed then.

    >>> import keras, keras_local as kl
    >>> layers = [keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    >>> converted = kl.models.convert(model, "feedback_alignment", verbose=False)
    >>> [type(layer).__name__ for layer in converted.layers]
    ['FeedbackConv2D', 'Flatten', 'FeedbackDense']
    """
    _check_model(model)
    rule_of = _rules(feedback)
    if seed is not None:
        check.positive_integer("seed", seed, minimum=0)
    with _own_random_numbers():
        law = initializers.get(feedback_initializer)  # None stays None.
        origin = random.getrandbits(64) if seed is None else seed
        scope = _Scope(model, include, exclude, lowest)
        plan = _plan(model, scope, rule_of, law, connectivity, origin)
        converted = _Convert(plan, keep_weights).model(model)
    if verbose:
        print(conversion_report(converted))
    return converted


class _Convert(Cloning):
    """The layers that are planned in place of the old ones, copies in place of all others."""

    keeps_sequential = True

    def __init__(self, plan: dict[int, keras.layers.Layer], keep_weights: bool) -> None:
        super().__init__()
        self.plan = plan
        self.keep_weights = keep_weights

    def opens(self, layer: Any) -> bool:
        return _is_graph(layer)

    def layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        return self.plan[id(layer)] if id(layer) in self.plan else copy_of(layer)

    def carry(self, layer: keras.layers.Layer, new: keras.layers.Layer) -> None:
        if not self.keep_weights:
            return
        if id(layer) not in self.plan:
            _copy(layer.weights, new.weights)
            _copy(_states(layer), _states(new))
            return
        for value, target in zip(forward_values(layer), forward_weights(new), strict=True):
            target.assign(value)
        _keep_synapses(layer, new)
        _copy(_states(layer, of_rules=False), _states(new, of_rules=False))
        for part in feedback_parts(new):
            _restart(part)


def _plan(
    model: keras.Model,
    scope: _Scope,
    rule_of: Callable[[keras.layers.Layer], Any],
    law: Any,
    connectivity: Any,
    origin: int,
) -> dict[int, keras.layers.Layer]:
    """Make the new layers, not built, or refuse; nothing else has happened then."""
    table = _table()
    plan: dict[int, keras.layers.Layer] = {}
    refused: list[str] = []
    for places in _layers(model):
        path, layer = places[0].path, places[0].layer
        kind = type(layer) if has_rule(type(layer)) else table.get(type(layer))
        if not scope.covers(places, kind) or not (kind or kernels(layer)):
            continue
        rule = rule_of(layer)
        if rule is None:
            continue
        if kind is None:
            refused.append(f"{path!r} ({_why(layer)})")
            continue
        seed = random.Random(f"feedback of {path}, {origin}").randrange(1, 10**9)
        random.seed(f"{path}, {origin}")
        config = _arguments(layer)
        own_law = getattr(layer, "kernel_initializer", "glorot_uniform") if law is None else law
        single = issubclass(kind, FeedbackLayer)
        config.update(
            feedback=_copy_of_rule(rule),
            # A layer with several kernels seeds each feedback kernel itself.
            feedback_initializer=_seeded(own_law, seed, keep=law is not None, single=single),
        )
        share = connectivity(layer) if callable(connectivity) else connectivity
        if share is not None:
            config["connectivity"] = share
        try:
            plan[id(layer)] = kind.from_config(config)
        except (TypeError, ValueError) as error:
            reason = str(error).rsplit("Exception encountered: ", 1)[-1]
            refused.append(f"{path!r} ({type(layer).__name__}: {reason})")
    allowed = "a model in which every layer with kernels has a feedback form or is excluded"
    check.require(not refused, "model", allowed, ", ".join(refused))
    check.require(bool(plan), "model", "a model with a layer to convert", model.name)
    return plan


def _table() -> dict[type, type[keras.layers.Layer]]:
    """Return the feedback layer of each built-in layer that has one."""
    exported = (getattr(our_layers, name) for name in our_layers.__all__)
    return {
        kind.plain: kind
        for kind in exported
        if has_rule(kind) and getattr(kind, "plain", None) is not None
    }


def _arguments(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return the arguments that the feedback form of a layer shares with it."""
    config: dict[str, Any] = layer.get_config()
    if config.get("quantization_config", True) is None:
        del config["quantization_config"]
    return config


def _why(layer: keras.layers.Layer) -> str:
    kind = type(layer).__name__
    if isinstance(layer, keras.Model):
        return f"{kind}, a model with a `call` of its own"
    inside = [part for part in sublayers(layer) if kernels(part)]
    if inside:
        return f"{kind}, which holds {type(inside[0]).__name__} {inside[0].name!r}"
    return f"{kind}, which has kernels and no feedback form"


def _keep_synapses(layer: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Let the same forward synapses exist, or those that the new layer has drawn."""
    before = {part.name: mask_of(part) for part in feedback_parts(layer)}
    for part in feedback_parts(new):
        mask = mask_of(part)
        if mask is None:
            continue
        if before.get(part.name) is not None and part.connectivity == _connectivity(layer):
            mask.assign(ops.convert_to_numpy(before[part.name]))
        part.kernel.assign(part.kernel * mask)


def _connectivity(layer: keras.layers.Layer) -> float | None:
    return getattr(layer, "connectivity", None)


def _restart(layer: FeedbackLayer) -> None:
    """Let the rule's weights start anew, now that the kernel has its value.

    They may depend on it: the constant difference of Kolen-Pollack does.
    """
    declared = layer._rule.weights(layer.kernel, layer._feedback_law())
    for weight, start in zip(layer._feedback_weights, declared, strict=True):
        initializer = initializers.get(start.initializer)
        weight.assign(initializer(tuple(weight.shape), dtype=weight.dtype))


def _copy(sources: list[keras.Variable], targets: list[keras.Variable]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.assign(ops.convert_to_numpy(source))


def _states(layer: keras.layers.Layer, of_rules: bool = True) -> list[keras.Variable]:
    """Return the states of a layer's random generators, with or without those of rules."""
    left_out = {id(weight) for weight in layer.weights}
    if not of_rules:
        drawing = [part for part in feedback_parts(layer) if part._rule.draws]
        left_out |= {id(part._seed.state) for part in drawing}
    return [variable for variable in layer.variables if id(variable) not in left_out]


# --- Which layers ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A layer where it stands; a shared layer has several places."""

    layer: keras.layers.Layer
    path: str
    around: tuple[keras.Model, ...]

    @property
    def names(self) -> set[str]:
        """Names and paths of the layer and of the models around it."""
        parts = self.path.split("/")
        return {*parts, *("/".join(parts[: end + 1]) for end in range(len(parts)))}


def _places(model: keras.Model, around: tuple[keras.Model, ...] = ()) -> Iterator[_Place]:
    for layer in model.layers:
        if _is_graph(layer):
            yield from _places(layer, (*around, layer))
        else:
            path = "/".join(part.name for part in (*around, layer))
            yield _Place(layer, path, around)


def _layers(model: keras.Model) -> Iterable[list[_Place]]:
    """Return the places of each layer, in order."""
    found: dict[int, list[_Place]] = {}
    for place in _places(model):
        found.setdefault(id(place.layer), []).append(place)
    return found.values()


class _Scope:
    """Which layers to convert, as `include`, `exclude` and `lowest` say."""

    def __init__(self, model: keras.Model, include: Any, exclude: Any, lowest: Any) -> None:
        lowest = check.instance("lowest", lowest, bool)
        self.unused = set() if lowest else without_trained_weights_below(model)
        self.include = None if include is None else _choices("include", include)
        self.exclude = [] if exclude is None else _choices("exclude", exclude)
        known = {name for place in _places(model) for name in place.names}
        for argument, choices in (("include", self.include or []), ("exclude", self.exclude)):
            names = [choice for choice in choices if isinstance(choice, str)]
            unknown = [name for name in names if name not in known]
            allowed = f"names of layers of {model.name!r}"
            check.require(not unknown, argument, allowed, unknown)

    def covers(self, places: list[_Place], kind: type | None) -> bool:
        """Tell whether the layer that stands in `places`, and would be `kind`, is to be it."""
        if id(places[0].layer) in self.unused and kind and issubclass(kind, FeedbackLayer):
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


def _any_fits(choices: list[Choice], places: list[_Place]) -> bool:
    return any(_fits(choice, place) for choice in choices for place in places)


def _fits(choice: Choice, place: _Place) -> bool:
    if isinstance(choice, str):
        return choice in place.names
    if isinstance(choice, type):
        kinds = [type(part) for part in (place.layer, *place.around)]
        twins = [getattr(kind, "plain", kind) for kind in kinds]
        return any(issubclass(kind, choice) for kind in (*kinds, *twins))
    return bool(choice(place.layer))


def _is_graph(layer: Any) -> bool:
    """Tell whether a layer is a model to convert layer by layer."""
    if not isinstance(layer, keras.Model):
        return False
    try:
        require_graph(layer)
    except ValueError:
        return False
    return True


def _check_model(model: Any) -> None:
    check.require(isinstance(model, keras.Model), "model", "a keras.Model", type(model).__name__)
    require_graph(model)
    own = [
        name
        for name in ("train_step", "test_step", "predict_step", "compute_loss")
        if getattr(type(model), name) is not getattr(keras.Model, name)
    ]
    check.require(not own, "model", "a model that trains as keras.Model does", f"its own {own}")


# --- Rules and random numbers ---------------------------------------------------------------------


def _rules(feedback: Any) -> Callable[[keras.layers.Layer], FeedbackRule | None]:
    """Return which rule a layer gets; None for none."""
    if callable(feedback) and not isinstance(feedback, FeedbackRule | type):

        def rule_of(layer: keras.layers.Layer) -> FeedbackRule | None:
            rule = feedback(layer)
            return None if rule is None else feedback_rules.get(rule)

        return rule_of
    rule = feedback_rules.get(feedback)
    return lambda layer: rule


def _copy_of_rule(rule: FeedbackRule) -> FeedbackRule:
    return type(rule).from_config(rule.get_config())


def _seeded(law: Any, seed: int, keep: bool, single: bool) -> Any:
    """Return an initializer with a seed of its own, if it draws and has none to `keep`."""
    law = initializers.get(law)
    config = law.get_config() if isinstance(law, initializers.Initializer) else {}
    if "seed" not in config or (keep and config["seed"] is not None):
        return law
    return type(law).from_config({**config, "seed": seed if single else None})


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Leave the stream of seeds, from which Keras draws, where it was."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
