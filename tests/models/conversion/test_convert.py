"""The feedback twin of any model: the same predictions, errors by the rule, the model as it was."""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import datasets, feedback, layers
from keras_local.activations import Ramp
from keras_local.models import conversion_report, convert, to_plain
from tests.oracles import dense_input_gradient
from tests.support import BACKEND, array, cases, probe, weights_of

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="conversion: on one backend"),
    # Kolen-Pollack says so of the layer with a regulariser.
    pytest.mark.filterwarnings("ignore:.*`kernel_regularizer` acts on the kernel alone"),
]

FA = "feedback_alignment"


def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation="tanh", name="first"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(4, use_bias=False),
            keras.layers.Dense(3, activation=Ramp()),
        ]
    )


def convolutions() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Conv2D(4, 2, groups=2, kernel_regularizer=keras.regularizers.L2(0.1)),
            keras.layers.Reshape((9, 4)),
            keras.layers.Conv1D(5, 2, dilation_rate=2, padding="causal"),
            keras.layers.Reshape((3, 3, 5, 1)),
            keras.layers.Conv3D(2, 2, activity_regularizer=keras.regularizers.L2(0.1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def multi_input() -> keras.Model:
    """A dict of inputs, two outputs, operations, a layer used twice, a lambda."""
    one, other = keras.Input((6,), name="one"), keras.Input((6,), name="other")
    shared = keras.layers.Dense(5, name="shared")
    a, b = shared(one), shared(other)
    merged = keras.ops.multiply(a, 2.0) + keras.layers.Concatenate()([b, b])[:, :5]
    doubled = keras.layers.Lambda(lambda x: keras.ops.add(x, x))(b)
    return keras.Model(
        {"one": one, "other": other}, [keras.layers.Dense(3)(merged), keras.ops.tanh(doubled)]
    )


def residual() -> keras.Model:
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    y = keras.layers.BatchNormalization()(x)
    y = keras.layers.Conv2D(4, 3, padding="same")(keras.layers.ReLU()(y))
    x = keras.layers.Add()([x, y])
    return keras.Model(
        inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)), name="residual"
    )


def nested() -> keras.Model:
    """Models in models, one of them used twice, and one layer in two of them."""
    common = keras.layers.Dense(4, name="common")
    inner_input = keras.Input((6,))
    hidden = keras.layers.Dense(6, name="hidden")(inner_input)
    inner = keras.Model(inner_input, common(hidden), name="inner")
    stack = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(6, name="hidden")], name="stack"
    )
    inputs = keras.Input((6,))
    outputs = inner(stack(inner(inputs)))
    return keras.Model(inputs, outputs + common(inputs), name="outer")


def ours() -> keras.Model:
    """Feedback and Hebbian layers that are there already."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.FeedbackDense(5, activation="tanh", feedback=FA),
            layers.HebbianDense(4, activation="relu"),
            keras.layers.Dense(3),
        ]
    )


def others() -> keras.Model:
    """Every other linear layer that has a feedback form."""
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.SeparableConv2D(6, 3, activation="relu")(inputs)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = keras.layers.Conv2DTranspose(5, 3, strides=2, activation=Ramp())(x)
    x = keras.layers.Reshape((-1, 5))(x)
    x = keras.layers.EinsumDense("abc,cd->abd", output_shape=(None, 6), bias_axes="d")(x)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(x)))


def attention() -> keras.Model:
    query, value = keras.Input((6, 4)), keras.Input((5, 8))
    x = keras.layers.MultiHeadAttention(2, 3, value_dim=5, dropout=0.3)(query, value)
    x = keras.layers.LayerNormalization()(x + query)
    return keras.Model([query, value], keras.layers.Dense(3)(x))


MODELS: dict[str, Callable[[], keras.Model]] = {
    "sequential": sequential,
    "convolutions": convolutions,
    "multi_input": multi_input,
    "residual": residual,
    "nested": nested,
    "ours": ours,
    "others": others,
    "attention": attention,
}


def inputs_of(model: keras.Model, seed: int = 0, count: int = 8) -> Any:
    """Arrays in the structure of the model's inputs."""
    seeds = iter(range(seed, seed + 9))
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(lambda t: probe((count, *t.shape[1:]), next(seeds)), structure)


