"""Comparison of rules on a model of the user's own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.reproduce.compared_runs import (
    Put,
    Rule,
    Run,
    best_rate,
    putting,
    run,
    step_seconds,
)
from keras_local.reproduce.compared_task import Task, task_of
from keras_local.reproduce.comparison import Comparison, save_run

_MOST_SEEDS = 1000


def compare(
    model_fn: Callable[[], keras.Model],
    rules: Sequence[Rule] | Mapping[str, Rule],
    data: Any,
    seeds: int | Sequence[int] = 5,
    epochs: int = 10,
    batch_size: int = 100,
    optimizer: str | keras.optimizers.Optimizer | None = None,
    loss: Any = None,
    rates: Sequence[float] | None = None,
    control: str | None = "symmetric",
    out: str | os.PathLike[str] | None = None,
    metric: Any = None,
    angles: bool = True,
    verbose: bool = True,
) -> Comparison:
    """Train a model of your own under several rules, from several seeds, and compare them.

    For each seed all rules begin with the same weights and see the examples in the same order. The
    result has a table with intervals over the seeds and a paired test against the control, a figure
    with learning curves and bands, the angles between the gradients that a rule gives and those of
    backpropagation, and what a step costs. The last epoch counts: nothing is chosen on the test
    examples.

    `compare` sets the seeds of Python, NumPy and the backend (`keras.utils.set_random_seed`).

    Args:
        model_fn: A function without arguments that returns a built Sequential or functional model,
            with or without layers of this package. It is called once for each seed, after the seed
            is set, so that it must not set one itself. Each rule gets a converted copy: its
            compilation is not used.
        rules: Rules, or a dict from names to rules. A rule is what `models.convert` takes (a rule
            of `keras_local.feedback`, its alias, your own rule, or a function from a layer to one
            of them); a direct layer or its alias, `"direct_feedback"` or `"direct_random_target"`,
            as for `models.direct`; or None for the model as it is built.
        data: The name of a data set (`datasets.load`), or `((x, y), (x_test, y_test))`. Inputs and
            labels are arrays, or structures of arrays as for `fit`; each of the two pairs may be a
            `tf.data.Dataset` or a `PyDataset` of batches instead.
        seeds: How many seeds, counted from 0, or the seeds themselves.
        epochs: Passes over the training examples.
        batch_size: Examples in a step; batches that are given keep their size.
        optimizer: An optimizer, of which each run gets a copy, or its name; None means
            `SGD(0.1)`.
        loss: A loss as in `compile`; None means cross-entropy, if the labels are classes.
        rates: Learning rates to try for every rule: the first seed trains on nine tenths of the
            training examples, and the rate with the best result on the last tenth is used for all
            seeds. None keeps the rate of the optimizer.
        control: Name of the rule that the others are compared with, which becomes the first; if it
            is an alias and not among the rules, it is added. None means the first of the rules.
        out: None, or a folder for the files of `Comparison.save`. Each run is written when it ends.
        metric: A metric as in `compile`, to compare instead of the test error, or instead of the
            test loss where the labels are not classes.
        angles: Whether to measure the angles of gradients, on up to 128 test examples after each
            epoch, outside the compiled step.
        verbose: Whether to show progress.

    Returns:
        The comparison.

    Raises:
        ValueError: If an argument is none of these, names are not unique, or a rule cannot be put
            into the model. Nothing has been trained then.

    >>> import keras, keras_local as kl
    >>> def network():
    ...     layers = [keras.layers.Dense(16, "relu"), keras.layers.Dense(10)]
    ...     return keras.Sequential([keras.Input((64,)), *layers])
    >>> found = kl.reproduce.compare(
    ...     network, ["symmetric", "feedback_alignment"], "digits", seeds=2, epochs=1, verbose=False
    ... )
    >>> [row.rule for row in found.rows], found.measure
    (['symmetric', 'feedback_alignment'], 'test error (%)')
    """
    allowed = "a function that returns a model, and not a model"
    check.require(not isinstance(model_fn, keras.Model), "model_fn", allowed, "a model")
    check.function("model_fn", model_fn, allowed)
    numbers = _seeds(seeds)
    named = _named(rules, control)
    puts = {name: putting("rules", rule) for name, rule in named.items()}
    tried = _rates(rates, optimizer)
    verbose = check.flag("verbose", verbose)
    if out is not None:
        check.instance("out", out, (str, os.PathLike), "a path, or None")
    bases = {seed: _built(model_fn, seed) for seed in numbers}
    first = bases[numbers[0]]
    task = task_of(
        first,
        data,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        loss=loss,
        metric=metric,
        angles=angles,
    )
    check.require(
        tried is None or not task.train.streams, "rates", "None for data in batches", rates
    )
    for name, put in puts.items():
        _try(name, put, first, task)
    settings = {
        "rules": {name: _written(rule) for name, rule in named.items()},
        "epochs": task.epochs,
        "batch_size": task.batch_size,
        "optimizer": _written(task.optimizer),
        "loss": _written(task.loss),
        "rates": tried,
    }
    runs, models = _train(puts, bases, task, tried, settings, out, verbose)
    steps = step_seconds(models, task)
    found = Comparison(
        task.measure.name, tuple(named), tuple(numbers), tuple(runs), steps, settings
    )
    if out is not None:
        found.save(out)
    return found


def _train(
    puts: Mapping[str, Put],
    bases: Mapping[int, keras.Model],
    task: Task,
    rates: list[float] | None,
    settings: dict[str, Any],
    out: Any,
    verbose: bool,
) -> tuple[list[Run], dict[str, keras.Model]]:
    """Return all runs, and the model of each rule from the first seed."""
    from rich.console import Console

    from keras_local.reproduce.progress import Stages

    runs: list[Run] = []
    models: dict[str, keras.Model] = {}
    seeds = list(bases)
    with Stages(Console(stderr=True, quiet=not verbose)) as stages:
        for name, put in puts.items():
            with stages(name) as stage:
                base = bases[seeds[0]]
                rate = None
                if rates is not None:
                    stage.say("choosing the rate")
                    rate = best_rate(put, base, task, seeds[0], rates)
                for seed in seeds:
                    found, model = run(name, put, bases[seed], task, seed, rate)
                    runs.append(found)
                    models.setdefault(name, model)
                    if out is not None:
                        save_run(Path(out), found, task.measure.name, settings)
                    done = [each.final for each in runs if each.rule == name]
                    mean = sum(done) / len(done)
                    stage.say(f"{task.measure.name} {mean:.3g} ({len(done)} of {len(seeds)})")
    return runs, models


def _built(model_fn: Callable[[], keras.Model], seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = model_fn()
    valid = isinstance(model, keras.Model) and model.built and hasattr(model, "inputs")
    allowed = "a function that returns a built Sequential or functional model"
    check.require(valid, "model_fn", allowed, f"one that returns {type(model).__name__}")
    return model


def _try(name: str, put: Put, base: keras.Model, task: Task) -> None:
    """Put a rule into the model, so that what cannot be done is said before anything is trained."""
    try:
        task.compile(put(base, 0))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`rules`: {name!r} cannot be put into the model {base.name!r}: {error}"
        ) from error


def _named(rules: Any, control: Any) -> dict[str, Any]:
    """Return the rules by name, the control first."""
    allowed = "a list of at least one rule, or a dict from names to rules"
    if isinstance(rules, Mapping):
        named = {check.text("rules", name): rule for name, rule in rules.items()}
    else:
        check.require(check.is_sequence(rules), "rules", allowed, rules)
        names = [_name(rule) for rule in rules]
        unique = len(set(names)) == len(names)
        check.require(unique, "rules", "different rules, or a dict from names to rules", names)
        named = dict(zip(names, rules, strict=True))
    check.require(bool(named), "rules", allowed, rules)
    if control is None:
        return named
    check.text("control", control)
    found = control if control in named else None
    found = found or next((name for name, rule in named.items() if _is(rule, control)), None)
    if found is None:
        try:
            putting("control", control)
        except ValueError as error:
            allowed = f"None, the name of a rule ({list(named)}), or the alias of another one"
            raise ValueError(check.refusal("control", allowed, control)) from error
        return {control: control, **named}
    return {found: named[found], **named}


def _is(rule: Any, alias: str) -> bool:
    return isinstance(rule, str) and rule == alias


def _name(rule: Any) -> str:
    if rule is None:
        return "as built"
    if isinstance(rule, str):
        return rule
    if isinstance(rule, keras.layers.Layer):
        return str(rule.name)
    if isinstance(rule, dict):
        return str(rule.get("class_name", "rule"))
    named = getattr(rule, "__name__", None)
    return str(named or repr(rule))


def _written(value: Any) -> Any:
    """Return an object as its class and arguments, and a function as its name, for a file."""
    if isinstance(value, (str, type(None))):
        return value
    if not hasattr(value, "get_config"):
        return getattr(value, "__name__", None) or repr(value)
    return {
        "class": type(value).__name__,
        **json.loads(json.dumps(value.get_config(), default=repr)),
    }


def _seeds(seeds: Any) -> list[int]:
    if check.is_sequence(seeds):
        numbers = [check.positive_integer("seeds", seed, 0, 2**32 - 1) for seed in seeds]
        distinct = bool(numbers) and len(set(numbers)) == len(numbers)
        check.require(distinct, "seeds", "at least one seed, each once", seeds)
        return numbers
    return list(range(check.positive_integer("seeds", seeds, 1, _MOST_SEEDS)))


def _rates(rates: Any, optimizer: Any) -> list[float] | None:
    if rates is None:
        return None
    listed = check.is_sequence(rates) and len(rates) > 0
    check.require(listed, "rates", "None, or a list of learning rates", rates)
    found = [check.real("rates", rate, minimum=0.0, exclusive=True) for rate in rates]
    schedule = isinstance(
        getattr(optimizer, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule
    )
    check.require(not schedule, "rates", "None for an optimizer with a schedule", rates)
    return found
