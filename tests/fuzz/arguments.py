"""What each argument of a public constructor may be."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import keras_local as kl
from tests.fuzz.kinds import (
    ACTIVATION,
    ANYTHING,
    CONSTRAINT,
    DTYPE,
    FLAG,
    INITIALIZER,
    NAME,
    REGULARIZER,
    Kind,
    constants,
    doubled,
    family,
    integer,
    integers,
    literal,
    number,
    numbers_or_none,
    optional,
    sizes,
)

NOT_NEGATIVE = number(0.1, 1.0, minimum=0.0)
POSITIVE = number(0.5, 2.0, minimum=0.0, open_below=True)
SHARE = number(0.5, 1.0, minimum=0.0, maximum=1.0, open_below=True)
SEED = integer(0, 5, minimum=0)

RULE = family(
    kl.feedback.FeedbackRule,
    ("kolen_pollack", "feedback_alignment", "symmetric", "usf"),
    kl.feedback.FeedbackAlignment,
    lambda: kl.feedback.KolenPollack(rate=0.5),
    lambda: kl.feedback.SymmetricAlignment(every=2),
    lambda: kl.feedback.MatchedNorm(kl.feedback.FeedbackAlignment()),
)
INNER_RULE = family(kl.feedback.FeedbackRule, (), kl.feedback.FeedbackAlignment)
PLASTIC = family(
    kl.plasticity.PlasticityRule,
    ("oja", "hebb", "soft_hebb", "krotov_hopfield"),
    kl.plasticity.BCM,
    lambda: kl.plasticity.KrotovHopfield(p=3.0, rank=2),
)
NOISE = optional(family(kl.feedback.Noise, (), kl.feedback.Noise))

FEEDBACK: dict[str, Kind] = {
    **{name: NOT_NEGATIVE for name in ("decay", "amplify", "nullify", "sparsify", "self_align")},
    "rate": NOT_NEGATIVE,
    "noise": NOISE,
    "centre": FLAG,
    "respond": FLAG,
    "update_forward": FLAG,
    "every": integer(1, 3),
    "separate": optional(FLAG),
    "regulariser": family(
        kl.feedback.Primitive,
        (),
        lambda: kl.feedback.Decay(0.1),
        lambda: kl.feedback.Amplify(0.2),
    ),
    "terms": Kind(
        (lambda: [kl.feedback.Decay(0.1), kl.feedback.Amplify(0.1)],),
        lambda value: not isinstance(value, (list, tuple)) or not value,
    ),
    "rule": INNER_RULE,
    "stddev": NOT_NEGATIVE,
    "law": literal("normal", "uniform"),
    "probability": SHARE,
    "seed": optional(SEED),
    "magnitude": literal("uniform", "batchwise", "fixed"),
    "scale": optional(POSITIVE),
}

PARTS: dict[str, Kind] = {
    "reduction": optional(
        family(kl.plasticity.Reduction, (), kl.plasticity.Sum, kl.plasticity.Mean)
    ),
    "normaliser": optional(
        family(kl.plasticity.Normaliser, (), kl.plasticity.MaxAbs, kl.plasticity.RootFanIn)
    ),
    "rate": optional(
        family(kl.plasticity.RatePolicy, (), kl.plasticity.LinearDecay, kl.plasticity.NormDistance)
    ),
    "constraint": optional(
        family(kl.constraints.Constraint, (), kl.constraints.NonNegative, kl.constraints.UnitLength)
    ),
}

PLASTICITY: dict[str, Kind] = {
    **PARTS,
    "threshold_rate": number(0.1, 1.0, minimum=0.0, maximum=1.0),
    "bounded": FLAG,
    "rectified": FLAG,
    "inhibition": number(0.1, 0.5, minimum=0.0),
    "theta_ltd": number(0.3),
    "theta_ltp": number(0.8),
    "width": number(0.1, minimum=0.0, open_below=True),
    "ltd": number(0.5, 1.0, minimum=0.0),
    "ltp": number(2.0, 3.0, minimum=0.0),
    "mean_rate": number(0.6),
    "maximum": optional(number(0.5, 2.0, minimum=0.0)),
    "base": PLASTIC,
    "tau": number(1.0, 4.0, minimum=0.0, open_below=True),
    "nonlinearity": literal("relu"),
    "decay": NOT_NEGATIVE,
    "competition": Kind(
        (lambda: 2, kl.plasticity.Winner, lambda: kl.plasticity.KWinners(2)),
        lambda value: (
            not isinstance(value, (int, np.integer, kl.plasticity.Competition, dict))
            or isinstance(value, bool)
            or (isinstance(value, int) and value < 1)
        ),
    ),
    "k": integer(1, 3),
    "p": number(2.0, 3.0, minimum=1.0),
    "rank": integer(2, 3, minimum=1),
    "delta": number(0.0, 0.4),
    "threshold": NOT_NEGATIVE,
    "solver": literal("closed_form", "ode"),
    "duration": POSITIVE,
    "theta": number(0.5, 1.0),
    "theta_2": number(1.5, 2.0),
    "power": POSITIVE,
    "baseline_rate": number(0.1, 1.0, minimum=0.0, maximum=1.0),
    "function": Kind(constants(doubled), lambda value: not callable(value)),
    "block": integer(1, 8),
    "probability": number(0.1, 0.25, minimum=0.0, maximum=1.0),
    "lateral_rate": NOT_NEGATIVE,
    "slope": POSITIVE,
    "steps": integer(2, 5),
    "step": POSITIVE,
    "terms": Kind(
        (lambda: [(1.0, "relu", "linear")],),
        lambda value: not isinstance(value, (list, tuple)) or not value,
    ),
    "beta": POSITIVE,
    "anti_hebbian": FLAG,
}

LAYER: dict[str, Kind] = {
    "units": integer(3, 4),
    "filters": integer(3, 4),
    "num_heads": integer(1, 2),
    "key_dim": integer(1, 2),
    "value_dim": optional(integer(2)),
    "dropout": number(0.0, 0.5, minimum=0.0, maximum=1.0),
    "output_shape": ANYTHING,
    "attention_axes": ANYTHING,
    # TensorFlow has none, and Keras says so when the layer is called.
    "flash_attention": Kind(
        constants(None, False),
        lambda value: not isinstance(value, (bool, np.bool_)) and value is not None,
    ),
    "sliding_window": optional(integer(1, 3)),
    "use_gate": FLAG,
    "seed": optional(SEED),
    "kernel_size": sizes(0, 2),
    "strides": sizes(0, 1),
    "dilation_rate": sizes(0, 1),
    "output_padding": ANYTHING,
    "padding": literal("valid", "same"),
    "data_format": optional(literal("channels_last")),
    "groups": integer(1),
    "depth_multiplier": integer(1, 2),
    "activation": ACTIVATION,
    "use_bias": FLAG,
    "feedback": RULE,
    "plasticity": PLASTIC,
    "connectivity": optional(SHARE),
    "idle_feedback": literal("keep", "drop"),
    "implementation": ANYTHING,
    "local_rate": NOT_NEGATIVE,
    "global_rate": NOT_NEGATIVE,
    "patch_norm": FLAG,
    "border": optional(integer(1, minimum=0)),
    "floor": NOT_NEGATIVE,
    "sign": FLAG,
    "tau_decay": number(8.0, minimum=0.0, open_below=True),
    "tau_rise": optional(number(2.0, minimum=0.0, open_below=True)),
    "epsilon": POSITIVE,
    "flatten": FLAG,
    **{
        name: FLAG
        for name in (
            "go_backwards",
            "return_sequences",
            "return_state",
            "unroll",
            "zero_output_for_mask",
            "reset_after",
            "unit_forget_bias",
        )
    },
    # A state that stays needs a fixed batch size, which a call at random does not have.
    "stateful": Kind(constants(False), FLAG.wrong),
    "use_cudnn": ANYTHING,
    "recurrent_activation": ACTIVATION,
    "recurrent_dropout": number(0.0, 0.5, minimum=0.0, maximum=1.0),
    "recurrent_feedback": optional(RULE),
    "recurrent_feedback_initializer": optional(INITIALIZER),
    "recurrent_initializer": INITIALIZER,
    "recurrent_regularizer": REGULARIZER,
    "recurrent_constraint": CONSTRAINT,
    "time_rule": literal("bptt", "eprop"),
    "tau": number(1.0, 4.0, minimum=1.0),
    "cell": family(
        keras.layers.Layer,
        (),
        lambda: keras.layers.SimpleRNNCell(3),
        lambda: keras.layers.GRUCell(3),
    ),
    "layer": family(keras.layers.Layer, (), lambda: keras.layers.Dense(3)),
    "parts": ANYTHING,
    "equation": Kind((lambda: "abc,cd->abd",), lambda value: not isinstance(value, str)),
    "bias_axes": optional(Kind((lambda: "d",), lambda value: not isinstance(value, str))),
    **{
        f"{what}_initializer": INITIALIZER
        for what in ("kernel", "bias", "feedback", "depthwise", "pointwise")
    },
    **{
        f"{what}_regularizer": REGULARIZER
        for what in ("kernel", "bias", "activity", "depthwise", "pointwise")
    },
    **{f"{what}_constraint": CONSTRAINT for what in ("kernel", "bias", "depthwise", "pointwise")},
    "name": NAME,
    "dtype": DTYPE,
    "trainable": FLAG,
}


def with_rank(rank: int) -> dict[str, Kind]:
    """The arguments of a window of so many dimensions."""
    several = (2,) * rank
    return {
        "kernel_size": sizes(rank, 2, several),
        "strides": sizes(rank, 1, (1,) * rank),
        "dilation_rate": sizes(rank, 1, (1,) * rank),
        "output_padding": optional(sizes(rank, 0, minimum=0)),
    }


WEIGHT_LAYERS = numbers_or_none((1.0, 0.5), [0.0, 2.0])

NETWORK: dict[str, Kind] = {
    **{name: LAYER[name] for name in ("name", "dtype", "trainable", "use_bias", "filters")},
    "sizes": integers([4, 5, 3], (4, 5, 3), least=2),
    "burst_probability": number(0.2, minimum=0.0, maximum=1.0),
    "recurrent_rate": NOT_NEGATIVE,
    "rate_factors": WEIGHT_LAYERS,
    "gamma": NOT_NEGATIVE,
    "free_steps": integer(2, 5),
    "clamped_steps": integer(2, 5),
    "nudged_steps": integer(1, 2),
    "step_size": number(0.1, 0.5, minimum=0.0, open_below=True),
    "target_rate": POSITIVE,
    "noise": NOT_NEGATIVE,
    "inverse_rate": NOT_NEGATIVE,
    "phase": literal("both"),
    "seed": SEED,
    "nudge": number(0.1, 0.5),
    "points": integer(4),
    "persistent": optional(integer(8)),
    "weight_decay": NOT_NEGATIVE,
    "threshold": number(0.5, 2.0),
    "error_sizes": ANYTHING,
    "steepness": POSITIVE,
    "tau": optional(POSITIVE),
    "simulation_time": number(1.0, 2.0, minimum=0.0, open_below=True),
    "time_step": number(0.1, minimum=0.0, open_below=True),
    "fix_W": FLAG,
    "learn_bias": FLAG,
    "block_feedback": FLAG,
    "precision": ANYTHING,
    "gated": Kind(constants(False), FLAG.wrong),
    "init_scale": NOT_NEGATIVE,
    "lam": number(0.1, minimum=0.0),
    "lam_out": optional(number(0.2, minimum=0.0)),
    "lam_inter": optional(number(0.2, minimum=0.0)),
    "learn_apical": FLAG,
    "self_predicting": FLAG,
    "leak": number(0.1, minimum=0.0),
    "basal": number(0.5, minimum=0.0),
    "output_variance": POSITIVE,
    "steps": integer(2, 5),
    "visible": integer(4),
    "hidden": integer(3),
    "regression": number(0.5, minimum=0.0, maximum=1.0),
    "tied": FLAG,
    "reversal": number(8.0),
    "max_rate": POSITIVE,
    "batch_size": integer(4, 8),
    "units": integer(3),
    "feedback_trainable": FLAG,
    "kernel_size": integer(2, 3),
    "padding": literal("same", "valid"),
    "input_shape": integers((6, 6, 1), [6, 6, 2], least=3),
    "classes": integer(3, minimum=2),
    "paddings": ANYTHING,
    "readout_phase": literal("free", "nudged"),
    "targets": literal("classes", "labels"),
    **{
        f"{what}_initializer": INITIALIZER
        for what in ("kernel", "bias", "feedback", "recurrent", "top_down")
    },
    "kernel_regularizer": REGULARIZER,
    "activity_regularizer": REGULARIZER,
}


def _infinite(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) and value == np.inf


CHOICES: dict[str, dict[str, Kind]] = {
    "BurstpropNetwork": {"feedback": literal("fixed", "learned")},
    "ContrastiveHebbianNetwork": {
        "activation": literal("tanh", "sigmoid", "linear"),
        "output": optional(literal("linear", "sigmoid")),
    },
    "ConvEquilibriumNetwork": {
        "activation": literal("half_clip", "tanh", "steep_sigmoid"),
        "cost": literal("mse", "cross_entropy"),
        "nudging": literal("centred", "random_sign"),
        "filters": integers((2, 3), [2], least=1),
    },
    "DifferenceTargetPropagation": {
        "activation": literal("tanh", "linear"),
        "seed": optional(SEED),
    },
    "EquilibriumNetwork": {
        "form": literal("hopfield", "prototypical"),
        "activation": Kind(constants(None), lambda v: not (v is None or isinstance(v, str))),
        "cost": literal("mse", "cross_entropy"),
        "nudging": literal("random_sign", "centred"),
        "feedback": literal("tied", "separate"),
    },
    "ForwardForwardNetwork": {
        "targets": literal("classes"),
        "goodness": literal("mean", "sum"),
        "scored": literal("all", "upper"),
    },
    "LocalBackpropNetwork": {
        "activation": literal("relu"),
        # Infinity is what None says.
        "tau": Kind(
            POSITIVE.valid,
            lambda value: value is not None and POSITIVE.wrong(value) and not _infinite(value),
        ),
        "fix_A": optional(literal("all", "last")),
        "simulation_time": number(1.0, 2.0, minimum=0.0),
    },
    "MicrocircuitNetwork": {
        "form": literal("consistent", "literal", "ode"),
        "top_down": literal("fixed"),
    },
    "PredictiveCodingNetwork": {
        "activation": literal("sigmoid", "tanh"),
        "inference": literal("settle"),
        "cost": optional(literal("squared", "cross_entropy")),
    },
    "RecirculationAutoencoder": {
        "activation": literal("sigmoid", "linear"),
        # A sample is its own target.
        "targets": Kind(constants(None), lambda value: value is not None),
    },
    "TemporalDifferenceNetwork": {
        "cost": literal("mce", "lse"),
        "rule": literal("error_difference", "activation_product"),
    },
    "HebbianConv1D": {**with_rank(1), "padding": literal("valid", "same", "reflect")},
    "HebbianConv2D": {**with_rank(2), "padding": literal("valid", "same", "reflect")},
    "HebbianLocallyConnected2D": with_rank(2),
    "FeedbackConv1D": {**with_rank(1), "padding": literal("valid", "same", "causal")},
    "FeedbackEinsumDense": {
        "output_shape": Kind(
            (lambda: (3, 2), lambda: (None, 2)),
            lambda value: isinstance(value, (str, float, bytes, complex, bool)),
        )
    },
    "KrotovHopfieldDynamics": {"p": number(2.0, 3.0, minimum=1.0)},
    "RandomConnectivity": {"seed": optional(integer(5, minimum=0))},
    "SignSymmetry": {"scale": optional(POSITIVE)},
    "FeedbackMultiHeadAttention": {"value_dim": optional(integer(2))},
    "HPCA": {"nonlinearity": literal("relu", "tanh")},
    "NonlinearHebbian": {"nonlinearity": literal("cubic", "quadratic")},
    "Foldiak": {"threshold_rate": NOT_NEGATIVE},
    "EligibilityRule": {"tau": number(1.0, 4.0, minimum=1.0)},
    "ConvSynapses": {"kernel_size": integer(2, 3)},
}

for _rank in (1, 2, 3):
    for _class in (
        f"FeedbackConv{_rank}D",
        f"FeedbackConv{_rank}DTranspose",
        f"FeedbackDepthwiseConv{_rank}D",
        f"FeedbackSeparableConv{_rank}D",
        f"LocallyConnected{_rank}D",
    ):
        CHOICES[_class] = {**with_rank(_rank), **CHOICES.get(_class, {})}

REDUCTION = Kind(
    constants("sum", "mean", None, "none"),
    lambda value: not (value is None or (isinstance(value, str) and value != "no_such")),
)
OTHERS: dict[str, dict[str, Kind]] = {
    "losses": {
        "off_class_factor": NOT_NEGATIVE,
        "power": number(1.0, 4.0, minimum=1.0),
        "beta": POSITIVE,
        "reduction": REDUCTION,
        "name": NAME,
        "dtype": DTYPE,
    },
    "activations": {"scale": POSITIVE, "power": POSITIVE},
    "constraints": {
        "rate": number(0.5, 1.0),
        "maximum": optional(POSITIVE),
        "p": number(2.0, 3.0, minimum=1.0),
    },
    "callbacks": {
        "every": integer(1, 2),
        "tolerance": NOT_NEGATIVE,
        "layers": Kind(
            constants(None, ["dense"]),
            lambda value: isinstance(value, (int, float, complex, np.ndarray)),
        ),
        "measures": Kind(
            constants(("alignment_angle",), ["norm_ratio"]),
            lambda value: not isinstance(value, (list, tuple)) or "a" in value or None in value,
        ),
        "data": Kind((lambda: np.ones((4, 3), "float32"),), lambda value: False),
        "directory": Kind(constants("run"), lambda value: not isinstance(value, str) or not value),
        "run": optional(
            Kind(constants({}, {"batch_size": 32}), lambda value: not isinstance(value, dict))
        ),
        "log_dir": Kind(constants("logs"), lambda value: not isinstance(value, (str, bytes))),
        "figures": Kind((lambda: {"one": abs},), lambda value: not isinstance(value, dict)),
        "dpi": integer(50, 100),
    },
    "optimizers": {
        "learning_rate": Kind(
            constants(0.1, 1.0),
            lambda value: (
                isinstance(value, (str, bytes, bool, complex, list, tuple)) or value is None
            ),
        ),
        "momentum": number(0.0, 0.9, minimum=0.0, maximum=1.0),
        "nesterov": FLAG,
        "weight_decay": optional(NOT_NEGATIVE),
        "clipnorm": ANYTHING,
        "clipvalue": ANYTHING,
        "global_clipnorm": ANYTHING,
        "use_ema": FLAG,
        "ema_momentum": ANYTHING,
        "ema_overwrite_frequency": ANYTHING,
        "loss_scale_factor": ANYTHING,
        "gradient_accumulation_steps": ANYTHING,
        "name": NAME,
    },
}

BY_MODULE: dict[str, dict[str, Kind]] = {
    "feedback": FEEDBACK,
    "plasticity": PLASTICITY,
    "layers": LAYER,
    "dynamics": NETWORK,
    **OTHERS,
}