def outputs_of(model: keras.Model, inputs: Any, training: bool = False) -> list[np.ndarray]:
    return [array(t) for t in keras.tree.flatten(model(inputs, training=training))]


def gradients_of(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    """Of a fixed function of the outputs in training, at the trainable weights."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(model(inputs, training=True))
        loss = sum(tf.reduce_sum(o * probe(o.shape, 50)) for o in outputs) + sum(model.losses)
    variables = [weight.value for weight in model.trainable_weights]
    return [array(g) for g in tape.gradient(loss, variables, unconnected_gradients="zero")]


def trained(name: str) -> keras.Model:
    """A model in which no two weights, and no statistic, are what they were at first."""
    keras.utils.set_random_seed(1)
    model = MODELS[name]()
    x = inputs_of(model)
    targets = [np.ones(o.shape, "float32") for o in outputs_of(model, x)]
    loss = ["mse"] * len(targets) if len(targets) > 1 else "mse"
    model.compile(keras.optimizers.SGD(0.05), loss, jit_compile=False)
    model.fit(x, targets if len(targets) > 1 else targets[0], epochs=2, verbose=0)
    return model


def quietly(model: keras.Model, *arguments: Any, **options: Any) -> keras.Model:
    return convert(model, *arguments, verbose=False, **options)


def feedback_layers(model: keras.Model) -> dict[str, layers.FeedbackLayer]:
    """By name; those of nested models as well."""
    parts = model._flatten_layers(include_self=False)
    return {part.name: part for part in parts if isinstance(part, layers.FeedbackLayer)}


@pytest.fixture(params=MODELS, scope="module")
def model(request: pytest.FixtureRequest) -> keras.Model:
    return trained(request.param)


class TestTwin:
    def test_same_predictions(self, model: keras.Model) -> None:
        x = inputs_of(model, seed=10)
        twin = quietly(model, FA)
        for one, other in zip(outputs_of(model, x), outputs_of(twin, x), strict=True):
            assert np.std(one) > 1e-3
            np.testing.assert_array_equal(one, other)

    def test_symmetric_learns_as_the_model_does(self, model: keras.Model) -> None:
        """Also through dropout: the states of random generators are carried over."""
        plain = to_plain(model)
        twin = quietly(plain, "symmetric")
        x = inputs_of(model, seed=10)
        pairs = zip(gradients_of(plain, x), gradients_of(twin, x), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * np.abs(one).max())

    def test_every_layer_that_has_a_form_has_it(self, model: keras.Model) -> None:
        twin = quietly(model, FA)
        kinds = {type(part) for part in twin._flatten_layers(include_self=False)}
        assert not kinds & {
            keras.layers.Dense,
            keras.layers.Conv1D,
            keras.layers.Conv2D,
            keras.layers.Conv3D,
            keras.layers.SeparableConv2D,
            keras.layers.DepthwiseConv2D,
            keras.layers.Conv2DTranspose,
            keras.layers.EinsumDense,
            keras.layers.MultiHeadAttention,
        }
        assert all(
            type(part.feedback).__name__ == "FeedbackAlignment"
            for part in feedback_layers(twin).values()
        )

    def test_round_trip(self, model: keras.Model) -> None:
        again = to_plain(quietly(model, FA))
        plain = to_plain(model)
        assert [weight.name for weight in again.weights] == [w.name for w in plain.weights]
        for one, other in zip(weights_of(again), weights_of(plain), strict=True):
            np.testing.assert_array_equal(one, other)
        x = inputs_of(model, seed=10)
        for one, other in zip(outputs_of(again, x), outputs_of(plain, x), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_names_kind_and_structure(self, model: keras.Model) -> None:
        twin = quietly(model, FA)
        assert (type(twin), twin.name, twin.compiled) == (type(model), model.name, False)
        assert [layer.name for layer in twin.layers] == [layer.name for layer in model.layers]
        if not isinstance(model, keras.Sequential):
            keras.tree.assert_same_structure(twin.input, model.input)
            keras.tree.assert_same_structure(twin.output, model.output)

    def test_the_model_is_as_it_was(self, model: keras.Model) -> None:
        before = weights_of(model)
        kinds = [type(layer) for layer in model.layers]
        stream = random.getstate()
        twin = quietly(model, FA)
        assert random.getstate() == stream
        for weight in twin.trainable_weights:
            weight.assign(weight + 1.0)
        for one, other in zip(before, weights_of(model), strict=True):
            np.testing.assert_array_equal(one, other)
        assert [type(layer) for layer in model.layers] == kinds
        assert model.compiled

    def test_saved_and_loaded(self, model: keras.Model, tmp_path: Any) -> None:
        twin = quietly(model, "kolen_pollack")
        if any(isinstance(layer, keras.layers.Lambda) for layer in twin.layers):
            pytest.skip("Keras does not load Python functions")
        if model.name == "outer":
            pytest.skip("Keras does not load a layer that stands in two models, its own neither")
        twin.save(tmp_path / "twin.keras")
        loaded = keras.saving.load_model(tmp_path / "twin.keras")
        for one, other in zip(weights_of(twin), weights_of(loaded), strict=True):
            np.testing.assert_array_equal(one, other)


def test_statistics_have_moved() -> None:
    """Else the twin of a new normalisation layer would do."""
    model = trained("residual")
    statistics = [w for w in model.weights if w.name.startswith("moving")]
    twin = [w for w in quietly(model, FA).weights if w.name.startswith("moving")]
    assert len(statistics) == len(twin) == 2
    for one, other in zip(statistics, twin, strict=True):
        assert np.max(np.abs(array(one) - (one.name == "moving_variance"))) > 1e-3
        np.testing.assert_array_equal(array(one), array(other))


def test_shared_layers_stay_shared() -> None:
    for name, shared in (("multi_input", "shared"), ("nested", "common")):
        model = trained(name)
        twin = quietly(model, FA)
        found = [p for p in twin._flatten_layers() if p.name == shared]
        assert len({id(part) for part in found}) == 1
        assert len(twin.trainable_weights) == len(model.trainable_weights)


def test_frozen_layers_stay_frozen() -> None:
    model = trained("nested")
    model.get_layer("inner").trainable = False
    twin = quietly(model, FA)
    assert not twin.get_layer("inner").trainable
    assert [w.path for w in twin.trainable_weights] == [w.path for w in model.trainable_weights]
    assert len(twin.trainable_weights) == 2


def test_arguments_are_kept() -> None:
    layer = keras.layers.Conv2D(
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
    twin = quietly(keras.Sequential([keras.Input((8, 8, 2)), layer]), FA).layers[-1]
    assert type(twin) is layers.FeedbackConv2D
    assert (twin.name, twin.kernel_size, twin.strides) == ("conv", (3, 2), (2, 1))
    assert (twin.padding, twin.use_bias) == ("same", False)
    assert isinstance(twin.kernel_regularizer, keras.regularizers.L2)
    assert isinstance(twin.kernel_constraint, keras.constraints.MaxNorm)
    assert isinstance(twin.kernel_initializer, keras.initializers.HeNormal)
    assert twin.dtype_policy.name == "mixed_bfloat16"


class TestFeedbackKernels:
    def test_errors_return_through_them(self) -> None:
        """Against an oracle: two layers, the error in between comes down by the feedback kernel."""
        net = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5), keras.layers.Dense(3)])
        twin = quietly(net, FA)
        x, error = probe((8, 6)), probe((8, 3), 50)
        below = dense_input_gradient(error, array(twin.layers[1].feedback_kernel))
        gradient = gradients_of(twin, x)[0]
        np.testing.assert_allclose(gradient, x.T.astype("float64") @ below, rtol=1e-4, atol=1e-4)
        by_backprop = dense_input_gradient(error, array(net.layers[1].kernel))
        assert np.abs(gradient - x.T @ by_backprop).max() > 0.1

    @pytest.mark.parametrize("rule", [FA, "kolen_pollack"])
    def test_drawn_from_their_law_and_independent(self, rule: str) -> None:
        """Of each other and of the kernels, whatever weights the model has."""
        keras.utils.set_random_seed(0)
        net = keras.Sequential([keras.Input((60,)), *(keras.layers.Dense(60) for _ in range(4))])
        for layer in net.layers:
            layer.kernel.assign(layer.kernel * 20.0)
        twin = quietly(net, rule)
        kernels = [array(layer.kernel).ravel() for layer in net.layers]
        kernels += [array(layer.feedback_kernel).ravel() for layer in twin.layers]
        correlations = np.corrcoef(kernels) - np.eye(8)
        assert np.abs(correlations).max() < 5 / 60
        limit = np.sqrt(6 / 120)
        for kernel in kernels[4:]:
            assert 0.9 * limit < np.abs(kernel).max() <= limit + 1e-5
            assert np.std(kernel) == pytest.approx(limit / np.sqrt(3), rel=0.1)

    def test_independent_in_a_layer_with_two_kernels(self) -> None:
        net = keras.Sequential([keras.Input((9, 9, 60)), keras.layers.SeparableConv2D(9, 3)])
        layer = quietly(net, FA).layers[0]
        parts = (layer.depthwise, layer.pointwise)
        kernels = [array(k).ravel() for p in parts for k in (p.kernel, p.feedback_kernel)]
        assert {kernel.size for kernel in kernels} == {540}
        assert np.abs(np.corrcoef(kernels) - np.eye(4)).max() < 0.15

    def test_by_the_law_of_the_kernel(self) -> None:
        law = keras.initializers.RandomNormal(stddev=3.0, seed=1)
        hidden = [keras.layers.Dense(60, kernel_initializer=law, name=n) for n in "ab"]
        twin = quietly(keras.Sequential([keras.Input((60,)), *hidden]), FA, None)
        kernels = [array(p.feedback_kernel).ravel() for p in twin.layers]
        kernels.append(array(hidden[0].kernel).ravel())
        assert np.std(kernels, axis=1) == pytest.approx([3.0] * 3, rel=0.1)
        assert np.abs(np.corrcoef(kernels) - np.eye(3)).max() < 5 / 60

    def test_same_names_in_two_models(self) -> None:
        twin = quietly(trained("nested"), FA)
        inner, stack = twin.get_layer("inner"), twin.get_layer("stack")
        one = array(inner.get_layer("hidden").feedback_kernel)
        other = array(stack.get_layer("hidden").feedback_kernel)
        assert one.shape == (6, 6)
        assert other.shape == (4, 6)
        assert np.abs(one[:4] / np.abs(one).max() - other / np.abs(other).max()).max() > 0.1

    def test_seed(self) -> None:
        model = trained("residual")

        def drawn(**options: Any) -> list[np.ndarray]:
            parts = feedback_layers(quietly(model, FA, **options)).values()
            return [array(part.feedback_kernel) for part in parts]

        for one, other in zip(drawn(seed=3), drawn(seed=3), strict=True):
            np.testing.assert_array_equal(one, other)
        for one, other in zip(drawn(seed=3), drawn(seed=4), strict=True):
            assert np.abs(one - other).max() > 0.01
        keras.utils.set_random_seed(7)
        first = drawn()
        keras.utils.set_random_seed(7)
        for one, other in zip(first, drawn(), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_an_initializer_with_a_seed_keeps_it(self) -> None:
        law = keras.initializers.RandomUniform(-3, 3, seed=5)
        twin = quietly(trained("sequential"), FA, feedback_initializer=law)
        expected = keras.initializers.RandomUniform(-3, 3, seed=5)((6, 5))
        np.testing.assert_array_equal(array(twin.layers[0].feedback_kernel), array(expected))

    def test_new_weights(self) -> None:
        model = trained("residual")
        twin = quietly(model, FA, keep_weights=False, seed=1)
        again = quietly(model, FA, keep_weights=False, seed=1)
        changed = [
            np.abs(one - other).max() > 1e-3
            for one, other in zip(weights_of(to_plain(twin)), weights_of(model), strict=True)
        ]
        assert all(changed)
        for one, other in zip(weights_of(twin), weights_of(again), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_rule_for_each_layer(self) -> None:
        def rule(layer: keras.layers.Layer) -> Any:
            names = {"hidden": feedback.KolenPollack(decay=0.1), "common": None}
            return names.get(layer.name, FA)

        model = nested()
        given = feedback_layers(quietly(model, rule))
        assert "common" not in given
        assert type(given["hidden"].feedback) is feedback.KolenPollack
        assert given["hidden"].feedback.decay == 0.1

    def test_each_layer_has_a_copy_of_the_rule(self) -> None:
        rule = feedback.KolenPollack(rate=0.5)
        parts = feedback_layers(quietly(trained("residual"), rule)).values()
        assert len({id(part.feedback) for part in parts} | {id(rule)}) == 4
        assert {part.feedback.rate for part in parts} == {0.5}


class TestChoice:
    @pytest.mark.parametrize(
        ("options", "converted"),
        [
            ({"include": "inner"}, {"hidden", "common"}),
            ({"include": "stack/hidden"}, {"hidden"}),
            ({"exclude": "common"}, {"hidden"}),
            ({"exclude": ["stack", "inner/hidden"]}, {"common"}),
            ({"exclude": [keras.Sequential, lambda layer: layer.name == "common"]}, {"hidden"}),
            ({"include": "inner", "exclude": "common"}, {"hidden"}),
            ({"include": [keras.layers.Dense]}, {"hidden", "common"}),
        ],
    )
    def test_choices(self, options: dict[str, Any], converted: set[str]) -> None:
        model = trained("nested")
        twin = quietly(model, FA, **options)
        assert set(feedback_layers(twin)) == converted
        x = inputs_of(model, 10)
        np.testing.assert_array_equal(outputs_of(twin, x)[0], outputs_of(model, x)[0])

    def test_an_excluded_feedback_layer_keeps_its_rule_and_weights(self) -> None:
        model = trained("ours")
        twin = quietly(model, "kolen_pollack", exclude=lambda layer: layer is model.layers[0])
        assert type(twin.layers[0].feedback) is feedback.FeedbackAlignment
        np.testing.assert_array_equal(
            array(twin.layers[0].feedback_kernel), array(model.layers[0].feedback_kernel)
        )
        assert type(twin.layers[2].feedback) is feedback.KolenPollack

    def test_a_class_stands_for_its_feedback_form(self) -> None:
        twin = quietly(trained("ours"), "kolen_pollack", include=keras.layers.Dense)
        kinds = {type(part.feedback) for part in feedback_layers(twin).values()}
        assert (len(feedback_layers(twin)), kinds) == (2, {feedback.KolenPollack})

    @pytest.mark.parametrize("name", ["sequential", "residual"])
    def test_the_lowest_layers_need_no_feedback_kernel(self, name: str) -> None:
        """Without one all forward weights learn the same."""
        model = trained(name)
        before = [array(weight) for weight in to_plain(model).weights]
        found = []
        for lowest in (True, False):
            twin = quietly(model, feedback.SymmetricAlignment(0.5, 0.5), lowest=lowest, seed=1)
            rows = {row.path: row.rules for row in conversion_report(twin).left}
            assert (not rows) == lowest
            x = inputs_of(model, 20)
            twin.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", jit_compile=False)
            target = np.ones(outputs_of(model, x)[0].shape, "float32")
            twin.fit(x, target, batch_size=10, epochs=3, shuffle=False, verbose=0)
            found.append([array(weight) for weight in to_plain(twin).weights])
        for one, other, start in zip(*found, before, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
            assert np.abs(one - start).max() > 1e-4

    def test_lowest_are_those_with_nothing_trained_below(self) -> None:
        stack = [keras.layers.Dense(3, name="a"), keras.layers.Dense(3, name="b")]
        frozen = keras.layers.Dense(4, name="frozen", trainable=False)
        inner = keras.Sequential([keras.Input((4,)), *stack])
        model = keras.Sequential([keras.Input((5,)), frozen, inner])
        assert set(feedback_layers(quietly(model, FA))) == {"frozen", "a", "b"}
        assert set(feedback_layers(quietly(model, FA, lowest=False))) == {"b"}

    def test_a_lowest_layer_of_two_kernels_is_converted(self) -> None:
        stack = [keras.layers.SeparableConv2D(2, 3), keras.layers.Conv2D(2, 3)]
        model = keras.Sequential([keras.Input((8, 8, 2)), *stack])
        twin = quietly(model, FA, lowest=False)
        assert type(twin.layers[0]) is layers.FeedbackSeparableConv2D

    def test_lowest_is_a_bool(self) -> None:
        with pytest.raises(ValueError, match=r"`lowest` must be True or False.*Received"):
            quietly(nested(), FA, lowest=1)

    @pytest.mark.parametrize("argument", ["include", "exclude"])
    @pytest.mark.parametrize("value", ["nobody", ["hidden", "stack/nobody"], 3, [None]])
    def test_wrong_choices(self, argument: str, value: Any) -> None:
        with pytest.raises(ValueError, match=rf"`{argument}` must be .*Received"):
            quietly(nested(), FA, **{argument: value})


class Doubled(keras.layers.Dense):
    """A subclass with a `call` of its own."""

    def call(self, inputs: Any) -> Any:
        return 2.0 * super().call(inputs)


class Mixer(keras.layers.Layer):
    """A layer of somebody else, with a kernel."""

    def build(self, shape: Any) -> None:
        self.matrix = self.add_weight(shape=(shape[-1], shape[-1]), name="matrix")

    def call(self, inputs: Any) -> Any:
        return inputs @ self.matrix


class Scale(keras.layers.Layer):
    """A layer of somebody else, without a kernel."""

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

    def call(self, inputs: Any) -> Any:
        return inputs * self.gain


class Own(keras.Model):
    """A model with a `call` of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.hidden = keras.layers.Dense(5, name="hidden")

    def call(self, inputs: Any) -> Any:
        return self.hidden(inputs)


KERNELS: dict[str, Callable[[], keras.layers.Layer]] = {
    "LSTM": lambda: keras.layers.LSTM(5, return_sequences=True, name="odd"),
    "GRU": lambda: keras.layers.GRU(5, return_sequences=True, name="odd", trainable=False),
    "TimeDistributed, which holds Doubled": lambda: keras.layers.TimeDistributed(
        Doubled(5), name="odd"
    ),
    "Bidirectional, which holds": lambda: keras.layers.Bidirectional(
        keras.layers.SimpleRNN(3, return_sequences=True), name="odd"
    ),
    "Doubled, which has kernels": lambda: Doubled(5, name="odd"),
    "Mixer, which has kernels": lambda: Mixer(name="odd"),
    "Own, a model with a `call`": lambda: Own(name="odd"),
}


class TestRefused:
    @pytest.mark.parametrize("kind", KERNELS)
    def test_layers_that_have_no_form(self, kind: str) -> None:
        model = keras.Sequential(
            [keras.Input((4, 5)), KERNELS[kind](), keras.layers.Dense(3, name="last")]
        )
        before = weights_of(model)
        stream = random.getstate()
        with pytest.raises(ValueError, match=rf"`model` must be.*Received.*'odd' \({kind}"):
            quietly(model, FA)
        assert random.getstate() == stream
        for one, other in zip(before, weights_of(model), strict=True):
            np.testing.assert_array_equal(one, other)
        for options in ({"exclude": "odd"}, {"include": "last"}):
            twin = quietly(model, FA, **options)
            assert type(twin.layers[0]) is type(model.layers[0])
            x = probe((2, 4, 5))
            np.testing.assert_array_equal(outputs_of(twin, x)[0], outputs_of(model, x)[0])

    def test_a_subclass_of_attention(self) -> None:
        class Mine(keras.layers.MultiHeadAttention):
            """Of somebody else."""

        inputs = keras.Input((4, 6))
        attended = Mine(2, 3, name="attention")(inputs, inputs)
        model = keras.Model(inputs, keras.layers.Dense(3)(attended))
        with pytest.raises(ValueError, match=r"'attention' \(Mine, which holds"):
            quietly(model, FA)
        x = probe((2, 4, 6))
        twin = quietly(model, FA, exclude="attention")
        np.testing.assert_array_equal(outputs_of(twin, x)[0], outputs_of(model, x)[0])

    def test_all_are_named(self) -> None:
        model = keras.Sequential(
            [keras.Input((4, 5)), Mixer(name="one"), keras.layers.GRU(3, name="two")]
        )
        with pytest.raises(ValueError, match=r"'one' \(Mixer.*'two' \(GRU"):
            quietly(model, FA)

    @pytest.mark.parametrize(
        "layer", [lambda: Scale(), lambda: keras.layers.PReLU(), lambda: keras.layers.Rescaling(2)]
    )
    def test_layers_without_kernels_are_not(self, layer: Callable[[], keras.layers.Layer]) -> None:
        model = keras.Sequential([keras.Input((4, 5)), layer(), keras.layers.Dense(3)])
        twin = quietly(model, FA)
        assert type(twin.layers[0]) is type(model.layers[0])

    def test_a_layer_that_cannot_be_copied(self) -> None:
        class Secret(keras.layers.Layer):
            def __init__(self, thing: Any) -> None:
                super().__init__(name="secret")

            def call(self, inputs: Any) -> Any:
                return inputs

        layer = Secret(object())
        model = keras.Sequential([keras.Input((5,)), layer, keras.layers.Dense(3)])
        with pytest.raises(ValueError, match=r"`model` must be.*Received: Secret 'secret'"):
            quietly(model, FA)

    def test_nothing_to_convert(self) -> None:
        model = keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])
        with pytest.raises(ValueError, match="a layer to convert"):
            quietly(model, FA)

    def test_subclassed_model(self) -> None:
        model = Own(name="own")
        model(probe((2, 4)))
        with pytest.raises(ValueError, match=r"`model`.*Sequential or functional.*Own 'own'"):
            quietly(model, FA)

    def test_own_train_step(self) -> None:
        class Louder(keras.Model):
            def train_step(self, *arguments: Any) -> Any:
                return super().train_step(*arguments)

        inputs = keras.Input((4,))
        with pytest.raises(ValueError, match=r"`model` must be.*its own \['train_step'\]"):
            quietly(Louder(inputs, keras.layers.Dense(3)(inputs)), FA)

    def test_not_built(self) -> None:
        with pytest.raises(ValueError, match=r"`model`.*built.*Received.*Sequential"):
            quietly(keras.Sequential([keras.layers.Dense(3)]), FA)

    @pytest.mark.parametrize("model", [None, "model", keras.layers.Dense])
    def test_not_a_model(self, model: Any) -> None:
        with pytest.raises(ValueError, match=r"`model` must be a keras\.Model.*Received"):
            quietly(model, FA)

    @pytest.mark.parametrize("rule", ["backprop", 3, feedback.KolenPollack, lambda layer: "nope"])
    def test_unknown_rules(self, rule: Any) -> None:
        with pytest.raises(ValueError, match="`feedback` must be a FeedbackRule"):
            quietly(sequential(), rule)

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("feedback_initializer", "glorot_unifrom"),
            ("feedback_initializer", 3),
            ("connectivity", 1.5),
            ("connectivity", "half"),
            ("verbose", 1),
            ("keep_weights", None),
        ],
    )
    def test_wrong_arguments(self, argument: str, value: Any) -> None:
        options = {"verbose": False, argument: value}
        with pytest.raises((TypeError, ValueError), match=f"`{argument}` must be .*Received"):
            convert(sequential(), FA, **options)

    def test_wrong_seed(self) -> None:
        with pytest.raises(ValueError, match="`seed` must be an integer"):
            quietly(sequential(), FA, seed=-1)


