"""Every preset of the package, layer by layer, beside what its source says.

The numbers here are transcribed from the sources by hand, with the place where each stands. What no
source gives is marked as `OWN`: it was chosen by us, on images held out of the training set.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import keras
import pytest

from keras_local import activations, dynamics, layers, plasticity
from keras_local.models import reference
from tests.support import BACKEND, cases

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="presets: on one backend")

ROOT = Path(__file__).parents[3]
OWN = "ours: compared on held-out training images"


def number(value: float) -> str:
    return f"{value:g}"


def describe(layer: keras.layers.Layer) -> str | None:
    """One line about a layer, or None for those that have nothing to choose."""
    if isinstance(layer, (layers.FeedbackConv2D, layers.LocallyConnected2D)):
        kind = "conv" if isinstance(layer, layers.FeedbackConv2D) else "untied"
        words = [kind, str(layer.filters), "x".join(str(size) for size in layer.kernel_size)]
        words += [f"/{max(layer.strides)}"] if max(layer.strides) > 1 else []
        words += [layer.padding]
    elif isinstance(layer, layers.FeedbackDense):
        words = ["dense", str(layer.units)]
    elif isinstance(layer, keras.layers.MaxPooling2D):
        return f"max {layer.pool_size[0]}/{layer.strides[0]} {layer.padding}"
    elif isinstance(layer, keras.layers.AveragePooling2D):
        return f"average {layer.pool_size[0]}/{layer.strides[0]} {layer.padding}"
    elif isinstance(layer, keras.layers.Dropout):
        return f"dropout {number(layer.rate)}"
    elif isinstance(layer, keras.layers.BatchNormalization):
        zero = isinstance(layer.gamma_initializer, keras.initializers.Zeros)
        return f"norm {number(layer.momentum)} {number(layer.epsilon)}{' zero' if zero else ''}"
    elif isinstance(layer, keras.layers.ZeroPadding2D):
        return f"pad {layer.padding[0]}"
    elif isinstance(layer, (keras.layers.Add, keras.layers.ReLU)):
        return type(layer).__name__.lower()
    elif isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return "global average"
    else:
        return None
    if isinstance(layer.activation, activations.Ramp):
        words.append(f"ramp {number(layer.activation.scale)}")
    elif layer.activation is not keras.activations.linear:
        words.append(layer.activation.__name__)
    return " ".join([*words, *(["bias"] if layer.use_bias else [])])


def description(model: keras.Model) -> list[str]:
    lines = (describe(layer) for layer in model.layers)
    return [line for line in lines if line is not None]


# Amit 2019: the parameter files of the author's code (github.com/yaliamit/URFB, and yaliamit/Python
# for the older runs). Stride 1, same padding, no bias, ramp of scale .5 after each layer but the
# last; a dropout rate is a probability of dropping. The names of the files stand beside the nets.
AMIT = {
    # `simpnet`
    "simpnet": """conv 32 5x5 same ramp 0.5
        max 3/2 same
        dropout 0.8
        dense 500 ramp 0.5
        dropout 0.3
        dense 10""",
    # `pog_tanh_R_deep`; its second pool takes averages, the kind of the third is not recorded
    "deepnet": """conv 32 5x5 same ramp 0.5
        max 3/2 same
        conv 32 3x3 same ramp 0.5
        conv 32 3x3 same ramp 0.5
        average 3/2 same
        dropout 0.5
        conv 64 3x3 same ramp 0.5
        conv 64 3x3 same ramp 0.5
        average 3/2 same
        dropout 0.8
        dense 500 ramp 0.5
        dense 10""",
    # `deepernet.txt`
    "deepernet": """conv 16 3x3 same ramp 0.5
        conv 16 3x3 same ramp 0.5
        add
        conv 32 3x3 same ramp 0.5
        conv 32 3x3 same ramp 0.5
        add
        max 3/2 same
        dropout 0.5
        conv 64 3x3 same ramp 0.5
        conv 64 3x3 same ramp 0.5
        add
        max 3/2 same
        conv 128 2x2 same ramp 0.5
        conv 128 3x3 same ramp 0.5
        add
        max 3/2 same
        dropout 0.8
        dense 500 ramp 0.5
        dense 10""",
    # `deepernet_s.txt`, `fncrc_deep_tryR_avg2`
    "deepnet_s": """conv 16 3x3 same ramp 0.5
        conv 16 3x3 same ramp 0.5
        add
        max 3/3 same
        dropout 0.5
        conv 64 3x3 same ramp 0.5
        conv 64 3x3 same ramp 0.5
        add
        max 2/2 same
        conv 64 2x2 same ramp 0.5
        conv 64 2x2 same ramp 0.5
        add
        max 2/2 same
        dropout 0.5
        dense 500 ramp 0.5
        dense 10""",
}

# Sanfiz & Akrout 2021: the models of github.com/jsalbert/biotorch: valid padding, ReLU, biases.
BIOTORCH = {
    "lenet_mnist": """conv 6 5x5 valid relu bias
        max 2/2 valid
        conv 16 5x5 valid relu bias
        max 2/2 valid
        conv 120 5x5 valid relu bias
        global average
        dense 84 relu bias
        dense 10 bias""",
    "lenet_cifar": """conv 32 3x3 valid relu bias
        max 2/2 valid
        conv 64 3x3 valid relu bias
        max 2/2 valid
        conv 128 3x3 valid relu bias
        global average
        dense 256 relu bias
        dense 10 bias""",
}


def rows(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize(
    "name", cases(AMIT | BIOTORCH, daily=["simpnet", "deepernet", "lenet_mnist", "lenet_cifar"])
)
def test_layers_of_networks_with_feedback(name: str) -> None:
    assert description(getattr(reference, name)()) == rows((AMIT | BIOTORCH)[name])


def test_untied_layers() -> None:
    """Amit's parameter files: in simpnet the convolution, in deepnet_s all but `conv0`."""
    for name, untied in (("simpnet", 1), ("deepnet_s", 5)):
        tied = rows(AMIT[name])
        expected, left = [], untied
        for line in reversed(tied):
            if line.startswith("conv") and left:
                line, left = line.replace("conv", "untied"), left - 1
            expected.append(line)
        assert description(getattr(reference, name)(untied=True)) == expected[::-1]


