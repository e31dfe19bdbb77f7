"""The processes: a publisher, a proxy and the subscribers.

Rules of this file: who sends and who receives does the same in every way, but for what
``ends`` has. Publishers wait for subscribers, who say in shared memory how many events
they have: so nothing is ever dropped for want of room, in no way, and all queues
together hold at most a window of events. What came is checked after the clock has stopped.
"""

from __future__ import annotations

import contextlib
import itertools
from array import array
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from time import monotonic_ns, sleep
from typing import Any

import zmq

from stream import dtls
from stream.ends import Inlet, Outlet, make_inlet, make_outlet
from stream.events import HEAD, Event
from stream.plan import Phase, Plan, Receipt
from stream.ways import Carrier

CHUNK = 256
"""Events that a publisher sends between two looks at the clock and the window."""
PAUSE = 0.0002
"""Seconds that a publisher sleeps when nothing is due."""
_HELLO = 0.01
_QUIET_MS = 50

Slots = Any
"""An array of numbers in shared memory: how many events each subscriber has."""


def publish(plan: Plan, place: str, slots: Slots, parent: Connection) -> None:
    """Publish each phase that the parent asks for; tell when it began."""
    with zmq.Context() as context:
        outlet = make_outlet(plan, context, place)
        while min(slots) == 0:  # Until each subscriber is heard by the proxy.
            outlet.send([(b"hello", HEAD.pack(0, 0))])
            outlet.flush()
            sleep(_HELLO)
        parent.send(None)
        while (phase := parent.recv()) is not None:
            parent.send(_publish(phase, plan, outlet, slots))
        context.destroy(linger=0)


def _publish(phase: Phase, plan: Plan, outlet: Outlet, slots: Slots) -> int:
    events = itertools.cycle(plan.events)
    sent, count, step = 0, phase.count, phase.step
    begun = monotonic_ns()
    while sent < count:
        now = monotonic_ns()
        until = min(count, sent + CHUNK, min(slots) + plan.window)
        if step:
            until = min(until, (now - begun) // step + 1)
        if until <= sent:
            outlet.idle()
            sleep(PAUSE)
            continue
        outlet.send(_chunk(range(sent, until), begun if step else now, step, events))
        sent = until
    outlet.flush()
    return begun


def _chunk(
    numbers: range, base: int, step: int, events: Iterator[Event]
) -> list[tuple[bytes, bytes]]:
    """Return the next events, each with its number and the time when it was due."""
    pack = HEAD.pack
    return [
        (topic, pack(number, base + number * step) + body)
        for number, (topic, body) in zip(numbers, events, strict=False)
    ]


def proxy(plan: Plan, parent: Connection) -> None:
    """Pass everything on, until killed; tell where."""
    with zmq.Context() as context:
        if plan.way.carrier is Carrier.DTLS:
            _proxy_dtls(plan, context, parent)
        front = plan.make_socket(context, zmq.XSUB)
        back = plan.make_socket(context, zmq.XPUB)
        front.rcvtimeo = back.rcvtimeo = -1
        place = plan.serve(back)
        parent.send((plan.serve(front), [place] * plan.subscribers))
        zmq.proxy(front, back)


def _proxy_dtls(plan: Plan, context: zmq.Context[Any], parent: Connection) -> None:
    sockets = [plan.make_socket(context, zmq.PAIR) for _ in range(plan.subscribers + 1)]
    front, *backs = [plan.serve(socket) for socket in sockets]
    parent.send((front, backs))
    pairs = [(socket, dtls.accept(plan.folder, socket)) for socket in sockets]
    sockets[0].rcvtimeo = -1
    dtls.forward(pairs[0], pairs[1:])


def subscribe(plan: Plan, place: str, number: int, slots: Slots, parent: Connection) -> None:
    """Receive each phase; tell when the last event came, and then what came."""
    with zmq.Context() as context:
        inlet = make_inlet(plan, context, place, number)
        inlet.receive()
        slots[number] = 1
        parent.recv()  # Until nobody says hello any more.
        while inlet.poll(_QUIET_MS):
            inlet.receive()
        while (phase := parent.recv()) is not None:
            slots[number] = 0
            parent.send(None)
            log = Log(phase.count)
            with contextlib.suppress(zmq.Again):
                (log.fill_by_bundles if inlet.takes_bundles else log.fill)(inlet, slots, number)
            parent.send(log.last)
            parent.recv()  # Until no clock runs.
            parent.send(log.check())
        context.destroy(linger=0)


class Log:
    """What a subscriber received: the heads of all events, and when each was there."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._heads = bytearray()
        self._times = array("q")

    @property
    def last(self) -> int:
        """When the last event was there; 0 if none was."""
        return self._times[-1] if self._times else 0

    def fill(self, inlet: Inlet, slots: Slots, number: int) -> None:
        """Take events one by one."""
        receive, heads, append, size = inlet.receive, self._heads, self._times.append, HEAD.size
        for got in range(1, self._count + 1):
            heads += receive()[:size]
            append(monotonic_ns())
            slots[number] = got

    def fill_by_bundles(self, inlet: Inlet, slots: Slots, number: int) -> None:
        """Take events as they come together."""
        receive, heads, extend, size = inlet.receive_bundle, self._heads, self._times.extend, 16
        got = 0
        while got < self._count:
            payloads = receive()
            heads += b"".join([payload[:size] for payload in payloads])
            extend([monotonic_ns()] * len(payloads))
            got += len(payloads)
            slots[number] = got

    def check(self) -> Receipt:
        """Tell whether every event came, once, and how long each took."""
        numbers = array("Q", bytes(self._heads))
        seen = bytearray(self._count)
        strange = 0
        for number in numbers[::2]:
            if number < self._count:
                seen[number] = min(2, seen[number] + 1)
            else:
                strange += 1
        dues: Sequence[int] = numbers[1::2]
        latencies = array("q", (at - due for at, due in zip(self._times, dues, strict=True)))
        return Receipt(seen.count(0), seen.count(2) + strange, latencies.tobytes())
