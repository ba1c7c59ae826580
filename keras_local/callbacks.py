"""Callbacks that put the state of local learning into the logs of `fit`.

What they measure stands in `logs` at the end of each epoch, next to loss and metrics. `History`
and the progress bar always see it; callbacks that the user passes (`CSVLogger`, `TensorBoard`,
`EarlyStopping`) see it if they come later in the list.
"""

from __future__ import annotations

import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_local import _validation
from keras_local.dynamics.monitor import SettlingMonitor as SettlingMonitor
from keras_local.layers import FeedbackLayer
from keras_local.metrics import (
    alignment_angle,
    convergence_report,
    norm_ratio,
    weight_correlation,
)
from keras_local.models.conversion.graph_walks import (
    calls_of,
    has_graph,
    parts,
    without_trained_weights_below,
)
from keras_local.models.gradient_angles import gradient_angles

_MEASURES: dict[str, Callable[[Any, Any], float]] = {
    "alignment_angle": alignment_angle,
    "norm_ratio": norm_ratio,
    "weight_correlation": weight_correlation,
}

_BATCH = 1024


class AlignmentMonitor(keras.callbacks.Callback):
    """Log how each feedback kernel relates to its kernel.

    At the end of each epoch `logs` receives for each layer with a feedback kernel

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
            called `<model>/<layer>`.
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
        measures: Iterable[str] = ("alignment_angle", "norm_ratio", "weight_correlation"),
        data: Any = None,
    ) -> None:
        super().__init__()
        self.layers = None if layers is None else _names("layers", layers)
        self.every = _validation.positive_integer("every", every)
        self.measures = _names("measures", measures)
        for measure in self.measures:
            _validation.one_of("measures", measure, tuple(_MEASURES))
        self.data = None if data is None else _batch(data)
        self.initial = {}
        self._latest: dict[str, float] = {}
        self._learning: dict[str, Any] = {}
        self._watched: dict[str, Any] | None = None  # None: not looked for yet

    def on_train_begin(self, logs: Any = None) -> None:
        """Find the layers and measure them before training."""
        if self.layers is not None:
            known = _named_layers(self.model)
            _validation.require(
                set(self.layers) <= set(known),
                "layers",
                f"names of layers with a feedback kernel, of the layers {list(known)}",
                self.layers,
            )
        if self.data is not None:
            loss = getattr(self.model, "_compile_loss", None)
            allowed = "None for a model that is compiled without a loss"
            _validation.require(loss is not None, "data", allowed, "a batch")
        self._watched = self._find_layers() if self.model.built else None
        self.initial = self._measure()
        self._latest = dict(self.initial)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the values into `logs`."""
        if self._watched is None:
            self._watched = self._find_layers()
            self._latest = self._measure()
        elif (epoch + 1) % self.every == 0:
            self._latest = self._measure()
        if logs is not None:
            logs.update(self._latest)

    def _find_layers(self) -> dict[str, Any]:
        known = {
            name: layer
            for name, layer in _named_layers(self.model).items()
            if getattr(layer, "feedback_kernel", None) is not None
        }
        if self.layers is None:
            unused = without_trained_weights_below(self.model)
            found = {name: layer for name, layer in known.items() if id(layer) not in unused}
        else:
            _validation.require(
                set(self.layers) <= set(known),
                "layers",
                f"names of layers with a feedback kernel: {list(known)}",
                self.layers,
            )
            found = {name: known[name] for name in self.layers}
        self._learning = {}
        if self.data is not None:
            self._learning = {
                name: layer
                for name, layer in _named_layers(self.model).items()
                if isinstance(layer, FeedbackLayer)
                and layer.kernel.trainable
                and (self.layers is None or name in self.layers)
            }
        if not found and not self._learning:
            _warn_of_silence(
                "AlignmentMonitor",
                f"no layer of the model {self.model.name!r} has a feedback kernel in use",
            )
        return found

    def _measure(self) -> dict[str, float]:
        values = {}
        for name, layer in (self._watched or {}).items():
            feedback_kernel = layer.feedback_kernel
            for measure in self.measures:
                values[f"{measure}/{name}"] = _MEASURES[measure](layer.kernel, feedback_kernel)
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
                "`data` must be a pair (inputs, labels) as the model and its loss take them. "
                f"Received: arrays of shapes {shapes}"
            ) from error