def residual(stages: list[tuple[int, int]], shortcut: bool, stem: str) -> list[str]:
    """He et al. 2016, sections 3.3 and 4.2: two convolutions of 3 x 3 a block; halved by stride 2.

    Kunin et al.'s code: the first block of each stage has a 1 x 1 convolution in its shortcut; the
    last normalisation of a block starts with gain 0; momentum .9, epsilon 1e-5.
    """
    lines = rows(stem)
    zero = " zero" if shortcut else ""
    for stage, (filters, blocks) in enumerate(stages):
        for block in range(blocks):
            halved = bool(stage and not block)
            first = f"conv {filters} 3x3 " + ("/2 valid" if halved else "same")
            lines += ["pad (1, 1)"] if halved else []
            lines += [first, "norm 0.9 1e-05", "relu", f"conv {filters} 3x3 same"]
            lines += [f"norm 0.9 1e-05{zero}"]
            if shortcut and not block:
                lines += [f"conv {filters} 1x1 " + ("/2 valid" if halved else "same")]
                lines += ["norm 0.9 1e-05"]
            lines += ["add", "relu"]
    return lines


@pytest.mark.parametrize("name", cases(["resnet20", "resnet56", "resnet18"], daily=["resnet20"]))
def test_residual_networks(name: str) -> None:
    if name == "resnet18":  # Kunin et al. 2020, ResNet v1 of the published code
        model = reference.resnet18(classes=10, input_shape=(64, 64, 3))
        stem = """pad (3, 3)
            conv 64 7x7 /2 valid
            norm 0.9 1e-05
            relu
            max 3/2 same"""
        expected = residual([(64, 2), (128, 2), (256, 2), (512, 2)], True, stem)
    else:  # He et al. 2016, section 4.2: 6 n + 2 layers of 16, 32, 64 channels, n = 3 and 9
        model = getattr(reference, name)()
        stem = """conv 16 3x3 same
            norm 0.9 1e-05
            relu"""
        blocks = {"resnet20": 3, "resnet56": 9}[name]
        expected = residual([(16, blocks), (32, blocks), (64, blocks)], False, stem)
    # Keras lists the two branches of a block in an order of its own.
    assert sorted(description(model)) == sorted([*expected, "global average", "dense 10 bias"])


