"""The feedback twin of any model: the same predictions, errors by the rule, the model as it was."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from keras_local.models import conversion_report, to_plain
from tests.models.conversion.support import (
    FA,
    MODELS,
    feedback_layers,
    gradients_of,
    inputs_of,
    nested,
    outputs_of,
    quietly,
    trained,
)
from tests.oracles import dense_input_gradient
from tests.support import BACKEND, array, probe, weights_of

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="conversion: on one backend"),
    # Kolen-Pollack says so of the layer with a regulariser.
    pytest.mark.filterwarnings("ignore:.*`kernel_regularizer` acts on the kernel alone"),
]


@pytest.fixture(params=MODELS, scope="module")
def model(request: pytest.FixtureRequest) -> keras.Model:
    return trained(request.param)


class TestTwin:
    @pytest.mark.few(4)
    def test_same_predictions(self, model: keras.Model) -> None:
        x = inputs_of(model, seed=10)
        twin = quietly(model, FA)
        for one, other in zip(outputs_of(model, x), outputs_of(twin, x), strict=True):
            assert np.std(one) > 1e-3
            np.testing.assert_array_equal(one, other)

    @pytest.mark.few(4)
    def test_symmetric_learns_as_the_model_does(self, model: keras.Model) -> None:
        """Also through dropout: the states of random generators are carried over."""
        plain = to_plain(model)
        twin = quietly(plain, "symmetric")
        x = inputs_of(model, seed=10)
        pairs = zip(gradients_of(plain, x), gradients_of(twin, x), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * np.abs(one).max())

    @pytest.mark.few(4)
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

    @pytest.mark.few(4)
    def test_round_trip(self, model: keras.Model) -> None:
        again = to_plain(quietly(model, FA))
        plain = to_plain(model)
        assert [weight.name for weight in again.weights] == [w.name for w in plain.weights]
        for one, other in zip(weights_of(again), weights_of(plain), strict=True):
            np.testing.assert_array_equal(one, other)
        x = inputs_of(model, seed=10)
        for one, other in zip(outputs_of(again, x), outputs_of(plain, x), strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.few(4)
    def test_names_kind_and_structure(self, model: keras.Model) -> None:
        twin = quietly(model, FA)
        assert (type(twin), twin.name, twin.compiled) == (type(model), model.name, False)
        assert [layer.name for layer in twin.layers] == [layer.name for layer in model.layers]
        if not isinstance(model, keras.Sequential):
            keras.tree.assert_same_structure(twin.input, model.input)
            keras.tree.assert_same_structure(twin.output, model.output)

    @pytest.mark.few(3)
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

    @pytest.mark.few(3)
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
    @pytest.mark.few(3)
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

    @pytest.mark.few(1)
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
