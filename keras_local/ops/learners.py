"""Files that infer and continue to learn, made of pure functions of weights and batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from keras_local.ops import abilities
from keras_local.ops.backend import Tensor

FORMATS = ("tf_saved_model", "litert", "onnx")


@dataclass(frozen=True)
class Entry:
    """One input, output or weight of a file.

    Attributes:
        name: Name in the file.
        shape: Shape, with None for a free size.
        dtype: Dtype.
        meaning: Its meaning, in words.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    meaning: str


@dataclass(frozen=True)
class LearnerFunctions:
    """The functions of a learner, two functions of the weights, and its first weights.

    Attributes:
        weights: The weights, some of which may be constant.
        values: Their first values, as arrays.
        samples: Inputs of a batch.
        targets: Labels of a batch; empty if learning needs no labels.
        infer: Function of weights and samples to a list of outputs.
        learn: Function of weights, samples, targets and the learning rate to the loss and the new
            weights; a weight that is returned unchanged is a constant of the file.
    """

    weights: Sequence[Entry]
    values: Sequence[Any]
    samples: Sequence[Entry]
    targets: Sequence[Entry]
    infer: Callable[[Sequence[Tensor], Sequence[Tensor]], list[Tensor]]
    learn: Callable[
        [Sequence[Tensor], Sequence[Tensor], Sequence[Tensor], Tensor],
        tuple[Tensor, list[Tensor]],
    ]


@dataclass(frozen=True)
class Written:
    """The content of a file that learns.

    Attributes:
        learn_inputs: Inputs of `learn`: samples, labels, the learning rate, random numbers.
        weights: The weights that learn, as `weights` returns and `restore` takes them.
        operators: Names of the operators in the file, in alphabetical order; empty for a
            SavedModel, which TensorFlow runs.
    """

    learn_inputs: tuple[Entry, ...]
    weights: tuple[Entry, ...]
    operators: tuple[str, ...]


class NotPortableError(Exception):
    """An error for operations that no runtime on a device has.

    Attributes:
        found: Pairs of the type of an operation and its name in the graph, which holds the names of
            the layers around it.
    """

    def __init__(self, found: Sequence[tuple[str, str]], why: str = "") -> None:
        super().__init__(f"{list(found)}{': ' if why else ''}{why}")
        self.found, self.why = tuple(found), why


def can_write() -> bool:
    """Return whether the active backend can write learners."""
    able: bool = abilities.WRITES_LEARNERS
    return able


def write_learner(functions: LearnerFunctions, path: str, file_format: str) -> Written:
    """Write a file that infers and learns.

    Args:
        functions: What it does.
        path: File or folder to write.
        file_format: One of `FORMATS`.

    Raises:
        NotPortableError: If an operation has no form that the runtimes have built in.
    """
    tensorflow = import_module("keras_local.ops._tensorflow_learner")
    written: Written = tensorflow.write_learner(functions, path, file_format)
    return written


def derivatives(loss: Tensor, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the gradients of a loss in a graph that is being traced; None without dependence."""
    tensorflow = import_module("keras_local.ops._tensorflow_learner")
    found: list[Tensor | None] = tensorflow.derivatives(loss, tensors)
    return found
