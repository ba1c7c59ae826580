"""Export of a model that can continue to learn without Keras and this package."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
from keras import ops

from keras_local import _validation as check
from keras_local.layers.learning_form import LearningForm
from keras_local.layers.plain_form import all_layers
from keras_local.models.learners.forms import form_of
from keras_local.models.learners.sgd import Descent, descent_of
from keras_local.ops.backend import Tensor
from keras_local.ops.learners import (
    FORMATS,
    Entry,
    LearnerFunctions,
    NotPortableError,
    can_write,
    derivatives,
    write_learner,
)

Format = Literal["tf_saved_model", "litert", "onnx"]


@dataclass(frozen=True)
class LearnerReport:
    """The result of `export_learner`.

    Attributes:
        path: File or folder.
        format: Its format.
        inputs: Inputs of `learn`, each with name, shape, type and meaning: samples, labels, the
            learning rate, and random numbers if the rule draws some.
        weights: The weights that learn, by their names in `weights` and `restore`.
        operators: Names of the operators in the file; empty for a SavedModel.
        size: Bytes on disk.
    """

    path: str
    format: str
    inputs: tuple[Entry, ...]
    weights: tuple[Entry, ...]
    operators: tuple[str, ...]
    size: int


def export_learner(
    model: keras.Model,
    path: str | os.PathLike[str],
    batch_size: int | None = None,
    format: Format = "tf_saved_model",
) -> LearnerReport:
    """Write a model that infers and continues to learn, without Keras and this package.

    The file contains four functions and the weights:

    - `infer(x)` returns the `outputs` of the model in inference;
    - `learn(x, y, rate)` makes one step of training, like `train_on_batch` with a learning rate
      of `rate`, and returns the `loss` before it. `y` is left out if learning needs no labels; if
      it draws random numbers, they are further inputs `noise0`, `noise1`, ...;
    - `weights()` returns the weights that learn, `w0`, `w1`, ..., with the momenta of SGD;
    - `restore(w0, w1, ...)` sets them.

    Weights that do not learn are constants of the file. The step is traced from the model itself,
    so that your own rules, layers and networks are written like those of this package. The runtime
    computes no automatic gradients. Operations that runtimes on devices do not have, such as the
    gradients of ReLU, convolutions and pooling, are written as formulas of operations that they
    have.

    In a LiteRT file all operators are built in. The interpreter holds the state: use one
    interpreter for all four signatures, and call `weights` before it ends. An ONNX runtime has no
    state: the folder contains `infer.onnx` and `learn.onnx`, which take `w0`, ... as further
    inputs, and `learn` returns `new_w0`, ...; the first values are in `weights.npz`.

    Args:
        model: A built model of layers that trains as Keras models do, a network, or a readout that
            has been fitted. It is compiled with `keras.optimizers.SGD`, also with `momentum`;
            without an optimizer, steps are those of SGD. The learning rate is an input, so that the
            caller can use a schedule. Your own model with another training step needs a method
            `learning_form`, see `kl.layers.LearningForm`.
        path: Folder to write; for `"litert"` a file with the ending `.tflite`.
        batch_size: Samples in every call; None for any number.
        format: `"tf_saved_model"`, `"litert"` or `"onnx"`.

    Returns:
        A report of what was written: inputs of `learn`, weights, operators and size.

    Raises:
        ValueError: For a model that is not built, an optimizer other than SGD, a precision other
            than single, or an operation that the format lacks, with its layer; nothing has been
            written.
        NotImplementedError: On another backend than TensorFlow.
        ImportError: For `"onnx"` without tf2onnx.

    >>> import keras, numpy as np, keras_local as kl, tempfile, tensorflow as tf
    >>> model = keras.Sequential([keras.Input((4,)), kl.layers.FeedbackDense(3)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> folder = tempfile.mkdtemp()
    >>> report = kl.models.export_learner(model, folder)
    >>> [entry.name for entry in report.inputs]
    ['x', 'y', 'rate']
    >>> learner = tf.saved_model.load(folder).signatures
    >>> x, y = tf.ones((2, 4)), tf.zeros((2, 3))
    >>> first, then = (float(learner["learn"](x=x, y=y, rate=tf.constant(0.1))["loss"])
    ...                for step in range(2))
    >>> then < first
    True
    """
    check.instance("model", model, keras.Model)
    check.one_of("format", format, FORMATS)
    if batch_size is not None:
        batch_size = check.positive_integer("batch_size", batch_size)
    target = _target(path, format)
    if not can_write():
        backend = keras.backend.backend()
        raise NotImplementedError(
            f"`export_learner` traces the training step with the TensorFlow backend of Keras. "
            f"Received: KERAS_BACKEND={backend!r}. Save the model as `.keras`, and export it in a "
            f"process with the other backend"
        )
    _check_precision(model)
    functions = _functions(model, form_of(model), descent_of(model), batch_size)
    try:
        written = write_learner(functions, target, format)
    except NotPortableError as error:
        raise ValueError(_refusal(model, error, format)) from error
    size = sum(f.stat().st_size for f in Path(target).rglob("*") if f.is_file())
    size = size or Path(target).stat().st_size
    return LearnerReport(
        target, format, written.learn_inputs, written.weights, written.operators, size
    )


def _target(path: Any, format: str) -> str:
    check.instance("path", path, (str, os.PathLike), "a path")
    target = check.text("path", os.fspath(path))
    if format == "litert":
        check.require(target.endswith(".tflite"), "path", "a file that ends with .tflite", path)
        check.require(not Path(target).is_dir(), "path", "a file, no folder", path)
    else:
        check.require(not Path(target).is_file(), "path", "a folder, no file", path)
    return target


def _check_precision(model: Any) -> None:
    for layer in all_layers(model):
        right = {str(layer.compute_dtype), str(layer.variable_dtype)} == {"float32"}
        allowed = "in single precision (float32), as runtimes on devices are"
        received = f"layer {layer.name!r} of dtype {layer.dtype_policy.name}"
        check.require(right, "model", allowed, received)


def _functions(
    model: Any, form: LearningForm, descent: Descent, batch_size: int | None
) -> LearnerFunctions:
    variables = list(model.weights)
    trainable = {id(variable) for variable in model.trainable_variables}
    places = [i for i, variable in enumerate(variables) if id(variable) in trainable]
    check.require(bool(places), "model", "a model with weights that learn", model.name)
    order = {id(variable): i for i, variable in enumerate(model.trainable_variables)}
    held = {id(variable) for variable in variables}
    others = [variable for variable in _beside_weights(model) if id(variable) not in held]
    constants = [(other, ops.convert_to_numpy(other)) for other in others]
    values = [ops.convert_to_numpy(variable) for variable in variables]
    slots = [descent.slots[order[id(variables[i])]] for i in places] if descent.slots else []

    def scope(tensors: Sequence[Tensor]) -> keras.StatelessScope:
        pairs = [*zip(variables, tensors[: len(variables)], strict=True)]
        return keras.StatelessScope([*pairs, *constants], collect_losses=True)

    def infer(tensors: Sequence[Tensor], samples: Sequence[Tensor]) -> list[Tensor]:
        with scope(tensors):
            found: list[Tensor] = keras.tree.flatten(form.infer(_alone(samples)))
        return found

    def learn(
        tensors: Sequence[Tensor],
        samples: Sequence[Tensor],
        targets: Sequence[Tensor],
        rate: Tensor,
    ) -> tuple[Tensor, list[Tensor]]:
        own, moments = list(tensors[: len(variables)]), list(tensors[len(variables) :])
        with scope(tensors) as current:
            loss = form.loss(_alone(samples), _alone(targets) if targets else None)
            gradients = derivatives(loss, [own[i] for i in places])
            moved = [(k, i, g) for k, (i, g) in enumerate(zip(places, gradients, strict=True))]
            for k, i, gradient in moved:
                if gradient is None:
                    continue
                slot = moments[k] if moments else None
                weight, slot = descent.step(own[i], gradient, slot, rate)
                variables[i].assign(weight)
                if moments:
                    moments[k] = slot
            for _, i, gradient in moved:
                if gradient is not None and variables[i].constraint is not None:
                    variables[i].assign(variables[i].constraint(variables[i]))
            new = [current.get_current_value(variable) for variable in variables] + moments
        return _guarded(loss, list(tensors), new, places) if form.guarded else (loss, new)

    return LearnerFunctions(
        weights=_entries(variables, values) + _slot_entries([variables[i] for i in places], slots),
        values=[*values, *slots],
        samples=_numbered("x", form.samples, batch_size, "samples"),
        targets=_numbered("y", form.targets, batch_size, "labels"),
        infer=infer,
        learn=learn,
    )


def _beside_weights(model: Any) -> list[Any]:
    """Return seeds, and counters of metrics, which are not a part of a learner."""
    layers = [layer for layer in all_layers(model) if layer is not model]
    counters = [
        variable for layer in layers for each in layer.metrics for variable in each.variables
    ]
    found = {id(variable): variable for variable in [*model.variables, *counters]}
    return list(found.values())


def _guarded(
    loss: Tensor, old: list[Tensor], new: list[Tensor], places: list[int]
) -> tuple[Tensor, list[Tensor]]:
    """Return a step that changes nothing if it goes wrong, with a loss of NaN."""
    healthy = ops.isfinite(loss)
    for i in places:
        if new[i] is not old[i]:
            healthy = ops.logical_and(healthy, ops.all(ops.isfinite(new[i])))
    kept = [
        before if after is before else ops.where(healthy, after, before)
        for before, after in zip(old, new, strict=True)
    ]
    return ops.where(healthy, loss, float("nan")), kept


def _alone(tensors: Sequence[Tensor]) -> Any:
    return tensors[0] if len(tensors) == 1 else list(tensors)


def _entries(variables: Sequence[Any], values: Sequence[Any]) -> list[Entry]:
    return [
        Entry(f"v{i}", tuple(value.shape), value.dtype.name, variable.path)
        for i, (variable, value) in enumerate(zip(variables, values, strict=True))
    ]


def _slot_entries(variables: Sequence[Any], slots: Sequence[Any]) -> list[Entry]:
    return [
        Entry(f"m{i}", tuple(slot.shape), slot.dtype.name, f"momentum of {variable.path}")
        for i, (variable, slot) in enumerate(zip(variables, slots, strict=False))
    ]


def _numbered(
    name: str, specs: Sequence[keras.layers.InputSpec], batch_size: int | None, meaning: str
) -> list[Entry]:
    alone = len(specs) == 1
    return [
        Entry(
            name if alone else f"{name}{i}",
            (batch_size, *spec.shape[1:]),
            keras.backend.standardize_dtype(spec.dtype),
            meaning,
        )
        for i, spec in enumerate(specs)
    ]


def _refusal(model: Any, error: NotPortableError, format: str) -> str:
    """Return the operations that the format lacks, and the layers that contain them."""
    names = {layer.name for layer in all_layers(model)} - {model.name}
    found = []
    for operator, place in error.found:
        inside = [name for part in place.split("/") if (name := _layer_name(part, names))]
        where = f"layer {inside[-1]!r}" if inside else f"model {model.name!r}"
        found.append(f"{operator} in {where}")
    why = f" ({error.why})" if error.why else ""
    found = found or [f"model {model.name!r}"]
    allowed = f"made of operations that {format!r} has, or of which formulas are known"
    return check.refusal("model", allowed, _Shown(", ".join(found) + why))


def _layer_name(part: str, names: set[str]) -> str | None:
    """Return the layer for a part of an operation's name, in which calls are numbered."""
    return next((name for name in (re.sub(r"_\d+$", "", part), part) if name in names), None)


class _Shown(str):
    """Text that is shown as it is."""

    def __repr__(self) -> str:
        return str(self)
