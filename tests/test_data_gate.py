"""What comes in is the same decision for arrays and streams, and a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_local._data_gate import Gate, check_counts
from tests.support import BACKEND, array

pytestmark = pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")

X = np.random.default_rng(0).random((24, 4)).astype("float32")
Y = np.arange(24) % 3
ONE_HOT = np.eye(3, dtype="float32")[Y]
GATE = Gate((4,), classes=3)


class Guarded(keras.Model):
    """A stock model that takes its data through a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = keras.layers.Dense(3, kernel_initializer="ones")
        self.scores.build((None, 4))
        self.built = True

    def call(self, inputs: Any) -> Any:
        return self.scores(inputs)

    def fit(self, x: Any, y: Any = None, validation_data: Any = None, **arguments: Any) -> Any:
        with GATE.guard(self) as guard:
            x, y, _ = guard.training(x, y, steps_per_epoch=arguments.get("steps_per_epoch"))
            validation_data = guard.validation(validation_data)
            arguments["validation_data"] = validation_data
            return super().fit(x, y, verbose=0, **arguments)

    def predict(self, x: Any, steps: Any = None) -> Any:
        with GATE.guard(self) as guard:
            return super().predict(guard.inputs(x, steps), verbose=0, steps=steps)


def guarded(**options: Any) -> Guarded:
    model = Guarded()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1), loss, **options)
    return model


class Batches(keras.utils.PyDataset):
    def __init__(self, x: Any, y: Any, **options: Any) -> None:
        super().__init__(**options)
        self.x, self.y = x, y

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        rows = slice(4 * index, 4 * index + 4)
        return self.x[rows], self.y[rows]


def generator(x: Any, y: Any) -> Any:
    return (each for each in [Batches(x, y)[i] for i in range(6)])


def dataset(x: Any, y: Any) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(4)


SOURCES: dict[str, Callable[[Any, Any], tuple[Any, ...]]] = {
    "arrays": lambda x, y: (x, y),
    "PyDataset": lambda x, y: (Batches(x, y),),
    "workers": lambda x, y: (Batches(x, y, workers=2),),
    "generator": lambda x, y: (generator(x, y),),
    "iterator": lambda x, y: (iter(list(generator(x, y))),),
}
if BACKEND == "tensorflow":
    SOURCES["dataset"] = lambda x, y: (dataset(x, y),)


def with_entry(values: np.ndarray, value: float, dtype: str = "float32") -> np.ndarray:
    values = values.astype(dtype)
    values[22] = value
    return values


WRONG: dict[str, tuple[np.ndarray, np.ndarray, str]] = {
    "NaN": (with_entry(X, np.nan), Y, "`x` must be finite.*Received: x=.*(NaN|nan)"),
    "infinite after the cast": (with_entry(X, 1e300, "float64"), Y, "`x` must be finite.*at most"),
    "infinite squares": (with_entry(X, 3e38), Y, "`x` must be finite.*at most"),
    "out of range": (X, with_entry(Y, 7, "int64"), "`y` must be integers from 0 to 2.*7"),
    "negative": (X, with_entry(Y, -1, "int64"), "`y` must be integers from 0 to 2.*-1"),
    "fraction": (X, with_entry(Y, 1.5), "`y` must be integers from 0 to 2.*1[.]5"),
    "NaN label": (X, with_entry(Y, np.nan), "`y` must be integers from 0 to 2.*nan"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_refusal_in_mid_stream_changes_nothing(kind: str) -> None:
    """The batches before the wrong one have been learned: that is undone."""
    model = guarded(jit_compile=kind == "dataset")
    model.fit(X, Y)
    variables = [*model.weights, *model.optimizer.variables]
    before = [array(each) for each in variables]
    for x, y, message in WRONG.values():
        with pytest.raises(ValueError, match=message):
            model.fit(*SOURCES[kind](x, y))
    for one, other in zip(variables, before, strict=True):
        np.testing.assert_array_equal(array(one), other)


@pytest.mark.parametrize("kind", SOURCES)
def test_what_is_right_is_learned_as_without_a_gate(kind: str) -> None:
    results = []
    for model, data in ((guarded(), SOURCES[kind](X, Y)), (guarded(), (X, Y))):
        fit = model.fit if kind != "arrays" else super(Guarded, model).fit
        options = {"batch_size": 4} if len(data) == 2 else {}
        fit(*data, shuffle=False, **options)
        results.append(array(model.scores.kernel))
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_one_shot_sources_are_not_consumed_by_a_look() -> None:
    first, source = GATE.peeked(generator(X, Y), samples=6)
    np.testing.assert_array_equal(first, X[:8])
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in source]), X)


