"""What a relay does with each message: plain frames to envelopes and back (SPEC 17).

Rules of this file: a pipe goes one way. It moves what is there and never waits. What
cannot be sent now is held, and nothing more is read for it: so a full queue is felt by
whoever fills it, as without a relay, and no other flow is.
"""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import zmq

from envelope.errors import MalformedError, StoreUnavailableError, UsageError
from envelope.message import Message
from envelope.zeromq.frames import Frames, Route
from envelope.zeromq.socket import SecureSocket

_log = logging.getLogger("envelope.relay")

BURST: Final = 256
"""Messages that one pipe moves before the others have their turn; they share envelopes."""
MAX_CLIENTS: Final = 1024
"""Clients of the other end that have a socket here at once, the latest heard."""

Plain = zmq.Socket[Any]


@dataclass(slots=True)
class Figures:
    """What one pipe moved. Bytes are those of plain frames.

    Attributes:
        messages: moved.
        bytes: in them.
        dropped: not moved, for they cannot be sealed, or are no message of a relay.
    """

    messages: int = 0
    bytes: int = 0
    dropped: int = 0


class Pipe(ABC):
    """One direction of a flow."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.figures = Figures()
        self.is_held = False
        """Whether something waits for room."""
        self.is_out_of_order = False
        """Whether the replay store cannot answer."""

    @property
    @abstractmethod
    def source(self) -> list[Plain]:
        """The sockets to wait on for messages."""

    @property
    @abstractmethod
    def target(self) -> Plain:
        """The socket to wait on for room."""

    @abstractmethod
    def _move(self) -> bool:
        """Move one message; tell whether there was one.

        Raises:
            zmq.Again: there is no room; what was read is held.
        """

    def turn(self) -> bool:
        """Move what is there, up to a burst; tell whether more may be there."""
        self.is_held = self.is_out_of_order = False
        try:
            for _ in range(BURST):
                if not self._move():
                    self._flush()
                    return False
            self._flush()
        except zmq.Again:
            self.is_held = True
            return False
        except StoreUnavailableError:
            self.is_out_of_order = True
            return False
        return True

    def _flush(self) -> None:  # noqa: B027 (most collect nothing)
        """Let what was collected go.

        Raises:
            zmq.Again: there is no room.
        """

    def _count(self, frames: Frames) -> None:
        self.figures.messages += 1
        self.figures.bytes += sum(map(len, frames))

    def _drop(self, why: object) -> None:
        self.figures.dropped += 1
        if self.figures.dropped.bit_count() == 1:  # The 1st, 2nd, 4th, 8th...
            _log.warning("%s: dropped %d so far: %s", self.name, self.figures.dropped, why)


class Outward(Pipe):
    """From a plain socket to a sealed one."""

    def __init__(  # noqa: PLR0913 (two ends, and what is between)
        self,
        name: str,
        plain: Plain,
        secure: SecureSocket,
        *,
        topic: int | None,
        has_topics: bool,
        subscriptions: Plain | None = None,
    ) -> None:
        """``topic``: bytes of the first frame in clear; ``subscriptions``: where to read them."""
        super().__init__(name)
        self._plain = plain
        self._secure = secure
        self._topic = topic
        self._has_topics = has_topics
        self._subscriptions = subscriptions
        self._held: Frames | None = None
        self._latest: bytes | None = None

    @property
    def source(self) -> list[Plain]:
        """The plain socket, and the sealed one if it tells of subscriptions."""
        return [self._plain, *([self._subscriptions] if self._subscriptions else [])]

    @property
    def target(self) -> Plain:
        """The sealed socket."""
        return self._secure.socket

    def turn(self) -> bool:
        """Pass on subscriptions, then messages."""
        if self._subscriptions is not None:
            _subscribe(self._subscriptions, self._plain, None if self._topic is None else 0)
        return super().turn()

    def _move(self) -> bool:
        frames = self._held
        if frames is None:
            frames = _read(self._plain)
            if frames is None:
                return False
        self._held = frames
        try:
            self._send(frames)
        except UsageError as error:
            self._drop(error)
        else:
            self._count(frames)
        self._held = None
        return True

    def _send(self, frames: Frames) -> None:
        if not self._has_topics:
            self._secure.send_multipart(frames, flags=zmq.NOBLOCK)
            return
        first = frames[0]
        at = len(first) if self._topic is None else self._topic
        if first[:at] != self._latest:
            # What a publisher says on several topics stays in its order.
            self._secure.flush(zmq.NOBLOCK)
            self._latest = first[:at]
        self._secure.send_multipart([first[at:], *frames[1:]], first[:at], flags=zmq.NOBLOCK)

    def _flush(self) -> None:
        self._secure.flush(zmq.NOBLOCK)


class Inward(Pipe):
    """From a sealed socket to a plain one.

    Attributes:
        least: frames that a message has; a client's id is one of them.
    """

    least = 1

    def __init__(  # noqa: PLR0913 (two ends, and what is between)
        self,
        name: str,
        secure: SecureSocket,
        plain: Plain,
        *,
        has_topics: bool,
        topic: int | None = None,
        subscriptions: Plain | None = None,
    ) -> None:
        """``subscriptions``: where to read them."""
        super().__init__(name)
        self._secure = secure
        self._plain = plain
        self._has_topics = has_topics
        self._topic = topic
        self._subscriptions = subscriptions
        self._held: Frames | None = None

    @property
    def source(self) -> list[Plain]:
        """The sealed socket, and the plain one if it tells of subscriptions."""
        return [self._secure.socket, *([self._subscriptions] if self._subscriptions else [])]

    @property
    def target(self) -> Plain:
        """The plain socket."""
        return self._plain

    def turn(self) -> bool:
        """Pass on subscriptions, then messages."""
        if self._subscriptions is not None:
            _subscribe(self._subscriptions, self._secure.socket, self._topic)
        return super().turn()

    def _move(self) -> bool:
        if self._held is None:
            message = _open(self._secure)
            if message is None:
                return False
            try:
                self._held = self._unwrap(message)
            except MalformedError as error:
                self._drop(error)
                return True
        self._plain.send_multipart(self._held, zmq.NOBLOCK)
        self._count(self._held)
        self._held = None
        return True

    def _unwrap(self, message: Message) -> Frames:
        frames = message.frames()
        if len(frames) < self.least:
            raise MalformedError("fewer frames than a message of this flow has")
        if self._has_topics:
            frames[0] = (message.topic or b"") + frames[0]
        return frames


class FrontOut(Outward):
    """From a plain ROUTER, with the client's id in front, to a sealed DEALER.

    Attributes:
        announces: sealed sockets of other flows, on which each client is announced.
    """

    def __init__(self, name: str, plain: Plain, secure: SecureSocket) -> None:
        """Begin to announce nothing."""
        super().__init__(name, plain, secure, topic=0, has_topics=False)
        self.announces: list[SecureSocket] = []

    def _send(self, frames: Frames) -> None:
        super()._send(frames)
        for secure in self.announces:
            # Lost where there is no room: the next message announces it again.
            with contextlib.suppress(zmq.Again):
                secure.send_multipart(frames[:1], flags=zmq.NOBLOCK)
                secure.flush(zmq.NOBLOCK)


class FrontIn(Inward):
    """From a sealed DEALER to the client of a plain ROUTER that the payload names."""

    least = 2


class Clients:
    """The plain DEALERs of one flow, one for each client at the other end.

    So a server sees its clients under the routing ids that they have there.
    """

    def __init__(self, make: Callable[[bytes], Plain]) -> None:
        self._make = make
        self._known: OrderedDict[tuple[str, bytes], Plain] = OrderedDict()
        self._routes: dict[tuple[str, bytes], Route] = {}
        self._turns: deque[tuple[str, bytes]] = deque()

    def find(self, message: Message, client: bytes) -> Plain:
        """Return the socket of a client, and note the way back to it."""
        who = (message.sender.name, client)
        self._routes[who] = message.route
        socket = self._known.get(who)
        if socket is not None:
            self._known.move_to_end(who)
            return socket
        while len(self._known) >= MAX_CLIENTS:
            oldest, gone = self._known.popitem(last=False)
            del self._routes[oldest]
            self._turns.remove(oldest)
            gone.close()
        socket = self._known[who] = self._make(client)
        self._turns.append(who)
        return socket

    @property
    def sockets(self) -> list[Plain]:
        """All of them."""
        return list(self._known.values())

    def read(self) -> tuple[bytes, Route, Frames] | None:
        """Return what some server says to some client, and the way there; each in turn."""
        for _ in range(len(self._turns)):
            who = self._turns[0]
            self._turns.rotate(-1)
            frames = _read(self._known[who])
            if frames is not None:
                return who[1], self._routes[who], frames
        return None

    def close(self, linger: int) -> None:
        """Close all."""
        for socket in self._known.values():
            socket.close(linger)


class BackIn(Inward):
    """From a sealed ROUTER to the plain DEALER of the client that the payload names."""

    def __init__(self, name: str, secure: SecureSocket, clients: Clients) -> None:
        """Share the clients with the way back."""
        super().__init__(name, secure, secure.socket, has_topics=False)
        self._clients = clients
        self._into: Plain | None = None

    @property
    def target(self) -> Plain:
        """The socket that had no room."""
        return self._plain if self._into is None else self._into

    def _move(self) -> bool:
        if self._held is None:
            message = _open(self._secure)
            if message is None:
                return False
            try:
                client, *frames = self._unwrap(message)
            except MalformedError as error:
                self._drop(error)
                return True
            into = self._clients.find(message, client)
            if not frames:  # It is only announced, so that its server can speak first.
                return True
            self._into, self._held = into, frames
        assert self._into is not None
        self._into.send_multipart(self._held, zmq.NOBLOCK)
        self._count(self._held)
        self._held = self._into = None
        return True


class BackOut(Pipe):
    """From the plain DEALERs to a sealed ROUTER, by the way that each client came."""

    def __init__(self, name: str, clients: Clients, secure: SecureSocket) -> None:
        """Share the clients with the way in."""
        super().__init__(name)
        self._clients = clients
        self._secure = secure

    @property
    def source(self) -> list[Plain]:
        """All of the DEALERs."""
        return self._clients.sockets

    @property
    def target(self) -> Plain:
        """The sealed socket."""
        return self._secure.socket

    def _move(self) -> bool:
        found = self._clients.read()
        if found is None:
            return False
        client, route, frames = found
        try:
            # A ROUTER drops what nobody can take; it never has to wait.
            self._secure.send_multipart([client, *frames], flags=zmq.NOBLOCK, route=route)
        except UsageError as error:
            self._drop(error)
        else:
            self._count(frames)
        return True


def _has_arrived(socket: Plain) -> bool:
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def _read(socket: Plain) -> Frames | None:
    # An exception costs more than a look.
    if not _has_arrived(socket):
        return None
    try:
        return socket.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return None


def _open(secure: SecureSocket) -> Message | None:
    if not secure.has_ready and not _has_arrived(secure.socket):
        return None
    try:
        return secure.recv(zmq.NOBLOCK)
    except zmq.Again:
        return None


def _subscribe(source: Plain, target: Plain, limit: int | None) -> None:
    """Pass on subscriptions as they are; nothing else that subscribers send.

    With a limit the clear part of a topic is shorter than what is subscribed to: then
    prefixes are cut to it, and never taken back, for others may have the same one.
    """
    for _ in range(BURST):
        frames = _read(source)
        if frames is None:
            return
        said = frames[0]
        if said[:1] not in (b"\x00", b"\x01"):
            continue
        if limit is None:
            target.send(said)
        elif said[:1] == b"\x01":
            target.send(said[: 1 + limit])
