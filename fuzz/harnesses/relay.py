"""A relay hands on the frames of a payload, for whom they are; what is none it counts and drops.

SPEC 17.1 to 17.4. The first byte is the kind of flow, the rest a payload that a known sender
signed, or what a subscriber says. Sockets are real; what goes in comes out, or is counted.
"""

from __future__ import annotations

import atexit
from functools import cache
from random import Random
from typing import Any

import zmq
from vectors.reference import pack_bundle, unpack_bundle
from vectors.world import ALICE, BOB, NOW, craft

from envelope import Opener
from envelope.replay import MemoryReplayStore
from envelope.zeromq.clients import BackIn, Clients
from envelope.zeromq.pipes import Inward, Pipe, _subscribe, read
from envelope.zeromq.socket import SecureSocket
from fuzz.harness import Change
from fuzz.harnesses.opener import BOBS, TRUST
from fuzz.packed import change_bundle

COVERS = ("envelope.zeromq.pipes", "envelope.zeromq.clients")
SHARE = 3

_CLIENTS = 3
_TOPIC = b"topic"
_MESSAGES = (
    [b"client", b"frame"],
    [b""],
    [b"\0odd", b"", b"x"],
    [b"a" * 256, b"b"],
    [b"c"],
)
SEEDS = (
    *(bytes([kind]) + pack_bundle(frames) for kind in range(3) for frames in _MESSAGES),
    *(b"\3\1topic", b"\3\0topic", b"\3\2else", b"\3", b"\x04\1topic"),
)


def _sockets(context: zmq.Context[Any], first: int, second: int, name: str) -> list[Any]:
    """Return two sockets of these types that are connected."""
    pair = [context.socket(kind) for kind in (zmq.SocketType(first), zmq.SocketType(second))]
    pair[0].bind(f"inproc://{name}")
    pair[1].connect(f"inproc://{name}")
    return pair


class _Flows:
    """Sockets, and the pipes between them."""

    def __init__(self) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        atexit.register(self.context.destroy, 0)
        self.sequence = 0
        into, self.network = _sockets(self.context, zmq.PULL, zmq.PUSH, "network")
        plain, self.program = _sockets(self.context, zmq.PAIR, zmq.PAIR, "program")
        back, self.front = _sockets(self.context, zmq.ROUTER, zmq.DEALER, "back")
        self.server = self.context.socket(zmq.ROUTER)
        # A client that gave way and comes back at once is itself, not a stranger of its name.
        self.server.router_handover = True
        self.server.bind("inproc://server")
        self.clients = Clients(self._connect, _CLIENTS)
        secure = SecureSocket(into, opener=self._opener("pull"))
        self.pipes: tuple[Pipe, ...] = (
            Inward("topics", secure, plain, has_topics=True),
            Inward("plain", secure, plain, has_topics=False),
            BackIn("clients", SecureSocket(back, opener=self._opener("router")), self.clients),
        )
        self.subscriber, self.told = _sockets(self.context, zmq.PAIR, zmq.PAIR, "subscriber")
        self.upstream, self.heard = _sockets(self.context, zmq.PAIR, zmq.PAIR, "upstream")

    @staticmethod
    def _opener(domain: str) -> Opener:
        store = MemoryReplayStore(first_life=True, clock=lambda: NOW)
        return Opener(
            TRUST,
            context="orders",
            identity=BOBS,
            replay=store,
            domain=domain,
            clock=lambda: NOW,
            monotonic=lambda: NOW,
        )

    def _connect(self, client: bytes) -> Any:
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        if 1 <= len(client) <= 255 and client[0]:
            socket.routing_id = client
        socket.connect("inproc://server")
        return socket

    def carry(self, kind: int, payload: bytes) -> tuple[int, list[bytes] | None]:
        """Return how many were dropped, and what came out."""
        bound = [_TOPIC] if kind == 0 else []
        data = craft(payload, by=ALICE, to=[BOB], sequence=self.sequence, bound=bound)
        self.sequence += 1
        if kind == 2:
            self.front.send_multipart([b"", data])
        else:
            self.network.send_multipart([*bound, data])
        pipe = self.pipes[kind]
        before = pipe.figures.dropped, pipe.figures.messages
        pipe.turn()
        assert not pipe.held
        out = read(self.server if kind == 2 else self.program)
        dropped, moved = pipe.figures.dropped - before[0], pipe.figures.messages - before[1]
        assert moved == (out is not None)
        return dropped, out

    def subscribe(self, said: bytes, limit: int | None) -> list[bytes] | None:
        """Return what is passed on of what a subscriber says."""
        self.subscriber.send(said)
        _subscribe(self.told, self.upstream, limit)
        return read(self.heard)


_flows = cache(_Flows)


def check(data: bytes) -> None:
    """Carry one payload, or one subscription."""
    kind, payload = (data[0] if data else 0) % 6, data[1:]
    if kind > 2:
        _check_subscription(payload, None if kind == 3 else kind - 3)
        return
    try:
        frames = [] if payload == b"\x90" else unpack_bundle(payload)
    except ValueError:
        frames = []
    dropped, out = _flows().carry(kind, payload)
    if kind == 2 and len(frames) == 1:
        assert (dropped, out) == (0, None)
        return
    expected = [frames] if frames else []
    if kind == 0 and frames:
        expected = [[_TOPIC + frames[0], *frames[1:]]]
    if kind == 2 and frames and out is not None:
        client, *out = out
        expected = [frames[1:]]
        assert client == frames[0] or not frames[0] or not frames[0][0] or len(frames[0]) > 255
    assert dropped == (not expected)
    assert [out] == expected if expected else out is None


def _check_subscription(said: bytes, limit: int | None) -> None:
    heard = _flows().subscribe(said, limit)
    if said[:1] not in (b"\0", b"\1") or (limit is not None and said[:1] == b"\0"):
        assert heard is None
    else:
        assert heard == [said if limit is None else said[: 1 + limit]]


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change the payload as a list of frames, or bytes."""
    kind = bytes([random.randrange(6)]) if random.randrange(8) == 0 else data[:1] or b"\0"
    return kind + change_bundle(data[1:], max_size - 1, random, change)
