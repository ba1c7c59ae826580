"""Conversion of any Keras model to a model whose errors return through feedback weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import initializers, ops

from keras_local import _keras_objects as objects
from keras_local import _validation as check
from keras_local import feedback as feedback_rules
from keras_local._serialization import copied
from keras_local._types import InitializerLike
from keras_local.feedback import FeedbackLike, FeedbackRule
from keras_local.layers.conversions import named_arguments, our_class_of
from keras_local.layers.plain_form import (
    all_layers,
    forward_values,
    forward_weights,
    has_one_kernel,
    inner_layers,
    plain_form,
    speaks,
    takes_rule,
    with_error_path,
)
from keras_local.models.conversion.cloning import Cloning, around, copy_of, is_graph, require_graph
from keras_local.models.conversion.composites import (
    Composite,
    holds_layers,
    inside,
    is_built_in,
    passes_no_error,
)
from keras_local.models.conversion.conversion_report import conversion_report, kernels
from keras_local.models.conversion.directions import around_both, directions
from keras_local.models.conversion.scope import (
    Choice,
    Place,
    Scope,
    paths_for_seeds,
    places_of,
)


def convert(
    model: keras.Model,
    feedback: FeedbackLike | Callable[[Any], Any] = "kolen_pollack",
    feedback_initializer: InitializerLike | None = "glorot_uniform",
    include: Choice | Iterable[Choice] = None,
    exclude: Choice | Iterable[Choice] = None,
    lowest: bool = True,
    keep_weights: bool = True,
    connectivity: float | Callable[[Any], float | None] | None = None,
    seed: int | None = None,
    verbose: bool = True,
    composites: bool = False,
) -> keras.Model:
    """Return a model with the same predictions whose errors return by a feedback rule.

    Every dense layer, convolution, attention and recurrent layer becomes the feedback layer of the
    same name, also inside nested models, `TimeDistributed` and `Bidirectional`. Existing feedback
    layers get the new rule. Your own layers become the layers that `register_conversion` pairs with
    them. Everything else does not change (normalisation with its statistics, pooling, sums, the
    graph itself, shared layers). `model` is not changed and shares no weight with the result;
    `to_plain` is the way back. With `feedback="symmetric"` the result learns like the model, bit
    for bit.

    With `composites=True`, layers of other packages that hold layers (for example a transformer
    block of KerasHub) are opened. The layers in their attributes are converted, also in lists,
    dicts, further such layers and models with a graph. In the result, `layers.Converted` is around
    them. Derivatives on random inputs test that errors go only through what is converted, and the
    outputs are compared.

    A layer that sends errors down through its own kernels and has no feedback form (a recurrent
    layer over your own cell, another wrapper, a subclass of a built-in layer) would keep
    backpropagation without any notice. Therefore it is refused unless it is excluded. A layer with
    `error_kernels` but without an argument `feedback` is not changed.

    Args:
        model: A built Sequential or functional model, nested or not, without its own `call` or
            `train_step`.
        feedback: A `keras_local.feedback` rule or its alias, or a function from a layer of `model`
            to one of these, or to None for a layer that is not converted. Each layer gets a copy.
        feedback_initializer: Initializer of the feedback kernels, drawn for each layer
            independently of all others and of the kernels. None means each layer's own
            `kernel_initializer`.
        include: What to convert: a name (of a layer or a nested model, or their path, `"a/b"`), a
            class of layers, a function from a layer to a bool, or several of these. By default
            everything that can be converted.
        exclude: What not to convert, in the same forms as `include`.
        lowest: Whether to convert also layers below which nothing is trained. Their feedback
            kernels are not needed: without them all kernels learn the same, in less time if a rule
            trains feedback kernels. A layer of several kernels is always converted. Use True if the
            result will be put on top of other layers that are trained.
        keep_weights: Whether the result starts with the weights of `model`, also with statistics
            and states of random generators, or with new weights.
        connectivity: Probability with which each forward and each feedback synapse exists, as in
            the feedback layers, or a function from a layer of `model` to it or to None. With fewer
            synapses the result no longer predicts the same. None leaves all synapses that exist.
        seed: Seed of the feedback kernels. Each kernel also depends on the layer's name if you gave
            it one, otherwise on the layer's place in the model. None uses the present state of the
            generator that `keras.utils.set_random_seed` sets. That state is never changed.
        verbose: Whether to print the `conversion_report`.
        composites: Whether to convert the layers inside of layers that are not built in and have no
            feedback form. `include` and `exclude` take the paths of attributes there, such as
            `"encoder/blocks/0/attention"`; a function `feedback` is called for each of them.

    Returns:
        A model of the same kind and name, not compiled.

    Raises:
        ValueError: For a model or layers that cannot be converted, which the message names; for a
            choice that fits no layer; for an unknown rule. With `composites`, also for a layer in
            which errors would go another way: a layer that uses a kernel without calling its layer
            (tied embeddings), that holds a built-in layer with another `call`, or whose parts are
            not built. Then nothing has been changed.

    >>> import keras, keras_local as kl
    >>> layers = [keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    >>> converted = kl.models.convert(model, "feedback_alignment", verbose=False)
    >>> [type(layer).__name__ for layer in converted.layers]
    ['FeedbackConv2D', 'Flatten', 'FeedbackDense']
    """
    _check_model(model)
    verbose = check.flag("verbose", verbose)
    keep_weights = check.flag("keep_weights", keep_weights)
    composites = check.flag("composites", composites)
    rule_of = _rules(feedback)
    if connectivity is not None and not callable(connectivity):
        connectivity = check.real(
            "connectivity", connectivity, minimum=0.0, maximum=1.0, exclusive=True
        )
    if seed is not None:
        check.positive_integer("seed", seed, minimum=0)
    with _own_random_numbers():
        initializer = feedback_initializer  # None means the initializer of each kernel.
        if initializer is not None:
            initializer = objects.initializer("feedback_initializer", initializer)
        origin = random.getrandbits(64) if seed is None else seed
        scope = Scope(model, include, exclude, lowest, composites)
        plan = _Plan(rule_of, initializer, connectivity, origin, scope, composites, keep_weights)
        converted = _Convert(plan.of(model), keep_weights).model(model)
        if keep_weights and connectivity is None:
            plan.compare()
    if verbose:
        print(conversion_report(converted))
    return converted


class _Convert(Cloning):
    """A pass that uses the planned layers in place of the old ones, and copies of all others."""

    keeps_sequential = True

    def __init__(self, plan: dict[int, keras.layers.Layer], keep_weights: bool) -> None:
        super().__init__()
        self.plan = plan
        self.keep_weights = keep_weights

    def opens(self, layer: Any) -> bool:
        return is_graph(layer)

    def layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        return self.plan[id(layer)] if id(layer) in self.plan else copy_of(layer)

    def carry(self, layer: keras.layers.Layer, new: keras.layers.Layer) -> None:
        if not self.keep_weights:
            return
        if id(layer) not in self.plan:
            _copy(layer.weights, new.weights)
            _copy(_states(layer), _states(new))
            return
        exchanged = not speaks(layer) or inner_layers(layer)
        values = forward_values(layer) if exchanged else plain_form(layer).weights
        for value, target in zip(values, forward_weights(new), strict=True):
            target.assign(value)
        before = {part.name: part for part in with_error_path(layer)}
        for part in with_error_path(new):
            part.restart(before.get(part.name))
        _copy(_states(layer, of_rules=False), _states(new, of_rules=False))


class _Plan:
    """The new layers, not built, for all layers that are converted."""

    def __init__(
        self,
        rule_of: Callable[[keras.layers.Layer], FeedbackRule | None],
        initializer: Any,
        connectivity: Any,
        origin: int,
        scope: Scope,
        composites: bool,
        keep_weights: bool,
    ) -> None:
        self.rule_of = rule_of
        self.initializer = initializer
        self.connectivity = connectivity
        self.origin = origin
        self.scope = scope
        self.opens = composites
        self.keep_weights = keep_weights
        self.plan: dict[int, keras.layers.Layer] = {}
        self.refused: list[str] = []
        self.composites: list[Composite] = []

    def of(self, model: keras.Model) -> dict[int, keras.layers.Layer]:
        """Return the new layers of a model, or refuse it; nothing else has happened then."""
        self._layers(model)
        allowed = "a model in which every layer with kernels has a feedback form or is excluded"
        check.require(not self.refused, "model", allowed, ", ".join(self.refused))
        check.require(bool(self.plan), "model", "a model with a layer to convert", model.name)
        return self.plan

    def compare(self) -> None:
        """Refuse a composite whose outputs have changed."""
        for composite in self.composites:
            allowed = "a model whose composite layers compute the same with exchanged layers"
            layer = composite.layer
            agrees = composite.agrees(self.plan[id(layer)])
            check.require(agrees, "model", allowed, f"{type(layer).__name__} {layer.name!r}")

    def _layers(self, model: keras.Model, around: Place | None = None, seeds: str = "") -> None:
        """Plan the layers of a model, which may stand inside of another layer."""
        paths = paths_for_seeds(model)
        for places in places_of(model):
            if around is not None:
                places = [place.inside(around) for place in places]
            self._layer(places, f"{seeds}{paths[id(places[0].layer)]}")

    def _layer(self, places: list[Place], seeds: str) -> None:
        path, layer = places[0].path, places[0].layer
        kind = _kind(layer)
        exchanged = bool(inner_layers(layer))
        if kind is None and (exchanged or (self.opens and holds_layers(layer))):
            self._composite(places, seeds)
            return
        if not self.scope.covers(places, kind) or not (kind or kernels(layer)):
            return
        rule = self.rule_of(layer)
        if rule is None or (kind is None and self.opens and passes_no_error(layer)):
            return
        if kind is None:
            self.refused.append(f"{path!r} ({_why(layer)})")
            return
        new = self._new(layer, kind, rule, path, seeds)
        if new is not None:
            self.plan[id(layer)] = new

    def _new(
        self, layer: keras.layers.Layer, kind: Any, rule: FeedbackRule, path: str, seeds: str
    ) -> keras.layers.Layer | None:
        try:
            return self._made(layer, kind, rule, seeds)
        except (TypeError, ValueError) as error:
            reason = str(error).rsplit("Exception encountered: ", 1)[-1]
            self.refused.append(f"{path!r} ({type(layer).__name__}: {reason})")
        return None

    def _composite(self, places: list[Place], seeds: str) -> None:
        """Plan what is inside of a layer that holds layers."""
        layer = places[0].layer
        if self.opens and not inner_layers(layer) and passes_no_error(layer):
            return
        found = len(self.refused)
        composite = self._parts_of(places, seeds)
        covered = self.scope.covers(places, None) and self.rule_of(layer) is not None
        path, kind = places[0].path, type(layer).__name__
        if composite is None:
            if covered and kernels(layer) and len(self.refused) == found:
                self.refused.append(f"{path!r} ({_why(layer)})")
            return
        self.refused += [f"{path!r} ({kind}: {reason})" for reason in composite.refusals()]
        if len(self.refused) == found:
            self.plan[id(layer)] = composite.wrapped()
            self.composites.append(composite)

    def _parts_of(self, places: list[Place], seeds: str) -> Composite | None:
        layer = places[0].layer
        converted, news, left = [], [], []
        for inner in inside(layer, lambda part: _kind(part) is not None):
            part, kind = inner.layer, _kind(inner.layer)
            here = [
                Place(part, f"{place.path}/{path}", (*place.around, layer))
                for place in places
                for path in inner.paths
            ]
            new = None
            if is_graph(part):
                new = self._inner_model(part, here[0], f"{seeds}/{inner.paths[0]}/")
            elif not self.scope.covers(here, kind):
                left.append(part)
            elif kind is not None and not part.built:
                self.refused.append(f"{here[0].path!r} ({type(part).__name__}, not built)")
            elif kind is not None:
                rule = self.rule_of(part)
                if rule is None:
                    left.append(part)
                else:
                    new = self._new(part, kind, rule, here[0].path, f"{seeds}/{inner.paths[0]}")
            if new is not None:
                converted.append(inner)
                news.append(new)
        return Composite(layer, converted, news, left) if converted else None

    def _inner_model(self, model: keras.Model, here: Place, seeds: str) -> keras.Model | None:
        """Convert a model with a graph that stands in an attribute of a layer."""
        planned, refused = len(self.plan), len(self.refused)
        self._layers(model, here, seeds)
        if len(self.plan) == planned or len(self.refused) > refused:
            return None
        return _Convert(self.plan, self.keep_weights).model(model)

    def _made(
        self,
        layer: keras.layers.Layer,
        kind: Any,
        rule: FeedbackRule,
        path: str,
    ) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.Wrapper):
            inner = self._made(layer.layer, kind, rule, f"{path}/{layer.layer.name}")
            wrapper: keras.layers.Layer = around(layer, inner)
            return wrapper
        if both := directions(layer):
            made = [self._made(each, _kind(each), rule, f"{path}/{each.name}") for each in both]
            pair: keras.layers.Layer = around_both(layer, *made)
            return pair
        seed = random.Random(f"feedback of {path}, {self.origin}").randrange(1, 10**9)
        random.seed(f"{path}, {self.origin}")
        config = {**_arguments(layer), "feedback": copied(rule)}
        keep = self.initializer is not None
        given = self.initializer if keep else _kernel_initializer(layer)
        # A layer with several kernels derives the seed of each feedback kernel itself.
        single = has_one_kernel(kind)
        if "feedback_initializer" in named_arguments(kind):
            config["feedback_initializer"] = _seeded(given, seed, keep=keep, single=single)
        share = self.connectivity(layer) if callable(self.connectivity) else self.connectivity
        if share is not None:
            config["connectivity"] = share
        new: keras.layers.Layer = kind.from_config(config)
        return new


def _kind(layer: keras.layers.Layer) -> type[keras.layers.Layer] | None:
    """Return the feedback class of a layer, or of the layer inside a wrapper."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return _kind(layer.layer)
    if both := directions(layer):
        kinds = [_kind(each) for each in both]
        return None if None in kinds else kinds[0]
    return type(layer) if takes_rule(type(layer)) else our_class_of(type(layer))


def _arguments(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return the arguments that the feedback form of a layer shares with it."""
    config: dict[str, Any] = layer.get_config()
    if config.get("quantization_config", True) is None:
        del config["quantization_config"]
    return config


def _kernel_initializer(layer: keras.layers.Layer) -> Any:
    return getattr(layer, "kernel_initializer", "glorot_uniform")


def _why(layer: keras.layers.Layer) -> str:
    kind = type(layer).__name__
    if isinstance(layer, keras.Model):
        return f"{kind}, a model with a `call` of its own"
    held_parts = [part for part in all_layers(layer) if part is not layer and kernels(part)]
    if held_parts:
        held = f"{kind}, which holds {type(held_parts[0]).__name__} {held_parts[0].name!r}"
        return held if is_built_in(layer) else f"{held}; see the argument `composites`"
    return f"{kind}, which has kernels and no feedback form"


def _copy(sources: list[keras.Variable], targets: list[keras.Variable]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.assign(ops.convert_to_numpy(source))


def _states(layer: keras.layers.Layer, of_rules: bool = True) -> list[keras.Variable]:
    """Return the states of a layer's random generators, with or without those of rules."""
    left_out = {id(weight) for weight in layer.weights}
    if not of_rules:
        left_out |= {id(state) for part in with_error_path(layer) for state in part.rule_states}
    return [variable for variable in layer.variables if id(variable) not in left_out]


def _check_model(model: Any) -> None:
    check.require(isinstance(model, keras.Model), "model", "a keras.Model", type(model).__name__)
    require_graph(model)
    own = [
        name
        for name in ("train_step", "test_step", "predict_step", "compute_loss")
        if getattr(type(model), name) is not getattr(keras.Model, name)
    ]
    check.require(not own, "model", "a model that trains as keras.Model does", f"its own {own}")


def _rules(feedback: Any) -> Callable[[keras.layers.Layer], FeedbackRule | None]:
    """Return a function from a layer to its rule, or to None."""
    if callable(feedback) and not isinstance(feedback, FeedbackRule | type):

        def rule_of(layer: keras.layers.Layer) -> FeedbackRule | None:
            rule = feedback(layer)
            return None if rule is None else feedback_rules.get(rule)

        return rule_of
    rule = feedback_rules.get(feedback)
    return lambda layer: rule


def _seeded(initializer: Any, seed: int, keep: bool, single: bool) -> Any:
    """Return an initializer with its own seed, if it draws numbers and has no seed to `keep`."""
    initializer = initializers.get(initializer)
    drawing = isinstance(initializer, initializers.Initializer)
    config = initializer.get_config() if drawing else {}
    if "seed" not in config or (keep and config["seed"] is not None):
        return initializer
    return type(initializer).from_config({**config, "seed": seed if single else None})


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Restore the state of the stream of seeds from which Keras draws."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
