"""The tables: what each way does and costs, one for each size.

Rules of this file: every way has its row in every table; what was not measured says why.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from peers.figures import multiple, ratio, size_name, spread, times
from peers.run import TRIED_AT, Results
from peers.ways import Way

LEGEND = (
    '"read by" is everyone, so many recipients, the members of a group, or who has the one key. '
    '"opt": it carries or offers this, and the caller has to ask for it or to check it, which '
    'was not done. "stops": after a loss nothing opens. Times are medians of the rounds in '
    "microseconds of processor time for each message, with the smallest and the largest; a "
    "ratio is the median of those within a round, to the raw signature, or to that with raw "
    "encryption for what does both."
)


def main_size(sizes: Sequence[int]) -> int:
    """Return the size of the first table."""
    return TRIED_AT if TRIED_AT in sizes else sizes[0]


def full(ways: Sequence[Way], results: Results, size: int) -> list[str]:
    """Return the table of what each way does and costs, for one size."""
    head = (
        f"| {size_name(size)} | signature | encrypted | read by | change | context | replay | late "
        "| permission | loss | write | read | bytes more | write ratio | read ratio |"
    )
    lines = [head, "|---" * 10 + "|---:" * 5 + "|"]
    lines += [
        f"| {way.name} | {' | '.join(way.does)} | {costs(way, results, size)} |" for way in ways
    ]
    return lines


def costs(way: Way, results: Results, size: int) -> str:
    """Return the last five cells of a row."""
    found = times(results, way.name, size)
    if found is None:
        return f"not measured: {results.get((way.name, size), 'not asked for')} | | | |"
    cells = [
        spread(found.write, 1e6),
        spread(found.read, 1e6),
        rounded_bytes(statistics.median(found.more)),
    ]
    for side in ("write", "read"):
        value = way.limit and ratio(results, way.name, way.limit, size, side)
        cells.append(multiple(value) if value else "")
    return " | ".join(cells)


def rounded_bytes(more: float) -> str:
    """Return bytes above the payload, which in a bundle are no whole ones."""
    return f"{more:,.0f}" if more >= 10 else f"{more:.1f}"


def others(ways: Sequence[Way], results: Results, sizes: Sequence[int]) -> list[str]:
    """Return the tables of the other sizes: what each way costs."""
    lines = []
    for size in sizes:
        if size != main_size(sizes):
            lines += [
                f"| {size_name(size)} | write | read | bytes more | write ratio | read ratio |"
            ]
            lines += ["|---" + "|---:" * 5 + "|"]
            lines += [f"| {way.name} | {costs(way, results, size)} |" for way in ways]
            lines += [""]
    return lines[:-1]
