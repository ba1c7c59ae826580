"""`python -m tests.mutants`: change 100 lines, one at a time; `--help` shows how to do less."""

from __future__ import annotations

import argparse
import queue
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.choice import AREAS, Mutant, changed, patch, sample
from tests.mutants.run import KILLED, Copy, Record, Verdict, summary


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    add = parser.add_argument
    add("--count", type=int, default=100, help="lines that are changed (100)")
    add("--seed", type=int, default=0, help="which lines (0)")
    add("--areas", nargs="*", default=list(AREAS), help="folders and files (all)")
    add("--first", type=int, help="try only the first of them, as a quick part of the run")
    add("--workers", type=int, default=1, help="copies of the project that work side by side (1)")
    add("--limit", type=float, default=600.0, help="seconds for the tests of a change (600)")
    add("--again", action="store_true", help="try those again that survived before")
    add("--least", type=float, default=92.0, help="percent that have to be noticed (92)")
    add("--record", type=Path, help="where verdicts are kept (.tox/mutants-SEED-COUNT.jsonl)")
    add("--root", type=Path, default=Path(__file__).parents[2], help="the project")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    given = parsed(arguments)
    chosen = sample(given.root, given.areas, given.count, given.seed)[: given.first]
    path = given.record or given.root / f".tox/mutants-{given.seed}-{given.count}.jsonl"
    record = Record(path)
    if given.again:
        record.forget_survivors()
    keys = {mutant: _key(given.root, mutant) for mutant in chosen}
    missing = [mutant for mutant in chosen if keys[mutant] not in record.known]
    print(f"{len(chosen)} lines, {len(chosen) - len(missing)} of them known from {path}")
    copies: queue.Queue[Copy] = queue.Queue()
    for _ in range(min(given.workers, len(missing))):
        copies.put(Copy(given.root, given.limit))

    def one(mutant: Mutant) -> Verdict:
        copy = copies.get()
        try:
            return copy.try_out(mutant)
        finally:
            copies.put(copy)

    with ThreadPoolExecutor(max_workers=max(given.workers, 1)) as pool:
        for mutant, verdict in zip(missing, pool.map(one, missing), strict=True):
            record.add(verdict)
            shown = f"{verdict.outcome:8} {verdict.seconds:6.0f} s"
            print(f"{shown}  {mutant.place}  {verdict.by}", flush=True)
    while not copies.empty():
        copies.get().close()
    verdicts = [record.known[keys[mutant]] for mutant in chosen]
    print(summary(verdicts))
    killed = sum(verdict.outcome == KILLED for verdict in verdicts)
    return int(
        killed < given.least / 100.0 * len(verdicts) or bool(unjust_killers(given, verdicts))
    )


def _key(root: Path, mutant: Mutant) -> tuple[str, str]:
    return mutant.path, patch((root / mutant.path).read_text(), changed(root, mutant) or "")


def unjust_killers(given: argparse.Namespace, verdicts: list[Verdict]) -> list[str]:
    """The tests that noticed something have to pass where nothing is changed."""
    copy = Copy(given.root, given.limit)
    try:
        unjust = copy.unjust([verdict.by for verdict in verdicts if verdict.by])
    finally:
        copy.close()
    print("\n".join(f"fails without a change: {name}" for name in unjust))
    return unjust


if __name__ == "__main__":
    sys.exit(main())
