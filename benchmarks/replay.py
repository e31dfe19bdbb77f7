"""What replay memory costs: time for each envelope, bytes for each stream, a restart.

Rules of this file: as in ratios.py, whatever is compared runs in turn in one process.
The durable store writes to the disk that TMPDIR is on, with fsync.

Run: ``make bench``, or ``python benchmarks/replay.py --help``.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, sleep
from typing import NamedTuple

import nacl.bindings as raw
from document import machine, write
from local_redis import LocalRedis

from envelope import Identity, Opener, Peer, Policy, RejectedError, Sealer, TrustStore, clock
from envelope.replay import (
    MemoryReplayStore,
    RedisReplayStore,
    ReplayGuard,
    ReplayStore,
    SQLiteReplayStore,
    Window,
)

CONTEXT = "bench"
MESSAGES = 100_000
STREAMS = 1000
SLICE = 2000
BATCH = 64
MANY = 100_000
MARKS = 200_000
SIZES = (64, 1024, 4096, 65_536)


class Line(NamedTuple):
    """One line of the table."""

    what: str
    figure: str
    bar: str
    holds: bool


def verification() -> float:
    """Return the seconds of one signature verification, over distinct messages."""
    public, secret = raw.crypto_sign_keypair()
    signed = [raw.crypto_sign(raw.randombytes(256), secret) for _ in range(4000)]
    start = perf_counter()
    for one in signed:
        raw.crypto_sign_open(one, public)
    return (perf_counter() - start) / len(signed)


def windows(rounds: int) -> Iterator[Line]:
    """Yield what marking costs in the window, for sequences that jump and fall back."""
    order = [n + (-2 if n % 2 else 1) for n in range(4, MARKS)]
    for size in SIZES:
        ratios, best = [], 1.0
        for _ in range(rounds):
            floor = verification()
            window = Window(size)
            start = perf_counter()
            for sequence in order:
                if not window.has(sequence):
                    window.add(sequence)
            taken = (perf_counter() - start) / len(order)
            ratios.append(taken / floor)
            best = min(best, taken)
        ratio = statistics.median(ratios)
        yield Line(
            f"window of {size}: look and mark",
            f"{best * 1e6:.2f} us, {ratio:.4f} verifications",
            "1 us or 0.02",
            best <= 1e-6 or ratio <= 0.02,
        )


def through(streams: int, rounds: int, folder: Path) -> Line:
    """Return what opening through the file costs, against memory."""
    alice, bob = Identity.generate(), Identity.generate()
    trust = TrustStore([Peer("alice", alice.public, contexts=[CONTEXT])])
    sealers = [Sealer(alice, context=CONTEXT) for _ in range(streams)]
    payload = b"x" * 256

    def opener(store: ReplayStore) -> Opener:
        policy = Policy(max_age=3600, max_streams=1024)
        return Opener(trust, context=CONTEXT, identity=bob, replay=store, policy=policy)

    def run(one: Opener, slice_: list[bytes]) -> float:
        start = perf_counter()
        for data in slice_:
            one.open(data)
        return perf_counter() - start

    ratios = []
    for number in range(rounds):
        sent = [sealers[n % streams].seal(payload) for n in range(MESSAGES)]
        gc.collect()
        # Slices in turn: the machine's speed changes within seconds. Twice the time
        # goes by for each, so the file gets twice the commits that it would alone.
        memory = opener(MemoryReplayStore(first_life=True))
        store = SQLiteReplayStore(folder / f"{streams}-{number}.db", first_life=True)
        disk = opener(store)
        times = [0.0, 0.0]
        for at in range(0, MESSAGES, SLICE):
            for which in (0, 1) if at // SLICE % 2 else (1, 0):
                times[which] += run((memory, disk)[which], sent[at : at + SLICE])
        start = perf_counter()
        store.close()
        ratios.append((times[1] + perf_counter() - start) / times[0])
    ratio = statistics.median(ratios)
    return Line(
        f"open {MESSAGES:,} of {streams:,} streams through SQLite",
        f"{ratio:.3f} of memory ({min(ratios):.3f} to {max(ratios):.3f})",
        "1.05",
        ratio <= 1.05,
    )


def through_server(rounds: int, folder: Path) -> Iterator[Line]:
    """Yield what opening through a server on this machine costs, against memory."""
    # A server that knows nothing refuses for twice max_future: little here.
    brief = 0.01
    bob = Identity.generate()
    senders = [Identity.generate() for _ in range(BATCH)]
    peers = [Peer(f"p{n}", one.public, contexts=[CONTEXT]) for n, one in enumerate(senders)]
    trust = TrustStore(peers)

    def opener(store: ReplayStore) -> Opener:
        policy = Policy(max_age=3600, max_streams=1024, max_future=brief)
        return Opener(trust, context=CONTEXT, identity=bob, replay=store, policy=policy)

    with LocalRedis(folder) as server:
        for what, several, is_batch, bar in (
            (f"batches of {BATCH} of one sender, one call", 1, True, 1.2),
            (f"batches of {BATCH} of {BATCH} senders, {BATCH} calls in one go", BATCH, True, 0),
            ("one by one", 1, False, 0),
        ):
            memory = opener(MemoryReplayStore(first_life=True, max_future=brief))
            shared = opener(RedisReplayStore(server.url, max_future=brief))
            sleep(0.05)
            sealers = [Sealer(one, context=CONTEXT) for one in senders[:several]]
            ratios = [against(memory, shared, sealers, is_batch=is_batch) for _ in range(rounds)]
            ratio, usual = (statistics.median(one) for one in zip(*ratios, strict=True))
            yield Line(
                f"open through Redis: {what}",
                f"{ratio:.3f} of memory by minima, {usual:.3f} by medians",
                f"{bar}" if bar else "stated",
                not bar or ratio <= bar,
            )


def against(
    memory: Opener, shared: Opener, sealers: list[Sealer], *, is_batch: bool
) -> tuple[float, float]:
    """Return a batch's time through a shared store, of that through memory.

    By the minima, which the machine's own waking up disturbs least, and by the medians.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(250):
        sent = [sealers[n % len(sealers)].seal(b"x" * 256) for n in range(BATCH)]
        arrivals = [[data] for data in sent]
        start = perf_counter()
        for data in sent:
            memory.open(data)
        times[0].append(perf_counter() - start)
        start = perf_counter()
        if is_batch:
            for result in shared.open_each(arrivals):
                assert not isinstance(result, RejectedError), result
        else:
            for data in sent:
                shared.open(data)
        times[1].append(perf_counter() - start)
    return min(times[1]) / min(times[0]), statistics.median(times[1]) / statistics.median(times[0])


