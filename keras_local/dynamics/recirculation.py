"""Recirculation: an autoencoder that learns from two passes through a loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import keras
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._data_gate import Gate
from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike
from keras_local.dynamics._arguments import initializer
from keras_local.dynamics._neurons import NEURONS
from keras_local.dynamics.network import Changes, Network
from keras_local.dynamics.synapses import Synapses, correlate, total
from keras_local.layers.learning_form import LearningForm
from keras_local.ops import read
from keras_local.ops.backend import Tensor

States = tuple[Tensor, Tensor]
ACTIVATIONS = ("sigmoid", "linear")


@serializable
class RecirculationAutoencoder(Network):
    """Autoencoder that learns by recirculation, without labels.

    Activity passes twice through the loop of visible and hidden units. The second pass starts from
    a mean of the sample and its reconstruction, so that the activity changes only a little:

        h1 = s(v0 W + b),    r = s(h1 V^T + c)
        v2 = m v0 + (1 - m) r,    h3 = m h1 + (1 - m) s(v2 W + b)
        dV = < (v0 - v2) h1 >,    dc = < v0 - v2 >
        dW = < v2 (h1 - h3) >,    db = < h1 - h3 >

    with `m = regression`; biases are weights from a unit that is always on. All kernels are stored
    as `(visible, hidden)`.

    Local: a weight sees its presynaptic activity, and how much its postsynaptic activity changes
    from the first pass to the second; no error is sent.

    `dV` is `1 - m` times the gradient of `1/2 |r - v0|^2` with linear units, and of the
    cross-entropy with sigmoid units. If also `V = W`, `dW / (1 - m)^2` is the gradient as `m` goes
    to 1, with an error of the order `1 - m`.

    A call returns reconstructions. `fit(x)`, `evaluate(x)` and `predict(x)` take samples without
    labels; the loss is half the squared distance of the reconstruction.

    Args:
        visible: Number of inputs, at least 2.
        hidden: Number of units of the code.
        regression: The share `m` of the old activity, at least 0, less than 1.
        activation: `s`: `"sigmoid"`, for inputs from 0 to 1, or `"linear"`.
        tied: Whether `V` is `W`, which then receives the sum of both changes.
        use_bias: Whether there are `b` and `c`.
        kernel_initializer: Initializer of `W`.
        feedback_initializer: Initializer of `V`, if it is not tied.
        targets: None: a sample is its own target.
        name: Name of the network.
        dtype: As for `EquilibriumNetwork`.
        trainable: Whether the network learns; if not, training changes nothing.

    Input and output shape: `(batch, visible)`.

    Raises:
        ValueError: If an argument is out of range or unknown.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.RecirculationAutoencoder(4, 2)
    >>> network.compile(keras.optimizers.SGD(1.0))
    >>> history = network.fit(np.eye(4), verbose=0)
    >>> network.predict(np.eye(4), verbose=0).shape
    (4, 4)
    >>> tuple(network.encode(np.eye(4)).shape)
    (4, 2)

    Source: Hinton & McClelland 1988, "Learning representations by recirculation".
    """

    def __init__(
        self,
        visible: int,
        hidden: int,
        regression: float = 0.75,
        activation: Literal["sigmoid", "linear"] = "sigmoid",
        tied: bool = False,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        feedback_initializer: InitializerLike = "glorot_uniform",
        *,
        targets: None = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        visible = check.positive_integer("visible", visible, minimum=2)
        hidden = check.positive_integer("hidden", hidden)
        sizes = [visible, hidden, visible]
        allowed = (
            "left out: a sample of RecirculationAutoencoder is its own target. Inputs from 0 to 1 "
            'suit activation="sigmoid", real ones activation="linear"'
        )
        check.require(targets is None, "targets", allowed, targets)
        super().__init__(sizes, name=name, dtype=dtype, trainable=trainable)
        self.visible = visible
        self.hidden = hidden
        self.regression = check.real("regression", regression, minimum=0.0)
        allowed = "less than 1: otherwise nothing changes"
        check.require(self.regression < 1.0, "regression", allowed, regression)
        self.activation = check.one_of("activation", activation, ACTIVATIONS)
        self.tied = check.flag("tied", tied)
        self.use_bias = check.flag("use_bias", use_bias)
        self.kernel_initializer = initializer("kernel_initializer", kernel_initializer)
        self.feedback_initializer = initializer("feedback_initializer", feedback_initializer)
        self.synapses = Synapses(
            hidden,
            use_bias=self.use_bias,
            tied=self.tied,
            kernel_initializer=self.kernel_initializer,
            feedback_initializer=self.feedback_initializer,
            dtype=self.working_dtype,
            name="synapses",
        )
        self.build((None, visible))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        if self.synapses.built:
            return
        self.synapses.build((None, self.visible))
        self.visible_bias: keras.Variable | None = None
        if self.use_bias:
            self.visible_bias = self.add_weight(
                name="visible_bias",
                shape=(self.visible,),
                initializer="zeros",
                dtype=self.working_dtype,
                autocast=False,
            )
        self.built = True

    def default_optimizer(self) -> Any:
        """Return SGD of the rate `2.5 / (1 - regression)`, and a hundredth with linear units."""
        rate = 2.5 if self.activation == "sigmoid" else 0.025
        return keras.optimizers.SGD(rate / (1.0 - self.regression))

    def encode(self, inputs: Any) -> Tensor:
        """Return the code `(batch, hidden)` of samples.

        Raises:
            ValueError: If the number of entries of a sample is not that of the visible units.
        """
        inputs = self._prepared(inputs)
        shape = tuple(inputs.shape)
        allowed = f"of shape (samples, {self.visible})"
        check.require(shape[1:] == (self.visible,), "inputs", allowed, f"shape {shape}")
        return self._rate(self.synapses.read().forward(inputs))

    def decode(self, codes: Any) -> Tensor:
        """Return the reconstruction `(batch, visible)` from codes.

        Raises:
            ValueError: If the number of entries of a code is not that of the hidden units.
        """
        codes = self._prepared(codes)
        shape = tuple(codes.shape)
        allowed = f"of shape (samples, {self.hidden})"
        check.require(shape[1:] == (self.hidden,), "codes", allowed, f"shape {shape}")
        field = self.synapses.read().backward(codes)
        if self.visible_bias is not None:
            field = field + ops.stop_gradient(read(self.visible_bias))
        return self._rate(field)

    def free_phase(self, inputs: Tensor) -> States:
        """Return the code and the reconstruction."""
        code = self.encode(inputs)
        return code, self.decode(code)

    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the reconstruction."""
        return states[1]

    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Send activity through the loop again, and return the changes from the differences."""
        code, reconstruction = states
        kept, fresh = self.regression, 1.0 - self.regression
        again = kept * inputs + fresh * reconstruction
        recoded = kept * code + fresh * self.encode(again)
        decoder = correlate(inputs - again, code, share)
        encoder = correlate(again, code - recoded, share)
        synapses = self.synapses
        if synapses.feedback_kernel is None:
            found: list[tuple[Any, Tensor]] = [(synapses.kernel, encoder + decoder)]
        else:
            found = [(synapses.kernel, encoder), (synapses.feedback_kernel, decoder)]
        if self.visible_bias is not None:
            found.append((synapses.bias, total(code - recoded, share)))
            found.append((self.visible_bias, total(inputs - again, share)))
        return found

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Return the loss of the reconstruction; in training its gradient is that of the rule."""
        self._refuse("y", y)
        return super().compute_loss(x, x, y_pred, sample_weight, training)

    def learning_form(self) -> LearningForm:
        """Return a step of learning as functions: it has no labels."""
        return replace(super().learning_form(), targets=())

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the metrics, which compare reconstructions with samples."""
        return super().compute_metrics(x, x, y_pred, sample_weight)

    def check_arguments(
        self,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        validation_data: Any = None,
    ) -> None:
        """Refuse labels and sample weights, which Keras would ignore without notice."""
        self._refuse("y", y)
        self._refuse("sample_weight", sample_weight)
        self._refuse("class_weight", class_weight)
        if isinstance(validation_data, (tuple, list)):
            allowed = "`(x,)`: samples are their own targets, and have no weights"
            alone = all(each is None for each in validation_data[1:])
            check.require(alone, "validation_data", allowed, "labels or weights of samples")

    @property
    def gate(self) -> Gate:
        """The samples that the network accepts."""
        return Gate(self.sample_shape, None, self.working_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        del config["sizes"]
        return {
            **config,
            "visible": self.visible,
            "hidden": self.hidden,
            "regression": self.regression,
            "activation": self.activation,
            "tied": self.tied,
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "feedback_initializer": initializers.serialize(self.feedback_initializer),
        }

    def _rate(self, field: Tensor) -> Tensor:
        return NEURONS[self.activation].rate(field)

    def _targets(self, labels: Any) -> Tensor:
        return self._prepared(labels)

    def _refuse(self, argument: str, value: Any) -> None:
        allowed = "left out: samples are their own targets"
        check.require(value is None, argument, allowed, type(value).__name__)
