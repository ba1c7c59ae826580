"""Rules with a modulator, with a trace, and rules that are put together from functions."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, ops, plasticity
from keras_local.plasticity import (
    EligibilityRule,
    Hebb,
    Oja,
    PointwiseRule,
    RewardModulatedHebb,
    Sanger,
    SeparableRule,
    SimilarityMatching,
    SoftHebb,
    ThirdFactor,
)
from tests.plasticity.encoders import assert_close
from tests.support import array, compile_options, probe

tensor = keras.ops.convert_to_tensor


class TestThirdFactor:
    def test_delta_rule_converges_to_least_squares(self) -> None:
        x, target = probe((50, 4)), probe((50, 3), 1)
        best = np.linalg.lstsq(x.astype("float64"), target, rcond=None)[0]
        w = np.zeros((4, 3), "float32")
        rule = ThirdFactor()
        for _ in range(150):
            error = target - x @ w
            w = w + 0.5 * array(rule.update(tensor(x), tensor(w), modulator=tensor(error)))
        np.testing.assert_allclose(w, best, atol=1e-4)

    def test_an_error_through_the_weights_above_is_backpropagation(self) -> None:
        x, w, above = probe((12, 5)), probe((5, 4), 1), probe((4, 2), 2)
        target = probe((12, 2), 3)

        def loss(kernel: Any) -> Any:
            hidden = keras.ops.tanh(keras.ops.matmul(tensor(x), kernel))
            outputs = keras.ops.matmul(hidden, tensor(above))
            return keras.ops.mean(keras.ops.sum((outputs - tensor(target)) ** 2, axis=-1) / 2.0)

        (gradient,) = ops.gradients(loss, [tensor(w)])
        hidden = np.tanh(x @ w)
        error = target - hidden @ above
        for weights, same in ((above, True), (probe((4, 2), 9), False)):
            modulator = (error @ weights.T) * (1.0 - hidden**2)
            update = array(ThirdFactor().update(tensor(x), tensor(w), modulator=tensor(modulator)))
            deviation = np.max(np.abs(update + array(gradient)))
            assert (deviation < 1e-5) == same

    def test_node_perturbation_follows_the_gradient(self) -> None:
        """`m = (R - baseline) xi / sigma^2` with the reward that noisy units earned."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(40000, 4)).astype("float32")
        w = rng.normal(size=(4, 3)).astype("float32")
        goal = rng.normal(size=(4, 3)).astype("float32")
        sigma = 0.5
        noise = sigma * rng.normal(size=(40000, 3)).astype("float32")
        reward = -np.sum((x @ w + noise - x @ goal) ** 2, axis=-1, keepdims=True)
        modulator = (reward - reward.mean()) * noise / sigma**2
        update = array(ThirdFactor().update(tensor(x), tensor(w), modulator=tensor(modulator)))
        gradient = -2.0 * x.T @ (x @ w - x @ goal) / len(x)
        cosine = np.sum(update * gradient) / np.linalg.norm(update) / np.linalg.norm(gradient)
        assert cosine > 0.9
        shuffled = (reward - reward.mean())[::-1] * noise / sigma**2
        other = array(ThirdFactor().update(tensor(x), tensor(w), modulator=tensor(shuffled)))
        assert np.linalg.norm(other) < 0.5 * np.linalg.norm(gradient)

    def test_nothing_is_learnt_without_a_modulator(self) -> None:
        layer = layers.HebbianDense(3, "third_factor")
        model = keras.Sequential([keras.Input((5,)), layer, keras.layers.Dense(3)])
        before = array(layer.kernel)
        model.compile(keras.optimizers.SGD(0.1), "mse", **compile_options())
        model.fit(probe((8, 5)), probe((8, 3)), verbose=0)
        np.testing.assert_array_equal(array(layer.kernel), before)

    def test_in_a_model(self) -> None:
        """The error enters as an input; the layer learns by `fit`."""
        inputs, error = keras.Input((5,)), keras.Input((3,))
        layer = layers.HebbianDense(3, "third_factor")
        model = keras.Model([inputs, error], layer(inputs, modulator=error))
        before, x, m = array(layer.kernel), probe((8, 5)), probe((8, 3), 1)
        model.compile(keras.optimizers.SGD(0.1), **compile_options())
        model.fit([x, m], batch_size=8, verbose=0)
        assert_close(array(layer.kernel) - before, 0.1 * x.T.astype("float64") @ m / 8, 1e-5)


