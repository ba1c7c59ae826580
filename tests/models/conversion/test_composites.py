"""Layers that hold layers: opened, exchanged, compared, saved, and led back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from keras_local.layers.plain_form import with_error_path
from keras_local.models import conversion_report, convert, to_plain
from tests.support import (
    BACKEND,
    array,
    compile_options,
    largest_difference,
    probe,
    tensorflow_only,
    weights_of,
)

register = keras.saving.register_keras_serializable(package="composites")


@register
class Encoder(keras.layers.Layer):
    """A block of a transformer: attention and two dense layers, with sums and normalisations."""

    def __init__(self, width: int, heads: int = 2, dropout: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.width, self.heads, self.dropout = width, heads, dropout
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        size, policy = input_shape[-1], self.dtype_policy
        self.attention = keras.layers.MultiHeadAttention(
            self.heads, size // self.heads, dropout=self.dropout, dtype=policy
        )
        self.attention.build(input_shape, input_shape)
        self.norms = [keras.layers.LayerNormalization(dtype=policy) for _ in range(2)]
        self.wide = keras.layers.Dense(self.width, "gelu", dtype=policy)
        self.narrow = keras.layers.Dense(size, dtype=policy)
        self.drop = keras.layers.Dropout(self.dropout, dtype=policy)
        for norm in self.norms:
            norm.build(input_shape)
        self.wide.build(input_shape)
        self.narrow.build((*input_shape[:-1], self.width))
        self.built = True

    def call(self, inputs: Any, padding_mask: Any = None, training: bool | None = None) -> Any:
        mask = None if padding_mask is None else padding_mask[:, None, :]
        found = self.attention(inputs, inputs, attention_mask=mask, training=training)
        x = self.norms[0](inputs + self.drop(found, training=training))
        return self.norms[1](x + self.drop(self.narrow(self.wide(x)), training=training))

    def get_config(self) -> dict[str, Any]:
        own = {"width": self.width, "heads": self.heads, "dropout": self.dropout}
        return {**super().get_config(), **own}


@register
class Bag(keras.layers.Layer):
    """Layers in a list, a dict, a tuple, a Sequential, a composite, and one in two places."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.steps = [keras.layers.Dense(6, "tanh"), keras.layers.Dense(6, "tanh")]
        self.named = {"out": (keras.layers.Dense(6), keras.layers.Dropout(0.3))}
        self.chain = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(6)])
        self.shared = self.steps[0]
        self.times = keras.layers.TimeDistributed(keras.layers.Dense(6))
        self.inner = Encoder(5)
        # One axis is longer than 1: it is added, and no error goes through it.
        self.start = self.add_weight(shape=(1, 1, 6), initializer="ones", name="start")

    def call(self, x: Any, training: bool | None = None) -> Any:
        x = x + self.start
        for step in self.steps:
            x = x + step(x)
        dense, drop = self.named["out"]
        x = drop(dense(x), training=training) + self.shared(x)
        return self.inner(self.times(self.chain(x)), training=training)


def encoders(**options: Any) -> keras.Model:
    inputs, mask = keras.Input((5, 8)), keras.Input((5,), dtype="bool")
    x = Encoder(12, name="first", **options)(inputs, padding_mask=mask)
    x = Encoder(10, name="second", **options)(x, padding_mask=mask)
    scores = keras.layers.Dense(3, name="scores")(keras.layers.GlobalAveragePooling1D()(x))
    return keras.Model([inputs, mask], scores)


def bags() -> keras.Model:
    inputs = keras.Input((5, 6))
    return keras.Model(inputs, keras.layers.Dense(2, name="scores")(Bag(name="bag")(inputs)))


MODELS: dict[str, tuple[Callable[..., keras.Model], Callable[[], Any]]] = {
    "encoders": (
        encoders,
        lambda: [probe((8, 5, 8)), np.arange(5)[None] < np.arange(8)[:, None] % 4 + 2],
    ),
    "bags": (bags, lambda: probe((8, 5, 6))),
}
each = pytest.mark.parametrize(
    "name", ["encoders", pytest.param("bags", marks=pytest.mark.thorough)]
)