class ConvergenceMonitor(keras.callbacks.Callback):
    """Log how far the competing units of Hebbian layers have converged.

    At the end of each epoch `logs` receives for each layer whose plasticity rule has an exponent
    `p`

    - `mean_norm/<layer>`: mean over units of `sum_i |W_i|^p`, which approaches 1 from above,
    - `converged/<layer>`: fraction of units with `|sum_i |W_i|^p - 1| < tolerance`,

    and with `data`

    - `won/<layer>`: fraction of units with the largest current for at least one sample,
    - `dead/<layer>`: fraction of units without any,

    as in `keras_local.metrics.convergence_report`. `initial` holds the same before the first step
    of training. It stays empty for a model without an input shape, which TensorFlow builds in that
    step only.

    Args:
        data: Samples for `won` and `dead`: an array of the model's inputs, for `Sequential` and
            functional models of one input, or a mapping of layer names to arrays of what those
            layers receive. A few thousand do; they pass through the model at each measurement.
        tolerance: How far from 1 the sum may be for a unit to count as converged.
        every: Measure after every so many epochs; in between the last values are repeated.

    Raises:
        ValueError: If `tolerance` is not positive or `every` no positive integer; when training
            begins, if `data` names a layer that the model has not, or does not fit a layer, or
            the inputs of a layer cannot be found from the model's inputs.

    Example:
        >>> import numpy as np, keras, keras_local as kl
        >>> encoder = keras.Sequential([
        ...     keras.Input((4,)),
        ...     kl.layers.HebbianDense(3, name="hebbian"),
        ... ])
        >>> monitor = kl.callbacks.ConvergenceMonitor()
        >>> monitor.set_model(encoder)
        >>> monitor.on_train_begin()
        >>> sorted(monitor.initial)
        ['converged/hebbian', 'mean_norm/hebbian']
    """

    initial: dict[str, float]
    """The values before training."""

    def __init__(
        self,
        data: Any = None,
        tolerance: float = 0.1,
        every: int = 1,
    ) -> None:
        super().__init__()
        self.data = data
        self.tolerance = _validation.real("tolerance", tolerance, minimum=0.0, exclusive=True)
        self.every = _validation.positive_integer("every", every)
        self.initial = {}
        self._latest: dict[str, float] = {}
        self._watched: dict[str, Any] | None = None  # None: not looked for yet
        self._inputs: dict[str, Callable[[], Any]] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Find the layers and measure them before training."""
        if self.data is not None and not isinstance(self.data, Mapping):
            _validation.require(
                isinstance(self.model, keras.Sequential) or has_graph(self.model),
                "data",
                "a mapping from layer names to what the layers receive, because the model "
                f"{self.model.name!r} is neither Sequential nor functional",
                f"data of type {type(self.data).__name__}",
            )
        self._watched = self._find_layers() if self.model.built else None
        self.initial = self._measure()
        self._latest = dict(self.initial)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the values into `logs`."""
        if self._watched is None:
            self._watched = self._find_layers()
            self._latest = self._measure()
        elif (epoch + 1) % self.every == 0:
            self._latest = self._measure()
        if logs is not None:
            logs.update(self._latest)

    def _find_layers(self) -> dict[str, Any]:
        known = {
            name: layer
            for name, layer in _named_layers(self.model).items()
            if getattr(getattr(layer, "plasticity", None), "norm_exponent", None) is not None
        }
        # A layer that learns in the place of another one holds the weights that change.
        replaced = {id(part) for layer in known.values() for part in parts(layer)}
        found = {
            name: layer
            for name, layer in known.items()
            if id(layer) not in replaced and getattr(layer, "kernel", None) is not None
        }
        if not found:
            _warn_of_silence(
                "ConvergenceMonitor",
                f"no layer of the model {self.model.name!r} has a kernel and a plasticity rule "
                "with an exponent `p`",
            )
        self._inputs = {}
        if isinstance(self.data, Mapping):
            _validation.require(
                set(self.data) <= set(found),
                "data",
                f"a mapping from names of Hebbian layers: {list(found)}",
                list(self.data),
            )
            self._inputs = {name: partial(_identity, x) for name, x in self.data.items()}
        elif self.data is not None:
            self._inputs = {
                name: self._reach(layer)
                for name, layer in found.items()
                if len(layer.kernel.shape) == 2  # of convolutions the norms only
            }
        return found

    def _reach(self, layer: Any) -> Callable[[], np.ndarray]:
        """Return a function that brings `data` to the layer."""
        path = _path_to(self.model, layer)
        if path is None:
            raise ValueError(
                "`data` must be a mapping from layer names to what the layers receive, because "
                f"those of the layer {layer.name!r} do not follow from an input of the model "
                f"{self.model.name!r} alone. Received: data of type {type(self.data).__name__}"
            )
        data = np.asarray(self.data)
        # Batch by batch and without `predict`, which a distribution strategy refuses here.
        return lambda: np.concatenate(
            [
                keras.ops.convert_to_numpy(path(data[start : start + _BATCH]))
                for start in range(0, len(data), _BATCH)
            ]
        )

    def _measure(self) -> dict[str, float]:
        values = {}
        for name, layer in (self._watched or {}).items():
            inputs = self._inputs[name]() if name in self._inputs else None
            report = convergence_report(layer, inputs, self.tolerance)
            values.update({f"{measure}/{name}": value for measure, value in report.items()})
        return values


