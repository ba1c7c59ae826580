"""What is inside of a layer that holds layers, and what errors do there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local.layers.inner_layers import directly_inside
from keras_local.layers.plain_form import all_layers
from keras_local.models.conversion.cloning import is_graph
from keras_local.models.conversion.conversion_report import kernels
from keras_local.ops import gradients

_FREE = 4
"""Size that stands for a free one in inputs for tests; of the batch it is half of that."""


@dataclass
class Inner:
    """A layer inside of another, and the paths of attributes that lead to it."""

    layer: keras.layers.Layer
    paths: list[str] = field(default_factory=list)


def inner_parts(
    layer: keras.layers.Layer, stops: Callable[[keras.layers.Layer], bool]
) -> list[Inner]:
    """Return all layers inside of a layer; not what is inside of those at which to stop."""
    found: dict[int, Inner] = {}

    def visit(holder: keras.layers.Layer, prefix: str) -> None:
        for place, part in directly_inside(holder).items():
            path = f"{prefix}{place}"
            if id(part) in found:
                found[id(part)].paths.append(path)
                continue
            found[id(part)] = Inner(part, [path])
            if not (stops(part) or is_graph(part)):
                visit(part, f"{path}/")

    visit(layer, "")
    return list(found.values())


def changes_a_built_in_call(kind: type) -> bool:
    """Tell whether a class is a built-in layer but for a `call` of its own."""
    for base in kind.__mro__:
        if base in (keras.layers.Layer, keras.layers.Wrapper, keras.Model):
            return False
        if base.__module__.startswith("keras.src.layers."):
            return base is not kind and kind.call is not base.call  # type: ignore[attr-defined]
    return False


def calls_in_graph(layer: keras.layers.Layer) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return random arguments for each call of a layer in the graph in which it stands."""
    generator = np.random.default_rng(0)

    def values(tensor: Any) -> Any:
        if not isinstance(tensor, keras.KerasTensor):
            return tensor
        batch, *rest = (size or _FREE for size in tensor.shape)
        shape = (batch if tensor.shape[0] else _FREE // 2, *rest)
        kind = keras.backend.standardize_dtype(tensor.dtype)
        if kind == "bool":
            return ops.convert_to_tensor(generator.random(shape) < 0.7)
        if "int" in kind:
            return ops.convert_to_tensor(generator.integers(0, 2, shape), dtype=kind)
        return ops.convert_to_tensor(generator.normal(size=shape), dtype=kind)

    calls = []
    for node in layer._inbound_nodes:
        args, kwargs = keras.tree.map_structure(
            values, (node.arguments.args, node.arguments.kwargs)
        )
        # What is drawn in training would differ from call to call.
        calls.append((args, {**kwargs, "training": False} if "training" in kwargs else kwargs))
    return calls


class Examination:
    """Whether errors in a layer go down through layers that are converted, and no other way."""

    def __init__(self, layer: keras.layers.Layer, converted: Sequence[Inner]) -> None:
        self.layer = layer
        self.calls = calls_in_graph(layer)
        self.converted = list(converted)
        self.seen: dict[int, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}
        with ExitStack() as stack:
            for part in all_layers(layer):
                stack.enter_context(_instead(part, self._noting(part)))
            self.outputs = [_run(layer, call) for call in self.calls]

    def _noting(self, part: Any) -> Callable[..., Any]:
        called, notes = part.call, self.seen.setdefault(id(part), [])

        def noting(*args: Any, **kwargs: Any) -> Any:
            notes.append((args, kwargs))
            return called(*args, **kwargs)

        return noting

    def refusals(self, left: Iterable[keras.layers.Layer] = ()) -> Iterator[str]:
        """Say where errors would go by weight transport.

        Args:
            left: Layers that are to keep backpropagation, with all that is in them.
        """
        used = self._used_without_a_call()
        for part in self.converted:
            kind = f"{type(part.layer).__name__} {part.paths[0]!r}"
            if not self.seen.get(id(part.layer)):
                yield f"{kind}, which it does not call"
            elif id(part.layer) in used:
                yield f"{kind}, whose kernel it uses without calling it"
        parts = [part.layer for part in self.converted]
        known = {id(each) for part in (*parts, *left) for each in all_layers(part)}
        for holder in all_layers(self.layer):
            own = {id(weight) for weight in holder._trainable_variables}
            # One that is longer than 1 on one axis only mixes nothing: a token, a gain, an offset.
            weights = [
                weight
                for weight in kernels(holder)
                if id(weight) in own and sum(size > 1 for size in weight.shape) > 1
            ]
            if id(holder) not in known and self._transports(holder, weights):
                kind = f"{type(holder).__name__} {holder.name!r}"
                yield f"{kind}, which has kernels and no feedback form"

    def _used_without_a_call(self) -> set[int]:
        """Return the ids of the converted layers on which outputs depend but through calls."""
        owners = [
            (inner.layer, weight)
            for inner in self.converted
            for part in all_layers(inner.layer)
            for weight in part._trainable_variables
        ]
        weights = [weight for _, weight in owners]

        def cut(part: Any) -> Callable[..., Any]:
            called = part.call
            return lambda *args, **kwargs: keras.tree.map_structure(
                _stopped, called(*args, **kwargs)
            )

        def value(*tensors: Any) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(weights, tensors, strict=True))):
                return _nothing(tensors) + sum(
                    _number(_run(self.layer, call)) for call in self.calls
                )

        with ExitStack() as stack:
            for inner in self.converted:
                stack.enter_context(_instead(inner.layer, cut(inner.layer)))
            found = gradients(value, [ops.convert_to_tensor(weight) for weight in weights])
        return {
            id(layer)
            for (layer, _), each in zip(owners, found, strict=True)
            if bool(ops.any(ops.not_equal(each, 0)))
        }

    def _transports(self, holder: keras.layers.Layer, weights: list[keras.Variable]) -> bool:
        """Tell whether weights of a layer stand in the derivative by its inputs."""
        if not weights:
            return False
        calls = self.calls if holder is self.layer else self.seen.get(id(holder), [])
        return not calls or transports(holder, weights, calls)


