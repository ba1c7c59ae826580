"""The plain twin: built-in layers only, the same predictions, the original as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.activations import Ramp, RePU
from keras_local.models import readout, to_plain
from keras_local.plasticity import KrotovHopfield
from tests.plasticity.encoders import assert_close
from tests.support import BACKEND, array, probe, weights_of

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="conversion is tested on one backend"),
    pytest.mark.filterwarnings("ignore:No unit of layer"),
]

FA = "feedback_alignment"


def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.FeedbackDense(5, activation="tanh"),
            layers.FeedbackDense(4, feedback=FA, use_bias=False),
            layers.HebbianDense(4, KrotovHopfield(3.0), activation="relu"),
            keras.layers.Dense(3),
        ]
    )


def convolutions() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.FeedbackConv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.FeedbackConv2D(4, 2, groups=2, feedback=FA),
            keras.layers.Reshape((9, 4)),
            layers.FeedbackConv1D(5, 2, dilation_rate=2, padding="causal"),
            keras.layers.Reshape((3, 3, 5, 1)),
            layers.FeedbackConv3D(2, 2, feedback="symmetric"),
            keras.layers.Flatten(),
            layers.FeedbackDense(3),
        ]
    )


def activations() -> keras.Model:
    """Those of this package, on layers of both kinds."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.FeedbackConv2D(3, 3, activation=Ramp(0.8)),
            keras.layers.Conv2D(3, 3, activation=Ramp()),
            keras.layers.Flatten(),
            layers.FeedbackDense(9, activation=RePU(2.0)),
            keras.layers.Dense(8, activation=RePU(1.5)),
            layers.HebbianDense(7, activation=Ramp(0.3)),
            keras.layers.Activation(RePU(1.0)),
            keras.layers.Dense(3),
        ]
    )


def functional() -> keras.Model:
    """Two inputs, two outputs, operations, a layer used twice."""
    one, other = keras.Input((6,), name="one"), keras.Input((6,), name="other")
    shared = layers.FeedbackDense(5, activation=Ramp(0.9), name="shared")
    a, b = shared(one), shared(other)
    merged = keras.ops.multiply(a, 2.0) + keras.layers.Concatenate()([b, b])[:, :5]
    return keras.Model([one, other], [layers.FeedbackDense(3)(merged), keras.ops.tanh(b)])


def nested() -> keras.Model:
    """Models in models, one of them used twice, and one layer in two of them."""
    common = layers.HebbianDense(4, activation=RePU(2.0), name="common")
    inner_input = keras.Input((6,))
    inner = keras.Model(inner_input, common(layers.FeedbackDense(6)(inner_input)), name="inner")
    stack = keras.Sequential([keras.Input((4,)), layers.FeedbackDense(6, activation=Ramp())])
    inputs = keras.Input((6,))
    outputs = inner(stack(inner(inputs)))
    return keras.Model(inputs, outputs + common(inputs))


