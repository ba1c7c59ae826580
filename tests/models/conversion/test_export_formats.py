"""The other formats: each file answers as the model does, in a runtime without Keras."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from keras_local.models import export
from keras_local.models.conversion import export as module
from tests.dynamics import table as networks
from tests.golden import make as golden
from tests.models.conversion.test_export import MODELS, classifier, feedback_net
from tests.support import probe, tensorflow_only

pytestmark = tensorflow_only

ENDINGS = {"onnx": ".onnx", "litert": ".tflite", "openvino": ".xml"}
RUNTIMES = {"onnx": "onnxruntime", "litert": "ai_edge_litert", "openvino": "openvino"}
FORMATS = pytest.mark.parametrize("file_format", sorted(ENDINGS))

ALL: dict[str, tuple[Callable[[], keras.Model], tuple[int, ...]]] = {
    **MODELS,
    **{f"network-{row.id}": (row.make, networks.data(row)[0].shape[1:]) for row in networks.ROWS},
    **{
        name: (functools.partial(lambda case: golden.CASES[case]()[0], name), (4,))
        for name in golden.CASES
        if name.startswith(("readout", "layer_direct"))
    },
    **{
        name: (
            functools.partial(lambda case: golden.CASES[case]()[0], name),
            golden.CASES[name]()[1],
        )
        for name in golden.CASES
        if name.startswith(("layer_transposed", "layer_separable", "hebbian_conv", "layer_local"))
    },
}


def write(folder: Path, model: keras.Model, file_format: str, **options: Any) -> Path:
    """Export; skipped where the converter or the runtime is not installed."""
    pytest.importorskip(RUNTIMES[file_format])
    if file_format == "onnx":
        pytest.importorskip("tf2onnx")
    path = folder / f"model{ENDINGS[file_format]}"
    export(model, path, format=file_format, **options)
    return path


def answers(path: Path, *inputs: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
    """Names of the inputs of a file, and its outputs."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        names = [each.name for each in session.get_inputs()]
        return names, session.run(None, dict(zip(names, inputs, strict=True)))
    if path.suffix == ".tflite":
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(path)).get_signature_runner()
        names = list(runner.get_input_details())
        outputs = runner(**dict(zip(names, inputs, strict=True)))
        return names, [outputs[name] for name in sorted(outputs)]
    import openvino

    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(openvino.Core().read_model(path), "CPU", precise)
    names = [node.get_any_name() for node in compiled.inputs]
    found = compiled(dict(zip(names, inputs, strict=True)))
    return names, [found[output] for output in compiled.outputs]


def compare(path: Path, model: keras.Model, x: np.ndarray) -> None:
    expected = np.asarray(model.predict(x, verbose=0))
    assert np.isfinite(expected).all()
    for count in (len(x), 2):
        names, (found,) = answers(path, x[:count])
        # Tensors that the graph held as constants would be inputs as well.
        assert names == ["inputs"]
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found, expected[:count], rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.daily
@FORMATS
def test_a_file_answers_as_the_model(file_format: str, tmp_path: Path) -> None:
    model = feedback_net()
    path = write(tmp_path, model, file_format)
    compare(path, model, np.abs(probe((5, 8, 8, 2), 9)))
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == sorted({path.name, *(["model.bin"] if file_format == "openvino" else [])})
    # Neither the feedback kernels nor a second copy of a weight.
    parameters = sum(weight.nbytes for weight in kl.models.to_plain(model).get_weights())
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < parameters + 40_000


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(ALL))
@FORMATS
def test_every_model_in_every_format(name: str, file_format: str, tmp_path: Path) -> None:
    make, shape = ALL[name]
    model = make()
    compare(write(tmp_path, model, file_format), model, np.abs(probe((5, *shape), 9)))


