"""A network whose blocks learn from losses of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import ops

from keras_local import _labels
from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._streams import is_stream
from keras_local._types import DType
from keras_local.models.local.block_logs import BlockLogs
from keras_local.models.local.cuts import Cuts
from keras_local.models.local.heads import working_dtype
from keras_local.models.local.losses import LocalLoss, block_loss, head_of
from keras_local.ops import (
    Updates,
    added_losses,
    assured,
    in_blocks,
    in_state,
    replica_count,
)
from keras_local.ops.backend import Tensor
from keras_local.ops.blocks import Part


@dataclass(frozen=True)
class Block:
    """A part of the network with a loss of its own.

    Attributes:
        name: Name of its last layer.
        graph: The part; it shares its layers with the network.
        loss: Its loss.
        head: What the loss trains with it, or None.
    """

    name: str
    graph: keras.Model
    loss: LocalLoss
    head: Any

    @property
    def variables(self) -> list[Any]:
        """The weights that learn from the loss; none if the block is frozen."""
        own = list(self.graph.trainable_variables)
        return own + (list(self.head.trainable_variables) if own and self.head is not None else [])


@serializable
class LocalLosses(keras.Model):
    """Model whose blocks learn from losses of their own, one after the other; see `local_losses`.

    A call is a call of the network alone: `predict`, `evaluate`, `export` and `to_plain` touch no
    head. Heads are saved with the model, so that training can go on.

    Args:
        network: A functional model with one output.
        loss: As in `local_losses`.
        blocks: Names of the last layers of the blocks that have a local loss.
        name: Name of the model.
        trainable: Whether the model learns.
        dtype: Precision, as in every Keras layer; that of the layers is their own.
    """

    def __init__(
        self,
        network: keras.Model,
        loss: Any = "pred_sim",
        blocks: Sequence[str] | None = None,
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: DType = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        check.instance("network", network, keras.Model)
        cuts = Cuts(network)
        places = cuts.automatic() if blocks is None else cuts.named(blocks)
        names = [cuts.name(place) for place in places]
        losses = _by_name(loss, names)
        self.network = network
        self._classes = _outputs(network, list(losses.values()))
        *graphs, top = cuts.chain(places)
        made = [
            _block(name, graph, losses[name], self._classes)
            for name, graph in zip(names, graphs, strict=True)
        ]
        self.heads = [block.head for block in made if block.head is not None]
        # In a function, so that Keras does not save the parts beside the network.
        self._parts = partial(_Parts, made, top)
        self._shown = True
        self.block_logs = BlockLogs(names, [block.name for block in made if block.loss.predicts])
        if not check.flag("trainable", trainable):
            # True would reach the layers of the network that are frozen.
            self.trainable = False
        self.built = True

    @property
    def blocks(self) -> list[str]:
        """Names of the last layers of the blocks that have a local loss, the lowest first."""
        return [block.name for block in self._parts().hidden]

    def build(self, input_shape: Any) -> None:
        """Do nothing: the model is built with its network."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Tensor:
        """Return the outputs of the network."""
        return self.network(inputs, training=training, mask=mask)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the network's outputs."""
        return self.network.compute_output_shape(input_shape)

    def compile(self, optimizer: Any = "rmsprop", *arguments: Any, **keywords: Any) -> None:
        """Configure training; arguments as in `keras.Model.compile`.

        The loss is that of the last block.

        Raises:
            ValueError: For gradient accumulation with a loss of blocks that compares samples.
        """
        optimizer = keras.optimizers.get(optimizer)
        additive = all(block.loss.additive for block in self._parts().hidden)
        steps = _accumulated(optimizer)
        allowed = (
            "one without `gradient_accumulation_steps` for losses that compare the samples of a "
            "batch, such as `Similarity`: the gradient of two batches is not that of one"
        )
        check.require(additive or not steps, "optimizer", allowed, optimizer)
        super().compile(optimizer, *arguments, **keywords)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile with the arguments that were saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, *arguments: Any, **keywords: Any) -> Any:
        """Train the network and the heads; arguments as in `keras.Model.fit`.

        Raises:
            ValueError: For labels that are not classes, if a loss of blocks learns classes.
        """
        self._check_labels(x, y)
        return super().fit(x, y, *arguments, **keywords)

    def train_on_batch(self, x: Any, y: Any = None, *arguments: Any, **keywords: Any) -> Any:
        """Train on one batch; arguments as in `keras.Model.train_on_batch`.

        Raises:
            ValueError: As for `fit`.
        """
        self._check_labels(x, y)
        return super().train_on_batch(x, y, *arguments, **keywords)

    def evaluate(self, *arguments: Any, **keywords: Any) -> Any:
        """Return the loss and the metrics of the outputs, as `keras.Model.evaluate` does."""
        with self._of_outputs():
            return super().evaluate(*arguments, **keywords)

    def test_step(self, *arguments: Any) -> Any:
        """Return the logs of a batch, without those of blocks."""
        with self._of_outputs():
            return super().test_step(*arguments)

    def train_step(self, *arguments: Any) -> Any:
        """Make a step of all blocks and heads, and return the logs."""
        return in_state(self, self._block_by_block, arguments)

    def get_metrics_result(self) -> dict[str, Any]:
        """Return the metrics by name; those of blocks come from training."""
        results: dict[str, Any] = super().get_metrics_result()
        if self._shown:
            return results
        return {key: value for key, value in results.items() if key not in self.block_logs.keys}

    def export(self, filepath: Any, *arguments: Any, **keywords: Any) -> None:
        """Write the network for serving, without heads, like `keras.Model.export`."""
        self.network.export(filepath, *arguments, **keywords)

    def plain_model(self) -> keras.Model:
        """Return the network."""
        return self.network

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        given = {block.name: block.loss.given for block in self._parts().hidden}
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "network": serialize(self.network),
            "loss": {name: serialize(loss) for name, loss in given.items()},
            "blocks": self.blocks,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> LocalLosses:
        """Restore the model from its config."""
        restore = partial(keras.saving.deserialize_keras_object, custom_objects=custom_objects)
        loss = {name: restore(given) for name, given in config["loss"].items()}
        return cls(**{**config, "network": restore(config["network"]), "loss": loss})

    def _block_by_block(self, data: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        parts, targets = self._parts(), self._targets(y)

        def hidden(block: Block, inputs: Any) -> tuple[Tensor, Tensor | None, Any]:
            outputs = block.graph(inputs, training=True)
            value, accuracy = self._judged(block, outputs, y, targets, sample_weight)
            seen = value, accuracy, added_losses()
            if not block.variables:
                return outputs, None, seen
            others = [*block.graph.losses, *(block.head.losses if block.head is not None else [])]
            total = value + sum(ops.cast(ops.sum(each), value.dtype) for each in others)
            return outputs, self.optimizer.scale_loss(total / replica_count()), seen

        def top(inputs: Any) -> tuple[Tensor, Tensor, Any]:
            outputs = parts.top(inputs, training=True)
            loss = self.compute_loss(x, y, outputs, sample_weight, training=True)
            return outputs, self.optimizer.scale_loss(loss), loss

        steps = [Part(partial(hidden, block), block.variables) for block in parts.hidden]
        steps.append(Part(top, parts.top.trainable_variables))
        known = {id(variable) for step in steps for variable in step.variables}
        learning = [each for each in self.trainable_variables if id(each) in known]
        updates = Updates(self.optimizer, learning)
        outputs, _, (*seen, loss) = in_blocks(steps, x, updates.add)
        updates.finish()
        for value in (ops.sum(each) for _, _, added in seen for each in added):
            loss = loss + ops.cast(value, loss.dtype)
        self._loss_tracker.update_state(
            ops.stop_gradient(loss) * replica_count(), sample_weight=ops.shape(outputs)[0]
        )
        found = [(value, accuracy) for value, accuracy, _ in seen]
        self._log(found, outputs)
        return self.compute_metrics(x, y, outputs, sample_weight)

    def _judged(
        self, block: Block, outputs: Tensor, y: Any, targets: Any, sample_weight: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return the loss of a block, and the accuracy of its predictions, or None."""
        learned, valid = targets if block.loss.learns_classes else (y, None)
        value, scores = block.loss.with_scores(block.head, outputs, learned, sample_weight)
        if not block.variables:
            # The head of a frozen block has nothing to teach.
            value = ops.stop_gradient(value)
        if valid is not None:
            # A compiled step cannot raise an error: its loss is NaN, and its gradient zero.
            value = ops.where(valid, value, float("nan"))
        if scores is None:
            return value, None
        right = ops.equal(ops.argmax(scores, axis=-1), ops.argmax(learned, axis=-1))
        return value, ops.mean(ops.cast(right, "float32"))

    def _log(self, found: list[tuple[Tensor, Tensor | None]], outputs: Tensor) -> None:
        if not found:
            return
        values = [value for value, _ in found]
        values += [accuracy for _, accuracy in found if accuracy is not None]
        values = [ops.stop_gradient(value) for value in values]
        self.block_logs.update_state(values, ops.shape(outputs)[0])

    def _targets(self, y: Any) -> tuple[Tensor, Tensor] | None:
        """Return labels as rows of classes, and whether they are classes.

        None if no loss of blocks learns classes.
        """
        if not any(block.loss.learns_classes for block in self._parts().hidden):
            return None
        rows, valid = _labels.class_targets("y", y, self._classes, working_dtype(), smoothed=True)
        message = f"`y` must be {self._allowed}. Received: y with another label"
        valid = ops.all(valid)
        return assured(rows, valid, message), valid

    @property
    def _allowed(self) -> str:
        own = "any other labels need losses of blocks of your own"
        return f"integer labels, or one-hot or smoothed rows, of {self._classes} classes ({own})"

    def _check_labels(self, x: Any, y: Any) -> None:
        learns = any(block.loss.learns_classes for block in self._parts().hidden)
        if not learns or y is None or is_stream(x):
            return
        try:
            _labels.check_labels("y", y, self._classes, smoothed=True)
        except ValueError as error:
            raise ValueError(f"{error} Losses of blocks need {self._allowed}.") from error

    @contextmanager
    def _of_outputs(self) -> Iterator[None]:
        """Leave the logs of blocks out."""
        before, self._shown = self._shown, False
        try:
            yield
        finally:
            self._shown = before


class _Parts:
    """The hidden blocks, and the part above them, which learns from the compiled loss."""

    def __init__(self, hidden: list[Block], top: keras.Model) -> None:
        self.hidden = hidden
        self.top = top


def _block(name: str, graph: keras.Model, loss: LocalLoss, classes: int) -> Block:
    """Make the head of a block, and build it."""
    outputs = graph.outputs[0]
    head = head_of(loss, outputs, classes)
    if head is not None:
        allowed = "one whose `head` returns a Keras layer or None"
        check.instance("loss", head, keras.layers.Layer, allowed)
        if not head.built:
            head.build(outputs.shape)
    return Block(name, graph, loss, head)


def _by_name(loss: Any, names: Sequence[str]) -> dict[str, LocalLoss]:
    """Return the loss of each block."""
    if not isinstance(loss, Mapping):
        one = block_loss("loss", loss)
        return dict.fromkeys(names, one)
    allowed = f"a loss, or a dict with a loss for each of the blocks {list(names)}"
    check.require(set(loss) == set(names), "loss", allowed, list(loss))
    return {name: block_loss("loss", loss[name]) for name in names}


def _outputs(network: keras.Model, losses: list[LocalLoss]) -> int:
    """Return the number of classes, or refuse a model without classes."""
    shapes = [tuple(output.shape) for output in network.outputs]
    check.require(len(shapes) == 1, "model", "a model with one output", shapes)
    classes = shapes[0][-1] if len(shapes[0]) > 1 else 1
    if any(loss.learns_classes for loss in losses):
        allowed = "a classifier with outputs (batch, classes) and at least 2 classes"
        flat = len(shapes[0]) == 2 and isinstance(classes, int) and classes >= 2
        check.require(flat, "model", f"{allowed}, or losses of your own be given", shapes[0])
    return int(classes or 1)


def _accumulated(optimizer: Any) -> Any:
    """Return over how many steps an optimizer accumulates gradients, or None."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return getattr(optimizer, "gradient_accumulation_steps", None) or (
        None if inner is None else _accumulated(inner)
    )
