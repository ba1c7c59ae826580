"""Everything that trains, as one list: a rule or a layer joins the battery with one row.

A row needs an id, a function that makes the layers in question (fresh ones at each call), and the
shape of one sample. The battery adds a readout, data with something to learn, and the cells.
"""

from __future__ import annotations

from typing import Any

import keras
import pytest

from keras_local import constraints, feedback, layers, plasticity
from tests.battery.other_rows import OTHER_ROWS
from tests.battery.rows import Part, Row, plain_sgd


def dense(rule: feedback.FeedbackRule) -> Part:
    return lambda: [
        layers.FeedbackDense(7, "tanh", feedback=rule),
        layers.FeedbackDense(6, "tanh", feedback=rule),
    ]


def conv(cls: Any, rule: feedback.FeedbackRule) -> Part:
    return lambda: [
        cls(3, 3, padding="same", activation="tanh", feedback=rule),
        cls(4, 2, strides=2, activation="tanh", feedback=rule),
    ]


def dense_twin() -> list[keras.layers.Layer]:
    return [keras.layers.Dense(7, "tanh"), keras.layers.Dense(6, "tanh")]


def conv_twin(cls: Any) -> Part:
    def twin() -> list[keras.layers.Layer]:
        return [
            cls(3, 3, padding="same", activation="tanh"),
            cls(4, 2, strides=2, activation="tanh"),
        ]

    return twin


def hebbian(rule: plasticity.PlasticityRule) -> Part:
    """Weights of deviation 1.5: the units start outside the unit sphere, and win."""
    start = keras.initializers.RandomNormal(stddev=1.5, seed=3)
    return lambda: [layers.HebbianDense(6, plasticity=rule, kernel_initializer=start)]


RULES: dict[str, tuple[feedback.FeedbackRule, tuple[str, ...]]] = {
    "symmetric": (feedback.Symmetric(), ()),
    "feedback_alignment": (feedback.FeedbackAlignment(), ("feedback_kernel",)),
    "kolen_pollack": (
        feedback.KolenPollack(),
        # The scalar is a trainable weight with gradient zero.
        ("feedback_kernel_offset", "feedback_kernel_scale"),
    ),
    "separate": (feedback.KolenPollack(separate=True), ()),
    "rate": (feedback.KolenPollack(rate=0.5), ()),
    "decay": (feedback.KolenPollack(decay=0.5), ()),
    "sign_symmetry": (feedback.SignSymmetry(), ()),
    "fixed_magnitudes": (feedback.SignSymmetry("fixed"), ("feedback_magnitude",)),
    "symmetric_alignment": (feedback.SymmetricAlignment(0.5, 0.5), ()),
    "activation_alignment": (feedback.ActivationAlignment(0.5, 0.5), ()),
    "information_alignment": (feedback.InformationAlignment(0.5, 0.5, 0.5), ()),
    "every": (feedback.SymmetricAlignment(0.5, 0.5, every=3), ()),
    "matched_norm": (
        feedback.MatchedNorm(feedback.FeedbackAlignment()),
        ("feedback_kernel",),
    ),
}

BOTH = ("feedback_alignment", "kolen_pollack")
"""The rules that every layer meets: one whose feedback weights stay, one whose learn."""

OFTEN = {
    "dense": (*BOTH, "symmetric", "sign_symmetry", "activation_alignment"),
    "conv2d": (BOTH[1], "symmetric"),
    # As in two dimensions.
    "conv1d": (),
    "conv3d": (),
    "depthwise1d": (),
    "local1d": (),
    "separable1d": (),
    "transposed1d": (),
    "transposed3d": (),
}
"""What is tested in each run: rules of every kind in a dense layer, and the second of `BOTH` in
each other layer of two dimensions (a rule does not know its layer). All other pairs are thorough.
"""


def thorough(kind: str, name: str) -> bool:
    return name not in OFTEN.get(kind, BOTH[1:])