class TensorBoardFigures(keras.callbacks.Callback):
    """Draw figures while training goes on and write them for TensorBoard.

    Each figure is drawn before the first step and at the end of epochs, and stands among the images
    of the run `figures`. The epochs of a second training, as those of the next layer in
    `models.pretrain`, follow upon those of the first.

    Args:
        log_dir: Folder of the logs, as for `keras.callbacks.TensorBoard`; the images go to its
            subfolder `figures`, beside `train` and `validation`.
        figures: Mapping from the name of an image to a function without arguments that draws it: it
            returns a `matplotlib.figure.Figure`, as all of `keras_local.plots` do.
        every: Draw after every so many epochs, and after the last.
        dpi: Pixels an inch.

    Raises:
        ValueError: If `figures` is empty or no such mapping, or a number is out of its range; when
            training begins, if a function returns something else.
        ImportError: When training begins, if TensorFlow, which writes the files, is missing.

    ```python
    hidden = kl.layers.HebbianDense(100)
    encoder = keras.Sequential([keras.Input((784,)), hidden])
    board = kl.callbacks.TensorBoardFigures(
        "logs",
        {
            "receptive fields": lambda: kl.plots.receptive_fields(hidden),
            "norms": lambda: kl.plots.norm_histogram(hidden),
            "wins": lambda: kl.plots.win_counts(hidden, images[:1000]),
        },
    )
    kl.models.pretrain(encoder, images, callbacks=[board])
    ```
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        figures: Mapping[str, Callable[[], Any]],
        every: int = 1,
        dpi: int = 100,
    ) -> None:
        super().__init__()
        fits = isinstance(figures, Mapping) and bool(figures)
        _validation.require(
            fits and all(callable(draw) for draw in figures.values()),
            "figures",
            "a mapping of at least one name to a function that returns a figure",
            figures,
        )
        self.folder = os.path.join(os.fspath(log_dir), "figures")
        self.figures = dict(figures)
        self.every = _validation.positive_integer("every", every)
        self.dpi = _validation.positive_integer("dpi", dpi)
        self._next = 0  # the first step of this training
        self._step = -1  # the last step that was seen
        self._drawn = -1
        self._write: Callable[..., None] | None = None
        self._close: Callable[[], None] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Open the file and draw the state before training."""
        try:
            from keras_local.ops._tensorflow import image_writer
        except ImportError as error:
            raise ImportError(
                "Logs for TensorBoard are written by TensorFlow: "
                "pip install 'keras-local[tensorflow]'"
            ) from error
        pictures = self._pictures()
        self._write, self._close = image_writer(self.folder)
        self._next = self._step = self._step + 1
        self._put(pictures)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Draw the figures if it is their turn."""
        self._step = self._next + epoch + 1
        if (epoch + 1) % self.every == 0:
            self._put(self._pictures())

    def on_train_end(self, logs: Any = None) -> None:
        """Draw the figures of the last epoch if they are not there, and close the file."""
        if self._drawn != self._step:
            self._put(self._pictures())
        if self._close is not None:
            self._close()
        self._write = self._close = None

    def _put(self, pictures: dict[str, tuple[bytes, int, int]]) -> None:
        if self._write is not None:
            for name, (png, width, height) in pictures.items():
                self._write(name, png, width, height, self._step)
            self._drawn = self._step

    def _pictures(self) -> dict[str, tuple[bytes, int, int]]:
        pictures = {}
        for name, draw in self.figures.items():
            figure = draw()
            _validation.require(
                hasattr(figure, "savefig"),
                "figures",
                f"functions that return a matplotlib figure, {name!r} too",
                type(figure).__name__,
            )
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=self.dpi)
            png = file.getvalue()
            # The header of a PNG: its size stands in bytes 16 to 24.
            width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
            pictures[name] = (png, width, height)
        return pictures


def _warn_of_silence(monitor: str, reason: str) -> None:
    warnings.warn(f"{monitor} has nothing to report: {reason}.", stacklevel=2)


def _batch(data: Any) -> tuple[Any, Any]:
    """Return inputs and labels as arrays, in the precision in which `fit` hands them on."""
    pair = isinstance(data, list | tuple) and len(data) == 2
    allowed = "a pair (inputs, labels)"
    _validation.require(pair, "data", allowed, f"data of type {type(data).__name__}")
    arrays = keras.tree.map_structure(_array, tuple(data))
    sizes = {np.shape(array)[:1] for array in keras.tree.flatten(arrays)}
    _validation.require(
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


def _names(argument: str, names: Any) -> list[str]:
    several = isinstance(names, Iterable) and not isinstance(names, str)
    listed = list(names) if several else [names]
    valid = several and all(isinstance(name, str) for name in listed)
    _validation.require(valid, argument, "a sequence of names", listed if several else names)
    return listed


def _named_layers(model: Any) -> dict[str, Any]:
    """Return all layers, nested ones too, by name; by path where a name occurs twice."""
    found: dict[int, tuple[str, Any]] = {}

    def walk(parent: Any, path: str) -> None:
        for layer in parts(parent):
            if id(layer) not in found:
                found[id(layer)] = (f"{path}{layer.name}", layer)
                walk(layer, f"{path}{layer.name}/")

    walk(model, "")
    uses = Counter(layer.name for _, layer in found.values())
    return {layer.name if uses[layer.name] == 1 else path: layer for path, layer in found.values()}


def _path_to(graph: Any, layer: Any) -> Callable[[Any], Any] | None:
    """Return a function from a batch of the graph's inputs to the inputs of `layer` in it."""
    if not has_graph(graph) or len(graph.inputs) != 1:
        return None
    for operation, inputs, _ in calls_of(graph):
        if len(inputs) != 1:
            continue
        if operation is layer:
            within: Callable[[Any], Any] | None = _identity
        else:
            within = _path_to(operation, layer)
        if within is None:
            continue
        if inputs[0] is graph.inputs[0]:
            return within
        below = keras.Model(graph.inputs[0], inputs[0])
        return partial(_in_sequence, partial(below, training=False), within)
    return None


def _in_sequence(first: Callable[[Any], Any], then: Callable[[Any], Any], batch: Any) -> Any:
    return then(first(batch))


def _identity(batch: Any) -> Any:
    return batch
