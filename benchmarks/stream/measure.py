"""All rounds: the ways in turn, with a bar that moves, and a second try where events were lost.

Rules of this file: in each round the ways run one after the other, in the next the other
way round. What was lost is run again with fewer events on their way; what is lost then,
too, is told and is no figure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import zmq
from document import machine
from rich.console import Console
from rich.progress import Progress

from stream import events, processes
from stream.plan import WINDOW
from stream.results import Record, Result
from stream.run import LostError, Sizes, measure
from stream.ways import Way, obstacle

CORES = 2
"""All bars are for two cores: more are left alone."""


@dataclass(frozen=True)
class Order:
    """What is to be measured."""

    ways: Sequence[Way]
    subscribers: Sequence[int]
    rounds: int
    sizes: Sizes
    encoding: str = "msgpack"


def run(order: Order) -> Record:
    """Measure all."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    cores = len(os.sched_getaffinity(0))
    found = events.load(order.encoding)
    record = Record(
        f"{machine()}, pyzmq {zmq.__version__}, ZeroMQ {zmq.zmq_version()}",
        cores,
        events.describe(found, order.encoding),
        order.rounds,
    )
    obstacles = {way: obstacle(way) for way in order.ways}
    record.missing += [f"{way.label}: {why}" for way, why in obstacles.items() if why]
    plan = list(_turns(order, [way for way in order.ways if not obstacles[way]]))
    processes.start_server()
    # No thread draws: who forks has none.
    with Progress(console=Console(stderr=True), auto_refresh=False) as progress:
        task = progress.add_task("", total=len(plan))
        for number, many, way in plan:
            label = f"round {number + 1}, to {many}: {way.label}"
            progress.update(task, description=label, refresh=True)
            result = _try(way, many, found, number, order.sizes)
            if isinstance(result, str):
                record.missing.append(f"{label}: {result}")
            else:
                record.results.append(result)
            progress.update(task, advance=1, refresh=True)
    return record


def _turns(order: Order, ways: list[Way]) -> Iterator[tuple[int, int, Way]]:
    for number in range(order.rounds):
        for many in order.subscribers:
            for way in reversed(ways) if number % 2 else ways:
                yield number, many, way


def _try(way: Way, many: int, found: list[events.Event], number: int, sizes: Sizes) -> Result | str:
    """Return the result of a run, or why there is none."""
    why = ""
    for window in (WINDOW, WINDOW // 8):
        try:
            return measure(way, many, found, number=number, sizes=sizes._replace(window=window))
        except (LostError, processes.FailedError) as error:
            why = str(error)
    return why
