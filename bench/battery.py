"""Make every attempt of the battery against real walls and print one line for each.

    ./run bench battery [--rootless] [CATEGORY…]

Needs root and makes, on addresses reserved for documentation, an outside of its own that ends with it.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.sandbox.battery.attempt import Row
from tests.sandbox.battery.stage import root_stage, rootless_stage
from tests.sandbox.battery.table import ATTEMPTS
from tests.sandbox.conftest import outside_stands

WIDTH = 44


def line(row: Row) -> str:
    """One attempt: whether the walls held, what came of it inside, and outside."""
    outside = str(row.outside) if row.outside else "-"
    notes = f"  ({'; '.join(row.notes)})" if row.notes else ""
    verdict = "held" if row.held else "BROKEN"
    name = row.attempt.name[:WIDTH]
    return f"{verdict:7}{row.attempt.category:12}{name:{WIDTH + 2}}{row.inside!s:28}{outside:20}{notes}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run bench battery", description=__doc__)
    parser.add_argument("categories", nargs="*", help="only these: files, processes, namespaces, kernel, network, …")
    parser.add_argument("--rootless", action="store_true", help="walls of an ordinary user, with their exceptions")
    words = parser.parse_args()
    wanted = words.categories
    stage_of = rootless_stage if words.rootless else root_stage
    chosen = [attempt for attempt in ATTEMPTS if not wanted or attempt.category in wanted]
    began = time.monotonic()
    print(f"{'':7}{'category':12}{'attempt':{WIDTH + 2}}{'inside':28}{'outside':20}")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as data, outside_stands(), stage_of(Path(data)) as stage:
        rows = []
        for attempt in chosen:
            row = stage.perform(attempt)
            if words.rootless and attempt.rootless_why:
                row.notes.append(f"exception: {attempt.rootless_why}")
            rows.append(row)
            print(line(rows[-1]), flush=True)
    broken = sum(not row.held for row in rows)
    by_category = ", ".join(f"{count} {name}" for name, count in Counter(row.attempt.category for row in rows).items())
    print(f"\n{len(rows)} attempts ({by_category}) in {time.monotonic() - began:.0f} s: {broken} got through.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
