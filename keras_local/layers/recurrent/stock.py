"""A built-in layer that another layer holds, and what it says."""

from __future__ import annotations

from typing import Any


class Untracked:
    """Holds a layer where Keras does not look for weights: they are of the layer that holds it."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer


def of_stock(name: str, settable: bool = False) -> property:
    """Return a property of a layer that is an attribute of its built-in layer `stock`."""

    def get(self: Any) -> Any:
        return getattr(self.stock, name)

    def put(self: Any, value: Any) -> None:
        setattr(self.stock, name, value)

    return property(get, put if settable else None, doc=f"As `{name}` of the built-in layer.")
