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
import itertools
import logging
import multiprocessing
import random
import shutil
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import sleep
from typing import NamedTuple

from document import machine, write
from footprint import BATCH, CONTEXT, MANY, POLICY, bytes_of_process, bytes_of_server, trips
from local_redis import LocalRedis

from envelope import (
    Identity,
    Opener,
    Peer,
    PublicIdentity,
    RejectedError,
    Sealer,
    TrustStore,
    clock,
)
from envelope.errors import StoreUnavailableError
from envelope.replay import (
    MemoryReplayStore,
    RedisReplayStore,
    ReplayStore,
    SQLiteReplayStore,
)

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