@pytest.mark.daily
@FORMATS
def test_several_inputs_and_outputs_have_names(file_format: str, tmp_path: Path) -> None:
    one, other = keras.Input((4,), name="one"), keras.Input((3,), name="other")
    merged = keras.layers.Concatenate()([one, other])
    model = keras.Model([one, other], [kl.layers.FeedbackDense(2)(merged), merged])
    path = write(tmp_path, model, file_format)
    x = [probe((5, 4)), probe((5, 3), 1)]
    names, found = answers(path, *x)
    assert names == ["one", "other"]
    for actual, expected in zip(found, model.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


SERVE = """
import sys
import numpy as np
for name in ("tensorflow", "keras", "keras_local", "tf2onnx"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
x = np.load(sys.argv[2])
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
found = {"onnx": session.run(None, {"inputs": x})[0]}
from ai_edge_litert.interpreter import Interpreter
found["litert"] = Interpreter("model.tflite").get_signature_runner()(inputs=x)["outputs"]
import openvino
compiled = openvino.compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
found["openvino"] = compiled({"inputs": x})["outputs"]
np.savez("found.npz", **found)
"""


@pytest.mark.daily
def test_files_run_without_tensorflow_and_keras(tmp_path: Path) -> None:
    model, x = classifier(), np.abs(probe((5, 8, 8, 1), 9))
    for file_format in ENDINGS:
        write(tmp_path, model, file_format)
    np.save(tmp_path / "x.npy", x)
    command = [sys.executable, "-c", SERVE, str(tmp_path), str(tmp_path / "x.npy")]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=280)
    expected = model.predict(x, verbose=0)
    with np.load(tmp_path / "found.npz") as found:
        assert sorted(found) == sorted(ENDINGS)
        for scores in found.values():
            np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5 * expected.max())


@functools.cache
def patch_normed() -> tuple[keras.Model, np.ndarray, np.ndarray, np.ndarray]:
    """A readout of normalised patches of the digits, the training images, and the test."""
    pytest.importorskip("sklearn")
    (x, y), (test_x, test_y) = kl.datasets.load("digits")
    keras.utils.set_random_seed(0)
    rule = kl.plasticity.KrotovHopfield(p=2.0, rank=2, delta=0.2)
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            kl.layers.HebbianConv2D(30, 4, patch_norm=True, plasticity=rule),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
        ]
    )
    kl.models.pretrain(encoder, x, epochs=6, verbose=0)
    model = kl.models.readout(encoder, classes=10, power=1.0)
    model.jit_compile = False
    model.fit(x, y, epochs=20, verbose=0)
    return model, x, test_x, test_y


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Only .* of the units:UserWarning")
def test_int8_keeps_the_accuracy_of_normalised_patches(tmp_path: Path) -> None:
    """With reciprocal lengths in int8, it falls from 0.97 to 0.4."""
    model, x, test_x, test_y = patch_normed()
    scores = np.asarray(model.predict(test_x, verbose=0))
    path = write(tmp_path, model, "litert", int8=x[:200])
    _, (found,) = answers(path, test_x)
    assert np.mean(scores.argmax(-1) == test_y) > 0.9
    assert np.mean(found.argmax(-1) == scores.argmax(-1)) > 0.98
    assert np.any(found != scores)
    from ai_edge_litert.interpreter import Interpreter

    kinds = {str(np.dtype(each["dtype"])) for each in Interpreter(str(path)).get_tensor_details()}
    assert {"int8", "float32"} <= kinds


@pytest.mark.thorough
def test_int8_warns_of_what_it_costs(tmp_path: Path) -> None:
    """Steep powers in eight bits: what is measured on the samples is in the warning."""
    pytest.importorskip("ai_edge_litert")
    inputs = keras.Input((6,))
    steep = keras.layers.Activation(kl.activations.RePU(12.0))(inputs)
    model = keras.Model(inputs, keras.layers.Dense(5, kernel_initializer="he_normal")(steep))
    x = np.abs(probe((50, 6), 3))
    with pytest.warns(
        UserWarning, match=r"In int8 the outputs for the 50 .* off by \d+%.*the same"
    ):
        write(tmp_path, model, "litert", int8=x)


