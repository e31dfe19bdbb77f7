"""Whether cost stays flat: with senders, streams, windows, topics, key epochs and hours.

Rules of this file: every row compares opening in a small world with opening in a large
one, in turn, in one process, over envelopes that were sealed outside the clock. Each is
opened once. A ratio is taken round by round; the table shows the median, the smallest and
the largest.

Run: ``make bench``, or ``python benchmarks/growth.py --help``.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import nacl.bindings as raw
from document import machine, write

from envelope import Identity, Opener, Peer, Policy, Sealer, TrustStore, clock
from envelope.replay import MemoryReplayStore

CONTEXT = "growth"
BAR = 1.10
"""Of the small world's time: what caches of the processor may cost."""
MEMORY_BAR = 1.05
SENDERS = 100_000
EACH = 4000
"""Envelopes of a round."""
PAYLOAD = bytes(256)
EARLY, LATE = 100_000, 10_000_000
PER_BUNDLE = 128
STEP = clock.SECOND // 2
"""That time goes on with each bundle: eleven hours in all."""
LIFE = 7200
"""Bundles in the life of a sender: an hour, six key epochs."""

Arrival = tuple[bytes, tuple[bytes, ...]]
"""An envelope and its bound frames."""


@dataclass
class World:
    """A receiver, and what arrives there."""

    opener: Opener
    arrivals: Iterator[Arrival]

    def take(self, count: int) -> float:
        """Open so many; return the seconds for each."""
        some = list(itertools.islice(self.arrivals, count))
        assert len(some) == count
        opening = self.opener.open
        gc.collect()
        start = perf_counter()
        for data, bound in some:
            opening(data, bound=bound)
        return (perf_counter() - start) / count


def world(  # noqa: PLR0913 (what can grow)
    senders: int = 1,
    streams: int = 1,
    *,
    window: int = Policy().window,
    topics: int = 0,
    sealed: bool = False,
    speaking: int | None = None,
) -> World:
    """Return a world of so many senders, streams of each, and topics.

    Args:
        senders: that are trusted; those that speak take turns.
        streams: of each sender that speaks; each has its key epoch.
        window: of each stream.
        topics: that are bound in turn; 0 for none.
        sealed: whether to seal to the receiver.
        speaking: how many of them do; all by default.
    """
    bob = Identity.generate()
    people = [Identity.generate() for _ in range(senders)]
    trust = TrustStore(
        [Peer(f"s{number}", one.public, contexts=[CONTEXT]) for number, one in enumerate(people)]
    )
    opener = Opener(
        trust,
        context=CONTEXT,
        identity=bob,
        replay=MemoryReplayStore(first_life=True),
        policy=Policy(max_streams=max(64, streams), window=window, max_age=3600),
    )
    to = [bob.public] if sealed else []
    sealers = [
        Sealer(one, context=CONTEXT, to=to)
        for _ in range(streams)
        for one in people[: speaking or senders]
    ]
    names: list[tuple[bytes, ...]] = [(b"topic %d" % number,) for number in range(topics)] or [()]

    def arrivals() -> Iterator[Arrival]:
        for sealer, name in zip(itertools.cycle(sealers), itertools.cycle(names), strict=False):
            yield sealer.seal(PAYLOAD, bound=name), name

    made = World(opener, arrivals())
    # Each is met once: what the first envelope of a sender, stream or topic costs is apart.
    made.take(max(len(sealers), topics, EACH))
    return made


Pair = tuple[str, Callable[[], World], str, Callable[[], World]]

PAIRS: Sequence[Pair] = (
    (f"{SENDERS:,} trusted", lambda: world(SENDERS, speaking=1), "1 sender", world),
    (f"{SENDERS:,} senders in turn", lambda: world(SENDERS), "1 sender", world),
    ("1024 streams of one sender", lambda: world(1, 1024), "1 stream", world),
    ("window of 65,536", lambda: world(window=65_536), "window of 64", lambda: world(window=64)),
    ("256 topics in turn", lambda: world(topics=256), "1 topic", lambda: world(topics=1)),
    (
        "100 key epochs in turn",
        lambda: world(1, 100, sealed=True),
        "1 epoch",
        lambda: world(sealed=True),
    ),
)


