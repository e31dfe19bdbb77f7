"""Clients behind a relay: each keeps its own name at the other end (SPEC 17.3).

Rules of this file: where the programs' clients are, a ROUTER's messages carry their routing
ids in the payload. Where the server is, each client has a plain DEALER of that name. So an
answer finds the way back, and the server sees whom it would have seen without relays.
"""

from __future__ import annotations

import contextlib
import errno
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import zmq

from envelope import clock
from envelope.errors import UsageError
from envelope.message import Message
from envelope.trust import Peer
from envelope.zeromq.frames import Frames, Route
from envelope.zeromq.pipes import Inward, Outward, Pipe, Plain, has_events, read, write
from envelope.zeromq.socket import SecureSocket

MAX_CLIENTS: Final = 1024
"""Clients of one flow that have a socket here at once. Each takes a few descriptors too, of
which a process may have fewer."""
_TO_BE_READY: Final = 1_000_000
"""Microseconds that a message waits for a client's line to come, where it is sure to be
needed: a server that could not ask would wait for ever."""
_LOOK: Final = 5_000
"""Microseconds between two looks meanwhile."""
_POLLOUT: Final = int(zmq.POLLOUT)


class FrontOut(Outward):
    """From a plain ROUTER, with the client's id in front, to a sealed DEALER.

    Attributes:
        announces: sealed sockets of other flows, on which each client is announced.
    """

    def __init__(self, name: str, plain: Plain, secure: SecureSocket) -> None:
        """Begin to announce nothing."""
        super().__init__(name, plain, secure, topic=0, has_topics=False)
        self.announces: list[SecureSocket] = []

    def _send(self) -> None:
        # First, so that the way for what the server asks may be there when it does.
        for client in dict.fromkeys(frames[0] for frames in self._batch):
            for secure in self.announces:
                # Lost where there is no room: the next message announces it again.
                with contextlib.suppress(zmq.Again):
                    secure.send_multipart([client], flags=zmq.NOBLOCK)
        super()._send()


class FrontIn(Inward):
    """From a sealed DEALER to the client of a plain ROUTER that the payload names."""

    least = 2

    def __init__(self, name: str, secure: SecureSocket, plain: Plain, *, is_patient: bool) -> None:
        """``is_patient``: the client is there, and may be about to come to this flow."""
        super().__init__(name, secure, plain, has_topics=False)
        self._is_patient = is_patient
        self._until: int | None = None
        """Up to when the client is waited for."""

    def _write(self, frames: Frames) -> None:
        try:
            write(self._plain, frames)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            now = clock.monotonic()
            if self._until is None:
                self._until = now + (_TO_BE_READY if self._is_patient else 0)
            if now < self._until:
                self.again_at = now + _LOOK
                raise zmq.Again from None
            self._until = None
            raise UsageError("a client that is not there, or takes no more") from None
        self._until = None


@dataclass(slots=True, eq=False)
class Client:
    """One client of the other end.

    Attributes:
        name: its routing id there.
        sender: the peer that speaks for it.
        socket: its own here.
        route: the way back to it; None where it is only expected.
    """

    name: bytes
    sender: Peer
    socket: Plain
    route: Route | None = None


class Clients:
    """The plain DEALERs of one flow, one for each client at the other end.

    Where there are too many, the one that was heard longest ago goes, of the peer that has
    the most: so no peer can crowd out another's clients, nor pass its own off as them.

    Attributes:
        companions: those of other flows, where a client shall have its line, too, before
            anything of it arrives here.
    """

    def __init__(self, make: Callable[[bytes], Plain], limit: int = MAX_CLIENTS) -> None:
        self._make = make
        self._limit = limit
        self.companions: list[Clients] = []
        self._known: OrderedDict[tuple[str, bytes], Client] = OrderedDict()
        """By the names of sender and client, the one that was heard longest ago first."""
        self._turns: deque[Client] = deque()

    def find(self, name: bytes, sender: Peer) -> tuple[Client, bool]:
        """Return a client, and whether it is new.

        A name is that of the first peer who has a client of this name. A server would not
        listen to another, or give it what is for the first; so those of other peers have
        names that ZeroMQ gives.

        Raises:
            UsageError: there is no room.
        """
        who = sender.name, name
        client = self._known.get(who)
        if client is not None:
            client.sender = sender
            self._known.move_to_end(who)
            return client, False
        if len(self._known) >= self._limit:
            self._forget_one()
        try:
            is_taken = any(one.name == name for one in self._known.values())
            socket = self._make(b"" if is_taken else name)
        except zmq.ZMQError as error:
            if error.errno != errno.EMFILE:
                raise
            if self._known:
                self._forget_one()
            raise UsageError("more clients than this process may have sockets") from None
        client = self._known[who] = Client(name, sender, socket)
        self._turns.append(client)
        return client, True

    def _forget_one(self) -> None:
        ((most, _),) = Counter(sender for sender, _ in self._known).most_common(1)
        oldest = next(who for who in self._known if who[0] == most)
        client = self._known.pop(oldest)
        self._turns.remove(client)
        client.socket.close()

    @property
    def sockets(self) -> list[Plain]:
        """Those that can be read: there is a way back to whom they belong."""
        return [one.socket for one in self._known.values() if one.route is not None]

    def read(self) -> tuple[Client, Frames] | None:
        """Return what some server says to some client; each in turn."""
        for _ in range(len(self._turns)):
            client = self._turns[0]
            self._turns.rotate(-1)
            frames = None if client.route is None else read(client.socket)
            if frames is not None:
                return client, frames
        return None

    def close(self, linger: int) -> None:
        """Close all."""
        for client in self._known.values():
            client.socket.close(linger)


class BackIn(Inward):
    """From a sealed ROUTER to the plain DEALER of the client that the payload names."""

    def __init__(self, name: str, secure: SecureSocket, clients: Clients) -> None:
        """Share the clients with the way back."""
        super().__init__(name, secure, secure.socket, has_topics=False)
        self._clients = clients
        self._into = self._plain
        self._first: list[Plain] = []
        """What a new client shall have before: lines on other flows."""
        self._until = 0
        """Up to when they are waited for."""

    @property
    def target(self) -> Plain:
        """The socket that had no room."""
        return self._plain if self._into.closed else self._into

    def _take(self, message: Message) -> Frames | None:
        name, *frames = self._unwrap(message)
        client, is_new = self._clients.find(name, message.sender)
        client.route = message.route
        if not frames:  # It is only announced, so that its server can speak first.
            return None
        self._into = client.socket
        if is_new:
            self._first = []
            for others in self._clients.companions:
                # What is not there at all is not waited for.
                with contextlib.suppress(UsageError):
                    self._first.append(others.find(name, message.sender)[0].socket)
            self._until = clock.monotonic() + _TO_BE_READY
        return frames

    def _write(self, frames: Frames) -> None:
        while self._first:
            now = clock.monotonic()
            line = self._first[-1]
            if now < self._until and not line.closed and not has_events(line, _POLLOUT):
                self.again_at = now + _LOOK
                raise zmq.Again
            self._first.pop()
        if self._into.closed:
            raise UsageError("its client gave way to others")
        write(self._into, frames)


class BackOut(Pipe):
    """From the plain DEALERs to a sealed ROUTER, by the way that each client came."""

    held = 0
    """A ROUTER drops what nobody can take; it never has to wait."""

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
        client, frames = found
        try:
            self._secure.send_multipart(
                [client.name, *frames], flags=zmq.NOBLOCK, route=client.route, to=client.sender
            )
        except UsageError as error:
            self._drop(error)
        else:
            self._count(frames)
        return True
