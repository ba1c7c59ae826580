"""Rules that change one thing about another: the norm of feedback, noise on its updates."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from tests.support import array, compile_options, model_gradients, probe


def sent(layer: layers.FeedbackLayer, target: np.ndarray) -> np.ndarray:
    model = keras.Sequential([keras.Input((4,)), layer])
    inputs = probe((len(target), 4))
    return model_gradients(
        model, inputs, lambda y: keras.ops.sum(y * keras.ops.convert_to_tensor(target))
    )[1]


def built(rule: feedback.FeedbackRule) -> layers.FeedbackDense:
    layer = layers.FeedbackDense(3, feedback=rule)
    layer.build((None, 4))
    return layer


@pytest.mark.parametrize("inner", [feedback.FeedbackAlignment(), feedback.KolenPollack()])
def test_matched_norm_scales_the_error_kernel(inner: feedback.FeedbackRule) -> None:
    layer = built(feedback.MatchedNorm(inner))
    layer.assign_feedback_kernel(7.0 * probe((4, 3), 1))
    kernel, raw = array(layer.kernel), probe((4, 3), 1)
    wanted = raw * np.linalg.norm(kernel) / np.linalg.norm(raw)
    np.testing.assert_allclose(array(layer.feedback_kernel), wanted, rtol=1e-5)
    target = probe((5, 3), 2)
    np.testing.assert_allclose(sent(layer, target), target @ wanted.T, rtol=1e-4, atol=1e-5)


def test_matched_norm_leaves_learning_to_the_rule() -> None:
    """The feedback kernel receives the kernel's own gradient."""
    layer = built(feedback.MatchedNorm(feedback.KolenPollack(separate=True)))
    model = keras.Sequential([keras.Input((4,)), layer])
    target = probe((5, 3), 2)
    gradients, _ = model_gradients(
        model, probe((5, 4)), lambda y: keras.ops.sum(y * keras.ops.convert_to_tensor(target))
    )
    np.testing.assert_array_equal(gradients["2:feedback_kernel"], gradients["0:kernel"])
    assert np.abs(gradients["0:kernel"]).max() > 0.1


def difference_after(stddev: float, steps: int = 400) -> np.ndarray:
    keras.utils.set_random_seed(3)
    layer = built(feedback.NoisyUpdates(feedback.KolenPollack(), stddev))
    model = keras.Sequential([keras.Input((4,)), layer])
    start = array(layer.feedback_kernel) - array(layer.kernel)
    model.compile(keras.optimizers.SGD(0.1), "mse", **compile_options())
    inputs = np.tile(probe((2, 4)), (steps, 1))
    model.fit(inputs, np.tile(probe((2, 3), 1), (steps, 1)), batch_size=2, verbose=0)
    return array(layer.feedback_kernel) - array(layer.kernel) - start


def test_noise_is_a_random_walk_on_top_of_the_rule() -> None:
    assert np.abs(difference_after(0.0)).max() < 1e-5
    walk = difference_after(0.5)
    # 400 steps of 0.1 times noise of deviation 0.5, in 12 weights.
    assert walk.std() == pytest.approx(0.1 * 0.5 * 20, rel=0.6)


def test_config_round_trip() -> None:
    rule = feedback.MatchedNorm(feedback.NoisyUpdates(feedback.KolenPollack(decay=0.1), 0.2))
    restored = feedback.get(feedback.serialize(rule))
    assert isinstance(restored.rule, feedback.NoisyUpdates)
    assert (restored.rule.stddev, restored.rule.rule.decay) == (0.2, 0.1)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="a rule with a feedback kernel of its own"):
        feedback.MatchedNorm(feedback.Symmetric())
    with pytest.raises(ValueError, match="`rule` must be a FeedbackRule"):
        feedback.MatchedNorm("feedback_alignment")
    with pytest.raises(ValueError, match="`stddev` must be a finite number at least 0"):
        feedback.NoisyUpdates(feedback.KolenPollack(), -1.0)
    with pytest.raises(ValueError, match="a rule with feedback weights that learn"):
        built(feedback.NoisyUpdates(feedback.FeedbackAlignment()))
    with pytest.raises(ValueError, match="a rule with feedback weights that learn"):
        built(feedback.NoisyUpdates(feedback.KolenPollack(separate=False)))


@pytest.mark.parametrize("inner", [feedback.FeedbackAlignment(), feedback.KolenPollack()])
def test_synapses_are_those_of_an_assigned_feedback_kernel(inner: feedback.FeedbackRule) -> None:
    """What learns behind the mask stays of no effect; synapses that were masked exist now."""
    layer = built(feedback.RandomConnectivity(inner, 0.5, seed=1))
    value = probe((4, 3), 1)
    value[::2, 0] = 0.0
    assert not np.array_equal(array(layer.feedback_kernel) != 0.0, value != 0.0)
    layer.assign_feedback_kernel(value)
    np.testing.assert_array_equal(array(layer.feedback_kernel), value)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(0.5), "mse", **compile_options())
    model.fit(probe((8, 4)), probe((8, 3), 2), verbose=0)
    np.testing.assert_array_equal(array(layer.feedback_kernel) != 0.0, value != 0.0)
    mask = next(weight for weight in layer.weights if weight.name == "feedback_mask")
    np.testing.assert_array_equal(array(mask), value != 0.0)


def test_wrappers_around_wrappers() -> None:
    """Norm, noise and mask act together: each changes its one thing about the rule inside."""
    rule = feedback.MatchedNorm(
        feedback.NoisyUpdates(
            feedback.RandomConnectivity(feedback.KolenPollack(), 0.5, seed=1), stddev=0.1
        )
    )
    layer = built(rule)
    assert [weight.name for weight in layer.weights][2:] == ["feedback_kernel", "feedback_mask"]
    start, kernel = array(layer.weights[2]), array(layer.kernel)
    exist = array(layer.weights[3])
    wanted = start * exist
    wanted = wanted * np.linalg.norm(kernel) / np.linalg.norm(wanted)
    np.testing.assert_allclose(array(layer.feedback_kernel), wanted, rtol=1e-5, atol=1e-7)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(0.5), "mse", **compile_options())
    model.fit(probe((8, 4)), probe((8, 3), 2), verbose=0)
    learned, moved = array(layer.weights[2]) - start, array(layer.kernel) - kernel
    noise = learned - moved
    assert 0.01 < noise.std() < 0.15  # A step of 0.5 times noise of deviation 0.1.
    np.testing.assert_array_equal(array(layer.weights[3]), exist)
