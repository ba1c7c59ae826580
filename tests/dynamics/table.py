"""Every network that learns in phases, as one list: a network joins the battery with one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import dynamics

INPUTS, CLASSES, SAMPLES, BATCH = 6, 3, 16, 8


@dataclass(frozen=True)
class Row:
    """One network that is put through all cells.

    Attributes:
        id: Name of the row in the report.
        make: Makes the network, of `INPUTS` inputs and `CLASSES` classes; takes `dtype`.
        optimizer: Of the learning rate.
        rate: Learning rate.
        epochs: After how many the loss has to have fallen by a twentieth.
        fixed: Names of weights, or of what holds them, that no training moves; state that is no
            weight of the rule, such as a counter, belongs here too.
        memory: Names of weights that remember activity, whatever the learning rate.
        falls: Whether the loss of the free phase has to fall; not where the rule descends another.
        bias: About where the biases start; 0.3 keeps rates inside of clipped ranges.
        separable: Whether a batch learns the mean of what its samples would learn alone.
        draws: Whether each sample learns with random numbers; backends, and XLA, draw others.
        inputs: Shape of one sample.
        prepare: What is done to the network behind the weights' start.
        labels: Whether there are labels; else a sample is its own target.
        thorough: Whether the row waits for `tox -e thorough`.
    """

    id: str
    make: Callable[..., dynamics.Network]
    optimizer: Callable[[float], Any] = keras.optimizers.SGD
    rate: float = 0.1
    epochs: int = 8
    fixed: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()
    falls: bool = True
    bias: float = 0.3
    separable: bool = True
    draws: bool = False
    inputs: tuple[int, ...] = (INPUTS,)
    prepare: Callable[[Any], None] = lambda network: None
    labels: bool = True
    thorough: bool = False


def momentum(rate: float) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(rate, momentum=0.5)


def equilibrium(**arguments: Any) -> Callable[..., dynamics.Network]:
    arguments = {"free_steps": 8, "nudged_steps": 3, **arguments}
    return lambda **kwargs: dynamics.EquilibriumNetwork(
        [INPUTS, 7, 5, CLASSES], **arguments, **kwargs
    )


def conv(**arguments: Any) -> Callable[..., dynamics.Network]:
    return lambda **kwargs: dynamics.ConvEquilibriumNetwork(
        (5, 6, 1), (3, 4), CLASSES, free_steps=12, nudged_steps=3, **arguments, **kwargs
    )


def contrastive(**arguments: Any) -> Callable[..., dynamics.Network]:
    return lambda **kwargs: dynamics.ContrastiveHebbianNetwork(
        [INPUTS, 7, 5, CLASSES], free_steps=12, clamped_steps=12, **arguments, **kwargs
    )


def local_backprop(**arguments: Any) -> Callable[..., dynamics.Network]:
    return lambda **kwargs: dynamics.LocalBackpropNetwork(
        steepness=4.0, time_step=0.05, **arguments, **kwargs
    )


def microcircuit(**arguments: Any) -> Callable[..., dynamics.Network]:
    return lambda **kwargs: dynamics.MicrocircuitNetwork(
        [INPUTS, 7, 5, CLASSES], **arguments, **kwargs
    )


def temporal(**arguments: Any) -> Callable[..., dynamics.Network]:
    return lambda **kwargs: dynamics.TemporalDifferenceNetwork(
        [INPUTS, 7, 5, CLASSES], batch_size=BATCH, kernel_initializer=LAW, **arguments, **kwargs
    )


def predictive(**arguments: Any) -> Callable[..., dynamics.Network]:
    return lambda **kwargs: dynamics.PredictiveCodingNetwork(
        [INPUTS, 7, 5, CLASSES], **arguments, **kwargs
    )


def burstprop(**arguments: Any) -> Callable[..., dynamics.Network]:
    return lambda **kwargs: dynamics.BurstpropNetwork(
        [INPUTS, 7, 5, CLASSES],
        recurrent_rate=0.1,
        feedback_initializer=LAW,
        recurrent_initializer=LAW,
        **arguments,
        **kwargs,
    )


def difference_target(**arguments: Any) -> Callable[..., dynamics.Network]:
    return lambda **kwargs: dynamics.DifferenceTargetPropagation(
        [INPUTS, 7, 5, CLASSES], inverse_rate=1.0, **arguments, **kwargs
    )


def segregated(**arguments: Any) -> Callable[..., dynamics.Network]:
    return lambda **kwargs: dynamics.SegregatedDendritesNetwork(
        [INPUTS, 7, 5, CLASSES], **arguments, **kwargs
    )


def forward_forward(**arguments: Any) -> Callable[..., dynamics.Network]:
    return lambda **kwargs: dynamics.ForwardForwardNetwork(
        [INPUTS, 7, 5, CLASSES], **arguments, **kwargs
    )


def recirculation(**arguments: Any) -> Callable[..., dynamics.Network]:
    return lambda **kwargs: dynamics.RecirculationAutoencoder(INPUTS, 3, **arguments, **kwargs)


LAW = keras.initializers.RandomUniform(-0.3, 0.3, seed=1)
COUNT = ("nudge_count",)
APICAL = ("apical_1", "apical_2")

ROWS = [
    Row("equilibrium", equilibrium(), momentum, fixed=COUNT, rate=0.2),
    Row(
        "equilibrium-persistent",
        equilibrium(persistent=SAMPLES),
        momentum,
        fixed=(*COUNT, "place"),
        memory=("states_1", "states_2", "states_3"),
        rate=0.2,
        # How a sample settles depends on what it did before, so a copy of it settles otherwise.
        separable=False,
        thorough=True,
    ),
    Row(
        "equilibrium-centred",
        equilibrium(form="prototypical", nudging="centred", feedback="separate"),
        keras.optimizers.Adam,
        fixed=COUNT,
        rate=0.02,
        thorough=True,
    ),
    Row(
        "equilibrium-holomorphic",
        equilibrium(form="prototypical", nudging="holomorphic", cost="cross_entropy"),
        momentum,
        fixed=COUNT,
        rate=0.2,
        thorough=True,
    ),
    Row(
        "conv_equilibrium",
        conv(activation="steep_sigmoid"),
        lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
        fixed=COUNT,
        rate=0.3,
        epochs=12,
        inputs=(5, 6, 1),
        thorough=True,
    ),
    Row(
        "conv_equilibrium-mse",
        conv(cost="mse", nudging="random_sign", activation="tanh"),
        momentum,
        fixed=COUNT,
        rate=0.05,
        inputs=(5, 6, 1),
        thorough=True,
    ),
    Row("contrastive_hebbian", contrastive(), momentum, rate=0.05),
    Row(
        "contrastive_hebbian-sigmoid",
        contrastive(output="sigmoid", activation="sigmoid"),
        rate=0.5,
        thorough=True,
    ),
    Row("local_backprop", local_backprop(sizes=[INPUTS, CLASSES]), momentum, bias=0.0),
    Row(
        "local_backprop-learned",
        local_backprop(sizes=[INPUTS, 5, CLASSES], fix_A=None, tau=None, activation="resu"),
        keras.optimizers.Adam,
        rate=0.01,
        falls=False,
        bias=0.0,
        thorough=True,
    ),
    Row(
        "microcircuit",
        microcircuit(top_down_initializer=LAW),
        fixed=("top_down_1", "top_down_2", "apical_1", "apical_2"),
        bias=0.0,
        prepare=lambda network: network.predict_itself(),
    ),
    Row(
        "temporal_difference",
        temporal(),
        momentum,
        rate=0.05,
        bias=0.0,
        fixed=("feedback_kernel",),
        memory=("last_error",),
        separable=False,
    ),
    Row(
        "temporal_difference-activation",
        temporal(rule="activation_product", cost="lse"),
        rate=0.1,
        bias=0.0,
        falls=False,
        fixed=("feedback_kernel",),
        memory=("last_activity_1", "last_activity_2"),
        separable=False,
        thorough=True,
    ),
    Row("predictive_coding", predictive(steps=8), keras.optimizers.Adam, rate=0.03, bias=0.0),
    Row(
        "predictive_coding-zil",
        predictive(inference="zil", activation="tanh"),
        momentum,
        bias=0.0,
        thorough=True,
    ),
    Row(
        "predictive_coding-fixed",
        predictive(inference="fixed_prediction", steps=2, step_size=1.0, activation="tanh"),
        momentum,
        bias=0.0,
        thorough=True,
    ),
    Row("burstprop", burstprop(), momentum, rate=4.0, bias=0.0, fixed=("feedback_kernel",)),
    Row(
        "burstprop-learned",
        burstprop(feedback="learned", rate_factors=(1.0, 1.0, 0.5)),
        momentum,
        rate=4.0,
        bias=0.0,
        thorough=True,
    ),
    Row(
        "difference_target",
        difference_target(seed=0),
        momentum,
        bias=0.0,
        fixed=("seed_generator_state",),
        draws=True,
    ),
    Row(
        "difference_target-exact",
        difference_target(noise=0.0, activation="linear", seed=0),
        momentum,
        bias=0.0,
        fixed=("seed_generator_state",),
        thorough=True,
    ),
    Row("segregated_dendrites", segregated(max_rate=1.0), momentum, bias=0.0, fixed=APICAL),
    Row(
        "segregated_dendrites-weak",
        segregated(nudge=0.1, max_rate=1.0),
        momentum,
        rate=1.0,
        bias=0.0,
        fixed=APICAL,
        thorough=True,
    ),
    Row(
        "forward_forward",
        forward_forward(),
        momentum,
        fixed=("draw_count",),
        separable=False,
    ),
    Row(
        "forward_forward-mean",
        forward_forward(goodness="mean", threshold=0.5, scored="upper", seed=1),
        keras.optimizers.Adam,
        rate=0.02,
        fixed=("draw_count",),
        falls=False,
        separable=False,
        thorough=True,
    ),
    Row("recirculation", recirculation(), momentum, rate=5.0, epochs=12, bias=0.0, labels=False),
    Row(
        "recirculation-tied",
        recirculation(tied=True, activation="linear", use_bias=False, regression=0.5),
        keras.optimizers.Adam,
        rate=0.02,
        labels=False,
        thorough=True,
    ),
    Row(
        "microcircuit-ode",
        microcircuit(
            form="ode",
            top_down="learned",
            learn_apical=True,
            simulation_time=6.0,
            time_step=0.4,
            top_down_initializer=LAW,
        ),
        momentum,
        rate=0.05,
        bias=0.0,
        prepare=lambda network: network.predict_itself(),
        thorough=True,
    ),
]

DAILY_STATE = (ROWS[0].id, "temporal_difference", "difference_target")

PARAMETERS = [
    pytest.param(row.id, marks=pytest.mark.thorough if row.thorough else ()) for row in ROWS
]
"""What tells networks apart is tested on each of them every day."""

SHARED = [
    pytest.param(row.id, marks=() if row.id == ROWS[0].id else pytest.mark.thorough) for row in ROWS
]
"""What the interface does for all of them, on one of them every day."""

STATEFUL = [
    pytest.param(row.id, marks=() if row.id in DAILY_STATE else pytest.mark.thorough)
    for row in ROWS
]
"""What depends on state that is no weight, on one network of each kind every day."""


def find(row_id: str) -> Row:
    return next(row for row in ROWS if row.id == row_id)


def data(row: Row) -> tuple[np.ndarray, Any]:
    """Samples from 0 to 1 with the classes of a linear map; images, with those of prototypes."""
    rng = np.random.default_rng(3)
    inputs = rng.random((SAMPLES, *row.inputs)).astype("float32")
    if not row.labels:
        return inputs, None
    if len(row.inputs) == 1:
        return inputs, np.argmax((inputs - 0.5) @ rng.normal(size=(INPUTS, CLASSES)), axis=1)
    labels = np.arange(SAMPLES) % CLASSES
    prototypes = rng.random((CLASSES, *row.inputs)).astype("float32")
    return 0.3 * inputs + 0.7 * prototypes[labels], labels


def start(network: dynamics.Network, row: Row, seed: int = 7) -> None:
    """Give the weights fixed values that no backend draws otherwise, and at which states settle."""
    rng = np.random.default_rng(seed)
    for weight in network.trainable_variables:
        values = rng.normal(size=weight.shape)
        if len(weight.shape) > 1:
            weight.assign(0.5 * values / np.sqrt(np.prod(weight.shape[:-1])))
        else:
            weight.assign(row.bias + 0.1 * values)
    # What never learns was drawn at random, too; counters and memories are left at zero.
    for weight in network.non_trainable_variables:
        if weight.name in ("kernel", "feedback_kernel"):
            weight.assign(0.2 * rng.normal(size=weight.shape))
    row.prepare(network)
