"""Sockets on real transports that cannot hang, and a broker that has no key.

Rules of this file:

- Every socket gives up after five seconds and lingers for none. Whatever a test
  opened is closed when it ends.
- ``sockets`` makes secure sockets of both kinds. Those for asyncio run each call to
  its end, so that one body of a test serves both.
- ``plain`` is the socket that anybody has: what it sends, a stranger could send.
- Clocks stand still unless a test moves them.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
import zmq
import zmq.asyncio
from support import World

from envelope.errors import RejectedError
from envelope.zeromq import SecureSocket, aio

PATIENCE_MS = 5_000

Frames = list[bytes]


@pytest.fixture
def world():
    return World()


@pytest.fixture
def at(tmp_path):
    """Returns an ipc endpoint by name."""
    return lambda name: f"ipc://{tmp_path}/{name}"


@pytest.fixture
def plain():
    """Makes plain sockets."""
    opened: list[zmq.Socket] = []
    context = zmq.Context()

    def make(kind: int, socket_class: type[zmq.Socket] = zmq.Socket) -> zmq.Socket:
        socket = socket_class(context, kind)
        opened.append(socket)
        socket.linger = 0
        socket.rcvtimeo = socket.sndtimeo = PATIENCE_MS
        if kind == zmq.SUB:
            socket.subscribe(b"")
        return socket

    yield make
    for socket in opened:
        socket.close()
    context.term()


class Blocking:
    """A secure socket for asyncio whose calls are run to their end, one by one."""

    def __init__(self, inside: aio.SecureSocket, run: Callable) -> None:
        self._inside = inside
        self._run = run

    def __getattr__(self, name: str):
        found = getattr(self._inside, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **options: self._run(found(*args, **options))


@pytest.fixture(params=["sync", "asyncio"])
def secure(request, plain):
    """Makes secure sockets: ``secure(zmq.PUB, sealer=...)``; each test runs with both kinds."""
    if request.param == "sync":
        yield lambda kind, **ends: SecureSocket(plain(kind), **ends)
        return
    opened: list[aio.SecureSocket] = []

    def make(kind: int, **ends) -> Blocking:
        opened.append(aio.SecureSocket(plain(kind, zmq.asyncio.Socket), **ends))
        return Blocking(opened[-1], runner.run)

    async def close() -> None:
        for one in opened:
            one.close()

    with asyncio.Runner() as runner:
        yield make
        runner.run(close())


@pytest.fixture
def link(tmp_path):
    """Connects sockets, secure or plain: ``link(one, other, "tcp")``; returns where."""
    numbers = itertools.count()

    def connect(binds, *connects, transport: str = "inproc") -> str:
        place = {
            "tcp": "tcp://127.0.0.1:*",
            "ipc": f"ipc://{tmp_path}/{next(numbers)}",
            "inproc": f"inproc://{next(numbers)}",
        }[transport]
        sockets = [getattr(one, "socket", one) for one in (binds, *connects)]
        sockets[0].bind(place)
        where = sockets[0].last_endpoint.decode().rstrip("\0")
        for socket in sockets[1:]:
            socket.connect(where)
        return where

    return connect


def bare(one) -> zmq.Socket:
    """Return the same socket as a plain one, past all sealing and opening."""
    return zmq.Socket.shadow(getattr(one, "socket", one).underlying)


@pytest.fixture(name="bare")
def fixture_bare():
    """Returns the same socket as a plain one, past all sealing and opening."""
    return bare


@pytest.fixture
def meet():
    """Waits until a subscription is in force, and leaves nothing queued."""

    def wait(publisher, *subscribers, topic: bytes = b"") -> None:
        out = bare(publisher)
        for into in map(bare, subscribers):
            for number in range(500):
                out.send_multipart([topic + b"hello", b"%d" % number])
                if into.poll(10):
                    break
            # From the first that came, all came: the last one sent ends them.
            while into.recv_multipart()[-1] != b"%d" % number:
                pass
        # What the later ones were sent, the earlier ones got too.
        for into in map(bare, subscribers):
            while into.poll(20):
                into.recv_multipart()

    return wait


class Broker(threading.Thread):
    """A broker that anybody could run: XSUB here, XPUB there, and no key.

    Attributes:
        seen: what publishers sent, as they sent it.
        change: returns what goes on to the subscribers in place of a message.
    """

    def __init__(self, publishers: zmq.Socket, subscribers: zmq.Socket) -> None:
        super().__init__()
        self.publishers = publishers
        self.subscribers = subscribers
        self.seen: list[Frames] = []
        self.change: Callable[[Frames], Iterable[Frames]] = lambda frames: [frames]
        self._over = threading.Event()

    def run(self) -> None:
        poller = zmq.Poller()
        poller.register(self.publishers, zmq.POLLIN)
        poller.register(self.subscribers, zmq.POLLIN)
        while not self._over.is_set():
            for socket, _ in poller.poll(20):
                if socket is self.subscribers:
                    self.publishers.send_multipart(socket.recv_multipart())
                    continue
                self.seen.append(socket.recv_multipart())
                for frames in self.change(self.seen[-1]):
                    self.subscribers.send_multipart(frames)

    def end(self) -> None:
        self._over.set()
        self.join()


@pytest.fixture
def broker(plain):
    """Runs a broker: ``broker(publisher, subscriber, ...)`` connects them through it."""
    running = []

    def start(publisher, *subscribers) -> Broker:
        made = Broker(plain(zmq.XSUB), plain(zmq.XPUB))
        for socket, clients in ((made.publishers, [publisher]), (made.subscribers, subscribers)):
            socket.bind("tcp://127.0.0.1:*")
            for client in clients:
                client.socket.connect(socket.last_endpoint.decode())
        running.append(made)
        made.start()
        return made

    yield start
    for one in running:
        one.end()


class Told(list[RejectedError]):
    """What ``on_rejected`` was called with; it then does what a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.act: Callable[[RejectedError], None] = lambda _: None

    def __call__(self, error: RejectedError) -> None:
        self.append(error)
        self.act(error)


class Scene(NamedTuple):
    """Bob pulls from Alice, and the attacker is on the line."""

    world: World
    alice: object
    bob: object
    line: zmq.Socket
    told: Told

    def garbage(self, count: int) -> None:
        for _ in range(count):
            self.line.send(b"garbage")

    @property
    def codes(self) -> list[str]:
        return [error.code for error in self.told]


@pytest.fixture
def store(world):
    """Bob's replay memory."""
    return world.store()


@pytest.fixture
def scene(world, secure, link, bare, store):
    told = Told()
    bob = secure(zmq.PULL, opener=world.opener(replay=store), on_rejected=told)
    bob.socket.rcvtimeo = 50
    alice = secure(zmq.PUSH, sealer=world.sealer())
    link(bob, alice)
    return Scene(world, alice, bob, bare(alice), told)
