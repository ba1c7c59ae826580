"""One run of a comparison: the same model, with one rule, from one seed."""

from __future__ import annotations

import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

import keras
import numpy as np

from keras_local import _validation as check
from keras_local import feedback
from keras_local._serialization import copied
from keras_local.callbacks import AlignmentMonitor
from keras_local.feedback import FeedbackLike
from keras_local.layers.direct.layer import DirectLayer
from keras_local.layers.direct.resolve import DirectAlias, direct_layer
from keras_local.layers.plain_form import all_layers, error_kernels, forward_weights
from keras_local.models import convert, direct
from keras_local.models.conversion.conversion_report import leaves
from keras_local.models.gradient_angles import gradient_angles, require_exact_errors
from keras_local.reproduce.compared_task import PROBED, Split, Task

Rule = FeedbackLike | DirectAlias | DirectLayer | Callable[[Any], Any] | None
"""What a comparison takes as a rule."""

Put = Callable[[keras.Model, int], keras.Model]
"""A function from a model and a seed to a model with a rule and the same weights."""

ANGLE, GRADIENT = "alignment_angle/", "gradient_angle/"

_SECONDS = 5.0
_ROUNDS = 8, 80
"""The fewest and the most steps that are timed; between them, the seconds decide."""


@dataclass(frozen=True)
class Run:
    """What one rule did from one seed.

    Attributes:
        rule: Name of the rule.
        seed: The seed of weights, feedback weights and order of the examples.
        rate: The learning rate that was chosen among several; None for the optimizer's own.
        measured: The measure on the test examples after each epoch.
        logs: The logs of `fit`: `loss`, `val_loss` and others, one value for each epoch.
        angles: By kernel, in degrees: before training, and after each epoch. The entries
            `gradient_angle/<kernel>` are angles between the gradient that the rule gives and that
            of backpropagation through the same weights; `alignment_angle/<layer>` are angles
            between a kernel and its feedback kernel.
        memory: Bytes of all weights, feedback weights and slots of the optimizer.
        seconds: How long training took.
        warnings: What was warned of.
    """

    rule: str
    seed: int
    rate: float | None
    measured: list[float]
    logs: dict[str, list[float]]
    angles: dict[str, list[float]]
    memory: int
    seconds: float
    warnings: tuple[str, ...]

    @property
    def final(self) -> float:
        """The measure after the last epoch."""
        return self.measured[-1]

    @property
    def gradient_angle(self) -> float | None:
        """Mean of the last gradient angles, over all kernels but the highest."""
        found = [values[-1] for name, values in self.angles.items() if name.startswith(GRADIENT)]
        return statistics.fmean(found[: max(1, len(found) - 1)]) if found else None

    @property
    def gradient_angles(self) -> list[float]:
        """The same mean before training and after each epoch; empty without angles."""
        found = [values for name, values in self.angles.items() if name.startswith(GRADIENT)]
        return [float(v) for v in np.mean(found[: max(1, len(found) - 1)], axis=0)] if found else []

    @property
    def kernel_angle(self) -> float | None:
        """Mean of the last angles between kernel and feedback kernel, over all layers."""
        found = [values[-1] for name, values in self.angles.items() if name.startswith(ANGLE)]
        return statistics.fmean(found) if found else None


def putting(argument: str, rule: Any) -> Put:
    """Return the function that puts a rule into a model, or refuse what is not a rule."""
    if rule is None:
        return _as_built
    if isinstance(rule, DirectLayer):
        direct_layer(argument, rule)
        return lambda model, seed: direct(model, copied(rule))
    if isinstance(rule, str) and rule in get_args(DirectAlias):
        alias = cast(DirectAlias, rule)
        return lambda model, seed: direct(model, alias)
    by_layer = callable(rule) and not isinstance(rule, (type, feedback.FeedbackRule))
    if not by_layer:
        _known(argument, rule)

    def put(model: keras.Model, seed: int) -> keras.Model:
        # A layer below which nothing is trained needs no feedback kernel. What has a rule already
        # gets the new one everywhere, so that the lowest layer does not keep its own.
        everywhere = any(error_kernels(layer) for layer in all_layers(model))
        return convert(model, rule, seed=seed, lowest=everywhere, verbose=False)

    return put


def _known(argument: str, rule: Any) -> None:
    try:
        feedback.get(rule)
    except ValueError as error:
        aliases = [*get_args(feedback.FeedbackAlias), *get_args(DirectAlias)]
        allowed = (
            "rules: objects of `keras_local.feedback`, direct layers, functions from a layer to "
            f"a rule, None (the model as it is built), or one of the names {aliases}"
        )
        raise ValueError(check.refusal(argument, allowed, rule)) from error


def _as_built(model: keras.Model, seed: int) -> keras.Model:
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone


