"""Conversion of a classifier to one whose blocks learn from losses of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

from keras_local import _validation as check
from keras_local.models.conversion.cloning import require_graph
from keras_local.models.conversion.dissolving import Dissolving
from keras_local.models.local.losses import LossLike
from keras_local.models.local.model import LocalLosses


def local_losses(
    model: keras.Model,
    loss: LossLike | Mapping[str, LossLike] = "pred_sim",
    blocks: Sequence[str] | None = None,
    keep_weights: bool = True,
) -> LocalLosses:
    """Return a model with the same predictions whose blocks learn from losses of their own.

    The network is cut into blocks:

        h_k = block_k( stop_gradient(h_{k-1}) ),    each with a loss L_k(h_k, y) of its own

    No error crosses a cut. A training step computes a block, its loss and its gradients before it
    begins the next block, and so holds the activations of one block at a time, however deep the
    network is. All gradients are given to the optimizer at once. Within a block errors follow the
    chain rule, or the rule of a feedback layer; a Hebbian layer learns by its own rule.

    The part above the last cut learns from the loss given to `compile`. Heads, such as the
    classifier of each block under `"pred"`, are trained, saved with the model, and left out by
    `predict`, `evaluate`, `export` and `to_plain`. The logs of training have the entries
    `<block>/loss`, and `<block>/accuracy` where a head predicts the class.

    By default a block ends behind each layer with a kernel and the normalisation and activation
    that follow it, if all that is above depends on this one tensor. Therefore a residual block with
    its shortcut is one block. Pooling, dropout and flattening begin the next block, so that the
    loss sees what is in front of them.

    `model` is not changed and shares no weight with the result. Nested models become parts of one
    graph.

    Args:
        model: A built Sequential or functional classifier with one output. With losses of your own,
            it need not be a classifier.
        loss: `"pred"`, `"sim"`, `"pred_sim"`; or an object: `local.Prediction`,
            `local.Similarity`, `local.Mixed`, or your own (see `local.LocalLoss`); or a dict from
            the name of each block to one of these.
        blocks: None, or the names of the last layers of the blocks. An empty list means that there
            is no cut: the model learns as any other.
        keep_weights: Whether the result starts with the weights of `model`, or with new ones.

    Returns:
        A model of the same name, not compiled.

    Raises:
        ValueError: For a model of another kind or without a place to cut; for a name behind which
            the model cannot be cut, with the nearest at which it can; for a wrong loss.

    >>> import numpy as np, keras, keras_local as kl
    >>> hidden = [keras.layers.Dense(16, "relu", name=name) for name in ("first", "second")]
    >>> model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(3, "softmax")])
    >>> model = kl.models.local_losses(model, "pred")
    >>> model.blocks
    ['first', 'second']
    >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> logs = model.fit(np.eye(4)[:3], np.arange(3), verbose=0).history
    >>> round(logs["first/loss"][0], 4)  # The logarithm of 3: the head starts at zero.
    1.0986
    >>> plain = kl.models.to_plain(model)

    Source: Nokland & Eidnes 2019, "Training neural networks with local error signals"; Belilovsky,
    Eickenberg & Oyallon 2019, "Decoupled greedy learning of CNNs".
    """
    check.require(isinstance(model, keras.Model), "model", "a keras.Model", type(model).__name__)
    require_graph(model)
    keep_weights = check.flag("keep_weights", keep_weights)
    network = Dissolving(keep_weights).model(model)
    return LocalLosses(network, loss, blocks, name=model.name)