def opened(model: keras.Model, rule: Any = "feedback_alignment", **options: Any) -> keras.Model:
    return convert(model, rule, composites=True, verbose=False, **options)


@each
def test_it_predicts_the_same_and_comes_back(name: str, tmp_path: Path) -> None:
    make, data = MODELS[name]
    model, x = make(), data()
    expected, before = model.predict(x, verbose=0), weights_of(model)
    converted = opened(model)
    np.testing.assert_array_equal(converted.predict(x, verbose=0), expected)
    assert len(with_error_path(converted)) == 13
    converted.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    assert largest_difference(weights_of(loaded), weights_of(converted)) == 0.0
    plain = to_plain(loaded)
    np.testing.assert_array_equal(plain.predict(x, verbose=0), expected)
    assert not with_error_path(plain)
    assert largest_difference(weights_of(plain), before) == 0.0
    assert largest_difference(weights_of(model), before) == 0.0


@each
@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.thorough)]
)
def test_symmetric_learns_as_the_model_does(name: str, precision: str) -> None:
    """Dropout inside draws the same, masks and the phase come through: bit for bit."""
    if name == "bags" and precision != "float32":
        pytest.skip("its layers take the global precision")
    make, data = MODELS[name]
    model = make(dropout=0.4, dtype=precision) if name == "encoders" else make()
    x, trained = data(), []
    twin = opened(model, "symmetric")
    for each_model in (model, twin):
        each_model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", **compile_options())
        target = np.ones_like(each_model.predict(x, verbose=0))
        each_model.fit(x, target, batch_size=4, epochs=2, shuffle=False, verbose=0)
        trained.append(weights_of(each_model))
    assert largest_difference(*trained) == 0.0
    assert largest_difference(trained[0], weights_of(make())) > 1e-3


@pytest.mark.daily
def test_errors_return_through_the_feedback_kernels(tmp_path: Path) -> None:
    """Feedback kernels of zero: nothing of the first block learns; it learns after loading."""
    make, data = MODELS["encoders"]
    x, converted = data(), opened(make())
    for part in with_error_path(converted):
        part.assign_feedback_kernel(np.zeros(part.kernel.shape))
    before = weights_of(converted)
    converted.compile(keras.optimizers.SGD(0.1), "mse", **compile_options())
    converted.fit(x, np.ones((8, 3)), verbose=0)
    moved = [k for k, weight in enumerate(converted.weights) if np.any(array(weight) != before[k])]
    # Kernel and bias of the scores.
    assert [converted.weights[k].name for k in moved] == ["kernel", "bias"]
    learned = opened(make(), "kolen_pollack")
    learned.compile(keras.optimizers.SGD(0.1), "mse", **compile_options())
    learned.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for model in (learned, loaded):
        if BACKEND == "tensorflow":
            model.jit_compile = False
        model.fit(x, np.ones((8, 3)), shuffle=False, verbose=0)
    assert largest_difference(weights_of(learned), weights_of(loaded)) == 0.0


def test_paths_choose_and_are_reported() -> None:
    report = conversion_report(opened(bags()))
    assert [row.path for row in report.converted] == [
        "bag/steps/0",
        "bag/steps/1",
        "bag/named/out/0",
        "bag/chain/dense",
        "bag/chain/dense_1",
        "bag/times",
        "bag/inner/attention",
        "bag/inner/wide",
        "bag/inner/narrow",
        "scores",
    ] or [row.path.rsplit("_", 1)[0] for row in report.converted][3:5] == ["bag/chain/dense"] * 2
    assert report.left == ()

    def rule(layer: keras.layers.Layer) -> str | None:
        return "frfb" if isinstance(layer, keras.layers.MultiHeadAttention) else None

    found = conversion_report(opened(encoders(), rule)).converted
    assert [row.path for row in found] == ["first/attention", "second/attention"]
    found = conversion_report(opened(encoders(), include="first/wide"))
    assert [row.path for row in found.converted] == ["first/wide"]
    found = conversion_report(opened(encoders(), exclude=["first", keras.layers.Dense]))
    assert [row.path for row in found.converted] == ["second/attention"]
    with pytest.raises(ValueError, match=r"`include`.*first/nothing"):
        opened(encoders(), include="first/nothing")


