"""Requests in flight, and the replies of those that were executed (SPEC 16.3).

Rules of this file: tables, bounded, without I/O. A reply is looked for by the id that it
names; whether it may be believed is the opener's.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from envelope.errors import RequestError, UsageError
from envelope.message import Message, message_id, recipients_of
from envelope.sealer import Sealer
from envelope.trust import Peer
from envelope.zeromq.frames import Frames, Route

_MAX_PENDING: Final = 4096
"""Requests in flight on one socket."""
_MAX_ANSWERED: Final = 4096
"""Ids remembered of requests that are over, so that a second reply is known for one."""
_MAX_REPLIES: Final = 1024
_MAX_REPLY_BYTES: Final = 64 * 2**20
"""Replies kept for those who ask again: of the last minute or so of a busy server."""
_MAX_DONE: Final = 16_384
"""Requests known to be executed whose replies were dropped; some 200 bytes each."""
MAX_CHALLENGES: Final = 3
"""Challenges that one request answers."""


class Request:
    """A request in flight. Made by ``send_request``.

    Attributes:
        id: the message id that its reply names.
        reply: the reply, or None as long as there is none.
        error: why there will be none, or None.

    All else is for the socket that sent it.
    """

    __slots__ = (
        "asked",
        "bound",
        "challenges",
        "error",
        "frames",
        "id",
        "is_harmless",
        "is_to_one",
        "payload",
        "reply",
        "route",
        "sealed_at",
        "stream",
    )

    def __init__(
        self,
        payload: bytes,
        *,
        bound: tuple[bytes, ...],
        route: Route,
        is_harmless: bool,
        is_to_one: bool,
    ) -> None:
        self.payload = payload
        self.bound = bound
        self.route = route
        self.is_harmless = is_harmless
        self.is_to_one = is_to_one
        self.challenges = 0
        self.reply: Message | None = None
        self.error: RequestError | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has its reply, or will have none."""
        return self.reply is not None or self.error is not None

    def carry(self, sealer: Sealer, now: int, *, in_reply_to: bytes | None = None) -> None:
        """Seal it, for the first time or again; from now on it goes by that id.

        Raises:
            UsageError: as ``Sealer.seal``.
        """
        data = sealer.seal(self.payload, bound=self.bound, in_reply_to=in_reply_to)
        self.id = message_id(data)
        self.asked = recipients_of(data) or None
        self.stream = sealer.stream
        self.sealed_at = now
        self.frames = [*self.route, *self.bound, data]

    def __repr__(self) -> str:
        """Return the id and what became of it, without the payload."""
        state = "replied" if self.reply else "failed" if self.error else "in flight"
        return f"<Request {self.id.hex()[:16]} {state}>"


class Requests:
    """The requests of one socket. Not thread-safe."""

    def __init__(self) -> None:
        self.pending: dict[bytes, Request] = {}
        self._over: deque[bytes] = deque(maxlen=_MAX_ANSWERED)
        self._was: set[bytes] = set()

    def check_room(self) -> None:
        """Check that one more request may be in flight.

        Raises:
            UsageError: as many are as may be.
        """
        if len(self.pending) >= _MAX_PENDING:
            raise UsageError(f"{_MAX_PENDING} requests are in flight; wait for some of them")

    def add(self, request: Request) -> None:
        """Wait for the reply of a request, by its id as it is now."""
        self.pending[request.id] = request

    def end(self, request: Request) -> None:
        """Wait no more."""
        if self.pending.pop(request.id, None) is not None:
            if len(self._over) == _MAX_ANSWERED:
                self._was.discard(self._over[0])
            self._over.append(request.id)
            self._was.add(request.id)

    def was_answered(self, named: bytes) -> bool:
        """Tell whether a request is over."""
        return named in self._was


class Replies:
    """What was answered lately, for those who ask again. Not thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Frames] = OrderedDict()
        self._size = 0
        self._done: OrderedDict[bytes, Peer] = OrderedDict()

    def __bool__(self) -> bool:
        """Tell whether anything was answered."""
        return bool(self._done)

    def keep(self, request: bytes, peer: Peer, frames: Frames) -> None:
        """Keep a reply; the oldest go for it."""
        if request in self._kept:
            return  # The first one is the reply.
        self._done[request] = peer
        self._kept[request] = frames
        self._size += sum(map(len, frames))
        while len(self._kept) > _MAX_REPLIES or self._size > _MAX_REPLY_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._size -= sum(map(len, dropped))
        if len(self._done) > _MAX_DONE:
            self._done.popitem(last=False)

    def find(self, request: bytes) -> Frames | None:
        """Return the reply that is kept, without its route."""
        return self._kept.get(request)

    def requester(self, request: bytes) -> Peer | None:
        """Return who was answered, also when the reply is gone."""
        return self._done.get(request)

    def replace(self, request: bytes, frames: Frames) -> None:
        """Keep something small in place of a reply that is gone."""
        self._kept[request] = frames
        self._size += sum(map(len, frames))