class TestReport:
    def test_of_a_converted_model(self, capsys: pytest.CaptureFixture[str]) -> None:
        model = trained("residual")
        twin = convert(model, "kolen_pollack", exclude=keras.layers.Dense)
        printed = capsys.readouterr().out
        report = conversion_report(twin)
        assert printed.strip() == str(report)
        assert [row.kind for row in report.converted] == ["FeedbackConv2D"] * 2
        assert [row.rules for row in report.converted] == [("KolenPollack",)] * 2
        assert [row.parameters for row in report.converted] == [72, 148]
        assert [row.feedback_parameters for row in report.converted] == [73, 145]
        assert [(row.kind, row.rules) for row in report.left] == [("Dense", ())]
        assert report.others["BatchNormalization"] == 1
        for part in (report.left[0].path, "2 of 3 layers", "backpropagation", "1 Add"):
            assert part in printed

    def test_of_any_model(self) -> None:
        report = conversion_report(nested())
        assert not report.converted
        assert [row.path for row in report.left] == ["inner/hidden", "inner/common", "stack/hidden"]

    @pytest.mark.parametrize(
        ("rule", "options", "idle"),
        [
            ("symmetric_alignment", {}, ("a",)),
            ("symmetric_alignment", {"lowest": False}, ()),
            (feedback.KolenPollack(separate=True), {}, ("a",)),
            ("kolen_pollack", {}, ()),
            (FA, {}, ()),
        ],
    )
    def test_tells_of_feedback_that_learns_for_nobody(
        self, rule: Any, options: Any, idle: tuple[str, ...]
    ) -> None:
        stack = [keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
        model = keras.Sequential([keras.Input((4,)), *stack])
        report = conversion_report(quietly(model, rule, **options))
        assert report.idle == idle
        assert ("nothing is trained below a: " in str(report)) == bool(idle)

    def test_says_nothing_if_asked(self, capsys: pytest.CaptureFixture[str]) -> None:
        convert(sequential(), FA, verbose=False)
        assert not capsys.readouterr().out

    @pytest.mark.parametrize("model", [None, keras.Sequential([keras.layers.Dense(3)])])
    def test_refused(self, model: Any) -> None:
        with pytest.raises(ValueError, match=r"`model` must be .* built"):
            conversion_report(model)


APPLICATIONS = ("ResNet50", "MobileNetV2", "EfficientNetB0")


@functools.cache
def application(name: str) -> keras.Model:
    """With statistics that are not those of a new model."""
    keras.utils.set_random_seed(2)
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(32, 32, 3), classes=3, classifier_activation=None)
    for weight in model.weights:
        if weight.name == "moving_mean":
            weight.assign(probe(weight.shape, 1) * 0.1)
        if weight.name == "moving_variance":
            weight.assign(1.0 + 0.5 * np.abs(probe(weight.shape, 2)))
    return model


