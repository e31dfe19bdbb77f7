"""A bundle or an array of frames decodes as by the reference, and encodes to the same bytes.

SPEC 9.2 and 10.3. Anything else is a MalformedError for both.
"""

from __future__ import annotations

from random import Random

from vectors.reference import pack_bundle, unpack_bundle

from envelope import codec
from envelope.errors import MalformedError
from fuzz.harness import Change
from fuzz.packed import change_bundle

COVERS = ("envelope.codec",)
SEEDS = (
    b"\x90",
    *(pack_bundle([bytes(size)] * count) for size in (0, 1, 256) for count in (1, 2, 15, 16)),
)


def check(data: bytes) -> None:
    """Decode as both, and by the reference."""
    try:
        expected = unpack_bundle(data)
    except ValueError:
        expected = None
    try:
        payloads = codec.decode_bundle(data)
    except MalformedError:
        assert expected is None
    else:
        assert payloads == expected
        assert codec.encode_bundle(payloads) == data
    try:
        frames = codec.decode_frames(data)
    except MalformedError:
        assert expected is None
        assert data != b"\x90"
    else:
        assert frames == (expected or [])
        assert codec.encode_frames(frames) == data


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change it as a list of payloads, or as bytes."""
    return change_bundle(data, max_size, random, change)
