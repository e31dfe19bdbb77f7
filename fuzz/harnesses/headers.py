"""The reference decodes and refuses the same headers, and every entry is found where it lies.

SPEC 4.1 to 4.4.
"""

from __future__ import annotations

from vectors.reference import SEALED
from vectors.reference_opener import Refused, decode
from vectors.world import craft

from envelope import wire
from envelope.errors import MalformedError, VersionError
from fuzz.envelopes import VALID


def _many(count: int) -> bytes:
    return b"".join(at.to_bytes(16, "big") for at in range(1, count + 1))


COVERS = ("envelope.wire",)
SHARE = 2
SEEDS = (
    *VALID,
    craft(sent_at=2**53 - 1),
    craft(sent_at=2**53),
    craft(sequence=2**48 - 1),
    craft(sequence=2**48),
    craft(recipients=256, key_block=_many(256)),
    craft(recipients=257, key_block=_many(257)),
)


def check(data: bytes) -> None:
    """Decode by both, find entries."""
    try:
        header, verdict = wire.decode(data), "ok"
    except (MalformedError, VersionError) as error:
        header, verdict = None, error.code
    try:
        parts = decode(data)
    except Refused as refused:
        assert verdict == refused.code
        return
    assert header is not None, verdict
    assert data[: header.body] == parts.head
    fields = ("kind", "flags", "recipients", "sender", "stream", "sequence", "sent_at")
    assert all(getattr(header, name) == getattr(parts, name) for name in fields)
    assert (header.in_reply_to or b"") == parts.in_reply_to
    start, step = header.key_block, wire.KEY_ID_SIZE
    if header.kind == SEALED:
        start, step = start + wire.KEYS_SIZE, wire.ENTRY_SIZE
    for at, entry in [*enumerate(parts.entries)][-4:]:
        found = wire.find_entry(data, start, header.body, step, entry[:16])
        assert found == start + at * step
    assert wire.find_entry(data, start, header.body, step, bytes(16)) in (-1, start)
