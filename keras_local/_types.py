"""Types of arguments that the public constructors share.

Keras has no type information. Its classes are `Any` to a type checker, and a union with one of them
would accept everything. Therefore these types describe the abilities of Keras' objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypedDict

Config = Mapping[str, Any]
"""The result of `get_config` or `serialize` of Keras for an object."""

Activation = str | Callable[..., Any] | Config | None
"""The name of a Keras activation, a function or layer of one tensor, or None for none."""

InitializerLike = str | Callable[..., Any] | Config
"""The name of a Keras initializer, an initializer, or a function of shape and dtype."""

RegularizerLike = str | Callable[..., Any] | Config | None
"""The name of a Keras regularizer, a regularizer, or a function of a tensor; None for none."""

ConstraintLike = str | Callable[..., Any] | Config | None
"""The name of a Keras constraint, a constraint, or a function of a tensor; None for none."""


class DTypePolicyLike(Protocol):
    """The attributes of a `keras.DTypePolicy`, which any other policy must have."""

    @property
    def compute_dtype(self) -> Any:
        """The precision in which a layer computes."""

    @property
    def variable_dtype(self) -> Any:
        """The precision in which a layer keeps its weights."""


DType = str | DTypePolicyLike | Config | None
"""The name of a precision or of a policy, or a policy; None for Keras' default."""

Sizes = int | tuple[int, ...] | list[int]
"""One integer for all dimensions, or one for each."""

DataFormat = Literal["channels_last", "channels_first"]
"""The position of the channels axis."""

Padding = Literal["valid", "same"]
"""How a window treats the borders."""

CausalPadding = Literal["valid", "same", "causal"]
"""How a window over time treats the borders."""


Targets = Literal["classes", "labels", "values"]
"""What a model learns to give out: one of several classes, labels that each may hold or not, or
real values."""


class LayerArguments(TypedDict, total=False):
    """Arguments of every Keras layer that are rarely used, for `**kwargs: Unpack[...]`."""

    autocast: bool
    input_shape: tuple[int | None, ...]
    input_dim: int