def fill(guards: Callable[[int], ReplayGuard]) -> None:
    """Mark one envelope in each of very many streams; the smallest window."""
    now = clock.wall()
    for number in range(MANY):
        guards(number // 1000).mark(
            number.to_bytes(16, "big"),
            0,
            now,
            full_at=1024,
            window=64,
            expected=False,
            forget_before=-1,
        )


def memory_of_streams() -> Line:
    """Return the bytes of one stream beside its bitmap."""
    store = MemoryReplayStore(first_life=True)
    gc.collect()
    tracemalloc.start()
    fill(lambda number: store.guard("home", number.to_bytes(16, "big"), CONTEXT))
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    each = size / MANY - 64 / 8
    return Line(
        f"memory of each of {MANY:,} streams, beside its bitmap",
        f"{each:.0f} bytes",
        "512",
        each <= 512,
    )


def recovery(folder: Path) -> Line:
    """Return how long a start with very many streams takes."""
    path = folder / "many.db"
    with SQLiteReplayStore(path, first_life=True) as store:
        fill(lambda number: store.guard("home", number.to_bytes(16, "big"), CONTEXT))
    gc.collect()
    start = perf_counter()
    store = SQLiteReplayStore(path)
    taken = perf_counter() - start
    store.close()
    return Line(f"start with {MANY:,} streams on disk", f"{taken:.2f} s", "1 s", taken < 1)


def main() -> int:
    """Measure, print, and write the table into a document if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path, metavar="DOCUMENT")
    options = parser.parse_args()
    head = f"{machine()}; {options.rounds} rounds"
    print(head)
    lines = ["| what | figure | bar | |", "|---|---|---|---|"]
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def all_lines() -> Iterator[Line]:
            yield from windows(options.rounds)
            yield through(1, options.rounds, folder)
            yield through(STREAMS, options.rounds, folder)
            yield from through_server(options.rounds, folder)
            yield memory_of_streams()
            yield recovery(folder)

        for line in all_lines():
            good = good and line.holds
            verdict = "holds" if line.holds else "MISSED"
            lines.append(f"| {line.what} | {line.figure} | {line.bar} | {verdict} |")
            print(lines[-1], flush=True)
    if options.write:
        write(options.write, "replay", [f"{head}.", "", *lines])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
