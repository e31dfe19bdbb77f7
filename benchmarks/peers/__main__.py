"""What a message costs with this library and with its peers, side by side in one run.

Run: ``make bench-peers``, or ``PYTHONPATH=benchmarks python -m peers --help`` where the
requirements of ``requirements/peers.txt`` are installed. A part of the run, by ``--only``
or ``--payloads``, is printed and not written into a document, for a document tells all.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from document import machine, versions, write
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from peers import agreed, bars, containers, ours, raw, tables, tokens, words
from peers.figures import size_name
from peers.run import SIZES, Results, Times, measure
from peers.ways import Way

WAYS = (
    *raw.LIMITS,
    *ours.WAYS,
    *raw.WAYS,
    *tokens.WAYS,
    *containers.WAYS,
    *agreed.WAYS,
)
PACKAGES = (
    "aws-encryption-sdk",
    "cryptography",
    "cwt",
    "itsdangerous",
    "joserfc",
    "jupyter-client",
    "pyhpke",
    "pyrage",
    "pyseto",
    "securesystemslib",
    "tink",
    "vodozemac",
)


def chosen(ways: Iterable[Way], only: Sequence[str]) -> list[Way]:
    """Return the limits, and what has one of the names in its own."""
    names = [name.casefold() for name in only]
    return [
        way
        for way in ways
        if way.kind == "limit" or not names or any(name in way.name.casefold() for name in names)
    ]


def report(ways: Sequence[Way], results: Results, sizes: Sequence[int], head: str) -> list[str]:
    """Return what it comes to: the bars, and the rest in sentences."""
    lines = [f"{head}.", "", *bars.lines(bars.judge_all(results)), ""]
    return lines + words.sentences(ways, results, sizes)


def whole(ways: Sequence[Way], results: Results, sizes: Sequence[int], head: str) -> list[str]:
    """Return all tables."""
    lines = [f"{head}.", "", tables.LEGEND, ""]
    lines += tables.full(ways, results, tables.main_size(sizes))
    rest = tables.others(ways, results, sizes)
    return [*lines, "", *rest] if rest else lines


def raw_data(ways: Sequence[Way], results: Results, head: str) -> dict[str, Any]:
    """Return everything that was measured, to draw from."""
    rows = []
    for way in ways:
        for size in sorted(size for name, size in results if name == way.name):
            found = results[way.name, size]
            row: dict[str, Any] = {"name": way.name, "kind": way.kind, "payload": size}
            row |= {"does": way.does._asdict(), "each": way.each, "limit": way.limit}
            row |= found._asdict() if isinstance(found, Times) else {"reason": found}
            rows.append(row)
    outcomes = [one._asdict() for one in bars.judge_all(results)]
    return {"head": head, "unit": "seconds", "rows": rows, "bars": outcomes}


def as_json(data: dict[str, Any]) -> str:
    """Return data as JSON, with a line for each row and each bar."""
    parts = []
    for name, value in data.items():
        text = json.dumps(value)
        if isinstance(value, list):
            text = "[\n" + ",\n".join(f"  {json.dumps(one)}" for one in value) + "\n ]"
        parts.append(f' "{name}": {text}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def observed(ways: Sequence[Way], sizes: Sequence[int], rounds: int) -> Results:
    """Measure, and show how far it is."""
    columns = (
        TextColumn("{task.description:<40}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # Drawn between the turns: a thread that draws would count.
    console = Console(stderr=True)
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        task = progress.add_task("making keys", total=len(ways) * len(sizes) * rounds)

        def tick(name: str, size: int) -> None:
            progress.update(task, advance=1, description=f"{name}, {size_name(size)}", refresh=True)

        results = measure(ways, sizes, rounds, tick)
        progress.update(
            task, total=progress.tasks[0].completed, description="measured", refresh=True
        )
    return results


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="peers", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="parts of names")
    parser.add_argument("--payloads", nargs="+", type=int, default=list(SIZES), metavar="BYTES")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all times of all rounds")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="its block named peers")
    parser.add_argument(
        "--tables", type=Path, metavar="DOCUMENT", help="all tables: its block named all_peers"
    )
    options = parser.parse_args(arguments)
    if options.rounds < 1 or min(options.payloads) < 1:
        parser.error("rounds and payloads are at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was asked for."""
    options = parse(arguments)
    logging.disable(logging.CRITICAL)
    ways, sizes = chosen(WAYS, options.only), sorted(set(options.payloads))
    results = observed(ways, sizes, options.rounds)
    head = f"{machine()}; {versions(PACKAGES)}; rounds: {options.rounds}"
    every, short = whole(ways, results, sizes, head), report(ways, results, sizes, head)
    print("\n".join([*every, *short]))
    if options.only or sizes != sorted(SIZES):
        for document in filter(None, (options.tables, options.write)):
            print(f"a part of the run: {document} stays as it is", file=sys.stderr)
    else:
        if options.tables:
            write(options.tables, "all_peers", every)
        if options.write:
            write(options.write, "peers", short)
    if options.json:
        options.json.write_text(as_json(raw_data(ways, results, head)), encoding="utf-8")
    return 0 if bars.good(bars.judge_all(results)) else 1


if __name__ == "__main__":
    sys.exit(main())