class TestReward:
    def test_the_change_is_a_covariance(self) -> None:
        x, w = probe((4000, 3)), probe((3, 2), 1)
        y = x @ w
        rng = np.random.default_rng(0)
        own = [tensor(y.mean(axis=0)), tensor(np.float32(0.5))]
        related = (np.sign(y[:, :1]) + 1.0).astype("float32") * 0.5
        unrelated = rng.integers(0, 2, (4000, 1)).astype("float32")
        sizes = []
        for reward in (related, unrelated):
            update = RewardModulatedHebb().update(
                tensor(x), tensor(w), *own, modulator=tensor(reward)
            )
            expected = x.T.astype("float64") @ ((reward - 0.5) * (y - y.mean(axis=0))) / len(x)
            assert_close(array(update), expected, 1e-4)
            sizes.append(np.linalg.norm(array(update)))
        # What is left of the unrelated one falls with the root of the samples.
        assert sizes[1] < 0.2
        alone = np.mean((unrelated - 0.5) * (y - y.mean(axis=0)))
        assert abs(alone) < 0.05

    def test_its_means_follow(self) -> None:
        inputs, reward = keras.Input((5,)), keras.Input(())
        layer = layers.HebbianDense(3, RewardModulatedHebb(0.25))
        model = keras.Model([inputs, reward], layer(inputs, modulator=reward))
        before, x, r = array(layer.kernel), probe((8, 5)), np.abs(probe((8,), 1))
        model.compile(keras.optimizers.SGD(0.1), **compile_options())
        model.fit([x, r], batch_size=8, verbose=0)
        activity, mean = (array(weight) for weight in layer.non_trainable_weights)
        np.testing.assert_allclose(activity, 0.25 * (x @ before).mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(mean, 0.25 * r.mean(), rtol=1e-5)
        change = x.T.astype("float64") @ (r[:, None] * (x @ before)) / 8
        assert_close(array(layer.kernel) - before, 0.1 * change, 1e-5)

    def test_reward_is_needed(self) -> None:
        rule = RewardModulatedHebb()
        own = [tensor(np.zeros(2, "float32")), tensor(np.float32(0.0))]
        with pytest.raises(ValueError, match=r"`modulator` must be the reward.*Received"):
            rule.update(tensor(probe((4, 3))), tensor(probe((3, 2))), *own)


class TestEligibility:
    @pytest.mark.parametrize("delay", [0, 1, 5])
    def test_what_is_left_after_a_delay(self, delay: int) -> None:
        """Activity in the first step, silence, and a modulator some steps later."""
        rule = EligibilityRule(Hebb(), tau=4.0)
        x, w = probe((6, 5)), tensor(probe((5, 3), 1))
        first = array(Hebb().update(tensor(x), w))
        trace = keras.ops.zeros((5, 3))
        for step in range(delay + 1):
            pre = tensor(x if step == 0 else 0.0 * x)
            factor = 2.0 if step == delay else 0.0
            modulator = keras.ops.full((6, 1), factor)
            update = array(rule.update(pre, w, trace, modulator=modulator))
            post = rule.currents(pre, w, trace)
            (trace,) = rule.own_updates(pre, post, w, trace, modulator=modulator)
            assert step == delay or not np.any(update)
        assert_close(update, 2.0 * 0.75**delay * first.astype("float64"), 1e-5)

    def test_a_layer_remembers_without_a_modulator(self) -> None:
        layer = layers.HebbianDense(3, EligibilityRule(SoftHebb(2.0), tau=2.0))
        model = keras.Sequential([keras.Input((5,)), layer])
        before = array(layer.kernel)
        model.compile(keras.optimizers.SGD(0.1), **compile_options())
        x = probe((8, 5))
        model.fit(x, batch_size=8, verbose=0)
        np.testing.assert_array_equal(array(layer.kernel), before)
        (trace,) = layer.non_trainable_weights
        rule = SoftHebb(2.0)
        change = rule.change(tensor(x), rule.currents(tensor(x), before), tensor(before))
        assert_close(array(trace), array(change).astype("float64"), 1e-5)

    def test_of_a_base_with_a_memory(self) -> None:
        rule = EligibilityRule("bcm", tau=3.0)
        assert [weight.name for weight in rule.own_weights((4, 3))] == ["eligibility", "threshold"]
        restored = plasticity.get(plasticity.serialize(rule))
        assert restored.get_config() == rule.get_config()
        with pytest.raises(ValueError, match="`base` must be"):
            EligibilityRule(SimilarityMatching()).own_weights((4, 3))
        with pytest.raises(ValueError, match="`tau` must be"):
            EligibilityRule(tau=0.5)


@keras.saving.register_keras_serializable(package="tests")
def oja(pre: Any, post: Any, weight: Any) -> Any:
    return post * (pre - post * weight)


class TestPutTogether:
    def test_separable(self) -> None:
        rule = SeparableRule([(1.0, "relu", "linear"), (-0.3, "tanh", "sigmoid")], decay=0.2)
        x, w, m = probe((7, 5)), probe((5, 3), 1), probe((7, 1), 2)
        expected = np.zeros((5, 3))
        for b in range(7):
            u = x[b].astype("float64") @ w
            one = np.outer(x[b], np.maximum(u, 0.0))
            two = np.outer(1.0 / (1.0 + np.exp(-x[b].astype("float64"))), np.tanh(u))
            expected += (m[b, 0] * (one - 0.3 * two) - 0.2 * w) / 7
        update = rule.update(tensor(x), tensor(w), modulator=tensor(m))
        assert_close(array(update), expected, 1e-5)
        restored = plasticity.get(plasticity.serialize(rule))
        assert_close(
            array(restored.update(tensor(x), tensor(w), modulator=tensor(m))), expected, 1e-5
        )

    def test_separable_in_a_convolution(self) -> None:
        layer = layers.HebbianConv2D(3, 2, plasticity=SeparableRule([(1.0, "linear", "linear")]))
        model = keras.Sequential([keras.Input((4, 4, 2)), layer])
        before, x = array(layer.kernel), probe((3, 4, 4, 2))
        model.compile(keras.optimizers.SGD(0.1), **compile_options())
        model.fit(x, batch_size=3, verbose=0)
        change = Hebb().update(tensor(x), tensor(before), linear_map=layer.linear_map)
        assert_close(array(layer.kernel) - before, 0.1 * array(change).astype("float64"), 1e-5)

    @pytest.mark.parametrize("block", [1, 2, 32])
    def test_pointwise(self, block: int) -> None:
        x, w, m = probe((7, 5)), probe((5, 3), 1), probe((7, 1), 2)
        rule = PointwiseRule(oja, block)
        for modulator in (None, tensor(m)):
            ours = array(rule.update(tensor(x), tensor(w), modulator=modulator))
            theirs = array(Oja().update(tensor(x), tensor(w), modulator=modulator))
            assert_close(ours, theirs.astype("float64"), 1e-5)
        restored = plasticity.get(plasticity.serialize(rule))
        assert restored.function is oja
        assert restored.block == block

    def test_pointwise_is_for_dense_layers(self) -> None:
        layer = layers.HebbianConv2D(3, 2, plasticity=PointwiseRule(oja))
        with pytest.raises(ValueError, match=r"`plasticity` must be.*Received"):
            layer(probe((3, 4, 4, 2)), training=True)

    @pytest.mark.parametrize(
        ("make", "argument"),
        [
            (lambda: SeparableRule([]), "terms"),
            (lambda: SeparableRule("relu"), "terms"),
            (lambda: SeparableRule([("relu", "linear")]), "terms"),
            (lambda: SeparableRule([("1", "relu", "linear")]), "terms"),
            (lambda: SeparableRule([(1.0, "relu", "linear")], decay=-1.0), "decay"),
            (lambda: PointwiseRule(3), "function"),
            (lambda: PointwiseRule(oja, 0), "block"),
            (lambda: RewardModulatedHebb(0.0), "baseline_rate"),
        ],
    )
    def test_bad_input(self, make: Any, argument: str) -> None:
        with pytest.raises(ValueError, match=f"`{argument}` must be.*Received"):
            make()


def test_sanger_is_gated_sample_by_sample() -> None:
    """A batch with modulators is the sum of its samples, each with its own."""
    x, w, m = probe((5, 6)), 0.5 * probe((6, 4), 1), probe((5, 1), 2)
    rule = Sanger()
    whole = array(rule.update(tensor(x), tensor(w), modulator=tensor(m)))
    parts = [m[b, 0] * array(rule.update(tensor(x[b : b + 1]), tensor(w))) for b in range(5)]
    assert_close(whole, np.mean(parts, axis=0, dtype="float64"), 1e-5)
