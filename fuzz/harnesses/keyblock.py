"""A key block opens to the AEAD key that the reference finds, or is an UnsealError.

SPEC 5.6, 5.7, 7.2 step 9. The data is ephemeral key, commitment, entry and stream.
"""

from __future__ import annotations

from random import Random

from nacl import bindings as sodium
from nacl.exceptions import CryptoError
from vectors import reference
from vectors.reference import key_encryption_key
from vectors.world import (
    ALICE,
    BOB,
    CAROL,
    LOW_U,
    STREAM,
    commit,
    epoch,
    little,
    noise,
    wrap_entry,
)

from envelope import Identity, PublicIdentity, keyblock
from envelope.errors import UnsealError
from fuzz.harness import Change

COVERS = ("envelope.keyblock",)

_BOB = Identity(BOB.seed)
_ALICE = PublicIdentity(ALICE.pub)
_EPOCHS = tuple(epoch(label) for label in ("first", "second"))
_SHARED = {one.e: sodium.crypto_scalarmult(one.e, BOB.pub[32:]) for one in _EPOCHS}
_POINTS = (*LOW_U, bytes(32), little(1), little(2**255 - 19), little(2**255 - 18), b"\xff" * 32)


def _block(random: Random) -> bytes:
    """Return a block that is right in all but one thing, or in all."""
    keys, other = random.choice(_EPOCHS), random.choice(_EPOCHS)
    by = random.choice((ALICE, ALICE, CAROL))
    stream = random.choice((STREAM, STREAM, bytes(16)))
    ephemeral, com = keys.ephemeral, commit(keys, by=by, in_stream=stream)
    match random.randrange(8):
        case 0:
            ephemeral = random.choice(_POINTS)
        case 1:
            # The same point to those who ignore the highest bit.
            ephemeral = ephemeral[:31] + bytes([ephemeral[31] | 128])
        case 2:
            com = noise("com", 32)
    ck = random.choice((keys.ck, keys.ck, other.ck))
    entry = wrap_entry(BOB, _SHARED[keys.e], ephemeral, com, ck, by=by, in_stream=stream)
    return ephemeral + com + entry + stream


SEEDS = tuple(_block(Random(at)) for at in range(16))


def check(data: bytes) -> None:
    """Unwrap by both."""
    data = data[:144].ljust(144, b"\0")
    keys, entry, stream = data[:64], data[64:128], data[128:]
    expected = _by_reference(keys, entry, stream)
    try:
        found = keyblock.unwrap(_BOB, _ALICE, stream=stream, keys=keys, entry=entry)
    except UnsealError:
        assert expected is None
    else:
        assert found == expected


def _by_reference(keys: bytes, entry: bytes, stream: bytes) -> bytes | None:
    ephemeral, com = keys[:32], keys[32:]
    if not reference.is_sound_x25519(ephemeral):
        return None
    shared = sodium.crypto_scalarmult(BOB.x_secret, ephemeral)
    kek = key_encryption_key(shared, ephemeral, BOB.pub, ALICE.pub, stream, com)
    try:
        ck = reference.decrypt(kek, bytes(24), b"", entry[16:])
    except CryptoError:
        return None
    if reference.commitment(ck, ephemeral, ALICE.pub, stream) != com:
        return None
    return reference.aead_key(ck)


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Make a block that is almost right, and change it or not."""
    if random.randrange(3) == 0:
        return change(data, max_size)
    block = _block(random)
    return block if random.randrange(2) else change(block, max_size)
