"""Updated feedback: against the oracle, in its two forms, and what makes it choose one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from tests import oracles
from tests.feedback.nets import (
    LOSS,
    NETS,
    biases,
    data,
    dense_net,
    feedback_kernels,
    fit,
    kernels,
    parts,
)
from tests.support import (
    BACKEND,
    array,
    compile_options,
    copy_kernels,
    largest_difference,
    model_gradients,
    probe,
)

ORACLE = {
    "offset": (feedback.KolenPollack(), 1.0, 0.0),
    "separate": (feedback.KolenPollack(separate=True), 1.0, 0.0),
    "rate": (feedback.KolenPollack(rate=0.5), 0.5, 0.0),
    "decay": (feedback.KolenPollack(decay=0.3), 1.0, 0.3),
    "rate-decay": (feedback.KolenPollack(rate=2.0, decay=0.3), 2.0, 0.3),
}


@pytest.mark.parametrize(("rule", "rate", "decay"), ORACLE.values(), ids=ORACLE)
def test_training_equals_the_oracle(rule: feedback.KolenPollack, rate: float, decay: float) -> None:
    model = dense_net(rule)
    inputs, labels = data(model)
    start = kernels(model), feedback_kernels(model), biases(model)
    batches = [(inputs[:8], labels[:8]), (inputs[8:], labels[8:])] * 5
    expected, expected_feedback, expected_biases, losses = oracles.train_feedback(
        batches, *start, 0.2, rate, decay
    )
    history = fit(model, keras.optimizers.SGD(0.2), 10)
    assert largest_difference(kernels(model), expected) < 2e-6
    assert largest_difference(feedback_kernels(model), expected_feedback) < 2e-6
    assert largest_difference(biases(model), expected_biases) < 2e-6
    assert history == pytest.approx(losses, abs=1e-5)
    # Each of these would be told apart: backpropagation, fixed feedback, no decay.
    for other in [
        oracles.train_feedback(batches, start[0], start[0], start[2], 0.2, 1.0, decay),
        oracles.train_feedback(batches, *start, 0.2, 0.0, decay),
    ]:
        assert largest_difference(other[0], expected) > 1e-3
    assert decay == 0 or (
        largest_difference(oracles.train_feedback(batches, *start, 0.2, rate)[0], expected) > 1e-2
    )


def test_gradient_of_the_feedback_kernel_is_the_kernels_own() -> None:
    model = dense_net(feedback.KolenPollack(separate=True))
    inputs, labels = data(model)
    gradients, _ = model_gradients(model, inputs, lambda outputs: LOSS(labels, outputs))
    assert [name.split(":")[1] for name in gradients] == ["kernel", "bias", "feedback_kernel"] * 3
    values = list(gradients.values())
    for kernel, feedback_kernel in zip(values[::3], values[2::3], strict=True):
        np.testing.assert_array_equal(kernel, feedback_kernel)
        assert np.abs(kernel).max() > 1e-3


EQUIVALENT = {
    "sgd": lambda: keras.optimizers.SGD(0.2),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.02),
    "sgd-decay": lambda: keras.optimizers.SGD(0.1, weight_decay=0.2),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=1.0),
    "clipnorm": lambda: keras.optimizers.SGD(0.2, clipnorm=0.05),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.3, 60), weight_decay=0.2
    ),
    "loss-scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.2)),
}


@pytest.mark.few(3)
@pytest.mark.parametrize("optimizer", EQUIVALENT.values(), ids=EQUIVALENT)
def test_both_forms_are_one_rule(optimizer: Callable[[], Any]) -> None:
    check_both_forms(NETS["dense"], optimizer)


@pytest.mark.slow
@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_both_forms_are_one_rule_in_convolutions(name: str) -> None:
    check_both_forms(NETS["conv"], EQUIVALENT[name])


def check_both_forms(net: Callable[..., Any], optimizer: Callable[[], Any]) -> None:
    offset = net(feedback.KolenPollack())
    separate = net(feedback.KolenPollack(separate=True))
    copy_kernels(offset, separate)
    assert largest_difference(feedback_kernels(offset), feedback_kernels(separate)) < 1e-6
    start = kernels(offset)
    fit(offset, optimizer(), 60)
    fit(separate, optimizer(), 60)
    assert largest_difference(kernels(offset), start) > 0.05
    assert largest_difference(kernels(offset), kernels(separate)) < 2e-5
    assert largest_difference(feedback_kernels(offset), feedback_kernels(separate)) < 2e-5


def test_the_offset_form_has_no_optimizer_slots_for_the_feedback_kernel() -> None:
    model = dense_net(feedback.KolenPollack())
    for layer in parts(model):
        names = [w.name for w in layer.trainable_weights]
        assert names == ["kernel", "bias", "feedback_kernel_scale"]
        assert [w.name for w in layer.non_trainable_weights] == ["feedback_kernel_offset"]
    fit(model, keras.optimizers.Adam(0.02), 10)
    for layer in parts(model):
        scale = next(w for w in layer.weights if w.name == "feedback_kernel_scale")
        assert float(array(scale)) == 1.0
    slots = sum(int(np.prod(v.shape)) for v in model.optimizer.variables)
    plain = sum(int(np.prod(w.shape)) for layer in parts(model) for w in (layer.kernel, layer.bias))
    # Two moments each, two numbers for the scalar of each layer, step and rate.
    assert slots <= 2 * plain + 2 * 3 + 2


@pytest.mark.few(3)
@pytest.mark.parametrize("separate", [None, True], ids=["offset", "separate"])
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.2, momentum=0.9),
        lambda: keras.optimizers.AdamW(0.02, weight_decay=0.1),
    ],
    ids=["momentum", "adamw"],
)
def test_equal_kernels_stay_backpropagation(
    net: Callable[..., Any], optimizer: Callable[[], Any], separate: bool | None
) -> None:
    """Bit for bit on TensorFlow: equal kernels receive equal updates for ever."""
    model, stock = net(feedback.KolenPollack(separate=separate)), twin(net)
    for layer, other in zip(parts(model), parts(stock), strict=True):
        layer.assign_feedback_kernel(array(layer.kernel))
        other.kernel.assign(array(layer.kernel))
        other.bias.assign(array(layer.bias))
    start = kernels(model)
    fit(model, optimizer(), 10)
    fit(stock, optimizer(), 10)
    assert largest_difference(start, kernels(model)) > 1e-2
    for ours, theirs in zip(kernels(model), kernels(stock), strict=True):
        if BACKEND == "tensorflow":
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
    for ours, feedback_kernel in zip(kernels(model), feedback_kernels(model), strict=True):
        np.testing.assert_array_equal(ours, feedback_kernel)


def twin(net: Callable[..., Any]) -> keras.Model:
    """The same net of stock Keras layers."""
    model = keras.Sequential([keras.Input(net("symmetric").input_shape[1:])])
    for layer in net("symmetric").layers:
        plain = getattr(type(layer), "plain", type(layer))
        config = {
            key: value
            for key, value in layer.get_config().items()
            if key not in ("feedback", "feedback_initializer")
        }
        model.add(plain.from_config(config))
    assert not any(isinstance(layer, layers.FeedbackLayer) for layer in model.layers)
    return model


OWN_TERMS = {
    "regularizer": {"kernel_regularizer": keras.regularizers.L2(0.1)},
    "constraint": {"kernel_constraint": keras.constraints.MaxNorm(0.5, axis=[0])},
}


@pytest.mark.parametrize("options", OWN_TERMS.values(), ids=OWN_TERMS)
def test_a_term_of_the_kernel_alone_makes_the_feedback_kernel_a_weight(
    options: dict[str, Any],
) -> None:
    names = [weight.name for weight in built(feedback.KolenPollack(), **options).weights]
    assert names == ["kernel", "bias", "feedback_kernel"]
    forced = built(feedback.KolenPollack(separate=False), **options)
    assert "feedback_kernel_offset" in [weight.name for weight in forced.weights]


def built(rule: Any, **options: Any) -> Any:
    layer = layers.FeedbackDense(4, feedback=rule, **options)
    layer.build((None, 3))
    return layer


def test_regularizer_of_the_bias_leaves_the_offset_form() -> None:
    layer = built(
        "urfb", bias_regularizer="l2", activity_regularizer="l2", bias_constraint="non_neg"
    )
    assert "feedback_kernel_offset" in [weight.name for weight in layer.weights]


def test_a_regularizer_acts_on_the_kernel_alone() -> None:
    layer, inputs, errors, (kernel, feedback_kernel) = one_step(
        kernel_regularizer=keras.regularizers.L2(0.1)
    )
    product = inputs.T @ errors
    np.testing.assert_allclose(
        array(layer.kernel), kernel - 0.5 * (product + 0.2 * kernel), atol=1e-6
    )
    np.testing.assert_allclose(
        array(layer.feedback_kernel), feedback_kernel - 0.5 * product, atol=1e-6
    )
    assert np.abs(product).max() > 0.1


def test_a_constraint_acts_on_the_kernel_alone() -> None:
    layer, inputs, errors, (kernel, feedback_kernel) = one_step(
        kernel_constraint=keras.constraints.MaxNorm(0.5, axis=[0])
    )
    step = 0.5 * inputs.T @ errors
    moved = kernel - step
    norms = np.linalg.norm(moved, axis=0)
    assert (norms > 0.5).any()
    projected = moved * np.minimum(norms, 0.5) / norms
    np.testing.assert_allclose(array(layer.kernel), projected, atol=1e-5)
    np.testing.assert_allclose(array(layer.feedback_kernel), feedback_kernel - step, atol=1e-6)


def one_step(**options: Any) -> tuple[Any, np.ndarray, np.ndarray, list[np.ndarray]]:
    """One step of size 0.5 on the squared error of a linear layer."""
    layer = layers.FeedbackDense(4, feedback="kolen_pollack", use_bias=False, **options)
    model = keras.Sequential([keras.Input((3,)), layer])
    inputs, targets = probe((8, 3), 1), probe((8, 4), 2)
    before = [array(layer.kernel), array(layer.feedback_kernel)]
    # The mean over samples and units: error 2 (y - t) / 32.
    errors = (inputs @ before[0] - targets) / 16
    model.compile(keras.optimizers.SGD(0.5), "mse", **compile_options())
    model.fit(inputs, targets, batch_size=8, epochs=1, verbose=0)
    return layer, inputs, errors, before


@pytest.mark.parametrize("separate", [None, True], ids=["offset", "separate"])
def test_the_feedback_kernel_has_the_law_of_its_initializer(separate: bool | None) -> None:
    layer = layers.FeedbackDense(300, feedback=feedback.KolenPollack(separate=separate))
    layer.build((None, 200))
    limit = np.sqrt(6 / 500)
    kernel, drawn = array(layer.kernel), array(layer.feedback_kernel)
    assert np.abs(drawn).max() <= limit * 1.001
    assert drawn.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)
    assert abs(np.corrcoef(kernel.ravel(), drawn.ravel())[0, 1]) < 0.02

    seeded = layers.FeedbackDense(
        30,
        feedback=feedback.KolenPollack(separate=separate),
        kernel_initializer=keras.initializers.GlorotUniform(seed=3),
        feedback_initializer=keras.initializers.GlorotUniform(seed=3),
    )
    seeded.build((None, 20))
    np.testing.assert_array_equal(array(seeded.kernel), array(seeded.feedback_kernel))


@pytest.mark.parametrize("argument", ["rate", "decay"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "1", None, True])
def test_bad_numbers(argument: str, value: Any) -> None:
    message = rf"`{argument}` must be .*at least 0.*{argument}={value!r}"
    with pytest.raises(ValueError, match=message):
        feedback.KolenPollack(**{argument: value})


def test_bad_form() -> None:
    with pytest.raises(ValueError, match=r"`separate` must be True, False or None.*separate='no'"):
        feedback.KolenPollack(separate="no")
    for options in ({"rate": 0.5}, {"decay": 0.1}):
        with pytest.raises(ValueError, match=r"`separate` must be True or None .*separate=False"):
            feedback.KolenPollack(separate=False, **options)


def test_a_number_is_no_form() -> None:
    """0 would pass for False and, with a rate, silently drop it."""
    with pytest.raises(ValueError, match="separate"):
        feedback.KolenPollack(rate=0.5, separate=0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"rate": 0.5, "decay": 0.25, "separate": None},
        {"rate": 1.0, "decay": 0.0, "separate": False},
        {"rate": 1.0, "decay": 0.0, "separate": True},
    ],
)
def test_config_round_trip(arguments: dict[str, Any]) -> None:
    rule = feedback.KolenPollack(**arguments)
    assert rule.get_config() == arguments
    assert feedback.KolenPollack.from_config(rule.get_config()).get_config() == arguments
    restored = feedback.get(feedback.serialize(rule))
    assert isinstance(restored, feedback.KolenPollack)
    assert restored.get_config() == arguments
