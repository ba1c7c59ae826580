"""The linear readout of a pretrained encoder."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.activations import RePU
from keras_local.losses import PowerLoss

_FEATURE_BATCH = 1000
_SAMPLES_FOR_SCALE = 10_000
_USED_BELOW = 1.2


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
    """A frozen encoder with a trained linear layer on its steep features; `readout` makes it.

    `score = S^T (scale * RePU(encoder(x / |x|)))`

    `fit` computes the features of arrays once and trains the linear layer on them; those of a
    dataset are computed in every step.

    Args:
        features: Model from inputs to features; its weights do not change.
        head: Model from features to class scores.
        **kwargs: `name`, `dtype`.
    """

    def __init__(self, features: keras.Model, head: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = features
        self.head = head
        self.features.trainable = False
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the class scores of `inputs`, or of `{"features": features}`."""
        if isinstance(inputs, dict):
            features = inputs["features"]
        else:
            # Frozen features are those of inference, whatever the phase.
            features = self.features(inputs, training=False)
        return self.head(features, training=training)

    def fit(self, x: Any = None, y: Any = None, **arguments: Any) -> keras.callbacks.History:
        """Train the linear layer; arguments as in `keras.Model.fit`.

        The first fit measures the scale of the features on `x`.

        Raises:
            ValueError: For labels out of range, NaN in the data, or shapes that do not fit. The
                weights are then as before.
        """
        if hasattr(x, "shape"):
            self._check(x, y)
        validation: Any = arguments.get("validation_data")
        checked = isinstance(validation, (tuple, list)) and hasattr(validation[0], "shape")
        if checked:
            self._check(*validation[:2])
        scale = self.head.layers[0]
        fresh = not scale.adapted
        if fresh:
            self._adapt(scale, x if hasattr(x, "shape") else _first_inputs(x))
        try:
            if hasattr(x, "shape") and (checked or validation is None):
                if checked:
                    encoded = {"features": self._encode(validation[0])}
                    arguments["validation_data"] = (encoded, *validation[1:])
                x = {"features": self._encode(x)}
            return super().fit(x, y, **arguments)
        except ValueError:
            if fresh:
                scale.reset()
            raise

    def _encode(self, inputs: Any) -> np.ndarray:
        return np.asarray(self.features.predict(inputs, batch_size=_FEATURE_BATCH, verbose=0))

    def _adapt(self, scale: FeatureScale, inputs: Any) -> None:
        inputs = inputs[:_SAMPLES_FOR_SCALE]
        finite = np.isfinite(ops.convert_to_numpy(inputs)).all()
        check.require(finite, "x", "finite", "NaN or infinite entries")
        features = self._encode(inputs)
        scale.adapt(features, self._used_features(features.shape[-1]))

    def _used_features(self, count: int) -> np.ndarray:
        """Leave out units that never won: they keep their large initial weights."""
        everything = np.ones(count, dtype=bool)
        plastic = [
            layer
            for layer in self.features._flatten_layers()
            if hasattr(getattr(layer, "plasticity", None), "p")
        ]
        if not plastic or plastic[-1].units != count:
            return everything
        layer = plastic[-1]
        weights = np.abs(ops.convert_to_numpy(layer.kernel))
        used: np.ndarray = np.sum(weights**layer.plasticity.p, axis=0) < _USED_BELOW
        if used.any():
            return used
        warnings.warn(
            f"No unit of layer {layer.name!r} has converged: the readout uses all of them. Has the "
            "encoder been pretrained (models.pretrain)?",
            stacklevel=4,
        )
        return everything

    def _check(self, x: Any, y: Any) -> None:
        inputs = np.asarray(ops.convert_to_numpy(x))
        wanted = tuple(self.features.input_shape)
        fits = inputs.ndim == len(wanted) and inputs.shape[1:] == wanted[1:]
        check.require(fits, "x", f"of the encoder's input shape {wanted}", inputs.shape)
        finite = all(np.isfinite(inputs[i : i + 4096]).all() for i in range(0, len(inputs), 4096))
        check.require(finite, "x", "finite", "NaN or infinite entries")
        classes = self.head.output_shape[-1]
        labels = np.asarray([] if y is None else ops.convert_to_numpy(y))
        allowed = f"{len(inputs)} integer labels, or one-hot labels of {classes} classes"
        one_hot = labels.ndim == 2 and labels.shape[1] == classes
        integers = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
        numeric = labels.dtype.kind in "biuf"
        fits = numeric and (one_hot or integers) and len(labels) == len(inputs)
        received = f"shape {labels.shape}" if numeric else f"{labels.dtype} labels"
        check.require(fits, "y", allowed, None if y is None else received)
        if one_hot:
            wrong = labels[(labels.sum(axis=1) != 1) | ~np.isin(labels, (0, 1)).all(axis=1)]
            allowed = "one-hot rows (one entry 1, all others 0)"
        else:
            wrong = labels[~np.isin(labels, np.arange(classes))]
            allowed = f"integers from 0 to {classes - 1}"
        check.require(wrong.size == 0, "y", allowed, wrong[:3].tolist())

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "features": keras.saving.serialize_keras_object(self.features),
            "head": keras.saving.serialize_keras_object(self.head),
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
        loss: A Keras loss; `losses.PowerLoss(power=6, beta=0.3)` by default.
        optimizer: A Keras optimizer; Adam with step size 1e-3 by default.
        use_bias: Whether the class units have a bias.

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
    power = check.real("power", power, minimum=1.0)
    built = isinstance(encoder, keras.Model) and hasattr(encoder, "inputs")
    check.require(
        built and len(encoder.inputs) == 1 and len(encoder.outputs[0].shape) == 2,
        "encoder",
        "a built Sequential or functional keras.Model from one input to (batch, features)",
        getattr(encoder, "output_shape", encoder) if built else encoder,
    )
    inputs = keras.Input(encoder.input_shape[1:], name="inputs")
    axes = tuple(range(1, len(inputs.shape)))
    unit = keras.layers.UnitNormalization(axis=axes, name="unit_norm")(inputs)
    steep = keras.layers.Activation(RePU(power), name="repu")(encoder(unit, training=False))
    features = keras.Model(inputs, steep, name="features")
    head = keras.Sequential(
        [
            keras.Input(steep.shape[1:]),
            FeatureScale(name="feature_scale"),
            keras.layers.Dense(classes, use_bias=use_bias, name="scores"),
        ],
        name="head",
    )
    model = Readout(features, head, name="readout")
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3) if optimizer is None else optimizer,
        loss=PowerLoss(power=6.0, beta=0.3) if loss is None else loss,
        metrics=["accuracy"],
    )
    return model


def _first_inputs(data: Any) -> np.ndarray:
    """Return inputs of the first batches of a dataset, enough to measure a scale."""
    batches: list[np.ndarray] = []
    for batch in data:
        inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
        batches.append(np.asarray(ops.convert_to_numpy(inputs)))
        if sum(map(len, batches)) >= _SAMPLES_FOR_SCALE:
            break
    return np.concatenate(batches)
