"""Registration and look-up of objects, and objects that are compared by their arguments."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Self, TypeVar

import keras
import numpy as np

from keras_local import _validation as check

T = TypeVar("T")

PACKAGE = "keras_local"


class Strategy:
    """Base of objects that Keras stores by their constructor's arguments, such as rules.

    Two objects are equal if they have the same class and equal configs. The `repr` shows the
    arguments: `KolenPollack(rate=1.0, decay=0.0)`. After the first argument, default arguments are
    left out if they are objects, flags or None. In objects inside others, all default arguments are
    left out: `EligibilityRule(base=Hebb(), tau=10.0)`.
    """

    def __repr__(self) -> str:
        """Return the class and its arguments."""
        return _written(self, outermost=True)

    def __eq__(self, other: object) -> bool:
        """Return whether the other object has the same class and arguments."""
        return self is other or (type(self) is type(other) and _values(self) == _values(other))

    def __hash__(self) -> int:
        """Return a hash of class and arguments."""
        return hash(_values(self))

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


def copied(thing: T) -> T:
    """Return a new object of the same class and arguments."""
    copy: T = type(thing).from_config(thing.get_config())  # type: ignore[attr-defined]
    return copy


def by_value(cls: type[T]) -> type[T]:
    """Give a class that is not a `Strategy` its `repr`, equality and hash."""
    for name in ("__repr__", "__eq__", "__hash__"):
        setattr(cls, name, getattr(Strategy, name))
    return cls


def serializable(cls: type[T]) -> type[T]:
    """Register a class with Keras under the name `keras_local>ClassName`."""
    register: Callable[[type[T]], type[T]] = keras.saving.register_keras_serializable(
        package=PACKAGE
    )
    return register(cls)


def resolve(
    identifier: Any, family: type[T], aliases: Mapping[str, Callable[[], T]], argument: str
) -> T:
    """Return the object of `family` for an alias, a config dict or an object.

    An alias stands for the class with its default arguments: `"kolen_pollack"` is
    `KolenPollack()`. Anything with arguments is passed as an object.
    """
    if isinstance(identifier, family):
        return identifier
    if isinstance(identifier, str) and identifier in aliases:
        return aliases[identifier]()
    reason = None
    if isinstance(identifier, dict):
        try:
            restored = keras.saving.deserialize_keras_object(identifier)
        except Exception as error:  # Keras' own messages do not contain the argument's name.
            restored, reason = None, error
        if isinstance(restored, family):
            return restored
    known = ", ".join(repr(alias) for alias in sorted(aliases))
    allowed = f"a {family.__name__} or one of the aliases {known}"
    if isinstance(identifier, type) and issubclass(identifier, family):
        allowed += f", and not a class (write `{identifier.__name__}(...)`)"
    message = check.refusal(argument, allowed, identifier)
    if isinstance(identifier, str):
        near = difflib.get_close_matches(identifier.lower(), aliases, n=1)
        message += f". Did you mean {near[0]!r}?" if near else ""
    raise ValueError(message) from reason


def _values(value: Any) -> Hashable:
    """Return the config of an object in a form that can be compared and hashed."""
    try:
        return type(value).__name__, _frozen(value.get_config())
    except Exception:  # Without a config, the object equals only itself.
        return id(value)


def _frozen(value: Any) -> Hashable:
    """Return a config in a form that can be compared and hashed."""
    if isinstance(value, Mapping):
        return tuple((key, _frozen(value[key])) for key in sorted(value))
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), value.tobytes()
    return value if isinstance(value, Hashable) else repr(value)


def _written(value: Any, outermost: bool = False) -> str:
    """Return the text of an object with its arguments."""
    try:
        config = value.get_config()
        usual = _defaults(type(value), config)
        arguments = [
            f"{name}={_written_argument(given)}"
            for place, (name, given) in enumerate(config.items())
            if name not in usual
            or _frozen(usual[name]) != _frozen(given)
            or (outermost and (place == 0 or _tells(given)))
        ]
    except Exception:  # A `repr` never fails.
        return object.__repr__(value)
    return f"{type(value).__name__}({', '.join(arguments)})"


def _defaults(cls: type, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of an object that is made with as few arguments as possible."""
    parameters = list(inspect.signature(cls).parameters.values())
    needed = {each.name for each in parameters if each.default is inspect.Parameter.empty}
    least = {name: given for name, given in config.items() if name in needed}
    usual: Mapping[str, Any] = cls.from_config(least).get_config()  # type: ignore[attr-defined]
    return {name: given for name, given in usual.items() if name not in needed}


def _written_argument(given: Any) -> str:
    """Return the text of an argument, as in a config."""
    if isinstance(given, Mapping) and "class_name" in given:
        restored = keras.saving.deserialize_keras_object(dict(given))
        described: object = type(restored).__repr__
        if described is Strategy.__repr__:
            return _written(restored)
        arguments = given.get("config") or {}
        if isinstance(arguments, str):  # A function is shown by its registered name.
            return arguments
        listed = ", ".join(f"{name}={_written_argument(each)}" for name, each in arguments.items())
        return f"{given['class_name']}({listed})"
    if isinstance(given, (list, tuple)):
        return f"[{', '.join(_written_argument(item) for item in given)}]"
    return repr(given)


def _tells(given: Any) -> bool:
    """Return whether a default argument is worth showing: numbers and names are."""
    return isinstance(given, (int, float, str)) and not isinstance(given, bool)
