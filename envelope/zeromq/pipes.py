"""What a relay does with each message: plain frames to envelopes and back (SPEC 17).

Rules of this file: a pipe goes one way. It moves what is there and never waits. What
cannot be sent now is held, and nothing more is read for it: so a full queue is felt by
whoever fills it, as without a relay, and no other flow is.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import zmq

from envelope import clock, codec
from envelope.errors import MalformedError, StoreUnavailableError, UsageError
from envelope.message import Message
from envelope.zeromq.bundling import MAX_BYTES, MAX_COUNT
from envelope.zeromq.frames import Frames
from envelope.zeromq.socket import SecureSocket

_log = logging.getLogger("envelope.relay")

BURST: Final = 256
"""Messages that one pipe moves before the others have their turn."""

_TURN: Final = 50_000
"""Microseconds after which the others have their turn: what a stranger floods one flow with
is refused slowly, and each message that passes may have a thousand of those before it."""
_OUTAGE: Final = 50_000
"""Microseconds between two questions to a replay store that cannot answer."""

# As numbers: on the way of every message, an enum's operators cost as much as the call.
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)

Plain = zmq.Socket[Any]


@dataclass(slots=True)
class Figures:
    """What one pipe moved. Bytes are those of plain frames.

    Attributes:
        messages: moved.
        bytes: in them.
        dropped: not moved, for they cannot be sealed, are no message of a relay, or were
            held when the relay ended.
    """

    messages: int = 0
    bytes: int = 0
    dropped: int = 0


class Pipe(ABC):
    """One direction of a flow."""

    burst: ClassVar[int] = BURST
    """How often it moves something in one turn."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.figures = Figures()
        self.is_held = False
        """Whether something waits, for room or for the replay store."""
        self.again_at: int | None = None
        """When to try again, monotonic microseconds; None: when the target has room."""

    @property
    @abstractmethod
    def source(self) -> list[Plain]:
        """The sockets to wait on for messages."""

    @property
    @abstractmethod
    def target(self) -> Plain:
        """The socket to wait on for room."""

    @property
    @abstractmethod
    def held(self) -> int:
        """How many messages were read and not moved."""

    @abstractmethod
    def _move(self) -> bool:
        """Move what one message or envelope has; tell whether there may be more.

        Raises:
            zmq.Again: there is no room; what was read is held.
        """

    def turn(self) -> bool:
        """Move what is there, up to a burst; tell whether more may be there."""
        self.is_held, self.again_at = False, None
        end = clock.monotonic() + _TURN
        try:
            for _ in range(self.burst):
                if not self._move():
                    return False
                if clock.monotonic() >= end:
                    break
        except zmq.Again:
            self.is_held = True
            return False
        except StoreUnavailableError:
            self.is_held = True
            self.again_at = clock.monotonic() + _OUTAGE
            return False
        return True

    def give_up(self) -> None:
        """Count what is held as dropped: the relay ends."""
        if self.held:
            self._drop("there was no room for it until the end", self.held)

    def _count(self, frames: Frames) -> None:
        self.figures.messages += 1
        self.figures.bytes += sum(map(len, frames))

    def _drop(self, why: object, count: int = 1) -> None:
        """Count what is dropped, and log it ever more seldom (SPEC 17.4)."""
        before = self.figures.dropped
        self.figures.dropped += count
        if before.bit_length() != self.figures.dropped.bit_length():  # At 1, 2, 4, 8...
            _log.warning("%s: dropped %d so far: %s", self.name, self.figures.dropped, why)


