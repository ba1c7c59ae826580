"""Functions that write files for other runtimes, and that run an int8 file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np


class CannotConvert(Exception):
    """An error that a converter cannot convert a model, with the reason."""


@dataclass(frozen=True)
class Written:
    """A file, as bytes or as a folder to move, and its outputs for representative samples.

    Attributes:
        files: Content of each file by the ending of its name.
        expected: The model's flat outputs for the representative samples; none without samples.
        answered: The outputs of the file for the same samples.
    """

    files: dict[str, bytes]
    expected: Sequence[np.ndarray] = ()
    answered: Sequence[np.ndarray] = ()


def written(
    file_format: str,
    function: Callable[..., Any],
    signature: Sequence[Any],
    names: Sequence[str],
    samples: Sequence[np.ndarray] | None = None,
) -> Written:
    """Return the content of a file in a format. TensorFlow has to be the active backend.

    Args:
        file_format: `"onnx"`, `"litert"` or `"openvino"`.
        function: The function to serve.
        signature: One `keras.layers.InputSpec`, or a nested structure of them, for each argument.
        names: The names of the inputs in the file, in flat order.
        samples: None, or representative inputs, for a LiteRT file in int8.

    Raises:
        CannotConvert: If the converter refuses the function.
        ImportError: If the converter is not installed.
    """
    tensorflow = import_module("keras_local.ops._tensorflow_export")
    served = tensorflow.Served(function, signature, names)
    content: dict[str, bytes] = {
        "onnx": tensorflow.onnx,
        "litert": tensorflow.litert,
        "openvino": tensorflow.openvino,
    }[file_format](served, *([] if samples is None else [samples]))
    if samples is None:
        return Written(content)
    (file,) = content.values()
    return Written(content, tensorflow.outputs_of(served, samples), answers(file, names, samples))


def answers(
    content: bytes, names: Sequence[str], samples: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return the outputs of a LiteRT file, sample by sample, in the order of their names.

    Raises:
        CannotConvert: If the interpreter does not run it.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        runner = Interpreter(model_content=content).get_signature_runner()
        found = [
            runner(**dict(zip(names, (array[row : row + 1] for array in samples), strict=True)))
            for row in range(len(samples[0]))
        ]
    except (RuntimeError, ValueError) as error:
        raise CannotConvert(f"LiteRT does not run the file: {error}") from error
    return [np.concatenate([each[name] for each in found]) for name in sorted(found[0])]
