"""Sentences from figures: which way is slower than which, and when another one is better.

Rules of this file: pure; no figure stands here. A sentence appears only if what it
compares was measured, and says what was found, whichever way that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from stream import figures
from stream.bars import SEALED
from stream.results import ROLES, Record, Result, whole
from stream.ways import BY_NAME, WAYS

TUNNELS = ("stunnel", "stunnel-one", "curve", "curve-one", "dtls")
SINGLE = ("signed", "sealed")
RELAY, LARGE, CURVE, STUNNEL = "relay", "sealed-large", "curve", "stunnel"


def compare(record: Record) -> Iterator[str]:
    """Return what is slower than what, and what binds it."""
    results = record.results
    for many in numbers(results):
        yield f"{_to(many)}, from fast to slow: {'; '.join(_order(results, many))}."
    for many in numbers(results):
        found = list(figures.find(results, SEALED, many).values())
        if found:
            yield _bound(found, many, record.cores)
    for way in (CURVE, STUNNEL, "dtls"):
        yield from _proxy(results, way)


def warn(results: Sequence[Result]) -> Iterator[str]:
    """Return when something else is better."""
    for many in numbers(results):
        yield from _slower(results, many)
    for way in SINGLE:
        yield from _single(results, way)
    yield from _latency(results)
    yield from _half(results)
    yield from _large(results)
    yield from _relay(results)


def numbers(results: Sequence[Result]) -> list[int]:
    """Return the numbers of subscribers that were measured."""
    return sorted({one.subscribers for one in results})


def listed(parts: Sequence[str]) -> str:
    """Return parts as a sentence has them."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _each(
    results: Sequence[Result], form: str, value: Callable[[int], float | None]
) -> tuple[str, str]:
    """Return the values that there are, and for how many subscribers each is."""
    found = {many: value(many) for many in numbers(results)}
    known = {many: one for many, one in found.items() if one is not None}
    texts = listed([format(one, form) for one in known.values()])
    plural = "subscriber" if list(known) == [1] else "subscribers"
    return texts, f"{listed([str(many) for many in known])} {plural}"


def _ratio(
    results: Sequence[Result], ways: tuple[str, str], of: figures.Of
) -> Callable[[int], float | None]:
    def value(many: int) -> float | None:
        found = figures.ratios(results, ways, many, of)
        return figures.spread(found).middle if found else None

    return value


def _to(many: int) -> str:
    return "To one subscriber" if many == 1 else f"To {many} subscribers"


def _label(way: str) -> str:
    return BY_NAME[way].label


def _order(results: Sequence[Result], many: int) -> list[str]:
    rates = {way.label: figures.median(results, way.name, many, figures.rate) for way in WAYS}
    known = {label: rate for label, rate in rates.items() if rate is not None}
    return sorted(known, key=lambda label: -known[label])


def _bound(found: Sequence[Result], many: int, cores: int) -> str:
    busy = figures.spread([figures.occupied(one, cores) for one in found]).middle
    limits = {
        role: figures.spread([1e6 / one.ends[role].busiest for one in found]).middle
        for role in ROLES
    }
    ordered = sorted(limits, key=lambda role: limits[role])
    first, *others = (f"the {role} at {limits[role]:,.0f}" for role in ordered)
    return (
        f"{_to(many)}, {_label(SEALED)}: at saturation all processes together had {busy:.0%} of "
        f"the {cores} cores. If each thread had a core, the first to be bound by it would be "
        f"{first} events a second; {listed(others)}."
    )


def _proxy(results: Sequence[Result], way: str) -> Iterator[str]:
    texts, subscribers = _each(
        results, ".1f", _ratio(results, (way, SEALED), figures.cpu_of("proxy"))
    )
    if texts:
        yield (
            f"With {_label(way)} the proxy computes {texts} times as much for an event as with "
            f"{_label(SEALED)} ({subscribers}), where it has no key and passes bundles on."
        )


def _slower(results: Sequence[Result], many: int) -> Iterator[str]:
    parts = []
    for way in TUNNELS:
        ratio = _ratio(results, (SEALED, way), figures.rate)(many)
        if ratio is not None and ratio < 1:
            parts.append(f"{_label(way)} ({ratio:.2f} of its rate)")
    if parts:
        yield (
            f"{_to(many)}, {_label(SEALED)} is slower than {listed(parts)}. If the proxy may "
            "read and change everything, a tunnel is cheaper there."
        )


def _single(results: Sequence[Result], way: str) -> Iterator[str]:
    texts, subscribers = _each(results, ".2f", _ratio(results, (way, CURVE), figures.rate))
    if texts:
        yield (
            f"An envelope for each event ({_label(way)}) brings {texts} of CURVE's rate "
            f"({subscribers}): a stream of events wants bundles."
        )


def _latency(results: Sequence[Result]) -> Iterator[str]:
    def wait(way: str) -> Callable[[int], float | None]:
        return lambda many: figures.median(results, way, many, figures.latency(0))

    ours, subscribers = _each(results, ".1f", wait(SEALED))
    theirs = [
        f"{_each(results, '.1f', wait(way))[0]} ms with {_label(way)}"
        for way in (STUNNEL, CURVE)
        if _each(results, ".1f", wait(way))[0]
    ]
    if ours and theirs:
        yield (
            f"Events wait for company in a bundle. At half of the saturation, half of them were "
            f"there within {ours} ms with {_label(SEALED)} ({subscribers}), {listed(theirs)}. "
            "`Bundling(max_delay=...)` says how long they may wait."
        )


def _half(results: Sequence[Result]) -> Iterator[str]:
    def more(many: int) -> float | None:
        runs = figures.find(results, SEALED, many).values()
        found = [whole(figures.half(one).ends, many) / one.cpu() for one in runs]
        return figures.spread(found).middle if found else None

    texts, subscribers = _each(results, ".2f", more)
    if texts:
        yield (
            f"The slower the stream, the smaller its bundles: with {_label(SEALED)}, at half of "
            f"the saturation, all ends together compute {texts} times as much for an event as at "
            f"saturation ({subscribers})."
        )


def _large(results: Sequence[Result]) -> Iterator[str]:
    rates, subscribers = _each(results, ".2f", _ratio(results, (LARGE, SEALED), figures.rate))
    waits, _ = _each(results, ".2f", _ratio(results, (LARGE, SEALED), figures.latency(0)))
    if rates:
        yield (
            f"With {_label(LARGE)}, the rate is {rates} times that with {_label(SEALED)}, and the "
            f"median latency at half of it {waits} times ({subscribers})."
        )


def _relay(results: Sequence[Result]) -> Iterator[str]:
    texts, subscribers = _each(results, ".2f", _ratio(results, (RELAY, STUNNEL), figures.rate))
    if texts:
        yield (
            f"Relays bring {texts} of stunnel's rate ({subscribers}): they are for programs that "
            "cannot be changed behind a proxy that is not to be believed, and not for speed."
        )
