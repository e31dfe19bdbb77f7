"""One run of one way: its processes, and what they needed in each phase.

Rules of this file: what counts is the time from the first event to the last receipt at
the last subscriber. A phase in which an event was lost, or came twice, is no figure.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from stream import dtls, nodes, sidecar, tunnel
from stream.events import Event
from stream.figures import percentile
from stream.plan import WINDOW, Phase, Plan, Receipt
from stream.processes import Child, Usage, child, shared_numbers, usage
from stream.results import PERCENTILES, ROLES, End, Result, Step
from stream.ways import Carrier, Way

_WARM_UP: Final = 256
_WARM_UP_SECONDS: Final = 0.15
_LEAST: Final = 256
"""Events of a phase, at least."""


class LostError(Exception):
    """Not every event came once."""


@dataclass
class Stage:
    """The processes of a run, by role: the pipe to each, and all that belong to it."""

    publisher: Child
    subscribers: list[Child]
    pids: dict[str, list[list[int]]]


@dataclass(frozen=True)
class _Measured:
    seconds: float
    before: dict[str, list[Usage]]
    after: dict[str, list[Usage]]
    latencies: Sequence[int]


class Sizes(NamedTuple):
    """How much a run sends."""

    most: int
    """Events of a phase, at most."""
    seconds: float
    """That a phase is to take, about."""
    shares: Sequence[float]
    """Of the rate at saturation, to send at."""
    window: int = WINDOW
    """Events on their way, at most."""


def measure(
    way: Way, subscribers: int, events: list[Event], *, number: int, sizes: Sizes
) -> Result:
    """Run one way, in a round of this number: as fast as it goes, then at shares of that.

    Raises:
        LostError: an event did not come, or not once.
        FailedError: a process ended, or is late.
    """
    with tempfile.TemporaryDirectory(prefix="stream-") as folder:
        plan = Plan(way, subscribers, Path(folder), events, sizes.window)
        with _stage(plan) as stage:
            count = _count(sizes, _warm_up(stage))
            best = _run(stage, Phase(count))
            rate = count / best.seconds
            ends = _ends(best, count)
            steps = [_step(stage, share, rate, sizes) for share in sizes.shares]
    return Result(way.name, subscribers, number, sizes.window, count, rate, ends, steps)


def _count(sizes: Sizes, rate: float) -> int:
    return max(_LEAST, min(sizes.most, round(rate * sizes.seconds)))


def _warm_up(stage: Stage) -> float:
    """Send more and more, until the rate is known."""
    count = _WARM_UP
    while (taken := _run(stage, Phase(count)).seconds) < _WARM_UP_SECONDS:
        count *= 4
    return count / taken


def _step(stage: Stage, share: float, rate: float, sizes: Sizes) -> Step:
    step = round(1e9 / (rate * share))
    count = _count(sizes, rate * share)
    measured = _run(stage, Phase(count, step))
    ordered = sorted(measured.latencies)
    return Step(
        share,
        1e9 / step,
        count / measured.seconds,
        count,
        tuple(percentile(ordered, each) / 1000 for each in PERCENTILES),
        _ends(measured, count),
    )


def _run(stage: Stage, phase: Phase) -> _Measured:
    for one in stage.subscribers:
        one.tell(phase)
    for one in stage.subscribers:
        one.told()
    before = _usage(stage)
    stage.publisher.tell(phase)
    begun: int = stage.publisher.told()
    last: int = max(one.told() for one in stage.subscribers)
    after = _usage(stage)
    for one in stage.subscribers:
        one.tell()
    receipts: list[Receipt] = [one.told() for one in stage.subscribers]
    missing = sum(one.missing for one in receipts)
    repeated = sum(one.repeated for one in receipts)
    if missing or repeated:
        expected = phase.count * len(receipts)
        raise LostError(f"{missing:,} of {expected:,} events missing, {repeated:,} not once")
    latencies = array("q")
    for receipt in receipts:
        latencies.frombytes(receipt.latencies)
    return _Measured((last - begun) / 1e9, before, after, latencies)


def _usage(stage: Stage) -> dict[str, list[Usage]]:
    return {role: [usage(pids) for pids in groups] for role, groups in stage.pids.items()}


def _ends(measured: _Measured, count: int) -> dict[str, End]:
    ends = {}
    for role in ROLES:
        pairs = list(zip(measured.before[role], measured.after[role], strict=True))
        cpu = sum(after.cpu - before.cpu for before, after in pairs)
        busiest = max(
            ran - before.threads.get(thread, 0)
            for before, after in pairs
            for thread, ran in after.threads.items()
        )
        peak = max(after.peak for _, after in pairs)
        ends[role] = End(cpu / len(pairs) / count / 1e3, busiest / count / 1e3, peak)
    return ends


@contextmanager
def _stage(plan: Plan) -> Iterator[Stage]:
    """Start all processes, and wait until every subscriber hears the publisher."""
    with ExitStack() as stack:

        def start(target: Any, *arguments: Any) -> Child:
            return stack.enter_context(child(target, *arguments))

        if plan.way.carrier in (Carrier.STUNNEL, Carrier.DTLS):
            dtls.write_certificates(plan.folder)
        proxy = start(nodes.proxy, plan)
        front, backs = proxy.told()
        pids: dict[str, list[list[int]]] = {
            "publisher": [[]],
            "proxy": [[proxy.pid]],
            "subscriber": [[] for _ in range(plan.subscribers)],
        }
        if plan.way.carrier is Carrier.STUNNEL:
            front, backs = _tunnels(plan, stack, front, backs, pids)
        elif plan.way.carrier is Carrier.RELAY:
            front, backs = sidecar.write(plan, front, backs)
            _relays(plan, start, pids)
        slots = shared_numbers(plan.subscribers)
        subscribers = [
            start(nodes.subscribe, plan, back, number, slots) for number, back in enumerate(backs)
        ]
        publisher = start(nodes.publish, plan, front, slots)
        pids["publisher"][0].append(publisher.pid)
        for group, one in zip(pids["subscriber"], subscribers, strict=True):
            group.append(one.pid)
        publisher.told()
        for one in subscribers:
            one.tell()
        yield Stage(publisher, subscribers, pids)


def _relays(plan: Plan, start: Any, pids: dict[str, list[list[int]]]) -> None:
    left = start(sidecar.relay, plan.folder / "left")
    rights = [
        start(sidecar.relay, plan.folder / f"right{number}") for number in range(plan.subscribers)
    ]
    for one in (left, *rights):
        one.told()
    pids["publisher"][0].append(left.pid)
    for group, one in zip(pids["subscriber"], rights, strict=True):
        group.append(one.pid)


def _tunnels(
    plan: Plan, stack: ExitStack, front: str, backs: list[str], pids: dict[str, list[list[int]]]
) -> tuple[str, list[str]]:
    """Start a stunnel beside each process; return where publisher and subscribers connect."""
    in_front, at_back, near, *far = tunnel.free_places(3 + plan.subscribers)

    def run(name: str, *services: tunnel.Service) -> int:
        return stack.enter_context(tunnel.running(plan.folder, name, services))

    pids["proxy"][0].append(
        run(
            "proxy",
            tunnel.Service("front", is_client=False, accept=in_front, connect=_bare(front)),
            tunnel.Service("back", is_client=False, accept=at_back, connect=_bare(backs[0])),
        )
    )
    service = tunnel.Service("events", is_client=True, accept=near, connect=in_front)
    pids["publisher"][0].append(run("publisher", service))
    for number, place in enumerate(far):
        service = tunnel.Service("events", is_client=True, accept=place, connect=at_back)
        pids["subscriber"][number].append(run(f"subscriber{number}", service))
    return f"tcp://{near}", [f"tcp://{place}" for place in far]


def _bare(place: str) -> str:
    return place.removeprefix("tcp://")
