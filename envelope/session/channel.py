"""One session once its keys are there: sealing, opening, window (SPEC 18.5, 18.6).

Rules of this file:

- A counter is used once: it is taken before anything is encrypted, and never given back.
- The window changes only for what opened.
- No time, no trust, no peers: those are ``link`` and ``manager``.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from envelope.errors import ReplayedError, TooOldError, UnsealError
from envelope.primitives import CryptoError, H, hasher
from envelope.replay.window import Window
from envelope.session import wire
from envelope.session.cipher import decrypt, encrypt
from envelope.session.noise import Keys
from envelope.session.timing import REJECT_AFTER, RESPONDER_LATER, Times

_nonce = struct.Struct("<4xQ").pack
_u32 = struct.Struct(">I").pack
_u64 = struct.Struct(">Q").pack
_STREAM_SIZE: Final = 16
_HEAD: Final = wire.DATA_HEAD
_LAST: Final = REJECT_AFTER - 1
_data_head = wire.data_head
_MESSAGE = hasher(b"env1-message")
_STARTS: Final = {flags: wire.start(wire.DATA, flags) for flags in (0, wire.REPLY, wire.CONTROL)}


class ExhaustedError(Exception):
    """The counter has come to its end; nothing may be sent by this session. A bug."""


def frames_of(bound: tuple[bytes, ...]) -> bytes:
    """Return FRAMES (SPEC 18.6)."""
    if not bound:
        return b""
    return _u32(len(bound)) + b"".join(_u64(len(frame)) + frame for frame in bound)


def message_id(stream: bytes, counter: int) -> bytes:
    """Return the id of a session's message, 32 bytes (SPEC 18.6)."""
    state = _MESSAGE.copy()
    state.update(stream + _u64(counter))
    return state.digest()[:32]


class Sealed(NamedTuple):
    """What a message became.

    Attributes:
        id: the message id.
        stream: the stream id of the direction that it goes.
        data: the message.
    """

    id: bytes
    stream: bytes
    data: bytes


class Channel:
    """The keys, counters and window of one session, at one end. Not thread-safe.

    Attributes:
        our_id: the session id by which messages for this end come.
        their_id: that by which they go.
        is_initiator: whether this end asked for the session.
        born: when its age began, monotonic microseconds.
        rekey_at: when whoever sends asks for another.
        ends_at: when it ends.
        began_at: the other end's wall clock at the handshake, Unix microseconds.
        their_stream: the stream id of what is received.
        our_stream: the stream id of what is sent.
        window: which counters were accepted.
        accepted: how many.
        late: how many of those behind a newer one.
        skipped: how many were passed over when a newer one came.
        sent: counters used.
    """

    __slots__ = (
        "_receive_key",
        "_send_key",
        "_take",
        "accepted",
        "began_at",
        "born",
        "ends_at",
        "is_initiator",
        "late",
        "our_id",
        "our_stream",
        "rekey_at",
        "sent",
        "skipped",
        "their_id",
        "their_stream",
        "window",
    )

    def __init__(  # noqa: PLR0913 (what a handshake leaves)
        self,
        keys: Keys,
        *,
        our_id: bytes,
        their_id: bytes,
        is_initiator: bool,
        born: int,
        times: Times,
        began_at: int,
        window: int,
    ) -> None:
        self._send_key = keys.send
        self._receive_key = keys.receive
        streams = H(2 * _STREAM_SIZE, b"env1-streams", keys.hash)
        halves = streams[:_STREAM_SIZE], streams[_STREAM_SIZE:]
        self.our_stream, self.their_stream = halves if is_initiator else halves[::-1]
        self.our_id = our_id
        self.their_id = their_id
        self.is_initiator = is_initiator
        self.born = born
        self.ends_at = born + times.reject
        later = 0 if is_initiator else RESPONDER_LATER
        self.rekey_at = min(born + times.rekey + later, self.ends_at)
        self.began_at = began_at
        self.window = Window(window)
        self.accepted = self.late = self.skipped = self.sent = 0
        self._take: Callable[[], int] = itertools.count().__next__

    def seal(self, payload: bytes, frames: bytes = b"", flags: int = 0) -> bytes:
        """Return a data message.

        Args:
            payload: with the id that a reply names in front.
            frames: FRAMES of what is bound.
            flags: of the header.

        Raises:
            ExhaustedError: no counter is left.
        """
        counter = self._take()
        if counter >= _LAST:
            self.ends_at = self.born  # The last one: from now on it is over.
            if counter >= REJECT_AFTER:
                raise ExhaustedError
        self.sent = counter + 1
        head = _data_head(_STARTS[flags], counter >> 32, counter & 0xFFFF_FFFF, self.their_id)
        return head + encrypt(payload, head + frames, _nonce(counter), self._send_key)

    def sealed(self, data: bytes) -> Sealed:
        """Return what there is to know of the message that was sealed last."""
        stream = self.our_stream
        return Sealed(message_id(stream, self.sent - 1), stream, data)

    def open(self, data: bytes, counter: int, frames: bytes = b"") -> tuple[bytes, int]:
        """Return the payload of a data message, and how many are missing just before it.

        Raises:
            TooOldError: behind the window.
            ReplayedError: accepted before.
            UnsealError: not sealed by the other end for this place.
        """
        window = self.window
        top = window.top
        if counter <= top:
            if counter + window.size <= top:
                raise TooOldError("behind the window of its session")
            if window.has(counter):
                raise ReplayedError
        head = data[:_HEAD]
        try:
            payload = decrypt(
                data[_HEAD:], head + frames if frames else head, _nonce(counter), self._receive_key
            )
        except CryptoError:
            raise UnsealError("not sealed in this session for these bound frames") from None
        self.accepted += 1
        skipped = window.add(counter)
        if counter < top:
            self.late += 1
        elif skipped:
            self.skipped += skipped
        return payload, skipped

    def forget(self) -> None:
        """Drop the keys: nothing is sealed or opened any more."""
        self._send_key = self._receive_key = b""

    def __repr__(self) -> str:
        """Return the ids; never a key."""
        return f"<Channel {self.our_id.hex()}, {self.sent} sent, {self.accepted} accepted>"
