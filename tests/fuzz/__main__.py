"""`python -m tests.fuzz 2000 feedback`: call a module's constructors, print what is wrong."""

from __future__ import annotations

import sys

from tests.fuzz.test_constructors import search

found = search(int(sys.argv[1]), anew=True, module=sys.argv[2] if len(sys.argv) > 2 else None)
print("\n".join([*found, f"{len(found)} kinds of faults"]))
