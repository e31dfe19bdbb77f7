"""What the figures say: tables and sentences, for the document and the terminal.

Rules of this file: pure; nothing here knows a figure. A sentence is written only if what
it compares was measured, and says what was found, whichever way that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stream import figures, sentences
from stream.bars import judge
from stream.plan import WINDOW
from stream.results import ROLES, Record, Result
from stream.ways import WAYS, Way

_COLUMNS = (
    "way",
    "events a second",
    "of CURVE",
    "us: publisher",
    "proxy",
    "subscriber",
    "ms: p50",
    "p99",
    "p99.9",
    "MiB: publisher, proxy, subscriber",
    "bound first, at events a second",
)


def head(record: Record) -> str:
    """Return what the figures are of."""
    return (
        f"{record.machine}; {record.cores} cores, {record.rounds} rounds; {record.events}; "
        f"{WINDOW:,} events on their way at most"
    )


def document(record: Record) -> list[str]:
    """Return all lines of the block."""
    lines = [f"{head(record)}.", ""]
    lines += bar_table(record.results)
    lines += ["", "What is slower than what, and why:", ""]
    lines += [f"- {one}" for one in sentences.compare(record)]
    lines += ["", "When not to use this:", ""]
    lines += [f"- {one}" for one in sentences.warn(record.results)]
    for many in sentences.numbers(record.results):
        lines += ["", f"To {many} subscribers:" if many > 1 else "To one subscriber:", ""]
        lines += table(record.results, many)
    if record.missing:
        lines += ["", "Not measured:", "", *(f"- {one}." for one in record.missing)]
    return lines


def bar_table(results: Sequence[Result]) -> list[str]:
    """Return the table of the bars."""
    rows = [f"| {one.what} | {one.figure} | {one.bar} | {one.word} |" for one in judge(results)]
    return ["| what | median (min to max) | bar | |", "|---|---|---|---|", *rows]


def table(results: Sequence[Result], many: int) -> list[str]:
    """Return the table of all ways to so many subscribers."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" + "|---:" * (len(_COLUMNS) - 2) + "|---|"]
    ways = [way for way in WAYS if figures.find(results, way.name, many)]
    return lines + [f"| {' | '.join(_cells(results, way, many))} |" for way in ways]


def _cells(results: Sequence[Result], way: Way, many: int) -> Iterator[str]:
    def median(of: figures.Of, form: str) -> str:
        return format(figures.median(results, way.name, many, of), form)

    yield way.label
    yield median(figures.rate, ",.0f")
    beside = figures.ratios(results, (way.name, "curve"), many, figures.rate)
    yield f"{figures.spread(beside).middle:.2f}" if beside else ""
    for role in ROLES:
        yield median(figures.cpu_of(role), ".2f")
    for index in range(3):
        yield median(figures.latency(index), ".2f")
    yield ", ".join(median(figures.peak_of(role), ".0f") for role in ROLES)
    role = bound_role(results, way.name, many)
    yield f"{role}, {median(lambda one: figures.bound_first(one)[1], ',.0f')}"


def bound_role(results: Sequence[Result], way: str, many: int) -> str:
    """Return who was bound first in most rounds."""
    roles = [figures.bound_first(one)[0] for one in figures.find(results, way, many).values()]
    return max(ROLES, key=roles.count)
