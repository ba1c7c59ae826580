"""A process that runs cells of one column: `python -m tests.matrix.process FILE`.

FILE is that of a JSON object, which the parent writes: the column, the rows, the record.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from tests.matrix.choice import BACKENDS
from tests.matrix.record import Record


def run(column: str, names: list[str], record: Record) -> None:
    """Run cells in this process, and write down what each says as soon as it is known."""
    import keras

    from keras_local.dynamics import Network
    from tests.distribute.cases import cases
    from tests.matrix import columns

    backend = BACKENDS.get(column, "tensorflow")
    assert keras.backend.backend() == backend, (column, keras.backend.backend())
    # As in the other tests: what a column does not ask for is not compiled.
    Network.suits_xla = False
    keras.config.disable_interactive_logging()
    known, folder = cases(columns.STEPS), record.path.with_suffix("")
    rows = [columns.Row(name, known[name], folder / f"{name}.npz") for name in names]
    for cell in columns.run(rows, column):
        record.add([cell])


def main(file: Path) -> None:
    """Do what the parent has ordered."""
    order = json.loads(file.read_text())
    run(order["column"], order["rows"], Record(Path(order["record"])))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