def normalised() -> keras.Model:
    """Statistics and dropout: layers that do something else in training."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.FeedbackDense(5),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            layers.FeedbackDense(3),
        ]
    )


def whole_readout() -> keras.Model:
    kernel = np.abs(probe((6, 7), 5))
    kernel /= np.linalg.norm(kernel, axis=0)
    kernel[:, 2] *= 9.0
    layer = layers.HebbianDense(7)
    encoder = keras.Sequential([keras.Input((3, 2)), keras.layers.Flatten(), layer])
    layer.kernel.assign(kernel)
    return readout(encoder, classes=3, use_bias=True)


MODELS: dict[str, Callable[[], keras.Model]] = {
    "sequential": sequential,
    "convolutions": convolutions,
    "activations": activations,
    "functional": functional,
    "nested": nested,
    "normalised": normalised,
    "readout": whole_readout,
}


def inputs_of(model: keras.Model, seed: int = 0) -> Any:
    """One array, or a list of them."""
    shapes = [(11, *tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or []]
    shapes = shapes or [(11, 3, 2)]  # A readout has no inputs of its own.
    arrays = [probe(shape, seed + i) for i, shape in enumerate(shapes)]
    return arrays if len(arrays) > 1 else arrays[0]


def trained(name: str) -> keras.Model:
    """A model in which no two weights are what they were when it was built."""
    keras.utils.set_random_seed(1)
    model = MODELS[name]()
    x = inputs_of(model)
    if name == "readout":
        model.fit(np.abs(x), np.arange(11) % 3, epochs=3, verbose=0)
        return model
    targets = model(x)
    one = isinstance(targets, (list, tuple))
    model.compile(keras.optimizers.SGD(0.05), ["mse", "mse"] if one else "mse", jit_compile=False)
    y = [np.ones(t.shape, "float32") for t in targets] if one else np.ones(targets.shape, "float32")
    model.fit(x, y, epochs=2, verbose=0)
    return model


@pytest.fixture(params=MODELS, scope="module")
def pair(request: pytest.FixtureRequest) -> tuple[keras.Model, keras.Model]:
    """A trained model and its plain twin."""
    model = trained(request.param)
    return model, to_plain(model)


def leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model._flatten_layers(include_self=False):
        if not isinstance(layer, keras.Model):
            yield layer


FEEDBACK_WEIGHTS = ("feedback_kernel", "feedback_kernel_offset", "feedback_kernel_scale")


def kinds_of(weights: list[Any]) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes but of what a plain model does without: the scale goes into a kernel."""
    left_out = (*FEEDBACK_WEIGHTS, "scale")
    return [(w.name, tuple(w.shape)) for w in weights if w.name not in left_out]


class TestTwin:
    def test_same_predictions(self, pair: tuple[keras.Model, keras.Model]) -> None:
        model, plain = pair
        x = inputs_of(model, seed=10)
        expected = keras.tree.flatten(model.predict(x, verbose=0))
        actual = keras.tree.flatten(plain.predict(x, verbose=0))
        assert len(expected) == len(actual)
        for one, other in zip(expected, actual, strict=True):
            assert np.std(one) > 1e-3
            assert_close(other, one.astype("float64"), 1e-6)

    def test_only_built_in_layers(self, pair: tuple[keras.Model, keras.Model]) -> None:
        _, plain = pair
        kinds = {type(layer) for layer in leaves(plain)}
        assert all(kind.__module__.startswith("keras.") for kind in kinds), kinds
        assert type(plain) is keras.Model or type(plain).__module__.startswith("keras.")
        assert "keras_local" not in plain.to_json()

    def test_no_feedback_weights(self, pair: tuple[keras.Model, keras.Model]) -> None:
        model, plain = pair
        assert sorted(kinds_of(plain.weights)) == sorted(kinds_of(model.weights))
        left_out = {w.name for w in model.weights} - {w.name for w in plain.weights}
        assert left_out <= {*FEEDBACK_WEIGHTS, "scale"}

    def test_names_are_kept(self, pair: tuple[keras.Model, keras.Model]) -> None:
        model, plain = pair
        assert plain.name == model.name
        names = {layer.name for layer in leaves(plain) if layer.weights}
        assert names <= {layer.name for layer in leaves(model)}

    def test_not_compiled(self, pair: tuple[keras.Model, keras.Model]) -> None:
        assert not pair[1].compiled

    def test_it_is_a_copy(self, pair: tuple[keras.Model, keras.Model]) -> None:
        model, plain = pair
        x = inputs_of(model)
        expected = keras.tree.flatten(model.predict(x, verbose=0))
        before = weights_of(model)
        twin = to_plain(model)
        for weight in twin.trainable_weights:
            weight.assign(weight + 1.0)
        for one, other in zip(before, weights_of(model), strict=True):
            np.testing.assert_array_equal(one, other)
        for one, other in zip(
            expected, keras.tree.flatten(model.predict(x, verbose=0)), strict=False
        ):
            np.testing.assert_array_equal(one, other)
        changed = keras.tree.flatten(twin.predict(x, verbose=0))
        assert any(np.any(one != other) for one, other in zip(expected, changed, strict=False))
        assert model.compiled
        assert not {id(layer) for layer in leaves(plain)} & {id(layer) for layer in leaves(model)}

    def test_twice(self, pair: tuple[keras.Model, keras.Model]) -> None:
        """The plain model is its own plain form."""
        _, plain = pair
        again = to_plain(plain)
        assert [type(layer) for layer in again.layers] == [type(layer) for layer in plain.layers]
        for one, other in zip(weights_of(again), weights_of(plain), strict=True):
            np.testing.assert_array_equal(one, other)


