"""Rules compared on a user's own model: runs, numbers, table, figure, files, refusals."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from keras_local.reproduce import Comparison, compare
from keras_local.reproduce.compared_runs import Run
from keras_local.reproduce.compared_task import PROBED
from tests.support import tensorflow_only

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)).astype("float32")
Y = (X @ RNG.normal(size=(5, 3))).argmax(axis=1).astype("int32")
DATA = ((X[:40], Y[:40]), (X[40:], Y[40:]))
QUICK = {"seeds": 2, "epochs": 2, "batch_size": 8, "verbose": False}


class Halved(kl.feedback.FeedbackRule):
    """A user's own rule: errors return through half of the kernel."""

    def weights(self, kernel: Any, initializer: Any) -> list[Any]:
        return []

    def error_kernel(self, kernel: Any, *feedback: Any) -> Any:
        return 0.5 * kernel

    def assignment(self, kernel: Any, feedback_kernel: Any) -> list[Any]:
        return []


def network() -> keras.Model:
    x = inputs = keras.Input((5,))
    x = keras.layers.Dense(6, "tanh", name="low")(x)
    x = keras.layers.Dense(4, "tanh", name="middle")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="top")(x), name="net")


def by_hand(seed: int, rule: str | None) -> list[float]:
    """The test errors in percent of plain Keras, or of `convert` with a rule."""
    keras.utils.set_random_seed(seed)
    model = network()
    if rule is not None:
        keras.utils.set_random_seed(seed)
        model = kl.models.convert(model, rule, seed=seed, lowest=False, verbose=False)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    keras.utils.set_random_seed(seed)
    (x, y), test = DATA
    logs = model.fit(x, y, batch_size=8, epochs=2, validation_data=test, verbose=0).history
    return [100 * (1 - accuracy) for accuracy in logs["val_accuracy"]]


@pytest.fixture(scope="module")
def found() -> Comparison:
    rules = ["feedback_alignment", "direct_feedback", Halved()]
    return compare(network, rules, DATA, **QUICK)


def test_runs_are_those_of_plain_keras_and_of_convert(found: Comparison) -> None:
    assert found.rules == ("symmetric", "feedback_alignment", "direct_feedback", "Halved()")
    assert found.measure == "test error (%)"
    for seed in (0, 1):
        (control,) = (run for run in found.of("symmetric") if run.seed == seed)
        assert control.measured == pytest.approx(by_hand(seed, None), abs=1e-4)
        (fixed,) = (run for run in found.of("feedback_alignment") if run.seed == seed)
        assert fixed.measured == pytest.approx(by_hand(seed, "feedback_alignment"), abs=1e-4)
    losses = {rule: [run.logs["loss"] for run in found.of(rule)] for rule in found.rules}
    for rule in found.rules:
        assert losses[rule][0] != losses[rule][1]
        assert rule == "symmetric" or losses[rule] != losses["symmetric"]


def test_angles_stand_beside_each_other(found: Comparison) -> None:
    """Also those of direct feedback, whose layers have no feedback kernel."""
    rows = {row.rule: row for row in found.rows}
    for rule, row in rows.items():
        assert row.gradient_angle is not None
        (run, _) = found.of(rule)
        names = [key for key in run.angles if key.startswith("gradient_angle/")]
        assert names == [f"gradient_angle/{name}" for name in ("low", "middle", "top")]
        assert len(run.gradient_angles) == 3  # Before training, and after each epoch.
        expected = np.mean([run.angles[key][-1] for key in names[:2]])
        assert run.gradient_angle == pytest.approx(expected)
        assert run.angles["gradient_angle/top"] == pytest.approx([0, 0, 0], abs=0.1)
    # Half of the error points where all of it points.
    for rule in ("symmetric", "Halved()"):
        assert rows[rule].gradient_angle.mean == pytest.approx(0, abs=0.1)
    for rule in ("feedback_alignment", "direct_feedback"):
        assert rows[rule].gradient_angle.mean > 10
    assert rows["feedback_alignment"].kernel_angle.mean > 20
    assert rows["symmetric"].kernel_angle is rows["direct_feedback"].kernel_angle is None


def test_numbers_are_those_of_the_runs(found: Comparison) -> None:
    control = np.array([run.final for run in found.of("symmetric")])
    for row in found.rows:
        finals = np.array([run.final for run in found.of(row.rule)])
        assert row.measured.mean == pytest.approx(finals.mean())
        # Student's t with one degree of freedom: 12.706.
        assert row.measured.half == pytest.approx(12.7062 * finals.std(ddof=1) / 2**0.5, rel=1e-4)
        if row.rule == "symmetric":
            assert (row.difference, row.p, row.step) == (None, None, 1.0)
            continue
        assert row.difference.mean == pytest.approx((finals - control).mean())
        assert row.p_holm == pytest.approx(min(1.0, max(row.p, row.p_holm)))
        assert row.p in (0.5, 1.0)
        assert row.step > 0
    weights = 4 * (5 * 6 + 6 + 6 * 4 + 4 + 4 * 3 + 3)
    feedback = 4 * (6 * 4 + 4 * 3)
    rows = {row.rule: row.memory for row in found.rows}
    assert rows["feedback_alignment"] - rows["symmetric"] == feedback
    assert weights <= rows["symmetric"] < weights + 100


