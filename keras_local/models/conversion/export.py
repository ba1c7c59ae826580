"""Export of models of built-in operations, for programs without Keras and this package."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import keras
import numpy as np

from keras_local import _validation as check
from keras_local.layers.plain_form import serving_form
from keras_local.models.conversion.to_plain import to_plain
from keras_local.ops import abilities
from keras_local.ops.export import CannotConvert, Written, written

Format = Literal["tf_saved_model", "onnx", "litert", "openvino"]

_ENDINGS = {"onnx": ".onnx", "litert": ".tflite", "openvino": ".xml"}
_NEEDS = {"onnx": ["tf2onnx"], "litert": [], "openvino": ["openvino"]}
_RUNS_INT8 = ["ai_edge_litert"]
_DEVIATION, _AGREEMENT = 0.25, 0.97
"""Limits for the warning: largest deviation of an int8 file's outputs, and least agreement."""


def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: Format = "tf_saved_model",
    int8: Any = None,
) -> None:
    """Write a model for predictions as a file for other programs, without feedback weights.

    `model.export` of Keras writes each variable of a SavedModel twice, also the feedback weights,
    and a LiteRT file may need operators that its interpreter lacks. Here the model is first
    converted by `to_plain`, variables are stored once, and a LiteRT file has only built-in
    operators.

    | `format`           | `path`                          | runs in                       |
    |--------------------|---------------------------------|-------------------------------|
    | `"tf_saved_model"` | a folder                        | TensorFlow, its Serving       |
    | `"onnx"`           | ends in `.onnx`                 | ONNX Runtime                  |
    | `"litert"`         | ends in `.tflite`               | LiteRT: phones, small devices |
    | `"openvino"`       | ends in `.xml`; a `.bin` beside | OpenVINO                      |

    `pip install 'keras-local[export]'` installs the converters and the runtimes. A single input of
    the file is called `inputs`; each of several inputs has the name of its `keras.Input`. A single
    output is called `outputs`, several outputs `outputs_00`, `outputs_01` and so on, in flat order.
    The batch size is free.

    Args:
        model: A model for `to_plain`, also a `Readout` or a fitted `NearestNeighbours`, or a model
            with a `serving_form()`, such as the networks of `keras_local.dynamics`, of which the
            free phase is written.
        path: File or folder to write; an existing file is replaced.
        format: One of the formats above. All but `"tf_saved_model"` need the TensorFlow backend: a
            model of another backend is saved as `.keras` and loaded with that.
        int8: None, or representative inputs for a `"litert"` file with weights and activations in
            int8: an array of some hundred samples, several arrays for several inputs. Inputs and
            outputs stay float32. Operations that divide by lengths or take powers (a normalisation
            of patches, the power of a readout) also stay float32, because eight bits are not enough
            for their numbers. Before anything is written, the file is run on the samples, and a
            warning says how much it differs from the model if that is a lot.

    Raises:
        ValueError: As `to_plain`; for a wrong argument; for a model that the converter refuses,
            with the converter's message. Then nothing has been written.
        ImportError: If the format needs a package that is not installed.

    A SavedModel can be served where neither Keras nor keras_local is installed. Assign the loaded
    object to a variable: its weights are deleted with it.

    ```python
    served = tf.saved_model.load(path)
    scores = served.serve(images)
    ```

    >>> import pathlib, tempfile, keras, keras_local as kl
    >>> model = keras.Sequential([keras.Input((4,)), kl.layers.FeedbackDense(2)])
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> kl.models.export(model, folder / "model.tflite", format="litert")
    >>> [file.name for file in folder.iterdir()]
    ['model.tflite']
    """
    target = Path(check.instance("path", path, (str, os.PathLike), "a path"))
    format = check.one_of("format", format, get_args(Format))
    _check_path(target, format)
    allowed = 'None: only `format="litert"` has a form in int8'
    check.require(int8 is None or format == "litert", "int8", allowed, int8)
    if format != "tf_saved_model":
        _require_packages(format, int8 is not None)
    function, signature, names = _served(model)
    if format == "tf_saved_model":
        archive = keras.export.ExportArchive()
        # Not `archive.track(model)`: tracked, each variable is stored under two names.
        archive.add_endpoint(name="serve", fn=function, input_signature=signature)
        archive.write_out(os.fspath(target), verbose=False)
        return
    samples = None if int8 is None else _samples(int8, keras.tree.flatten(signature))
    try:
        result = written(format, function, signature, names, samples)
    except CannotConvert as error:
        allowed = f"a model that can be converted to {format!r}. {error}"
        raise ValueError(check.refusal("model", allowed, model)) from error
    if samples is not None:
        _warn_of_deviation(result)
    target.parent.mkdir(parents=True, exist_ok=True)
    for ending, content in result.files.items():
        file = target.with_suffix(ending)
        half = file.with_name(f"{file.name}.half")
        half.write_bytes(content)
        half.replace(file)


