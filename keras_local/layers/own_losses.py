"""What a layer adds to the loss of a training step stays there until the step has used it."""

from __future__ import annotations

import weakref
from typing import Any

# Keras has no public name for the pass that is under way.
from keras.src.backend import get_stateless_scope, in_stateless_scope


class OwnLosses:
    """Part of layers that learn by a loss of their own: keeps the losses of one pass, all of them.

    On JAX, Keras knows whose a loss is by its `id`, and each layer that is called forgets its
    losses of the pass before by taking what has such an `id` out of the pass that is under way.
    Python gives the `id` of an object that is gone to another one: then a layer takes the loss of
    another layer, which does not learn in this step. And a layer that is called twice in a pass
    takes its own first loss, while on TensorFlow and PyTorch both act.
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
