"""What is claimed: bars for the ratios that speak for security at the message.

Rules of this file: a bar names two ways and the number of subscribers, or one way and a
rate. What was not measured is told, and neither holds nor is missed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stream import figures
from stream.results import Result
from stream.ways import BY_NAME

SEALED, SIGNED, LARGE = "sealed-bundled", "signed-bundled", "sealed-large"
TENTH = 0.1


class Bar(NamedTuple):
    """One claim."""

    ours: str
    theirs: str | None
    """None: the bar is events a second."""
    subscribers: int
    bound: float
    is_proxy: bool = False
    """Whether it is the proxy's processor time that is compared, and the bound the most."""


class Verdict(NamedTuple):
    """What became of it."""

    what: str
    figure: str
    bar: str
    holds: bool | None
    """None: not measured."""

    @property
    def word(self) -> str:
        """Return the verdict in a word."""
        if self.holds is None:
            return "not measured"
        return "holds" if self.holds else "MISSED"


RATES = (
    (1, "curve", 2.8),
    (1, "stunnel", 1.4),
    (1, "stunnel-one", 1.15),
    (4, "curve", 3.0),
    (4, "stunnel", 1.35),
    (4, "stunnel-one", 1.1),
)
"""To how many, beside whom, and how many times as many events a second at least."""


def _sealed(way: str) -> Iterator[Bar]:
    """Yield what one way to seal has to hold: all of it, or it is no answer."""
    yield Bar(way, None, 1, 300_000)
    for subscribers, theirs, bound in RATES:
        yield Bar(way, theirs, subscribers, bound)
    for subscribers in (1, 4, 16):
        yield Bar(way, "curve", subscribers, TENTH, is_proxy=True)


BARS = (*_sealed(LARGE), *_sealed(SEALED), Bar(SIGNED, "stunnel", 4, 1.5))


def judge(results: Sequence[Result]) -> Iterator[Verdict]:
    """Return what became of each bar."""
    for bar in BARS:
        yield _absolute(bar, results) if bar.theirs is None else _relative(bar, results)


def _name(bar: Bar) -> str:
    return f"{BY_NAME[bar.ours].label}, to {bar.subscribers}"


def _absolute(bar: Bar, results: Sequence[Result]) -> Verdict:
    found = figures.median(results, bar.ours, bar.subscribers, figures.rate)
    return Verdict(
        f"{_name(bar)}: events a second",
        "" if found is None else f"{found:,.0f}",
        f"{bar.bound:,.0f}",
        None if found is None else found >= bar.bound,
    )


def _relative(bar: Bar, results: Sequence[Result]) -> Verdict:
    assert bar.theirs is not None
    of = figures.cpu_of("proxy") if bar.is_proxy else figures.rate
    found = figures.ratios(results, (bar.ours, bar.theirs), bar.subscribers, of)
    theirs = BY_NAME[bar.theirs].label
    what = f"{_name(bar)}: {'processor time at the proxy' if bar.is_proxy else 'events a second'}"
    wanted = f"{bar.bound:g} x {theirs}"
    if not found:
        return Verdict(what, "", wanted, None)
    middle, least, most = figures.spread(found)
    holds = middle <= bar.bound if bar.is_proxy else middle >= bar.bound
    digits = 3 if bar.is_proxy else 2
    text = f"{middle:.{digits}f} x {theirs} ({least:.{digits}f} to {most:.{digits}f})"
    return Verdict(what, text, wanted, holds)
