"""The linear readout of a pretrained encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._data_gate import check_counts
from keras_local._serialization import serializable
from keras_local._streams import is_stream
from keras_local._targets import Expected
from keras_local._types import DType, Targets
from keras_local.layers.learning_form import LearningForm
from keras_local.layers.plain_form import plain_form, taught_loss
from keras_local.models.learners.forms import loss_of, specs_of, targets_of
from keras_local.models.readouts.frozen_features import (
    SAMPLES_FOR_SCALE,
    check_encoder,
    checked_targets,
    encode,
    export_from,
    gate_of,
    measure_scale,
    resolved_optimizer,
    scale_for,
    steep_features,
)
from keras_local.models.readouts.targets import (
    as_rows,
    fitting_loss,
    fitting_metric,
    output_units,
)
from keras_local.models.training_state import StopAtDivergence, flags_kept, with_callback


@serializable
class FeatureScale(keras.layers.Layer):
    """Layer that multiplies each used feature by `1 / RMS`, and each other feature by 0.

    Powers of currents can be very small or very large, depending on the data. With the scale, the
    features that the readout uses have a root mean square of 1.

    Input and output shape: `(..., features)`.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the scale, one entry for each feature; zeros mean that it is not measured."""
        self.scale = self.add_weight(
            name="scale", shape=(input_shape[-1],), initializer="zeros", trainable=False
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return `inputs * scale`, which is 0 for an unused feature of any size."""
        used = ops.not_equal(self.scale, 0.0)
        return ops.where(used, inputs, ops.zeros_like(inputs)) * self.scale

    @property
    def adapted(self) -> bool:
        """Whether the scale has been measured."""
        return bool(ops.any(ops.convert_to_tensor(self.scale) != 0))

    def reset(self) -> None:
        """Remove the measured scale."""
        self.scale.assign(ops.zeros_like(self.scale))

    def adapt(self, features: np.ndarray, used: np.ndarray) -> None:
        """Measure the root mean square of the used features."""
        rms = float(np.sqrt(np.mean(np.square(features[:, used], dtype="float64"))))
        check.require(rms > 0.0, "features", "not zero for all used units", "zeros only")
        self.scale.assign(np.where(used, 1.0 / rms, 0.0))