CONVOLUTIONS: dict[str, tuple[Any, Any, tuple[int, ...], tuple[str, ...]]] = {
    "conv1d": (
        layers.FeedbackConv1D,
        keras.layers.Conv1D,
        (8, 2),
        BOTH,
    ),
    "conv2d": (layers.FeedbackConv2D, keras.layers.Conv2D, (6, 6, 2), tuple(RULES)),
    "conv3d": (
        layers.FeedbackConv3D,
        keras.layers.Conv3D,
        (4, 4, 4, 2),
        BOTH,
    ),
}

ROWS: list[Row] = [
    *OTHER_ROWS,
    *(
        Row(
            f"dense-{name}",
            dense(rule),
            (8,),
            dense_twin,
            fixed=fixed,
            thorough=thorough("dense", name),
        )
        for name, (rule, fixed) in RULES.items()
    ),
    *(
        Row(
            f"{kind}-{name}",
            conv(ours, RULES[name][0]),
            shape,
            twin,
            fixed=RULES[name][1],
            thorough=thorough(kind, name),
        )
        for kind, (ours, stock, shape, names) in CONVOLUTIONS.items()
        for twin in [conv_twin(stock)]
        for name in names
    ),
    *(
        Row(
            f"hebbian-{name}",
            hebbian(rule),
            (8,),
            supervised=False,
            optimizer=plain_sgd,
            thorough=name == "p2",
        )
        for name, rule in {
            "p2": plasticity.KrotovHopfield(p=2, rank=2, delta=0.4),
            "p3": plasticity.KrotovHopfield(p=3, rank=3, delta=0.4),
        }.items()
    ),
]

# --- Linear maps beside the dense layer and the convolution ---------------------------------------

MAPS: dict[str, tuple[Any, Any, tuple[int, ...], list[dict[str, Any]]]] = {
    "depthwise1d": (
        layers.FeedbackDepthwiseConv1D,
        keras.layers.DepthwiseConv1D,
        (8, 2),
        [
            {"kernel_size": 3, "padding": "same", "depth_multiplier": 4},
            {"kernel_size": 2, "strides": 2, "depth_multiplier": 4},
        ],
    ),
    "depthwise2d": (
        layers.FeedbackDepthwiseConv2D,
        keras.layers.DepthwiseConv2D,
        (6, 6, 2),
        [
            {"kernel_size": 3, "padding": "same", "depth_multiplier": 2},
            {"kernel_size": 2, "strides": 2},
        ],
    ),
    "separable1d": (
        layers.FeedbackSeparableConv1D,
        keras.layers.SeparableConv1D,
        (8, 2),
        [
            {"filters": 6, "kernel_size": 3, "padding": "same", "depth_multiplier": 3},
            {"filters": 8, "kernel_size": 2, "strides": 2, "depth_multiplier": 2},
        ],
    ),
    "separable2d": (
        layers.FeedbackSeparableConv2D,
        keras.layers.SeparableConv2D,
        (6, 6, 2),
        [
            {"filters": 3, "kernel_size": 3, "padding": "same", "depth_multiplier": 2},
            {"filters": 4, "kernel_size": 2, "strides": 2},
        ],
    ),
    "transposed1d": (
        layers.FeedbackConv1DTranspose,
        keras.layers.Conv1DTranspose,
        (6, 2),
        [
            {"filters": 3, "kernel_size": 3, "padding": "same"},
            {"filters": 4, "kernel_size": 2, "strides": 2},
        ],
    ),
    "transposed2d": (
        layers.FeedbackConv2DTranspose,
        keras.layers.Conv2DTranspose,
        (4, 4, 2),
        [
            {"filters": 3, "kernel_size": 3, "padding": "same"},
            {"filters": 2, "kernel_size": 2, "strides": 2},
        ],
    ),
    "transposed3d": (
        layers.FeedbackConv3DTranspose,
        keras.layers.Conv3DTranspose,
        (3, 3, 2, 2),
        [
            {"filters": 3, "kernel_size": 3, "padding": "same"},
            {"filters": 2, "kernel_size": 2, "strides": 2},
        ],
    ),
    "einsum": (
        layers.FeedbackEinsumDense,
        keras.layers.EinsumDense,
        (4, 5),
        [
            {"equation": "abc,cde->abde", "output_shape": (4, 2, 3), "bias_axes": "de"},
            {"equation": "abde,def->abf", "output_shape": (4, 5), "bias_axes": "f"},
        ],
    ),
}


