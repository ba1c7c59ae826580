"""Losses whose derivative at a class unit depends only on that unit and the label.

All are sums over class units of a function of one logit and its target. Therefore the error of a
class unit is local: in contrast to softmax cross-entropy, it does not depend on other units of the
output layer.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import keras
from keras import ops

from keras_local import _labels
from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.ops import assured

_OTHERS = "for one unit, or several labels at once, use keras.losses.BinaryCrossentropy"


@serializable
class LocalHinge(keras.losses.Loss):
    """Hinge loss with a local, Hebbian derivative.

    For logits `o` of `C` classes and the correct class `y`:

        L = [1 - o_y]_+  +  mu * sum_{c != y} [1 + o_c]_+,    mu = off_class_factor / (C - 1)

    averaged over the batch. The derivative, the error `delta` of the class units, is

        delta_y = -1 if o_y < 1 else 0,     delta_c = mu if o_c > -1 else 0   (c != y)

    so that the unit of the correct class learns by a Hebbian step if it is below its margin, and
    every other unit by an anti-Hebbian step of gain `mu` if it is above its margin. Local: each
    unit needs its own logit and its own label.

    The loss is computed in float32 (float64 if that is the global float type), also for
    half-precision logits. A label that is not a class (out of range, soft) is a `ValueError` in
    eager mode, and an `InvalidArgumentError` in a TensorFlow graph, before the weights change. A
    step compiled with XLA cannot raise an error: there the loss of that batch is NaN and its
    gradient zero.

    Args:
        off_class_factor: Total weight of the `C - 1` wrong classes, at least 0. The source uses
            1 for 10 classes and 10 for 100 classes.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.

    Call arguments:
        y_true: Integer labels of shape `(batch,)` or `(batch, 1)`, or one-hot labels
            `(batch, classes)`.
        y_pred: Logits of shape `(batch, classes)`, no softmax before.

    Raises:
        ValueError: If `off_class_factor` is negative or not finite; if the logits are not of rank
            2 or have fewer than 2 classes; if one-hot labels have another width than the logits;
            if labels are out of range or not one-hot.

    Example:
        >>> import numpy as np
        >>> loss = LocalHinge()
        >>> logits = np.array([[1.5, -2.0, 0.5]], "float32")
        >>> float(loss(np.array([0]), logits))
        0.75

    References:
        Amit 2019, "Deep learning with asymmetric connections and Hebbian updates", Frontiers in
        Computational Neuroscience 13:18 (the loss with `mu` as in the author's code).
    """

    target_kinds: ClassVar[tuple[str, ...]] = ("classes",)
    """For which targets of a readout the loss is made."""

    def __init__(
        self,
        off_class_factor: float = 1.0,
        reduction: Reduction | None = "sum_over_batch_size",
        name: str | None = "local_hinge",
    ) -> None:
        self.off_class_factor = check.real("off_class_factor", off_class_factor, minimum=0.0)
        super().__init__(**_checked(name, reduction), dtype=_working_dtype())

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each sample, shape `(batch,)`."""
        targets, logits, valid = _prepare(y_true, y_pred)
        off_class = self.off_class_factor / (logits.shape[-1] - 1)
        # The derivative of relu at a tie is 0 on every backend, as in the rule; maximum differs.
        hebbian = targets * ops.relu(1.0 - logits)
        anti_hebbian = (1.0 - targets) * ops.relu(1.0 + logits)
        return _nan_unless(valid, ops.sum(hebbian + off_class * anti_hebbian, axis=-1))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "off_class_factor": self.off_class_factor}


