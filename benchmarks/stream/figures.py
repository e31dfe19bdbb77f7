"""Figures of figures: percentiles, medians, and ratios within one round.

Rules of this file: pure functions of what was measured. A ratio is taken within a
round, for a machine that slows down slows all; then the median of the rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from stream.results import Result, Step

HALF = 0.5

Of = Callable[[Result], float]


class Spread(NamedTuple):
    """The median of the rounds, and the smallest and the largest."""

    middle: float
    least: float
    most: float


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the value that so many per cent of all do not exceed; nearest rank.

    Raises:
        ValueError: there are no values.
    """
    if not ordered:
        raise ValueError("no values")
    rank = -int(-len(ordered) * percent // 100)
    return ordered[min(max(rank, 1), len(ordered)) - 1]


def spread(values: Sequence[float]) -> Spread:
    """Return the median, the smallest and the largest of some values."""
    return Spread(statistics.median(values), min(values), max(values))


def find(results: Sequence[Result], way: str, subscribers: int) -> dict[int, Result]:
    """Return the runs of a way, by round."""
    return {one.round: one for one in results if one.way == way and one.subscribers == subscribers}


def median(results: Sequence[Result], way: str, subscribers: int, of: Of) -> float | None:
    """Return the median of the rounds; None if none was measured."""
    found = [of(one) for one in find(results, way, subscribers).values()]
    return statistics.median(found) if found else None


def ratios(
    results: Sequence[Result], ways: tuple[str, str], subscribers: int, of: Of
) -> list[float]:
    """Return for each round that has both ways the ratio of the first to the second."""
    ours, theirs = (find(results, way, subscribers) for way in ways)
    return [of(ours[number]) / of(theirs[number]) for number in sorted(ours.keys() & theirs.keys())]


def rate(result: Result) -> float:
    """Return events a second at saturation."""
    return result.rate


def cpu_of(role: str) -> Of:
    """Return what takes the processor time of a role for an event, microseconds."""
    return lambda result: result.ends[role].cpu


def peak_of(role: str) -> Of:
    """Return what takes the memory of a role, MiB."""
    return lambda result: result.ends[role].peak / 2**20


def latency(index: int) -> Of:
    """Return what takes a percentile at half of the saturation, milliseconds."""
    return lambda result: half(result).percentiles[index] / 1000


def half(result: Result) -> Step:
    """Return the step at half of the saturation."""
    return next(step for step in result.steps if step.share == HALF)


def bound_first(result: Result) -> tuple[str, float]:
    """Return whose busiest thread fills a core first, and at how many events a second."""
    role = max(result.ends, key=lambda role: result.ends[role].busiest)
    return role, 1e6 / result.ends[role].busiest


def occupied(result: Result, cores: int) -> float:
    """Return which share of the processor all processes had at saturation."""
    return result.cpu() * result.rate / 1e6 / cores