def stack(cls: Any, arguments: list[dict[str, Any]], **options: Any) -> Part:
    return lambda: [cls(**each, activation="tanh", **options) for each in arguments]


ROWS += [
    Row(
        f"{kind}-{name}",
        stack(ours, arguments, feedback=RULES[name][0]),
        shape,
        stack(stock, arguments),
        fixed=RULES[name][1],
        thorough=thorough(kind, name),
    )
    for kind, (ours, stock, shape, arguments) in MAPS.items()
    for name in (RULES if kind == "depthwise2d" else BOTH)
]

# --- Locally connected layers ---------------------------------------------------------------------

LOCAL: dict[str, tuple[Any, tuple[int, ...], tuple[str, ...]]] = {
    "local1d": (layers.LocallyConnected1D, (8, 2), BOTH),
    "local2d": (
        layers.LocallyConnected2D,
        (6, 6, 2),
        tuple(RULES),
    ),
}

ROWS += [
    Row(
        f"{kind}-{name}",
        conv(ours, RULES[name][0]),
        shape,
        # A weight of one position gets the gradient of one position.
        rate=0.1,
        fixed=RULES[name][1],
        thorough=thorough(kind, name),
    )
    for kind, (ours, shape, names) in LOCAL.items()
    for name in names
]

# --- Plasticity beyond the dense layer, with a memory, with a constraint --------------------------

SPREAD = keras.initializers.RandomNormal(stddev=0.6, seed=3)

ROWS += [
    Row(
        f"hebbian-{id}",
        lambda make=make: [make()],
        shape,
        supervised=False,
        optimizer=plain_sgd,
        **options,
    )
    for id, make, shape, options in (
        (
            "conv2d-soft_hebb",
            lambda: layers.HebbianConv2D(
                4, 3, 2, "reflect", plasticity.SoftHebb(), kernel_initializer=SPREAD
            ),
            (6, 6, 2),
            {},
        ),
        (
            "conv2d-unit_patches-bcm",
            lambda: layers.HebbianConv2D(
                4, 3, plasticity=plasticity.BCM(), patch_norm=True, kernel_initializer=SPREAD
            ),
            (6, 6, 2),
            {"memory": ("threshold",), "rate": 0.2},
        ),
        (
            "conv1d-sanger",
            lambda: layers.HebbianConv1D(
                4, 3, padding="same", plasticity="sanger", kernel_initializer=SPREAD
            ),
            (8, 2),
            {"thorough": True},
        ),
        (
            "local2d-soft_hebb",
            lambda: layers.HebbianLocallyConnected2D(
                4, 3, 2, plasticity=plasticity.SoftHebb(), kernel_initializer=SPREAD
            ),
            (6, 6, 2),
            {"thorough": True},
        ),
        (
            "similarity_matching",
            lambda: layers.HebbianDense(4, "similarity_matching", kernel_initializer=SPREAD),
            (8,),
            {},
        ),
        (
            # One that leaves weights as they are where they obey.
            "hebb-non_negative",
            lambda: layers.HebbianDense(
                4,
                plasticity.Hebb(constraint=constraints.NonNegative(1.0)),
                kernel_initializer=keras.initializers.RandomUniform(0.0, 0.5, seed=3),
            ),
            (8,),
            {},
        ),
    )
]

EACH_TIME = (
    "dense-feedback_alignment",
    "dense-kolen_pollack",
    "conv2d-kolen_pollack",
    "hebbian-p3",
    "hebbian-conv2d-unit_patches-bcm",
)
"""Rows that every run of the tests goes through: one for each of the paths that a change takes."""


def mark(row: Row) -> Any:
    """When a row is gone through: each time, daily, or before a release."""
    if row.thorough:
        return pytest.mark.thorough
    return () if row.id in EACH_TIME else pytest.mark.daily


PARAMETERS = [pytest.param(row.id, marks=mark(row)) for row in ROWS]
