"""A message of a session has the size of its kind, and what is read of it are its own bytes.

SPEC 18.3. Anything else is malformed, or of another version. What Noise carries is read from
the end of the data, where its size is right.
"""

from __future__ import annotations

from envelope.errors import MalformedError, VersionError
from envelope.session import wire
from envelope.session.wire import CONTROL, DATA, HINT, INITIATION, REPLY, RESPONSE

COVERS = ("envelope.session.wire",)
SHARE = 4
SIZE = 256
_SIZES = {INITIATION: 174, RESPONSE: 94, HINT: 106}
_DATA = wire.data_head(wire.start(DATA), 0, 7, b"session!") + bytes(16)
_OFFER = wire.Offer(b"session!", bytes(16), 2**48 - 1, 2**53 - 1).encode()
_GRANT = wire.Grant(b"session!", 2**53 - 1, bytes(16)).encode()
SEEDS = (
    *(wire.start(kind).ljust(size, b"\0") for kind, size in _SIZES.items()),
    _DATA,
    _DATA[:5] + bytes([CONTROL]) + _DATA[6:],
    _DATA[:5] + bytes([REPLY]) + _DATA[6:] + bytes(32),
    wire.start(HINT) + b"h" * 16 + _DATA[:20] + bytes(64),
    _OFFER,
    _GRANT,
    b"\xff" * 40,
    b"\xff" * 32,
)


def check(data: bytes) -> None:
    """Read it as what it says that it is, and its payload as either."""
    _check_payload(data)
    try:
        kind = wire.kind_of(data)
    except (MalformedError, VersionError):
        return
    assert data.startswith(b"ENV\1" + bytes([kind]))
    if kind == DATA:
        _check_data(data)
        return
    assert len(data) == _SIZES[kind]
    assert data[5] == 0
    if kind == INITIATION:
        initiator, responder = wire.parties(data)
        assert wire.start(kind) + initiator + responder == data[:38]
    elif kind == RESPONSE:
        assert wire.start(kind) + wire.answered(data) == data[:14]
    else:
        _check_hint(data)


def _check_data(data: bytes) -> None:
    flags, high, low, session_id = wire.read_data(data)
    assert wire.data_head(wire.start(DATA, flags), high, low, session_id) == data[:20]
    is_sound = {0: True, REPLY: len(data) >= 68, CONTROL: len(data) == 36}.get(flags, False)
    try:
        wire.check_flags(flags, len(data))
    except MalformedError:
        assert not is_sound
    else:
        assert is_sound


def _check_hint(data: bytes) -> None:
    try:
        sender, counter, session_id = wire.hint_of(data)
    except MalformedError:
        assert data[22:27] != wire.start(DATA)[:5] or data[27] not in (0, REPLY, CONTROL)
        return
    about = wire.data_head(data[22:28], counter >> 32, counter & 0xFFFF_FFFF, session_id)
    assert wire.start(HINT) + sender + about == data[:42]


def _check_payload(data: bytes) -> None:
    if len(data) >= 40:
        try:
            offer = wire.decode_offer(data[-40:])
        except MalformedError:
            assert data[-16:-14] != bytes(2) or data[-8:] >= (2**53).to_bytes(8, "big")
        else:
            assert offer.encode() == data[-40:]
            assert (offer.sequence < 2**48, offer.sent_at < 2**53) == (True, True)
    if len(data) >= 32:
        try:
            grant = wire.decode_grant(data[-32:])
        except MalformedError:
            assert data[-24:-16] >= (2**53).to_bytes(8, "big")
        else:
            assert grant.encode() == data[-32:]
            assert grant.sent_at < 2**53
