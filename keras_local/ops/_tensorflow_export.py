"""Files for other runtimes, written from a function of TensorFlow tensors."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_local.ops.export import CannotConvert

IN_FLOAT = (
    "DIV",
    "EXP",
    "LOG",
    "MAXIMUM",
    "MINIMUM",
    "MUL",
    "POW",
    "RSQRT",
    "SQRT",
    "SQUARE",
    "SUM",
)
"""Operators that stay in float32 in an int8 file.

They compute lengths and powers of inputs and multiply by them. These numbers differ by many orders
of magnitude: a black patch has the largest reciprocal length, and 255 steps up to this length leave
no steps for the others. Convolutions and matrix products are int8.
"""


class Served:
    """A function of flat inputs with names, which returns outputs by name.

    Args:
        function: What is served, of nested inputs.
        signature: The `keras.layers.InputSpec` of each argument, nested as the inputs are.
        names: The names of the inputs, in flat order.
    """

    def __init__(
        self, function: Callable[..., Any], signature: Sequence[Any], names: Sequence[str]
    ) -> None:
        self.names = list(names)
        flat = tf.nest.flatten(signature)
        specs = [
            tf.TensorSpec(spec.shape, spec.dtype, name=name)
            for spec, name in zip(flat, names, strict=True)
        ]

        @tf.function(autograph=False, input_signature=specs)
        def serve(*inputs: tf.Tensor) -> Any:
            outputs = function(*tf.nest.pack_sequence_as(signature, inputs))
            flat = tf.nest.flatten(outputs)
            ends = [""] if len(flat) == 1 else [f"_{place:02}" for place in range(len(flat))]
            return {f"outputs{end}": value for end, value in zip(ends, flat, strict=True)}

        self.specs = specs
        self.serve = serve
        self.traced = serve.get_concrete_function()

    @property
    def loops(self) -> bool:
        """Return whether something in the function is repeated."""
        graph = self.traced.graph.as_graph_def()
        bodies = [graph.node, *(function.node_def for function in graph.library.function)]
        return any(node.op in ("While", "StatelessWhile") for body in bodies for node in body)

    def saved(self, folder: str) -> None:
        """Write a SavedModel."""
        module = tf.Module()
        # An object that is not tracked is not saved.
        module.held = list(self.traced.graph.variables)
        module.serve = self.serve
        tf.saved_model.save(module, folder, signatures={"serving_default": self.traced})


def onnx(served: Served) -> dict[str, bytes]:
    """Return an ONNX file."""
    try:
        model = onnx_model(served.serve, served.specs)
    except Exception as error:
        raise CannotConvert(f"tf2onnx says: {error}") from error
    found = [node.name for node in model.graph.input]
    more = sorted(set(found) - set(served.names))
    if more:
        raise CannotConvert(
            f"its graph holds tensors as constants, which would be inputs of the file: {more}. "
            "Use NumPy arrays or Python numbers in their place"
        )
    return {".onnx": model.SerializeToString()}


def onnx_model(function: Any, specs: Sequence[Any], opset: int | None = None) -> Any:
    """Return a function as a model of ONNX.

    By itself the converter writes `where(valid, x, y)` as `valid * x + (1 - valid) * y`, which is
    NaN where the value that is not taken is NaN or infinite.
    """
    import tf2onnx
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.DOUBLE)

    def select(graph: Any, operations: list[Any]) -> list[Any]:
        for operation in operations:
            if operation.type == "SelectV2" and graph.get_dtype(operation.output[0]) in floats:
                operation.set_attr("handles_nan", True)
        return operations

    model, _ = tf2onnx.convert.from_function(
        function, input_signature=specs, opset=opset, custom_rewriter=[select]
    )
    return model


def openvino(served: Served) -> dict[str, bytes]:
    """Return the two files of OpenVINO's representation."""
    import openvino

    try:
        model = openvino.convert_model(served.traced)
    except Exception as error:
        raise CannotConvert(f"OpenVINO says: {error}") from error
    for node, name in zip(model.inputs, served.names, strict=True):
        node.get_node().set_friendly_name(name)
        node.tensor.set_names({name})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return {end: path.with_suffix(end).read_bytes() for end in (".bin", ".xml")}


def litert(served: Served, samples: Sequence[np.ndarray] | None = None) -> dict[str, bytes]:
    """Return a LiteRT file of built-in operators.

    Args:
        served: What is served.
        samples: None for float32, or arrays of representative samples, one for each input, for
            weights and activations in int8.
    """
    if samples is not None and served.loops:
        raise CannotConvert("it settles in a loop, through which LiteRT cannot calibrate int8")
    with tempfile.TemporaryDirectory() as folder:
        # Only from a SavedModel, variables become constants in loops, too.
        served.saved(folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            if samples is None:
                return {".tflite": converter.convert()}
            return {".tflite": _quantised(converter, served.names, samples)}
        except Exception as error:
            lists = re.findall(r"TF Select ops: ([\w, ]+)", str(error))
            operators = sorted({name for found in lists for name in found.split(", ")})
            which = f"LiteRT has no operator for {operators}" if operators else f"LiteRT: {error}"
            raise CannotConvert(which) from error


def _quantised(converter: Any, names: Sequence[str], samples: Sequence[np.ndarray]) -> bytes:
    def each() -> Any:
        for row in range(len(samples[0])):
            batch = (array[row : row + 1] for array in samples)
            yield dict(zip(names, batch, strict=True))

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = each
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(IN_FLOAT))
    with warnings.catch_warnings():
        # TensorFlow warns of an interpreter of its own.
        warnings.simplefilter("ignore")
        # The debugger is the one public way to leave operators in float.
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_options=options
        )
        content: bytes = debugger.get_nondebug_quantized_model()
    return content


def outputs_of(served: Served, samples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of the function itself, in the order of their names."""
    outputs = tf.nest.flatten(served.serve(*map(tf.constant, samples)))
    return [np.asarray(output) for output in outputs]
