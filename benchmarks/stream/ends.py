"""How each way sends and receives: what a program would write that wants the payloads.

Rules of this file: where there are two ways to write a loop, it has the faster one, for
the others as for us. A topic of its own is a frame of its own; else it stands in front of
the payload, and a zero byte ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import zmq

from envelope.zeromq import Bundling, SecureSocket
from stream import dtls
from stream.plan import Plan
from stream.ways import Carrier

END_OF_TOPIC = b"\0"

LARGE = Bundling(max_count=1024, max_bytes=2**18, max_delay=0.02)
"""For whom a few hundredths of a second are not too long."""

Chunk = Sequence[tuple[bytes, bytes]]
"""Topics and payloads."""


class Outlet(Protocol):
    """Where a publisher sends."""

    def send(self, chunk: Chunk) -> None:
        """Send events."""

    def idle(self) -> None:
        """Do what is due while there is nothing to send."""

    def flush(self) -> None:
        """Send what still waits for company."""


class Inlet(Protocol):
    """Where a subscriber receives."""

    takes_bundles: bool

    def receive(self) -> bytes:
        """Return the next payload.

        Raises:
            zmq.Again: too long a silence.
        """

    def receive_bundle(self) -> Sequence[bytes]:
        """Return payloads that came together, where ``takes_bundles``."""

    def poll(self, milliseconds: int) -> bool:
        """Tell whether something is there within a time."""


class PlainOutlet:
    """ZeroMQ as it is: plain, under CURVE, through a tunnel or to a relay."""

    def __init__(self, socket: zmq.Socket[Any], *, is_one_frame: bool) -> None:
        self._send = socket.send
        self.send: Callable[[Chunk], None] = self._send_one if is_one_frame else self._send_two

    def _send_one(self, chunk: Chunk) -> None:
        send = self._send
        for topic, payload in chunk:
            send(topic + END_OF_TOPIC + payload)

    def _send_two(self, chunk: Chunk) -> None:
        send, more = self._send, zmq.SNDMORE
        for topic, payload in chunk:
            send(topic, more)
            send(payload)

    def idle(self) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""


class PlainInlet:
    """The other end of it."""

    takes_bundles = False

    def __init__(self, socket: zmq.Socket[Any], *, is_one_frame: bool) -> None:
        self._recv = socket.recv
        self._socket = socket
        self.receive: Callable[[], bytes] = self._one if is_one_frame else self._two

    def _one(self) -> bytes:
        return without_topic(self._recv())

    def _two(self) -> bytes:
        self._recv()
        return self._recv()

    def receive_bundle(self) -> Sequence[bytes]:
        """Return one."""
        return [self.receive()]

    def poll(self, milliseconds: int) -> bool:
        """Tell whether something is there within a time."""
        return bool(self._socket.poll(milliseconds))


class SecureOutlet:
    """A SecureSocket, given one event after the other."""

    def __init__(self, secure: SecureSocket, *, is_bundled: bool) -> None:
        self._secure = secure
        self._is_bundled = is_bundled

    def send(self, chunk: Chunk) -> None:
        """Send events."""
        send = self._secure.send
        for topic, payload in chunk:
            send(payload, topic)

    def idle(self) -> None:
        """Let bundles go that have waited long enough."""
        if self._is_bundled:
            self._secure.poll(0)

    def flush(self) -> None:
        """Send what still waits for company."""
        self._secure.flush()


class SecureInlet:
    """The other end of it."""

    def __init__(self, secure: SecureSocket, *, takes_bundles: bool) -> None:
        self._secure = secure
        self.takes_bundles = takes_bundles

    def receive(self) -> bytes:
        """Return the next payload."""
        return self._secure.recv().payload

    def receive_bundle(self) -> Sequence[bytes]:
        """Return the payloads of the next envelope."""
        return self._secure.recv_bundle().payloads

    def poll(self, milliseconds: int) -> bool:
        """Tell whether something is there within a time."""
        return self._secure.poll(milliseconds)


class DtlsOutlet:
    """DTLS records, each a message."""

    def __init__(self, socket: zmq.Socket[Any], channel: dtls.Channel) -> None:
        self._socket = socket
        self._channel = channel

    def send(self, chunk: Chunk) -> None:
        """Send events."""
        send, wrap = self._socket.send, self._channel.wrap
        for topic, payload in chunk:
            send(wrap(topic + END_OF_TOPIC + payload))

    def idle(self) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""


class DtlsInlet:
    """The other end of it."""

    takes_bundles = False

    def __init__(self, socket: zmq.Socket[Any], channel: dtls.Channel) -> None:
        self._socket = socket
        self._channel = channel

    def receive(self) -> bytes:
        """Return the next payload."""
        return without_topic(self._channel.unwrap(self._socket.recv()))

    def receive_bundle(self) -> Sequence[bytes]:
        """Return one."""
        return [self.receive()]

    def poll(self, milliseconds: int) -> bool:
        """Tell whether something is there within a time."""
        return bool(self._socket.poll(milliseconds))


def without_topic(frame: bytes) -> bytes:
    """Return what follows the topic."""
    return frame[frame.index(END_OF_TOPIC) + 1 :]


def make_outlet(plan: Plan, context: zmq.Context[Any], place: str) -> Outlet:
    """Connect the publisher."""
    way = plan.way
    if way.carrier is Carrier.DTLS:
        socket = plan.make_socket(context, zmq.PAIR)
        plan.join(socket, place)
        return DtlsOutlet(socket, dtls.connect(plan.folder, socket))
    socket = plan.make_socket(context, zmq.PUB)
    plan.join(socket, place)
    if not way.is_signed:
        return PlainOutlet(socket, is_one_frame=way.is_one_frame)
    # Topics come mixed: to collect them is the socket's work, and not for ``send_many()``.
    bundling = (LARGE if way.is_large else Bundling()) if way.is_bundled else None
    secure = SecureSocket(socket, sealer=plan.make_sealer(), bundling=bundling)
    return SecureOutlet(secure, is_bundled=way.is_bundled)


def make_inlet(plan: Plan, context: zmq.Context[Any], place: str, number: int) -> Inlet:
    """Connect a subscriber."""
    way = plan.way
    if way.carrier is Carrier.DTLS:
        socket = plan.make_socket(context, zmq.PAIR)
        plan.join(socket, place)
        return DtlsInlet(socket, dtls.connect(plan.folder, socket))
    socket = plan.make_socket(context, zmq.SUB)
    socket.subscribe(b"")
    plan.join(socket, place)
    if not way.is_signed:
        return PlainInlet(socket, is_one_frame=way.is_one_frame)
    secure = SecureSocket(socket, opener=plan.make_opener(number))
    return SecureInlet(secure, takes_bundles=way.takes_bundles)