class TestApplications:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", cases(APPLICATIONS, daily=["MobileNetV2"]))
    def test_symmetric(self, name: str) -> None:
        model = application(name)
        twin = quietly(model, "symmetric")
        assert not conversion_report(twin).left
        x = probe((2, 32, 32, 3))
        np.testing.assert_array_equal(outputs_of(model, x)[0], outputs_of(twin, x)[0])
        before = weights_of(model)
        pairs = zip(gradients_of(model, x), gradients_of(twin, x), strict=True)
        for one, other in pairs:
            assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(one)
        for weight, value in zip(model.weights, before, strict=True):
            weight.assign(value)

    @pytest.mark.thorough
    @pytest.mark.parametrize("name", APPLICATIONS)
    def test_feedback_and_back(self, name: str) -> None:
        model = application(name)
        twin = quietly(model, FA)
        x = probe((2, 32, 32, 3))
        np.testing.assert_array_equal(outputs_of(model, x)[0], outputs_of(twin, x)[0])
        for one, other in zip(weights_of(to_plain(twin)), weights_of(model), strict=True):
            np.testing.assert_array_equal(one, other)


RULES = sorted(
    {
        str(feedback.get(alias).get_config()) + type(feedback.get(alias)).__name__: alias
        for alias in feedback._ALIASES
    }.values()
)
"""One alias for each rule."""


