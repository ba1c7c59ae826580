"""The graph of a block, as it is run in training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from keras_local.ops.normalised import with_lean_gradient


class BlockGraph(keras.Model):
    """Functional model that is called in training alone, and holds little for its gradients.

    Batch normalisation is most of what a block holds: automatic differentiation keeps several
    tensors of the size of its inputs.
    """

    def _run_through_graph(
        self,
        inputs: Any,
        operation_fn: Callable[[Any], Callable[..., Any]] = lambda operation: operation,
        call_fn: Callable[..., Any] | None = None,
    ) -> Any:
        def lean(operation: Any) -> Callable[..., Any]:
            if call_fn is None and _is_lean(operation):
                return partial(_normalised, operation, operation_fn(operation))
            return operation_fn(operation)

        return super()._run_through_graph(inputs, lean, call_fn)


def _is_lean(operation: Any) -> bool:
    return (
        type(operation) is keras.layers.BatchNormalization
        and operation.trainable
        and not (operation.renorm or operation.synchronized)
    )


def _normalised(layer: Any, stock: Callable[..., Any], inputs: Any, **arguments: Any) -> Any:
    given = any(value is not None for value in arguments.values())
    # Positions that a mask leaves out count neither for the mean nor for the deviation.
    masked = getattr(inputs, "_keras_mask", None) is not None
    if isinstance(inputs, keras.KerasTensor) or given or masked:
        return stock(inputs, **arguments)
    return with_lean_gradient(layer, inputs)
