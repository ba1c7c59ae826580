"""A readout that learns the mean of each class, by Hebbian plasticity with a teacher."""

from __future__ import annotations

from typing import Any, Unpack

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._labels import class_targets
from keras_local._serialization import serializable
from keras_local._targets import ClassAccuracy, target_kind
from keras_local._types import DType, LayerArguments, RegularizerLike, Targets
from keras_local.layers.plain_form import ErrorKernel, PlainForm, twin_config
from keras_local.models.readouts.frozen_features import (
    check_encoder,
    resolved_optimizer,
    steep_features,
)
from keras_local.models.readouts.linear import FeatureScale, Readout
from keras_local.models.training_state import flags_kept
from keras_local.ops import assured, replica_count, replica_sums, surrogate_loss
from keras_local.ops.precision import precise

_TINY = 1e-12
_REFUSED = {
    "labels": "its units learn the mean features of one class each, and the largest wins. Use "
    "`readout` or `nearest_neighbours`, or two classes for a binary label",
    "values": "its units learn the mean features of one class each, and the largest wins. Use "
    "`readout` or `nearest_neighbours`",
}


@serializable
class ClassMeans(keras.layers.Layer):
    """Layer with one unit for each class, whose weights learn the mean of the class's inputs.

    The teacher makes the unit of the correct class active, `t_c = 1`, and all others silent.
    Changes and scores are

        dw_c = sum_b t_bc (h_b - w_c) / sum_b t_bc,     score_c = w_c . h / |w_c|

    so that the weights of a class that is not in the batch do not change.

    Local: it uses the input and the weight of a synapse, and whether the postsynaptic unit is
    active. No error is computed.

    Args:
        classes: Number of classes, at least 2.
        name: Name of the layer.
        dtype: Precision, as in every Keras layer. Weights and learning stay in float32 under mixed
            precision.
        trainable: Whether the layer learns.
        activity_regularizer: As in every Keras layer.

    Input shape: `(batch, features)`. Output shape: `(batch, classes)`.

    Raises:
        ValueError: If `classes` is not an integer of at least 2.
    """

    def __init__(
        self,
        classes: int,
        *,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        activity_regularizer: RegularizerLike = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        self.classes = check.positive_integer("classes", classes, minimum=2)
        super().__init__(
            name=name,
            dtype=dtype,
            trainable=trainable,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel `(features, classes)`, which is zero before learning."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.classes),
            initializer="zeros",
            dtype=precise(self.variable_dtype),
            autocast=False,
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return the projections on the class units, 0 for a class that has had no sample."""
        kernel = ops.cast(ops.stop_gradient(self.directions()), self.compute_dtype)
        return ops.matmul(inputs, kernel)

    def directions(self) -> Any:
        """Return the kernel with columns of unit norm."""
        kernel = ops.convert_to_tensor(self.kernel)
        return kernel / ops.maximum(ops.norm(kernel, axis=0), _TINY)

    def taught_loss(self, inputs: Any, labels: Any, sample_weight: Any = None) -> Any:
        """Return a loss whose gradient is `-dw`.

        Its value is the mean over samples of `|h - w_c|^2`, which learning lowers.

        Args:
            inputs: Tensor `(batch, features)`.
            labels: Integers or one-hot rows.
            sample_weight: None, or how much each sample counts, with shape `(batch,)`.
        """
        dtype = keras.backend.standardize_dtype(self.kernel.dtype)
        inputs = ops.cast(ops.stop_gradient(inputs), dtype)
        kernel = ops.stop_gradient(ops.convert_to_tensor(self.kernel))
        teacher, valid = class_targets("y", labels, self.classes, dtype)
        message = f"`y` must be integers from 0 to {self.classes - 1}, or one-hot rows"
        teacher = assured(teacher, ops.all(valid), message)
        distance = ops.mean(
            ops.sum(ops.square(inputs - ops.matmul(teacher, ops.transpose(kernel))), axis=-1)
        )
        if sample_weight is not None:
            teacher = teacher * ops.reshape(ops.cast(sample_weight, dtype), (-1, 1))
        # The mean over the batch of all replicas is computed from their sums.
        own = ops.matmul(ops.transpose(inputs), teacher)
        total, count = replica_sums(own, ops.sum(teacher, axis=0))
        seen = count > 0.0
        change = ops.where(seen, total / ops.where(seen, count, 1.0) - kernel, 0.0)
        return surrogate_loss(self.kernel, change / replica_count()) + ops.stop_gradient(distance)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `(batch, classes)`."""
        return (*input_shape[:-1], self.classes)

    def error_kernels(self) -> list[ErrorKernel]:
        """Return none: the kernel learns from a teacher, without errors."""
        return []

    def plain_form(self) -> PlainForm:
        """Return a `keras.layers.Dense` without bias, with columns of unit norm."""
        config = {**twin_config(self.get_config(), keras.layers.Dense), "use_bias": False}
        config["units"] = self.classes
        return PlainForm(keras.layers.Dense, config, [ops.convert_to_numpy(self.directions())])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "classes": self.classes}


def hebbian_readout(
    encoder: keras.Model,
    classes: int,
    power: float = 4.5,
    optimizer: Any = None,
    *,
    targets: Targets = "classes",
) -> Readout:
    """Return a readout by class means on a pretrained encoder, compiled and ready to fit.

    `score_c = w_c . h / |w_c|`, where `h` are the features of `readout`. A teacher activates the
    unit of the correct class, whose weights move towards the mean of the features of that class:
    `dw_c = mean over the samples of class c in the batch of (h - w_c)`.

    The default optimizer has the step size `1 / (1 + step)`: the weights are the mean over all
    batches so far, and one epoch is enough. Other step sizes forget: with a constant step size `r`,
    about the last `1 / r` batches count.

    Args:
        encoder: A built Sequential or functional model with one output of shape
            `(batch, features)`.
        classes: Number of classes, at least 2.
        power: Power of the rectified currents, at least 1.
        optimizer: A Keras optimizer; plain SGD with the step size above by default.
        targets: `"classes"`; a mean of features is that of one class, and the rule cannot learn
            others.

    Returns:
        A `Readout`, compiled with the metric `accuracy`; labels are integers or one-hot. The loss
        in its logs is the mean of `|h - w_c|^2`, which learning lowers.

    Raises:
        ValueError: For a wrong number, other `targets`, or an encoder that is not built or has
            another output.

    >>> import keras, numpy as np, keras_local as kl
    >>> encoder = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
    >>> classifier = kl.models.hebbian_readout(encoder, classes=2, power=1)
    >>> images, labels = np.array([[1.0, 0.1], [0.9, 0.0], [0.0, 2.0]]), np.array([0, 0, 1])
    >>> _ = classifier.fit(images, labels, verbose=0)
    >>> classifier.predict(images, verbose=0).argmax(axis=1).tolist()
    [0, 0, 1]

    Source: the supervised last layer of Lagani et al.'s Hebbian networks (the authors' code,
    GabrieleLagani/HebbianPCA).
    """
    target_kind(targets, "hebbian_readout", _REFUSED)
    classes = check.positive_integer("classes", classes, minimum=2)
    decaying = keras.optimizers.schedules.InverseTimeDecay(1.0, 1, 1.0)
    optimizer = resolved_optimizer(optimizer, keras.optimizers.SGD, decaying)
    check_encoder(encoder)
    with flags_kept(encoder, on_error_only=True):
        features = steep_features(encoder, power)
        head = keras.Sequential(
            [
                keras.Input(features.output_shape[1:]),
                FeatureScale(name="feature_scale"),
                ClassMeans(classes, name="scores"),
            ],
            name="head",
        )
        model = Readout(features, head, name="hebbian_readout")
        model.compile(optimizer=optimizer, metrics=[ClassAccuracy()])
    return model
