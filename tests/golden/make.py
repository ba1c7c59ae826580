"""Write the files that later versions of the package still have to load.

`python -m tests.golden.make` writes the cases that have no file yet, and no other: a file that is
there is never written again, since it stands for what users have. One `.keras` file a case, a few
`.weights.h5`, and inputs, predictions and the weights after one step of training: in `NAME.npz`,
or for the first cases together in `values.npz`. It imports the public API alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np

import keras_local as kl
from keras_local import feedback, layers
from tests.golden.networks import NETWORKS, SAMPLES
from tests.golden.plasticity_rules import PLASTICITY

FOLDER = Path(__file__).parent

Maker = Callable[[], tuple[keras.Model, tuple[int, ...]]]
CASES: dict[str, Maker] = {}

WEIGHTS_TOO = (
    "rule_kolen_pollack_separate",
    "rule_weight_mirror",
    "layer_separable2d_kolen_pollack",
    "layer_attention",
    "plasticity_similarity_matching",
    "network_microcircuit",
    "readout_linear",
)
"""The cases whose weights are written as `.weights.h5` as well."""

EACH_TIME = (
    "rule_kolen_pollack",
    "rule_weight_mirror",
    "layer_attention",
    "layer_composite",
    "layer_conv2d_kolen_pollack",
    "layer_direct_feedback",
    "plasticity_bcm",
    "plasticity_krotov_hopfield",
    "hebbian_conv2d_soft_hebb",
    "readout_linear",
    "network_equilibrium_persistent",
    "network_microcircuit",
)
"""The cases that every run of the tests goes through; the others are for the daily run."""

SHOWS_ONLY = (
    "network_burstprop",
    "network_burstprop_learned",
    "readout_nearest",
    # Its dropout draws, and no file says from where.
    "readout_bias",
)
"""The cases of no step: the rule was corrected since, or there are none."""


def sequence(shape: tuple[int, ...], *parts: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *parts])


def supervised(
    name: str, shape: tuple[int, ...], parts: Callable[[], list[Any]], **how: Any
) -> None:
    """A case of layers below a flat softmax readout, or below what `how` says."""

    def make() -> tuple[keras.Model, tuple[int, ...]]:
        model = sequence(shape, *parts(), keras.layers.Flatten(), keras.layers.Dense(3))
        loss = how.get("loss", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        optimizer = how.get("optimizer", lambda: keras.optimizers.SGD(0.1))()
        model.compile(optimizer, loss, jit_compile=False)
        return model, shape

    CASES[name] = make


def unsupervised(name: str, shape: tuple[int, ...], part: Callable[[], Any]) -> None:
    """A case of one layer that learns by itself."""

    def make() -> tuple[keras.Model, tuple[int, ...]]:
        model = sequence(shape, part())
        model.compile(keras.optimizers.SGD(0.05), jit_compile=False)
        return model, shape

    CASES[name] = make


# --- Every feedback rule, in a dense layer --------------------------------------------------------

RULES: dict[str, Callable[[], Any]] = {
    **{
        alias: lambda alias=alias: feedback.get(alias)
        for alias in (
            "detached",
            "symmetric",
            "feedback_alignment",
            "kolen_pollack",
            "sign_symmetry",
            "brsf",
            "frsf",
            "weight_mirror",
            "symmetric_alignment",
            "activation_alignment",
            "information_alignment",
        )
    },
    "kolen_pollack_separate": lambda: feedback.KolenPollack(rate=0.5, decay=0.1, separate=True),
    "kolen_pollack_decay": lambda: feedback.KolenPollack(decay=0.1),
    "local_alignment": lambda: feedback.LocalAlignment(
        feedback.Decay(0.1) + feedback.Amplify(0.2), noise=feedback.Noise(0.5), every=2
    ),
    "matched_norm": lambda: feedback.MatchedNorm(feedback.FeedbackAlignment()),
    "noisy_updates": lambda: feedback.NoisyUpdates(feedback.KolenPollack()),
    "random_connectivity": lambda: feedback.RandomConnectivity(
        feedback.FeedbackAlignment(), 0.5, seed=3
    ),
    "primitives": lambda: feedback.LocalAlignment(
        feedback.Nullify(0.1) + feedback.Sparsify(0.1) + feedback.SelfAlign(0.1)
    ),
    "wrapped_twice": lambda: feedback.MatchedNorm(
        feedback.RandomConnectivity(feedback.FeedbackAlignment(), 0.7, seed=4)
    ),
}

for _name, _rule in RULES.items():
    supervised(
        f"rule_{_name}",
        (4,),
        lambda rule=_rule: [
            layers.FeedbackDense(3, "tanh", feedback=rule()),
            layers.FeedbackDense(4, kl.activations.Ramp(0.5), feedback=rule()),
        ],
    )

# --- Every feedback layer -------------------------------------------------------------------------

LAYERS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "dense": ((4,), lambda **o: layers.FeedbackDense(3, **o)),
    "conv1d": ((5, 2), lambda **o: layers.FeedbackConv1D(2, 3, padding="causal", **o)),
    "conv2d": ((5, 4, 2), lambda **o: layers.FeedbackConv2D(2, 3, 2, padding="same", **o)),
    "conv2d_groups": ((4, 4, 2), lambda **o: layers.FeedbackConv2D(2, 2, groups=2, **o)),
    "conv3d": ((3, 3, 3, 1), lambda **o: layers.FeedbackConv3D(2, 2, **o)),
    "depthwise1d": ((5, 2), lambda **o: layers.FeedbackDepthwiseConv1D(2, **o)),
    "depthwise2d": ((4, 4, 2), lambda **o: layers.FeedbackDepthwiseConv2D(2, **o)),
    "separable1d": ((5, 2), lambda **o: layers.FeedbackSeparableConv1D(2, 2, **o)),
    "separable2d": ((4, 4, 2), lambda **o: layers.FeedbackSeparableConv2D(3, 2, **o)),
    "transposed1d": ((4, 2), lambda **o: layers.FeedbackConv1DTranspose(2, 3, **o)),
    "transposed2d": ((3, 3, 2), lambda **o: layers.FeedbackConv2DTranspose(2, 2, 2, **o)),
    "transposed3d": ((2, 2, 2, 1), lambda **o: layers.FeedbackConv3DTranspose(2, 2, **o)),
    "einsum": (
        (3, 4),
        lambda **o: layers.FeedbackEinsumDense("abc,cd->abd", (3, 2), bias_axes="d", **o),
    ),
    "local1d": ((5, 2), lambda **o: layers.LocallyConnected1D(2, 3, **o)),
    "local2d": ((4, 4, 2), lambda **o: layers.LocallyConnected2D(2, 3, **o)),
}

for _name, (_shape, _layer) in LAYERS.items():
    for _rule_name in ("kolen_pollack", "activation_alignment"):
        supervised(
            f"layer_{_name}_{_rule_name}",
            _shape,
            lambda make=_layer, rule=_rule_name: [make(activation="tanh", feedback=rule)],
            loss=kl.losses.LocalHinge(),
        )

RECURRENT = ("FeedbackGRU", "FeedbackLSTM", "FeedbackSimpleRNN", "LeakyRNN")
for _name in RECURRENT:
    supervised(
        f"layer_{_name.lower()}",
        (3, 4),
        lambda name=_name: [getattr(layers, name)(3, feedback="kolen_pollack")],
    )

supervised(
    "layer_dense_connectivity",
    (4,),
    lambda: [
        layers.FeedbackDense(
            3,
            feedback="feedback_alignment",
            connectivity=0.5,
            kernel_initializer=keras.initializers.GlorotUniform(seed=1),
            kernel_regularizer="l2",
        )
    ],
    loss=kl.losses.SquaredHinge(),
    optimizer=lambda: kl.optimizers.BatchManhattan(0.01),
)


def _attention() -> tuple[keras.Model, tuple[int, ...]]:
    inputs = keras.Input((3, 4))
    layer = layers.FeedbackMultiHeadAttention(2, 2, feedback="feedback_alignment")
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(layer(inputs, inputs)))
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return model, (3, 4)


CASES["layer_attention"] = _attention


@keras.saving.register_keras_serializable(package="golden")
class Block(keras.layers.Layer):
    """A layer of somebody else's that holds layers."""

    def build(self, shape: Any) -> None:
        self.steps = [keras.layers.Dense(shape[-1], "tanh"), keras.layers.Dense(shape[-1])]
        for layer in self.steps:
            layer.build(shape)
        self.built = True

    def call(self, x: Any) -> Any:
        return x + self.steps[1](self.steps[0](x))