@pytest.mark.thorough
@pytest.mark.parametrize("rule", RULES)
def test_a_converted_resnet_trains(rule: str) -> None:
    """One step: the loss is finite and every kernel that an error reaches moves."""
    model = application("ResNet50")
    twin = quietly(model, rule)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    twin.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gradients do not exist")
        logs = twin.train_on_batch(probe((2, 32, 32, 3)), np.array([0, 2]), return_dict=True)
    assert np.isfinite(logs["loss"])
    moved = set()
    for name, part in feedback_layers(twin).items():
        assert np.all(np.isfinite(array(part.kernel))), name
        if np.any(array(part.kernel) != array(model.get_layer(name).kernel)):
            moved.add(name)
    # A detached layer sends no error down: the last one alone learns.
    expected = {"predictions"} if rule == "detached" else set(feedback_layers(twin))
    assert moved == expected


@pytest.mark.parametrize("rule", cases([FA, "kolen_pollack"], daily=["kolen_pollack"]))
def test_a_converted_net_learns_digits(rule: str) -> None:
    keras.utils.set_random_seed(0)
    (x, y), (xe, ye) = datasets.load("digits")
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    twin = quietly(net, rule)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    twin.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=False)
    twin.fit(x, y, batch_size=50, epochs=15, verbose=0)
    accuracy = np.mean(np.argmax(twin.predict(xe, verbose=0), axis=1) == ye)
    by_net = np.mean(np.argmax(net.predict(xe, verbose=0), axis=1) == ye)
    assert by_net < 0.3
    assert accuracy > 0.9
    assert np.abs(array(twin.layers[-1].feedback_kernel) - array(net.layers[-1].kernel)).max() > 0.1
