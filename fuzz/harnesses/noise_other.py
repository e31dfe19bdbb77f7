"""Another implementation of Noise reads the same handshakes, and comes to the same hash.

SPEC 18.1. The data is that of ``noise``; the other implementation is the package
noiseprotocol, in the place of the end that reads.
"""

from __future__ import annotations

import warnings

from cryptography.exceptions import InvalidTag
from noise.connection import Keypair, NoiseConnection
from noise.exceptions import NoiseInvalidMessage, NoiseValueError
from vectors.world import ALICE, BOB

from envelope.primitives import CryptoError
from envelope.session.noise import PROTOCOL, Handshake
from fuzz.harnesses import noise

COVERS = ("envelope.session.noise",)
SEEDS = noise.SEEDS
mutate = noise.mutate


def check(data: bytes) -> None:
    """Read by both; write the answer by both, and compare."""
    is_second, message = data[:1] == b"\1", data[1:]
    ours = noise.make_initiator() if is_second else noise.make_responder()
    theirs = _theirs(is_initiator=is_second)
    if is_second:
        assert ours.write(b"") == theirs.write_message(b"")
    expected = _read(theirs, message)
    try:
        payload = ours.read(message)
    except CryptoError:
        assert expected is None
        return
    assert payload == expected
    if not is_second:
        assert ours.write(b"answer") == theirs.write_message(b"answer")
    _check_hash(ours, theirs)


def _read(theirs: NoiseConnection, message: bytes) -> bytes | None:
    try:
        return bytes(theirs.read_message(message))
    except (NoiseInvalidMessage, NoiseValueError, InvalidTag, ValueError):
        return None


def _check_hash(ours: Handshake, theirs: NoiseConnection) -> None:
    assert ours.keys is not None
    assert theirs.handshake_finished
    assert ours.keys.hash == theirs.get_handshake_hash()


def _theirs(*, is_initiator: bool) -> NoiseConnection:
    """Return the other implementation in the place of ``make_initiator`` or ``make_responder``."""
    made = NoiseConnection.from_name(PROTOCOL)
    made.set_prologue(noise.PROLOGUES[0])
    if is_initiator:
        made.set_as_initiator()
        secret, ephemeral = ALICE.x_secret, noise.EPHEMERALS[0]
        made.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, BOB.pub[32:])
    else:
        made.set_as_responder()
        secret, ephemeral = BOB.x_secret, noise.ANSWERS
    made.set_keypair_from_private_bytes(Keypair.STATIC, secret)
    made.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
    with warnings.catch_warnings():
        # It warns that ephemeral keys are handed in.
        warnings.simplefilter("ignore", UserWarning)
        made.start_handshake()
    return made
