"""Greedy unsupervised pretraining, layer by layer, which uses `fit`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import keras
import numpy as np

from keras_local import _runs as runs
from keras_local import _validation as check
from keras_local._data_gate import check_counts
from keras_local.metrics import convergence_report, win_counts
from keras_local.models.pretraining import sources
from keras_local.models.pretraining.encoder_graph import (
    mask_of,
    part_with,
    plastic_layers,
    unsettled_below,
)
from keras_local.models.pretraining.journal import Histories, Journal
from keras_local.models.pretraining.layers_together import (
    Learner,
    Schedule,
    common_rate,
    only,
    share_of,
)
from keras_local.models.training_state import flags_kept
from keras_local.ops import replica_count
from keras_local.ops.abilities import SEVERAL_STEPS_IN_A_GRAPH
from keras_local.ops.surrogate import scope_of

_AT_ONCE = 50


def pretrain(
    encoder: keras.Model,
    data: Any,
    epochs: int = 100,
    batch_size: int = 100,
    step_size: float = 0.02,
    verbose: int | str = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    greedy: bool = True,
    steps_per_epoch: int | None = None,
    resume_from: str | PathLike[str] | None = None,
    initial_epoch: int = 0,
) -> Histories:
    """Train the plasticity layers of an encoder one after the other, without labels.

    Each layer learns from the outputs of the layers below, which are already trained. Batch
    normalisation between two of them uses the statistics of the batch while the upper layer learns,
    and measures the statistics that it uses later. Training uses Keras' `fit` with plain SGD, so
    that progress bar, callbacks and interruption work as always. The step size follows the rule's
    rate policy: for `KrotovHopfield`, `step_size * (1 - epoch / epochs)`.

    Convergence depends on the sum of all step sizes, so on the number of steps and not of epochs:
    in every step of a max-normalised rule the largest change of a weight is exactly the step size.

    Args:
        encoder: A Sequential or functional model with at least one layer that has a plasticity
            rule, such as `layers.HebbianDense`; layers in nested models are trained too. Layers
            that vary their inputs at random (augmentation) do so while a layer above them learns.
            Samples that a mask leaves out, of `keras.layers.Masking` for example, teach nothing; a
            batch is then one of the encoder's inputs.
        data: The encoder's inputs: an array of shape `(samples, ...)`, a `tf.data.Dataset` of
            inputs, batched or not, or another source for `fit`: a `keras.utils.PyDataset`, a
            `DataLoader` of torch, a generator or another iterator of batches. Such a source is read
            once, to its end, into memory, because every layer and epoch passes over the data.
            Labels are ignored.
        epochs: Passes over the data for each layer.
        batch_size: Samples in each step. Samples that do not fill a batch are left out.
        step_size: Step size in the first epoch.
        verbose: As in `keras.Model.fit`; 0 also omits the report.
        callbacks: Keras callbacks, used for every layer. Their model is the trainer of one layer;
            if they save it, they save the encoder. On TensorFlow up to 50 steps run in one call,
            unless a callback has to be called after each step.
        greedy: Whether the layers learn one after the other; otherwise they learn all at once, in
            one pass through the whole encoder for each step.
        steps_per_epoch: Number of batches that are read from a stream; by default all. A stream
            without an end needs it.
        resume_from: A directory for the state of this run. If it is empty, the run starts, and
            writes its state after each epoch. If it contains the state of a killed run with the
            same encoder, data and arguments, that run continues with its stored weights, not with
            the present weights of the encoder. Its result is the same, bit for bit, as without the
            interruption. The order of arrays then follows from the first weights, the layer and the
            epoch. A `tf.data.Dataset` is read from its start: the result is the same if each pass
            over it gives the same batches. Callbacks also start again, without their memory.
        initial_epoch: First epoch of each layer, less than `epochs`. The step size is that of this
            epoch, as in `fit`.

    Returns:
        A dict from layer name to its Keras `History`. The logs of each epoch contain `mean_norm`
        and `converged`; `history.report` is the result of `metrics.convergence_report` at the end:
        fractions of units that won, are dead, have converged.

    Raises:
        ValueError: For an encoder with nothing to pretrain, or with a plastic layer that is inside
            a wrapper or called twice; for data of another shape than the encoder's inputs, without
            an end, or not finite; for fewer samples than a batch, or a wrong number; for a
            directory with another run. Then the weights are as before. If learning diverges, the
            weights are the last finite ones; use a smaller `step_size`.

    >>> import keras, numpy as np, keras_local as kl
    >>> layer = kl.layers.HebbianDense(4, name="hidden")
    >>> encoder = keras.Sequential([keras.Input((6,)), layer])
    >>> images = np.random.default_rng(0).random((64, 6))
    >>> histories = kl.models.pretrain(
    ...     encoder, images, epochs=20, batch_size=4, step_size=0.1, verbose=0
    ... )
    >>> len(histories["hidden"].history["converged"])
    20

    Source: the schedule is from Krotov & Hopfield 2019; greedy layer-wise training is older.
    """
    epochs = check.positive_integer("epochs", epochs)
    batch_size = check.positive_integer("batch_size", batch_size)
    step_size = check.real("step_size", step_size, minimum=0.0, exclusive=True)
    initial_epoch = check.positive_integer("initial_epoch", initial_epoch, 0, epochs - 1)
    check.one_of("verbose", verbose, ("auto", 0, 1, 2))
    greedy = check.flag("greedy", greedy)
    callbacks = _checked_callbacks(callbacks)
    layers = plastic_layers(encoder)
    phases = [[layer] for layer in layers] if greedy else [layers]
    check_counts(steps_per_epoch=steps_per_epoch)
    data, batches = sources.checked(data, encoder, batch_size, steps_per_epoch)
    for epoch in range(0 if greedy else epochs):
        common_rate(layers, epoch, epochs)
    numbers = {"epochs": epochs, "batch_size": batch_size, "step_size": step_size}
    numbers |= {"greedy": greedy, "initial_epoch": initial_epoch}
    journal = _journal(encoder, data, batches, phases, resume_from, numbers)
    run = _Run(encoder, data, batch_size, batches, epochs, step_size, verbose, callbacks, journal)
    histories: Histories = {}
    settled: set[int] = set()
    with scope_of(encoder), flags_kept(encoder):
        journal.restore()
        for number, phase in enumerate(phases):
            unsettled = unsettled_below(encoder, phase[-1], settled)
            settled.update(map(id, unsettled))
            histories |= journal.histories_of(number) or run.take(number, phase, unsettled)
    return histories


def _journal(
    encoder: keras.Model,
    data: Any,
    batches: int,
    phases: list[list[Any]],
    resume_from: Any,
    numbers: dict[str, Any],
) -> Journal:
    """Return the journal of a run, which stores nothing if there is no directory."""
    if resume_from is None:
        return Journal(encoder, phases, numbers["initial_epoch"], None, {})
    identity = {
        **numbers,
        "encoder": runs.identity_of_model(encoder),
        "data": sources.identity_of(data),
        "batches": batches,
    }
    folder = runs.directory("resume_from", resume_from)
    return Journal(encoder, phases, numbers["initial_epoch"], folder, identity)


@dataclass(frozen=True)
class _Run:
    """One call of `pretrain`, with everything that its fits share."""

    encoder: keras.Model
    data: Any
    batch_size: int
    batches: int
    epochs: int
    step_size: float
    verbose: int | str
    callbacks: Sequence[keras.callbacks.Callback]
    journal: Journal

    def take(self, phase: int, layers: list[Any], unsettled: list[Any]) -> Histories:
        """Train the layers of one phase."""
        # Which samples count is known in the graph alone.
        masked = any(mask_of(self.encoder, layer) is not None for layer in layers)
        if len(layers) > 1 or unsettled or masked:
            histories = self.in_graph(phase, layers, unsettled)
        else:
            histories = {layers[0].name: self.alone(phase, layers[0])}
        self.journal.close(phase, histories)
        return histories

    def alone(self, phase: int, layer: Any) -> keras.callbacks.History:
        """Train a layer on its inputs, which are computed once."""
        features = sources.received(self.encoder, layer, self.data)
        _warn_of_inputs(layer, features)
        _warn_of_small_weights(layer)
        form = layer.pretraining_form(sources.rank_of(features), self.batch_size)
        history = self._fit(phase, form, features, [layer], [form])
        history.report = _report(layer, features)
        _say(layer, history, self.verbose)
        return history

    def in_graph(self, phase: int, layers: list[Any], unsettled: list[Any]) -> Histories:
        """Train layers at once, above layers that measure or draw something in each step."""
        for layer in layers:
            _warn_of_small_weights(layer)
        with only(self.encoder, [*layers, *unsettled]):
            part = part_with(self.encoder, layers)
            history = self._fit(phase, part, self.data, layers, layers)
        histories: Histories = {}
        for layer in layers:
            own = history if len(layers) == 1 else share_of(history, layer)
            features = sources.received(self.encoder, layer, sources.some(self.data))
            _warn_of_inputs(layer, features)
            own.report = _report(layer, features)
            _say(layer, own, self.verbose)
            histories[layer.name] = own
        return histories

    def _fit(
        self, phase: int, part: Any, inputs: Any, layers: list[Any], forms: list[Any]
    ) -> keras.callbacks.History:
        schedule = Schedule(self.encoder, layers, forms, self.step_size, self.epochs, _report)
        model = Learner(part, schedule)
        model.compile(
            keras.optimizers.SGD(self.step_size),
            steps_per_execution=_steps_per_call(self.batches, self.callbacks),
        )
        model.optimizer.build(model.trainable_variables)
        first = self.journal.begin(phase, model.optimizer)
        order = self.journal.order(phase)
        try:
            history = model.fit(
                **sources.arguments_of_fit(inputs, self.batch_size, self.batches, order),
                initial_epoch=first,
                epochs=self.epochs,
                verbose=self.verbose,
                callbacks=[schedule, *self.callbacks, *self.journal.keepers()],
            )
        finally:
            schedule.write_back()
        return self.journal.whole(history)


def _checked_callbacks(callbacks: Any) -> list[Any]:
    callbacks = [] if callbacks is None else callbacks
    single = isinstance(callbacks, keras.callbacks.Callback)
    callbacks = [callbacks] if single else callbacks
    allowed = "a list of Keras callbacks"
    check.require(isinstance(callbacks, (list, tuple)), "callbacks", allowed, callbacks)
    for callback in callbacks:
        check.instance("callbacks", callback, keras.callbacks.Callback, allowed)
        runs.refuse_backups(
            callback,
            "callbacks other than BackupAndRestore, which knows one fit and not one for each "
            "layer: give its directory as `resume_from`",
        )
    return list(callbacks)


def _steps_per_call(batches: int, callbacks: Sequence[keras.callbacks.Callback]) -> int:
    """Return how many steps run without a return to Python, which saves time for small steps.

    It is 1 if a callback has to be called after each step.
    """
    base = keras.callbacks.Callback
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    watched = any(
        getattr(getattr(callback, hook), "__func__", None) is not getattr(base, hook)
        for callback in callbacks
        for hook in hooks
    )
    if watched or not SEVERAL_STEPS_IN_A_GRAPH or replica_count() > 1:
        return 1
    return max(steps for steps in range(1, _AT_ONCE + 1) if batches % steps == 0)


def _report(layer: Any, features: Any = None) -> dict[str, float]:
    if layer.plasticity.norm_exponent is None:
        return {}
    report = convergence_report(layer)
    if features is not None:
        wins = sum(win_counts(layer, batch) for batch in sources.parts_of(features))
        report.update(won=float(np.mean(wins > 0)), dead=float(np.mean(wins == 0)))
    return report


def _warn_of_small_weights(layer: Any) -> None:
    report = _report(layer)
    if report and report["mean_norm"] < 1.0:
        warnings.warn(
            f"The units of layer {layer.name!r} start inside the unit sphere (mean of "
            f"sum |W|^p is {report['mean_norm']:.3g}): most of them will never win. Give "
            "`kernel_initializer` a larger scale, for example RandomUniform(0, 1) for "
            "non-negative data.",
            stacklevel=5,
        )


def _warn_of_inputs(layer: Any, features: Any) -> None:
    """Warn of inputs from which the rule learns badly, if the rule says so."""
    length = layer.input_length(sources.first_of(features)[:100])
    advice = layer.plasticity.advice(length)
    if advice is not None:
        warnings.warn(f"Layer {layer.name!r}: {advice}", stacklevel=5)


def _say(layer: Any, history: keras.callbacks.History, verbose: int | str) -> None:
    report = history.report
    if not report:
        return
    if report["converged"] < 0.5 and layer.plasticity.every_unit_converges:
        warnings.warn(
            f"Only {report['converged']:.0%} of the units of layer {layer.name!r} have converged. "
            "Convergence depends on the sum of all step sizes, not on the number of epochs: train "
            "for more epochs, with smaller batches, or with a larger `step_size`.",
            stacklevel=5,
        )
    if verbose:
        shape = layer.kernel.shape
        units = int(np.prod([shape[axis] for axis in layer.linear_map.unit_axes(len(shape))]))
        print(
            f"{layer.name}: of {units} units {report['won']:.1%} won, {report['dead']:.1%} "
            f"dead, {report['converged']:.1%} converged (mean norm {report['mean_norm']:.3f})"
        )
