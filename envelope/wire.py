"""The header of an envelope to bytes and back: strict, canonical, bounded (SPEC 4).

Rules of this file: it reads bytes that nobody has authenticated yet. It knows
sizes and ranges, no keys, no time, no state. What ``decode`` lets through has
exactly one encoding, which is the one it came in.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from envelope.errors import MalformedError, VersionError

MAGIC: Final = b"ENV"
VERSION: Final = 1

SIGNED: Final = 1
SEALED: Final = 2

BUNDLE: Final = 1
REPLY: Final = 2

KEY_ID_SIZE: Final = 16
STREAM_SIZE: Final = 16
NONCE_SIZE: Final = 24
ID_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64
TAG_SIZE: Final = 16
WRAP_SIZE: Final = 48
EPHEMERAL_SIZE: Final = 32
COMMITMENT_SIZE: Final = 32

MAX_RECIPIENTS: Final = 256
MAX_SEQUENCE: Final = 2**48
"""Sequences are below this: at a million a second, 8.9 years of one stream."""
MAX_SENT_AT: Final = 2**53
"""Times are below this: exact in a double, and the year 2255."""

_OF_SESSIONS: Final = range(3, 7)
"""The kinds of messages that are no envelopes (SPEC 18.3)."""

FIXED_SIZE: Final = 80
MIN_SIZE: Final = FIXED_SIZE + SIGNATURE_SIZE
KEYS_SIZE: Final = EPHEMERAL_SIZE + COMMITMENT_SIZE
ENTRY_SIZE: Final = KEY_ID_SIZE + WRAP_SIZE
NONCE_AT: Final = 56

_HEADER = struct.Struct(">3sBBBH16s16sQQ24s")
_PREFIX = struct.Struct(">3sBBBH16s16s")
_unpack = _HEADER.unpack_from
_new = tuple.__new__

pack_times = struct.Struct(">QQ").pack
"""pack_times(sequence, sent_at) -> the 16 bytes at offset 40."""


class Header(NamedTuple):
    """The fields of a header that has been decoded, none of them authenticated."""

    kind: int
    flags: int
    recipients: int
    sender: bytes
    stream: bytes
    sequence: int
    sent_at: int
    in_reply_to: bytes | None
    key_block: int
    """Offset of the key block."""
    body: int
    """Offset of the body: the length of HEAD."""


_Fields = tuple[int, int, int, bytes, bytes, int, int, bytes | None, int, int]


def decode(data: bytes) -> Header:
    """Decode and check the header of one envelope: ``decode_fields`` with their names.

    Raises:
        MalformedError, VersionError: as ``decode_fields``.
    """
    return header_of(decode_fields(data))


def header_of(fields: _Fields) -> Header:
    """Return what ``decode_fields`` returned with its names."""
    return _new(Header, fields)  # Header(...) would cost as much as all the checks.


def decode_fields(data: bytes) -> _Fields:
    """Decode and check the header of one envelope (SPEC 4.3, 4.4).

    Without names: what is refused soon never needs them, and a flood of it pays for all
    that is done before.

    Args:
        data: the whole envelope.

    Returns:
        The fields of ``Header``, in order; every offset lies within ``data``.

    Raises:
        MalformedError: this is not an envelope, or not in its one encoding.
        VersionError: an envelope of another version.
    """
    if len(data) < MIN_SIZE:
        if not data:
            raise MalformedError("empty, and so shorter than the shortest envelope")
        raise MalformedError("shorter than the shortest envelope")
    magic, version, kind, flags, n, sender, stream, sequence, sent_at, _ = _unpack(data)
    if magic != MAGIC:
        raise MalformedError("does not begin with ENV")
    if version != VERSION:
        raise VersionError(f"version {version}; this receiver speaks {VERSION}")
    if flags > 3:
        raise MalformedError("reserved flag bits are set")
    if sequence >= MAX_SEQUENCE or sent_at >= MAX_SENT_AT:
        # In a session's message these eight bytes are something else.
        raise MalformedError(_no_envelope(kind, "sequence or sent_at beyond its width"))
    if flags & REPLY:
        key_block = FIXED_SIZE + ID_SIZE
        in_reply_to = data[FIXED_SIZE:key_block]
    else:
        key_block = FIXED_SIZE
        in_reply_to = None
    body = _find_body(data, kind, n, key_block)
    return kind, flags, n, sender, stream, sequence, sent_at, in_reply_to, key_block, body


def _find_body(data: bytes, kind: int, n: int, key_block: int) -> int:
    """Check the key block's form and return where the body begins (SPEC 4.2, 4.3)."""
    if kind == SIGNED:
        entries, step, least = key_block, KEY_ID_SIZE, SIGNATURE_SIZE
        fewest = 0
    elif kind == SEALED:
        entries, step, least = key_block + KEYS_SIZE, ENTRY_SIZE, TAG_SIZE + SIGNATURE_SIZE
        fewest = 1
    else:
        raise MalformedError(_no_envelope(kind, "unknown kind"))
    if not fewest <= n <= MAX_RECIPIENTS:
        raise MalformedError("sealed to none, or to too many recipients")
    body = entries + n * step
    if len(data) < body + least:
        raise MalformedError("shorter than its header says")
    if n > 1:
        _check_ascending(data, entries, body, step)
    return body


def _no_envelope(kind: int, otherwise: str) -> str:
    """Return why this is no envelope, which for a session's message is told by its kind."""
    if kind in _OF_SESSIONS:
        return "a message of a session, and this end opens envelopes; give both ends session=..."
    return otherwise


def _check_ascending(data: bytes, start: int, end: int, step: int) -> None:
    """Check that key ids are strictly ascending, which also rules out repeats."""
    previous = b""
    for at in range(start, end, step):
        key_id = data[at : at + KEY_ID_SIZE]
        if key_id <= previous:
            raise MalformedError("key ids are not strictly ascending")
        previous = key_id


def find_entry(data: bytes, start: int, end: int, step: int, key_id: bytes) -> int:
    """Return the offset of the entry that begins with ``key_id``, or -1.

    The search is C's; a match that is not at the start of an entry is part of a
    wrapped key and is passed over.
    """
    at = data.find(key_id, start, end)
    while at >= 0 and (at - start) % step:
        at = data.find(key_id, at + 1, end)
    return at


def encode_prefix(*, kind: int, flags: int, recipients: int, sender: bytes, stream: bytes) -> bytes:
    """Return the first 40 bytes, which stay the same for a key epoch (SPEC 4.1).

    What follows is ``pack_times``, the nonce, in_reply_to if any, the key block.
    """
    return _PREFIX.pack(MAGIC, VERSION, kind, flags, recipients, sender, stream)