@serializable
class PowerLoss(keras.losses.Loss):
    """Power of the distance between squashed class scores and targets of -1 and +1.

    For class scores `s` and targets `t` (+1 for the correct class, -1 for the others):

        L = sum_c |tanh(beta * s_c) - t_c|^power

    averaged over the batch. A large power makes the worst class units dominate. Local: the
    derivative at a class unit needs its own score and its own target.

    The loss is computed in float32 (float64 if that is the global float type), also for
    half-precision scores, and as `(2 * sigmoid(-2 * beta * t_c * s_c))^power`, which is the same
    number without the cancellation of `tanh` close to its target. Labels out of range are treated
    as in `LocalHinge`.

    Args:
        power: Exponent, at least 1.
        beta: Slope of the squashing, greater than 0. It depends on the scale of the scores: use 1
            for scores of the order of 1.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.

    Call arguments:
        y_true: Integer labels of shape `(batch,)` or `(batch, 1)`, or one-hot labels
            `(batch, classes)`.
        y_pred: Class scores of shape `(batch, classes)`, no softmax before.

    Raises:
        ValueError: If `power` is below 1 or `beta` is not positive; if the scores are not of rank
            2 or have fewer than 2 classes; if one-hot labels have another width than the scores;
            if labels are out of range or not one-hot.

    Example:
        >>> import numpy as np
        >>> loss = PowerLoss(power=2.0)
        >>> float(loss(np.array([1]), np.zeros((1, 3), "float32")))
        3.0

    References:
        Krotov and Hopfield 2019, "Unsupervised learning by competing hidden units", PNAS
        116(16):7723-7731.
    """

    target_kinds: ClassVar[tuple[str, ...]] = ("classes",)
    """For which targets of a readout the loss is made."""

    def __init__(
        self,
        power: float = 6.0,
        beta: float = 1.0,
        reduction: Reduction | None = "sum_over_batch_size",
        name: str | None = "power_loss",
    ) -> None:
        self.power = check.real("power", power, minimum=1.0)
        self.beta = check.real("beta", beta, minimum=0.0, exclusive=True)
        super().__init__(**_checked(name, reduction), dtype=_working_dtype())

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each sample, shape `(batch,)`."""
        targets, scores, valid = _prepare(y_true, y_pred)
        signs = 2.0 * targets - 1.0
        distance = 2.0 * ops.sigmoid(-2.0 * self.beta * signs * scores)
        return _nan_unless(valid, ops.sum(ops.power(distance, self.power), axis=-1))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "power": self.power, "beta": self.beta}


@serializable
class SquaredHinge(keras.losses.Loss):
    """Squared hinge loss of one class against the others, as in a linear support vector machine.

    For class scores `s` and targets `t` (+1 for the correct class, -1 for the others):

        L = sum_c [1 - t_c s_c]_+^2

    averaged over the batch. For a large margin add a decay of the weights by the optimizer, such as
    `keras.optimizers.AdamW`. Local: the derivative at a class unit, `-2 t_c [1 - t_c s_c]_+`, needs
    its own score and its own target.

    `keras.losses.SquaredHinge` takes only targets with the shape of the scores, and averages over
    classes; here labels may be integers. Precision and labels out of range are treated as in
    `LocalHinge`.

    Args:
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.

    Call arguments:
        y_true: Integer labels of shape `(batch,)` or `(batch, 1)`, or one-hot labels
            `(batch, classes)`.
        y_pred: Class scores of shape `(batch, classes)`, no softmax before.

    Raises:
        ValueError: If the scores are not of rank 2 or have fewer than 2 classes; if one-hot labels
            have another width than the scores; if labels are out of range or not one-hot.

    Example:
        >>> import numpy as np
        >>> loss = SquaredHinge()
        >>> scores = np.array([[0.5, -2.0, 0.0]], "float32")
        >>> float(loss(np.array([0]), scores))
        1.25

    References:
        Tang 2013, "Deep learning using linear support vector machines", arXiv:1306.0239.
    """

    target_kinds: ClassVar[tuple[str, ...]] = ("classes",)
    """For which targets of a readout the loss is made."""

    def __init__(
        self,
        reduction: Reduction | None = "sum_over_batch_size",
        name: str | None = "squared_hinge",
    ) -> None:
        super().__init__(**_checked(name, reduction), dtype=_working_dtype())

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each sample, shape `(batch,)`."""
        targets, scores, valid = _prepare(y_true, y_pred)
        shortfall = ops.relu(1.0 - (2.0 * targets - 1.0) * scores)
        return _nan_unless(valid, ops.sum(ops.square(shortfall), axis=-1))


Reduction = Literal["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none"]


def _checked(name: str | None, reduction: Reduction | None) -> dict[str, Any]:
    """Return the arguments that all Keras losses have."""
    if name is not None:
        check.text("name", name)
    check.one_of("reduction", reduction, (*get_args(Reduction), None))
    return {"name": name, "reduction": reduction}


def _working_dtype() -> str:
    # Half precision cannot tell class indices above 2048 apart, nor margins finer than 1e-3.
    return str(keras.backend.result_type(keras.config.floatx(), "float32"))


def _prepare(y_true: Any, y_pred: Any) -> tuple[Any, Any, Any]:
    """Check the labels against the logits, and convert both to one form.

    Returns:
        One-hot targets and logits, both `(batch, classes)` in float32 or wider, and a boolean
        scalar that is false if some label is not a class, for graphs that cannot raise errors.
    """
    dtype = _working_dtype()
    logits = ops.cast(ops.convert_to_tensor(y_pred), dtype)
    labels = ops.convert_to_tensor(y_true)
    shape = _labels.static_shape("y_pred", logits)
    ranked = _labels.has_known_rank(labels)
    label_shape = _labels.static_shape("y_true", labels) if ranked else (None,)
    check.require(
        len(shape) == 2 and shape[1] is not None and shape[1] >= 2,
        "y_pred",
        f"logits of shape (batch, classes) with at least 2 classes; {_OTHERS}",
        f"shape {shape}",
    )
    classes = int(logits.shape[1])
    fits = _may_equal(label_shape[0], shape[0]) if label_shape else False
    allowed = f"labels of shape (batch,) or (batch, 1), or one-hot labels of the logits' {shape}"
    check.require(fits, "y_true", allowed, f"shape {label_shape}")
    targets, valid = _labels.class_targets("y_true", labels, classes, dtype)
    values = _labels.concrete(labels)
    if values is not None:
        _labels.check_labels("y_true", values, classes, where=f" ({_OTHERS})")
    valid = ops.all(valid)
    if not ranked:
        same = ops.equal(ops.shape(targets)[0], ops.shape(logits)[0])
        valid = ops.logical_and(valid, same)
    message = (
        f"`y_true` must be integers from 0 to {classes - 1}, or one-hot rows of {classes} classes. "
        f"Received: y_true with a label that is not in [0, {classes}), or soft, or with several "
        f"entries ({_OTHERS})"
    )
    targets = assured(targets, valid, message)
    # Sizes that were unknown above are compared here: nothing may broadcast, not even a batch of 1.
    return ops.reshape(targets, ops.shape(logits)), logits, valid


def _may_equal(a: int | None, b: int | None) -> bool:
    return a is None or b is None or a == b


def _nan_unless(valid: Any, losses: Any) -> Any:
    # `where` passes no gradient to the losses of a refused batch: no weight becomes NaN.
    return ops.where(valid, losses, float("nan"))


def target_kinds(loss: Any) -> tuple[str, ...]:
    """Return the `targets` of readouts that a loss is for; empty for a loss that does not say.

    The losses of this module are for classes. A loss of your own can say it by an attribute
    `target_kinds`.

    >>> target_kinds(LocalHinge())
    ('classes',)
    """
    return tuple(getattr(loss, "target_kinds", ()))
