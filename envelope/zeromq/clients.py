"""Clients behind a relay: each keeps its own name at the other end (SPEC 17.3).

Rules of this file: where the programs' clients are, a ROUTER's messages carry their routing
ids in the payload. Where the server is, each client has a plain DEALER of that name. So an
answer finds the way back, and the server sees whom it would have seen without relays.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, NamedTuple

import zmq

from envelope import clock
from envelope.errors import MalformedError, UsageError
from envelope.message import Message
from envelope.zeromq.frames import Frames, Route
from envelope.zeromq.pipes import Inward, Outward, Pipe, Plain, has_events, open_next, read, write
from envelope.zeromq.socket import SecureSocket

MAX_CLIENTS: Final = 1024
"""Clients of the other end that have a socket here at once, the latest heard."""
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


class Client(NamedTuple):
    """Who it is: a name at the other end, and the peer that vouches for it."""

    sender: str
    name: bytes


class Clients:
    """The plain DEALERs of one flow, one for each client at the other end.

    Attributes:
        companions: those of other flows, where a client shall have its line, too, before
            anything of it arrives here.
    """

    def __init__(self, make: Callable[[bytes], Plain]) -> None:
        self._make = make
        self.companions: list[Clients] = []
        self._known: OrderedDict[Client, Plain] = OrderedDict()
        self._routes: dict[Client, Route] = {}
        """The way back; none where a client is only expected."""
        self._turns: deque[Client] = deque()

    def hear(self, who: Client, route: Route) -> bool:
        """Note the way back to a client; tell whether it is new."""
        is_new = who not in self._known
        self.find(who)
        self._routes[who] = route
        return is_new

    def find(self, who: Client) -> Plain:
        """Return the socket of a client, a new one if there is none."""
        socket = self._known.get(who)
        if socket is not None:
            self._known.move_to_end(who)
            return socket
        while len(self._known) >= MAX_CLIENTS:
            oldest, gone = self._known.popitem(last=False)
            self._routes.pop(oldest, None)
            self._turns.remove(oldest)
            gone.close()
        socket = self._known[who] = self._make(who.name)
        self._turns.append(who)
        return socket

    @property
    def sockets(self) -> list[Plain]:
        """Those that can be read."""
        return [self._known[who] for who in self._routes]

    def read(self) -> tuple[bytes, Route, Frames] | None:
        """Return what some server says to some client, and the way there; each in turn."""
        for _ in range(len(self._turns)):
            who = self._turns[0]
            self._turns.rotate(-1)
            route = self._routes.get(who)
            frames = None if route is None else read(self._known[who])
            if frames is not None:
                assert route is not None
                return who.name, route, frames
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
        self._into = self._plain
        self._first: list[Plain] = []
        """What a new client shall have before: lines on other flows."""
        self._until = 0
        """Up to when they are waited for."""

    @property
    def target(self) -> Plain:
        """The socket that had no room."""
        return self._into

    def _move(self) -> bool:
        if self._held is None:
            message = open_next(self._secure)
            if message is None:
                return False
            try:
                self._take(message)
            except MalformedError as error:
                self._drop(error)
                return True
        if self._held is None:
            return True
        while self._first:
            now = clock.monotonic()
            if now < self._until and not has_events(self._first[-1], _POLLOUT):
                self.again_at = now + _LOOK
                raise zmq.Again
            self._first.pop()
        write(self._into, self._held)
        self._count(self._held)
        self._held = None
        return True

    def _take(self, message: Message) -> None:
        """Hold what a message has for its client, if anything.

        Raises:
            MalformedError: it names none.
        """
        name, *frames = self._unwrap(message)
        who = Client(message.sender.name, name)
        is_new = self._clients.hear(who, message.route)
        if not frames:  # It is only announced, so that its server can speak first.
            return
        self._held = frames
        self._into = self._clients.find(who)
        if is_new:
            self._first = [one.find(who) for one in self._clients.companions]
            self._until = clock.monotonic() + _TO_BE_READY


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
        client, route, frames = found
        try:
            self._secure.send_multipart([client, *frames], flags=zmq.NOBLOCK, route=route)
        except UsageError as error:
            self._drop(error)
        else:
            self._count(frames)
        return True