def _served(model: Any) -> tuple[Callable[[Any], Any], list[Any], list[str]]:
    """Return the function to serve, its argument specifications, and the names of all inputs."""
    form = serving_form(model)
    if form is not None:
        function, signature = form
        return function, signature, _names([spec.name for spec in keras.tree.flatten(signature)])
    plain = to_plain(model)
    signature = keras.tree.map_structure(
        lambda tensor: keras.layers.InputSpec(shape=tensor.shape, dtype=tensor.dtype), plain.input
    )
    tensors = keras.tree.flatten(plain.input)
    names = _names([tensor._keras_history.operation.name for tensor in tensors])
    return partial(plain, training=False), [signature], names


def _names(given: Sequence[str | None]) -> list[str]:
    if len(given) == 1:
        return ["inputs"]
    return [name or f"inputs_{place:02}" for place, name in enumerate(given)]


def _check_path(path: Path, format: str) -> None:
    ending = _ENDINGS.get(format)
    if ending is not None:
        check.require(path.suffix == ending, "path", f"one that ends in {ending!r}", str(path))
        return
    others = {end: name for name, end in _ENDINGS.items()}
    allowed = f"a folder, or `format={others.get(path.suffix)!r}` be given"
    check.require(path.suffix not in others, "path", allowed, str(path))


def _require_packages(format: str, int8: bool) -> None:
    backend = keras.backend.backend()
    allowed = (
        '"tf_saved_model" with this backend. Save the model as `.keras`, and load and export it '
        'with KERAS_BACKEND="tensorflow"'
    )
    check.require(abilities.WRITES_OTHER_FORMATS, "format", allowed, f"{format!r} on {backend}")
    for package in [*_NEEDS[format], *(_RUNS_INT8 if int8 else [])]:
        if find_spec(package) is None:
            what = f"format={format!r}" + (" with `int8`" if int8 else "")
            raise ImportError(f"{what} needs {package}: pip install 'keras-local[export]'")


def _samples(int8: Any, specs: Sequence[Any]) -> list[np.ndarray]:
    """Return representative samples as one array for each input."""
    several = isinstance(int8, (list, tuple, dict))
    given = keras.tree.flatten(int8) if several else [int8]
    shapes = [tuple(spec.shape[1:]) for spec in specs]
    allowed = f"arrays of at least one sample, finite, of the shapes {shapes} without the batch"
    check.require(len(given) == len(specs), "int8", allowed, int8)
    arrays = []
    for value, spec, shape in zip(given, specs, shapes, strict=True):
        try:
            array = np.asarray(keras.ops.convert_to_numpy(value)).astype(spec.dtype)
        except (TypeError, ValueError) as error:
            raise ValueError(check.refusal("int8", allowed, value)) from error
        fits = array.ndim == len(shape) + 1 and all(
            size in (None, found) for size, found in zip(shape, array.shape[1:], strict=True)
        )
        finite = fits and len(array) > 0 and bool(np.isfinite(array.astype("float64")).all())
        described = f"an array of the shape {array.shape}" + (" with NaN" if fits else "")
        check.require(finite, "int8", allowed, described)
        arrays.append(array)
    allowed = "arrays of equally many samples"
    counts = [len(array) for array in arrays]
    check.require(len(set(counts)) == 1, "int8", allowed, counts)
    return arrays


def _warn_of_deviation(result: Written) -> None:
    """Warn if int8 differs much from the model in its outputs, or in the largest output."""
    for wanted, found in zip(result.expected, result.answered, strict=True):
        error = np.sqrt(np.mean(np.square(found - wanted, dtype="float64")))
        deviation = float(error / max(float(np.std(wanted)), 1e-30))
        text = f"{deviation:.0%} of their standard deviation (root mean square)"
        agreement = 1.0
        if wanted.ndim > 1 and wanted.shape[-1] > 1:
            agreement = float(np.mean(found.argmax(axis=-1) == wanted.argmax(axis=-1)))
            text += f"; the largest output is the same for {agreement:.1%} of them"
        if deviation > _DEVIATION or agreement < _AGREEMENT:
            warnings.warn(
                f"In int8 the outputs for the {len(wanted)} representative samples are off by "
                f"{text}. Measure whether this is accurate enough, or leave out `int8`.",
                stacklevel=3,
            )