def test_statistics_have_moved() -> None:
    """Else the twin of a new normalisation layer would do."""
    statistics = array(trained("normalised").layers[1].moving_mean)
    assert np.max(np.abs(statistics)) > 1e-3


def test_shared_layers_stay_shared() -> None:
    for name in ("functional", "nested"):
        model = trained(name)
        plain = to_plain(model)
        shared = "shared" if name == "functional" else "common"
        matches = {id(layer) for layer in leaves(plain) if layer.name == shared}
        assert len(matches) == 1
        assert sorted(kinds_of(plain.weights)) == sorted(kinds_of(model.weights))


def test_arguments_are_kept() -> None:
    layer = layers.FeedbackConv2D(
        4,
        (3, 2),
        strides=(2, 1),
        padding="same",
        use_bias=False,
        kernel_regularizer=keras.regularizers.L2(0.1),
        kernel_constraint=keras.constraints.MaxNorm(1.0),
        kernel_initializer="he_normal",
        name="conv",
        dtype="mixed_bfloat16",
    )
    layer.trainable = False
    plain = to_plain(keras.Sequential([keras.Input((8, 8, 2)), layer])).layers[-1]
    assert type(plain) is keras.layers.Conv2D
    assert (plain.name, plain.kernel_size, plain.strides) == ("conv", (3, 2), (2, 1))
    assert (plain.padding, plain.use_bias, plain.trainable) == ("same", False, False)
    assert isinstance(plain.kernel_regularizer, keras.regularizers.L2)
    assert isinstance(plain.kernel_constraint, keras.constraints.MaxNorm)
    assert isinstance(plain.kernel_initializer, keras.initializers.HeNormal)
    assert plain.dtype_policy.name == "mixed_bfloat16"


def test_hebbian_layer_becomes_dense_without_bias() -> None:
    model = keras.Sequential([keras.Input((6,)), layers.HebbianDense(4, activation="relu")])
    plain = to_plain(model).layers[-1]
    assert type(plain) is keras.layers.Dense
    assert not plain.use_bias
    assert plain.activation is keras.activations.relu
    np.testing.assert_array_equal(array(plain.kernel), array(model.layers[0].kernel))


def test_readout_without_a_fit() -> None:
    """Its scale is not measured: all scores are zero, as in a call of the model."""
    model = whole_readout()
    x = inputs_of(model)
    np.testing.assert_array_equal(to_plain(model).predict(x, verbose=0), np.zeros((11, 3)))
    np.testing.assert_array_equal(array(model(x)), np.zeros((11, 3)))


def test_never_won_units_are_cut_off() -> None:
    plain = to_plain(trained("readout"))
    kernel = array(plain.layers[-1].kernel)
    np.testing.assert_array_equal(kernel[2], np.zeros(3))
    assert np.all(np.any(kernel[[0, 1, 3, 4, 5, 6]] != 0.0, axis=1))


def test_the_twin_can_be_trained() -> None:
    plain = to_plain(trained("sequential"))
    plain.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = probe((32, 6)), np.ones((32, 3), "float32")
    losses = plain.fit(x, y, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


WRAPPED: dict[str, Callable[[], keras.layers.Layer]] = {
    "feedback": lambda: layers.FeedbackDense(3, activation="relu"),
    "ramp": lambda: layers.FeedbackDense(3, activation=Ramp()),
    "hebbian": lambda: layers.HebbianDense(3),
    "stock": lambda: keras.layers.Dense(3, activation=Ramp()),
    "wrapper": lambda: keras.layers.TimeDistributed(layers.FeedbackDense(3), name="deep"),
    "model": lambda: keras.Sequential([keras.Input((5,)), layers.FeedbackDense(3)], name="deep"),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_inside_of_a_wrapper(kind: str, tmp_path: Any) -> None:
    """The wrapper is made again around the plain form."""
    shape = (4, 2, 5) if kind == "wrapper" else (4, 5)
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.TimeDistributed(WRAPPED[kind](), name="timed")]
    )
    for place, weight in enumerate(model.weights):
        weight.assign(probe(weight.shape, place))
    plain = to_plain(model)
    x = probe((3, *shape))
    assert_close(array(plain(x)), array(model(x)), 1e-6)
    assert type(plain.layers[-1]) is keras.layers.TimeDistributed
    assert "keras_local" not in plain.to_json()
    plain.save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    np.testing.assert_array_equal(array(loaded(x)), array(plain(x)))