def _of_cells() -> tuple[keras.Model, tuple[int, ...]]:
    stock = sequence((3, 4), keras.layers.RNN(keras.layers.LSTMCell(3)), keras.layers.Dense(3))
    model = kl.models.convert(stock, verbose=False)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return model, (3, 4)


CASES["layer_feedbackrnn"] = _of_cells


def _composite() -> tuple[keras.Model, tuple[int, ...]]:
    stock = sequence((4,), Block(), keras.layers.Dense(3))
    model = kl.models.convert(stock, composites=True, verbose=False)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return model, (4,)


CASES["layer_composite"] = _composite


def _masked() -> keras.Model:
    pooled = [keras.layers.Dense(3, "tanh"), keras.layers.GlobalAveragePooling1D()]
    return sequence((3, 4), keras.layers.Masking(), *pooled, keras.layers.Dense(3))


def _direct(rule: str, masked: bool = False) -> Maker:
    def make() -> tuple[keras.Model, tuple[int, ...]]:
        stock = sequence((4,), keras.layers.Dense(3, "tanh"), keras.layers.Dense(3))
        if masked:
            stock = _masked()
        model = kl.models.direct(stock, rule)
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
        return model, (3, 4) if masked else (4,)

    return make


CASES["layer_direct_masked"] = _direct("direct_feedback", masked=True)
CASES["layer_direct_feedback"] = _direct("direct_feedback")
CASES["layer_direct_random_target"] = _direct("direct_random_target")


