"""Optimizers that Keras does not have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import Config


@serializable
class BatchManhattan(keras.optimizers.SGD):
    """SGD on the sign of the batch's gradient.

    `g <- sign(g)`, then the step of SGD with its momentum, weight decay and schedule. Every weight
    with a gradient changes by the learning rate, as if all synapses had one step size.

    `sign` acts on the gradient of the whole batch, after the replicas' gradients are added up and
    accumulated. Loss scales do not matter. Kernel and feedback kernel of
    `KolenPollack(separate=True)`, whose gradients are equal, keep their difference. A factor on the
    gradient, as in `KolenPollack(rate=0.5)` or the rates of an alignment rule, has no effect.

    Args:
        learning_rate: Size of the step: a number, a schedule, or a function without arguments.
        momentum: As in `keras.optimizers.SGD`, from 0 to 1.
        nesterov: As in `keras.optimizers.SGD`, like all arguments below.
        weight_decay: Decoupled decay of the weights, or None.
        clipnorm: Largest norm of each weight's gradient; it has no effect on its sign.
        clipvalue: Largest entry of a gradient; it has no effect on its sign.
        global_clipnorm: Largest norm of all gradients; it has no effect on their signs.
        use_ema: Whether a moving average of the weights is computed.
        ema_momentum: Momentum of this average.
        ema_overwrite_frequency: Number of steps after which the weights are set to the average.
        loss_scale_factor: Factor on the loss, or None.
        gradient_accumulation_steps: Number of steps over which gradients are summed.
        name: Name of the optimizer.

    Raises:
        ValueError: If an argument is invalid; the message names it.

    >>> import keras, keras_local as kl
    >>> weight = keras.Variable([1.0, 1.0, 1.0])
    >>> optimizer = kl.optimizers.BatchManhattan(0.5)
    >>> optimizer.apply([keras.ops.convert_to_tensor([3.0, -0.001, 0.0])], [weight])
    >>> keras.ops.convert_to_numpy(weight).tolist()
    [0.5, 1.5, 1.0]

    Source: Liao, Leibo & Poggio 2016, "How important is weight symmetry in backpropagation?".
    """

    ignores_gradient_scale = True
    """Networks ask for this attribute, because their layers may learn at different rates."""

    def __init__(
        self,
        learning_rate: float | Callable[[], Any] | Config = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> None:
        schedule = keras.optimizers.schedules.LearningRateSchedule
        if not (isinstance(learning_rate, (schedule, Mapping)) or _is_source(learning_rate)):
            # Keras stores the number in single precision.
            learning_rate = check.real("learning_rate", learning_rate, 0.0, 3e38)
        optional = {
            "clipnorm": clipnorm,
            "clipvalue": clipvalue,
            "global_clipnorm": global_clipnorm,
            "loss_scale_factor": loss_scale_factor,
        }
        steps = {
            "ema_overwrite_frequency": (ema_overwrite_frequency, 1),
            "gradient_accumulation_steps": (gradient_accumulation_steps, 2),
        }
        if weight_decay is not None:
            weight_decay = check.real("weight_decay", weight_decay, minimum=0.0)
        super().__init__(
            learning_rate=learning_rate,
            momentum=check.real("momentum", momentum, minimum=0.0, maximum=1.0),
            nesterov=check.flag("nesterov", nesterov),
            weight_decay=weight_decay,
            use_ema=check.flag("use_ema", use_ema),
            ema_momentum=check.real("ema_momentum", ema_momentum, minimum=0.0, maximum=1.0),
            name=name if name is None else check.text("name", name),
            **{
                argument: None
                if value is None
                else check.real(argument, value, minimum=0.0, exclusive=True)
                for argument, value in optional.items()
            },
            **{
                argument: None if value is None else check.positive_integer(argument, value, least)
                for argument, (value, least) in steps.items()
            },
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Make the step of SGD along the sign of the gradient."""
        super().update_step(ops.sign(gradient), variable, learning_rate)


def _is_source(value: Any) -> bool:
    """Return whether a value is a function that is called without arguments."""
    if not callable(value) or isinstance(value, (type, keras.layers.Layer)):
        return False
    try:
        inspect.signature(value).bind()
    except (TypeError, ValueError):
        return False
    return True
