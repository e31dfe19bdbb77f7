"""What an opener, or a session, hands out: payloads and where they provably come from.

Rules of this file: a Message exists only for what passed every check. Printing one shows
no payload.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self, overload

from envelope import codec, wire
from envelope.binding import body_digest
from envelope.errors import MalformedError, UsageError
from envelope.primitives import hasher
from envelope.trust import Peer

_ID = hasher(b"env1-id")
_u32 = struct.Struct(">I").pack


def identify(head: bytes, body: bytes, index: int) -> bytes:
    """Return the id of a message by HEAD, BODY and its index (SPEC 5.5)."""
    state = _ID.copy()
    state.update(head)
    state.update(body)
    state.update(_u32(index))
    return state.digest()[: wire.ID_SIZE]


def message_id(data: bytes, index: int = 0) -> bytes:
    """Return the id of a message in an envelope, 32 bytes (SPEC 5.5).

    The sender of a request computes it from what it sealed, and the reply carries
    it. It needs no key and proves nothing by itself.

    Args:
        data: the envelope.
        index: of the message in a bundle.

    Raises:
        MalformedError: not an envelope, or not in its one encoding.
        VersionError: an envelope of another version.
        UsageError: the index is out of range, or data is not bytes.
    """
    if type(data) is not bytes:
        raise UsageError("an envelope is bytes")
    if type(index) is not int or not 0 <= index < 2**32:
        raise UsageError("index is that of a message in its bundle, from 0")
    header = wire.decode(data)
    body = memoryview(data)[header.body : -wire.SIGNATURE_SIZE]
    return identify(data[: header.body], body_digest(body), index)


def recipients_of(data: bytes) -> tuple[bytes, ...]:
    """Return the key ids that an envelope is addressed to, none for everyone (SPEC 4.2).

    Whoever sent a request accepts its reply from these. It proves nothing by itself.

    Raises:
        MalformedError, VersionError, UsageError: as ``message_id``.
    """
    if type(data) is not bytes:
        raise UsageError("an envelope is bytes")
    header = wire.decode(data)
    start, step = header.key_block, wire.KEY_ID_SIZE
    if header.kind == wire.SEALED:
        start, step = start + wire.KEYS_SIZE, wire.ENTRY_SIZE
    return tuple(data[at : at + wire.KEY_ID_SIZE] for at in range(start, header.body, step))


class Origin(Protocol):
    """What all messages of one arrival share."""

    sender: Peer
    context: str
    bound: tuple[bytes, ...]
    skipped: int
    route: tuple[bytes, ...]

    @property
    def header(self) -> wire.Header:
        """The header, or what stands for one."""

    def identify(self, index: int) -> bytes:
        """Return the message id."""


class Arrival:
    """What all messages of one envelope share; filled by the opener."""

    __slots__ = ("body", "bound", "context", "head", "header", "route", "sender", "skipped")

    def __init__(  # noqa: PLR0913, PLR0917 (on the hot path: positional, no wrapping)
        self,
        sender: Peer,
        header: wire.Header,
        context: str,
        bound: tuple[bytes, ...],
        skipped: int,
        head: bytes,
        body: bytes,
    ) -> None:
        self.sender = sender
        self.header = header
        self.context = context
        self.bound = bound
        self.skipped = skipped
        self.head = head
        self.body = body
        self.route: tuple[bytes, ...] = ()

    def identify(self, index: int) -> bytes:
        """Return the message id (SPEC 5.5)."""
        return identify(self.head, self.body, index)


class Message:
    """A payload that passed every check of SPEC 7.2, or 18.8. Immutable; safe to share."""

    __slots__ = ("_arrival", "_index", "_payload")

    def __init__(self, payload: bytes, index: int, arrival: Origin) -> None:
        """Made by an opener or a session only."""
        self._payload = payload
        self._index = index
        self._arrival = arrival

    @property
    def payload(self) -> bytes:
        """The bytes that the sender sealed."""
        return self._payload

    @property
    def index(self) -> int:
        """Its place in the bundle; 0 for a single one."""
        return self._index

    @property
    def sender(self) -> Peer:
        """The peer whose key signed it, or whose session it came by, as the trust store has it."""
        return self._arrival.sender

    @property
    def stream(self) -> bytes:
        """The 16-byte id of the sender's stream; in a session, of its direction (SPEC 18.5)."""
        return self._arrival.header.stream

    @property
    def sequence(self) -> int:
        """The envelope's number in its stream, from 0."""
        return self._arrival.header.sequence

    @property
    def sent_at(self) -> int:
        """The sender's wall clock at sealing, Unix microseconds.

        In a session: when the session began, by the sender's clock. It was sealed later.
        """
        return self._arrival.header.sent_at

    @property
    def sealed(self) -> bool:
        """Whether it was encrypted."""
        return self._arrival.header.kind != wire.SIGNED

    @property
    def by_session(self) -> bool:
        """Whether it came by a session, so that nobody can prove to others who sent it."""
        return self._arrival.header.kind not in (wire.SIGNED, wire.SEALED)

    @property
    def context(self) -> str:
        """The context that it was sent in."""
        return self._arrival.context

    @property
    def bound(self) -> tuple[bytes, ...]:
        """The bound frames that it was sent with."""
        return self._arrival.bound

    @property
    def topic(self) -> bytes | None:
        """The first bound frame, or None."""
        bound = self._arrival.bound
        return bound[0] if bound else None

    @property
    def id(self) -> bytes:
        """The 32-byte message id (SPEC 5.5, 18.6); a reply names it. Computed when asked for."""
        return self._arrival.identify(self._index)

    @property
    def in_reply_to(self) -> bytes | None:
        """The id of the request that this answers, or None."""
        return self._arrival.header.in_reply_to

    @property
    def route(self) -> tuple[bytes, ...]:
        """The frames before it that a ROUTER puts before the reply (SPEC 16.2); else none.

        The network may change them: they say where a reply goes, not who asked.
        """
        return self._arrival.route

    @property
    def skipped(self) -> int:
        """How many envelopes of this stream are missing just before this one (SPEC 8.9)."""
        return 0 if self._index else self._arrival.skipped

    def object(self) -> Any:
        """Decode the payload as an object (SPEC 10).

        Raises:
            MalformedError: it is none, or not in its one encoding.
        """
        try:
            return codec.decode_object(self.payload)
        except MalformedError as error:
            error.claimed_sender, error.verified = self.sender.key_id, True
            raise

    def frames(self) -> list[bytes]:
        """Decode the payload as the frames of a multipart message (SPEC 10.3).

        Raises:
            MalformedError: it is none, or not in its one encoding.
        """
        try:
            return codec.decode_frames(self.payload)
        except MalformedError as error:
            error.claimed_sender, error.verified = self.sender.key_id, True
            raise

    @property
    def arrival(self) -> Origin:
        """What it shares with the messages that arrived with it; for adapters."""
        return self._arrival

    def came_by(self, route: tuple[bytes, ...]) -> None:
        """Note the route; for the adapter that knows it, once."""
        self._arrival.route = route

    def __repr__(self) -> str:
        """Return where it is from and its size, without the payload."""
        return (
            f"<Message {len(self._payload)} bytes from {self.sender.name!r},"
            f" stream {self.stream.hex()}, sequence {self.sequence}>"
        )


