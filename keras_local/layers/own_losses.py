"""Losses that layers add to a training step, and that must stay there until it has used them."""

from __future__ import annotations

import weakref
from typing import Any

# Keras has no public name for the pass that is under way.
from keras.src.backend import get_stateless_scope, in_stateless_scope


class OwnLosses:
    """Base of layers that learn by losses of their own: keeps these losses apart in each pass.

    On JAX, Keras finds the losses of a layer by their `id`. When it calls a layer, it removes the
    losses with the ids of the former pass. By then Python may have given such an id to the new loss
    of another layer, which would be removed, so that the other layer would not learn in this step.
    And the second call of a layer in one pass would remove the loss of its first call, while on
    TensorFlow and PyTorch both calls count.

    Here the first call in a pass forgets the ids of the former pass and removes nothing. Later
    calls in the pass keep what is there.
    """

    _pass: weakref.ref[Any] | None = None
    _loss_ids: set[int]

    def _clear_losses(self) -> None:
        if in_stateless_scope():
            scope = get_stateless_scope()
            if self._pass is not None and self._pass() is scope:
                return
            self._pass = weakref.ref(scope)
            self._loss_ids.clear()
        super()._clear_losses()  # type: ignore[misc]
