"""Rows of what stands alone: rules beside the common ones, layers that are no linear map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import keras_local as kl
from keras_local import constraints, feedback, layers, plasticity
from tests.battery.rows import Part, Row, plain_sgd

OTHER_ROWS: list[Row] = []

# --- Feedback rules: wrappers, wrappers around wrappers, rules with noise -------------------------


def pair(rule: Callable[[], feedback.FeedbackRule]) -> Part:
    return lambda: [
        layers.FeedbackDense(7, "tanh", feedback=rule()),
        layers.FeedbackDense(6, "tanh", feedback=rule()),
    ]


def twin() -> list[keras.layers.Layer]:
    return [keras.layers.Dense(7, "tanh"), keras.layers.Dense(6, "tanh")]


FEEDBACK: dict[str, tuple[Callable[[], feedback.FeedbackRule], dict[str, Any]]] = {
    "weight_mirror": (lambda: feedback.WeightMirror(0.5, 0.5), {"draws": True}),
    "local_alignment": (
        lambda: feedback.LocalAlignment(
            feedback.Decay(0.2)
            + feedback.Amplify(0.2)
            + feedback.Nullify(0.1)
            + feedback.Sparsify(0.1)
            + feedback.SelfAlign(0.2)
        ),
        {},
    ),
    "noisy_updates": (
        lambda: feedback.NoisyUpdates(feedback.KolenPollack(), stddev=0.05),
        {"draws": True, "fixed": ("feedback_kernel_offset", "feedback_kernel_scale")},
    ),
    "random_connectivity": (
        lambda: feedback.RandomConnectivity(feedback.FeedbackAlignment(), 0.6, seed=5),
        {"fixed": ("feedback_kernel", "feedback_mask")},
    ),
    "matched_norm-random_connectivity-sign_symmetry": (
        lambda: feedback.MatchedNorm(
            feedback.RandomConnectivity(feedback.SignSymmetry("fixed"), 0.8, seed=5)
        ),
        {"fixed": ("feedback_magnitude", "feedback_mask")},
    ),
    "noisy-matched_norm-symmetric_alignment": (
        lambda: feedback.NoisyUpdates(
            feedback.MatchedNorm(feedback.SymmetricAlignment(0.5, 0.5)), stddev=0.05
        ),
        {"draws": True},
    ),
    "random_connectivity-activation_alignment": (
        lambda: feedback.RandomConnectivity(
            feedback.ActivationAlignment(0.5, 0.5, every=2), 0.7, seed=5
        ),
        {"fixed": ("feedback_mask",)},
    ),
}

OTHER_ROWS += [
    Row(f"dense-{name}", pair(rule), (8,), twin, thorough=name != "noisy_updates", **options)
    for name, (rule, options) in FEEDBACK.items()
]

OTHER_ROWS += [
    Row(
        # Nothing below it learns, so that it stands alone.
        "dense-detached",
        lambda: [layers.FeedbackDense(6, "tanh", feedback="detached")],
        (8,),
        lambda: [keras.layers.Dense(6, "tanh")],
        thorough=True,
    ),
    Row(
        "dense-connectivity",
        lambda: [
            layers.FeedbackDense(
                units,
                "tanh",
                feedback="feedback_alignment",
                connectivity=0.7,
                kernel_initializer=keras.initializers.GlorotUniform(seed=units),
            )
            for units in (7, 6)
        ],
        (8,),
        fixed=("feedback_kernel", "feedback_mask", "kernel_mask"),
        thorough=True,
    ),
]

# --- Recurrent layers -----------------------------------------------------------------------------


def recurrent(first: Any, second: Any, **rules: Any) -> Part:
    """Two layers, the lower one of which hands on all steps."""
    return lambda: [first(4, return_sequences=True, **rules), second(5, **rules)]


def over_cells(make: Any, **rules: Any) -> Part:
    def part() -> list[keras.layers.Layer]:
        cells = [keras.layers.GRUCell(4), keras.layers.SimpleRNNCell(5)]
        return [
            make(cells, return_sequences=True, **rules),
            make(keras.layers.LSTMCell(4), **rules),
        ]

    return part


OF_KOLEN_POLLACK = ("feedback_kernel_offset", "feedback_kernel_scale")
STOCK = keras.layers

OTHER_ROWS += [
    Row(f"recurrent-{name}", part, (4, 3), twin, rate=0.2, thorough=thorough, **options)
    for name, part, twin, thorough, options in (
        (
            "lstm-kolen_pollack",
            recurrent(layers.FeedbackLSTM, layers.FeedbackLSTM),
            recurrent(STOCK.LSTM, STOCK.LSTM),
            False,
            {"fixed": OF_KOLEN_POLLACK},
        ),
        (
            "simple-gru-feedback_alignment",
            recurrent(layers.FeedbackSimpleRNN, layers.FeedbackGRU, feedback="feedback_alignment"),
            recurrent(STOCK.SimpleRNN, STOCK.GRU),
            True,
            {"fixed": ("feedback_kernel",)},
        ),
        (
            "cells-kolen_pollack",
            over_cells(layers.FeedbackRNN),
            over_cells(STOCK.RNN),
            True,
            {"fixed": OF_KOLEN_POLLACK},
        ),
        (
            "leaky-eprop",
            recurrent(
                layers.LeakyRNN,
                layers.LeakyRNN,
                tau=2.0,
                feedback="feedback_alignment",
                time_rule="eprop",
            ),
            None,
            True,
            {"fixed": ("feedback_kernel",)},
        ),
    )
]

# --- Layers with several inputs -------------------------------------------------------------------


def attention(make: Callable[..., keras.layers.Layer], **options: Any) -> Part:
    """The layer asks its own inputs: a model as a layer."""

    def part() -> list[keras.layers.Layer]:
        inputs = keras.Input((4, 5))
        layer = make(2, 3, **options)
        return [keras.Model(inputs, layer(inputs, inputs))]

    return part


OTHER_ROWS += [
    Row(
        f"attention-{name}",
        attention(layers.FeedbackMultiHeadAttention, feedback=name, use_bias=False),
        (4, 5),
        # A bias of the keys has no effect behind the softmax, and does not move.
        attention(keras.layers.MultiHeadAttention, use_bias=False),
        fixed=fixed,
        rate=0.05,
        thorough=name != "feedback_alignment",
    )
    for name, fixed in {
        "feedback_alignment": ("feedback_kernel",),
        "kolen_pollack": ("feedback_kernel_offset", "feedback_kernel_scale"),
        "symmetric_alignment": (),
    }.items()
]


def direct(rule: Callable[[], keras.layers.Layer]) -> Part:
    """Hidden layers that errors reach from the logits alone, and the logits: a model as a layer."""

    def part() -> list[keras.layers.Layer]:
        inputs = keras.Input((8,))
        hidden = [layers.FeedbackDense(7, "tanh", feedback="detached")(inputs)]
        hidden.append(layers.FeedbackDense(6, "tanh", feedback="detached")(hidden[0]))
        logits = layers.FeedbackDense(3, feedback="detached")(hidden[1])
        return [keras.Model(inputs, rule()([logits, *hidden]))]

    return part


OTHER_ROWS += [
    Row(
        name,
        direct(make),
        (8,),
        readout=False,
        fixed=("feedback_kernel_1", "feedback_kernel_2"),
        falls=name != "direct_random_target",
        thorough=name != "direct_feedback",
    )
    for name, make in {
        "direct_feedback": layers.DirectFeedback,
        "direct_feedback-sign": lambda: layers.DirectFeedback(sign=True),
        "direct_random_target": layers.DirectRandomTarget,
    }.items()
]

# --- Plasticity rules -----------------------------------------------------------------------------

SPREAD = keras.initializers.RandomNormal(stddev=0.6, seed=3)


def modulated(rule: Callable[[], plasticity.PlasticityRule]) -> Part:
    """A layer that is called with a third factor: a model as a layer."""

    def part() -> list[keras.layers.Layer]:
        inputs = keras.Input((8,))
        layer = layers.HebbianDense(4, rule(), kernel_initializer=SPREAD)
        return [keras.Model(inputs, layer(inputs, modulator=keras.ops.mean(inputs, axis=1)))]

    return part


def alone(rule: Callable[[], plasticity.PlasticityRule]) -> Part:
    return lambda: [layers.HebbianDense(4, rule(), kernel_initializer=SPREAD)]


@keras.saving.register_keras_serializable(package="battery")
def oja(pre: Any, post: Any, weight: Any) -> Any:
    """The formula of a pointwise rule."""
    return post * (pre - post * weight)


PLASTICITY: dict[str, tuple[Callable[[], plasticity.PlasticityRule], dict[str, Any]]] = {
    "hard_wta": (plasticity.HardWTA, {}),
    "kwta": (lambda: plasticity.KWTA(2), {}),
    "kwta-winner": (lambda: plasticity.KWTA(plasticity.Winner()), {}),
    "kwta-softmax": (lambda: plasticity.KWTA(plasticity.Softmax(2.0)), {}),
    "kwta-power_share": (lambda: plasticity.KWTA(plasticity.PowerShare(3.0)), {}),
    "kwta-k_winners": (lambda: plasticity.KWTA(plasticity.KWinners(3)), {}),
    "krotov_hopfield_dynamics": (plasticity.KrotovHopfieldDynamics, {}),
    "krotov_hopfield-parts": (
        lambda: plasticity.KrotovHopfield(
            3.0,
            3,
            0.2,
            plasticity.Sum(),
            plasticity.UnitMaxAbs(),
            plasticity.LinearDecay(),
            constraints.UnitLength(3.0),
        ),
        {},
    ),
    "hebb-shrink": (lambda: plasticity.Hebb(0.1, normaliser=plasticity.Shrink(0.01)), {}),
    "hebb-mean_rate": (
        lambda: plasticity.Hebb(0.1, constraint=constraints.NonNegative(2.0)),
        {},
    ),
    "oja": (lambda: plasticity.Oja(plasticity.Mean(), plasticity.NoNormaliser()), {}),
    "oja-max_abs": (
        lambda: plasticity.Oja(normaliser=plasticity.MaxAbs(), rate=plasticity.NormDistance()),
        {},
    ),
    "oja-root_fan_in": (
        lambda: plasticity.Oja(normaliser=plasticity.RootFanIn(), rate=plasticity.ConstantRate()),
        {},
    ),
    "oja_subspace": (plasticity.OjaSubspace, {}),
    "sanger-orthogonal": (
        lambda: plasticity.Sanger(constraint=constraints.Orthogonal()),
        {},
    ),
    "hpca": (plasticity.HPCA, {}),
    "foldiak": (
        lambda: plasticity.Foldiak(0.25, steps=15),
        {"memory": ("lateral_kernel", "threshold")},
    ),
    "nonlinear_hebbian": (plasticity.NonlinearHebbian, {}),
    "convallis": (plasticity.Convallis, {"memory": ("mean_input", "batches")}),
    "separable": (
        lambda: plasticity.SeparableRule(
            [(1.0, "relu", "linear"), (-0.3, "tanh", "sigmoid")], decay=0.2
        ),
        {},
    ),
    "pointwise": (lambda: plasticity.PointwiseRule(oja), {}),
}

MODULATED: dict[str, tuple[Callable[[], plasticity.PlasticityRule], dict[str, Any]]] = {
    "third_factor": (plasticity.ThirdFactor, {}),
    "reward_modulated_hebb": (plasticity.RewardModulatedHebb, {"memory": ("baseline",)}),
    "eligibility-oja": (
        lambda: plasticity.EligibilityRule(plasticity.Oja(), tau=3.0),
        {"memory": ("eligibility",)},
    ),
    "eligibility-bcm": (
        lambda: plasticity.EligibilityRule(plasticity.BCM(), tau=3.0),
        {"memory": ("eligibility", "threshold")},
    ),
    "eligibility-convallis": (
        lambda: plasticity.EligibilityRule(plasticity.Convallis(), tau=3.0),
        {"memory": ("eligibility", "mean_input", "batches")},
    ),
}

OFTEN = ("krotov_hopfield_dynamics", "hpca", "eligibility-convallis")

OTHER_ROWS += [
    Row(
        f"hebbian-{name}",
        make(rule),
        (8,),
        supervised=False,
        optimizer=plain_sgd,
        rate=0.05,
        thorough=name not in OFTEN,
        **options,
    )
    for make, rules in ((alone, PLASTICITY), (modulated, MODULATED))
    for name, (rule, options) in rules.items()
]

# --- What prepares the inputs of plastic layers ---------------------------------------------------


def whitened() -> list[keras.layers.Layer]:
    layer = layers.ZCAWhitening(0.1)
    layer.adapt(np.random.default_rng(5).normal(size=(40, 8)).astype("float32"))
    return [layer, *alone(plasticity.Oja)()]


OTHER_ROWS += [
    Row(
        "hebbian-traces",
        lambda: [kl.layers.SynapticTraces(4.0, 2.0), *alone(plasticity.Oja)()],
        (5, 3),
        supervised=False,
        optimizer=plain_sgd,
        thorough=True,
    ),
    Row(
        "hebbian-whitening",
        whitened,
        (8,),
        supervised=False,
        optimizer=plain_sgd,
        fixed=("mean", "matrix"),
        thorough=True,
    ),
]

# --- Models whose blocks learn from losses of their own -----------------------------------------


def normed_maps() -> list[keras.layers.Layer]:
    return [
        keras.layers.Conv2D(4, 3, padding="same"),
        keras.layers.BatchNormalization(),
        keras.layers.LeakyReLU(0.1),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(5, 3, padding="same", activation="tanh"),
    ]


OTHER_ROWS += [
    Row(
        "local_losses-pred",
        pair(lambda: feedback.FeedbackAlignment()),
        (8,),
        around=lambda model: kl.models.local_losses(model, "pred"),
        rate=0.2,
        fixed=("feedback_kernel",),
    ),
    Row(
        "local_losses-bio",
        pair(lambda: feedback.KolenPollack()),
        (8,),
        around=lambda model: kl.models.local_losses(model, kl.models.local.Prediction(bio=True)),
        rate=0.2,
        fixed=("feedback_kernel", "feedback_kernel_offset", "feedback_kernel_scale", "codes"),
        thorough=True,
    ),
]