# Journe et al. 2023: `presets.json` of github.com/NeuromorphicComputing/SoftHebb. A block is
# written as there: kind (softkrotov: losers learn against the Hebbian direction), c filters, k
# size, p mirrored pixels, t beta, lr step size, lp power of the distance from norm 1 (by default
# .75 in a convolution and .2 in the dense net), then activation and pool.
SOFTHEBB: dict[tuple[str, str], list[str]] = {
    ("cifar10", "soft"): [  # "4SoftHebbCnnCIFAR"
        "softkrotov-c96-k5-p2-t1-lr0.08-lp0.5 triangle_0.7 max_4_2_1",
        "softkrotov-c384-k3-p1-t0.65-lr0.005-lp0.5 triangle_1.4 max_4_2_1",
        "softkrotov-c1536-k3-p1-t0.25-lr0.01-lp0.5 triangle_1 avg_2_2_0",
    ],
    ("cifar10", "hard"): [  # "4HardCnnCIFAR"
        "hard-c96-k5-p1-lr0.05-lp0.75 triangle_1 max_4_2_1",
        "hard-c384-k3-p1-lr0.05-lp0.75 triangle_1 max_4_2_1",
        "hard-c1536-k3-p0-lr0.05-lp0.75 triangle_1 max_2_2_0",
    ],
    ("stl10", "soft"): [  # "5SoftHebbCnnSTL"
        "softkrotov-c96-k5-p2-t1-lr0.08-lp0.5 triangle_0.7 avg_4_2_1",
        "softkrotov-c384-k3-p1-t0.65-lr0.005-lp0.5 triangle_0.7 max_4_2_1",
        "softkrotov-c1536-k3-p1-t0.45-lr0.01-lp0.5 triangle_1.4 avg_4_2_1",
        "softkrotov-c6144-k3-p1-t0.25-lr0.01-lp0.5 triangle_1 avg_2_2_0",
    ],
    ("imagenette", "soft"): [  # "6SoftHebbCnnImNet"
        "softkrotov-c48-k5-p2-t1.1-lr0.08-lp0.75 triangle_0.7 max_4_2_1",
        "softkrotov-c192-k3-p1-t0.7-lr0.01-lp0.75 triangle_0.7 max_4_2_1",
        "softkrotov-c768-k3-p1-t0.5-lr0.01-lp0.75 triangle_0.7 max_4_2_1",
        "softkrotov-c3072-k3-p1-t0.4-lr0.01-lp0.75 triangle_1.4 max_4_2_1",
        "softkrotov-c12288-k3-p1-t0.25-lr0.01-lp0.75 triangle_1 avg_2_2_0",
    ],
}


def block_of(model: keras.Sequential, place: int) -> str:
    """A block in the notation of the source."""
    layer = model.get_layer(f"hebbian{place}")
    rule = layer.plasticity
    kind, beta = "hard", ""
    if isinstance(rule, plasticity.SoftHebb):
        kind = "softkrotov" if rule.anti_hebbian else "soft"
        beta = f"-t{number(rule.beta)}"
    size = layer.kernel_size[0]
    mirrored = 0 if layer.padding == "valid" else layer.border or size // 2
    pool = model.get_layer(f"pool{place}")
    mean = isinstance(pool, keras.layers.AveragePooling2D)
    bordered = pool.padding == "same" or any(each.name == f"border{place}" for each in model.layers)
    pooling = f"{'avg' if mean else 'max'}_{pool.pool_size[0]}_{pool.strides[0]}_{int(bordered)}"
    return (
        f"{kind}-c{layer.filters}-k{size}-p{mirrored}{beta}-lr{number(layer.local_rate)}"
        f"-lp{number(rule.rate.power)} triangle_{number(layer.activation.power)} {pooling}"
    )


