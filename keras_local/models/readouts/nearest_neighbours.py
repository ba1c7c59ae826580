"""A classifier by the nearest stored samples, in the space of an encoder's features."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._data_gate import check_counts
from keras_local._serialization import serializable
from keras_local._targets import Expected
from keras_local._types import DType, Targets
from keras_local.models.readouts.frozen_features import (
    check_encoder,
    checked_targets,
    encode,
    export_from,
    gate_of,
    measure_scale,
    steep_features,
)
from keras_local.models.readouts.linear import FeatureScale
from keras_local.models.readouts.targets import fitting_metric
from keras_local.models.training_state import flags_kept

Metric = Literal["cosine", "euclidean"]
"""The measure of nearness of two features: their angle, or their distance."""

_METRICS = ("cosine", "euclidean")
_TINY = 1e-12


@serializable
class NearestNeighbours(keras.Model):
    """Model of a frozen encoder and stored samples that vote; see `nearest_neighbours`.

    `score_c = (number of the nearest stored samples that are of class c) / neighbours`

    Nothing is trained: `fit` stores the features of the samples and removes earlier ones.

    Args:
        features: Model from inputs to features; its weights do not change.
        classes: Number of classes, at least 2; of labels or values with these `targets`.
        neighbours: Number of stored samples that vote, at least 1.
        metric: `"cosine"` or `"euclidean"`.
        targets: `"classes"`, `"labels"` or `"values"`, as in `nearest_neighbours`.
        name: Name of the model.
        trainable: As in every Keras layer; nothing is trained.
        dtype: Precision, as in every Keras layer.

    Raises:
        ValueError: For a number out of its range or an unknown metric.
    """

    def __init__(
        self,
        features: keras.Model,
        classes: int,
        neighbours: int = 5,
        metric: Metric = "cosine",
        *,
        targets: Targets = "classes",
        name: str | None = None,
        trainable: bool = True,
        dtype: DType = None,
    ) -> None:
        expected = checked_targets(targets, type(self).__name__, classes)
        self.classes = expected.outputs
        self.neighbours = check.positive_integer("neighbours", neighbours)
        self.metric: str = check.one_of("metric", metric, _METRICS)
        check.instance("features", features, keras.Model)
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        self.features = features
        self.features.trainable = False
        self.scale = FeatureScale(name="feature_scale")
        self.scale.build(features.output_shape)
        self.memory: Any = None
        self.targets: Targets = expected.kind
        self._gate = gate_of(features, self.classes, self.targets)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return the share of the votes for each class, or the mean of labels or values.

        Raises:
            ValueError: If `fit` has stored nothing yet.
        """
        self._require_memory()
        query = self.scale(self.features(inputs, training=False))
        # The norm of a query does not change the ranking, so m . h - |m|^2 / 2 replaces |h - m|^2.
        nearness = ops.matmul(ops.cast(query, self.memory.dtype), ops.transpose(self.memory))
        _, nearest = ops.top_k(nearness + self.offset, self.neighbours)
        return ops.mean(ops.take(self.teacher, nearest, axis=0), axis=1)

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
        class_weight: None = None,
        sample_weight: None = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
    ) -> keras.callbacks.History:
        """Store the features and labels of samples; arguments as in `keras.Model.fit`.

        One pass is enough, so that `epochs`, `shuffle` and other arguments about learning in steps
        have no effect. A stream is read into memory, once and to its end, or for `steps_per_epoch`
        batches. Samples cannot have weights.

        Returns:
            A history of one epoch, empty without validation.

        Raises:
            ValueError: For labels out of range, NaN in the data, shapes that do not fit, weights of
                samples or classes, or fewer samples than `neighbours`. Then the stored samples are
                as before.
        """
        check_counts(batch_size=batch_size, steps_per_epoch=steps_per_epoch)
        check.positive_integer("epochs", epochs, minimum=0)
        for name, given in (("class_weight", class_weight), ("sample_weight", sample_weight)):
            check.require(given is None, name, "None: all votes have the same weight", given)
        with self._gate.guard(self) as guard:
            validation_data = guard.validation(validation_data, validation_steps)
            x, y = self._gate.arrays("x", x, y, steps_per_epoch)
            share = check.real("validation_split", validation_split, 0.0, 1.0)
            if share and validation_data is None:
                kept = int(len(x) * (1.0 - share))
                validation_data, x, y = (x[kept:], y[kept:]), x[:kept], y[:kept]
            allowed = f"at most the {len(x)} samples"
            check.require(self.neighbours <= len(x), "neighbours", allowed, self.neighbours)
            self._learn(x, y)
            callbacks = _callback_list(callbacks, self, verbose)
            callbacks.on_train_begin()
            callbacks.on_epoch_begin(0)
            logs: dict[str, float] = {}
            if validation_data is not None:
                pair = isinstance(validation_data, (tuple, list))
                given = (*validation_data, None)[:3] if pair else (validation_data, None, None)
                found = super().evaluate(
                    given[0],
                    given[1],
                    sample_weight=given[2],
                    batch_size=validation_batch_size or batch_size,
                    steps=validation_steps,
                    verbose=verbose,
                    return_dict=True,
                )
                logs = {f"val_{name}": value for name, value in found.items()}
            callbacks.on_epoch_end(0, logs)
            callbacks.on_train_end(logs)
        return self.history

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
    ) -> Any:
        """Return loss and metrics; arguments as in `keras.Model.evaluate`.

        Raises:
            ValueError: For data that do not fit, or if nothing is stored yet.
        """
        check_counts(batch_size=batch_size, steps=steps)
        self._require_memory()
        with self._gate.guard(self) as guard:
            x, y, sample_weight = guard.evaluation(x, y, sample_weight, steps)
            return super().evaluate(
                x,
                y,
                batch_size=batch_size,
                verbose=verbose,
                sample_weight=sample_weight,
                steps=steps,
                callbacks=callbacks,
                return_dict=return_dict,
            )

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Return the share of the votes for each class; arguments as in `keras.Model.predict`.

        Raises:
            ValueError: For data that do not fit, or if nothing is stored yet.
        """
        check_counts(batch_size=batch_size, steps=steps)
        self._require_memory()
        with self._gate.guard(self) as guard:
            return super().predict(
                guard.inputs(x, steps),
                batch_size=batch_size,
                verbose=verbose,
                steps=steps,
                callbacks=callbacks,
            )

    def train_on_batch(self, *arguments: Any, **keywords: Any) -> Any:
        """Raise an error: samples are stored all at once.

        Raises:
            NotImplementedError: Always; `fit` stores samples.
        """
        raise NotImplementedError("There are no training steps: `fit` stores all samples at once.")

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Return loss and metrics of one batch; arguments as in `keras.Model.test_on_batch`."""
        self._require_memory()
        x, y, sample_weight = self._gate.batch(x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Return the votes for one batch, like `keras.Model.predict_on_batch`."""
        self._require_memory()
        return super().predict_on_batch(self._gate.inputs("x", x))

    def export(self, filepath: Any, *arguments: Any, **keywords: Any) -> None:
        """Write the model from inputs to votes, like `keras.Model.export`."""
        export_from(self, self.features, super().export, filepath, *arguments, **keywords)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the mean share of the votes against the right class.

        Of labels it is the mean distance from them, of values half the squared distance.
        """
        targets = self._rows(y)
        if self.targets == "classes":
            against = 1.0 - ops.sum(targets * y_pred, axis=-1)
        elif self.targets == "labels":
            against = ops.mean(ops.abs(targets - y_pred), axis=-1)
        else:
            against = 0.5 * ops.sum(ops.square(targets - y_pred), axis=-1)
        if sample_weight is not None:
            against = against * ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        return ops.mean(against)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Return the metrics; they get labels and values as rows."""
        y = y if self.targets == "classes" else self._rows(y)
        found: dict[str, Any] = super().compute_metrics(x, y, y_pred, sample_weight)
        return found

    def _rows(self, y: Any) -> Any:
        expected = self._gate.targets or Expected(self.classes)
        return expected.rows("y", y, "float32")[0]

    def _store(self, memory: np.ndarray, teacher: np.ndarray) -> None:
        offset = np.zeros(len(memory))
        if self.metric == "euclidean":
            offset = -0.5 * np.sum(np.square(memory, dtype="float64"), axis=1)
        for name, value in (("memory", memory), ("offset", offset), ("teacher", teacher)):
            if getattr(self, name, None) is not None:
                delattr(self, name)  # Assigning another variable would not remove the old one.
            weight = self.add_weight(
                name=name,
                shape=value.shape,
                initializer="zeros",
                trainable=False,
                dtype="float32",
                autocast=False,
            )
            weight.assign(value.astype("float32"))
            setattr(self, name, weight)
        # Compiled steps still use the old variables.
        self.predict_function = self.test_function = None

    def _learn(self, x: Any, y: Any) -> None:
        # The encoder determines which features are used; a common factor does not change rankings.
        measure_scale(self.scale, self.features, x)
        stored = encode(self.features, x) * ops.convert_to_numpy(self.scale.scale)
        if self.metric == "cosine":
            stored = stored / np.maximum(np.linalg.norm(stored, axis=1, keepdims=True), _TINY)
        self._store(stored, ops.convert_to_numpy(self._rows(y)))

    def _require_memory(self) -> None:
        if self.memory is None:
            raise ValueError("Nothing is stored yet: call `fit` before this model is used.")

    def set_weights(self, weights: list[Any]) -> None:
        """Set all weights from a list as from `get_weights`, with stored samples or without."""
        stored = 0 if self.memory is None else 3
        fixed = len(self.weights) - stored
        if len(weights) == fixed + 3:
            # The order is that of `get_weights`: this model's own weights come first.
            memory, _, teacher = weights[:3]
            self._check_stored(memory, teacher)
            self._store(np.asarray(memory), np.asarray(teacher))
        super().set_weights(weights)

    def save_own_variables(self, store: Any) -> None:
        """Save the stored samples."""
        if self.memory is not None:
            store["memory"] = ops.convert_to_numpy(self.memory)
            store["teacher"] = ops.convert_to_numpy(self.teacher)

    def load_own_variables(self, store: Any) -> None:
        """Load stored samples of any number.

        Raises:
            ValueError: If the file contains only a part of them, or arrays that do not fit.
        """
        found = {"memory", "teacher"} & set(store.keys())
        if not found:
            return  # The file was saved before a fit.
        allowed = "a file of both `memory` and `teacher`"
        check.require(len(found) == 2, "filepath", allowed, f"a file of {sorted(found)} alone")
        memory, teacher = np.asarray(store["memory"]), np.asarray(store["teacher"])
        self._check_stored(memory, teacher)
        self._store(memory, teacher)

    def _check_stored(self, memory: Any, teacher: Any) -> None:
        """Refuse arrays that cannot be the stored samples of this model."""
        memory, teacher = np.asarray(memory), np.asarray(teacher)
        width = self.features.output_shape[-1]
        allowed = f"of shape (samples, {width}), with at least {self.neighbours} samples"
        fits = memory.ndim == 2 and memory.shape[1] == width and len(memory) >= self.neighbours
        check.require(fits, "memory", allowed, memory.shape)
        wanted = (len(memory), self.classes)
        check.require(teacher.shape == wanted, "teacher", f"of shape {wanted}", teacher.shape)
        for name, values in (("memory", memory), ("teacher", teacher)):
            finite = values.dtype.kind in "biuf" and bool(np.isfinite(values).all())
            check.require(finite, name, "finite numbers", "other entries")

    def plain_model(self) -> keras.Model:
        """Return a functional model with the same predictions and the present stored samples.

        Raises:
            ValueError: If `fit` has stored nothing yet.
        """
        check.require(self.memory is not None, "model", "fitted", "a model without stored samples")
        memory, offset, teacher, gain = map(
            ops.convert_to_numpy, (self.memory, self.offset, self.teacher, self.scale.scale)
        )
        # In half precision samples that are close could not be told apart.
        nearness = keras.layers.Dense(len(memory), name="nearness", dtype="float32")
        votes = keras.layers.Embedding(*teacher.shape, name="votes", dtype="float32")
        inputs = keras.Input(self.features.input_shape[1:], name="inputs")
        _, nearest = ops.top_k(nearness(self.features(inputs)), self.neighbours)
        model = keras.Model(inputs, ops.mean(votes(nearest), axis=1), name=self.name)
        nearness.set_weights([gain[:, None] * memory.T, offset])
        votes.set_weights([teacher])
        return model

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "features": keras.saving.serialize_keras_object(self.features),
            "classes": self.classes,
            "neighbours": self.neighbours,
            "metric": self.metric,
            "targets": self.targets,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> NearestNeighbours:
        """Restore the model from its config."""
        features = keras.saving.deserialize_keras_object(config["features"], custom_objects)
        return cls(**{**config, "features": features})


def nearest_neighbours(
    encoder: keras.Model,
    classes: int,
    neighbours: int = 5,
    metric: Metric = "cosine",
    power: float = 4.5,
    *,
    targets: Targets = "classes",
) -> NearestNeighbours:
    """Return a classifier by the nearest samples, in the space of a pretrained encoder's features.

    `score_c = (number of the nearest stored samples that are of class c) / neighbours`, with the
    features of `readout`: `RePU(encoder(x / |x|))`, without the units that never won. The encoder
    is frozen by setting `encoder.trainable`. If scores are equal, `argmax` takes the lowest class.

    `fit` stores the features of all samples in float32, and `predict` compares with each of them.
    Memory and time grow with their number.

    Args:
        encoder: A built Sequential or functional model with one output of shape
            `(batch, features)`.
        classes: Number of classes, at least 2; of labels or values with these `targets`.
        neighbours: Number of stored samples that vote, at least 1.
        metric: `"cosine"` of the features, or their `"euclidean"` distance.
        power: Power of the rectified currents, at least 1.
        targets: `"classes"`; `"labels"`, which each may hold or not, or `"values"`: then the score
            is the mean of the targets of the nearest samples.

    Returns:
        A `NearestNeighbours`, ready to fit, with the metric `accuracy`, or `r2_score` for values;
        labels of classes are integers or one-hot.

    Raises:
        ValueError: For a wrong number, an unknown metric, or an encoder that is not built or has
            another output.

    >>> import keras, numpy as np, keras_local as kl
    >>> encoder = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
    >>> classifier = kl.models.nearest_neighbours(encoder, classes=2, neighbours=1, power=1)
    >>> _ = classifier.fit(np.array([[1.0, 0.1], [0.1, 1.0]]), np.array([1, 0]))
    >>> classifier.predict(np.array([[3.0, 1.0]]), verbose=0).tolist()
    [[0.0, 1.0]]
    """
    expected = checked_targets(targets, "nearest_neighbours", classes)
    check.positive_integer("neighbours", neighbours)
    check.one_of("metric", metric, _METRICS)
    check_encoder(encoder)
    with flags_kept(encoder, on_error_only=True):
        features = steep_features(encoder, power)
        model = NearestNeighbours(
            features,
            classes,
            neighbours,
            metric,
            targets=expected.kind,
            name="nearest_neighbours",
        )
        model.compile(metrics=[fitting_metric(expected)])
    return model


def _callback_list(callbacks: Any, model: Any, verbose: int | str) -> Any:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    return keras.callbacks.CallbackList(callbacks, add_history=True, model=model, epochs=1, steps=1)