def run(
    name: str, put: Put, base: keras.Model, task: Task, seed: int, rate: float | None
) -> tuple[Run, keras.Model]:
    """Train a model with a rule from a seed, and return what was seen and the model."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        keras.utils.set_random_seed(seed)
        model = put(base, seed)
        task.compile(model, rate)
        watch = _Angles(model, task)
        # The order of the examples follows from the seed alone, not from what a rule has drawn.
        keras.utils.set_random_seed(seed)
        start = time.perf_counter()
        logs = task.fit(model, task.train, task.test, watch.callbacks)
        seconds = time.perf_counter() - start
    found = Run(
        name,
        seed,
        rate,
        task.measure.of(logs),
        {key: [float(v) for v in values] for key, values in logs.items() if "angle/" not in key},
        watch.found(logs),
        sum(_bytes(v) for v in (*model.variables, *model.optimizer.variables)),
        seconds,
        tuple(sorted({str(w.message) for w in caught if issubclass(w.category, UserWarning)})),
    )
    return found, model


def best_rate(put: Put, base: keras.Model, task: Task, seed: int, rates: list[float]) -> float:
    """Return the learning rate with the best result on training examples that were held out."""
    order = np.random.default_rng(0).permutation(len(task.train))
    cut = max(1, len(order) // 10)
    held, kept = Split(*task.train.rows(order[:cut])), Split(*task.train.rows(order[cut:]))
    results = []
    for rate in rates:
        keras.utils.set_random_seed(seed)
        model = put(base, seed)
        task.compile(model, rate)
        keras.utils.set_random_seed(seed)
        logs = task.fit(model, kept, held, [])
        error = task.measure.of(logs)[-1] if task.measure.error else 0.0
        values = (error, float(logs["val_loss"][-1]))
        results.append((not np.isfinite(values).all(), *values))
    return rates[min(range(len(rates)), key=results.__getitem__)]


def step_seconds(models: Mapping[str, keras.Model], task: Task) -> dict[str, list[float]]:
    """Return how long a training step of each model takes, measured in turns.

    The models take steps in turns, so that another job on the machine slows all of them alike.
    """
    x, y = task.train.first(task.batch_size)
    names = list(models)
    for name in names * 3:
        models[name].train_on_batch(x, y)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    begin = time.perf_counter()
    for turn in range(_ROUNDS[1]):
        if turn >= _ROUNDS[0] and time.perf_counter() - begin > _SECONDS:
            break
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            start = time.perf_counter()
            models[name].train_on_batch(x, y)
            seconds[name].append(time.perf_counter() - start)
    return seconds


class _Angles(keras.callbacks.Callback):
    """Angles of gradients and of kernels, before training and after each epoch."""

    def __init__(self, model: keras.Model, task: Task) -> None:
        super().__init__()
        self.kernels = _kernels(model) if task.angles else {}
        self.probe = task.test.first(PROBED)
        self.seen: dict[str, list[float]] = {}
        try:
            require_exact_errors(model)
        except ValueError:  # A layer of the user's own cannot send the errors of backpropagation.
            self.kernels = {}
        sent = [each for layer in all_layers(model) for each in error_kernels(layer) or []]
        used = any(each.feedback_kernel is not None for each in sent)
        self.monitor = AlignmentMonitor(measures=["alignment_angle"]) if used else None

    @property
    def callbacks(self) -> list[keras.callbacks.Callback]:
        """The callbacks to train with."""
        return [self] if self.monitor is None else [self, self.monitor]

    def on_train_begin(self, logs: Any = None) -> None:
        self._measure()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._measure()

    def _measure(self) -> None:
        if not self.kernels:
            return
        angles, _ = gradient_angles(self.model, *self.probe, {}, self.kernels)
        for name, angle in angles.items():
            self.seen.setdefault(GRADIENT + name, []).append(float(angle))

    def found(self, logs: Mapping[str, list[float]]) -> dict[str, list[float]]:
        """Return all angles."""
        if self.monitor is None:
            return self.seen
        initial = self.monitor.initial
        return {
            **self.seen,
            **{key: [angle, *map(float, logs[key])] for key, angle in initial.items()},
        }


def _kernels(model: keras.Model) -> dict[str, keras.Variable]:
    """Return all trained weights of the forward pass with at least two axes, the lowest first."""
    found: dict[str, keras.Variable] = {}
    seen: set[int] = set()
    for path, layer in leaves(model):
        weights = [w for w in forward_weights(layer) if w.trainable and len(w.shape) > 1]
        weights = [weight for weight in weights if id(weight) not in seen]
        seen |= {id(weight) for weight in weights}
        uses = Counter(weight.name for weight in weights)
        for index, weight in enumerate(weights):
            part = weight.name if uses[weight.name] == 1 else f"{weight.name}_{index}"
            found[path if len(weights) == 1 else f"{path}/{part}"] = weight
    return found


def _bytes(variable: Any) -> int:
    dtype = keras.backend.standardize_dtype(variable.dtype)
    width = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
    return int(np.prod(variable.shape, dtype=np.int64)) * width