@pytest.mark.parametrize(("preset", "competition"), SOFTHEBB)
def test_softhebb(preset: Any, competition: Any) -> None:
    expected = SOFTHEBB[preset, competition]
    # Inputs that are small, and no longer than four layers, so that nothing large is made.
    depth = min(len(expected), 4 if preset == "stl10" else 3)
    model = reference.softhebb(preset, depth=depth, competition=competition)
    found = [block_of(model, place) for place in range(1, depth + 1)]
    assert found == expected[:depth]
    assert [layer.local_rate for layer in model.layers if hasattr(layer, "local_rate")] == [
        float(line.split("-lr")[1].split("-")[0]) for line in expected[:depth]
    ]
    norm = model.get_layer("norm1")  # "operation": "batchnorm2d", PyTorch's defaults, not affine
    assert (norm.momentum, norm.epsilon, norm.center, norm.scale) == (0.9, 1e-5, False, False)


def test_softhebb_above_the_third_layer() -> None:
    """ImageNette's five layers at a sixteenth of the width."""
    model = reference.softhebb("imagenette", (32, 32, 3), width=1 / 16)
    found = [block_of(model, place) for place in range(1, 6)]
    for line, expected in zip(found, SOFTHEBB["imagenette", "soft"], strict=True):
        filters = int(expected.split("-c")[1].split("-")[0])
        assert line == expected.replace(f"-c{filters}-", f"-c{filters // 16}-")


def test_softhebb_dense() -> None:
    """`presets.json`, "2SoftMlpMNIST": soft-c2000-t12-lr0.045-r35-v1, softmax_5; default lp .2."""
    model = reference.softhebb("mnist")
    layer = model.get_layer("hebbian1")
    rule = layer.plasticity
    assert isinstance(rule, plasticity.SoftHebb)
    assert (rule.anti_hebbian, rule.beta, rule.rate.power) == (False, 12.0, 0.2)
    assert (layer.units, layer.local_rate) == (2000, 0.045)
    assert layer.kernel_initializer.minval == 0.0
    assert layer.kernel_initializer.maxval == pytest.approx((3 * 35**2 / 784) ** 0.5)
    assert model.get_layer("steepness").scale == 5.0


def test_equilibrium() -> None:
    """Scellier & Bengio 2017: the training file of the authors' code."""
    table = {
        "784-500-10": (20, 4, 0.5, (0.1, 0.05)),
        "784-500-500-10": (150, 6, 1.0, (0.4, 0.1, 0.01)),
        "784-500-500-500-10": (500, 8, 1.0, (0.128, 0.032, 0.008, 0.002)),
    }
    for name, (free, nudged, nudge, rates) in table.items():
        net = dynamics.EquilibriumNetwork.preset(name)
        assert "-".join(str(size) for size in net.sizes) == name
        assert (net.free_steps, net.nudged_steps, net.nudge) == (free, nudged, nudge)
        assert (tuple(net.rate_factors), net.step_size) == (rates, 0.5)
        assert (net.nudging, net.activation) == ("random_sign", None)  # None: clipped to [0, 1]


def test_convolutional_equilibrium() -> None:
    """Laborieux et al. 2021: the options of the runs on CIFAR-10 that come with the code."""
    for name, cost, steps, nudge in (
        ("cifar10", "cross_entropy", 25, 1.0),
        ("cifar10-mse", "mse", 30, 0.5),
    ):
        net = dynamics.ConvEquilibriumNetwork.preset(name)
        assert (net.cost_name, net.nudged_steps, net.nudge) == (cost, steps, nudge)
        assert net.readout_phase == ("nudged" if cost == "cross_entropy" else "free")
        assert net.filters == (128, 256, 512, 512)
        assert net.state_shapes[:4] == [(16, 16, 128), (8, 8, 256), (4, 4, 512), (1, 1, 512)]
        assert tuple(net.paddings) == ("same", "same", "same", "valid")
        assert (net.free_steps, net.weight_decay) == (250, 3e-4)
        assert tuple(net.rate_factors) == (0.25, 0.15, 0.1, 0.08, 0.05)
        assert (net.nudging, net.activation) == ("centred", "half_clip")


