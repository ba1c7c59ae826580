"""Where feedback kernels go that follow a local regulariser: fixed points, stability, options."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers, metrics, models
from tests.support import array, compile_options, probe

pytestmark = pytest.mark.filterwarnings("ignore:Gradients do not exist")


def settle(
    layer: layers.FeedbackLayer, inputs: np.ndarray, rate: float, steps: int, learn: bool = False
) -> None:
    """Full-batch steps of plain SGD; the kernel stays unless it is to learn."""
    model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
    options: dict[str, Any] = {"batch_size": len(inputs), "shuffle": False, "verbose": 0}
    data = np.tile(inputs, (steps, *[1] * (inputs.ndim - 1)))
    optimizer = keras.optimizers.SGD(rate)
    if learn:
        model.compile(optimizer, **compile_options())
        model.fit(data, **options)
    else:
        models.align(model, data, optimizer=optimizer, **options)


def dense(rule: feedback.FeedbackRule, kernel: np.ndarray, **arguments: Any) -> Any:
    layer = layers.FeedbackDense(kernel.shape[1], feedback=rule, **arguments)
    layer.build((None, kernel.shape[0]))
    layer.kernel.assign(kernel)
    return layer


KERNEL = probe((5, 6), seed=1)


def colored(examples: int = 40) -> np.ndarray:
    """Correlated inputs with a mean."""
    mixing = 0.8 * np.eye(5) + 0.3 * probe((5, 5), 3)
    return (probe((examples, 5), 2) @ mixing + 0.4).astype("float32")


def white() -> np.ndarray:
    """Inputs whose second moment is the identity, to rounding."""
    q, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(30, 5)))
    return (q * np.sqrt(30)).astype("float32")


def test_symmetric_alignment_reaches_a_multiple_of_the_kernel() -> None:
    layer = dense(feedback.SymmetricAlignment(decay=0.5, self_align=0.25), KERNEL)
    settle(layer, colored(), 1.0, 60)
    np.testing.assert_allclose(array(layer.feedback_kernel), 0.5 * KERNEL, atol=1e-6)


@pytest.mark.slow
def test_activation_alignment_cancels_the_second_moment() -> None:
    inputs = colored()
    layer = dense(feedback.ActivationAlignment(sparsify=0.5, amplify=0.75), KERNEL)
    settle(layer, inputs, 0.5, 3000)
    np.testing.assert_allclose(array(layer.feedback_kernel), 1.5 * KERNEL, atol=2e-3)


@pytest.mark.slow
def test_weight_mirror_on_activity_reaches_the_second_moment_times_the_kernel() -> None:
    inputs = colored()
    rule = feedback.WeightMirror(amplify=0.3, decay=0.2, noise=None, centre=False, respond=False)
    layer = dense(rule, KERNEL)
    settle(layer, inputs, 1.0, 200)
    second_moment = inputs.T @ inputs / len(inputs)
    np.testing.assert_allclose(
        array(layer.feedback_kernel), 1.5 * second_moment @ KERNEL, rtol=1e-4, atol=1e-5
    )
    assert metrics.alignment_angle(layer.kernel, layer.feedback_kernel) > 10


def test_centring_makes_it_the_covariance() -> None:
    inputs = colored()
    rule = feedback.WeightMirror(amplify=0.2, decay=0.2, noise=None, centre=True, respond=False)
    layer = dense(rule, KERNEL)
    settle(layer, inputs, 1.0, 200)
    covariance = np.cov(inputs.T, bias=True)
    np.testing.assert_allclose(
        array(layer.feedback_kernel), covariance @ KERNEL, rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_information_alignment_compresses_singular_values() -> None:
    layer = dense(feedback.InformationAlignment(amplify=0.4, nullify=0.1, decay=0.2), KERNEL)
    settle(layer, white(), 0.5, 400)
    u, s, vt = np.linalg.svd(KERNEL.astype("float64"), full_matrices=False)
    wanted = u @ np.diag(0.4 * s / (0.2 + 0.1 * s**2)) @ vt
    np.testing.assert_allclose(array(layer.feedback_kernel), wanted, atol=2e-4)
    assert metrics.alignment_angle(layer.kernel, layer.feedback_kernel) > 5


@pytest.mark.parametrize(
    "rule",
    [
        feedback.SymmetricAlignment(0.2, 0.2),
        feedback.ActivationAlignment(0.2, 0.2),
        feedback.LocalAlignment(feedback.Sparsify(0.2) + feedback.Amplify(0.2)),
    ],
)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_convolutions_reach_the_kernel(rule: feedback.FeedbackRule, padding: str) -> None:
    layer = layers.FeedbackConv2D(3, 2, padding=padding, feedback=rule)
    inputs = probe((8, 6, 6, 2), 5)
    layer.build(inputs.shape)
    layer.kernel.assign(probe(layer.kernel.shape, 6))
    assert metrics.alignment_angle(layer.kernel, layer.feedback_kernel) > 40
    settle(layer, inputs, 1.0, 200)
    np.testing.assert_allclose(array(layer.feedback_kernel), array(layer.kernel), atol=1e-4)


def scalar(amplify: float, nullify: float, decay: float, steps: int) -> tuple[float, float]:
    """One synapse each way, unit input, both weights driven."""
    rule = feedback.InformationAlignment(amplify, nullify, decay, update_forward=True)
    layer = dense(rule, np.array([[0.3]], "float32"), use_bias=False)
    layer.assign_feedback_kernel(np.array([[-0.1]]))
    settle(layer, np.ones((1, 1), "float32"), 0.05, steps, learn=True)
    return float(array(layer.kernel)[0, 0]), float(array(layer.feedback_kernel)[0, 0])


def test_nullify_makes_co_adaptation_stable() -> None:
    """w = B = sqrt((amplify - decay) / nullify)."""
    assert scalar(1.0, 0.1, 0.5, 1000) == pytest.approx((2.236068, 2.236068), abs=1e-4)


def test_without_it_weights_blow_up_or_vanish() -> None:
    grown = scalar(1.0, 0.0, 0.5, 600)
    assert min(grown) > 1e4
    assert scalar(0.5, 0.1, 1.0, 600) == pytest.approx((0.0, 0.0), abs=1e-4)


def test_every_so_many_steps() -> None:
    """Ten steps with every third counting are four steps of the plain rule."""
    ends = []
    for every, steps in ((3, 10), (1, 4)):
        layer = dense(feedback.SymmetricAlignment(0.3, 0.3, every=every), KERNEL)
        layer.assign_feedback_kernel(probe(KERNEL.shape, 8))
        settle(layer, colored(), 1.0, steps)
        ends.append(array(layer.feedback_kernel))
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-6)
    np.testing.assert_allclose(
        ends[0], KERNEL + 0.7**4 * (probe(KERNEL.shape, 8) - KERNEL), atol=1e-5
    )


def test_align_moves_nothing_but_feedback_kernels() -> None:
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.FeedbackConv2D(3, 3, feedback="symmetric"),
            keras.layers.BatchNormalization(),
            layers.FeedbackConv2D(3, 3, activation="relu", feedback="weight_mirror"),
            keras.layers.Flatten(),
            layers.FeedbackDense(4, feedback="kolen_pollack"),
            layers.FeedbackDense(2, feedback="activation_alignment"),
        ]
    )
    trainable = [weight.path for weight in model.trainable_weights]
    before = {weight.path: array(weight) for weight in model.weights}
    models.align(model, probe((32, 6, 6, 2)), batch_size=8, verbose=0)
    moved = [w.path for w in model.weights if np.any(array(w) != before[w.path])]
    assert [path.split("/")[-1] for path in moved] == ["feedback_kernel", "feedback_kernel"]
    assert [weight.path for weight in model.trainable_weights] == trainable


def test_align_refuses_a_model_without_such_a_rule() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.FeedbackDense(2)])
    with pytest.raises(ValueError, match="a feedback rule that learns from activity"):
        models.align(model, np.ones((4, 3)))


def test_inference_learns_nothing() -> None:
    layer = dense(feedback.SymmetricAlignment(), KERNEL)
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile("sgd", "mse")
    before = array(layer.feedback_kernel)
    model.evaluate(probe((4, 5)), probe((4, 6)), verbose=0)
    np.testing.assert_array_equal(array(layer.feedback_kernel), before)
    layer(probe((4, 5)), training=False)
    assert not layer.losses
