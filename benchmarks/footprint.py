"""What many senders cost: round trips to a server, bytes in a process and on a server.

Rules of this file: the stores are called by their guards, without cryptography. It is a
part of scaling.py, which prints it.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import redis
from local_redis import LocalRedis

from envelope import (
    Policy,
    clock,
)
from envelope.replay import (
    Batch,
    Mark,
    MemoryReplayStore,
    RedisReplayStore,
    ReplayStore,
    SQLiteReplayStore,
)

CONTEXT = "scaling"
POLICY = Policy(max_age=3.0)
"""Short, so that a pause longer than it fits into a short run."""
BATCH = 64
MANY, FEW = 100_000, 200


class Counting(RedisReplayStore):
    """A store that counts its round trips."""

    trips = 0

    def _run(self, *arguments: Any) -> list[Any]:
        self.trips += 1
        return super()._run(*arguments)


def sender_of(number: int) -> bytes:
    """Return a key id."""
    return number.to_bytes(16, "big")


def batch(
    store: ReplayStore, sender: int, streams: Sequence[tuple[int, int]], window: int, now: int
) -> Batch:
    """Return envelopes of one sender: one for each stream and sequence."""
    guard = store.guard("home", sender_of(sender), CONTEXT)
    marks = [Mark(sender_of(stream), sequence, now, expected=False) for stream, sequence in streams]
    return Batch(guard, marks, POLICY.max_streams, window, now - 86_400 * clock.SECOND)


def mark(store: ReplayStore, batches: Sequence[Batch]) -> None:
    """Mark, and see that all is accepted."""
    for results in store.mark_each(batches):
        for result in results:
            assert isinstance(result, int), result


def trips(server: LocalRedis) -> Iterator[str]:
    """Yield the lines of the table of round trips."""
    yield "| one receiver | round trips an envelope | us of the server | envelopes a second |"
    yield "|---|---:|---:|---:|"
    client = redis.Redis(unix_socket_path=str(server.path))
    store = Counting(server.url)
    plans: tuple[tuple[str, int, int], ...] = (
        ("one by one", 1, 1),
        (f"batches of {BATCH}, of one sender", 1, BATCH),
        (f"batches of {BATCH}, of as many senders", BATCH, 1),
    )
    for at, (what, senders, each) in enumerate(plans):
        total = 4000 // (senders * each) * senders * each
        client.config_resetstat()
        store.trips, taken = 0, perf_counter()
        for turn in range(total // (senders * each)):
            sequences = range(turn * each, (turn + 1) * each)
            who = range(at * BATCH, at * BATCH + senders)
            streams = [(at, sequence) for sequence in sequences]
            mark(
                store,
                [batch(store, sender, streams, POLICY.window, clock.wall()) for sender in who],
            )
        taken = perf_counter() - taken
        spent = client.info("commandstats")["cmdstat_evalsha"]["usec"]
        yield (
            f"| {what} | {store.trips / total:.3f} | {spent / total:.1f} | {total / taken:,.0f} |"
        )
    store.close()
    client.close()


def fill(store: ReplayStore, senders: range, streams: range, window: int) -> None:
    """Mark one envelope in each stream of each sender, all sent now, in batches."""
    now = clock.wall()
    for at in range(0, len(senders), BATCH):
        some = senders[at : at + BATCH]
        mark(store, [batch(store, n, [(s, 0) for s in streams], window, now) for n in some])


def traced(work: Callable[[], None]) -> int:
    """Return the bytes of this process that some work leaves."""
    gc.collect()
    tracemalloc.start()
    work()
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size


def cost(what: str, size: int, count: int) -> str:
    """Return one line of the table of bytes."""
    each = size / count
    sizes = " | ".join(f"{each * people / 1e6:,.0f} MB" for people in (MANY, 10 * MANY))
    return f"| {what} | {count:,} | {each:,.0f} | {sizes} |"


def bytes_of_process(folder: Path) -> Iterator[str]:
    """Yield what one receiver needs."""
    one, others = range(1), range(1, POLICY.max_streams)
    store = MemoryReplayStore(first_life=True)
    size = traced(partial(fill, store, range(MANY), one, POLICY.window))
    yield cost(f"a sender with one stream, window {POLICY.window}: the process", size, MANY)
    for window in (POLICY.window, 64):
        store = MemoryReplayStore(first_life=True)
        fill(store, range(FEW), one, window)
        size = traced(partial(fill, store, range(FEW), others, window))
        yield cost(f"each further stream, window {window}: the process", size, FEW * len(others))
    path = folder / "many.db"
    now = clock.wall()
    # Its time stands still: no commit but the first and the last.
    with SQLiteReplayStore(path, first_life=True, clock=lambda: now) as durable:
        fill(durable, range(MANY), one, POLICY.window)
        start = perf_counter()
    taken = perf_counter() - start
    yield cost(
        f"a sender with one stream, window {POLICY.window}: SQLite's file "
        f"({MANY:,} changed, one commit: {taken:.1f} s)",
        path.stat().st_size,
        MANY,
    )


def bytes_of_server(server: LocalRedis) -> Iterator[str]:
    """Yield what a shared server needs, and its receivers."""
    client = redis.Redis(unix_socket_path=str(server.path))

    def used() -> int:
        return int(client.info("memory")["used_memory"])

    def forget(kind: str) -> int:
        before, keys = used(), list(client.scan_iter(match=kind, count=1000))
        for at in range(0, len(keys), 1000):
            client.delete(*keys[at : at + 1000])
        return before - used()

    store = RedisReplayStore(server.url)
    one, others, first = range(1), range(1, POLICY.max_streams), MANY // 10
    before, start = used(), perf_counter()
    process = traced(partial(fill, store, range(first), one, POLICY.window))
    fill(store, range(first, MANY), one, POLICY.window)
    taken = perf_counter() - start
    attempts, places = forget("*:*:*:*"), forget("*:*:*")
    record = used() - before
    yield cost(f"a sender with one stream, window {POLICY.window}: the server", places, MANY)
    yield cost("and for an hour, for each receiver that had its envelopes", attempts, MANY)
    yield cost("and for good", record, MANY)
    few = range(MANY, MANY + FEW)  # The others have a ceiling now.
    fill(store, few, one, POLICY.window)
    forget("*:*:*:*")
    before = used()
    fill(store, few, others, POLICY.window)
    forget("*:*:*:*")
    size = used() - before
    yield cost(f"each further stream, window {POLICY.window}: the server", size, FEW * len(others))
    yield cost(
        f"a sender with one stream, window {POLICY.window}: each of its receivers", process, first
    )
    yield ""
    yield f"To mark one envelope of each of {MANY:,} senders through the server took {taken:.1f} s."
    store.close()
    client.close()
