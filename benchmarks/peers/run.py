"""Measures: every way takes its turn in every round, over every size of payload.

Rules of this file: what is measured is one loop of writes, whose results go away, and one
loop of reads of messages that fresh ends wrote before the clock. Time is that of this
process on its processor, since none of it is waiting, and what else a small machine does
must not count. How many messages fit into a loop is fixed before the first round, by the
time that a few take. Ends that cannot do a size are asked once, and the answer is kept.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import process_time
from typing import Any, NamedTuple

from nacl.utils import random

from peers.ways import NO, YES, Start, Way

SIZES = (64, 256, 4096, 65_536, 1_048_576)
TRIED_AT = 256
FEWEST = 9
"""Bundles, at least, which then share payloads; no two envelopes are the same."""
LOOP = 0.08
"""Seconds of a loop, about."""
MOST, LEAST = 2048, 4
"""Messages of a loop."""
POOL = 16 * 2**20
"""Bytes of distinct payloads of one size, at most."""


class Times(NamedTuple):
    """What one way took for one size: seconds for each message, of each round."""

    write: list[float]
    read: list[float]
    more: list[float]
    """Bytes of a message above its payload, on average."""


Results = dict[tuple[str, int], Times | str]
"""For each way and size what it took, or why it was not measured."""


class Ready(NamedTuple):
    """A way that is prepared."""

    way: Way
    start: Start


def prepare(ways: Iterable[Way]) -> tuple[list[Ready], dict[str, str]]:
    """Import and make keys; return what is ready, and why the others are not."""
    ready, reasons = [], {}
    for way in ways:
        try:
            start = way.prepare()
            attempt(way, start)
        except way.excused as error:
            reasons[way.name] = reason(error)
        else:
            ready.append(Ready(way, start))
    return ready, reasons


def reason(error: Exception) -> str:
    """Return why a way was not measured, in a table's cell."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    text = " ".join(str(error).split(";")[0].split()).replace("|", "/")
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__


def attempt(way: Way, start: Start) -> None:
    """Try what the table says of a way.

    Raises:
        SystemExit: it does something else.
    """
    item = payloads(way, [random(TRIED_AT) for _ in range(way.each)])[0]
    write, read = start()
    data = write(item)
    if not is_same(read(data), item):
        raise SystemExit(f"{way.name} reads something else than it wrote")
    if refuses(read, data) != (way.does.replayed == YES):
        raise SystemExit(f"{way.name}: whether it refuses a replay is not what the table says")
    write, read = start()
    if refuses(read, changed(write(item))) == (way.does.changed == NO):
        raise SystemExit(f"{way.name}: whether it refuses a change is not what the table says")


def is_same(read: Any, written: Any) -> bool:
    """Tell whether what was read, a payload or several, is what was written."""
    return bool((list(read) if isinstance(written, list) else read) == written)


def refuses(read: Callable[[Any], Any], data: Any) -> bool:
    """Tell whether reading raises."""
    try:
        read(data)
    except Exception:  # noqa: BLE001 (each has its own)
        return True
    return False


def changed(data: Any) -> Any:
    """Return a message with a bit changed in the middle of its longest frame."""
    if not isinstance(data, list):
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    longest = max(range(len(data)), key=lambda index: len(data[index]))
    return [changed(part) if index == longest else part for index, part in enumerate(data)]


def size_of(data: Any) -> int:
    """Return the bytes of a message, which may be a list of frames."""
    return sum(map(len, data)) if isinstance(data, list) else len(data)


def payloads(way: Way, pool: Sequence[bytes]) -> list[Any]:
    """Return what a way writes: payloads, or lists of them."""
    if way.each == 1:
        return list(pool)
    endless = itertools.cycle(pool)
    count = max(FEWEST, len(pool) // way.each)
    return [list(itertools.islice(endless, way.each)) for _ in range(count)]


class Plan(NamedTuple):
    """What one way does in each round with one size."""

    ready: Ready
    size: int
    items: list[Any]


def plan(ready: Ready, size: int, pool: Sequence[bytes]) -> Plan | str:
    """Decide how many messages a loop has; or return why the way cannot do this size."""
    way = ready.way
    items = payloads(way, pool)
    write, read = ready.start()
    try:
        if not is_same(read(write(items[0])), items[0]):
            return "it reads something else than it wrote"
        start = process_time()
        for item in items[1:3]:
            read(write(item))
        cost = (process_time() - start) / 4
    except way.excused as error:
        return reason(error)
    count = max(LEAST, min(MOST, int(LOOP / cost)))
    return Plan(ready, size, items[:count])


def turn(plan: Plan) -> tuple[float, float, float]:
    """Run both loops; return for one message the seconds of each, and the bytes it adds."""
    first, *items = plan.items
    count = len(items) * plan.ready.way.each
    write, _ = plan.ready.start()
    write(first)
    start = process_time()
    for item in items:
        write(item)
    writing = process_time() - start
    write, read = plan.ready.start()
    read(write(first))
    sent = [write(item) for item in items]
    start = process_time()
    for data in sent:
        read(data)
    reading = process_time() - start
    return writing / count, reading / count, sum(map(size_of, sent)) / count - plan.size


def plans(ready: Sequence[Ready], sizes: Sequence[int], results: Results) -> Iterator[list[Plan]]:
    """Yield the plans of each size; what cannot be done goes into the results."""
    for size in sizes:
        pool = [random(size) for _ in range(min(MOST, POOL // size))]
        made = []
        for one in ready:
            planned = plan(one, size, pool)
            if isinstance(planned, str):
                results[one.way.name, size] = planned
            else:
                made.append(planned)
                results[one.way.name, size] = Times([], [], [])
        yield made


def measure(
    ways: Sequence[Way], sizes: Sequence[int], rounds: int, tick: Callable[[str, int], None]
) -> Results:
    """Measure all.

    Args:
        ways: what to measure.
        sizes: of payloads.
        rounds: how often each takes its turn.
        tick: called after each turn, with a name and a size.
    """
    ready, reasons = prepare(ways)
    results: Results = {(name, size): why for name, why in reasons.items() for size in sizes}
    gc.collect()
    gc.freeze()  # What the peers' modules hold is not looked through while others run.
    try:
        for made in plans(ready, sizes, results):
            for one in made[:1]:
                turn(one)  # The first after a pause is slow, and counts for nothing.
            for number in range(rounds):
                take_turns(made if number % 2 == 0 else made[::-1], results, tick)
    finally:
        gc.unfreeze()
    return results


def take_turns(made: Sequence[Plan], results: Results, tick: Callable[[str, int], None]) -> None:
    """Give each way its turn, and add what it took to the results."""
    gc.collect()
    for one in made:
        writing, reading, more = turn(one)
        times = results[one.ready.way.name, one.size]
        assert isinstance(times, Times)
        times.write.append(writing)
        times.read.append(reading)
        times.more.append(more)
        tick(one.ready.way.name, one.size)
