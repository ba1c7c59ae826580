"""The default training of a Keras model as functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local.layers.learning_form import LearningForm, learning_form

Specs = tuple[keras.layers.InputSpec, ...]


def form_of(model: Any) -> LearningForm:
    """Return the `learning_form` of a model, or the training of a Keras model of layers.

    Raises:
        ValueError: For a model without `learning_form` that is not built or has its own step.
    """
    own = learning_form(model)
    if own is not None:
        return own
    allowed = (
        "a built Sequential or functional keras.Model, or a model with a method `learning_form`"
    )
    built = bool(model.built and getattr(model, "inputs", None))
    check.require(built, "model", allowed, model.name)
    same = type(model).train_step is keras.Model.train_step
    allowed = "a model that trains as keras.Model does, or has a method `learning_form`"
    check.require(same, "model", allowed, f"{type(model).__name__} with its own `train_step`")
    samples = specs_of(keras.tree.flatten(model.inputs))
    return LearningForm(
        loss=lambda x, y: loss_of(model, x, y),
        infer=lambda x: model(x, training=False),
        samples=samples,
        targets=targets_of(model, keras.tree.flatten(model.outputs)),
    )


def loss_of(model: Any, x: Any, y: Any) -> Any:
    """Return the loss of a model in training, including the losses of its layers."""
    return model.compute_loss(x, y, model(x, training=True), training=True)


def specs_of(tensors: Sequence[Any]) -> Specs:
    """Return the shapes of symbolic tensors, with a free batch axis."""
    return tuple(
        keras.layers.InputSpec(shape=(None, *tensor.shape[1:]), dtype=tensor.dtype)
        for tensor in tensors
    )


def targets_of(model: Any, outputs: Sequence[Any]) -> Specs:
    """Return which labels the compiled loss takes: rows like the outputs, or class numbers.

    It is None if the model is compiled without a loss.

    Raises:
        ValueError: If it takes neither.
    """
    if not model.compiled or model.loss is None:
        return ()
    shapes = [tuple(output.shape[1:]) for output in outputs]
    rows = tuple(keras.layers.InputSpec(shape=(None, *each), dtype="float32") for each in shapes)
    numbers = tuple(keras.layers.InputSpec(shape=(None, *s[:-1]), dtype="int32") for s in shapes)
    scores = [ops.zeros((2, *shape), "float32") for shape in shapes]
    for specs in (rows, numbers):
        labels = [ops.zeros((2, *spec.shape[1:]), spec.dtype) for spec in specs]
        alone = len(specs) == 1
        try:
            with keras.StatelessScope(collect_losses=True):
                model.compute_loss(
                    y=labels[0] if alone else labels,
                    y_pred=scores[0] if alone else scores,
                    training=False,
                )
        except ValueError as error:
            refused = error
        else:
            return specs
    allowed = "a loss of labels that are rows like the outputs, or numbers of classes"
    raise ValueError(check.refusal("model", allowed, model.name)) from refused
