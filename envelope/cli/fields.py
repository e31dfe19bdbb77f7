"""What stands in an envelope, field by field, without any key (SPEC 4.1, 4.2).

Rules of this file: nothing is verified, so everything is what the envelope
claims. No payload is shown: it may be anybody's.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from envelope import wire
from envelope.message import message_id

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Field(NamedTuple):
    """One field."""

    offset: int
    size: int
    name: str
    value: str | int | None
    """Bytes in hexadecimal; None for what is not shown."""
    meaning: str


class Description(NamedTuple):
    """One envelope."""

    size: int
    payload_size: int
    body_size: int
    message_id: str
    """Of the only message, or of the first in a bundle."""
    fields: list[Field]
    """All but the key block, in the order of the bytes."""
    key_block: list[Field]

    @property
    def overhead(self) -> int:
        """Bytes beyond the payload (SPEC 4.6)."""
        return self.size - self.payload_size

    @property
    def rows(self) -> list[Field]:
        """All fields, in the order of the bytes."""
        return sorted(self.fields + self.key_block)


def describe(data: bytes) -> Description:
    """Take an envelope apart.

    Raises:
        MalformedError: not an envelope, or not in its one encoding.
        VersionError: an envelope of another version.
    """
    header = wire.decode(data)
    body_size = len(data) - header.body - wire.SIGNATURE_SIZE
    tag = wire.TAG_SIZE if header.kind == wire.SEALED else 0
    return Description(
        size=len(data),
        payload_size=body_size - tag,
        body_size=body_size,
        message_id=message_id(data).hex(),
        fields=[*_header(data, header), *_body(data, header)],
        key_block=list(_key_block(data, header)),
    )


def _header(data: bytes, header: wire.Header) -> Iterator[Field]:
    sealed = header.kind == wire.SEALED
    kind = "sealed: signed and encrypted" if sealed else "signed, not encrypted"
    audience = "who can read it" if sealed else "whom it is addressed to"
    if not header.recipients:
        audience = "none: for everyone in the context"
    suite = "Ed25519, X25519, XChaCha20-Poly1305, BLAKE2b"
    began = int.from_bytes(header.stream[:8])
    nonce = data[wire.NONCE_AT : wire.FIXED_SIZE].hex()
    yield Field(0, 3, "magic", wire.MAGIC.decode(), "an envelope")
    yield Field(3, 1, "version", wire.VERSION, suite)
    yield Field(4, 1, "kind", header.kind, kind)
    yield Field(5, 1, "flags", header.flags, _flags(header.flags))
    yield Field(6, 2, "recipients", header.recipients, audience)
    yield Field(8, 16, "sender", header.sender.hex(), "key id of the claimed sender")
    yield Field(24, 16, "stream", header.stream.hex(), f"begun {_date(began)}")
    yield Field(40, 8, "sequence", header.sequence, "number in the stream, from 0")
    yield Field(48, 8, "sent_at", header.sent_at, _date(header.sent_at))
    yield Field(wire.NONCE_AT, wire.NONCE_SIZE, "nonce", nonce, "of this envelope alone")
    if header.in_reply_to is not None:
        reply = header.in_reply_to.hex()
        yield Field(
            wire.FIXED_SIZE, wire.ID_SIZE, "in_reply_to", reply, "message id of the request"
        )


def _key_block(data: bytes, header: wire.Header) -> Iterator[Field]:
    at = header.key_block

    def take(size: int, name: str, meaning: str) -> Field:
        nonlocal at
        start, at = at, at + size
        return Field(start, size, name, data[start:at].hex(), meaning)

    if header.kind == wire.SEALED:
        yield take(wire.EPHEMERAL_SIZE, "ephemeral", "X25519 key of this key epoch")
        yield take(wire.COMMITMENT_SIZE, "commitment", "to the content key")
    for number in range(1, header.recipients + 1):
        yield take(wire.KEY_ID_SIZE, "recipient", f"key id of recipient {number}")
        if header.kind == wire.SEALED:
            yield take(wire.WRAP_SIZE, "wrapped_key", f"content key for recipient {number}")


def _body(data: bytes, header: wire.Header) -> Iterator[Field]:
    end = len(data) - wire.SIGNATURE_SIZE
    if header.kind == wire.SEALED:
        tag_at = end - wire.TAG_SIZE
        tag = data[tag_at:end].hex()
        yield Field(header.body, tag_at - header.body, "ciphertext", None, "the payload, encrypted")
        yield Field(tag_at, wire.TAG_SIZE, "tag", tag, "of XChaCha20-Poly1305")
    else:
        size = end - header.body
        yield Field(header.body, size, "payload", None, "in clear, and not shown here")
    yield Field(end, wire.SIGNATURE_SIZE, "signature", data[end:].hex(), "Ed25519, not checked")


def _flags(flags: int) -> str:
    names = []
    if flags & wire.BUNDLE:
        names.append("a bundle of payloads")
    if flags & wire.REPLY:
        names.append("a reply")
    return " and ".join(names) or "none"


def _date(unix_us: int) -> str:
    """Return Unix microseconds as a date, where it is one."""
    if unix_us >= wire.MAX_SENT_AT:
        return "at no date"
    date = _EPOCH + timedelta(microseconds=unix_us)
    return f"{date:%Y-%m-%d %H:%M:%S.%f} UTC"
