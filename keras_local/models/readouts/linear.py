"""The linear readout of a pretrained encoder."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.losses import PowerLoss
from keras_local.models.readouts.frozen_features import (
    check_labelled,
    encode,
    first_inputs,
    measure_scale,
    steep_features,
)


@serializable
class FeatureScale(keras.layers.Layer):
    """Multiply each feature by a constant: `1 / RMS` for the features used, 0 for the others.

    Powers of currents are tiny or huge, depending on the data; the scale brings the features that
    the readout uses to a root mean square of 1.

    Input and output shape: `(..., features)`.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the scale, one entry a feature; all 0 means not yet measured."""
        self.scale = self.add_weight(
            name="scale", shape=(input_shape[-1],), initializer="zeros", trainable=False
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return `inputs * scale`, 0 for an unused feature whatever its size."""
        used = ops.not_equal(self.scale, 0.0)
        return ops.where(used, inputs, ops.zeros_like(inputs)) * self.scale

    @property
    def adapted(self) -> bool:
        """Whether the scale has been measured."""
        return bool(ops.any(ops.convert_to_tensor(self.scale) != 0))

    def reset(self) -> None:
        """Forget what was measured."""
        self.scale.assign(ops.zeros_like(self.scale))

    def adapt(self, features: np.ndarray, used: np.ndarray) -> None:
        """Measure the root mean square of the used features."""
        rms = float(np.sqrt(np.mean(np.square(features[:, used], dtype="float64"))))
        check.require(rms > 0.0, "features", "of some used unit other than zero", "zeros only")
        self.scale.assign(np.where(used, 1.0 / rms, 0.0))