class Bundle(Sequence[Message]):
    """The messages of one envelope, in order; one if it is no bundle. Immutable; safe to share.

    Its payloads are at hand at once. Its messages are made when the first of them is asked
    for, so whoever needs the payloads alone does not pay for them.
    """

    __slots__ = ("_arrival", "_messages", "_payloads")

    def __init__(self, payloads: list[bytes], arrival: Origin) -> None:
        """Made by an opener only; the list is its own from now on."""
        self._payloads = payloads
        self._arrival = arrival
        self._messages: list[Message] | None = None

    @classmethod
    def of(cls, messages: list[Message]) -> Self:
        """Return these messages of one arrival, at least one, as what they came by."""
        bundle = cls([message.payload for message in messages], messages[0].arrival)
        bundle._messages = messages
        return bundle

    @property
    def payloads(self) -> tuple[bytes, ...]:
        """The payloads of its messages."""
        return tuple(self._payloads)

    @property
    def sender(self) -> Peer:
        """The peer whose key signed all of them."""
        return self._arrival.sender

    def _all(self) -> list[Message]:
        if self._messages is None:
            counts, shared = itertools.count(), itertools.repeat(self._arrival)
            made = list(map(Message, self._payloads, counts, shared))
            # Of two threads that come at once each makes them; those of the first stay for both,
            # or one would hold messages that are not in here. No call is between the two lines.
            if self._messages is None:
                self._messages = made
        return self._messages

    def __len__(self) -> int:
        return len(self._payloads)

    @overload
    def __getitem__(self, at: int) -> Message: ...

    @overload
    def __getitem__(self, at: slice) -> list[Message]: ...

    def __getitem__(self, at: int | slice) -> Message | list[Message]:
        return self._all()[at]

    def __iter__(self) -> Iterator[Message]:
        return iter(self._all())

    def __repr__(self) -> str:
        """Return how many and from whom, without a payload."""
        return f"<Bundle of {len(self._payloads)} from {self.sender.name!r}>"
