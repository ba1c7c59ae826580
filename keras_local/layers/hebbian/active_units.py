"""A dense layer for pretraining that computes only the weights of the units that learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local.layers.feedback.layer import Shape
from keras_local.layers.hebbian.alarm import DivergenceAlarm
from keras_local.layers.own_losses import OwnLosses
from keras_local.ops import abilities, surrogate_loss
from keras_local.ops.backend import Tensor, backend
from keras_local.plasticity import PlasticityRule


class ActiveUnitsDense(OwnLosses, keras.layers.Layer):
    """A layer with the steps of `HebbianDense` that touches only the units that learn.

    If few units learn from each sample (`plasticity.active`), the rest of the kernel does not
    change. The kernel is stored with one row for each unit, so that the weights of a unit are
    contiguous, and only the rows that learn are read, changed and written. The rule's own method
    `PlasticityRule.unit_change` computes the change of a unit.

    If the weights of the currents, `metric(W)`, differ from `W`, they are stored, too, and only the
    rows that the last step changed are computed again. Therefore only the optimizer may write `W`
    here, and this layer is private to pretraining.

    Args:
        initial: The initial kernel, an array of shape `(inputs, units)`.
        plasticity: A rule with `trains_active_units`.
        batch_size: Samples in every training batch.
        divergence: Function that returns the message for changes that are not finite.
        **kwargs: `name`, `dtype`.
    """

    def __init__(
        self,
        initial: np.ndarray,
        plasticity: PlasticityRule,
        batch_size: int,
        divergence: Callable[[], str] = lambda: "Learning diverged.",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.divergence = divergence
        check.require(
            plasticity.trains_active_units,
            "plasticity",
            "a rule that trains active units only",
            plasticity,
        )
        self.initial = initial
        self.plasticity = plasticity
        self.batch_size = batch_size
        # Sorting under XLA is slow, as in `HebbianDense`.
        self.supports_jit = abilities.SORTS_FAST_COMPILED

    def build(self, input_shape: Shape) -> None:
        """Copy the initial kernel, with one row for each unit."""
        weights = np.ascontiguousarray(self.initial.T)
        self.rows = self.add_weight(
            name="rows",
            shape=weights.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(weights, dtype=dtype),
            dtype=weights.dtype.name,
            autocast=False,
        )
        if not self.plasticity.metric_is_identity:
            self.metric = self.add_weight(
                name="metric",
                shape=self.rows.shape,
                initializer=lambda shape, dtype=None: self.plasticity.metric(
                    ops.convert_to_tensor(weights, dtype=dtype)
                ),
                dtype=weights.dtype.name,
                autocast=False,
                trainable=False,
            )
            self.touched = self.add_weight(
                name="touched",
                shape=(self.batch_size * int(self.plasticity.active or 0),),
                initializer="zeros",
                dtype="int32",
                trainable=False,
            )
        self.alarm = DivergenceAlarm(self.divergence)
        self.built = True

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Return the currents of the rule; in training, add its surrogate loss."""
        pre = ops.cast(ops.stop_gradient(inputs), self.rows.dtype)
        if not training:
            return self._currents(pre, self.plasticity.metric(ops.convert_to_tensor(self.rows)))
        if self.plasticity.metric_is_identity:
            post = self._currents(pre, backend.read_in_place(self.rows))
        else:
            touched = ops.convert_to_tensor(self.touched)
            rows = backend.take_rows(self.rows.value, touched)
            backend.write_rows(self.metric, touched, self.plasticity.metric(rows))
            post = self._currents(pre, backend.read_in_place(self.metric))
        self.add_loss(self._plasticity_loss(pre, ops.stop_gradient(post)))
        return post

    @staticmethod
    def _currents(pre: Tensor, metric: Tensor) -> Tensor:
        return backend.matmul(pre, metric, transpose_b=True)

    def _plasticity_loss(self, pre: Tensor, post: Tensor) -> Tensor:
        rule = self.plasticity
        active = rule.active_units(post)
        touched = ops.reshape(active.units, (-1,))
        if not rule.metric_is_identity:
            self.touched.assign(touched)
        # A unit that several samples change has one row: the sum of their changes.
        units, places = backend.distinct(touched)
        gains = ops.reshape(active.gains, (-1,))
        samples = ops.arange(ops.shape(touched)[0]) // rule.active
        shape = (ops.shape(pre)[0], ops.shape(units)[0])
        gain = backend.matrix_of_few(ops.stack([samples, places], axis=-1), gains, shape)
        decays = rule.decays(gains, ops.reshape(active.currents, (-1,)))
        decay = None if decays is None else ops.segment_sum(decays, places, shape[1])[:, None]
        weights = backend.take_rows(self.rows.value, units)
        change = rule.unit_change(backend.matmul(gain, pre, transpose_a=True), weights, decay)
        change = rule.normaliser(rule.reduction(change, shape[0]), unit_axis=0)
        change = rule.rate.scale(change, weights, unit_axis=0)
        (change,), alarm = self.alarm.let_through([ops.stop_gradient(change)])
        # Only these rows were read, so that their gradient and the optimizer touch no others.
        return surrogate_loss(weights, change) + alarm

    @property
    def kernel(self) -> Tensor:
        """The weights in the shape that Keras uses, `(inputs, units)`."""
        return ops.transpose(ops.convert_to_tensor(self.rows))

    def begin_with(self, kernel: Tensor) -> None:
        """Go on with other weights, in the orientation of Keras."""
        self.rows.assign(ops.transpose(ops.convert_to_tensor(kernel)))
        if not self.plasticity.metric_is_identity:
            self.metric.assign(self.plasticity.metric(ops.convert_to_tensor(self.rows)))
            self.touched.assign(ops.zeros_like(self.touched))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `(batch, units)`."""
        return (*input_shape[:-1], self.initial.shape[1])