@serializable
class Readout(keras.Model):
    """Model of a frozen encoder and a trained layer on its features; see `readout`.

    `score = S^T (scale * RePU(encoder(x / |x|)))`

    `fit` computes the features of arrays once and trains the last layer on them. The features of a
    stream, or of inputs with entries left out, are computed in every step. The last layer is
    linear, or the layer of `hebbian_readout`.

    The first `fit` or `train_on_batch` measures the scale of the features on its inputs. Before it,
    `evaluate`, `test_on_batch`, `predict` and `predict_on_batch` use the scale of their own inputs,
    only for that call.

    Args:
        features: Model from inputs to features; its weights do not change.
        head: Model from features to class scores.
        input_dropout: Share of the entries of each input that are set to zero in training.
        targets: `"classes"`, `"labels"` or `"values"`, as in `readout`.
        name: Name of the model.
        trainable: Whether the head can be trained.
        dtype: Precision, as in every Keras layer.
    """

    def __init__(
        self,
        features: keras.Model,
        head: keras.Model,
        input_dropout: float = 0.0,
        *,
        targets: Targets = "classes",
        name: str | None = None,
        trainable: bool = True,
        dtype: DType = None,
    ) -> None:
        check.instance("features", features, keras.Model)
        check.instance("head", head, keras.Model)
        expected = checked_targets(targets, "Readout", head.output_shape[-1])
        input_dropout = check.real("input_dropout", input_dropout, minimum=0.0)
        check.require(input_dropout < 1.0, "input_dropout", "less than 1", input_dropout)
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        self.features = features
        self.head = head
        self.features.trainable = False
        self.input_dropout = input_dropout
        # The layer draws a seed, so it is created only if it is needed.
        self.dropout = keras.layers.Dropout(input_dropout) if input_dropout else None
        self._gate = gate_of(features, expected.outputs, expected.kind)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the class scores of `inputs`, or of `{"features": features}`."""
        if isinstance(inputs, dict):
            features = inputs["features"]
        else:
            if self.dropout is not None:
                inputs = self.dropout(inputs, training=training)
            # Frozen features are computed as in inference, also in training.
            features = self.features(inputs, training=False)
        return self.head(features, training=training)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
    ) -> keras.callbacks.History:
        """Train the last layer; arguments as in `keras.Model.fit`.

        Raises:
            ValueError: For labels out of range, NaN in the data, or shapes that do not fit; then
                the weights are as before the call. If the readout diverges, the weights are those
                of the last epoch that was finite.
        """
        check_counts(batch_size=batch_size, steps_per_epoch=steps_per_epoch)
        check.positive_integer("epochs", epochs, minimum=0)
        array = not is_stream(x)
        with self._gate.guard(self) as guard, self._scale_kept_on_success():
            x, y, sample_weight = guard.training(x, y, sample_weight, class_weight, steps_per_epoch)
            arrays_only = validation_data is None or isinstance(validation_data, (tuple, list))
            validation_data = guard.validation(validation_data, validation_steps)
            x = self._measured(x)
            if array and arrays_only and not self.input_dropout:
                x = {"features": encode(self.features, x)}
                if validation_data is not None:
                    encoded = {"features": encode(self.features, validation_data[0])}
                    validation_data = (encoded, *validation_data[1:])
            return super().fit(
                x,
                y,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=with_callback(callbacks, self._watch()),
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                class_weight=class_weight,
                sample_weight=sample_weight,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps,
                validation_batch_size=validation_batch_size,
                validation_freq=validation_freq,
            )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **keywords: Any,
    ) -> Any:
        """Return loss and metrics; arguments as in `keras.Model.evaluate`.

        Raises:
            ValueError: For data that do not fit.
        """

        def measure(x: Any, y: Any, sample_weight: Any) -> Any:
            return super(Readout, self).evaluate(
                x,
                y,
                batch_size=batch_size,
                verbose=verbose,
                sample_weight=sample_weight,
                steps=steps,
                callbacks=callbacks,
                return_dict=return_dict,
                **keywords,
            )

        check_counts(batch_size=batch_size, steps=steps)
        if keywords.get("_use_cached_eval_dataset"):  # `fit` has checked these data.
            return measure(x, y, sample_weight)
        with self._gate.guard(self) as guard:
            x, y, sample_weight = guard.evaluation(x, y, sample_weight, steps)
            with self._scale_for(x) as source:
                return measure(source, y, sample_weight)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Return the class scores of inputs; arguments as in `keras.Model.predict`.

        Raises:
            ValueError: For data that do not fit.
        """
        check_counts(batch_size=batch_size, steps=steps)
        with self._gate.guard(self) as guard, self._scale_for(guard.inputs(x, steps)) as source:
            return super().predict(
                source, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks
            )

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Train on one batch; arguments as in `keras.Model.train_on_batch`.

        Raises:
            ValueError: For data that do not fit, or if the readout diverges. Then the weights are
                as before the call.
        """
        x, y, sample_weight = self._gate.batch(x, y, sample_weight, class_weight)
        with self._scale_kept_on_success():
            x = self._measured(x)
            watch = self._watch().finite
            logs = super().train_on_batch(x, y, sample_weight, class_weight, return_dict)
            watch.look()
        return logs

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Return loss and metrics of one batch; arguments as in `keras.Model.test_on_batch`."""
        x, y, sample_weight = self._gate.batch(x, y, sample_weight)
        with self._scale_for(x):
            return super().test_on_batch(x, y, sample_weight, return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Return the class scores of one batch, like `keras.Model.predict_on_batch`."""
        x = self._gate.inputs("x", x)
        with self._scale_for(x):
            return super().predict_on_batch(x)

    def export(self, filepath: Any, *arguments: Any, **keywords: Any) -> None:
        """Write the model from inputs to class scores, like `keras.Model.export`."""
        export_from(self, self.features, super().export, filepath, *arguments, **keywords)

    @property
    def _scale(self) -> FeatureScale:
        scale: FeatureScale = self.head.layers[0]
        return scale

    def _measured(self, x: Any) -> Any:
        """Measure the scale on the first inputs of `x` if there is none, and return `x`."""
        if self._scale.adapted:
            return x
        first, x = self._gate.peeked(x, SAMPLES_FOR_SCALE)
        measure_scale(self._scale, self.features, first)
        return x

    def _scale_for(self, x: Any) -> AbstractContextManager[Any]:
        return scale_for(self._scale, self.features, self._gate, x)

    @contextmanager
    def _scale_kept_on_success(self) -> Iterator[None]:
        """Remove a scale that was measured in a call that failed before the head learned."""
        fresh = not self._scale.adapted
        before = [ops.convert_to_numpy(weight) for weight in self.head.trainable_weights]
        try:
            yield
        except BaseException:
            after = [ops.convert_to_numpy(weight) for weight in self.head.trainable_weights]
            if fresh and all(map(np.array_equal, before, after)):
                self._scale.reset()
            raise

    def _watch(self) -> StopAtDivergence:
        return StopAtDivergence(
            self.head.trainable_variables,
            f"the readout {self.name!r}",
            "an optimizer with a smaller learning rate",
            self.optimizer,
        )

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the compiled loss, or the loss of a head that learns from labels itself."""
        scale, scores = self.head.layers
        y = as_rows(self._targets, y)
        taught = taught_loss(scores)
        if taught is None:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        features = x["features"] if isinstance(x, dict) else self.features(x, training=False)
        loss = taught(scale(features), y, sample_weight)
        # Like a loss that a layer adds, it is the share of a replica under `tf.distribute`.
        return self._aggregate_additional_loss(loss)

    def learning_form(self) -> LearningForm:
        """Return a step of learning as functions: `models.export_learner` asks for it.

        Raises:
            ValueError: Before the first fit, which measures the scale of the features.
        """
        allowed = "a readout that has been fitted, so that the scale of its features is known"
        check.require(self._scale.adapted, "model", allowed, self.name)
        numbers = (keras.layers.InputSpec(shape=(None,), dtype="int32"),)
        taught = taught_loss(self.head.layers[-1]) is not None
        return LearningForm(
            loss=lambda x, y: loss_of(self, x, y),
            infer=lambda x: self(x, training=False),
            samples=specs_of(self.features.inputs),
            targets=numbers if taught else targets_of(self, self.head.outputs),
        )

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Return the metrics; they get labels and values as rows."""
        y = as_rows(self._targets, y)
        found: dict[str, Any] = super().compute_metrics(x, y, y_pred, sample_weight)
        return found

    @property
    def _targets(self) -> Expected:
        return self._gate.targets or Expected(self.head.output_shape[-1])

    def plain_model(self) -> keras.Model:
        """Return a functional model that predicts the same: the scale goes into the last kernel."""
        scale, scores = self.head.layers
        form = plain_form(scores)
        gain = ops.convert_to_numpy(scale.scale)
        allowed = "a head whose last layer has a plain form with a kernel"
        kind = form.layer_class
        if kind is None:
            raise ValueError(check.refusal("model", allowed, type(scores).__name__))
        plain = kind.from_config(form.config)
        inputs = keras.Input(self.features.input_shape[1:], name="inputs")
        model = keras.Model(inputs, plain(self.features(inputs)), name=self.name)
        kernel, *others = form.weights
        plain.set_weights([gain[:, None] * kernel, *others])
        return model

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "features": keras.saving.serialize_keras_object(self.features),
            "head": keras.saving.serialize_keras_object(self.head),
            "input_dropout": self.input_dropout,
            "targets": self._targets.kind,
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
    *,
    targets: Targets = "classes",
) -> Readout:
    """Return a linear readout on a pretrained encoder, compiled and ready to fit.

    `score = S^T (scale * RePU(encoder(x / |x|)))`, `RePU(u) = max(u, 0)^power`. Inputs are scaled
    to unit norm, so that the currents of converged units are bounded for any contrast. `scale` is
    `1 / RMS` of the features, measured in the first fit, and 0 for units that never won and still
    have their large initial weights. The encoder is frozen by setting `encoder.trainable`.

    Args:
        encoder: A built Sequential or functional model with one output of shape
            `(batch, features)`. Preprocessing in it comes before the scaling to unit norm, which
            acts on the inputs of its lowest Hebbian layer.
        classes: Number of classes, at least 2; of labels or values with these `targets`.
        power: Power of the rectified currents, at least 1.
        loss: A Keras loss on scores that are not probabilities. By default
            `losses.PowerLoss(power=6, beta=0.3)`, which is `sum_c |tanh(0.3 s_c) - t_c|^6`; use
            another `power` for another exponent. Cross-entropy is
            `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`; `losses.SquaredHinge()`
            with the decay of `keras.optimizers.AdamW` is a linear support vector machine. For
            labels the default is `keras.losses.BinaryCrossentropy()`, for values
            `keras.losses.MeanSquaredError()`.
        optimizer: A Keras optimizer; Adam with step size 1e-3 by default.
        use_bias: Whether the class units have a bias.
        input_dropout: Share of the entries of each input, from 0 to less than 1, that are set to
            zero while the readout learns, others in each step. The readout then learns longer
            before it overfits, but each step has to compute the features of its inputs.
        targets: What is learned: one of several `"classes"`; `"labels"` that each may hold or not,
            numbers from 0 to 1, by sigmoid units (one unit for a binary label); or real
            `"values"`, by linear ones, which usually need `use_bias=True`.

    Returns:
        A `Readout`, compiled with the metric `accuracy`, or `r2_score` for values. Labels of
        classes are integers or one-hot; those of `"labels"` and `"values"` are rows of `classes`
        numbers, or one number for each sample.

    Raises:
        ValueError: For a wrong number, an encoder that is not built or has another output, or a
            loss that is for other targets.

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
    expected = checked_targets(targets, "readout", classes)
    use_bias = check.flag("use_bias", use_bias)
    optimizer = resolved_optimizer(optimizer, keras.optimizers.Adam, 1e-3)
    loss = fitting_loss(loss, expected)
    check_encoder(encoder)
    with flags_kept(encoder, on_error_only=True):
        features = steep_features(encoder, power)
        head = keras.Sequential(
            [
                keras.Input(features.output_shape[1:]),
                FeatureScale(name="feature_scale"),
                output_units(expected, use_bias),
            ],
            name="head",
        )
        model = Readout(features, head, input_dropout, targets=expected.kind, name="readout")
        model.compile(optimizer=optimizer, loss=loss, metrics=[fitting_metric(expected)])
    return model