# Where the numbers of the scripts' `paper` presets come from; "smoke" and "quick" are shorter.
KROTOV = "Krotov & Hopfield 2019"
SCRIPTS: dict[str, dict[str, tuple[Any, str]]] = {
    "krotov_mnist": {
        "samples": (60000, "all of MNIST's training images"),
        "units": (2000, KROTOV),
        "pretraining_epochs": (100, OWN + "; published 1000"),
        "readout_epochs": (400, OWN + "; published 300"),
        "readout_batch": (500, OWN + "; published 100"),
        "power": (4.5, KROTOV),
        "p": (2.0, OWN + "; two reimplementations have 3"),
        "start": ("images", OWN + "; published: normal"),
        "rate": (1e-2, OWN),
        "decay": (0.003, OWN),
        "dropout": (0.2, OWN),
    },
    "krotov_cifar10": {
        "samples": (50000, "all of CIFAR-10's training images"),
        "units": (2000, KROTOV),
        "pretraining": (30, OWN + "; published 1000"),
        "readout": (60, OWN + "; published 300"),
    },
    "krotov_conv_cifar10": {
        "samples": (50000, "all of CIFAR-10's training images"),
        "filters": (1600, OWN + "; not known of Grinberg et al. 2019"),
        "patches": (400000, OWN),
        "pretraining": (10, OWN),
        "readout": (20, OWN),
    },
    "few_labels_mnist": {
        "samples": (60000, "all of MNIST's training images"),
        "units": (2000, KROTOV),
        "pretraining": (100, OWN),
        "steps": (2000, OWN),
        "epochs": (60, OWN),
    },
    "softhebb_mnist": {
        "samples": (60000, "all of MNIST's training images"),
        "width": (1.0, "Journe et al. 2023"),
        "pretraining_epochs": (3, OWN + "; the authors' command has 1"),
        "readout_epochs": (20, OWN + "; the authors' command has 10, at a smaller step size"),
    },
    "softhebb_cifar10": {
        "samples": (50000, "all of CIFAR-10's training images"),
        "width": (1.0, "Journe et al. 2023"),
        "depth": (3, "Journe et al. 2023"),
        "readout": (50, "Journe et al. 2023: the data set preset CIFAR10_50"),
    },
}


def literal(script: Path, name: str) -> Any:
    """The value of a constant of a script, which is not run."""
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return ast.literal_eval(node.value)
    return None


def test_scripts() -> None:
    found = {}
    for script in sorted((ROOT / "examples").glob("*.py")):
        presets = literal(script, "PRESETS")
        if isinstance(presets, dict):
            found[script.stem] = presets
    assert set(found) == set(SCRIPTS)
    for name, presets in found.items():
        assert presets["paper"] == {key: value for key, (value, _) in SCRIPTS[name].items()}
        for preset in presets.values():
            assert set(preset) == set(SCRIPTS[name])


# The demo's settings, but for what is plainly a size (images, steps, filters): rule and readout.
DEMOS = {
    "digits": (2, 2, 0.4, 4.5, 6),  # p, rank and delta of Krotov & Hopfield's notebook
    "mnist": (3, 7, 0.4, 4.5, 6),  # p, rank and delta of two reimplementations; power, loss: paper
    "fashion_mnist": (3, 7, 0.4, 4.5, 6),  # as for MNIST
    "cifar10": (2, 2, 0.3, 4.5, 6),  # ours
}


@pytest.mark.parametrize("data", DEMOS)
def test_demo(data: str) -> None:
    text = (ROOT / f"keras_local/reproduce/demo-{data}.toml").read_text(encoding="utf-8")
    settings = tomllib.loads(text)
    encoder, readout = settings["encoder"], settings["readout"]
    found = (encoder["p"], encoder["rank"], encoder["delta"], readout["power"])
    assert (*found, readout["loss_power"]) == DEMOS[data]
    assert readout["beta"] == 0.3  # ours
