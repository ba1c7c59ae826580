"""A user's own layers: pairs that convert and come back, and layers that say their plain form."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, ops
from keras_local.layers import conversions
from keras_local.models import conversion_report, convert, direct, register_conversion, to_plain
from tests.support import BACKEND, array, probe
from tests.support_layers import Halved

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="conversion: on one backend")


@keras.saving.register_keras_serializable(package="tests")
class Rows(keras.layers.Layer):
    """A linear layer with a gain of its own, which is a weight."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.gain = self.add_weight(shape=(self.units,), initializer="ones", name="gain")

    def call(self, inputs: Any) -> Any:
        return keras.ops.matmul(inputs, self.kernel) * self.gain

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="tests")
class FeedbackRows(layers.FeedbackLayer):
    """The same with a rule, and an argument that the plain layer does not know."""

    def __init__(
        self, units: int, feedback: Any = "kolen_pollack", loud: bool = False, **options: Any
    ):
        options.pop("use_bias", None)
        super().__init__(use_bias=False, feedback=feedback, **options)
        self.units = units
        self.loud = loud

    @property
    def linear_map(self) -> ops.LinearMap:
        return ops.Dense()

    def kernel_shape(self, input_shape: Any) -> tuple[int, ...]:
        return (input_shape[-1], self.units)

    def bias_shape(self) -> tuple[int, ...]:
        return (self.units,)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.gain = self.add_weight(shape=(self.units,), initializer="ones", name="gain")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return super().call(inputs, training) * self.gain

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "loud": self.loud}


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of a test are gone behind it."""
    for name in ("_OURS", "_PLAIN"):
        monkeypatch.setattr(conversions, name, dict(getattr(conversions, name)))


def stock() -> keras.Model:
    hidden = [Rows(5, name="rows"), keras.layers.Activation("tanh"), Rows(3, name="scores")]
    model = keras.Sequential([keras.Input((4,)), *hidden])
    for place, weight in enumerate(model.weights):
        weight.assign(probe(weight.shape, place))
    return model


class TestPair:
    def test_there_and_back(self, tmp_path: Any) -> None:
        register_conversion(Rows, FeedbackRows)
        model, x = stock(), probe((6, 4))
        twin = convert(model, "feedback_alignment", verbose=False)
        assert [type(layer) for layer in twin.layers[::2]] == [FeedbackRows] * 2
        np.testing.assert_array_equal(array(twin(x)), array(model(x)))
        report = conversion_report(twin)
        assert [row.rules for row in report.converted] == [("FeedbackAlignment",)] * 2
        assert not report.left
        assert (report.converted[0].parameters, report.converted[0].feedback_parameters) == (25, 20)
        twin.compile("sgd", "mse")
        twin.fit(x, np.ones((6, 3)), verbose=0)
        back = to_plain(twin)
        assert [type(layer) for layer in back.layers[1::2]] == [Rows, Rows]
        np.testing.assert_array_equal(array(back(x)), array(twin(x)))
        twin.save(tmp_path / "twin.keras")
        loaded = keras.saving.load_model(tmp_path / "twin.keras")
        np.testing.assert_array_equal(array(loaded(x)), array(twin(x)))

    def test_unknown_pairs_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"'rows' \(Rows, which has kernels and no feedback"):
            convert(stock(), "feedback_alignment", verbose=False)

    def test_an_argument_that_only_ours_has(self) -> None:
        register_conversion(Rows, FeedbackRows)
        model = keras.Sequential([keras.Input((4,)), FeedbackRows(3, loud=True)])
        plain = to_plain(model).layers[-1]
        assert type(plain) is Rows
        assert "loud" not in plain.get_config()

    def test_direct(self) -> None:
        register_conversion(Rows, FeedbackRows)
        twin = convert(stock(), "feedback_alignment", verbose=False)
        directed, x = direct(twin), probe((6, 4))
        np.testing.assert_array_equal(array(directed(x)), array(twin(x)))
        np.testing.assert_array_equal(array(to_plain(directed)(x)), array(twin(x)))

    def test_inside_of_time_distributed(self) -> None:
        register_conversion(Rows, FeedbackRows)
        timed = keras.layers.TimeDistributed(Rows(3), name="timed")
        model = keras.Sequential([keras.Input((5, 4)), timed])
        twin, x = convert(model, "feedback_alignment", verbose=False), probe((2, 5, 4))
        assert type(twin.layers[0].layer) is FeedbackRows
        assert [row.rules for row in conversion_report(twin).converted] == [("FeedbackAlignment",)]
        np.testing.assert_array_equal(array(twin(x)), array(model(x)))
        np.testing.assert_array_equal(array(to_plain(twin)(x)), array(model(x)))


class TestArguments:
    @pytest.mark.parametrize("value", [None, 3, "Rows", Rows(2), Rows.build])
    def test_no_class_of_layers(self, value: Any) -> None:
        with pytest.raises(ValueError, match=r"`plain_class` must be a class of Keras layers"):
            register_conversion(value, FeedbackRows)
        with pytest.raises(ValueError, match=r"`our_class` must be a class of Keras layers"):
            register_conversion(Rows, value)

    def test_without_feedback(self) -> None:
        with pytest.raises(ValueError, match=r"`our_class` must be .*`feedback`"):
            register_conversion(Rows, keras.layers.Dense)

    def test_with_itself(self) -> None:
        with pytest.raises(ValueError, match=r"`our_class` must be another class than plain_class"):
            register_conversion(FeedbackRows, FeedbackRows)

    def test_what_is_there_stays_unless_overwritten(self) -> None:
        with pytest.raises(ValueError, match=r"`plain_class` must be .*paired with FeedbackDense"):
            register_conversion(keras.layers.Dense, FeedbackRows)
        with pytest.raises(ValueError, match="`overwrite` must be True or False"):
            register_conversion(keras.layers.Dense, FeedbackRows, overwrite=1)
        register_conversion(keras.layers.Dense, layers.FeedbackDense)
        register_conversion(Rows, FeedbackRows)
        register_conversion(Rows, layers.FeedbackDense, overwrite=True)
        assert conversions.our_class_of(Rows) is layers.FeedbackDense
        assert conversions.plain_class_of(layers.FeedbackDense) is keras.layers.Dense


class TestOwnLayer:
    def test_plain_form(self) -> None:
        model, x = keras.Sequential([keras.Input((4,)), Halved(3)]), probe((6, 4))
        plain = to_plain(model)
        assert type(plain.layers[1]) is keras.layers.Dense
        np.testing.assert_allclose(array(plain(x)), array(model(x)), rtol=1e-6)

    def test_report(self) -> None:
        model = keras.Sequential([keras.Input((4,)), Halved(3), keras.layers.Dense(2)])
        report = conversion_report(model)
        assert [row.rules for row in report.converted] == [("Halved",)]
        assert [row.kind for row in report.left] == ["Dense"]

    def test_convert_leaves_it(self) -> None:
        model = keras.Sequential([keras.Input((4,)), Halved(3), keras.layers.Dense(2)])
        twin, x = convert(model, "feedback_alignment", verbose=False), probe((6, 4))
        assert [type(layer) for layer in twin.layers] == [Halved, layers.FeedbackDense]
        np.testing.assert_array_equal(array(twin(x)), array(model(x)))

    def test_without_a_plain_form(self) -> None:
        class Alone(layers.FeedbackDense):
            plain = None

        model = keras.Sequential([keras.Input((4,)), Alone(3)])
        with pytest.raises(ValueError, match=r"`model`.*Alone has no plain form.*`plain`"):
            to_plain(model)


class TestSameSeeds:
    """Randomness follows from seeds and the position, never from names that Keras makes up."""

    @staticmethod
    def model(**names: str) -> keras.Model:
        inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
        return keras.Sequential(
            [keras.Input((4,)), inner, keras.layers.Dense(4, **names), keras.layers.Dense(2)]
        )

    @staticmethod
    def drawn(model: keras.Model, **options: Any) -> list[np.ndarray]:
        twin = convert(model, "feedback_alignment", verbose=False, **options)
        return [array(w) for w in twin.weights if w.name == "feedback_kernel"]

    @pytest.mark.parametrize("options", [{}, {"seed": 4}, {"keep_weights": False}])
    def test_two_builds_agree(self, options: dict[str, Any]) -> None:
        found = []
        for _ in range(2):
            keras.utils.set_random_seed(3)
            twin = convert(self.model(), "feedback_alignment", verbose=False, **options)
            found.append([array(weight) for weight in twin.weights])
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_layers_of_one_shape_differ(self) -> None:
        one, other, _ = self.drawn(self.model(), seed=4)
        assert np.abs(one - other).max() > 0.1

    def test_names_of_a_user_count(self) -> None:
        one, other = (self.drawn(self.model(name=name), seed=4)[1] for name in ("a", "b"))
        assert np.abs(one - other).max() > 0.1

    def test_as_in_a_fresh_process(self) -> None:
        """With the names that a fresh process gives, a seed means what it meant before."""
        from keras_local.models.conversion.scope import paths_for_seeds

        names = [keras.layers.Dense(3, name=name) for name in ("dense", "hidden", "dense_1")]
        model = keras.Sequential([keras.Input((4,)), *names, keras.layers.Dense(2)])
        assert list(paths_for_seeds(model).values()) == ["dense", "hidden", "dense_1", "dense_2"]
