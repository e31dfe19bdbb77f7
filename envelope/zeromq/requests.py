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
from envelope.wire import decode
from envelope.zeromq.frames import Frames, Route, plain_bound

_MAX_PENDING: Final = 4096
"""Requests in flight on one socket."""
_MAX_OVER: Final = 4096
"""Ids remembered of what is over, so that a second answer is known for one."""
_MAX_REPLIES: Final = 1024
_MAX_REPLY_BYTES: Final = 64 * 2**20
"""Replies kept for those who ask again: of the last minute or so of a busy server."""
_MAX_DONE: Final = 16_384
"""Requests known to be executed whose replies were dropped; some 500 bytes each."""
_MAX_BOUND: Final = 1024
"""Bytes of bound frames kept for saying so."""
MAX_CHALLENGES: Final = 3
"""Challenges that one request answers."""


class Lately:
    """Ids of what is over, the last few thousand of them."""

    def __init__(self) -> None:
        self._order: deque[bytes] = deque(maxlen=_MAX_OVER)
        self._ids: set[bytes] = set()

    def add(self, one: bytes) -> None:
        """Remember an id that is new; the oldest goes for it."""
        if len(self._order) == self._order.maxlen:
            self._ids.discard(self._order[0])
        self._order.append(one)
        self._ids.add(one)

    def __contains__(self, one: bytes) -> bool:
        """Tell whether an id is remembered."""
        return one in self._ids


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
        "is_answer",
        "is_harmless",
        "is_to_one",
        "payload",
        "reply",
        "route",
        "sealed_at",
        "sent_at",
        "stream",
    )

    def __init__(
        self,
        payload: bytes,
        *,
        bound: tuple[bytes, ...],
        route: Route,
        is_harmless: bool,
    ) -> None:
        self.payload = payload
        self.bound = bound
        self.route = route
        self.is_harmless = is_harmless
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
        # Of the envelope, not of the caller's list: a peer in rotation has two keys there,
        # and whoever holds one may not be who holds the other.
        self.is_to_one = self.asked is not None and len(self.asked) == 1
        self.sent_at = decode(data).sent_at
        self.stream = sealer.stream
        self.sealed_at = now
        self.is_answer = in_reply_to is not None
        self.frames = [*self.route, *self.bound, data]

    def __repr__(self) -> str:
        """Return the id and what became of it, without the payload."""
        state = "replied" if self.reply else "failed" if self.error else "in flight"
        return f"<Request {self.id.hex()[:16]} {state}>"


class Requests:
    """The requests of one socket. Not thread-safe."""

    def __init__(self) -> None:
        self.pending: dict[bytes, Request] = {}
        self._over = Lately()

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
            self._over.add(request.id)

    def was_answered(self, named: bytes) -> bool:
        """Tell whether a request is over."""
        return named in self._over


class Executed:
    """A request that was replied to.

    Attributes:
        peer: who asked.
        bound: the bound frames that it came with, if they are few.
        said: what was said last, without a route; None: it is no longer kept.
        said_at: when that was sealed, monotonic microseconds.
    """

    __slots__ = ("bound", "peer", "said", "said_at")

    def __init__(self, message: Message, reply: Frames, now: int) -> None:
        bound = plain_bound(message.bound)
        self.peer = message.sender
        self.bound = bound if sum(map(len, bound)) <= _MAX_BOUND else ()
        self.say(reply, now)

    def say(self, frames: Frames, now: int) -> None:
        """Keep what is said from now on to whoever asks again."""
        self.said: Frames | None = frames
        self.said_at = now


class Replies:
    """What was answered lately, for those who ask again. Not thread-safe."""

    def __init__(self) -> None:
        self._executed: OrderedDict[bytes, Executed] = OrderedDict()
        self._kept: OrderedDict[bytes, int] = OrderedDict()
        """Those whose replies are kept, and how large these are."""
        self._size = 0

    def __bool__(self) -> bool:
        """Tell whether anything was answered."""
        return bool(self._executed)

    def keep(self, message: Message, reply: Frames, now: int) -> None:
        """Keep the reply to a message; the oldest go for it."""
        request = message.id
        if request in self._executed:
            return  # The first one is the reply.
        self._executed[request] = Executed(message, reply, now)
        self._kept[request] = sum(map(len, reply))
        self._size += self._kept[request]
        while len(self._kept) > _MAX_REPLIES or self._size > _MAX_REPLY_BYTES:
            self.drop(next(iter(self._kept)))
        if len(self._executed) > _MAX_DONE:
            self._executed.popitem(last=False)

    def drop(self, request: bytes) -> None:
        """Keep no longer what was said to a request."""
        self._size -= self._kept.pop(request, 0)
        self._executed[request].said = None

    def find(self, request: bytes) -> Executed | None:
        """Return what is known of a request that was answered."""
        return self._executed.get(request)