class Outward(Pipe):
    """From a plain socket to a sealed one: what is there goes in one envelope."""

    burst = 1

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
        self._batch: list[Frames] = []
        self._payloads: list[bytes] = []
        self._in_clear: bytes | None = None
        """The topic of the batch."""
        self._next: Frames | None = None
        """Read, and not of this batch."""

    @property
    def source(self) -> list[Plain]:
        """The plain socket, and the sealed one if it tells of subscriptions."""
        return [self._plain, *([self._subscriptions] if self._subscriptions else [])]

    @property
    def target(self) -> Plain:
        """The sealed socket."""
        return self._secure.socket

    @property
    def held(self) -> int:
        """A batch, and what came after it."""
        return len(self._batch) + (self._next is not None)

    def turn(self) -> bool:
        """Pass on subscriptions, then messages."""
        if self._subscriptions is not None:
            _subscribe(self._subscriptions, self._plain, None if self._topic is None else 0)
        return super().turn()

    def _move(self) -> bool:
        # A batch that was held is not added to: for that, more would have to be read.
        more = True if self._batch else self._gather()
        if not self._batch:
            return more
        if not has_events(self._secure.socket, _POLLOUT):
            raise zmq.Again
        try:
            self._send()
        except UsageError as error:
            self._drop(error, len(self._batch))
        else:
            for frames in self._batch:
                self._count(frames)
        self._batch, self._payloads = [], []
        return more

    def _gather(self) -> bool:
        """Read what goes together: of one topic, for what is said stays in its order.

        Returns:
            Whether there may be more.
        """
        room = MAX_BYTES
        while len(self._batch) < MAX_COUNT:
            frames = self._next or read(self._plain)
            self._next = None
            if frames is None:
                return False
            try:
                in_clear, payload = self._wrap(frames)
            except UsageError as error:
                self._drop(error)
                continue
            room -= len(payload)
            if self._batch and (room < 0 or in_clear != self._in_clear):
                self._next = frames
                return True
            self._in_clear = in_clear
            self._batch.append(frames)
            self._payloads.append(payload)
        return True

    def _wrap(self, frames: Frames) -> tuple[bytes | None, bytes]:
        """Return what goes in clear, and the payload.

        Raises:
            UsageError: more frames than a message may have.
        """
        if not self._has_topics:
            return None, codec.encode_frames(frames)  # SPEC 17.1
        # Clear part and remainder: nothing stands twice, and both are signed (SPEC 17.2).
        first = frames[0]
        at = len(first) if self._topic is None else self._topic
        return first[:at], codec.encode_frames([first[at:], *frames[1:]])

    def _send(self) -> None:
        if len(self._payloads) == 1:
            self._secure.send(self._payloads[0], self._in_clear, flags=zmq.NOBLOCK)
        else:
            self._secure.send_many(self._payloads, self._in_clear, flags=zmq.NOBLOCK)


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

    @property
    def held(self) -> int:
        """One at most."""
        return int(self._held is not None)

    def turn(self) -> bool:
        """Pass on subscriptions, then messages."""
        if self._subscriptions is not None:
            _subscribe(self._subscriptions, self._secure.socket, self._topic)
        return super().turn()

    def _move(self) -> bool:
        if self._held is None:
            message = open_next(self._secure)
            if message is None:
                return False
            try:
                self._held = self._take(message)
            except (MalformedError, UsageError) as error:
                self._drop(error)
            if self._held is None:
                return True
        try:
            self._write(self._held)
        except UsageError as error:
            self._drop(error)
        else:
            self._count(self._held)
        self._held = None
        return True

    def _take(self, message: Message) -> Frames | None:
        """Return what a message has to hand on, or None if that is nothing.

        Raises:
            MalformedError: it is no message of this flow.
            UsageError: nobody could take it.
        """
        return self._unwrap(message)

    def _write(self, frames: Frames) -> None:
        """Hand a message on.

        Raises:
            zmq.Again: there is no room.
            UsageError: nobody takes it.
        """
        write(self._plain, frames)

    def _unwrap(self, message: Message) -> Frames:
        frames = message.frames()
        if len(frames) < self.least:
            raise MalformedError("fewer frames than a message of this flow has")
        if self._has_topics:
            frames[0] = (message.topic or b"") + frames[0]
        return frames


def has_events(socket: Plain, events: int) -> bool:
    """Tell whether a socket has any of these events."""
    return bool(int(socket.get(_EVENTS)) & events)


def read(socket: Plain) -> Frames | None:
    """Return the next message, or None."""
    # An exception costs more than a look.
    if not has_events(socket, _POLLIN):
        return None
    try:
        return socket.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return None


def write(socket: Plain, frames: Frames) -> None:
    """Send a message.

    Raises:
        zmq.Again: there is no room.
    """
    if len(frames) == 1:
        socket.send(frames[0], zmq.NOBLOCK)
    else:
        socket.send_multipart(frames, zmq.NOBLOCK)


def open_next(secure: SecureSocket) -> Message | None:
    """Return the next message that passes every check, or None.

    Raises:
        StoreUnavailableError: the replay store cannot answer.
    """
    if not secure.has_ready and not has_events(secure.socket, _POLLIN):
        return None
    try:
        return secure.recv(zmq.NOBLOCK)
    except zmq.Again:
        return None


def _subscribe(source: Plain, target: Plain, limit: int | None) -> None:
    """Pass on subscriptions as they are; nothing else that subscribers send (SPEC 17.2).

    With a limit the clear part of a topic is shorter than what is subscribed to: then
    prefixes are cut to it, and never taken back, for others may have the same one.
    """
    for _ in range(BURST):
        frames = read(source)
        if frames is None:
            return
        said = frames[0]
        if said[:1] not in (b"\x00", b"\x01"):
            continue
        if limit is None:
            target.send(said)
        elif said[:1] == b"\x01":
            target.send(said[: 1 + limit])
