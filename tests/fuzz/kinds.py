"""What an argument may be: values that are right, and which others have to be refused."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np


@dataclass(frozen=True)
class Kind:
    """One kind of argument.

    Attributes:
        valid: Functions that make values that every constructor with this argument takes.
        wrong: Whether a value must not be taken; what is neither may be taken or refused.
    """

    valid: tuple[Callable[[], Any], ...]
    wrong: Callable[[Any], bool]


def constants(*values: Any) -> tuple[Callable[[], Any], ...]:
    return tuple(lambda value=value: value for value in values)


def _truth(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _not_an_integer(value: Any, minimum: int) -> bool:
    if not isinstance(value, numbers.Integral) or _truth(value):
        return True
    return int(value) < minimum


def _not_a_number(value: Any, minimum: float, maximum: float, open_below: bool) -> bool:
    if not isinstance(value, numbers.Real) or _truth(value):
        return True
    try:
        number = float(value)
    except OverflowError:
        return True
    below = number <= minimum if open_below else number < minimum
    return not math.isfinite(number) or below or number > maximum


def optional(kind: Kind) -> Kind:
    """None, or what `kind` says."""
    return Kind((*kind.valid, lambda: None), lambda value: value is not None and kind.wrong(value))


FLAG = Kind(constants(True, False), lambda value: not _truth(value))


def integer(*valid: int, minimum: int = 1) -> Kind:
    return Kind(constants(*valid), lambda value: _not_an_integer(value, minimum))


def number(
    *valid: float,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    open_below: bool = False,
) -> Kind:
    return Kind(constants(*valid), lambda value: _not_a_number(value, minimum, maximum, open_below))


def literal(*valid: str) -> Kind:
    def wrong(value: Any) -> bool:
        # Keras takes "SAME", and so do layers of its kind.
        return not isinstance(value, str) or value.lower() not in valid

    return Kind(constants(*valid), wrong)


def sizes(rank: int, *valid: Any, minimum: int = 1) -> Kind:
    def wrong(value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return len(value) != rank or any(_not_an_integer(each, minimum) for each in value)
        return _not_an_integer(value, minimum)

    return Kind(constants(*valid), wrong)


def integers(*valid: Sequence[int], minimum: int = 1, least: int = 1) -> Kind:
    """A sequence of integers."""

    def wrong(value: Any) -> bool:
        if isinstance(value, np.ndarray):
            return True
        if not isinstance(value, (list, tuple)) or len(value) < least:
            return True
        return any(_not_an_integer(each, minimum) for each in value)

    return Kind(constants(*valid), wrong)


def numbers_or_none(*valid: Sequence[float]) -> Kind:
    """A sequence of factors of at least 0, or None."""

    def wrong(value: Any) -> bool:
        if value is None:
            return False
        if not isinstance(value, (list, tuple)):
            return True
        return any(_not_a_number(each, 0.0, math.inf, False) for each in value)

    return Kind((*constants(*valid), lambda: None), wrong)


def family(base: type, aliases: Sequence[str], *makers: Callable[[], Any]) -> Kind:
    """An object of a class of ours, or its alias."""

    def wrong(value: Any) -> bool:
        if isinstance(value, str):
            return value not in aliases
        if isinstance(value, dict):
            return "class_name" not in value
        return not isinstance(value, base)

    return Kind((*makers, *constants(*aliases)), wrong)


@keras.saving.register_keras_serializable(package="fuzz")
def doubled(tensor: Any) -> Any:
    """A function that is a valid activation."""
    return 2.0 * tensor


def of_keras(base: type | None, *valid: Any) -> Kind:
    """What `keras.initializers.get` and its like take."""

    def wrong(value: Any) -> bool:
        if value is None or isinstance(value, type):
            return False
        if isinstance(value, str):
            return value not in valid
        return isinstance(value, (numbers.Number, list, tuple, set, bytes, np.ndarray))

    return Kind((*constants(*valid), *((lambda: base(),) if base else ()), lambda: None), wrong)


ACTIVATION = of_keras(None, "relu", "tanh", "linear", doubled)
INITIALIZER = of_keras(keras.initializers.Ones, "zeros", "glorot_uniform", "he_normal")
REGULARIZER = of_keras(keras.regularizers.L2, "l2")
CONSTRAINT = of_keras(keras.constraints.NonNeg, "non_neg")
NAME = Kind(constants("of_the_user", None), lambda v: not (v is None or isinstance(v, str)))
DTYPE = Kind(
    # TensorFlow has no half precision for some convolutions on a CPU.
    constants("float32", "float64", None),
    lambda v: (
        isinstance(v, (bool, int, float, complex, bytes, list, tuple))
        or (isinstance(v, str) and v == "no_such")
    ),
)
ANYTHING = Kind(constants(None), lambda value: False)


def bad_values() -> list[tuple[str, Callable[[], Any]]]:
    """What users hand over by mistake, and worse."""
    import keras_local as kl

    return [
        *((repr(value), lambda value=value: value) for value in (None, True, False, 0, -1, 7)),
        *(
            (repr(value), lambda value=value: value)
            for value in (1.5, -0.5, 1e300, math.nan, math.inf, -math.inf, 3 + 4j)
        ),
        *((repr(value), lambda value=value: value) for value in ("", "1", "True", "no_such", b"1")),
        ("10**400", lambda: 10**400),
        ("-10**400", lambda: -(10**400)),
        ("10**5000", lambda: 10**5000),
        *((repr(value), lambda value=value: value) for value in ((), [], {}, [None], ("a", 1))),
        ("[[1]]", lambda: [[1]]),
        ("{3}", lambda: {3}),
        ("{'class_name': 'Nope', 'config': {}}", lambda: {"class_name": "Nope", "config": {}}),
        ("[2, -2]", lambda: [2, -2]),
        ("(True, 2)", lambda: (True, 2)),
        ("object()", object),
        ("range", lambda: range),
        ("np.nan", lambda: np.float32("nan")),
        ("np.bool_", lambda: np.bool_(True)),
        ("np.int64(3)", lambda: np.int64(3)),
        ("np.array([1.0, 2.0])", lambda: np.array([1.0, 2.0])),
        ("np.array(['a'])", lambda: np.array(["a"])),
        ("a class of Keras", lambda: keras.layers.Dense),
        ("a class of rules", lambda: kl.feedback.KolenPollack),
        ("a class of plasticity", lambda: kl.plasticity.Hebb),
        ("a feedback rule", kl.feedback.FeedbackAlignment),
        ("a plasticity rule", kl.plasticity.Oja),
        ("a reduction", kl.plasticity.Sum),
        ("a normaliser", kl.plasticity.MaxAbs),
        ("a competition", kl.plasticity.Winner),
        ("a constraint", kl.constraints.NonNegative),
        ("a primitive", lambda: kl.feedback.Decay(0.1)),
        ("an initializer", keras.initializers.Zeros),
        ("a layer", lambda: keras.layers.Dense(2)),
    ]
