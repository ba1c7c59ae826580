"""Feedback weights that rest: nothing is trained below their layer, so that no error uses them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import keras
from keras.src.backend.common import global_state

from keras_local.feedback import FeedbackRule
from keras_local.layers.graph_walks import without_trained_weights_below
from keras_local.layers.plain_form import with_error_path
from keras_local.ops import watched

_KEY = "feedback_rests"

_unused: WeakKeyDictionary[Any, set[int]] = WeakKeyDictionary()
"""For each call of a model that is going on, the layers below which nothing is trained."""


class Rest:
    """Whether the feedback weights of a layer rest or learn.

    Weights that rest keep their values and are no longer among the trainable weights, so that the
    optimizer neither changes them nor holds anything for them.

    Args:
        weights: The feedback weights of a layer. Only arrays that the optimizer trains can rest;
            a number costs nothing.
    """

    def __init__(self, weights: Iterable[keras.Variable]) -> None:
        self.weights = tuple(each for each in weights if each.trainable and len(each.shape))
        self.now = False
        # In a file of an earlier version they have always learned, and so has the optimizer's
        # state: training goes on as it was.
        self.never = False

    def notice(self, layer: Any, rule: FeedbackRule, inputs: Any, training: bool | None) -> None:
        """Let the weights rest or learn, as it suits the compiled model that is being called.

        The outermost model decides: what lies below a layer is known only from its whole graph.
        A layer that is called otherwise stays as it is. In training the weights learn as well if
        somebody takes a gradient at the model's inputs, as far as the backend tells.
        """
        if not self.weights or not _outermost_is_known():
            return
        # Not public: tests/layers/feedback/test_resting.py fails if Keras changes this.
        context = layer._get_call_context()
        model = getattr(context, "entry_layer", None)
        if getattr(model, "optimizer", None) is None:
            return
        if context not in _unused:
            _unused[context] = without_trained_weights_below(model)
        unused = id(layer) in _unused[context]
        if unused and training and watched(inputs):
            # On TensorFlow, tapes watch also what depends on frozen weights.
            unused = id(layer) not in without_trained_weights_below(model, frozen_too=True)
        self.settle(layer, rule, unused)

    def settle(self, layer: Any, rule: FeedbackRule, unused: bool) -> None:
        """Let the weights rest if no error uses them, unless the rule needs them."""
        needed = self.never or rule.always_trained or rule.kernel_reads_feedback
        self.set(unused and not needed, layer.trainable)

    def set(self, rests: bool, trainable: bool) -> None:
        """Let the weights rest, or learn if their layer is `trainable`."""
        if rests or self.now:
            for weight in self.weights:
                weight.trainable = trainable and not rests
        self.now = rests

    def written(self, config: dict[str, Any] | None) -> dict[str, Any] | None:
        """Add to the config of a built layer whether the weights rest."""
        if config is None or not self.weights or self.never:
            return config
        return {**config, _KEY: self.now}

    def read(self, config: dict[str, Any] | None, trainable: bool) -> None:
        """Take over what `written` has added."""
        if config and self.weights:
            self.never = _KEY not in config
            self.set(bool(config.get(_KEY)), trainable)


def _outermost_is_known() -> bool:
    """Return whether Keras says which model is called: not in the compiled functions of JAX."""
    attribute = global_state.get_global_attribute
    return attribute("stateless_scope") is None or attribute("symbolic_scope") is not None


def settle(model: keras.Model) -> None:
    """Let feedback weights rest or learn before the first call of a compiled model.

    Then an optimizer that is built from the trainable weights has the same variables as one that
    is built in the first training step.
    """
    unused = without_trained_weights_below(model)
    for layer in with_error_path(model):
        own = getattr(layer, "let_feedback_rest", None)
        if own is not None and layer.built:
            own(id(layer) in unused)