def _local(bio: bool) -> Maker:
    def make() -> tuple[keras.Model, tuple[int, ...]]:
        loss: Any = "pred_sim"
        if bio:
            local = kl.models.local
            loss = {
                "lower": local.Mixed(
                    [(0.9, local.Prediction(bio=True)), (0.1, local.Similarity(bio=True))]
                ),
                "upper": local.Prediction(limit=16, loss=kl.losses.LocalHinge()),
            }
        stock = sequence(
            (4, 4, 2),
            keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="lower"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(5, 2, activation="tanh", name="upper"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        )
        model = kl.models.local_losses(stock, loss)
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
        return model, (4, 4, 2)

    return make


CASES["model_local_losses"] = _local(bio=False)
CASES["model_local_losses_bio"] = _local(bio=True)

# --- Every plasticity rule ------------------------------------------------------------------------


MODULATED = ("eligibility", "reward_modulated_hebb", "third_factor")
"""The rules that learn only in calls with a modulator."""


def _modulated(rule: Callable[[], Any]) -> Maker:
    def make() -> tuple[keras.Model, tuple[int, ...]]:
        inputs = keras.Input((5,))
        outputs = layers.HebbianDense(4, rule())(inputs, modulator=keras.ops.mean(inputs, axis=1))
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.SGD(0.05), jit_compile=False)
        return model, (5,)

    return make


for _name, _plastic in PLASTICITY.items():
    if _name in MODULATED:
        CASES[f"plasticity_{_name}"] = _modulated(_plastic)
        continue
    unsupervised(
        f"plasticity_{_name}",
        (5,),
        lambda rule=_plastic: layers.HebbianDense(
            4, rule(), activation=kl.activations.RePU(2.0), kernel_initializer="glorot_normal"
        ),
    )

HEBBIAN: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "conv1d": ((6, 2), lambda rule: layers.HebbianConv1D(3, 3, 2, "same", rule)),
    "conv2d": (
        (5, 5, 2),
        lambda rule: layers.HebbianConv2D(
            3, 3, 2, "reflect", rule, kl.activations.Triangle(0.7), patch_norm=True
        ),
    ),
    "local2d": ((4, 4, 2), lambda rule: layers.HebbianLocallyConnected2D(3, 3, 1, "valid", rule)),
}

for _name, (_shape, _plastic_layer) in HEBBIAN.items():
    for _rule_name in ("krotov_hopfield", "soft_hebb", "bcm"):
        unsupervised(
            f"hebbian_{_name}_{_rule_name}",
            _shape,
            lambda make=_plastic_layer, rule=_rule_name: make(rule),
        )

