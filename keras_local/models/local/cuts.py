"""Places at which a network can be cut into blocks, and the choice among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.layers.graph_walks import calls_of
from keras_local.models.conversion.direct import ACTIVATIONS
from keras_local.models.local.block_graph import BlockGraph

Call = tuple[Any, list[Any], Any]
"""An operation, its inputs and its output."""

_NORMALISATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
)
_FUNCTIONS = {name.replace("_", "") for name in dir(keras.activations)}
"""Names of activations, as the operations of `keras.ops` have them."""


class Cuts:
    """The calls of a network in order, and the places at which it can be cut.

    A place is a call behind which only its output is still needed: all that is above depends on
    this one tensor.

    Args:
        network: A functional model.
    """

    def __init__(self, network: keras.Model) -> None:
        self.network = network
        self.calls: list[Call] = calls_of(network)
        self.places = self._places()

    def _places(self) -> list[int]:
        """Return the numbers of the calls behind which one tensor is alive."""
        uses = Counter(id(tensor) for _, inputs, _ in self.calls for tensor in inputs)
        uses.update(id(tensor) for tensor in self.network.outputs)
        alive = {id(tensor) for tensor in self.network.inputs if uses[id(tensor)]}
        found = []
        for number, (_, inputs, output) in enumerate(self.calls):
            alive.add(id(output))
            for tensor in inputs:
                uses[id(tensor)] -= 1
                if not uses[id(tensor)]:
                    alive.discard(id(tensor))
            if alive == {id(output)}:
                found.append(number)
        return found

    def automatic(self) -> list[int]:
        """Return a place behind each layer with a kernel, its normalisation and activation.

        If there is no place between several layers with kernels, as in a residual block, one place
        follows them all. Above the last place there is at least one layer with a kernel. Where a
        normalisation or an activation follows beside other users of a tensor, as behind the sums of
        a residual network with activations before its convolutions, there is no place.

        Raises:
            ValueError: For a network without such a place.
        """
        found, kernel, start = [], False, 0
        for here in self.places[:-1]:
            kernel |= any(has_kernel(call) for call in self.calls[start : here + 1])
            start = here + 1
            continued = _follows(self.calls[start])
            if kernel and not continued and any(map(has_kernel, self.calls[start:])):
                found.append(here)
                kernel = False
        found = [place for place in found if not self._shared_across(place)]
        allowed = (
            "a model that can be cut below its last layer with a kernel: somewhere all that is "
            "above has to depend on one tensor alone"
        )
        check.require(bool(found), "model", allowed, f"{self.network.name!r}")
        return found

    def named(self, names: Sequence[str]) -> list[int]:
        """Return the places behind the named layers.

        Raises:
            ValueError: For a layer behind which the network cannot be cut.
        """
        described = check.is_sequence(names) and all(isinstance(name, str) for name in names)
        check.require(described, "blocks", "None, or a list of names of layers", names)
        check.require(len(set(names)) == len(names), "blocks", "names that differ", names)
        found = sorted(self._place_of(name) for name in names)
        for place in found:
            shared = self._shared_across(place)
            allowed = "names between which no layer is shared"
            received = f"{self.name(place)!r}, but {shared!r} is used below and above it"
            check.require(not shared, "blocks", allowed, received)
        for start, place in zip([0, *(place + 1 for place in found)], found, strict=False):
            inside = any(has_kernel(call) for call in self.calls[start : place + 1])
            allowed = "names of the last layers of blocks that have a kernel each"
            received = f"{self.name(place)!r}, with none between it and the block below"
            check.require(inside, "blocks", allowed, received)
        above = not found or any(map(has_kernel, self.calls[found[-1] + 1 :]))
        allowed = "names of layers with a kernel above them, which learns from the compiled loss"
        check.require(above, "blocks", allowed, names)
        return found

    def name(self, place: int) -> str:
        """Return the name of the layer in front of a place."""
        name: str = self.calls[place][0].name
        return name

    def _place_of(self, name: str) -> int:
        numbers = [n for n, (operation, _, _) in enumerate(self.calls) if operation.name == name]
        possible = [self.name(place) for place in self.places[:-1]]
        allowed = f"names of layers behind which {self.network.name!r} can be cut: {possible}"
        check.require(bool(numbers), "blocks", allowed, name)
        number = numbers[-1]
        if number in self.places[:-1]:
            return number
        below = [place for place in self.places[:-1] if place < number][-1:]
        above = [place for place in self.places[:-1] if place > number][:1]
        nearest = " and ".join(repr(self.name(place)) for place in (*below, *above)) or "none"
        why = "at which the outputs of a layer are all that is needed above"
        allowed = f"names of layers {why}. The nearest are {nearest}"
        check.require(False, "blocks", allowed, name)
        raise AssertionError

    def _shared_across(self, place: int) -> str | None:
        """Return the name of a layer with weights that is called on both sides of a place."""
        below = {id(variable) for call in self.calls[: place + 1] for variable in _weights(call)}
        for call in self.calls[place + 1 :]:
            if any(id(variable) in below for variable in _weights(call)):
                name: str = call[0].name
                return name
        return None

    def chain(self, places: Sequence[int]) -> list[keras.Model]:
        """Return the parts of the network between the places, which share its layers."""
        tensors = [self.calls[place][2] for place in places]
        starts = [self.network.inputs if len(self.network.inputs) > 1 else self.network.inputs[0]]
        ends = [*tensors, self.network.outputs[0]]
        names = [*(self.name(place) for place in places), "outputs"]
        # Without a cut it is stock training, to the bit.
        graph = BlockGraph if places else keras.Model
        return [
            graph(start, end, name=f"block_{name}")
            for start, end, name in zip([*starts, *tensors], ends, names, strict=True)
        ]


def has_kernel(call: Call) -> bool:
    """Return whether a call is of a layer with a kernel; an embedding counts as an input."""
    operation = call[0]
    if not isinstance(operation, keras.layers.Layer) or _follows(call):
        return False
    if isinstance(operation, keras.layers.Embedding):
        return False
    return any(len(weight.shape) >= 2 for weight in operation.weights)


def _weights(call: Call) -> list[Any]:
    operation = call[0]
    return list(operation.weights) if isinstance(operation, keras.layers.Layer) else []


def _follows(call: Call) -> bool:
    """Return whether a call belongs to the layer before it: a normalisation or an activation."""
    operation = call[0]
    if isinstance(operation, keras.layers.Layer):
        return isinstance(operation, (*_NORMALISATIONS, *ACTIVATIONS, keras.layers.Softmax))
    return type(operation).__name__.lower() in _FUNCTIONS
