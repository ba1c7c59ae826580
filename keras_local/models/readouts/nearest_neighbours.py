"""Classes by a vote of the nearest stored samples, in the space of an encoder's features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.models.readouts.frozen_features import (
    check_labelled,
    encode,
    measure_scale,
    one_hot,
    steep_features,
)
from keras_local.models.readouts.linear import FeatureScale

_METRICS = ("cosine", "euclidean")
_TINY = 1e-12


@serializable
class NearestNeighbours(keras.Model):
    """A frozen encoder and stored samples that vote; `nearest_neighbours` makes it.

    `score_c = (number of the nearest stored samples that are of class c) / neighbours`

    Nothing is trained: `fit` stores the features of the samples in place of those from before.

    Args:
        features: Model from inputs to features; its weights do not change.
        classes: Number of classes, at least 2.
        neighbours: Number of stored samples that vote, at least 1.
        metric: `"cosine"` or `"euclidean"`.
        **kwargs: `name`, `dtype`.

    Raises:
        ValueError: For a number out of its range or an unknown metric.
    """

    def __init__(
        self,
        features: keras.Model,
        classes: int,
        neighbours: int = 5,
        metric: str = "cosine",
        **kwargs: Any,
    ) -> None:
        self.classes = check.positive_integer("classes", classes, minimum=2)
        self.neighbours = check.positive_integer("neighbours", neighbours)
        self.metric = check.one_of("metric", metric, _METRICS)
        super().__init__(**kwargs)
        self.features = features
        self.features.trainable = False
        self.scale = FeatureScale(name="feature_scale")
        self.scale.build(features.output_shape)
        self.memory: Any = None
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return the share of the votes for each class.

        Raises:
            ValueError: If `fit` has stored nothing yet.
        """
        if self.memory is None:
            raise ValueError("Nothing is stored yet: call `fit` before this model is used.")
        query = self.scale(self.features(inputs, training=False))
        # The norm of a query changes no ranking. Of |h - m|^2 only m . h - |m|^2 / 2 does.
        nearness = ops.matmul(ops.cast(query, self.memory.dtype), ops.transpose(self.memory))
        _, nearest = ops.top_k(nearness + self.offset, self.neighbours)
        return ops.mean(ops.take(self.teacher, nearest, axis=0), axis=1)

    def fit(
        self, x: Any = None, y: Any = None, validation_data: Any = None, verbose: int | str = "auto"
    ) -> keras.callbacks.History:
        """Store the features and labels of samples.

        Args:
            x: Inputs, or a dataset of batches of inputs and labels.
            y: Integer or one-hot labels, one for each input.
            validation_data: None, or what `evaluate` takes: a pair of inputs and labels, or a
                dataset.
            verbose: Whether the evaluation shows its progress, as in `keras.Model.evaluate`.

        Returns:
            A history of one epoch, empty without `validation_data`.

        Raises:
            ValueError: For labels out of range, NaN in the data, shapes that do not fit, or fewer
                samples than `neighbours`. The stored samples are then as before.
        """
        if not hasattr(x, "shape"):
            x, y = _arrays(x)
        check_labelled(x, y, self.features, self.classes)
        allowed = f"at most the {len(x)} samples"
        check.require(self.neighbours <= len(x), "neighbours", allowed, self.neighbours)
        pair = isinstance(validation_data, (tuple, list))
        if pair:
            inputs, labels = validation_data[:2]
            check_labelled(inputs, labels, self.features, self.classes)
        # Which features are used follows from the encoder; a common factor changes no ranking.
        measure_scale(self.scale, self.features, x)
        stored = encode(self.features, x) * ops.convert_to_numpy(self.scale.scale)
        if self.metric == "cosine":
            stored = stored / np.maximum(np.linalg.norm(stored, axis=1, keepdims=True), _TINY)
        self._store(stored, ops.convert_to_numpy(one_hot(y, self.classes, "float32")))
        history = keras.callbacks.History()
        history.set_model(self)
        history.on_train_begin()
        logs: dict[str, float] = {}
        if validation_data is not None:
            data = validation_data if pair else (validation_data,)
            found = self.evaluate(*data, verbose=verbose, return_dict=True)
            logs = {f"val_{name}": value for name, value in found.items()}
        history.on_epoch_end(0, logs)
        return history

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the mean share of the votes against the right class."""
        against = 1.0 - ops.sum(one_hot(y, self.classes, "float32") * y_pred, axis=-1)
        if sample_weight is not None:
            against = against * ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        return ops.mean(against)

    def _store(self, memory: np.ndarray, teacher: np.ndarray) -> None:
        offset = np.zeros(len(memory))
        if self.metric == "euclidean":
            offset = -0.5 * np.sum(np.square(memory, dtype="float64"), axis=1)
        for name, value in (("memory", memory), ("offset", offset), ("teacher", teacher)):
            if getattr(self, name, None) is not None:
                delattr(self, name)  # Keras forgets a variable so, not by another in its place.
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
        # Compiled steps hold the variables from before.
        self.predict_function = self.test_function = None

    def save_own_variables(self, store: Any) -> None:
        """Write the stored samples."""
        if self.memory is not None:
            store["memory"] = ops.convert_to_numpy(self.memory)
            store["teacher"] = ops.convert_to_numpy(self.teacher)

    def load_own_variables(self, store: Any) -> None:
        """Read stored samples, however many they are."""
        if "memory" in store.keys():
            self._store(np.asarray(store["memory"]), np.asarray(store["teacher"]))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "features": keras.saving.serialize_keras_object(self.features),
            "classes": self.classes,
            "neighbours": self.neighbours,
            "metric": self.metric,
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
    metric: str = "cosine",
    power: float = 4.5,
) -> NearestNeighbours:
    """Let the nearest samples vote, in the space of a pretrained encoder's features.

    `score_c = (number of the nearest stored samples that are of class c) / neighbours`, with the
    features of `readout`: `RePU(encoder(x / |x|))`, without the units that never won. The encoder
    is frozen, by setting `encoder.trainable`. Classes of equal scores keep their order, so that
    `argmax` takes the lowest.

    `fit` stores the features of all samples, in float32, and `predict` compares with each of them:
    memory and time grow with their number.

    Args:
        encoder: A built Sequential or functional model with one output of shape
            `(batch, features)`.
        classes: Number of classes, at least 2.
        neighbours: Number of stored samples that vote, at least 1.
        metric: `"cosine"` of the features, or their `"euclidean"` distance.
        power: Power of the rectified currents, at least 1.

    Returns:
        A `NearestNeighbours`, ready to fit, with the metric `accuracy`; labels are integers or
        one-hot.

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
    features = steep_features(encoder, power)
    model = NearestNeighbours(features, classes, neighbours, metric, name="nearest_neighbours")
    model.compile(metrics=["accuracy"])
    return model


def _arrays(data: Any) -> tuple[np.ndarray, np.ndarray]:
    pairs = isinstance(data, Iterable)
    batches = list(data) if pairs else []
    pairs = bool(batches) and all(
        isinstance(batch, (tuple, list)) and len(batch) >= 2 for batch in batches
    )
    check.require(pairs, "x", "an array or a dataset of inputs and labels", type(data).__name__)
    inputs, labels = (
        np.concatenate([ops.convert_to_numpy(batch[i]) for batch in batches]) for i in range(2)
    )
    return inputs, labels
