"""A callback that logs angles between feedback kernels and kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from keras_local import _validation as check
from keras_local.callbacks._layers import (
    layers_by_name,
    names_of,
    short_names,
    walk,
    warn_of_silence,
)
from keras_local.layers.plain_form import error_kernels, has_one_kernel, with_error_path
from keras_local.metrics import alignment_angle, norm_ratio, weight_correlation
from keras_local.models.conversion.graph_walks import without_trained_weights_below
from keras_local.models.gradient_angles import gradient_angles, require_exact_errors

Measure = Literal["alignment_angle", "norm_ratio", "weight_correlation"]

_MEASURES: dict[str, Callable[[Any, Any], float]] = {
    "alignment_angle": alignment_angle,
    "norm_ratio": norm_ratio,
    "weight_correlation": weight_correlation,
}


@dataclass(frozen=True)
class _Sender:
    """A kernel of a layer that sends errors by a rule: number `place` of its `error_kernels`."""

    layer: Any
    place: int

    def kernels(self) -> tuple[Any, Any]:
        """Return the kernel and the feedback kernel of now."""
        _, kernel, feedback_kernel = (error_kernels(self.layer) or [])[self.place]
        return kernel, feedback_kernel

    def stands_below_all(self, unused: set[int]) -> bool:
        """Tell whether nothing is trained below the kernel, so that no error needs it."""
        kernel, _ = self.kernels()
        owners = [part for part in with_error_path(self.layer) if part.kernel is kernel]
        return any(id(owner) in unused for owner in owners or [self.layer])


class AlignmentMonitor(keras.callbacks.Callback):
    """Log the angle, or another measure, between each feedback kernel and its kernel.

    At the end of each epoch `logs` receives for each layer with a feedback kernel, and for each
    part of a layer with several (`query` of an attention), as their `error_kernels()` say,

    - `alignment_angle/<layer>`: angle between the kernels in degrees,
    - `norm_ratio/<layer>`: norm of the feedback kernel over norm of the kernel,
    - `weight_correlation/<layer>`: Pearson's correlation of their entries,

    as in `keras_local.metrics`, and with `data`, a held-out batch,

    - `gradient_angle/<layer>`: angle in degrees between the gradient of the kernel under the rules
      of all layers, `x^T delta`, and the true gradient, by backpropagation through the same
      kernels,
    - `local_gradient_angle/<layer>`: angle between the error that the layer sends down, and the one
      that it would send through its kernel, from the same error at its outputs:
      `angle(delta B^T, delta W^T)`.

    The first tells how far a step goes downhill; errors of all layers above add up in it, so in the
    highest layer it is 0 and in the lowest it is worth knowing: every layer with a rule and a
    kernel that is trained is reported, those on backpropagation too. The second is the
    contribution of the layer alone.

    Both follow from the compiled loss, without regularizers and other losses of layers, in training
    mode: normalisation by the batch, and the dropout of the next step. Measuring changes nothing in
    the model. It costs three forward passes of the batch and two backward ones, outside of the
    compiled step, and the memory for them: some hundred examples do.

    `initial` holds the same before the first step of training. It
    stays empty for a model without an input shape, which TensorFlow builds in that step only.

    The feedback kernel of a layer below which nothing is trained carries no error, so its angle
    says nothing. Such layers, as the lowest of a network, are left out where the model is
    `Sequential` or functional, nested models included. Of a subclassed model, whose graph cannot
    be known, every layer with a feedback kernel is reported: name those wanted in `layers`.

    Args:
        layers: Names of the layers to report, the lowest too if named; None for all that use
            their feedback kernel. A layer of a nested model whose name occurs more than once is
            called `<model>/<layer>`. The name of a layer of several kernels stands for all of them.
        every: Measure after every so many epochs; in between the last values are repeated,
            because loggers such as `CSVLogger` fix their columns at the first epoch.
        measures: Which of the first three to log.
        data: None, or a pair `(inputs, labels)` of arrays, or of structures of arrays as `fit`
            takes them.

    Raises:
        ValueError: If `every` is not a positive integer, a measure is unknown or `data` is no such
            pair; when training begins, if `layers` names one that the model has not or that has no
            feedback kernel, or if `data` are given and do not fit the model, or it has no loss.

    Example:
        >>> import numpy as np, keras, keras_local as kl
        >>> model = keras.Sequential([
        ...     keras.Input((4,)),
        ...     kl.layers.FeedbackDense(5, activation="relu"),
        ...     kl.layers.FeedbackDense(3, name="top"),
        ... ])
        >>> model.compile("sgd", kl.losses.LocalHinge())
        >>> monitor = kl.callbacks.AlignmentMonitor()
        >>> history = model.fit(
        ...     np.ones((6, 4)), np.arange(6) % 3, callbacks=[monitor], verbose=0
        ... )
        >>> sorted(key for key in history.history if "/" in key)
        ['alignment_angle/top', 'norm_ratio/top', 'weight_correlation/top']

    Source of the local gradient angle: Kunin et al. 2020, "Two routes to scalable credit assignment
    without weight symmetry" (the authors' code).
    """

    initial: dict[str, float]
    """The values before training."""

    def __init__(
        self,
        layers: Iterable[str] | None = None,
        every: int = 1,
        measures: Iterable[Measure] = ("alignment_angle", "norm_ratio", "weight_correlation"),
        data: Any = None,
    ) -> None:
        super().__init__()
        self.layers = None if layers is None else names_of("layers", layers)
        self.every = check.positive_integer("every", every)
        self.measures = names_of("measures", measures)
        for measure in self.measures:
            check.one_of("measures", measure, tuple(_MEASURES))
        self.data = None if data is None else _batch(data)
        self.initial = {}
        self._latest: dict[str, float] = {}
        self._learning: dict[str, Any] = {}
        self._watched: dict[str, _Sender] | None = None  # None: not looked for yet

    def on_train_begin(self, logs: Any = None) -> None:
        """Find the layers, and measure them before the first step."""
        if self.layers is not None:
            known = layers_by_name(self.model)
            if self.model.built:
                known = {**known, **self._senders()}
            check.require(
                set(self.layers) <= set(known),
                "layers",
                f"names of layers with a feedback kernel, of the layers {list(known)}",
                self.layers,
            )
        if self.data is not None:
            loss = getattr(self.model, "_compile_loss", None)
            allowed = "None for a model that is compiled without a loss"
            check.require(loss is not None, "data", allowed, "a batch")
        watched = self._find() if self.model.built else None
        self._watched, self._learning = watched if watched is not None else (None, {})
        self.initial = self._measure()
        self._latest = dict(self.initial)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, and add the values to `logs`."""
        if self._watched is None:
            self._watched, self._learning = self._find()
            self._latest = self._measure()
        elif (epoch + 1) % self.every == 0:
            self._latest = self._measure()
        if logs is not None:
            logs.update(self._latest)

    def _senders(self) -> dict[str, _Sender]:
        """Return all kernels of layers that send errors by a rule, by name."""
        found: list[tuple[str, str, _Sender]] = []
        for path, layer, inside in walk(self.model):
            if any(error_kernels(outer) is not None for outer in inside):
                continue  # The outer layer has spoken of it.
            for place, (name, _, _) in enumerate(error_kernels(layer) or []):
                whole = f"{path}/{name}" if name else path
                found.append((whole, name or layer.name, _Sender(layer, place)))
        return short_names(found)

    def _find(self) -> tuple[dict[str, _Sender], dict[str, Any]]:
        """Return the kernels to watch, and the layers whose gradients to compare."""
        named = layers_by_name(self.model)
        known = {
            name: sender
            for name, sender in self._senders().items()
            if sender.kernels()[1] is not None
        }
        if self.layers is None:
            unused = without_trained_weights_below(self.model)
            found = {name: s for name, s in known.items() if not s.stands_below_all(unused)}
        else:
            found = {}
            for wanted in self.layers:
                fits = {
                    name: sender
                    for name, sender in known.items()
                    if name == wanted or sender.layer is named.get(wanted)
                }
                allowed = f"names of layers with a feedback kernel: {list(known)}"
                check.require(bool(fits), "layers", allowed, self.layers)
                found.update(fits)
        learning = {}
        if self.data is not None:
            require_exact_errors(self.model)
            learning = {
                name: layer
                for name, layer in named.items()
                if has_one_kernel(type(layer))
                and layer.kernel.trainable
                and (self.layers is None or name in self.layers or name in found)
            }
        if not found and not learning:
            warn_of_silence(
                "AlignmentMonitor",
                f"no layer of the model {self.model.name!r} has a feedback kernel in use",
            )
        return found, learning

    def _measure(self) -> dict[str, float]:
        values = {}
        for name, sender in (self._watched or {}).items():
            kernel, feedback_kernel = sender.kernels()
            for measure in self.measures:
                values[f"{measure}/{name}"] = _MEASURES[measure](kernel, feedback_kernel)
        if self._learning and self._watched is not None:
            angles, local = self._gradient_angles()
            values.update({f"gradient_angle/{name}": angle for name, angle in angles.items()})
            values.update(
                {
                    f"local_gradient_angle/{name}": local[name]
                    for name in self._watched
                    if name in local
                }
            )
        return values

    def _gradient_angles(self) -> tuple[dict[str, float], dict[str, float]]:
        inputs, labels = self.data  # type: ignore[misc]
        try:
            return gradient_angles(self.model, inputs, labels, self._learning)
        except (TypeError, ValueError) as error:
            shapes = keras.tree.map_structure(np.shape, self.data)
            raise ValueError(
                "`data` must be a pair (inputs, labels) that fits the model and its loss. "
                f"Received: arrays of shapes {shapes}"
            ) from error


def _batch(data: Any) -> tuple[Any, Any]:
    """Return inputs and labels as arrays, in the precision in which `fit` hands them on."""
    pair = isinstance(data, list | tuple) and len(data) == 2
    allowed = "a pair (inputs, labels)"
    check.require(pair, "data", allowed, f"data of type {type(data).__name__}")
    arrays = keras.tree.map_structure(_array, tuple(data))
    sizes = {np.shape(array)[:1] for array in keras.tree.flatten(arrays)}
    check.require(
        len(sizes) == 1 and min(sizes) > (0,),
        "data",
        f"{allowed} of arrays of one length, not 0",
        keras.tree.map_structure(np.shape, arrays),
    )
    return arrays[0], arrays[1]


def _array(array: Any) -> np.ndarray:
    values: np.ndarray = keras.ops.convert_to_numpy(array)
    floating = np.issubdtype(values.dtype, np.floating)
    return values.astype(keras.config.floatx()) if floating else values
