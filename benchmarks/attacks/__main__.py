"""The attacks that every messaging glue meets, run against this library and its peers.

Run: ``make attacks``, or ``PYTHONPATH=benchmarks:tests python -m attacks --help`` where the
requirements of ``requirements/peers.txt`` are installed. It fails if anything gets through
against this library. A part of the run, by ``--only``, is printed and not written.
"""

from __future__ import annotations

import argparse
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from document import versions, write
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import envelope
from attacks import glue, jose, ours, sockets, table, tokens
from attacks.generic import ATTACKS, tried
from attacks.subject import Subject

SUBJECTS = (
    *ours.SUBJECTS,
    *sockets.SUBJECTS,
    *tokens.SUBJECTS,
    *jose.SUBJECTS,
    *glue.SUBJECTS,
)
PACKAGES = (
    "pyzmq",
    "PyNaCl",
    "cryptography",
    "itsdangerous",
    "joserfc",
    "jupyter-client",
    "pyseto",
)


def observed(subjects: Sequence[type[Subject]]) -> table.Cells:
    """Run every attack on every subject, and show how far it is."""
    cells = {}
    columns = (TextColumn("{task.description:<54}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(subjects) * len(ATTACKS))
        for kind in subjects:
            for attack in ATTACKS:
                progress.update(task, description=f"{kind.name}, {attack.name}")
                cells[kind.name, attack.name] = tried(attack, kind)
                progress.advance(task)
    return cells


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="attacks", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="parts of names")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="its block named attacks")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack, print, and write what was asked for."""
    options = parse(arguments)
    logging.disable(logging.CRITICAL)
    names = [name.casefold() for name in options.only]
    subjects = [
        kind
        for kind in SUBJECTS
        if not names or any(name in kind.name.casefold() for name in names)
    ]
    cells = observed(subjects)
    head = f"Python {platform.python_version()}, envelope {envelope.__version__}"
    lines = table.report(subjects, cells, f"{head}, {versions(PACKAGES)}")
    print("\n".join(lines))
    if options.write and options.only:
        print(f"a part of the run: {options.write} stays as it is", file=sys.stderr)
    elif options.write:
        write(options.write, "attacks", lines)
    harm = table.harm(subjects, cells)
    for line in harm:
        print(f"NOT REFUSED: {line}", file=sys.stderr)
    return 1 if harm else 0


if __name__ == "__main__":
    sys.exit(main())
