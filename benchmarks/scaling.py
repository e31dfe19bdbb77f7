"""Many senders, many receivers: what is delivered when something fails, and what it costs.

Rules of this file:

- The stores, openers and sealers are the real ones, and so is the Redis server. Only
  the network and the failures are simulated, by dice with a fixed seed.
- Where a store takes a clock, time is simulated. The Redis server has its own, so what
  is about it runs in real time.
- Envelopes are sealed in another process: of streams that were begun in its own, a
  store knows that they are no replays of an earlier life, and would spare them.
- Where memory is measured the stores are called by their guards, without cryptography.

Run: ``python benchmarks/scaling.py --help``.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import multiprocessing
import random
import shutil
import sys
import tempfile
import tracemalloc
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

import redis
from document import machine, write
from local_redis import LocalRedis

from envelope import (
    Identity,
    Opener,
    Peer,
    Policy,
    PublicIdentity,
    RejectedError,
    Sealer,
    TrustStore,
    clock,
)
from envelope.errors import StoreUnavailableError
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
SENDERS, RATE = 50, 10
"""Each sends so many envelopes a second."""
RESTARTS, LOSS, LATE, COPIES, COPIED = 0.02, 0.02, 0.01, 0.3, 2.0
"""Shares of the envelopes: before which the sender restarts; lost; half a second late;
brought again within so many seconds, by somebody hostile, to any receiver."""
RECEIVERS, SHARDS_AFTER = 4, 5
CHANGE, DOWN, SERVER_DOWN = 1.5, 0.5, 1.0
"""Seconds: into the run, when something fails; how long it is away."""
PAUSE = POLICY.max_age + POLICY.max_future + 0.1
TICK = clock.SECOND // 100
BATCH = 64
MANY, FEW = 100_000, 200

Homes = tuple[Sequence[PublicIdentity], Sequence[PublicIdentity]]
"""To whom senders address what they send, before and after the change."""


class Time:
    """A clock that stands where the simulation is; or, ``real``, the wall clock."""

    def __init__(self, start: int, *, real: bool = False) -> None:
        """Begin at ``start``."""
        self._now = start
        self._real = real

    def __call__(self) -> int:
        """Return Unix microseconds."""
        return clock.wall() if self._real else self._now

    def reach(self, now: int) -> None:
        """Go on to a time, or wait for it."""
        self._now = now
        if self._real:
            sleep(max(0, now - clock.wall()) / clock.SECOND)


def seal_all(
    seeds: Sequence[bytes], start: int, seconds: float, homes: Homes | None
) -> list[tuple[int, int, bytes]]:
    """Return all that the senders send: when, who, the envelope."""
    time, dice = Time(start), random.Random(1)
    senders = [Identity(seed) for seed in seeds]
    sealers: dict[int, tuple[Sealer, object]] = {}
    sent = []
    for turn in range(int(seconds * RATE) * SENDERS):
        number = turn % SENDERS
        now = start + turn * clock.SECOND // RATE // SENDERS
        time.reach(now)
        to: list[PublicIdentity] = []
        if homes is not None:
            shards = homes[now >= start + CHANGE * clock.SECOND]
            to = [shards[number % len(shards)]]
        if dice.random() < RESTARTS or number not in sealers or sealers[number][1] != to:
            sealer = Sealer(senders[number], context=CONTEXT, to=to, sealed=False, clock=time)
            sealers[number] = sealer, to
        sent.append((now, number, sealers[number][0].seal(b"x" * 256)))
    return sent


class Arrival(NamedTuple):
    """One envelope at the end of its way, or a copy of it."""

    at: int
    draw: float
    number: int
    sender: int
    sent_at: int
    data: bytes
    is_copy: bool


def carry(sent: Sequence[tuple[int, int, bytes]]) -> deque[Arrival]:
    """Return what arrives, in the order in which it does."""
    dice = random.Random(2)
    arrivals = []
    for index, (sent_at, sender, data) in enumerate(sent):
        if dice.random() < LOSS:
            continue
        late = 0.5 if dice.random() < LATE else 0.0
        at = sent_at + int((late + dice.expovariate(50)) * clock.SECOND)
        arrivals.append(Arrival(at, dice.random(), index, sender, sent_at, data, is_copy=False))
        if dice.random() < COPIES:
            at += int(dice.uniform(0.05, COPIED) * clock.SECOND)
            arrivals.append(Arrival(at, dice.random(), index, sender, sent_at, data, is_copy=True))
    return deque(sorted(arrivals))


class Receiver:
    """One receiver's process: it lives, and ends, and lives again."""

    def __init__(self, make: Callable[[], Opener], end: Callable[[], None] = lambda: None) -> None:
        """Begin the first life; ``end`` is what is done to its store by an end."""
        self._make, self._end = make, end
        self.queue: list[Arrival] = []
        self.opener: Opener | None = make()

    def stop(self) -> None:
        """End. What is in front of it waits."""
        self.opener = None
        self._end()

    def start(self) -> None:
        """Begin the next life."""
        self.opener = self._make()

    def work(self) -> Iterator[tuple[Arrival, bool, str]]:
        """Open what waits, and yield for each whether it was delivered, and the code."""
        if self.opener is None:
            return
        waiting, self.queue = self.queue, []
        for at in range(0, len(waiting), BATCH):
            some = waiting[at : at + BATCH]
            results = self.opener.open_each([[one.data] for one in some])
            for one, result in zip(some, results, strict=True):
                if isinstance(result, StoreUnavailableError):
                    self.queue.append(one)  # To be offered again.
                elif isinstance(result, RejectedError):
                    yield one, False, result.code
                else:
                    yield one, True, ""
            if self.queue:  # Nothing more is taken while the store is away.
                self.queue += waiting[at + BATCH :]
                return


