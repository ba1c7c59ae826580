"""A layer that turns spikes into postsynaptic potentials."""

from __future__ import annotations

from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from keras_local import _keras_objects as objects
from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import DType, LayerArguments
from keras_local.layers.feedback.layer import Shape
from keras_local.layers.plain_form import PlainForm, twin_config
from keras_local.ops.backend import Tensor


@serializable
class SynapticTraces(keras.layers.Layer):
    """Postsynaptic potentials of spike trains, as differences of two exponentials.

        psi_i(t) = sum_{t'} c (exp(-(t - t') / tau_decay) - exp(-(t - t') / tau_rise))

    The sum runs over the spikes at times `t' <= t`. The constant `c` is chosen so that the
    potential of one spike rises to 1 in continuous time. With `tau_rise=None` the potential of a
    spike is `exp(-(t - t') / tau_decay)`, which is largest at the spike.

    With `HebbianDense(plasticity="convallis")` on top, where each point in time is a sample, this
    is a spiking form of `plasticity.Convallis`: `V(t) = sum_i w_i psi_i(t)`, and a weight
    accumulates `F'(V) psi_i` over the whole sequence. There is no reset after a spike of the unit.
    It is inspired by the Convallis rule and does not reproduce it.

    Args:
        tau_decay: Time constant of the decay in steps, positive.
        tau_rise: Time constant of the rise in steps, positive and less than `tau_decay`; or None.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy.
        trainable: Without effect: the layer has no weights.
        **kwargs: The other arguments of every Keras layer.

    Input and output shape: `(batch, time, inputs)`. The number of steps must be known.

    Raises:
        ValueError: For a time constant out of range, or inputs of another rank.

    >>> import numpy as np, keras_local as kl
    >>> spikes = np.array([[[0.0], [1.0], [0.0], [1.0]]], "float32")
    >>> traces = kl.layers.SynapticTraces(tau_decay=1.0 / np.log(2.0))(spikes)
    >>> np.asarray(traces)[0, :, 0].round(3).tolist()
    [0.0, 1.0, 0.5, 1.25]
    """

    def __init__(
        self,
        tau_decay: float = 10.0,
        tau_rise: float | None = None,
        *,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        tau_decay = check.real("tau_decay", tau_decay, minimum=0.0, exclusive=True)
        if tau_rise is not None:
            tau_rise = check.real("tau_rise", tau_rise, minimum=0.0, exclusive=True)
            allowed = f"less than tau_decay={tau_decay:g}"
            check.require(tau_rise < tau_decay, "tau_rise", allowed, tau_rise)
        policy = objects.dtype_policy("dtype", dtype)
        trainable = check.flag("trainable", trainable)
        super().__init__(name=name, dtype=policy, trainable=trainable, **kwargs)
        self.tau_decay = tau_decay
        self.tau_rise = tau_rise
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        """Store the number of steps."""
        steps = input_shape[1]
        if steps is None:
            raise ValueError(
                "The time axis of the inputs to `SynapticTraces` must be defined. "
                f"Received: input_shape={input_shape}"
            )
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={1: steps})
        self._inputs = input_shape[-1]
        self.built = True

    def _response(self, steps: int) -> np.ndarray:
        """Return the effect of a spike at each time on each later time, `(later, earlier)`."""
        times = np.arange(steps)
        since = times[:, None] - times[None, :]
        late = np.maximum(since, 0)
        response = np.exp(-late / self.tau_decay)
        if self.tau_rise is not None:
            response = (response - np.exp(-late / self.tau_rise)) / self._largest
        return np.where(since >= 0, response, 0.0)

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the potentials; in steps that `mask` leaves out no time passes."""
        if mask is not None:
            return self._masked(inputs, mask)
        response = ops.convert_to_tensor(self._response(inputs.shape[1]), dtype=self.compute_dtype)
        return ops.matmul(response, inputs)

    def _masked(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the potentials at times that are counted in the steps that there are."""
        present = ops.cast(mask, self.compute_dtype)
        passed = ops.cumsum(present, axis=1)
        since = passed[:, :, None] - passed[:, None, :]
        order = ops.tril(ops.ones((inputs.shape[1],) * 2, self.compute_dtype))
        late = ops.maximum(since, 0.0)
        response = ops.exp(-late / self.tau_decay)
        if self.tau_rise is not None:
            response = (response - ops.exp(-late / self.tau_rise)) / self._largest
        response = response * order * present[:, None, :]
        seen = ops.where(present[:, :, None] > 0, inputs, ops.zeros_like(inputs))
        return ops.matmul(response, seen)

    @property
    def _largest(self) -> float:
        """The largest value of the difference of the two exponentials."""
        decay, rise = self.tau_decay, float(self.tau_rise or 0.0)
        peak = decay * rise / (decay - rise) * np.log(decay / rise)
        return float(np.exp(-peak / decay) - np.exp(-peak / rise))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the inputs."""
        return tuple(input_shape)

    def plain_form(self) -> PlainForm:
        """Return a `keras.layers.EinsumDense` over time that is not trained."""
        steps = self.input_spec.axes[1]
        config = {
            **twin_config(self.get_config(), keras.layers.EinsumDense),
            "equation": "bsi,st->bti",
            "output_shape": (steps, self._inputs),
            "kernel_initializer": "zeros",
            "trainable": False,
        }
        return PlainForm(keras.layers.EinsumDense, config, [self._response(steps).T])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        return {**config, "tau_decay": self.tau_decay, "tau_rise": self.tau_rise}
