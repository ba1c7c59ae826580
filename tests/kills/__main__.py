"""Kill runs, and print what followed: `python -m tests.kills [CASE ...] --kills 5 --seed 1`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.kills.cases import CASES
from tests.kills.runner import killed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--kills", type=int, default=5, help="of each case")
    parser.add_argument("--seed", type=int, default=1, help="of weights and moments")
    arguments = parser.parse_args()
    print("| run | kills | batches | in the last process | unfinished | unreadable | difference |")
    print("|---|---|---|---|---|---|---|", flush=True)
    failed = False
    for name in arguments.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            found = killed(name, arguments.kills, arguments.seed, Path(folder))
        files = f"{found.unfinished} | {found.unreadable}"
        print(
            f"| {name} | {found.kills} | {found.whole} | {found.last} | {files} | {found.gap:g} |",
            flush=True,
        )
        failed |= found.unreadable > 0 or found.gap != 0.0
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
