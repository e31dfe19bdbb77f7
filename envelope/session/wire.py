"""The four messages of sessions to fields and back: strict, canonical, bounded (SPEC 18.3).

Rules of this file: it reads bytes that nobody has authenticated yet. It knows sizes and
ranges, no keys, no time, no state.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from envelope.errors import MalformedError, VersionError
from envelope.wire import (
    ID_SIZE,
    KEY_ID_SIZE,
    MAGIC,
    MAX_SENT_AT,
    MAX_SEQUENCE,
    SEALED,
    SIGNATURE_SIZE,
    SIGNED,
    VERSION,
)

INITIATION: Final = 3
RESPONSE: Final = 4
DATA: Final = 5
HINT: Final = 6

REPLY: Final = 2
CONTROL: Final = 4
_DATA_FLAGS: Final = (0, REPLY, CONTROL)

SESSION_ID_SIZE: Final = 8
TAG_SIZE: Final = 16
OVERHEAD: Final = 36
"""Bytes of a data message beyond its payload."""
DATA_HEAD: Final = 20

_START: Final = 6
INITIATION_HEAD: Final = _START + 2 * KEY_ID_SIZE
RESPONSE_HEAD: Final = _START + SESSION_ID_SIZE
HINT_HEAD: Final = _START + KEY_ID_SIZE + DATA_HEAD
_SIZES: Final = {
    INITIATION: INITIATION_HEAD + 136,
    RESPONSE: RESPONSE_HEAD + 80,
    HINT: HINT_HEAD + SIGNATURE_SIZE,
}
LARGEST: Final = max(_SIZES.values())
"""Bytes of the largest message that is not data."""

data_head = struct.Struct(">6sHI8s").pack
"""data_head(prefix 6, counter >> 32, counter & 0xffffffff, session id) -> HEAD of data."""
read_data = struct.Struct(">5xBHI8s").unpack_from
"""read_data(data) -> flags, counter >> 32, counter & 0xffffffff, session id."""
_offer = struct.Struct(">8s16sQQ")
_grant = struct.Struct(">8sQ16s")


def start(kind: int, flags: int = 0) -> bytes:
    """Return the first six bytes of a message."""
    return MAGIC + bytes((VERSION, kind, flags))


DATA_START: Final = start(DATA)[:-1]
"""With what a data message, and nothing else, begins."""


class Offer(NamedTuple):
    """The payload of Noise message 1."""

    session_id: bytes
    stream: bytes
    sequence: int
    sent_at: int

    def encode(self) -> bytes:
        """Return its 40 bytes."""
        return _offer.pack(*self)


class Grant(NamedTuple):
    """The payload of Noise message 2."""

    session_id: bytes
    sent_at: int
    stream: bytes

    def encode(self) -> bytes:
        """Return its 32 bytes."""
        return _grant.pack(*self)


def decode_offer(payload: bytes) -> Offer:
    """Decode what an initiation's Noise message held.

    Raises:
        MalformedError: a number beyond its width.
    """
    offer = Offer(*_offer.unpack(payload))
    if offer.sequence >= MAX_SEQUENCE or offer.sent_at >= MAX_SENT_AT:
        raise MalformedError("sequence or sent_at beyond its width")
    return offer


def decode_grant(payload: bytes) -> Grant:
    """Decode what a response's Noise message held.

    Raises:
        MalformedError: a number beyond its width.
    """
    grant = Grant(*_grant.unpack(payload))
    if grant.sent_at >= MAX_SENT_AT:
        raise MalformedError("sent_at beyond its width")
    return grant


def kind_of(data: bytes) -> int:
    """Return the kind of a message, whose size is right then.

    Raises:
        MalformedError: this is no message of a session, or not of its size.
        VersionError: a message of another version.
    """
    if len(data) < OVERHEAD:
        raise MalformedError("shorter than the shortest message of a session")
    if data[:3] != MAGIC:
        raise MalformedError("does not begin with ENV")
    if data[3] != VERSION:
        raise VersionError(f"version {data[3]}; this receiver speaks {VERSION}")
    kind = data[4]
    if kind == DATA:
        return kind
    if len(data) != _SIZES.get(kind):
        if kind in (SIGNED, SEALED):
            raise MalformedError(
                "an envelope, and this end has a session; give both ends session=..."
            )
        raise MalformedError("no message of a session has this kind and size")
    if data[5]:
        raise MalformedError("reserved flag bits are set")
    return kind


def is_initiation(data: bytes) -> bool:
    """Tell whether a message of this end's own is an initiation."""
    return data[4] == INITIATION


def is_for_peer(data: bytes) -> bool:
    """Tell whether a message of this end's own is a payload of its application."""
    return data[4] == DATA and data[5] != CONTROL


def check_flags(flags: int, size: int) -> None:
    """Check the flags of a data message, of at least ``OVERHEAD`` bytes.

    Raises:
        MalformedError: there are no such flags, or none at this size.
    """
    if (
        flags not in _DATA_FLAGS
        or (flags == CONTROL and size != OVERHEAD)
        or (flags == REPLY and size < OVERHEAD + ID_SIZE)
    ):
        raise MalformedError("flags of no data message, or not of this size")


def parties(data: bytes) -> tuple[bytes, bytes]:
    """Return the key ids of initiator and responder of an initiation."""
    middle = _START + KEY_ID_SIZE
    return data[_START:middle], data[middle:INITIATION_HEAD]


def answered(data: bytes) -> bytes:
    """Return the session id that a response answers."""
    return data[_START:RESPONSE_HEAD]


def hint_of(data: bytes) -> tuple[bytes, int, bytes]:
    """Return who sent a hint, and counter and session id of the message that it is about.

    Raises:
        MalformedError: it is about nothing that could have been sent.
    """
    at = _START + KEY_ID_SIZE
    flags, high, low, session_id = read_data(data, at)
    if data[at : at + len(DATA_START)] != DATA_START or flags not in _DATA_FLAGS:
        raise MalformedError("a hint about no data message")
    return data[_START:at], high << 32 | low, session_id
