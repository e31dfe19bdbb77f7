"""What decodes encodes to the same bytes; anything else is malformed, or of another version.

SPEC 4.5. Fast, for it asks nobody and has few recipients; ``headers`` has many and asks the
reference.
"""

from __future__ import annotations

from envelope import wire
from envelope.errors import MalformedError, VersionError
from fuzz.harnesses.headers import SEEDS as _SEEDS

COVERS = ("envelope.wire",)
SHARE = 4
SIZE = 512
SEEDS = tuple(data for data in _SEEDS if len(data) <= SIZE)


def check(data: bytes) -> None:
    """Decode, and encode again."""
    try:
        header = wire.decode(data)
    except (MalformedError, VersionError):
        return
    head = wire.encode_prefix(
        kind=header.kind,
        flags=header.flags,
        recipients=header.recipients,
        sender=header.sender,
        stream=header.stream,
    )
    head += wire.pack_times(header.sequence, header.sent_at)
    assert data.startswith(head)
    assert header.key_block == (112 if header.in_reply_to else 80)
    assert data[80 : header.key_block] == (header.in_reply_to or b"")
    assert header.key_block <= header.body <= len(data) - 64
    assert (header.body - header.key_block) % 16 == 0
