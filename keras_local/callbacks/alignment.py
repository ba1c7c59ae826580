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
from keras_local.layers.graph_walks import without_trained_weights_below
from keras_local.layers.plain_form import error_kernels, has_one_kernel, with_error_path
from keras_local.metrics import alignment_angle, norm_ratio, weight_correlation
from keras_local.models.conversion.conversion_report import own_kernels
from keras_local.models.gradient_angles import (
    gradient_angles,
    require_exact_errors,
    sends_errors_directly,
)

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
        """Return the present kernel and feedback kernel."""
        _, kernel, feedback_kernel = (error_kernels(self.layer) or [])[self.place]
        return kernel, feedback_kernel

    def stands_below_all(self, unused: set[int]) -> bool:
        """Return whether nothing is trained below the kernel, so that it needs no error."""
        kernel, _ = self.kernels()
        owners = [part for part in with_error_path(self.layer) if part.kernel is kernel]
        return any(id(owner) in unused for owner in owners or [self.layer])


class AlignmentMonitor(keras.callbacks.Callback):
    """Callback that logs the angle between each feedback kernel and its kernel.

    At the end of each epoch it adds to `logs`, for each layer with a feedback kernel, and for each
    part of a layer with several (such as `query` of an attention; see `error_kernels()`),

    - `alignment_angle/<layer>`: angle between the kernels in degrees,
    - `norm_ratio/<layer>`: norm of the feedback kernel over norm of the kernel,
    - `weight_correlation/<layer>`: Pearson's correlation of their entries,

    as in `keras_local.metrics`. With `data`, a held-out batch, it also adds

    - `gradient_angle/<layer>`: angle in degrees between the gradient of the kernel under the rules
      of all layers, `x^T delta`, and the true gradient of backpropagation through the same kernels,
    - `local_gradient_angle/<layer>`: angle between the error that the layer sends down, and the
      error that it would send through its kernel, for the same error at its outputs:
      `angle(delta B^T, delta W^T)`.

    The first angle tells how far a step goes downhill. The effects of all layers above add up in
    it, so that it is 0 in the highest layer and most informative in the lowest. It is reported for
    every layer with a rule and a trained kernel, also for layers with backpropagation. In a model
    that learns directly from its outputs (`models.direct`) it is reported for every trained kernel,
    also of stock layers; a layer with several kernels has one angle for each,
    `gradient_angle/<layer>/<kernel>`. The second angle is the effect of the layer alone.

    Both are computed from the compiled loss, without regularizers and other losses of layers, in
    training mode: with normalisation by the batch, and the dropout of the next step. Measuring does
    not change the model. It costs three forward and two backward passes of the batch, outside the
    compiled step, and the memory for them; some hundred examples are enough.

    `initial` contains the same values before the first step of training. It stays empty for a model
    without an input shape, which TensorFlow builds in the first step.

    If nothing is trained below a layer, its feedback kernel carries no error, and its angle has no
    meaning. Such layers, for example the lowest layer of a network, are left out if the model is
    `Sequential` or functional, including nested models. The graph of a subclassed model is not
    known, so that every layer with a feedback kernel is reported; use `layers` to choose.

    Args:
        layers: Names of the layers to report, which may include the lowest; None for all layers
            that use their feedback kernel. A layer of a nested model whose name is not unique is
            called `<model>/<layer>`. The name of a layer with several kernels means all of them.
        every: Measure after each `every` epochs. Between measurements the last values are repeated,
            because loggers such as `CSVLogger` fix their columns at the first epoch.
        measures: Which of the first three values to log.
        data: None, or a pair `(inputs, labels)` of arrays, or of structures of arrays as for `fit`.

    Raises:
        ValueError: If `every` is not a positive integer, a measure is unknown or `data` is not such
            a pair. When training begins, if `layers` names a layer that the model does not have or
            that has no feedback kernel, or if `data` do not fit the model, or if it has no loss.

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
        self._others: dict[str, keras.Variable] = {}
        self._watched: dict[str, _Sender] | None = None  # None: not yet searched

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
                continue  # The outer layer has already reported it.
            for place, (name, _, _) in enumerate(error_kernels(layer) or []):
                whole = f"{path}/{name}" if name else path
                found.append((whole, name or layer.name, _Sender(layer, place)))
        return short_names(found)

    def _find(self) -> tuple[dict[str, _Sender], dict[str, Any]]:
        """Return the kernels to watch, and the layers whose gradients to compare."""
        named = layers_by_name(self.model)
        self._others = self._trained_without_rule(named)
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
                if any(wanted in (name, name.rsplit("/", 1)[0]) for name in self._others):
                    continue
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
        if not found and not learning and not self._others:
            warn_of_silence(
                "AlignmentMonitor",
                f"no layer of the model {self.model.name!r} has a feedback kernel in use",
            )
        return found, learning

    def _trained_without_rule(self, named: dict[str, Any]) -> dict[str, keras.Variable]:
        """Return kernels whose gradient depends on direct errors, of layers without a rule."""
        if self.data is None or not sends_errors_directly(self.model):
            return {}
        found = {}
        for name, layer in named.items():
            kernels = own_kernels(layer) if self.layers is None or name in self.layers else []
            for kernel in kernels:
                found[name if len(kernels) == 1 else f"{name}/{kernel.name}"] = kernel
        return found

    def _measure(self) -> dict[str, float]:
        values = {}
        for name, sender in (self._watched or {}).items():
            kernel, feedback_kernel = sender.kernels()
            for measure in self.measures:
                values[f"{measure}/{name}"] = _MEASURES[measure](kernel, feedback_kernel)
        if (self._learning or self._others) and self._watched is not None:
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
            return gradient_angles(self.model, inputs, labels, self._learning, self._others)
        except (TypeError, ValueError) as error:
            shapes = keras.tree.map_structure(np.shape, self.data)
            raise ValueError(
                "`data` must be a pair (inputs, labels) that fits the model and its loss. "
                f"Received: arrays of shapes {shapes}"
            ) from error


def _batch(data: Any) -> tuple[Any, Any]:
    """Return inputs and labels as arrays, in the precision that `fit` uses."""
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
