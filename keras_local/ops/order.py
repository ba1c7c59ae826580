"""The order in which a compiled graph computes."""

from __future__ import annotations

from collections.abc import Sequence

from keras_local.ops.backend import Tensor, backend


def after(tensor: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Return `tensor`, which can be used only when all others have been computed.

    TensorFlow's runtime computes an operation as soon as its inputs exist, and holds what other
    operations still wait for; XLA on JAX computes a few layers ahead. If the inputs of a layer wait
    for what the layer below has learned, only one layer's activity is held at a time. PyTorch
    computes in the order of the code: there the tensor is returned unchanged.

    Args:
        tensor: The tensor that has to wait.
        others: The tensors to wait for.
    """
    return backend.after(tensor, list(others))