def test_inside_of_a_wrapper_with_weights_of_its_own() -> None:
    wrapped = keras.layers.SpectralNormalization(layers.FeedbackDense(3))
    model = keras.Sequential([keras.Input((5,)), wrapped])
    for place, weight in enumerate(model.weights):
        weight.assign(probe(weight.shape, place))
    plain, x = to_plain(model), probe((3, 5))
    assert type(plain.layers[-1].layer) is keras.layers.Dense
    assert_close(array(plain(x)), array(model(x)), 1e-6)
    assert sorted(w.name for w in plain.weights) == ["bias", "kernel", "vector_u"]


class Own(keras.Model):
    """A model with a `call` of its own."""

    def __init__(self) -> None:
        super().__init__(name="own")
        self.hidden = layers.FeedbackDense(3)

    def call(self, inputs: Any) -> Any:
        return self.hidden(inputs)


class TestRefused:
    def test_a_layer_that_holds_one_of_ours(self) -> None:
        """The walk looks inside, and refuses what it cannot make again."""

        class Block(keras.layers.Layer):
            def __init__(self) -> None:
                super().__init__()
                self.hidden = layers.FeedbackDense(3)

            def build(self, shape: Any) -> None:
                self.hidden.build(shape)

            def call(self, inputs: Any) -> Any:
                return self.hidden(inputs)

        model = keras.Sequential([keras.Input((5,)), Block()])
        with pytest.raises(ValueError, match=r"`model`.*Received.*FeedbackDense inside of Block"):
            to_plain(model)

    def test_activations_inside_of_a_recurrence(self) -> None:
        """An activation that does not come last cannot be put behind the layer."""
        model = keras.Sequential([keras.Input((4, 5)), keras.layers.GRU(3, activation=Ramp())])
        x = probe((6, 4, 5))
        try:
            plain = to_plain(model)
        except ValueError:
            return
        assert_close(plain.predict(x, verbose=0), model.predict(x, verbose=0), 1e-5)

    def test_subclassed_model(self) -> None:
        model = Own()
        model(probe((2, 4)))
        with pytest.raises(ValueError, match=r"`model`.*Sequential or functional.*Own 'own'"):
            to_plain(model)

    def test_subclassed_model_inside(self) -> None:
        inputs = keras.Input((4,))
        model = keras.Model(inputs, Own()(inputs))
        with pytest.raises(ValueError, match=r"`model`.*Sequential or functional.*Own 'own'"):
            to_plain(model)

    def test_functional_model_with_a_call_of_its_own(self) -> None:
        class Louder(keras.Model):
            def call(self, inputs: Any, **options: Any) -> Any:
                return 2.0 * super().call(inputs, **options)

        inputs = keras.Input((4,))
        model = Louder(inputs, layers.FeedbackDense(3)(inputs))
        x = probe((2, 4))
        try:
            plain = to_plain(model)
        except ValueError:
            return
        assert_close(array(plain(x)), array(model(x)), 1e-6)

    def test_not_built(self) -> None:
        with pytest.raises(ValueError, match=r"`model`.*built.*Received.*Sequential"):
            to_plain(keras.Sequential([layers.FeedbackDense(3)]))

    @pytest.mark.parametrize("model", [None, "model", layers.FeedbackDense(3)])
    def test_not_a_model(self, model: Any) -> None:
        with pytest.raises(ValueError, match=r"`model` must be a keras\.Model.*Received"):
            to_plain(model)