def test_a_converted_model_gets_another_rule() -> None:
    make, data = MODELS["bags"]
    model = make()
    first = opened(model)
    second = convert(first, "kolen_pollack", verbose=False)
    names = {type(part.feedback).__name__ for part in with_error_path(second)}
    assert names == {"KolenPollack"}
    np.testing.assert_array_equal(
        second.predict(data(), verbose=0), model.predict(data(), verbose=0)
    )
    assert largest_difference(weights_of(to_plain(second)), weights_of(model)) == 0.0


def test_without_the_argument_it_is_refused_and_the_argument_named() -> None:
    with pytest.raises(ValueError, match=r"'first' \(Encoder, which holds .*`composites`"):
        convert(encoders(), verbose=False)
    with pytest.raises(ValueError, match="`composites` must be True or False"):
        convert(encoders(), composites="yes", verbose=False)  # type: ignore[arg-type]


def test_a_users_own_pair_is_exchanged_inside() -> None:
    class Rows(keras.layers.Dense):
        pass

    class FeedbackRows(kl.layers.FeedbackDense):
        plain = Rows

    class Holder(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.rows = Rows(shape[-1])
            self.rows.build(shape)

        def call(self, x: Any) -> Any:
            return self.rows(x)

    kl.models.register_conversion(Rows, FeedbackRows)
    model = keras.Sequential([keras.Input((4,)), Holder(), keras.layers.Dense(2)])
    converted = opened(model)
    assert type(with_error_path(converted)[0]) is FeedbackRows
    np.testing.assert_array_equal(
        to_plain(converted).predict(probe((3, 4)), verbose=0),
        model.predict(probe((3, 4)), verbose=0),
    )


class Twisted(keras.layers.Dense):
    """A built-in layer but for its `call`."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return -super().call(inputs, training=training)


class Odd(keras.layers.Layer):
    """What is refused, by name."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind

    def build(self, shape: Any) -> None:
        self.good, self.odd = keras.layers.Dense(shape[-1]), self._odd(shape[-1])
        self.good.build(shape)
        if self.kind != "unbuilt":
            self.odd.build((None, 1, 1, shape[-1]) if self.kind == "recurrent" else shape)
        if self.kind == "own":
            self.own = self.add_weight(shape=(shape[-1], shape[-1]), name="own")

    def _odd(self, size: int) -> keras.layers.Layer:
        if self.kind == "twisted":
            return Twisted(size)
        if self.kind == "recurrent":
            return keras.layers.ConvLSTM1D(size, 1)
        return keras.layers.Dense(size)

    def call(self, x: Any) -> Any:
        x = self.good(x)
        if self.kind == "tied":
            return keras.ops.matmul(self.odd(x), keras.ops.transpose(self.odd.kernel))
        if self.kind == "unused":
            return keras.ops.matmul(x, self.odd.kernel)
        if self.kind == "recurrent":
            return self.odd(x[:, None, None])[:, 0]
        if self.kind == "own":
            return keras.ops.tanh(keras.ops.matmul(self.odd(x), self.own))
        return x if self.kind == "unbuilt" else self.odd(x)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("tied", "Dense 'odd', whose kernel it uses without calling it"),
        ("unused", "Dense 'odd', which it does not call"),
        ("unbuilt", "'odd/odd' .Dense, not built"),
        ("twisted", "Twisted, a built-in layer but for its `call`"),
        ("recurrent", "ConvLSTM.*, which has kernels and no feedback form"),
        ("own", "Odd 'odd', which has kernels and no feedback form"),
    ],
)
def test_errors_that_would_go_another_way_are_refused(kind: str, reason: str) -> None:
    model = keras.Sequential([keras.Input((3,)), Odd(kind, name="odd"), keras.layers.Dense(2)])
    before = weights_of(model)
    with pytest.raises(ValueError, match=rf"`model` must be .*{reason}"):
        opened(model)
    assert largest_difference(weights_of(model), before) == 0.0
    assert [type(layer) for layer in model.layers] == [Odd, keras.layers.Dense]
    if kind not in ("own", "unbuilt"):
        found = conversion_report(opened(model, exclude="odd/odd")).converted
        assert found[0].path == "odd/good"


