"""Make calls, print what is wrong.

`python -m tests.fuzz 2000 feedback` calls the constructors of a module, `python -m tests.fuzz 100
data equilibrium` methods of a model with any data. Without the last word, all of them.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

if sys.argv[2:3] == ["data"]:
    from tests.fuzz.test_data import search

    found = search(int(sys.argv[1]), True, *sys.argv[3:])
else:
    from tests.fuzz import test_constructors

    found = test_constructors.search(int(sys.argv[1]), True, *sys.argv[2:])
print("\n".join([*found, f"{len(found)} kinds of faults"]))