@pytest.mark.daily
def test_what_no_converter_takes_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    network = kl.dynamics.EquilibriumNetwork([4, 5, 3])
    with pytest.raises(ValueError, match=r"`model` must be .*'litert'.*loop.*int8"):
        export(network, tmp_path / "m.tflite", format="litert", int8=np.zeros((3, 4)))
    inputs = keras.Input((3, 3))
    inverse = keras.Model(inputs, keras.ops.inv(inputs))
    with pytest.raises(ValueError, match=r"`model` must be .*no operator for \['MatrixInverse'"):
        export(inverse, tmp_path / "m.tflite", format="litert")
    assert not list(tmp_path.iterdir())


@pytest.mark.daily
def test_tensors_as_constants_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx")
    inputs = keras.Input((3,))
    tensor = keras.ops.convert_to_tensor(np.array([1.0, 2.0, 3.0], "float32"))
    with pytest.raises(ValueError, match=r"`model` must be .*tensors as constants.*NumPy"):
        export(keras.Model(inputs, inputs * tensor), tmp_path / "m.onnx", format="onnx")
    assert not list(tmp_path.iterdir())
    array = keras.Model(inputs, inputs * np.array([1.0, 2.0, 3.0], "float32"))
    compare(write(tmp_path, array, "onnx"), array, probe((4, 3)))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("m", {"format": "onnx"}, r"`path` must be one that ends in '\.onnx'.*Received"),
        ("m.onnx", {}, r"`path` must be a folder, or `format='onnx'`"),
        ("m.tf", {"format": "tflite"}, r"`format` must be one of 'tf_saved_model', 'onnx'"),
        ("m.tf", {"format": None}, r"`format` must be one of"),
        ("m.onnx", {"format": "onnx", "int8": probe((3, 4))}, r"`int8` must be None: only"),
        ("m.tflite", {"format": "litert", "int8": probe((3, 5))}, r"`int8` must be .*\(3, 5\)"),
        ("m.tflite", {"format": "litert", "int8": probe((0, 4))}, r"`int8` must be"),
        ("m.tflite", {"format": "litert", "int8": [probe((3, 4))] * 2}, r"`int8` must be"),
        ("m.tflite", {"format": "litert", "int8": np.full((3, 4), np.nan)}, r"`int8` .*NaN"),
        ("m.tflite", {"format": "litert", "int8": True}, r"`int8` must be"),
        ("m.tflite", {"format": "litert", "int8": "all"}, r"`int8` must be"),
    ],
)
def test_wrong_arguments(
    name: str, arguments: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda package: package)
    model = keras.Sequential([keras.Input((4,)), kl.layers.FeedbackDense(2)])
    with pytest.raises(ValueError, match=message):
        export(model, tmp_path / name, **arguments)
    with pytest.raises(ValueError, match="`path`"):
        export(model, 3)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        ({"format": "onnx"}, "tf2onnx"),
        ({"format": "openvino"}, "openvino"),
        ({"format": "litert", "int8": np.zeros((3, 4))}, "ai_edge_litert"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    arguments: Any, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda package: None)
    model = keras.Sequential([keras.Input((4,)), kl.layers.FeedbackDense(2)])
    path = tmp_path / f"m{ENDINGS[arguments['format']]}"
    with pytest.raises(ImportError, match=rf"needs {package}: pip install 'keras-local\[export\]'"):
        export(model, path, **arguments)


def test_another_backend_is_sent_to_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.abilities, "WRITES_OTHER_FORMATS", False)
    model = keras.Sequential([keras.Input((4,)), kl.layers.FeedbackDense(2)])
    with pytest.raises(ValueError, match=r"`format` must be \"tf_saved_model\".*KERAS_BACKEND"):
        export(model, tmp_path / "m.onnx", format="onnx")