def test_other_outputs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nosy(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.dense = keras.layers.Dense(shape[-1])
            self.dense.build(shape)

        def call(self, x: Any) -> Any:
            return self.dense(x) * (1.0 if type(self.dense) is keras.layers.Dense else 2.0)

    model = keras.Sequential([keras.Input((3,)), Nosy(name="nosy")])
    with pytest.raises(ValueError, match=r"`model` must be .*compute the same.*Nosy 'nosy'"):
        opened(model)


@pytest.mark.parametrize(
    ("layer", "parts", "message"),
    [
        (3, [(["a"], keras.layers.Dense(1))], "`layer` must be"),
        (keras.layers.Dense, [(["a"], keras.layers.Dense(1))], "`layer` must be"),
        (keras.layers.Dense(1), [], "`parts` must be"),
        (keras.layers.Dense(1), [("a", keras.layers.Dense(1))], "`parts` must be"),
        (keras.layers.Dense(1), [(["a"], "Dense")], "`parts` must be"),
        (keras.layers.Dense(1), "parts", "`parts` must be"),
    ],
)
def test_wrong_arguments_of_the_layer(layer: Any, parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kl.layers.Converted(layer, parts)


def test_a_path_that_leads_nowhere() -> None:
    layer = kl.layers.Converted(Encoder(4), [(["attention/nothing"], keras.layers.Dense(8))])
    with pytest.raises(ValueError, match=r"`parts` must be paths.*attention/nothing"):
        layer(probe((2, 3, 8)))


@pytest.mark.daily
@tensorflow_only
@pytest.mark.parametrize("name", ["bert", "vit"])
def test_backbones_of_keras_hub(name: str, tmp_path: Path) -> None:
    keras_hub = pytest.importorskip("keras_hub")
    if name == "bert":
        model = keras_hub.models.BertBackbone(
            vocabulary_size=20,
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            intermediate_dim=12,
            max_sequence_length=6,
        )
        ids = np.random.default_rng(0).integers(0, 20, (8, 6))
        x = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": (ids > 4).astype("int32")}
    else:
        model = keras_hub.models.ViTBackbone(
            image_shape=(8, 8, 3),
            patch_size=(4, 4),
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            mlp_dim=12,
            dropout_rate=0.1,
        )
        x = probe((8, 8, 8, 3))
    expected = keras.tree.flatten(model.predict(x, verbose=0))
    converted = opened(model)
    assert len(conversion_report(converted).converted) == 7
    converted.save(tmp_path / "m.keras")
    for other in (converted, keras.saving.load_model(tmp_path / "m.keras"), to_plain(converted)):
        found = keras.tree.flatten(other.predict(x, verbose=0))
        assert largest_difference(found, expected) == 0.0
    trained = []
    for other in (model, opened(model, "symmetric")):
        other.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
        targets = keras.tree.map_structure(np.zeros_like, other.predict(x, verbose=0))
        other.fit(x, targets, batch_size=4, shuffle=False, verbose=0)
        trained.append(weights_of(other))
    assert largest_difference(*trained) == 0.0


@pytest.mark.daily
@tensorflow_only
def test_a_tied_embedding_and_a_cached_attention_are_refused() -> None:
    keras_hub = pytest.importorskip("keras_hub")
    inputs = keras.Input((6,), dtype="int32")
    embedding = keras_hub.layers.ReversibleEmbedding(20, 8, name="tied")
    hidden = keras_hub.layers.TransformerEncoder(12, 2)(embedding(inputs))
    with pytest.raises(ValueError, match=r"'tied' \(ReversibleEmbedding"):
        opened(keras.Model(inputs, embedding(hidden, reverse=True)))
    embedding = keras_hub.layers.ReversibleEmbedding(20, 8)
    hidden = keras_hub.layers.TransformerEncoder(12, 2)(embedding(inputs))
    assert len(conversion_report(opened(keras.Model(inputs, hidden))).converted) == 3
    decoder = keras_hub.layers.TransformerDecoder(12, 2)
    with pytest.raises(ValueError, match="CachedMultiHeadAttention, a built-in layer but for"):
        opened(keras.Model(inputs, decoder(embedding(inputs))))
