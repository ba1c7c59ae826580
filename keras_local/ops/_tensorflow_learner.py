"""Writes training steps as SavedModel, LiteRT and ONNX files."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_local.ops._tensorflow_export import onnx_model
from keras_local.ops._tensorflow_portable import NotPortable, Rewriter, law_of, library_of
from keras_local.ops.learners import Entry, LearnerFunctions, NotPortableError, Written

_OPSET = 17
_CLOSE = 1e-3
"""How far a file may be from what was converted after one step, relative to the largest entry."""


def derivatives(loss: tf.Tensor, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor | None]:
    """Differentiate within a graph; names of the gradients hold those of the layers."""
    return list(tf.gradients(loss, list(tensors)))


@dataclass
class _Traced:
    """A pure function of weights and other inputs, in built-in operations alone.

    Attributes:
        inputs: The other inputs, noise among them.
        function: From the learning weights and these inputs to a list of outputs.
        state: Numbers of the weights that learn.
    """

    inputs: list[Entry]
    function: Callable[..., list[tf.Tensor]]
    state: list[int]


def write_learner(functions: LearnerFunctions, path: str, file_format: str) -> Written:
    """Write a file in one of the formats; nothing is written if an operation has no form."""
    try:
        learn = _traced_learn(functions)
        infer = _traced_infer(functions, learn.state)
        weights = [functions.weights[number] for number in learn.state]
        values = [np.asarray(functions.values[number]) for number in learn.state]
        named = [
            Entry(f"w{number}", weight.shape, weight.dtype, weight.meaning)
            for number, weight in enumerate(weights)
        ]
        writer = {"tf_saved_model": _saved_model, "litert": _litert, "onnx": _onnx}[file_format]
        operators = writer(path, infer, learn, named, values)
    except NotPortable as error:
        raise NotPortableError([(error.operator, error.place)], error.why) from error
    return Written(tuple(learn.inputs), tuple(named), tuple(operators))


def _spec(entry: Entry) -> tf.TensorSpec:
    return tf.TensorSpec(entry.shape, entry.dtype, name=entry.name)


def _traced_learn(functions: LearnerFunctions) -> _Traced:
    samples, targets = list(functions.samples), list(functions.targets)
    rate = Entry("rate", (), "float32", "learning rate")
    inputs = [*samples, *targets, rate]
    count = len(functions.weights)
    state: list[int] = []

    def step(*arguments: tf.Tensor) -> list[tf.Tensor]:
        values, others = list(arguments[:count]), arguments[count:]
        loss, new = functions.learn(
            values, others[: len(samples)], others[len(samples) : -1], others[-1]
        )
        state[:] = [i for i in range(count) if new[i] is not values[i]]
        return [loss, *(new[i] for i in state)]

    graph = tf.function(step, autograph=False).get_concrete_function(
        *map(_spec, functions.weights), *map(_spec, inputs)
    )
    return _portable(graph, functions, inputs, state)


def _traced_infer(functions: LearnerFunctions, state: list[int]) -> _Traced:
    count = len(functions.weights)

    def infer(*arguments: tf.Tensor) -> list[tf.Tensor]:
        return functions.infer(arguments[:count], arguments[count:])

    graph = tf.function(infer, autograph=False).get_concrete_function(
        *map(_spec, functions.weights), *map(_spec, functions.samples)
    )
    return _portable(graph, functions, list(functions.samples), state)


def _portable(
    graph: Any, functions: LearnerFunctions, inputs: list[Entry], state: list[int]
) -> _Traced:
    """Return the function that writes a traced graph in built-in operations."""
    count, library = len(functions.weights), library_of(graph)
    placeholders = [tensor.name for tensor in graph.inputs]
    captured = zip(placeholders[count + len(inputs) :], graph.captured_inputs, strict=True)
    constants = {name: value.numpy() for name, value in captured if value.dtype != tf.resource}

    def written(draw: Any, *arguments: tf.Tensor) -> list[tf.Tensor]:
        learning = dict(zip(state, arguments[: len(state)], strict=True))
        feeds = {
            name: learning[i] if i in learning else tf.constant(functions.values[i])
            for i, name in enumerate(placeholders[:count])
        }
        others = placeholders[count : count + len(inputs)]
        feeds |= dict(zip(others, arguments[len(state) :], strict=False))
        feeds |= {name: tf.constant(value) for name, value in constants.items()}
        return Rewriter(library, draw).write(graph.graph, feeds, graph.outputs)

    noise = _noise(written, [functions.weights[i] for i in state], inputs)

    def function(*arguments: tf.Tensor) -> list[tf.Tensor]:
        drawn = iter(arguments[len(state) + len(inputs) :])
        return written(lambda operation: next(drawn), *arguments)

    return _Traced([*inputs, *noise], function, state)


def _noise(written: Any, weights: list[Entry], inputs: list[Entry]) -> list[Entry]:
    """Write a graph once, to see which random numbers it needs and whether it can be written."""
    found: list[Entry] = []

    def draw(operation: tf.Operation) -> tf.Tensor:
        tensor, law = operation.outputs[0], law_of(operation)
        if tensor.shape.rank is None:
            raise NotPortable(operation.type, operation.name, "random numbers of unknown shape")
        name, shape = f"noise{len(found)}", tuple(tensor.shape)
        meaning = f"random numbers: standard {law}" + (" in [0, 1)" if law == "uniform" else "")
        found.append(Entry(name, shape, tensor.dtype.name, meaning))
        return tf.raw_ops.Placeholder(dtype=tensor.dtype, shape=tensor.shape)

    trial = tf.function(lambda *arguments: written(draw, *arguments), autograph=False)
    trial.get_concrete_function(*map(_spec, [*weights, *inputs]))
    return found


class _Learner(tf.Module):
    """What is saved: variables, and four functions."""

    def __init__(
        self, infer: _Traced, learn: _Traced, weights: list[Entry], values: list[np.ndarray]
    ) -> None:
        super().__init__()
        self.state = [
            tf.Variable(value, name=weight.name)
            for weight, value in zip(weights, values, strict=True)
        ]
        state = self.state

        def run_infer(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return _named_outputs(infer.function(*map(tf.convert_to_tensor, state), *inputs))

        def run_learn(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            loss, *new = learn.function(*map(tf.convert_to_tensor, state), *inputs)
            for variable, value in zip(state, new, strict=True):
                variable.assign(value)
            return {"loss": loss}

        def run_weights() -> dict[str, tf.Tensor]:
            # A name of its own: an output that is a variable's very reading has no name in LiteRT.
            return {
                weight.name: tf.identity(variable)
                for weight, variable in zip(weights, state, strict=True)
            }

        def run_restore(*values: tf.Tensor) -> dict[str, tf.Tensor]:
            for variable, value in zip(state, values, strict=True):
                variable.assign(value)
            return {"restored": tf.constant(len(state))}

        self.infer = tf.function(run_infer, [_spec(e) for e in infer.inputs], autograph=False)
        self.learn = tf.function(run_learn, [_spec(e) for e in learn.inputs], autograph=False)
        self.weights = tf.function(run_weights, [], autograph=False)
        self.restore = tf.function(run_restore, [_spec(e) for e in weights], autograph=False)

    def signatures(self) -> dict[str, Any]:
        return {
            name: getattr(self, name).get_concrete_function()
            for name in ("infer", "learn", "weights", "restore")
        }


def _named_outputs(outputs: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    if len(outputs) == 1:
        return {"outputs": tf.identity(outputs[0])}
    return {f"outputs{number}": tf.identity(each) for number, each in enumerate(outputs)}


def _saved_model(
    path: str, infer: _Traced, learn: _Traced, weights: list[Entry], values: list[np.ndarray]
) -> list[str]:
    _save(_Learner(infer, learn, weights, values), path)
    return []


def _save(learner: _Learner, path: str) -> None:
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(learner, path, signatures=learner.signatures(), options=options)


def _litert(
    path: str, infer: _Traced, learn: _Traced, weights: list[Entry], values: list[np.ndarray]
) -> list[str]:
    learner = _Learner(infer, learn, weights, values)
    with tempfile.TemporaryDirectory() as folder:
        _save(learner, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["infer", "learn", "weights", "restore"]
        )
        converter.experimental_enable_resource_variables = True
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            content = converter.convert()
        except Exception as error:  # The converter raises classes of its own, and others.
            raise _refused(error, learner) from error
    _compare(content, learner, infer, learn, weights)
    with open(path, "wb") as file:
        file.write(content)
    return _operators(content)


def _compare(
    content: bytes, learner: _Learner, infer: _Traced, learn: _Traced, weights: list[Entry]
) -> None:
    """Run a file once, and refuse it unless it does what was converted.

    The converter has turned functions into others without a word, and writes files that the
    runtime refuses for batches of another size than that with which they were converted.
    """
    rng = np.random.default_rng(0)
    inputs = {entry.name: _example(entry, rng) for entry in learn.inputs}
    samples = {entry.name: inputs[entry.name] for entry in infer.inputs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's copy of the interpreter is an old one.
        runtime = tf.lite.Interpreter(model_content=content)
    try:
        found = runtime.get_signature_runner("infer")(**samples)
        runtime.get_signature_runner("learn")(**inputs)
        found |= runtime.get_signature_runner("weights")()
    except (RuntimeError, ValueError) as error:
        free = " Give `batch_size`." if any(e.shape[:1] == (None,) for e in infer.inputs) else ""
        raise NotPortableError([], f"the runtime refuses the file: {error}.{free}") from error
    expected = learner.infer(*samples.values())
    learner.learn(*inputs.values())
    expected |= {w.name: v for w, v in zip(weights, learner.state, strict=True)}
    for name, value in expected.items():
        here, there = np.asarray(value, "float64"), np.asarray(found[name], "float64")
        # A weight may be nothing but rounding: a bias below a normalisation.
        bound = _CLOSE * max(1e-3, float(np.max(np.abs(here))))
        if not np.allclose(here, there, _CLOSE, bound, equal_nan=True):
            apart = float(np.max(np.abs(here - there)))
            raise NotPortableError([], f"{name} of the file differs by {apart:.1e} after a step")


def _example(entry: Entry, rng: np.random.Generator) -> Any:
    if entry.name == "rate":
        return np.float32(0.01)
    shape = [2 if size is None else size for size in entry.shape]
    if np.issubdtype(entry.dtype, np.floating):
        return rng.random(shape).astype(entry.dtype)
    return np.zeros(shape, entry.dtype)


def _refused(error: Exception, learner: _Learner) -> NotPortableError:
    """Return which operations the converter does not know, and where they stand."""
    lists = re.findall(r"(?:Flex|Custom) ops: ([\w, ]+)", str(error))
    kinds = {name.strip().removeprefix("Flex") for each in lists for name in each.split(",")}
    if not kinds:
        kinds = set(re.findall(r"'tf\.(\w+)' op", str(error)))
    places = {
        operation.type: operation.name
        for signature in (learner.learn, learner.infer)
        for operation in _all_operations(signature.get_concrete_function())
        if operation.type in kinds
    }
    why = "" if kinds else str(error)[:500]
    return NotPortableError([(kind, places.get(kind, "")) for kind in sorted(kinds)], why)


def _all_operations(concrete: Any) -> list[Any]:
    nodes = [*concrete.graph.as_graph_def().node]
    for function in concrete.graph.as_graph_def().library.function:
        nodes += function.node_def
    return [_Node(node.op, node.name) for node in nodes]


@dataclass
class _Node:
    type: str
    name: str


def _operators(content: bytes) -> list[str]:
    from tensorflow.lite.python import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    return sorted(
        {
            (code.customCode or b"").decode()
            or names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            for code in model.operatorCodes
        }
    )


def _onnx(
    path: str, infer: _Traced, learn: _Traced, weights: list[Entry], values: list[np.ndarray]
) -> list[str]:
    def converted(traced: _Traced, names: Callable[[list[tf.Tensor]], dict[str, Any]]) -> Any:
        entries = [*weights, *traced.inputs]
        function = tf.function(
            lambda *arguments: names(traced.function(*arguments)),
            [_spec(entry) for entry in entries],
            autograph=False,
        )
        return onnx_model(function, [_spec(entry) for entry in entries], _OPSET)

    def named(outputs: list[tf.Tensor]) -> dict[str, Any]:
        loss, *new = outputs
        pairs = {f"new_{e.name}": tf.identity(v) for e, v in zip(weights, new, strict=True)}
        return {"loss": tf.identity(loss), **pairs}

    models = {"infer": converted(infer, _named_outputs), "learn": converted(learn, named)}
    os.makedirs(path, exist_ok=True)
    for name, model in models.items():
        with open(os.path.join(path, f"{name}.onnx"), "wb") as file:
            file.write(model.SerializeToString())
    arrays: dict[str, Any] = {e.name: value for e, value in zip(weights, values, strict=True)}
    np.savez(os.path.join(path, "weights.npz"), **arrays)
    return sorted({node.op_type for model in models.values() for node in model.graph.node})
