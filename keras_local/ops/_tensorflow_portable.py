"""A traced graph, written again in operations that every runtime has built in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

from keras_local.ops._tensorflow_portable_forms import FORMS

Draw = Callable[[tf.Operation], tf.Tensor]

_DRAWS = {
    "StatelessRandomNormal": "normal",
    "StatelessRandomNormalV2": "normal",
    "StatelessRandomUniform": "uniform",
    "StatelessRandomUniformV2": "uniform",
    "StatelessTruncatedNormal": "truncated_normal",
    "StatelessTruncatedNormalV2": "truncated_normal",
}
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_PASS = ("Identity", "StopGradient", "PreventGradient", "CheckNumerics", "Snapshot")


class NotPortable(Exception):
    """What cannot be written in built-in operations.

    Attributes:
        operator: Type of the operation.
        place: Name of the operation in the graph, which holds the names of its layers.
    """

    def __init__(self, operator: str, place: str, why: str = "") -> None:
        super().__init__(f"{operator} ({place}){': ' if why else ''}{why}")
        self.operator, self.place, self.why = operator, place, why


def law_of(operation: tf.Operation) -> str:
    """Return from which distribution an operation draws."""
    return _DRAWS[operation.type]


class Rewriter:
    """Writes the operations of a traced function into the graph that is being traced.

    Gradients and other operations without a built-in form are replaced by formulas; assertions and
    the order of side effects are left out, of which a pure function has none.

    Args:
        library: The functions that a graph may call, by name.
        draw: Function from an operation that draws random numbers to the tensor in its place.
    """

    def __init__(self, library: Mapping[str, Any], draw: Draw) -> None:
        self.library = library
        self.draw = draw
        self._depth = 0

    def write(
        self, graph: Any, feeds: Mapping[str, tf.Tensor], outputs: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        """Return the values of tensors of a graph.

        Args:
            graph: The traced graph.
            feeds: Values of its placeholders, by the names of their tensors.
            outputs: Tensors of the graph.
        """
        values = dict(feeds)
        for operation in _in_order(graph, _ancestors(outputs, values)):
            if all(output.name in values for output in operation.outputs):
                continue
            written = self._operation(operation, [values[i.name] for i in operation.inputs])
            for tensor, value in zip(operation.outputs, written, strict=True):
                values[tensor.name] = value
        return [values[tensor.name] for tensor in outputs]

    def _operation(self, operation: tf.Operation, inputs: list[tf.Tensor]) -> Sequence[tf.Tensor]:
        kind = operation.type
        if kind in _PASS:
            return inputs[:1]
        if kind == "IdentityN":
            return inputs
        if kind in _CALLS:
            return self._within(operation.name, operation.get_attr("f").name, inputs)
        with tf.name_scope(f"{operation.name}/"):
            if kind in _DRAWS:
                if self._depth:
                    raise NotPortable(kind, operation.name, "random numbers within a loop")
                return [self.draw(operation)]
            if kind in ("While", "StatelessWhile"):
                return self._while(operation, inputs)
            if kind in ("If", "StatelessIf"):
                return self._if(operation, inputs)
            if kind in FORMS:
                try:
                    return FORMS[kind](operation, *inputs)
                except NotImplementedError as error:
                    raise NotPortable(kind, operation.name, str(error)) from error
        if any(tensor.dtype == tf.resource for tensor in operation.inputs):
            raise NotPortable(kind, operation.name, "a variable that is no weight of the model")
        return _copy(operation, inputs)

    def _within(self, place: str, name: str, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Write a function in the place of its call, under the name that this has."""
        try:
            with tf.name_scope(f"{place}/"):
                return self._call(name, inputs)
        except NotPortable as error:
            raise NotPortable(error.operator, f"{place}/{error.place}", error.why) from error

    def _call(self, name: str, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        graph = function_def_to_graph(self.library[name])
        feeds = {tensor.name: value for tensor, value in zip(graph.inputs, inputs, strict=True)}
        return self.write(graph, feeds, graph.outputs)

    def _while(self, operation: tf.Operation, inputs: list[tf.Tensor]) -> Sequence[tf.Tensor]:
        condition, body = (operation.get_attr(name).name for name in ("cond", "body"))
        self._depth += 1
        written = tf.while_loop(
            lambda *values: tf.reshape(self._call(condition, values)[0], ()),
            lambda *values: self._call(body, values),
            inputs,
            shape_invariants=[output.shape for output in operation.outputs],
        )
        self._depth -= 1
        return list(written)

    def _if(self, operation: tf.Operation, inputs: list[tf.Tensor]) -> Sequence[tf.Tensor]:
        right, wrong = (operation.get_attr(name).name for name in ("then_branch", "else_branch"))
        condition, *arguments = inputs
        self._depth += 1
        written = tf.cond(
            condition, lambda: self._call(right, arguments), lambda: self._call(wrong, arguments)
        )
        self._depth -= 1
        return written if isinstance(written, (list, tuple)) else [written]


def library_of(concrete: Any) -> dict[str, Any]:
    """Return the functions that a traced function may call."""
    functions = concrete.graph.as_graph_def().library.function
    return {function.signature.name: function for function in functions}


def _ancestors(outputs: Sequence[tf.Tensor], feeds: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    waiting = [tensor for tensor in outputs if tensor.name not in feeds]
    while waiting:
        operation = waiting.pop().op
        if operation.name in found:
            continue
        found.add(operation.name)
        waiting += [tensor for tensor in operation.inputs if tensor.name not in feeds]
    return found


def _in_order(graph: Any, needed: set[str]) -> list[tf.Operation]:
    """Return operations in the order in which they were made, but none before its inputs.

    The gradient of a loop gives the loop, which is older, further inputs.
    """
    found: dict[str, tf.Operation] = {}
    waiting = [each for each in reversed(graph.get_operations()) if each.name in needed]
    while waiting:
        sources = [tensor.op for tensor in waiting[-1].inputs]
        missing = [each for each in sources if each.name in needed and each.name not in found]
        if missing:
            waiting += reversed(missing)
        else:
            operation = waiting.pop()
            found[operation.name] = operation
    return list(found.values())


def _copy(operation: tf.Operation, inputs: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
    attributes = {
        name: value for name, value in operation.node_def.attr.items() if not name.startswith("_")
    }
    copy = tf.compat.v1.get_default_graph().create_op(
        operation.type,
        list(inputs),
        [tensor.dtype for tensor in operation.outputs],
        name=operation.name,
        attrs=attributes,
    )
    for tensor, original in zip(copy.outputs, operation.outputs, strict=True):
        tensor.set_shape(tensor.shape.merge_with(original.shape))
    return list(copy.outputs)
