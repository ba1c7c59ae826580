"""Losses of a block: how well its outputs predict the labels, or resemble them."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import Strategy, serializable
from keras_local.models.local import heads
from keras_local.models.local.similarity import features, similarity, sizes_and_channels
from keras_local.ops.backend import Tensor

LossAlias = Literal["pred", "sim", "pred_sim"]


@runtime_checkable
class BlockLoss(Protocol):
    """What an object needs in order to be a loss of blocks."""

    def head(self, block_output: Any) -> Any:
        """Return a layer that is trained with the block, or None."""

    def __call__(self, head: Any, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch, or of each sample."""


class LocalLoss(Strategy, ABC):
    """Interface of a loss of blocks.

    A loss of your own derives from it, or is any object with these two methods:

    * `head(block_output)` returns a Keras layer that is trained together with the block and never
      shipped, or None. `block_output` is symbolic: a shape and a dtype. It may also take the number
      of outputs of the model as a second argument, `classes`.
    * `__call__(head, outputs, targets)` returns a scalar, or the loss of each sample. `outputs` are
      those of the block, in its precision, and `targets` the labels as they were given to `fit`. It
      may also take `sample_weight`; if it does not and returns a loss for each sample, samples are
      weighed for it.

    So that a model can be saved, the class is registered with Keras and has a `get_config`.

    >>> import keras, keras_local as kl
    >>> @keras.saving.register_keras_serializable("docs")
    ... class Small(kl.models.local.LocalLoss):
    ...     def __call__(self, head, outputs, targets, sample_weight=None):
    ...         return keras.ops.mean(keras.ops.square(outputs))
    >>> hidden = [keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
    >>> model = keras.Sequential([keras.Input((4,)), *hidden])
    >>> kl.models.local_losses(model, Small()).heads
    []
    """

    learns_classes: ClassVar[bool] = False
    """Whether `targets` are rows of classes, one-hot or smoothed, whatever the labels are."""

    @property
    def additive(self) -> bool:
        """Whether the loss of a batch is the mean of what it is for each sample alone."""
        return True

    @property
    def predicts(self) -> bool:
        """Whether the head gives scores of the classes, of which the accuracy is reported."""
        return False

    def head(self, block_output: Any, classes: int) -> Any:
        """Return a layer that is trained with the block, or None.

        Args:
            block_output: Symbolic outputs of the block.
            classes: Number of outputs of the model.
        """
        return None

    @abstractmethod
    def __call__(
        self, head: Any, outputs: Tensor, targets: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            head: What `head` returned.
            outputs: Outputs of the block.
            targets: The labels.
            sample_weight: A weight for each sample, or None.
        """

    def with_scores(
        self, head: Any, outputs: Tensor, targets: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the loss, and the scores of the classes if the head predicts any."""
        return value_of(self, head, outputs, targets, sample_weight), None

    @property
    def given(self) -> Any:
        """The object that a user gave, for the config of a model."""
        return self


LossLike = LossAlias | LocalLoss | BlockLoss
"""An alias, a loss of this package, or an object of your own."""


@serializable
class Prediction(LocalLoss):
    """Cross-entropy of a classifier on the outputs of a block, which is trained with it.

        L = mean over the batch of cross-entropy( W flatten(pool(h)) + b, y )

    `W` starts at zero, so that `L` starts at the logarithm of the number of classes and the first
    step leaves the block as it is. Maps are averaged over windows that double in height and width
    in turn, until at most `limit` numbers are left.

    With `bio=True` no error passes through a trained weight: the classifier predicts 128 bits of a
    random code of the class, `P y > 0`, with the mean of their sigmoid cross-entropies, and sends
    errors through fixed random weights.

    Local: a block sees its own outputs, the labels, and the weights of its classifier.

    Args:
        limit: Largest number of inputs of the linear classifier; 4096, 2048 or 1024 in the source.
        loss: A `keras.losses.Loss` of one-hot rows and logits; None means cross-entropy.
        head: None for the linear classifier; a larger one of Belilovsky et al.: `"mlp-sr"`
            (averages to a quarter of the size, three convolutions of 1 x 1, averages to 2 x 2,
            three hidden layers), `"mlp"` (the same without convolutions), or `"cnn"` (two
            convolutions of 3 x 3, averages to 2 x 2). Batch normalisation and ReLU follow each
            hidden layer.
        bio: Whether errors avoid trained weights.

    Raises:
        ValueError: For a wrong argument, or `bio=True` with a `loss` or `head`.

    >>> from keras_local.models.local import Prediction
    >>> Prediction(limit=1024)
    Prediction(limit=1024)

    Source: Nokland & Eidnes 2019, "Training neural networks with local error signals"; the larger
    heads: Belilovsky, Eickenberg & Oyallon 2019, "Decoupled greedy learning of CNNs".
    """

    learns_classes = True

    def __init__(
        self,
        limit: int = 4096,
        loss: keras.losses.Loss | None = None,
        head: heads.HeadName | None = None,
        bio: bool = False,
    ) -> None:
        self.limit = check.positive_integer("limit", limit)
        if loss is not None:
            check.instance("loss", loss, keras.losses.Loss, "None, or a `keras.losses.Loss` object")
        check.one_of("head", head, (None, *heads.HEADS))
        self.bio = check.flag("bio", bio)
        allowed = "None with `bio=True`, which has a loss and a head of its own"
        check.require(not bio or loss is None, "loss", allowed, loss)
        check.require(not bio or head is None, "head", allowed, head)
        self.loss = loss
        self.kind = head

    @property
    def predicts(self) -> bool:
        """Whether the head predicts classes, and not bits."""
        return not self.bio

    def head(self, block_output: Any, classes: int) -> keras.layers.Layer:
        """Return the classifier."""
        shape = block_output.shape
        if self.bio:
            return heads.BitsHead(shape, self.limit, classes, readout=True)
        if self.kind is not None:
            return heads.of_greedy_learning(self.kind, shape, classes)
        return heads.linear(shape, self.limit, classes)

    def __call__(
        self, head: Any, outputs: Tensor, targets: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss of a batch."""
        return self.with_scores(head, outputs, targets, sample_weight)[0]

    def with_scores(
        self, head: Any, outputs: Tensor, targets: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the loss and the logits; of bits there are no scores."""
        logits = head(outputs, training=True)
        if self.bio:
            bits = ops.cast(head.code(targets) > 0, logits.dtype)
            losses = ops.mean(ops.binary_crossentropy(bits, logits, from_logits=True), axis=-1)
            return mean_of(losses, sample_weight), None
        if self.loss is None:
            losses = ops.categorical_crossentropy(targets, logits, from_logits=True)
        else:
            losses = self.loss.call(targets, logits)
        return mean_of(losses, sample_weight), logits

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        loss = None if self.loss is None else keras.saving.serialize_keras_object(self.loss)
        return {"limit": self.limit, "loss": loss, "head": self.kind, "bio": self.bio}


@serializable
class Similarity(LocalLoss):
    """Difference between the similarities of a block's outputs and those of the labels.

        L = mean over all pairs of samples of ( S(g(h)) - S(one-hot(y)) )^2

    `S` is the correlation of two samples over features. For `C` classes that of two labels is 1 or
    `-1 / (C - 1)`. `g` is a square matrix, or for maps a convolution of 3 x 3, trained with the
    block; of maps with more than 3 channels, the features are the standard deviations of the
    channels over positions.

    The loss of a batch is not a mean over its samples: two replicas of 64 samples each are not one
    of 128, and gradients cannot be accumulated. `sample_weight` weighs a pair by the product of the
    weights of both.

    With `bio=True` there is no `g` to pass errors through: the features are the standard deviations
    of averaged maps, and the labels a random code `P y` of 128 numbers.

    Local: a block sees its own outputs and the labels of the batch.

    Args:
        projection: Whether there is a `g`; None means yes unless `bio`.
        bio: Whether errors avoid trained weights.
        limit: With `bio`, how many numbers are left when maps have been averaged.

    Raises:
        ValueError: For a wrong argument, or `bio=True` with `projection=True`.

    >>> from keras_local.models.local import Similarity
    >>> Similarity().additive
    False

    Source: Nokland & Eidnes 2019, "Training neural networks with local error signals". The mean
    over pairs is that of the authors' code; the paper writes the sum.
    """

    learns_classes = True

    def __init__(
        self, projection: bool | None = None, bio: bool = False, limit: int = 4096
    ) -> None:
        self.bio = check.flag("bio", bio)
        if projection is not None:
            check.flag("projection", projection)
            allowed = "None or False with `bio=True`, in which no error passes a trained weight"
            check.require(not (bio and projection), "projection", allowed, projection)
        self.projection = projection
        self.limit = check.positive_integer("limit", limit)

    @property
    def additive(self) -> bool:
        """False: the loss compares the samples of a batch."""
        return False

    def head(self, block_output: Any, classes: int) -> keras.layers.Layer | None:
        """Return the projection `g`, or the codes of the classes."""
        shape = block_output.shape
        sizes, _ = sizes_and_channels(shape)
        known = all(size is not None for size in shape[1:]) or bool(sizes)
        allowed = "a model whose blocks have a known number of features"
        check.require(known, "model", allowed, tuple(shape))
        if self.bio:
            return heads.BitsHead(shape, self.limit, classes, readout=False, flat=False)
        return None if self.projection is False else heads.projection(shape)

    def __call__(
        self, head: Any, outputs: Tensor, targets: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss of a batch."""
        dtype = heads.working_dtype()
        outputs = ops.cast(outputs, dtype) if head is None else head(outputs, training=True)
        targets = ops.cast(targets, dtype)
        wanted = similarity(head.code(targets) if self.bio else targets)
        squares = ops.square(similarity(features(outputs)) - wanted)
        if sample_weight is not None:
            weights = ops.cast(sample_weight, dtype)
            squares = squares * weights[:, None] * weights[None, :]
        return ops.mean(squares)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"projection": self.projection, "bio": self.bio, "limit": self.limit}


@serializable
class Mixed(LocalLoss):
    """Sum of losses with factors, each with a head of its own.

    Args:
        parts: Pairs of a factor of at least 0 and a loss. `"pred_sim"`, the mix of the source, is
            `[(0.01, "pred"), (0.99, "sim")]`. Its biological form is
            `[(0.99, Prediction(bio=True)), (0.01, Similarity(bio=True))]`.

    Raises:
        ValueError: For a wrong argument.

    >>> from keras_local.models.local import Mixed, Prediction
    >>> Mixed([(0.5, Prediction(limit=1024)), (0.5, "sim")]).additive
    False

    Source: Nokland & Eidnes 2019, "Training neural networks with local error signals".
    """

    learns_classes = True

    def __init__(self, parts: Sequence[tuple[float, LossLike]]) -> None:
        allowed = "a list of at least one pair (factor, loss)"
        pairs = check.is_sequence(parts) and len(parts) > 0
        pairs = pairs and all(check.is_sequence(part) and len(part) == 2 for part in parts)
        check.require(pairs, "parts", allowed, parts)
        self.factors = [check.real("parts", factor, minimum=0.0) for factor, _ in parts]
        self.losses: list[LocalLoss] = [block_loss("parts", _restored(loss)) for _, loss in parts]
        classes = all(loss.learns_classes for loss in self.losses)
        check.require(classes, "parts", "losses with `learns_classes = True`", parts)

    @property
    def additive(self) -> bool:
        """Whether all parts are additive."""
        return all(loss.additive for loss in self.losses)

    @property
    def predicts(self) -> bool:
        """Whether a part predicts classes."""
        return any(loss.predicts for loss in self.losses)

    def head(self, block_output: Any, classes: int) -> keras.layers.Layer:
        """Return the heads of all parts, as one layer."""
        return heads.SeveralHeads([head_of(loss, block_output, classes) for loss in self.losses])

    def __call__(
        self, head: Any, outputs: Tensor, targets: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Return the sum."""
        return self.with_scores(head, outputs, targets, sample_weight)[0]

    def with_scores(
        self, head: Any, outputs: Tensor, targets: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the sum, and the scores of the first part that has any."""
        total, scores = 0.0, None
        for factor, loss, part in zip(self.factors, self.losses, head.parts, strict=True):
            value, found = loss.with_scores(part, outputs, targets, sample_weight)
            total = total + factor * value
            scores = found if scores is None else scores
        return total, scores

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        pairs = zip(self.factors, self.losses, strict=True)
        return {
            "parts": [
                [factor, keras.saving.serialize_keras_object(loss.given)] for factor, loss in pairs
            ]
        }


class OwnLoss(LocalLoss):
    """A user's object in the form of the interface.

    Args:
        loss: An object with `head` and `__call__`.
    """

    def __init__(self, loss: Any) -> None:
        self.loss = loss

    @property
    def given(self) -> Any:
        """The user's object."""
        return self.loss

    def head(self, block_output: Any, classes: int) -> Any:
        """Return what the object returns."""
        return head_of(self.loss, block_output, classes)

    def __call__(
        self, head: Any, outputs: Tensor, targets: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Return what the object returns, as the mean of a batch."""
        return value_of(self.loss, head, outputs, targets, sample_weight)


def head_of(loss: Any, block_output: Any, classes: int) -> Any:
    """Return the head of a loss, whose method may take the number of classes."""
    if _takes(loss.head, block_output, classes):
        return loss.head(block_output, classes)
    return loss.head(block_output)


def value_of(loss: Any, head: Any, outputs: Tensor, targets: Tensor, weights: Any) -> Tensor:
    """Return the mean loss of a batch; the loss may take weights of samples."""
    if _takes(loss, head, outputs, targets, weights):
        return mean_of(loss(head, outputs, targets, weights), None)
    value = loss(head, outputs, targets)
    allowed = "None for a loss of blocks that returns a scalar and does not take `sample_weight`"
    check.require(weights is None or len(value.shape) > 0, "sample_weight", allowed, "weights")
    return mean_of(value, weights)


ALIASES: Mapping[str, Any] = {
    "pred": Prediction,
    "sim": Similarity,
    "pred_sim": lambda: Mixed([(0.01, Prediction()), (0.99, Similarity())]),
}


def block_loss(argument: str, value: Any) -> LocalLoss:
    """Return the loss of blocks for an alias or an object."""
    names = ", ".join(map(repr, get_args(LossAlias)))
    allowed = f"one of {names}, or an object with `head(block_output)` and `__call__`"
    if isinstance(value, str):
        check.require(value in ALIASES, argument, allowed, value)
        loss: LocalLoss = ALIASES[value]()
        return loss
    if isinstance(value, LocalLoss):
        return value
    # A class has these methods as well, but without an object.
    check.require(not isinstance(value, type), argument, allowed, value)
    check.instance(argument, value, BlockLoss, allowed)
    return OwnLoss(value)


def mean_of(losses: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Return the mean over samples, weighed as Keras does: divided by their number."""
    if sample_weight is not None:
        losses = losses * ops.reshape(ops.cast(sample_weight, losses.dtype), (-1,))
    return ops.mean(losses)


def _restored(value: Any) -> Any:
    if isinstance(value, Mapping) and "class_name" in value:
        return keras.saving.deserialize_keras_object(dict(value))
    return value


def _takes(function: Any, *arguments: Any) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True
