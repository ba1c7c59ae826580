"""A callback that logs how many competing units have converged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_local import _validation as check
from keras_local.callbacks._layers import identity, layers_by_name, path_to, warn_of_silence
from keras_local.layers.graph_walks import has_graph, parts
from keras_local.layers.plain_form import norm_exponent
from keras_local.metrics import convergence_report

_BATCH = 1024


class ConvergenceMonitor(keras.callbacks.Callback):
    """Callback that logs how many units of Hebbian layers have converged, have won or are dead.

    At the end of each epoch it adds to `logs`, for each layer whose plasticity rule has a
    `norm_exponent` (`p` below),

    - `mean_norm/<layer>`: mean over units of `sum_i |W_i|^p`, which approaches 1 from above,
    - `converged/<layer>`: fraction of units with `|sum_i |W_i|^p - 1| < tolerance`,

    and with `data`

    - `won/<layer>`: fraction of units with the largest current for at least one sample,
    - `dead/<layer>`: fraction of units without any win,

    as in `keras_local.metrics.convergence_report`. `initial` contains the same values before the
    first step of training. It stays empty for a model without an input shape, which TensorFlow
    builds in the first step.

    Args:
        data: Samples for `won` and `dead`: an array of the model's inputs, for `Sequential` and
            functional models with one input, or a mapping of layer names to arrays of the inputs of
            those layers. A few thousand are enough; they pass through the model at each
            measurement.
        tolerance: How far from 1 the sum may be for a unit to count as converged.
        every: Measure after each `every` epochs. Between measurements the last values are repeated.

    Raises:
        ValueError: If `tolerance` is not positive or `every` is not a positive integer. When
            training begins, if `data` names a layer that the model does not have, or does not fit a
            layer, or the inputs of a layer cannot be computed from the model's inputs.

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
        samples = data is None or isinstance(data, Mapping) or hasattr(data, "__len__")
        allowed = "None, an array of samples, or a mapping from names of layers to arrays"
        check.require(samples and not isinstance(data, (str, bytes)), "data", allowed, data)
        self.data = data
        self.tolerance = check.real("tolerance", tolerance, minimum=0.0, exclusive=True)
        self.every = check.positive_integer("every", every)
        self.initial = {}
        self._latest: dict[str, float] = {}
        self._watched: dict[str, Any] | None = None  # None: the layers have not been looked for yet
        self._inputs: dict[str, Callable[[], Any]] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Find the layers, and measure them before the first step."""
        if self.data is not None and not isinstance(self.data, Mapping):
            check.require(
                isinstance(self.model, keras.Sequential) or has_graph(self.model),
                "data",
                "a mapping from layer names to the inputs of the layers, because the model "
                f"{self.model.name!r} is neither Sequential nor functional",
                f"data of type {type(self.data).__name__}",
            )
        self._watched = self._find_layers() if self.model.built else None
        self.initial = self._measure()
        self._latest = dict(self.initial)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, and add the values to `logs`."""
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
            for name, layer in layers_by_name(self.model).items()
            if norm_exponent(layer) is not None
        }
        # If a layer learns in place of another layer, it holds the weights that change.
        replaced = {id(part) for layer in known.values() for part in parts(layer)}
        found = {
            name: layer
            for name, layer in known.items()
            if id(layer) not in replaced and getattr(layer, "kernel", None) is not None
        }
        if not found:
            warn_of_silence(
                "ConvergenceMonitor",
                f"no layer of the model {self.model.name!r} has a kernel and a plasticity rule "
                "with a `norm_exponent`",
            )
        self._inputs = {}
        if isinstance(self.data, Mapping):
            check.require(
                set(self.data) <= set(found),
                "data",
                f"a mapping from names of Hebbian layers: {list(found)}",
                list(self.data),
            )
            self._inputs = {name: partial(identity, x) for name, x in self.data.items()}
        elif self.data is not None:
            self._inputs = {
                name: self._reach(layer)
                for name, layer in found.items()
                if len(layer.kernel.shape) == 2  # for convolutions only the norms
            }
        return found

    def _reach(self, layer: Any) -> Callable[[], np.ndarray]:
        """Return a function that computes the inputs of the layer from `data`."""
        path = path_to(self.model, layer)
        if path is None:
            raise ValueError(
                "`data` must be a mapping from layer names to the inputs of the layers, because "
                f"those of the layer {layer.name!r} cannot be computed from one input of the model "
                f"{self.model.name!r}. Received: data of type {type(self.data).__name__}"
            )
        data = np.asarray(self.data)
        # Computed batch by batch without `predict`, which a distribution strategy refuses here.
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
