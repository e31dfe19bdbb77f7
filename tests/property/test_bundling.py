"""Any sequence of sends, flushes, delays and full sockets: each topic arrives as it was sent.

The sockets are real, in one process, with queues for a few messages; time is handed in.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import defaultdict

import pytest
import zmq
import zmq.asyncio
from hypothesis import given
from hypothesis import strategies as st
from support import World

from envelope import UsageError, clock
from envelope.zeromq import Bundling, SecureSocket, aio

MAX_SIZE = 600
TOPICS = st.sampled_from([None, b"a", "a", b"b", "", b""])
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([99, 100, 101, 300, 599, 5000]))
STEPS = st.one_of(
    st.tuples(st.just("send"), TOPICS, SIZES),
    st.tuples(st.just("send_many"), TOPICS, st.lists(SIZES.filter(lambda n: n < 300), max_size=4)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("wait"), st.integers(0, 15)),
    st.tuples(st.just("receive"), st.integers(1, 4)),
)
BUNDLINGS = st.builds(
    Bundling,
    max_count=st.sampled_from([1, 2, 3, 5, 256]),
    max_bytes=st.sampled_from([1, 50, 100, 65_536]),
    max_delay=st.sampled_from([0, 0.01, 60]),
)


class Line:
    """A sender that never waits and a receiver, and what should have arrived."""

    def __init__(self, context: zmq.Context, make, bundling: Bundling) -> None:
        world = World()
        self.push = make(
            context, zmq.PUSH, sealer=world.sealer(max_size=MAX_SIZE), bundling=bundling
        )
        pull = context.socket(zmq.PULL)
        self.push.socket.sndhwm = pull.rcvhwm = 2
        pull.bind("inproc://line")
        self.push.socket.connect("inproc://line")
        self.pull = SecureSocket(pull, opener=world.opener())
        self.sent: dict[bytes | None, list[bytes]] = defaultdict(list)
        self.got: dict[bytes | None, list[bytes]] = defaultdict(list)
        self.skipped = self.gaps = 0
        self.count = 0

    def payload(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(4, "big") + bytes(size)

    def send(self, topic, size: int) -> None:
        payload = self.payload(size)
        with contextlib.suppress(zmq.Again, UsageError):
            self.push.send(payload, topic, flags=zmq.NOBLOCK)
            self.note(topic, payload)

    def note(self, topic, *payloads: bytes) -> None:
        self.sent[topic.encode() if isinstance(topic, str) else topic] += payloads

    def send_many(self, topic, sizes: list[int]) -> None:
        """Send each as a bundle of its own, behind whatever was collected."""
        for size in sizes:
            payload = self.payload(size)
            try:
                self.push.send_many([payload], topic, flags=zmq.NOBLOCK)
            except zmq.Again:
                self.gaps += 1  # It may have taken a sequence, and says so.
            else:
                self.note(topic, payload)

    def flush(self) -> None:
        with contextlib.suppress(zmq.Again):
            self.push.flush(zmq.NOBLOCK)

    def flush_all(self) -> None:
        while True:
            try:
                self.push.flush(zmq.NOBLOCK)
            except zmq.Again:
                self.receive(1)
            else:
                return

    def receive(self, most: int) -> None:
        for _ in range(most):
            if not self.pull.poll(0):
                return
            for message in self.pull.recv_bundle():
                self.got[message.topic].append(message.payload)
                self.skipped += message.skipped


def plain(context, kind, **ends):
    return SecureSocket(context.socket(kind), **ends)


def check(make, bundling: Bundling, steps) -> None:
    now = [10**12]
    with pytest.MonkeyPatch.context() as patch, zmq.Context() as context:
        patch.setattr(clock, "monotonic_ns", lambda: now[0])
        line = Line(context, make, bundling)
        try:
            for what, *how in steps:
                if what == "wait":
                    now[0] += how[0] * 1_000_000
                else:
                    getattr(line, what)(*how)
            line.flush_all()
            line.receive(10**6)
        finally:
            line.push.socket.close(0)
            line.pull.close(0)
    assert line.got == line.sent
    assert line.skipped <= line.gaps


@given(bundling=BUNDLINGS, steps=st.lists(STEPS, max_size=60))
def test_each_topic_arrives_whole_once_and_in_order(bundling, steps):
    check(plain, bundling, steps)


@given(bundling=BUNDLINGS, steps=st.lists(STEPS, max_size=60))
def test_with_asyncio_too(bundling, steps):
    class Blocking:
        def __init__(self, context, kind, **ends) -> None:
            self._inside = aio.SecureSocket(zmq.asyncio.Socket(context, kind), **ends)

        def __getattr__(self, name: str):
            found = getattr(self._inside, name)
            if not inspect.iscoroutinefunction(found):
                return found
            return lambda *args, **options: runner.run(found(*args, **options))

    with asyncio.Runner() as runner:
        check(Blocking, bundling, steps)
