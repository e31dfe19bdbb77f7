"""What refusing costs, in multiples of opening: time, and memory while it goes on.

Rules of this file: every figure is a ratio of two loops that run in turn, in one process:
one over inputs that are refused, one over good messages of about as many bytes. Each
input is met once. Memory is counted apart, by tracemalloc, after as many inputs again have
warmed all tables up; the peak has what one input needs, too.

Run: ``make bench``, or ``python benchmarks/flood.py --help``.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import random
import statistics
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

from document import machine, write

from envelope import Identity, Opener, Peer, RejectedError, Sealer, TrustStore
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

    def opener(self) -> Opener:
        """Return Bob with an empty memory."""
        return Opener(
            self.trust,
            context=CONTEXT,
            identity=self.bob,
            replay=MemoryReplayStore(first_life=True),
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
    opener = world.opener()
    counts: dict[str, int] = {}

    def act(data: bytes) -> None:
        try:
            payload = opener.open(data).payload
            if kind.read:
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
    start = perf_counter()
    for data in inputs:
        act(data)
    took = (perf_counter() - start) / count
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


def main() -> int:
    """Measure, print, and write the table into a document if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=COUNT, help="inputs of a round")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    versions = f"{machine()}; {options.rounds} rounds of {options.count:,} inputs"
    print(versions)
    lines, good = table(options.rounds, options.count)
    if options.write:
        write(options.write, "flood", [f"{versions} (of objects a fiftieth).", "", *lines])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