@pytest.mark.parametrize(
    "x",
    [{"x": X}, X[0], X[None], X[:0], 3.0, None, "x", [X, X], [[1.0], [1.0, 2.0]], X.astype(str)],
    ids=lambda x: type(x).__name__,
)
def test_structures(x: Any) -> None:
    model = guarded()
    for call in (lambda: model.fit(x, Y), lambda: model.predict(x), lambda: GATE.batch(x, Y)):
        with pytest.raises(ValueError, match=r"`x` must be .*Received: x="):
            call()
    with pytest.raises(ValueError, match=r"`x` must be .*in `validation_data`"):
        model.fit(X, Y, validation_data=(x, Y))


@pytest.mark.parametrize(
    ("weights", "classes"),
    [
        ("a", None),
        (np.ones(3), None),
        (np.full(24, np.inf), None),
        (None, [1, 2]),
        (None, {7: 1.0}),
    ],
)
def test_weights(weights: Any, classes: Any) -> None:
    argument = "sample_weight" if classes is None else "class_weight"
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        GATE.batch(X, Y, weights, classes)


def test_labels_of_both_forms_and_smoothed_ones() -> None:
    for labels in (Y, Y[:, None], Y.tolist(), ONE_HOT, Y.astype("float32"), Y.astype("uint8")):
        GATE.batch(X, labels)
    soft = 0.9 * ONE_HOT + 0.1 / 3
    with pytest.raises(ValueError, match="`y` must be one-hot rows"):
        GATE.batch(X, soft)
    Gate((4,), 3, smoothed=True).batch(X, soft)


def test_half_precision_has_its_own_limit() -> None:
    large = 1e5 * X
    GATE.batch(large, Y)
    with pytest.raises(ValueError, match=r"`x` must be finite, and at most 6\.6e\+04"):
        Gate((4,), 3, "float16").batch(large, Y)


@pytest.mark.parametrize(
    "empty", [lambda: iter(()), lambda: (each for each in ())], ids=["iterator", "generator"]
)
def test_empty_sources(empty: Callable[[], Any]) -> None:
    model = guarded()
    for call in (model.fit, model.predict):
        with pytest.raises(
            ValueError, match=r"`x` must be .*at least one batch|at least one batch"
        ):
            call(empty())


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data")
def test_datasets_that_cannot_be_served() -> None:
    import tensorflow as tf

    model, right = guarded(), dataset(X, Y)
    cases: dict[str, Any] = {
        "an infinite one": right.repeat(),
        "an empty one": right.take(0),
        "`.batch": right.unbatch(),
        "dicts": right.map(lambda x, y: {"x": x}),
        "1 parts": right.map(lambda x, y: x),
        r"\(None, 3\)": dataset(X[:, :3], Y),
        "string": dataset(X.astype(str), Y),
        "at least one batch": right.filter(lambda x, y: False),
    }
    for message, source in cases.items():
        with pytest.raises(ValueError, match=f"`x` must be .*{message}"):
            model.fit(source, shuffle=False)
    wide = tf.data.Dataset.from_tensor_slices((X, Y, np.ones((24, 2)))).batch(4)
    with pytest.raises(ValueError, match="`sample_weight` must be one number for each sample"):
        model.fit(wide, shuffle=False)
    model.fit(right.repeat(), steps_per_epoch=3, shuffle=False)
    assert isinstance(right, tf.data.Dataset)


def test_counts() -> None:
    check_counts(batch_size=None, steps=np.int64(3))
    for wrong in (0, -1, 2.5, "a", True):
        with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1"):
            check_counts(batch_size=wrong)
