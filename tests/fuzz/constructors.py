"""Every public constructor, with its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras

import keras_local as kl
from tests.fuzz.arguments import BY_MODULE, CHOICES
from tests.fuzz.kinds import (
    ANYTHING,
    Kind,
)

RECORDS = {
    "Activity",
    "FeedbackWeight",
    "RuleContext",
    "Synapses",
    "ActiveUnits",
    "OwnWeight",
    "PlainForm",
    "ErrorKernel",
    "LearningForm",
}
"""Classes that hold what is put into them: no user makes one with arguments of their own."""

SHAPES: dict[str, tuple[int, ...]] = {
    "1D": (6, 2),
    "2D": (5, 5, 2),
    "3D": (4, 4, 4, 2),
    "1DTranspose": (4, 2),
    "2DTranspose": (3, 3, 2),
    "3DTranspose": (2, 2, 2, 2),
    "Einsum": (3, 4),
    "Attention": (3, 4),
    "SynapticTraces": (4, 2),
    "RNN": (4, 2),
    "LSTM": (4, 2),
    "GRU": (4, 2),
    "ConvSynapses": (6, 6, 1),
}


def public(module: str) -> dict[str, type]:
    """The classes of a module that users make objects of."""
    where = getattr(kl, module)
    names = getattr(where, "__all__", None) or [name for name in vars(where) if name[0] != "_"]
    found = {name: getattr(where, name) for name in names}
    return {
        name: value
        for name, value in found.items()
        if inspect.isclass(value)
        and value.__module__.startswith("keras_local")
        # Imported for the module's own use.
        and (hasattr(where, "__all__") or value.__module__ == where.__name__)
        and not _abstract(value)
        and name not in RECORDS
    }


def _abstract(value: type) -> bool:
    bases = (
        kl.layers.FeedbackLayer,
        kl.layers.HebbianLayer,
        kl.constraints.Constraint,
        kl.dynamics.Network,
    )
    return inspect.isabstract(value) or value in bases


UNKNOWN: list[str] = []
"""Arguments of which nobody has said here what they may be."""


def arguments(module: str, cls: type) -> dict[str, tuple[Kind, bool]]:
    """Each argument of a constructor, with its kind and whether it has to be given."""
    kinds = {**BY_MODULE[module], **CHOICES.get(cls.__name__, {})}
    found: dict[str, tuple[Kind, bool]] = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if name not in kinds:
            UNKNOWN.append(f"{cls.__name__}({name})")
        found[name] = kinds.get(name, ANYTHING), parameter.default is parameter.empty
    if issubclass(cls, keras.layers.Layer):
        for name in ("name", "dtype", "trainable"):
            found.setdefault(name, (kinds[name], False))
    return found


CONSTRUCTORS: list[tuple[str, type, dict[str, tuple[Kind, bool]]]] = [
    (module, cls, arguments(module, cls)) for module in BY_MODULE for cls in public(module).values()
]


def sample_shape(cls: type) -> tuple[int, ...]:
    """The shape of a sample that a layer takes."""
    fitting = [suffix for suffix in SHAPES if suffix in cls.__name__]
    return SHAPES[max(fitting, key=len)] if fitting else (4,)


Maker = Callable[[], Any]
