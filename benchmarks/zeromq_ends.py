"""The far ends of ``zeromq.py``: children that receive, and tell what they needed.

Rules of this file: a child ends by itself, whatever becomes of its parent, for every
socket has a deadline. It counts what it got, so that nothing is timed that did not
arrive. Each loop does what a program would do that wants the payloads.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import msgpack
import zmq

from envelope import Identity, Opener, Peer, Sealer, TrustStore
from envelope.replay import MemoryReplayStore
from envelope.zeromq import SecureSocket

CONTEXT = "bench"
ALICE, BOB = Identity(bytes(32)), Identity(b"\1" * 32)
"""Test keys: nothing that is secret is sent here."""
PAYLOAD = b"x" * 256
COUNT = 256
"""Messages of a bundle."""
WARM_UP = 20 * COUNT
DEADLINE_MS = 60_000

_spawn = multiprocessing.get_context("spawn")


class Way(NamedTuple):
    """How messages go: as they are or in envelopes, one by one or many at once."""

    kind: str
    """``plain``, ``CURVE``, ``signed`` or ``sealed``."""
    is_packed: bool = False
    """Whether both ends handle lists of ``COUNT``."""

    @property
    def is_secure(self) -> bool:
        """Whether it is envelopes that go."""
        return self.kind in ("signed", "sealed")


def processor_time() -> float:
    """Return the seconds that this process has computed, in all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def make_opener() -> Opener:
    """Return Bob's opener."""
    trust = TrustStore([Peer("alice", ALICE.public, contexts=[CONTEXT])])
    store = MemoryReplayStore(first_life=True)
    return Opener(trust, context=CONTEXT, identity=BOB, replay=store)


def make_sealer(*, sealed: bool) -> Sealer:
    """Return Alice's sealer."""
    return Sealer(ALICE, context=CONTEXT, to=[BOB.public] if sealed else ())


def make_socket(context: zmq.Context[Any], kind: int) -> zmq.Socket[Any]:
    """Return a socket that does not wait for ever."""
    socket: zmq.Socket[Any] = context.socket(kind)
    socket.rcvtimeo = socket.sndtimeo = socket.linger = DEADLINE_MS
    return socket


def serve_curve(socket: zmq.Socket[Any]) -> bytes:
    """Make a socket a server of CURVE, and return its public key."""
    public, secret = zmq.curve_keypair()
    socket.curve_secretkey, socket.curve_publickey = secret, public
    socket.curve_server = True
    return public


def join_curve(socket: zmq.Socket[Any], server: bytes) -> None:
    """Make a socket a client of CURVE."""
    socket.curve_serverkey = server
    socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()


@contextmanager
def child(target: Any, *arguments: Any) -> Iterator[Connection]:
    """Run a function in a process, give what it tells, and see that it has ended.

    Raises:
        SystemExit: it failed.
    """
    here, there = _spawn.Pipe()
    process = _spawn.Process(target=target, args=(*arguments, there), daemon=True)
    process.start()
    there.close()
    try:
        yield here
        process.join(DEADLINE_MS / 1000)
    finally:
        process.kill()  # Nothing, if it has ended.
        process.join()
        here.close()
    if process.exitcode:
        raise SystemExit(f"a child ended with {process.exitcode}")


def told(child: Connection) -> Any:
    """Return what a child tells next.

    Raises:
        SystemExit: nothing in time, or never.
    """
    try:
        if child.poll(DEADLINE_MS / 1000):
            return child.recv()
    except EOFError:
        raise SystemExit("a child has failed") from None
    raise SystemExit("a child is late")


def pull(way: Way, count: int, parent: Connection) -> None:
    """Receive; tell where, when it has warmed up, and what the rest took of the processor."""
    with zmq.Context() as context, make_socket(context, zmq.PULL) as socket:
        server = serve_curve(socket) if way.kind == "CURVE" else b""
        parent.send((socket.bind_to_random_port("tcp://127.0.0.1"), server))
        secure = SecureSocket(socket, opener=make_opener()) if way.is_secure else None
        _take(socket, secure, WARM_UP, is_packed=way.is_packed)
        before = processor_time()
        parent.send(None)
        _take(socket, secure, count, is_packed=way.is_packed)
        parent.send(processor_time() - before)


def _take(
    socket: zmq.Socket[Any], secure: SecureSocket | None, count: int, *, is_packed: bool
) -> None:
    if secure is None and is_packed:
        for _ in range(0, count, COUNT):
            for _payload in msgpack.unpackb(socket.recv()):
                pass
    elif secure is None:
        for _ in range(count):
            _payload = socket.recv()
    elif is_packed:
        got = 0
        while got < count:
            payloads = secure.recv_bundle().payloads
            for _payload in payloads:
                pass
            got += len(payloads)
    else:
        for _ in range(count):
            _payload = secure.recv().payload


def subscribe(port: int, server: bytes, subscribers: int, parent: Connection) -> None:
    """Be all subscribers; tell how many messages the one with the fewest got."""
    got: dict[zmq.Socket[Any], int] = {}
    with zmq.Context() as context:
        poller = zmq.Poller()
        for _ in range(subscribers):
            socket = make_socket(context, zmq.SUB)
            socket.rcvhwm = 0
            if server:
                join_curve(socket, server)
            socket.subscribe(b"")
            socket.connect(f"tcp://127.0.0.1:{port}")
            poller.register(socket, zmq.POLLIN)
            got[socket] = 0
        over = 0
        while over < subscribers:
            ready = poller.poll(DEADLINE_MS)
            if not ready:
                break
            for socket, _ in ready:
                arrived = _drain(socket)
                is_over = arrived[-1:] == [b"end"]
                over += is_over
                got[socket] += len(arrived) - is_over
        parent.send(min(got.values()))
        context.destroy(linger=0)


def _drain(socket: zmq.Socket[Any]) -> list[bytes]:
    """Return what is there, up to a thousand: nobody is to starve."""
    arrived: list[bytes] = []
    while len(arrived) < 1000:
        try:
            arrived.append(socket.recv(zmq.NOBLOCK))
        except zmq.Again:
            break
    return arrived
