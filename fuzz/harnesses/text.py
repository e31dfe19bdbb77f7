"""A text that is read is the one text of its key; the reference writes the same.

SPEC 13.1, 3.4. Anything else is a UsageError that does not repeat it.
"""

from __future__ import annotations

import base64
from random import Random

from vectors import reference
from vectors.world import ALICE, BOB, LOW_U, little

from envelope import Identity, PublicIdentity, text
from envelope.errors import UsageError
from envelope.primitives import H
from fuzz.harness import Change

COVERS = ("envelope.text", "envelope.identity")
KINDS = {text.PUBLIC: (64, 6), text.SECRET: (32, 8), text.LOCKED: (96, 9)}
SEEDS = (
    reference.public_text(ALICE.pub).encode(),
    reference.secret_text(BOB.seed).encode(),
    reference.public_text(ALICE.pub[:32] + LOW_U[0]).encode(),
    reference.public_text(little(1) + BOB.pub[32:]).encode(),
    text.encode(text.LOCKED, bytes(96)).encode(),
)


def check(data: bytes) -> None:
    """Read it as each kind, and as an identity."""
    given = data.decode("utf-8", "surrogateescape")
    for kind in KINDS:
        try:
            found = text.decode(kind, given)
        except UsageError as error:
            _check_silent(error, given)
        else:
            assert text.encode(kind, found) == given
    try:
        public = PublicIdentity.parse(given)
    except UsageError as error:
        _check_silent(error, given)
    else:
        assert reference.public_text(public.public) == given == str(public)
        assert reference.is_sound_pub(public.public)
    try:
        secret = Identity.parse(given)
    except UsageError as error:
        _check_silent(error, given)
    else:
        assert secret.export() == given
        assert given.startswith(text.SECRET)
    _check_read(given)


def _check_silent(error: UsageError, given: str) -> None:
    said = str(error)
    for at in range(len(text.PUBLIC), len(given) - 12, 8):
        assert given[at : at + 12] not in said


def _check_read(given: str) -> None:
    """Check that what the reference writes, of sound keys, is read."""
    try:
        raw = base64.b32decode(given[len(text.PUBLIC) :].upper())
    except ValueError:
        return
    if given == reference.secret_text(raw[:32]):
        assert Identity.parse(given).export() == given
    if given == reference.public_text(raw[:64]) and reference.is_sound_pub(raw[:64]):
        assert PublicIdentity.parse(given).public == raw[:64]


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change characters, or the bytes behind them with the checksum that they need."""
    if random.randrange(2):
        return change(data, max_size)
    kind = random.choice(tuple(KINDS))
    size, check_size = KINDS[kind]
    raw = random.choice((ALICE.pub, BOB.pub, ALICE.pub[:32] + LOW_U[1], ALICE.seed, bytes(96)))
    raw = change(raw, size).ljust(size, b"\0")[:size]
    checksum = H(check_size, b"env1-text", random.choice((kind, *KINDS)).encode(), raw)
    written = kind + reference.base32(raw + checksum)
    if random.randrange(4) == 0:
        return change(written.encode(), max_size)
    return written.encode()[:max_size]