def compare(pair: Pair, rounds: int) -> tuple[str, bool]:
    """Return the line of a pair, and whether its bar holds."""
    what, large, beside, small = pair
    one, other = large(), small()
    ours, floor = [], []
    for number in range(rounds):
        if number % 2:
            ours.append(one.take(EACH))
            floor.append(other.take(EACH))
        else:
            floor.append(other.take(EACH))
            ours.append(one.take(EACH))
    ratios = [a / b for a, b in zip(ours, floor, strict=True)]
    median = statistics.median(ratios)
    holds = median <= BAR
    return (
        f"| {what} | {beside} | {min(ours) * 1e6:.1f} | {min(floor) * 1e6:.1f} "
        f"| {median:.3f} ({min(ratios):.3f} to {max(ratios):.3f}) | {BAR:.2f} "
        f"| {'holds' if holds else 'MISSED'} |"
    ), holds


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def hours() -> Iterator[tuple[str, bool]]:
    """Yield the lines about a pair of ends that run for hours, by a clock that is handed in."""
    now = [clock.wall()]
    alice, bob = Identity.generate(), Identity.generate()
    trust = TrustStore([Peer("alice", alice.public, contexts=[CONTEXT])])
    opener = Opener(
        trust,
        context=CONTEXT,
        identity=bob,
        replay=MemoryReplayStore(first_life=True),
        clock=lambda: now[0],
    )
    bundle = [raw.randombytes(256) for _ in range(PER_BUNDLE)]
    figures: dict[int, tuple[int, int, float]] = {}
    sent, start, since = 0, perf_counter(), 0
    for number in itertools.count():
        if number % LIFE == 0:
            sealer = Sealer(alice, context=CONTEXT, to=[bob.public], clock=lambda: now[0])
        now[0] += STEP
        opener.open_bundle(sealer.seal_bundle(bundle))
        sent += PER_BUNDLE
        for mark in (EARLY, LATE):
            if sent >= mark > sent - PER_BUNDLE:
                each = (perf_counter() - start) / (sent - since)
                gc.collect()
                figures[mark] = resident(), sys.getallocatedblocks(), each
                start, since = perf_counter(), sent
        if sent >= LATE:
            break
    (memory, blocks, each), (more, further, later) = figures[EARLY], figures[LATE]
    for what, ratio, bar in (
        ("memory of the process", more / memory, MEMORY_BAR),
        ("objects of Python", further / blocks, MEMORY_BAR),
        ("time to seal and open one", later / each, BAR),
    ):
        holds = ratio <= bar
        yield f"| {what} | {ratio:.3f} | {bar:.2f} | {'holds' if holds else 'MISSED'} |", holds


def table(rounds: int) -> tuple[list[str], bool]:
    """Measure all; return the lines of both tables, and whether every bar holds."""
    # First, while there is nothing else in this process.
    after = list(hours())
    good = True
    passed = LATE // PER_BUNDLE * STEP / clock.SECOND / 3600
    lines = [
        "| opening with | beside | us | us beside | ratio, median (min to max) | bar | |",
        "|---|---|---:|---:|---|---:|---|",
    ]
    for pair in PAIRS:
        line, holds = compare(pair, rounds)
        print(line, flush=True)
        lines.append(line)
        good = good and holds
    introduction = (
        f"Two ends in one process, bundles of {PER_BUNDLE}, {passed:.0f} hours by the clock that "
        f"they are given, a new sender's process each hour: after {LATE:,} messages, by the "
        f"figure after {EARLY:,}."
    )
    lines += ["", introduction, "", "| what | ratio | bar | |", "|---|---:|---:|---|"]
    for line, holds in after:
        print(line, flush=True)
        lines.append(line)
        good = good and holds
    return lines, good


def main() -> int:
    """Measure, print, and write the tables into a document if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", type=Path, metavar="DOCUMENT")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    versions = (
        f"{machine()}; {options.rounds} rounds of {EACH} messages of {len(PAYLOAD)} bytes; "
        "times are minima"
    )
    print(versions)
    lines, good = table(options.rounds)
    if options.write:
        write(options.write, "growth", [f"{versions}.", "", *lines])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