class World(NamedTuple):
    """Receivers, what befalls them, and which of them to watch."""

    what: str
    receivers: list[Receiver]
    events: Sequence[tuple[float, Callable[[], None]]] = ()
    watched: Sequence[int] = ()
    route: Callable[[int, bool], int] | None = None
    """To which receiver what a sender sends goes, before and after the change; to any
    that is up, if None."""
    homes: Homes | None = None


class Outcome(NamedTuple):
    """What came of a run."""

    arrived: int
    delivered: int
    twice: int
    quiet: float
    """The longest time in seconds in which those watched delivered nothing."""
    refused: Counter[str]
    """First arrivals, by code."""


def run(world: World, sent: Sequence[tuple[int, int, bytes]], time: Time) -> Outcome:
    """Let everything happen that happens."""
    arrivals = carry(sent)
    events = deque(sorted(world.events, key=lambda event: event[0]))
    count, delivered, refused = 0, Counter[int](), Counter[str]()
    start, end = sent[0][0], sent[-1][0]
    watched = world.watched or range(len(world.receivers))
    now = start
    change, last, quiet = start + int(CHANGE * clock.SECOND), start, 0
    while arrivals or any(one.queue for one in world.receivers):
        now = max(now + TICK, time())
        time.reach(now)
        while events and start + events[0][0] * clock.SECOND <= now:
            events.popleft()[1]()
        up = [one for one in world.receivers if one.opener] or world.receivers
        while arrivals and arrivals[0].at <= now:
            arrival = arrivals.popleft()
            count += not arrival.is_copy
            if world.route is None or arrival.is_copy:
                up[int(arrival.draw * len(up))].queue.append(arrival)
            else:
                world.receivers[
                    world.route(arrival.sender, arrival.sent_at >= change)
                ].queue.append(arrival)
        for number, receiver in enumerate(world.receivers):
            for arrival, is_delivered, code in receiver.work():
                delivered[arrival.number] += is_delivered
                if is_delivered and number in watched and now <= end:
                    quiet, last = max(quiet, time() - last), time()
                elif not is_delivered and not arrival.is_copy:
                    refused[code] += 1
    deliveries, distinct = delivered.total(), sum(map(bool, delivered.values()))
    return Outcome(count, distinct, deliveries - distinct, quiet / clock.SECOND, refused)


class People:
    """The senders, and the identity that receivers share."""

    def __init__(self) -> None:
        """Make new keys."""
        self.seeds = [random.SystemRandom().randbytes(32) for _ in range(SENDERS)]
        publics = [Identity(seed).public for seed in self.seeds]
        self.peers = [Peer(f"p{n}", one, contexts=[CONTEXT]) for n, one in enumerate(publics)]
        self.bob = Identity.generate()

    def opener(
        self,
        time: Time,
        store: ReplayStore,
        trust: TrustStore | None = None,
        identity: Identity | None = None,
    ) -> Opener:
        """Return a receiver's opener."""
        return Opener(
            TrustStore(self.peers) if trust is None else trust,
            context=CONTEXT,
            identity=identity or self.bob,
            replay=store,
            policy=POLICY,
            clock=time,
        )


