"""Which lines of the library a corpus reaches: ``python -m fuzz.reach NAME``.

Rules of this file: a process for each harness, and nothing of the library is imported
before it is measured.
"""

from __future__ import annotations

import logging
import sys

import coverage

from fuzz import harness


def main() -> None:
    """Print how many lines of what a harness covers its corpus reaches, and all of them."""
    logging.disable(logging.CRITICAL)
    measured = coverage.Coverage(data_file=None, config_file=False, source_pkgs=["envelope"])
    measured.start()
    found = harness.load(sys.argv[1])
    for data in found.corpus:
        found.check(data)
    measured.stop()
    reached = total = 0
    for module in found.covers:
        _, statements, _, missing, _ = measured.analysis2(sys.modules[module])
        total += len(statements)
        reached += len(statements) - len(missing)
    print(reached, total)


if __name__ == "__main__":
    main()
