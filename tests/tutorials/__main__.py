"""Run the scripts of docs/tutorials, and write what they show as notebooks beside them.

python -m tests.tutorials [NAME ...]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

from tests.tutorials import SCRIPTS, fingerprint


def executed(script: Path) -> Any:
    """Return the notebook of a script with all that its cells gave."""
    notebook = jupytext.read(script, fmt="py:percent")
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    return notebook


def of_tensorflow(output: Any) -> bool:
    """Return whether it is what TensorFlow says of the machine, or of folders that are gone."""
    return output.get("name") == "stderr" or output.get("text", "").startswith("INFO:tensorflow")


def cleaned(notebook: Any, script: Path) -> Any:
    """Leave out what differs from run to run, and say what it was run with."""
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if not of_tensorflow(output)]
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data.pop("text/plain")
    used = ", ".join(f"{name} {version(name)}" for name in ("keras", "tensorflow"))
    last = f"*Run by `python -m tox run -e tutorials -- {script.stem}` with {used}, on a CPU.*"
    notebook.cells.append(nbformat.v4.new_markdown_cell(last, id="made"))
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "python"},
        "made_from": fingerprint(script),
    }
    return notebook


def main() -> None:
    """Run the scripts that are named, or all."""
    names = [script.stem for script in SCRIPTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help=f"one of {', '.join(names)} (default: all)")
    chosen = parser.parse_args().name or names
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for script in SCRIPTS:
        if script.stem in chosen:
            begin = time.perf_counter()
            notebook = cleaned(executed(script), script)
            nbformat.write(notebook, script.with_suffix(".ipynb"))
            print(f"{script.stem}: {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
