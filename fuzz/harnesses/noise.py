"""A handshake reads what its other end wrote, both get one hash; all else changes nothing.

SPEC 18.1. The first byte says which message is read and by which keys it was begun, the rest
is the message. What is read is written anew from the same secrets, and is the same bytes.
"""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from vectors.world import ALICE, BOB, CAROL, LOW_U, MALLORY

from envelope.primitives import CryptoError, x25519_public
from envelope.session.noise import Handshake
from fuzz.harness import Change

COVERS = ("envelope.session.noise",)

PROLOGUES = (b"prologue", b"another")
EPHEMERALS = (b"e" * 32, b"f" * 32)
_PUBLIC_OF = {x25519_public(secret): secret for secret in EPHEMERALS}
_STATICS = {one.pub[32:]: one.x_secret for one in (ALICE, CAROL, MALLORY)}
ANSWERS = b"r" * 32


_public_of = cache(x25519_public)


def make_initiator(
    *, secret: bytes = ALICE.x_secret, ephemeral: bytes = EPHEMERALS[0], prologue: int = 0
) -> Handshake:
    """Return the end that begins: Alice's, unless told otherwise."""
    return Handshake(
        secret=secret,
        public=_public_of(secret),
        ephemeral=ephemeral,
        prologue=PROLOGUES[prologue],
        remote_static=BOB.pub[32:],
    )


def make_responder(ephemeral: bytes = ANSWERS) -> Handshake:
    """Return Bob's end."""
    return Handshake(
        secret=BOB.x_secret,
        public=BOB.pub[32:],
        ephemeral=ephemeral,
        prologue=PROLOGUES[0],
        remote_static=None,
    )


def _first(payload: bytes, **options: Any) -> bytes:
    return b"\0" + make_initiator(**options).write(payload)


def _second(payload: bytes, ephemeral: bytes = ANSWERS) -> bytes:
    responder = make_responder(ephemeral)
    responder.read(make_initiator().write(b""))
    return b"\1" + responder.write(payload)


SEEDS = (
    *(b"", b"\1"),
    _first(b""),
    _first(b"payload"),
    _first(b"payload", secret=MALLORY.x_secret),
    _first(b"payload", ephemeral=EPHEMERALS[1], prologue=1),
    _second(b""),
    _second(b"payload"),
)


def check(data: bytes) -> None:
    """Let an end read it that waits for it."""
    if data[:1] == b"\1":
        _check_second(data[1:])
    else:
        _check_first(data[1:])


def _state(handshake: Handshake) -> list[Any]:
    inner = handshake._state  # noqa: SLF001 (all that a handshake holds)
    names = [name for name in Handshake.__slots__ if name != "_state"]
    return [getattr(handshake, name) for name in names] + [
        getattr(inner, name) for name in type(inner).__slots__
    ]


def _check_first(message: bytes) -> None:
    responder = make_responder()
    before = _state(responder)
    try:
        payload = responder.read(message)
    except CryptoError:
        assert _state(responder) == before
        return
    static = responder.remote_static
    assert static in _STATICS, "nobody has the secret of this key"
    ephemeral = _PUBLIC_OF.get(message[:32])
    assert ephemeral is not None, "nobody has the secret of this key"
    initiator = make_initiator(secret=_STATICS[static], ephemeral=ephemeral)
    assert initiator.write(payload) == message
    assert initiator.read(responder.write(b"answer")) == b"answer"
    _check_keys(initiator, responder)


def _check_second(message: bytes) -> None:
    initiator = make_initiator()
    first = initiator.write(b"")
    before = _state(initiator)
    try:
        payload = initiator.read(message)
    except CryptoError:
        assert _state(initiator) == before
        return
    assert message[:32] in (x25519_public(ANSWERS), *_PUBLIC_OF)
    responder = make_responder(_PUBLIC_OF.get(message[:32], ANSWERS))
    responder.read(first)
    assert responder.write(payload) == message
    _check_keys(initiator, responder)


def _check_keys(one: Handshake, other: Handshake) -> None:
    assert one.keys is not None
    assert other.keys is not None
    assert one.keys.hash == other.keys.hash
    assert (one.keys.send, one.keys.receive) == (other.keys.receive, other.keys.send)
    assert one.keys.send != one.keys.receive


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Write a message anew with one ingredient changed, or change bytes of one."""
    if random.randrange(2):
        return change(data, max_size)
    payload = change(data[1:17], 64)
    if random.randrange(3) == 0:
        message = _second(payload, random.choice((ANSWERS, *EPHEMERALS)))
    else:
        message = _first(
            payload,
            secret=random.choice(tuple(_STATICS.values())),
            ephemeral=random.choice(EPHEMERALS),
            prologue=random.randrange(3) // 2,
        )
    if random.randrange(4) == 0:
        message = message[:1] + random.choice((*LOW_U, bytes(32), b"\xff" * 32)) + message[33:]
    return message if random.randrange(2) else change(message, max_size)
