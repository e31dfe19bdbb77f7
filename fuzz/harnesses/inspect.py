"""An envelope's fields lie side by side, each shows its own bytes, and no payload is shown.

What ``envelope inspect`` prints (SPEC 4.1, 4.2, 4.6), and the message id (5.5).
"""

from __future__ import annotations

from vectors.reference import message_id
from vectors.reference_opener import decode

from envelope.cli.fields import describe
from envelope.errors import MalformedError, VersionError
from fuzz.envelopes import VALID

COVERS = ("envelope.cli.fields", "envelope.message")
SHARE = 2
SEEDS = VALID


def check(data: bytes) -> None:
    """Describe, and compare with the bytes."""
    try:
        described = describe(data)
    except (MalformedError, VersionError):
        return
    at = 0
    for field in described.rows:
        assert field.offset == at
        shown = data[at : at + field.size]
        if isinstance(field.value, int):
            assert field.value == int.from_bytes(shown)
        elif field.value is None:
            assert field.name in ("payload", "ciphertext")
        else:
            assert field.value in (shown.hex(), shown.decode("latin-1"))
        assert str(field.meaning)
        at += field.size
    assert at == described.size == len(data)
    parts = decode(data)
    assert described.message_id == message_id(parts.head, parts.body, 0).hex()
    assert described.overhead == len(data) - described.payload_size
    assert described.payload_size == len(parts.body) - (16 if parts.kind == 2 else 0)