def end_and_start(receiver: Receiver, down: float) -> list[tuple[float, Callable[[], None]]]:
    """Return a restart as events."""
    return [(CHANGE, receiver.stop), (CHANGE + down, receiver.start)]


def memory(
    people: People, time: Time, trust: TrustStore | None = None, identity: Identity | None = None
) -> Receiver:
    """Return a receiver with a memory of its own. The first life is declared as such."""
    lives = itertools.count()

    def make() -> Opener:
        store = MemoryReplayStore(first_life=next(lives) == 0, clock=time)
        return people.opener(time, store, trust, identity)

    return Receiver(make)


def durable(people: People, time: Time, path: Path, *, is_killed: bool) -> Receiver:
    """Return a receiver with a file, which ends cleanly or by a kill."""
    stores: list[SQLiteReplayStore] = []

    def make() -> Opener:
        stores.append(SQLiteReplayStore(path, first_life=True, clock=time))
        return people.opener(time, stores[-1])

    def end() -> None:
        aside = path.with_suffix(".killed")
        shutil.copy(path, aside)  # What a kill leaves on the disk: the file as it is now.
        stores[-1].close()
        if is_killed:
            aside.replace(path)

    return Receiver(make, end)


def alone(people: People, time: Time, folder: Path) -> Iterator[World]:
    """Yield what can happen to one receiver."""
    one = memory(people, time)
    yield World("one receiver, memory: calm", [one])
    one = memory(people, time)
    yield World("one receiver, memory: restarted", [one], end_and_start(one, DOWN))
    one = durable(people, time, folder / "clean.db", is_killed=False)
    yield World("one receiver, SQLite: restarted cleanly", [one], end_and_start(one, DOWN))
    one = durable(people, time, folder / "killed.db", is_killed=True)
    yield World("one receiver, SQLite: killed", [one], end_and_start(one, DOWN))


def share(people: People, shard: int, *counts: int) -> list[Peer]:
    """Return the peers that are a shard's by each of the maps."""
    every = enumerate(people.peers)
    return [peer for n, peer in every if all(n % count == shard for count in counts)]


def remap(people: People, trusts: Sequence[TrustStore], *counts: int) -> None:
    """Let each shard believe those only that are its own by each of the maps."""
    for number, trust in enumerate(trusts):
        trust.replace(share(people, number, *counts))


def sharded(people: People, time: Time) -> Iterator[World]:
    """Yield what can happen to receivers with a share of the senders each."""

    def route(sender: int, is_after: bool) -> int:  # noqa: FBT001 (a callback)
        return sender % (SHARDS_AFTER if is_after else RECEIVERS)

    def fixed(sender: int, _: bool) -> int:  # noqa: FBT001 (a callback)
        return sender % RECEIVERS

    def shards(count: int) -> tuple[list[TrustStore], list[Receiver]]:
        trusts = [TrustStore(share(people, n, RECEIVERS)) for n in range(count)]
        return trusts, [memory(people, time, trust) for trust in trusts]

    name = f"{RECEIVERS} shards, memory: "
    yield World(name + "calm", shards(RECEIVERS)[1], route=fixed)
    _, receivers = shards(RECEIVERS)
    events = end_and_start(receivers[0], DOWN)
    yield World(name + "one restarted", receivers, events, watched=[0], route=fixed)

    name = f"{RECEIVERS} shards become {SHARDS_AFTER}: "
    trusts, receivers = shards(SHARDS_AFTER)
    events = [(CHANGE, partial(remap, people, trusts, SHARDS_AFTER))]
    yield World(name + "at once (wrong)", receivers, events, route=route)
    trusts, receivers = shards(SHARDS_AFTER)
    events = [
        (CHANGE, partial(remap, people, trusts, RECEIVERS, SHARDS_AFTER)),
        (CHANGE + PAUSE, partial(remap, people, trusts, SHARDS_AFTER)),
    ]
    yield World(
        name + f"a pause of {PAUSE:.1f} s for those who move", receivers, events, route=route
    )
    trusts, receivers = shards(SHARDS_AFTER)
    events = [(CHANGE, partial(remap, people, trusts, SHARDS_AFTER))]
    events += [(CHANGE, step) for one in receivers for step in (one.stop, one.start)]
    yield World(name + "a cold start of all", receivers, events, route=route)
    keys = [Identity.generate() for _ in range(SHARDS_AFTER)]
    receivers = [memory(people, time, identity=key) for key in keys]
    publics = [key.public for key in keys]
    homes = publics[:RECEIVERS], publics
    yield World(name + "addressed to each its shard", receivers, route=route, homes=homes)