def transports(holder: keras.layers.Layer, weights: list[keras.Variable], calls: Any) -> bool:
    """Tell whether the derivatives of a layer by its inputs change with weights of it."""
    return any(_depends(holder, weights, call) for call in calls)


def _depends(holder: keras.layers.Layer, weights: list[keras.Variable], call: Any) -> bool:
    flat = keras.tree.flatten(call)
    floats = [place for place, value in enumerate(flat) if _is_float(value)]
    if not floats:
        return False
    generator = np.random.default_rng(1)
    values = [np.asarray(ops.convert_to_numpy(weight), "float32") for weight in weights]
    others = [value + generator.normal(size=value.shape) for value in values]

    def derivatives(kernels: list[np.ndarray]) -> list[np.ndarray]:
        state = [
            (weight, ops.convert_to_tensor(value, dtype=weight.dtype))
            for weight, value in zip(weights, kernels, strict=True)
        ]

        def value(*tensors: Any) -> Any:
            changed = list(flat)
            for place, tensor in zip(floats, tensors, strict=True):
                changed[place] = tensor
            with keras.StatelessScope(state_mapping=state):
                outputs = _run(holder, keras.tree.pack_sequence_as(call, changed))
                return _nothing(tensors) + _number(outputs)

        found = gradients(value, [flat[place] for place in floats])
        return [np.asarray(ops.convert_to_numpy(each), "float32") for each in found]

    pairs = zip(derivatives(values), derivatives(others), strict=True)
    return any(not np.allclose(one, other, rtol=1e-4, atol=1e-6) for one, other in pairs)


def same_outputs(expected: Any, found: Any) -> bool:
    """Tell whether outputs are the same to rounding."""
    pairs = zip(keras.tree.flatten(expected), keras.tree.flatten(found), strict=True)
    arrays = [tuple(np.asarray(ops.convert_to_numpy(x), "float64") for x in pair) for pair in pairs]
    return all(
        np.allclose(one, other, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(one).max())))
        for one, other in arrays
    )


def _run(layer: keras.layers.Layer, call: Any) -> Any:
    args, kwargs = call
    return layer(*args, **kwargs)


def _nothing(tensors: Sequence[Any]) -> Any:
    """Return 0, which depends on tensors: PyTorch has no derivative of what depends on none."""
    return sum(0.0 * ops.sum(ops.cast(tensor, "float32")) for tensor in tensors)


def _number(outputs: Any) -> Any:
    """Return a number that depends on all outputs, with different derivatives."""
    total = 0.0
    for output in keras.tree.flatten(outputs):
        if _is_float(output):
            output = ops.cast(output, "float32")
            factors = np.random.default_rng(2).normal(size=tuple(output.shape)).astype("float32")
            total = total + ops.sum(ops.multiply(output, ops.convert_to_tensor(factors)))
    return ops.convert_to_tensor(total)


def _is_float(value: Any) -> bool:
    return hasattr(value, "dtype") and "float" in keras.backend.standardize_dtype(value.dtype)


def _stopped(value: Any) -> Any:
    return ops.stop_gradient(value) if _is_float(value) else value


@contextmanager
def _instead(layer: Any, call: Callable[..., Any]) -> Iterator[None]:
    """Let another function stand for the `call` of a layer."""
    before = vars(layer).get("call")
    object.__setattr__(layer, "call", call)
    try:
        yield
    finally:
        if before is None:
            object.__delattr__(layer, "call")
        else:
            object.__setattr__(layer, "call", before)