@serializable
class Readout(keras.Model):
    """A frozen encoder with a trained layer on its steep features; `readout` makes it.

    `score = S^T (scale * RePU(encoder(x / |x|)))`

    `fit` computes the features of arrays once and trains the last layer on them; those of a
    dataset, or of inputs with entries left out, are computed in every step. That layer is linear,
    or that of `hebbian_readout`.

    Args:
        features: Model from inputs to features; its weights do not change.
        head: Model from features to class scores.
        input_dropout: Share of the entries of each input that are left out while training.
        **kwargs: `name`, `dtype`.
    """

    def __init__(
        self,
        features: keras.Model,
        head: keras.Model,
        input_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.features = features
        self.head = head
        self.features.trainable = False
        self.input_dropout = input_dropout
        # The layer draws a seed: none where it is not needed.
        self.dropout = keras.layers.Dropout(input_dropout) if input_dropout else None
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the class scores of `inputs`, or of `{"features": features}`."""
        if isinstance(inputs, dict):
            features = inputs["features"]
        else:
            if self.dropout is not None:
                inputs = self.dropout(inputs, training=training)
            # Frozen features are those of inference, whatever the phase.
            features = self.features(inputs, training=False)
        return self.head(features, training=training)

    def fit(self, x: Any = None, y: Any = None, **arguments: Any) -> keras.callbacks.History:
        """Train the last layer; arguments as in `keras.Model.fit`.

        The first fit measures the scale of the features on `x`.

        Raises:
            ValueError: For labels out of range, NaN in the data, or shapes that do not fit. The
                weights are then as before.
        """
        classes = self.head.output_shape[-1]
        if hasattr(x, "shape"):
            check_labelled(x, y, self.features, classes)
        validation: Any = arguments.get("validation_data")
        checked = isinstance(validation, (tuple, list)) and hasattr(validation[0], "shape")
        if checked:
            check_labelled(validation[0], validation[1], self.features, classes)
        scale = self.head.layers[0]
        fresh = not scale.adapted
        if fresh:
            measure_scale(scale, self.features, x if hasattr(x, "shape") else first_inputs(x))
        try:
            once = hasattr(x, "shape") and not self.input_dropout
            if once and (checked or validation is None):
                if checked:
                    encoded = {"features": encode(self.features, validation[0])}
                    arguments["validation_data"] = (encoded, *validation[1:])
                x = {"features": encode(self.features, x)}
            return super().fit(x, y, **arguments)
        except ValueError:
            if fresh:
                scale.reset()
            raise

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the compiled loss, or that of a head which learns from labels by itself."""
        scale, scores = self.head.layers
        if not hasattr(scores, "taught_loss"):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        features = x["features"] if isinstance(x, dict) else self.features(x, training=False)
        loss = scores.taught_loss(scale(features), y, sample_weight)
        # As a loss that a layer adds: under `tf.distribute`, the share of a replica.
        return self._aggregate_additional_loss(loss)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "features": keras.saving.serialize_keras_object(self.features),
            "head": keras.saving.serialize_keras_object(self.head),
            "input_dropout": self.input_dropout,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Readout:
        """Restore the model from its config."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("features", "head")
        }
        return cls(**{**config, **parts})


def readout(
    encoder: keras.Model,
    classes: int,
    power: float = 4.5,
    loss: Any = None,
    optimizer: Any = None,
    use_bias: bool = False,
    input_dropout: float = 0.0,
) -> Readout:
    """Put a linear readout on a pretrained encoder, compiled and ready to fit.

    `score = S^T (scale * RePU(encoder(x / |x|)))`, `RePU(u) = max(u, 0)^power`. Inputs are scaled
    to unit norm, so the currents of converged units are bounded whatever the contrast; `scale` is
    `1 / RMS` of the features, measured in the first fit, and 0 for units that never won and still
    have their large initial weights. The encoder is frozen, by setting `encoder.trainable`.

    Args:
        encoder: A built Sequential or functional model with one output of shape
            `(batch, features)`.
        classes: Number of classes, at least 2.
        power: Power of the rectified currents, at least 1.
        loss: A Keras loss on scores that are no probabilities. By default
            `losses.PowerLoss(power=6, beta=0.3)`, that is `sum_c |tanh(0.3 s_c) - t_c|^6`; with
            another `power` for another exponent. Cross-entropy is
            `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`; `losses.SquaredHinge()`
            with the decay of `keras.optimizers.AdamW` is a linear support vector machine.
        optimizer: A Keras optimizer; Adam with step size 1e-3 by default.
        use_bias: Whether the class units have a bias.
        input_dropout: Share of the entries of each input, from 0 to less than 1, that are left out
            while the readout learns, others in each step. It learns longer before it overfits;
            each step costs the features of its inputs.

    Returns:
        A `Readout`, compiled with the metric `accuracy`; labels are integers or one-hot.

    Raises:
        ValueError: For a wrong number, or an encoder that is not built or has another output.

    >>> import keras, numpy as np, keras_local as kl
    >>> rng = np.random.default_rng(0)
    >>> encoder = keras.Sequential([keras.Input((6,)), kl.layers.HebbianDense(4)])
    >>> images, labels = rng.random((64, 6)), rng.integers(0, 3, 64)
    >>> _ = kl.models.pretrain(encoder, images, epochs=30, batch_size=8, step_size=0.1, verbose=0)
    >>> classifier = kl.models.readout(encoder, classes=3)
    >>> _ = classifier.fit(images, labels, verbose=0)
    >>> classifier.predict(images, verbose=0).shape
    (64, 3)

    Source: Krotov & Hopfield 2019, "Unsupervised learning by competing hidden units", PNAS 116.
    """
    classes = check.positive_integer("classes", classes, minimum=2)
    input_dropout = check.real("input_dropout", input_dropout, minimum=0.0)
    check.require(input_dropout < 1.0, "input_dropout", "less than 1", input_dropout)
    features = steep_features(encoder, power)
    head = keras.Sequential(
        [
            keras.Input(features.output_shape[1:]),
            FeatureScale(name="feature_scale"),
            keras.layers.Dense(classes, use_bias=use_bias, name="scores"),
        ],
        name="head",
    )
    model = Readout(features, head, input_dropout, name="readout")
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3) if optimizer is None else optimizer,
        loss=PowerLoss(power=6.0, beta=0.3) if loss is None else loss,
        metrics=["accuracy"],
    )
    return model