def many(people: People, time: Time, server: LocalRedis) -> Iterator[tuple[World, float]]:
    """Yield what can happen to receivers of one queue with one server, and how long to look."""

    def workers() -> list[Receiver]:
        def make() -> Opener:
            return people.opener(time, RedisReplayStore(server.url))

        return [Receiver(make) for _ in range(RECEIVERS)]

    name = f"{RECEIVERS} receivers, Redis: "
    yield World(name + "calm", workers()), 2
    receivers = workers()
    yield World(name + "one killed", receivers, end_and_start(receivers[0], DOWN)), 3
    events = [(CHANGE, server.kill), (CHANGE + SERVER_DOWN, server.start)]
    yield World(name + "server killed", workers(), events), CHANGE + SERVER_DOWN + 5.5


def deliveries(folder: Path, server: LocalRedis) -> Iterator[str]:
    """Yield the lines of the table of what is delivered."""
    yield "| receivers, and what happens | arrived | delivered | twice | quiet | refused |"
    yield "|---|---:|---:|---:|---:|---|"
    people, spawn = People(), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as other:
        time = Time(clock.wall())
        for world in itertools.chain(alone(people, time, folder), sharded(people, time)):
            yield line(world, simulate(world, 8, people, time, other))
        real = Time(clock.wall(), real=True)
        for world, seconds in many(people, real, server):
            yield line(world, simulate(world, seconds, people, real, other))


def simulate(world: World, seconds: float, people: People, time: Time, other: Executor) -> Outcome:
    """Seal in the other process, then run."""
    # In real time all is sealed before the first is sent.
    start = time() + clock.SECOND
    sent = other.submit(seal_all, people.seeds, start, seconds, world.homes).result()
    return run(world, sent, time)


def line(world: World, outcome: Outcome) -> str:
    """Return one line of the table."""
    arrived, delivered, twice, quiet, refused = outcome
    codes = ", ".join(f"{count} {code}" for code, count in refused.most_common()) or "none"
    share = f"{delivered:,} ({100 * delivered / arrived:.1f} %)"
    return f"| {world.what} | {arrived:,} | {share} | {twice:,} | {quiet:.2f} s | {codes} |"


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
    with SQLiteReplayStore(path, first_life=True, clock=Time(now)) as durable:
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


def blocks(folder: Path) -> Iterator[str]:
    """Yield all lines of the document."""
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    with LocalRedis(folder / "a") as server, LocalRedis(folder / "b") as large:
        for one in (server, large):
            # Their memory begins now; they are cold while other things are measured.
            RedisReplayStore(one.url).close()
        yield (
            f"{SENDERS} senders of {RATE} envelopes a second; {LOSS:.0%} lost, {LATE:.0%} half a "
            f"second late, {COPIES:.0%} copied and brought to any receiver within {COPIED:.0f} s; "
            f"a sender restarts before {RESTARTS:.0%}. `max_age` is {POLICY.max_age:.0f} s here, "
            f"`max_future` {POLICY.max_future:.0f} s. Receivers are away for {DOWN} s, the server "
            f"for {SERVER_DOWN:.0f} s; what arrives meanwhile waits. *Quiet* is the longest time "
            "without a delivery."
        )
        yield ""
        yield from deliveries(folder, server)
        yield ""
        yield from trips(server)
        yield ""
        yield f"| memory | measured of | bytes each | {MANY:,} | times ten |"
        yield "|---|---:|---:|---:|---:|"
        yield from bytes_of_process(folder)
        yield from bytes_of_server(large)


def main() -> int:
    """Measure, print, and write it into a document if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # Failures are what this is about.
    lines = [f"{machine()}.", ""]
    print(lines[0])
    with tempfile.TemporaryDirectory() as name:
        for one in blocks(Path(name)):
            lines.append(one)
            print(one, flush=True)
    if options.write:
        write(options.write, "scaling", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