supervised(
    "hebbian_shared_rates",
    (5,),
    lambda: [layers.HebbianDense(4, "oja", "tanh", local_rate=0.5, global_rate=0.5)],
    loss=kl.losses.PowerLoss(),
)
supervised("hebbian_traces", (4, 2), lambda: [layers.SynapticTraces(5.0, 2.0)])


def _whitened() -> list[Any]:
    layer = layers.ZCAWhitening(0.1)
    layer.adapt(np.random.default_rng(5).normal(size=(20, 4)).astype("float32"))
    return [layer]


supervised("hebbian_whitening", (4,), _whitened)

# --- Readouts -------------------------------------------------------------------------------------


def _encoder() -> keras.Model:
    return sequence((4,), layers.HebbianDense(5, "krotov_hopfield"))


def _readout(make: Callable[[keras.Model], Any]) -> Maker:
    def fitted() -> tuple[keras.Model, tuple[int, ...]]:
        model = make(_encoder())
        inputs, labels = data((4,), 8)
        model.jit_compile = False
        model.fit(inputs, labels)
        return model, (4,)

    return fitted


CASES["readout_linear"] = _readout(lambda encoder: kl.models.readout(encoder, 3, power=2.0))
CASES["readout_bias"] = _readout(
    lambda encoder: kl.models.readout(encoder, 3, use_bias=True, input_dropout=0.2)
)
CASES["readout_linear_scores"] = _readout(lambda encoder: kl.models.readout(encoder, 3, power=3.0))
CASES["readout_class_means"] = _readout(lambda encoder: kl.models.hebbian_readout(encoder, 3))
CASES["readout_nearest"] = _readout(lambda encoder: kl.models.nearest_neighbours(encoder, 3, 2))

# --- Every network --------------------------------------------------------------------------------


def _network(shape: tuple[int, ...], make: Callable[[], Any]) -> Maker:
    def compiled() -> tuple[keras.Model, tuple[int, ...]]:
        network = make()
        network.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        return network, shape

    return compiled


for _name, (_shape, _net) in NETWORKS.items():
    CASES[f"network_{_name}"] = _network(_shape, _net)

# --- What is written ------------------------------------------------------------------------------


def data(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples from 0 to 1, and labels."""
    generator = np.random.default_rng(seed)
    return generator.random((SAMPLES, *shape)).astype("float32"), np.arange(SAMPLES) % 3


def step(name: str, model: keras.Model, inputs: np.ndarray, labels: np.ndarray) -> None:
    """Train for one step, as the case does."""
    alone = name.startswith(
        ("plasticity", "hebbian_conv", "hebbian_local", "network_recirculation")
    )
    targets = None if alone else labels
    model.fit(inputs, targets, batch_size=SAMPLES, shuffle=False, verbose=0)


def write(folder: Path, only: str = "") -> None:
    for name, make in CASES.items():
        if only not in name or (folder / f"{name}.keras").exists():
            continue
        values: dict[str, np.ndarray] = {}
        seed = zlib.crc32(name.encode()) % 10_000
        keras.utils.set_random_seed(seed)
        model, shape = make()
        inputs, labels = data(shape, seed)
        model.predict(inputs, verbose=0)
        with tempfile.TemporaryDirectory() as scratch:
            whole = Path(scratch) / f"{name}.keras"
            model.save(whole)
            squeeze(whole, folder / whole.name)
            if name in WEIGHTS_TOO:
                model.save_weights(folder / f"{name}.weights.h5")
        values[f"{name}/inputs"], values[f"{name}/labels"] = inputs, labels
        values[f"{name}/outputs"] = model.predict(inputs, verbose=0)
        for place, weight in enumerate(model.get_weights()):
            values[f"{name}/before/{place}"] = weight
        # What follows the activity in a step must not depend on the prediction before it.
        if name not in SHOWS_ONLY:
            step(name, model, inputs, labels)
            for place, weight in enumerate(model.get_weights()):
                values[f"{name}/after/{place}"] = weight
        np.savez_compressed(folder / f"{name}.npz", **values)


def squeeze(source: Path, target: Path) -> None:
    """Copy a `.keras` file, deflated and without the time of day."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    destination = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "files"
    destination.mkdir(parents=True, exist_ok=True)
    write(destination, *sys.argv[2:])
