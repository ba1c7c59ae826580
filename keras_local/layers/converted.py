"""A layer of somebody else's, in which some layers have been exchanged."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import DType
from keras_local.layers.inner_layers import at, described, exchange
from keras_local.layers.plain_form import PlainForm, all_layers, forward_values, speaks


@dataclass
class _Parts:
    """What is put where; an object of its own, so that Keras finds each layer in one place."""

    paths: list[tuple[str, ...]]
    layers: list[keras.layers.Layer]
    converted: bool = False


@serializable
class Converted(keras.layers.Layer):
    """Layer that holds layers, some of which are exchanged for layers with a feedback rule.

    `kl.models.convert(model, feedback, composites=True)` puts it around layers such as the encoder
    of a transformer, which is neither a built-in layer nor a model with a graph. It computes what
    that layer does: each call goes to it. Where a dense layer, a convolution or an attention stood
    in it, there is the feedback layer of the same name, and errors return through that layer by its
    rule. Between them, through sums, normalisations and products of activities, they go by the
    chain rule.

    The exchange takes place when the layer is called first, since many layers make those inside of
    them only then. What is exchanged stands in the config: a saved model is loaded with its rules.

    Args:
        layer: The layer around; it is changed.
        parts: Pairs of paths and a new layer. A path is the name of an attribute of `layer`, behind
            slashes positions and keys in lists and dicts and attributes of layers there:
            `"blocks/0/attention"`. A layer that stands in several places is given with the paths of
            all.
        name: Name of the layer; that of `layer` by default.
        dtype: Precision; that of `layer` by default.
        trainable: Whether the weights learn.

    Input and output shape: those of `layer`.

    Raises:
        ValueError: If `layer` is no layer, or `parts` are not such pairs; at the first call, if a
            path leads nowhere.

    >>> import keras, numpy as np, keras_local as kl
    >>> class Block(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.inner = keras.layers.Dense(input_shape[-1])
    ...         self.inner.build(input_shape)
    ...
    ...     def call(self, inputs):
    ...         return inputs + self.inner(inputs)
    >>> parts = [(["inner"], kl.layers.FeedbackDense(3, feedback="feedback_alignment"))]
    >>> layer = kl.layers.Converted(Block(), parts)
    >>> tuple(layer(np.ones((2, 3), "float32")).shape)
    (2, 3)
    >>> [weight.name for weight in layer.weights]
    ['kernel', 'bias', 'feedback_kernel']
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        parts: Sequence[tuple[Sequence[str], keras.layers.Layer]],
        *,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        check.instance("layer", layer, keras.layers.Layer)
        given = _checked(parts)
        # Keras looks at the arguments of `call` to fill in masks and the phase.
        signed = functools.wraps(layer.call)(functools.partial(_call, layer))
        object.__setattr__(self, "call", signed)
        super().__init__(
            name=layer.name if name is None else name,
            dtype=layer.dtype_policy if dtype is None else dtype,
            trainable=trainable,
        )
        self._around = described(layer)
        self._parts = given
        self._was_ours = False
        self.layer = layer
        self.supports_masking = layer.supports_masking
        self._convert_input_args = layer._convert_input_args

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer; at the first call, exchange what is to be exchanged."""
        if not self._parts.converted:
            self._convert(args, kwargs)
        return super().__call__(*args, **kwargs)

    def _convert(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Build the layer, which makes what is inside of it, and exchange the parts."""
        # Without values: a layer that makes others in `call` makes them for symbolic inputs too.
        self.layer(
            *keras.tree.map_structure(_symbolic, args),
            **keras.tree.map_structure(_symbolic, kwargs),
        )
        places = list(zip(self._parts.paths, self._parts.layers, strict=True))
        olds = [[at(self.layer, path) for path in paths] for paths, _ in places]
        for (paths, new), old in zip(places, olds, strict=True):
            self._was_ours |= any(speaks(part) for part in all_layers(old[0]))
            build_like(new, old[0])
            exchange(self.layer, paths, new)
        self._parts.converted = True
        self.built = True

    def inner_layers(self) -> Iterator[tuple[str, keras.layers.Layer]]:
        """Return path and layer of each part."""
        for paths, layer in zip(self._parts.paths, self._parts.layers, strict=True):
            yield paths[0], layer

    def original(self) -> keras.layers.Layer:
        """Return the layer around, not built, as it was before anything was exchanged."""
        return keras.saving.deserialize_keras_object(self._around)

    def plain_form(self) -> PlainForm:
        """Return the layer around, with the weights that it had and has learned."""
        kept = {id(part) for _, new in self.inner_layers() for part in all_layers(new)}
        rest = [part for part in all_layers(self.layer) if id(part) not in kept]
        if self._was_ours or any(map(speaks, rest)):
            raise NotImplementedError(f"a layer of keras_local inside of {self._kind.__name__}")
        return PlainForm(self._kind, self._around["config"], forward_values(self))

    @property
    def _kind(self) -> type[keras.layers.Layer]:
        return type(self.layer)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Return what the layer around says."""
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        parts = zip(self._parts.paths, self._parts.layers, strict=True)
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "layer": self._around,
            "parts": [[list(paths), serialize(layer)] for paths, layer in parts],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Converted:
        """Restore the layer from its config."""
        restore = functools.partial(
            keras.saving.deserialize_keras_object, custom_objects=custom_objects
        )
        parts = [(paths, restore(layer)) for paths, layer in config["parts"]]
        return cls(**{**config, "layer": restore(config["layer"]), "parts": parts})


def build_like(new: keras.layers.Layer, old: keras.layers.Layer) -> None:
    """Build a layer for the shapes for which another has been built.

    Raises:
        ValueError: If the other has not been built.
    """
    if new.built:
        return
    shapes: dict[str, Any] = getattr(old, "_build_shapes_dict", None) or {}
    allowed = "a layer all of whose parts have been built"
    check.require(old.built and bool(shapes), "layer", allowed, old)
    new.build(*shapes.values())


def _call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
    return layer(*args, **kwargs)


def _symbolic(value: Any) -> Any:
    if isinstance(value, keras.KerasTensor) or not hasattr(value, "shape"):
        return value
    return keras.KerasTensor(value.shape, keras.backend.standardize_dtype(value.dtype))


def _checked(parts: Any) -> _Parts:
    allowed = "pairs of the paths of a layer inside and of the layer that is put there"
    sequence = isinstance(parts, (list, tuple)) and len(parts) > 0
    check.require(
        sequence and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in parts),
        "parts",
        allowed,
        parts,
    )
    for paths, layer in parts:
        named = isinstance(paths, (list, tuple)) and len(paths) > 0
        named = named and all(isinstance(path, str) for path in paths)
        check.require(named and isinstance(layer, keras.layers.Layer), "parts", allowed, parts)
    return _Parts([tuple(paths) for paths, _ in parts], [layer for _, layer in parts])
