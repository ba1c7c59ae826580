"""Registration and look-up, shared by every family of strategies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import keras

T = TypeVar("T")

PACKAGE = "keras_local"


class Strategy:
    """What Keras stores by its constructor's arguments: rules and the objects that they hold."""

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments; none by default."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Restore the object, and the objects among its arguments."""
        restore = keras.saving.deserialize_keras_object
        return cls(
            **{
                name: restore(value) if isinstance(value, dict) and "class_name" in value else value
                for name, value in config.items()
            }
        )


def serializable(cls: type[T]) -> type[T]:
    """Register a class with Keras under the name `keras_local>ClassName`."""
    register: Callable[[type[T]], type[T]] = keras.saving.register_keras_serializable(
        package=PACKAGE
    )
    return register(cls)


def resolve(
    identifier: Any, family: type[T], aliases: Mapping[str, Callable[[], T]], argument: str
) -> T:
    """Turn an alias, a config dict or an object into an object of `family`.

    An alias stands for the class with its default arguments: `"kolen_pollack"` is
    `KolenPollack()`. Anything with arguments is passed as an object.
    """
    if isinstance(identifier, family):
        return identifier
    if isinstance(identifier, str) and identifier in aliases:
        return aliases[identifier]()
    if isinstance(identifier, dict):
        restored = keras.saving.deserialize_keras_object(identifier)
        if isinstance(restored, family):
            return restored
    known = ", ".join(repr(alias) for alias in sorted(aliases))
    raise ValueError(
        f"`{argument}` must be a {family.__name__} or one of the aliases {known}. "
        f"Received: {argument}={identifier!r}"
    )
