"""What refusing costs, in multiples of opening: time, and memory while it goes on.

Rules of this file: every figure is a ratio of two loops that run in turn, in one process:
one over inputs that are refused, one over good messages of about as many bytes. Each
input is met once. Memory is counted apart, by tracemalloc, after as many inputs again have
warmed all tables up; the peak has what one input needs, too. Last a valid sender begins a
stream with each of a million envelopes, made in chunks: there memory is that of the process.

Run: ``make bench``, or ``python benchmarks/flood.py --help``.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import multiprocessing
import random
import statistics
import sys
import tracemalloc
from array import array
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

from document import machine, write
from growth import MEMORY_BAR as GROWTH_BAR
from growth import resident

from envelope import Identity, Opener, Peer, Policy, RejectedError, Sealer, TrustStore, clock
from envelope.codec import decode_object, encode_object
from envelope.replay import MemoryReplayStore

CONTEXT: Final = "flood"
COUNT: Final = 2000
"""Inputs of a round."""
SMALL, LARGE = 256, 2**14
MAX_RECIPIENTS: Final = 256
ENTRY: Final = 16
OPENED: Final = "accepted"
"""Not refused: what a peer does that has the right to."""
BAR_BEFORE: Final = 0.25
"""Of opening, for what falls before the signature."""
BAR: Final = 2.0
"""Of opening, for what falls at the signature or behind it."""
MEMORY_BAR: Final = 16
"""Bytes that may be left for each input, on average: of an input kept anywhere, or of what
is kept for one, hundreds would be."""
ONCE: Final = 4096
"""Bytes that may be left of all together: a counter, a dict that grew."""

STREAMS: Final = 1_000_000
CHUNK: Final = 1000
"""Streams that are made and taken in before the next are."""
STEADY: Final = 100
"""Envelopes of one stream that a chunk is measured beside."""
PACE: Final = clock.SECOND // 1000
"""Between two envelopes that are stamped now, by the clock that the ends are given."""
LAG: Final = clock.SECOND
"""Behind now: fresh enough (SPEC 7.2), and before all that a full table remembers (8.4)."""
LATE: Final = "too_old"

Maker = Callable[[], Iterator[bytes]]
Act = Callable[[bytes], object]


class Kind(NamedTuple):
    """What comes in, and what it is measured beside."""

    what: str
    code: str
    make: Maker
    good: Maker
    bar: float
    read: bool = False
    """Whether the payload is read as an object after it was opened."""


class World:
    """A receiver, a peer that it knows, and whoever floods it."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.alice, self.bob, self.stranger = (Identity.generate() for _ in range(3))
        self.trust = TrustStore([Peer("alice", self.alice.public, contexts=[CONTEXT])])

    def opener(self, now: clock.Clock = clock.wall) -> Opener:
        """Return Bob with an empty memory."""
        return Opener(
            self.trust,
            context=CONTEXT,
            identity=self.bob,
            replay=MemoryReplayStore(first_life=True),
            clock=now,
        )

    def good(self, payload: bytes = bytes(SMALL)) -> Iterator[bytes]:
        """Yield what a peer sends."""
        sealer = Sealer(self.alice, context=CONTEXT)
        while True:
            yield sealer.seal(payload)

    def garbage(self) -> Iterator[bytes]:
        """Yield any bytes."""
        while True:
            yield self.chance.randbytes(SMALL + 144)

    def unknown(self) -> Iterator[bytes]:
        """Yield a new sender each time, in a sound form."""
        (sound,) = itertools.islice(self.good(), 1)
        while True:
            yield sound[:8] + self.chance.randbytes(16) + sound[24:]

    def forged(self) -> Iterator[bytes]:
        """Yield a new stream each time under the signature of something else.

        Random bytes for a signature would mostly be refused at a glance.
        """
        for sound in self.good():
            yield sound[:24] + self.chance.randbytes(16) + sound[40:]

    def streams(self) -> Iterator[bytes]:
        """Yield a new stream of a valid sender each time."""
        while True:
            yield Sealer(self.alice, context=CONTEXT).seal(bytes(SMALL))

    def key_blocks(self, count: int) -> Iterator[bytes]:
        """Yield the key block of so many recipients, Bob among them, and a forged signature."""
        for sound in self.forged():
            others = [self.chance.randbytes(ENTRY) for _ in range(count - 1)]
            block = b"".join(sorted([*others, self.bob.key_id]))
            yield sound[:6] + count.to_bytes(2, "big") + sound[8:80] + block + sound[-64:]

    def kinds(self) -> Iterator[Kind]:
        """Yield all."""
        block, small = bytes(MAX_RECIPIENTS * ENTRY), self.good
        yield Kind("garbage", "malformed", self.garbage, small, BAR_BEFORE)
        yield Kind("unknown senders", "unknown_sender", self.unknown, small, BAR_BEFORE)
        yield Kind("forged signatures of a known sender", "bad_signature", self.forged, small, BAR)
        yield Kind("a stream for each message, by a peer", OPENED, self.streams, small, BAR)
        yield Kind(
            f"key blocks of {MAX_RECIPIENTS} recipients, forged",
            "bad_signature",
            lambda: self.key_blocks(MAX_RECIPIENTS),
            lambda: self.good(block),
            BAR,
        )
        yield Kind(
            f"key blocks of {4 * MAX_RECIPIENTS} recipients",
            "malformed",
            lambda: self.key_blocks(4 * MAX_RECIPIENTS),
            lambda: self.good(block * 4),
            BAR_BEFORE,
        )
        objects = encode_object(list(range(32)) * (LARGE // 32))
        bombs = {
            "nested": b"\x91" * len(objects),
            "that announce 2^32 - 1 elements": b"\xdd" + b"\xff" * 4 + bytes(len(objects) - 5),
            "that go wrong at the last byte": objects[:-1] + b"\xc1",
        }
        for what, bomb in bombs.items():
            yield Kind(
                f"objects {what}, by a peer",
                "malformed",
                lambda bomb=bomb: self.good(bomb),  # type: ignore[misc]  # a default binds it
                lambda: self.good(objects),
                BAR,
                read=True,
            )


def receiver(world: World, kind: Kind) -> tuple[Act, dict[str, int]]:
    """Return what takes an input in, and the counts of what came of them."""
    return taker(world.opener(), read=kind.read)


def taker(opener: Opener, *, read: bool = False) -> tuple[Act, dict[str, int]]:
    """Return what an opener takes an input in by, and the counts of what came of them."""
    counts: dict[str, int] = {}

    def act(data: bytes) -> None:
        try:
            payload = opener.open(data).payload
            if read:
                decode_object(payload)
        except RejectedError as error:
            counts[error.code] = counts.get(error.code, 0) + 1
        else:
            counts[OPENED] = counts.get(OPENED, 0) + 1

    return act, counts


def seconds(world: World, kind: Kind, make: Maker, count: int, code: str) -> float:
    """Return what each of so many inputs takes; all must come to the one end."""
    inputs = list(itertools.islice(make(), count))
    act, counts = receiver(world, kind)
    gc.collect()
    took = _time(act, inputs)
    if counts != {code: count}:
        raise SystemExit(f"{kind.what}: {counts}, and not {code}")
    return took


def ratios(world: World, kind: Kind, rounds: int, count: int) -> list[float]:
    """Return the ratio of each round; each goes first in half of them."""
    found = []
    for number in range(rounds):
        order = [(kind.make, kind.code), (kind.good, OPENED)]
        turn = order if number % 2 else order[::-1]
        took = {make: seconds(world, kind, make, count, code) for make, code in turn}
        found.append(took[kind.make] / took[kind.good])
    return found


class Memory(NamedTuple):
    """Bytes: most while it went on, and what was left at the end."""

    peak: int
    kept: int


def memory(world: World, kind: Kind, count: int) -> Memory:
    """Return what so many inputs need, after as many before them."""
    act, _ = receiver(world, kind)
    made = list(itertools.islice(kind.make(), 2 * count))
    tracemalloc.start()
    try:
        for data in made[:count]:
            act(data)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for data in made[count:]:
            act(data)
        peak = tracemalloc.get_traced_memory()[1]
        gc.collect()
        return Memory(peak - before, tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()


def table(rounds: int, count: int) -> tuple[list[str], bool]:
    """Measure all; return the lines of the table, and whether every bar holds."""
    lines = [
        "| what comes in | verdict | x opening, median (min to max) | bar | peak | kept | |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    good = True
    world = World()
    for kind in world.kinds():
        # A large input takes long: fewer of them say as much.
        some = count // 50 if kind.read else count
        found = ratios(world, kind, rounds, some)
        need = memory(world, kind, some)
        holds = statistics.median(found) <= kind.bar and need.kept <= MEMORY_BAR * some + ONCE
        good = good and holds
        lines.append(
            f"| {kind.what} | {kind.code} "
            f"| {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f}) "
            f"| {kind.bar} | {need.peak / 1024:.0f} KiB | {max(0, need.kept) / some:.1f} "
            f"| {'holds' if holds else 'MISSED'} |"
        )
        print(lines[-1], flush=True)
    return lines, good


class Chunk(NamedTuple):
    """What a valid sender says until a time: streams of one envelope each, and one stream."""

    now: int
    new: list[bytes]
    late: list[bytes]
    steady: list[bytes]


def speak(line: Connection, secret: str, now: int) -> None:
    """Send a chunk for each request; in a process of its own, for it remembers its streams."""
    alice = Identity.parse(secret)
    payload = bytes(SMALL)

    def sealer(lag: int = 0) -> Sealer:
        return Sealer(alice, context=CONTEXT, clock=lambda: now - lag)

    one = sealer()
    while line.recv():
        new, late = [], []
        for _ in range(CHUNK // 2):
            now += PACE
            new.append(sealer().seal(payload))
            late.append(sealer(LAG).seal(payload))
        line.send(Chunk(now, new, late, [one.seal(payload) for _ in range(STEADY)]))


class Siege:
    """A valid sender begins a stream with each envelope; every second one is stamped late.

    Attributes:
        counts: what came of all.
        took: seconds for each of those accepted and refused, chunk by chunk.
        beside: the same in multiples of an envelope of one stream, which another opener
            takes in.
        sizes: bytes of the process and objects of Python, after the first chunk and each tenth.
    """

    def __init__(self, world: World) -> None:
        self._alice = world.alice.export()
        self._now = clock.wall()
        self._act, self.counts = taker(world.opener(lambda: self._now))
        self._act_beside, self._counts_beside = taker(world.opener(lambda: self._now))
        # Arrays: what is counted here must not count as objects that were left.
        self.took = {OPENED: array("d"), LATE: array("d")}
        self.beside = {OPENED: array("d"), LATE: array("d")}
        self.sizes: list[tuple[int, int]] = []

    def hold(self, count: int) -> None:
        """Take in so many; half must be accepted, and half refused."""
        chunks = max(2, count // CHUNK)
        spawning = multiprocessing.get_context("spawn")
        line, there = spawning.Pipe()
        sender = spawning.Process(target=speak, args=(there, self._alice, self._now), daemon=True)
        sender.start()
        there.close()  # So that a sender that dies ends the waiting for it.
        line.send(chunks)
        for done in range(1, chunks + 1):
            chunk = line.recv()
            line.send(chunks - done)  # The next is made while this is taken in.
            self._take(chunk)
            del chunk  # Or there were two while the next one comes.
            if done == 1 or done % max(1, chunks // 10) == 0:
                gc.collect()
                self.sizes.append((resident(), sys.getallocatedblocks()))
        sender.join()
        half = chunks * CHUNK // 2
        counts = self.counts, self._counts_beside
        if counts != ({OPENED: half, LATE: half}, {OPENED: chunks * STEADY}):
            raise SystemExit(f"a stream for each envelope: {counts}, and not {half:,} of each")

    def _take(self, chunk: Chunk) -> None:
        self._now = chunk.now
        floor = _time(self._act_beside, chunk.steady)
        for code, inputs in ((OPENED, chunk.new), (LATE, chunk.late)):
            took = _time(self._act, inputs)
            self.took[code].append(took)
            self.beside[code].append(took / floor)


def _time(act: Act, inputs: list[bytes]) -> float:
    """Return the seconds that each takes."""
    start = perf_counter()
    for data in inputs:
        act(data)
    return (perf_counter() - start) / len(inputs)


def siege(count: int) -> tuple[list[str], bool]:
    """Return the lines about so many streams of one sender, and whether every bar holds."""
    held = Siege(World())
    held.hold(count)
    return report(held)


def report(held: Siege) -> tuple[list[str], bool]:
    """Return the lines about what was measured, and whether every bar holds."""
    half = held.counts[OPENED]
    rows = []
    for what, code, bar in (
        (f"the {half:,} stamped now", OPENED, BAR),
        (f"the {half:,} stamped {LAG / clock.SECOND:g} s late", LATE, BAR_BEFORE),
    ):
        ratios = held.beside[code]
        tenth = len(ratios) // 10 or 1
        first, last = statistics.median(ratios[:tenth]), statistics.median(ratios[-tenth:])
        each = statistics.median(held.took[code]) * 1e6
        figure = f"{first:.3f} at first, {last:.3f} at last; {each:.1f} us each"
        rows.append((f"{what}: {code}, x opening", figure, bar, max(first, last) <= bar))
    (memory, objects), *later = held.sizes
    for what, before, after in (
        ("memory of the process", memory, [one for one, _ in later]),
        ("objects of Python", objects, [one for _, one in later]),
    ):
        ratio = max(after) / before
        figure = f"{ratio:.3f}"
        rows.append((f"{what}, x that after {CHUNK:,}", figure, GROWTH_BAR, ratio <= GROWTH_BAR))
    introduction = (
        f"One valid sender, {2 * half:,} envelopes, each of another stream, made in chunks of "
        f"{CHUNK:,} elsewhere. A receiver keeps {Policy().max_streams} streams. Times are "
        "medians, of the first and the last tenth; of memory the most after any tenth counts."
    )
    lines = [introduction, "", "| what | figure | bar | |", "|---|---|---:|---|"]
    for what, figure, bar, holds in rows:
        lines.append(f"| {what} | {figure} | {bar} | {'holds' if holds else 'MISSED'} |")
    return lines, all(holds for *_, holds in rows)


def main() -> int:
    """Measure, print, and write the table into a document if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=COUNT, help="inputs of a round")
    parser.add_argument("--streams", type=int, default=STREAMS, help="of one sender")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    versions = f"{machine()}; {options.rounds} rounds of {options.count:,} inputs"
    print(versions)
    # First, while there is nothing else in this process.
    after, held = siege(options.streams)
    print(*after, sep="\n", flush=True)
    lines, good = table(options.rounds, options.count)
    if options.write:
        start = f"{versions} (of objects a fiftieth)."
        write(options.write, "flood", [start, "", *lines, "", *after])
    return 0 if good and held else 1


if __name__ == "__main__":
    sys.exit(main())
