"""Numbers from rounds to text: medians, spreads, ratios within a round.

Rules of this file: no round is dropped, and a ratio of two ways is never one of medians.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from peers.run import Results, Times

SIDES = ("write", "read")


def times(results: Results, name: str, size: int) -> Times | None:
    """Return what a way took, or None if it was not measured."""
    found = results.get((name, size))
    return found if isinstance(found, Times) else None


def side_of(found: Times, side: str) -> list[float]:
    """Return the seconds of one side, of each round."""
    return found.write if side == "write" else found.read


def median(results: Results, name: str, size: int, side: str) -> float | None:
    """Return the median of the seconds of one side."""
    found = times(results, name, size)
    return None if found is None else statistics.median(side_of(found, side))


def ratios(results: Results, above: str, below: str, size: int, side: str) -> list[float] | None:
    """Return of each round what one way took in multiples of another."""
    top, bottom = times(results, above, size), times(results, below, size)
    if top is None or bottom is None:
        return None
    return [a / b for a, b in zip(side_of(top, side), side_of(bottom, side), strict=True)]


def ratio(results: Results, above: str, below: str, size: int, side: str) -> float | None:
    """Return the median of the ratios."""
    found = ratios(results, above, below, size, side)
    return None if found is None else statistics.median(found)


def rounded(value: float) -> str:
    """Return a number with about three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def multiple(value: float) -> str:
    """Return a ratio."""
    return f"{rounded(value)} x"


def spread(values: Sequence[float], unit: float = 1.0) -> str:
    """Return the median, with the smallest and the largest."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{rounded(middle * unit)} ({rounded(least * unit)} to {rounded(most * unit)})"


def size_name(size: int) -> str:
    """Return a size as people write it."""
    for step, unit in ((2**20, "MiB"), (2**10, "KiB")):
        if size % step == 0:
            return f"{size // step} {unit}"
    return f"{size} B"


def listed(items: Sequence[str], last: str = "and") -> str:
    """Return items as a list in a sentence."""
    *first, end = items
    return f"{', '.join(first)} {last} {end}" if first else end