def test_the_table_says_what_was_found(found: Comparison) -> None:
    lines = found.table.splitlines()
    assert str(found) == found.table
    assert lines[0].split()[:4] == ["rule", "test", "error", "(%)"]
    for line, row in zip(lines[2:6], found.rows, strict=True):
        assert line.startswith(row.rule)
        assert f"{row.measured.mean:.0f}"[0] in line
    # Two signs of two differences, and three tests; 3 / 2^6 is below 0.05.
    assert "With 2 seeds no p can be below 1; below 0.05 it can be with 7." in found.table
    assert "corrected for 3 comparisons (Holm)" in found.table
    markdown = found.markdown.splitlines()
    assert {line.count("|") for line in markdown[:6]} == {markdown[0].count("|")}
    assert found._repr_markdown_() == found.markdown
    from rich.console import Console

    console = Console(width=140, record=True, file=open("/dev/null", "w"))
    console.print(found)
    assert "Halved()" in console.export_text()


def test_files(found: Comparison, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert found.save(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    folder = tmp_path / "new" / "folder"
    assert (folder / "table.txt").read_text() == found.table + "\n"
    assert (folder / "curves.png").stat().st_size > 5000
    files = sorted((folder / "runs").iterdir())
    assert len(files) == 8
    for file in files:
        content = json.loads(file.read_text())
        (run,) = (r for r in found.of(content["variant"]) if r.seed == content["seed"])
        assert content["final"]["test error (%)"] == run.final
        assert content["settings"]["optimizer"]["learning_rate"] == pytest.approx(0.1)


def test_the_figure_shows_all_rules_with_bands(found: Comparison) -> None:
    pytest.importorskip("matplotlib")
    curves, angles = found.figure().axes
    for axes in (curves, angles):
        labels = [line.get_label() for line in axes.get_lines()]
        assert labels[:4] == list(found.rules)
        assert len(axes.collections) == 4
    means = np.mean([run.measured for run in found.of("Halved()")], axis=0)
    np.testing.assert_allclose(curves.get_lines()[3].get_ydata(), means)
    assert list(angles.get_lines()[0].get_xdata()) == [0, 1, 2]


def test_one_seed_has_no_interval(found: Comparison) -> None:
    pytest.importorskip("matplotlib")
    one = dataclasses.replace(
        found, seeds=(0,), runs=tuple(run for run in found.runs if run.seed == 0)
    )
    assert "One seed" in one.table
    assert "±" not in one.table.splitlines()[2]
    assert len(one.figure().axes) == 2


def test_a_run_that_diverges_is_named() -> None:
    pytest.importorskip("matplotlib")
    runs = [
        Run(rule, seed, None, [1.0, end], {"loss": [end]}, {}, 8, 0.1, ("careful",))
        for rule, end in (("a", 0.5), ("b", math.nan), ("c", 0.6))
        for seed in (0, 1)
    ]
    steps = {rule: [1.0, 2.0] for rule in "abc"}
    found = Comparison("test loss", ("a", "b", "c"), (0, 1), tuple(runs), steps, {})
    rows = {row.rule: row for row in found.rows}
    assert rows["b"].p is None
    assert rows["c"].p_holm == 0.5  # One comparison only.
    assert "diverged" in found.table
    assert "Warning (a, b, c): careful" in found.table
    assert len(found.figure().axes) == 1


def test_rates_are_chosen_on_held_out_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    fit = keras.Model.fit

    def watched(self: Any, x: Any, y: Any, **arguments: Any) -> Any:
        seen.append((len(x), len(arguments["validation_data"][0])))
        return fit(self, x, y, **arguments)

    monkeypatch.setattr(keras.Model, "fit", watched)
    options = {**QUICK, "seeds": 1, "epochs": 6, "angles": False}
    found = compare(network, ["symmetric"], DATA, rates=[1e-7, 0.3], **options)
    assert [run.rate for run in found.runs] == [0.3]
    assert "rate" in found.table.splitlines()[0]
    assert seen == [(36, 4), (36, 4), (40, 20)]
    assert found.rows[0].gradient_angle is None


@tensorflow_only
@pytest.mark.daily
def test_values_batches_and_models_of_our_layers() -> None:
    import tensorflow as tf

    def ours() -> keras.Model:
        hidden = kl.layers.FeedbackDense(6, "tanh", feedback="feedback_alignment")
        return keras.Sequential([keras.Input((5,)), hidden, kl.layers.FeedbackDense(2)])

    values = X[:, :2] * X[:, 1:3]
    train, test = (
        tf.data.Dataset.from_tensor_slices((X[part], values[part])).batch(10)
        for part in (slice(0, 40), slice(40, 60))
    )
    rules = {"mine": None, "lowest only": lambda layer: "kolen_pollack", "dfa": "direct_feedback"}
    found = compare(ours, rules, (train, test), loss="mse", control="mine", **QUICK)
    assert found.measure == "test loss"
    assert found.rules == ("mine", "lowest only", "dfa")
    assert all(row.gradient_angle is not None for row in found.rows)
    run = found.of("mine")[0]
    assert run.measured == run.logs["val_loss"]
    named = compare(
        ours, ["symmetric"], (train, test), loss="mse", metric="mae", **{**QUICK, "seeds": 1}
    )
    assert named.measure == "test mae"
    assert named.runs[0].measured != named.runs[0].logs["val_loss"]


@pytest.mark.daily
def test_probabilities_and_one_hot_labels_have_their_losses() -> None:
    def softmax() -> keras.Model:
        return keras.Sequential([network(), keras.layers.Softmax()])

    one_hot = tuple((x, np.eye(3, dtype="float32")[y]) for x, y in DATA)
    options = {**QUICK, "seeds": 1, "angles": False}
    losses = [
        compare(make, ["symmetric"], data, **options).runs[0].logs["loss"]
        for make, data in ((network, DATA), (softmax, DATA), (softmax, one_hot))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[1] == pytest.approx(losses[2], rel=1e-4)


def broken() -> keras.Model:
    class Own(keras.layers.Dense):
        pass

    return keras.Sequential([keras.Input((5,)), Own(4), keras.layers.Dense(3)])


@pytest.mark.parametrize(
    ("argument", "changes"),
    [
        ("model_fn", {"model_fn": network}),
        ("model_fn", {"model_fn": keras.Sequential}),
        ("model_fn", {"model_fn": lambda: "net"}),
        ("model_fn", {"model_fn": lambda: keras.Sequential([keras.layers.Dense(3)])}),
        ("rules", {"rules": []}),
        ("rules", {"rules": "symmetric"}),
        ("rules", {"rules": ["kolen"]}),
        ("rules", {"rules": [kl.feedback.KolenPollack]}),
        ("rules", {"rules": ["frfb", "frfb"]}),
        ("rules", {"rules": {1: "frfb"}}),
        ("rules", {"rules": {"a": "frfb"}, "model_fn": broken}),
        ("control", {"control": "backprop"}),
        ("control", {"control": 3}),
        ("data", {"data": "letters"}),
        ("data", {"data": X}),
        ("data", {"data": ((X, Y[:-1]), (X, Y))}),
        ("data", {"data": ((X * np.nan, Y), (X, Y))}),
        ("data", {"data": ((X, Y), (X, Y + 5))}),
        ("data", {"data": (iter([(X, Y)]), (X, Y))}),
        ("loss", {"data": ((X, X), (X, X))}),
        ("loss", {"loss": "msee"}),
        ("metric", {"metric": "letters"}),
        ("optimizer", {"optimizer": "sgdd"}),
        ("seeds", {"seeds": 0}),
        ("seeds", {"seeds": [1, 1]}),
        ("seeds", {"seeds": True}),
        ("epochs", {"epochs": 0}),
        ("batch_size", {"batch_size": 1.5}),
        ("rates", {"rates": []}),
        ("rates", {"rates": [0.0]}),
        ("rates", {"rates": 0.1}),
        ("angles", {"angles": 1}),
        ("verbose", {"verbose": 1}),
        ("out", {"out": 3}),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_trained(
    argument: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: Any, **__: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(keras.Model, "fit", fit)
    arguments = {"model_fn": network, "rules": ["frfb"], "data": DATA, **QUICK, **changes}
    if changes == {"model_fn": network}:
        arguments["model_fn"] = network()
    with pytest.raises(ValueError, match=f"`{argument}`"):
        compare(**arguments)


def test_gradients_are_compared_on_few_examples() -> None:
    assert PROBED <= 256


@tensorflow_only
@pytest.mark.thorough
@pytest.mark.slow
def test_four_rules_three_seeds_digits_in_one_call(tmp_path: Path) -> None:
    """What a user would write: ten lines with the model, one call, table, figure, intervals."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")

    def net() -> keras.Model:
        x = inputs = keras.Input((8, 8, 1))
        x = keras.layers.Flatten()(x)
        x = keras.layers.Dense(64, "relu")(x)
        x = keras.layers.Dense(32, "relu")(x)
        return keras.Model(inputs, keras.layers.Dense(10)(x))

    rules = ["symmetric", "feedback_alignment", "kolen_pollack", "direct_feedback"]
    found = kl.reproduce.compare(
        net, rules, "digits", seeds=3, epochs=6, batch_size=20, out=tmp_path, verbose=False
    )
    rows = {row.rule: row for row in found.rows}
    assert list(rows) == rules
    for row in rows.values():
        assert row.measured.mean < 12
        assert row.measured.low < row.measured.mean < row.measured.high
    assert rows["symmetric"].measured.mean < rows["feedback_alignment"].measured.mean
    assert (
        rows["kolen_pollack"].gradient_angle.mean < rows["feedback_alignment"].gradient_angle.mean
    )
    assert (tmp_path / "curves.png").is_file()
    assert len(list((tmp_path / "runs").iterdir())) == 12
