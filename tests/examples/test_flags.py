"""The example scripts have one set of flags, with the same words of help."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
DEFAULT = " (default: %(default)s)"

FLAGS = {
    "--all": "run all variants, not only that of the slides",
    "--batch-size": "images in each step",
    "--batches": "number of training steps",
    "--choose": "compare settings on held-out images, and keep the best",
    "--cut": "end blocks behind a pooling, or before it as in the source",
    "--data": "data set",
    "--decay": "weight decay of the readout",
    "--delta": "`delta` of the rule",
    "--depth": "number of layers",
    "--down": "largest initial top-down weight",
    "--dropout": "share of the pixels that the readout does not see",
    "--encoder": "file of the encoder (.keras): loaded if it exists, else written",
    "--encoders": "folder of the pretrained encoders",
    "--epochs": "passes over the training images",
    "--experiment": "experiment",
    "--factors": "factors on the learning rate, one for each layer",
    "--features": "what the readout learns from",
    "--figure": "file for the figure (.png)",
    "--figures": "folder for the figures",
    "--held-out": "train without the last N training images, and test on these",
    "--hidden": "units of each hidden layer",
    "--labels": "numbers of labels (default: all of them)",
    "--lam": "`lam` of the network",
    "--lam-out": "`lam_out` of the network",
    "--learner": "file for the learner (.tflite), which is kept",
    "--limit": "largest initial weight",
    "--p": "`p` of the rule",
    "--points": "number of tests during training",
    "--power": "power of the rectified currents in the readout",
    "--preset": "size of the run",
    "--pretraining-epochs": "passes over the training images without labels",
    "--rank": "`rank` of the rule",
    "--rate": "learning rate",
    "--readout-batch": "images in each step of the readout",
    "--readout-epochs": "passes over the training images for the readout",
    "--results": "file of the results",
    "--rules": "names of the rules to run (default: all)",
    "--samples": "number of training images",
    "--save": "file for the classifier (.keras)",
    "--seed": "seed of the random numbers",
    "--seeds": "number of seeds, counted from 0",
    "--start": "initial weights",
    "--step-size": "step size",
    "--steps": "steps of settling",
    "--top-down": "kind of the top-down weights",
    "--variance": "variance of the outputs",
    "--workers": "number of worker processes",
}
"""Help of every flag; it may go on with the default."""


def parser_of(script: Path) -> Any:
    """The parser of a script, made by the script's own statements, without Keras."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    kept = []
    for node in tree.body:
        text = ast.unparse(node)
        constant = isinstance(node, ast.Assign) and text.split(" ")[0].isupper()
        if text.startswith(("import argparse", "from pathlib")) or text.startswith("parser"):
            kept.append(node)
        elif constant:
            try:
                ast.literal_eval(node.value)
            except ValueError:
                continue
            kept.append(node)
    namespace: dict[str, Any] = {}
    exec(compile(ast.Module(kept, []), str(script), "exec"), namespace)
    return namespace["parser"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_flags(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = parser_of(script)
    flags = {}
    for action in parser._actions:
        (flag,) = [option for option in action.option_strings if option != "-h"]
        if flag == "--help":
            continue
        flags[flag] = action
        assert action.help.removesuffix(DEFAULT) == FLAGS[flag]
    assert len(flags.keys() & {"--seed", "--seeds"}) == 1
    for flag in flags.keys() & {"--seed", "--seeds", "--epochs", "--samples", "--held-out"}:
        assert flags[flag].type is int
    if "--preset" in flags:
        assert flags["--preset"].default in flags["--preset"].choices
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert all(flag in printed for flag in flags)


def test_commands_in_the_docs() -> None:
    """Every command in README, docs and scripts has only flags that the script knows."""
    parsers = {script.name: parser_of(script) for script in SCRIPTS}
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *SCRIPTS]
    found = 0
    for page in pages:
        if "_build" in page.parts:
            continue
        # A command may go on in the next line of a paragraph.
        text = " ".join(page.read_text(encoding="utf-8").split())
        for part in text.split("python examples/")[1:]:
            name, _, rest = part.partition(".py")
            if name == "NAME":
                continue
            command = rest.split("`")[0].split(" # ")[0].split("python ")[0].split("```")[0]
            words = command.split()
            known = parsers[f"{name}.py"]._option_string_actions
            for word in words:
                if word.startswith("--"):
                    found += 1
                    assert word in known, f"{page}: {name}.py {command}"
    assert found > 40


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help(script: Path) -> None:
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
