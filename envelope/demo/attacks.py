"""What the proxy can do to a message, and what must come of it.

Rules of this file: each attack says which code it must be refused with, and why
can be read off the order of checks (SPEC 7.2). What an attack needs a key for is
signed by the attacker's own, which nobody trusts.
"""

from __future__ import annotations

import random
from enum import StrEnum
from typing import Final, NamedTuple

from envelope import Identity, PublicIdentity, Sealer, wire
from envelope import clock as clocks
from envelope.clock import Clock
from envelope.demo import cast

DELIVERED: Final = "delivered"
"""What must come of a message that was let through; everything else is a code."""


class Act(StrEnum):
    """What the proxy did to a message."""

    PASS = "let through"  # noqa: S105 (no password)
    DROP = "dropped"
    REORDER = "held back, sent later"
    FLIP = "one bit flipped"
    RETOPIC = "moved to another topic"
    REPEAT = "sent twice"
    REPLAY = "an old one sent again"
    MISDIRECT = "sent to the wrong one"
    STRANGER = "forged by a stranger"
    IMPOSTOR = "forged in a known name"
    GARBAGE = "random bytes"
    RESTART = "replayed after a restart"


STOPPED: Final = (Act.DROP, Act.FLIP, Act.RETOPIC)
"""Acts after which the honest message does not arrive."""


class Field(NamedTuple):
    """A part of an envelope whose flipped bits must end in one way."""

    start: int
    end: int
    bits: tuple[int, ...]
    code: str | None
    """None for the part of sent_at where the bit itself decides: set or not."""


_ANY: Final = tuple(range(8))
_SENT_AT_HIGH: Final = 50
"""The byte of sent_at whose bits are 13 days to 4 years: stale, or future."""


def _fields(header: wire.Header, size: int) -> list[Field]:
    """Return the parts of a sealed envelope (SPEC 4.1, 4.2) that are flipped.

    Left out is what ends in one of several ways: the reply flag, the low byte of
    the count of recipients, the key ids in the key block, the middle of numbers.
    """
    first = header.key_block + wire.KEYS_SIZE
    wraps = [
        Field(at + wire.KEY_ID_SIZE, at + wire.ENTRY_SIZE, _ANY, "bad_signature")
        for at in range(first, header.body, wire.ENTRY_SIZE)
    ]
    return [
        Field(0, 3, _ANY, "malformed"),  # magic
        Field(3, 4, _ANY, "version"),
        Field(4, 5, _ANY, "malformed"),  # kind: one bit makes none that exists
        Field(5, 6, (0,), "bad_signature"),  # flags: a bundle, it says now
        Field(5, 6, _ANY[2:], "malformed"),
        Field(6, 7, _ANY, "malformed"),  # recipients: 256 and more
        Field(8, 24, _ANY, "unknown_sender"),
        Field(24, 40, _ANY, "bad_signature"),  # stream: a new one, it says now
        Field(40, 42, _ANY, "malformed"),  # sequence: beyond 2^48
        Field(42, 44, _ANY, "bad_signature"),  # sequence: a leap ahead
        Field(48, 49, _ANY, "malformed"),  # sent_at: beyond 2^53
        Field(_SENT_AT_HIGH, _SENT_AT_HIGH + 1, _ANY, None),
        Field(55, 56, _ANY, "bad_signature"),  # sent_at: some microseconds
        Field(wire.NONCE_AT, wire.FIXED_SIZE, _ANY, "bad_signature"),
        Field(header.key_block, first, _ANY, "bad_signature"),  # ephemeral key, COM
        *wraps,
        Field(header.body, size - wire.SIGNATURE_SIZE, _ANY, "bad_signature"),
        Field(size - wire.SIGNATURE_SIZE, size, _ANY, "bad_signature"),
    ]


def flip(data: bytes, dice: random.Random) -> tuple[bytes, str]:
    """Flip one bit of a sealed envelope.

    Returns:
        The envelope, and the code that it must be refused with.
    """
    field = dice.choice(_fields(wire.decode(data), len(data)))
    at = dice.randrange(field.start, field.end)
    mask = 1 << dice.choice(field.bits)
    changed = bytearray(data)
    changed[at] ^= mask
    code = field.code or ("stale" if data[at] & mask else "future")
    return bytes(changed), code


def garbage(dice: random.Random) -> bytes:
    """Return up to 600 random bytes, which are malformed: they do not begin with ENV."""
    data = dice.randbytes(dice.randrange(600))
    return b"?" + data[1:] if data[:1] == b"E" else data


class Forger:
    """Envelopes that somebody makes who has a key, and whom nobody knows."""

    def __init__(
        self, subscribers: dict[str, PublicIdentity], *, clock: Clock = clocks.wall
    ) -> None:
        """Take the subscribers' public identities, which are no secret, and the time."""
        identity = Identity.generate()
        self._sealers = {
            prefix: Sealer(
                identity,
                context=cast.CONTEXT,
                to=[subscribers[name] for name in names],
                clock=clock,
            )
            for prefix, names in cast.AUDIENCES.items()
        }

    def stranger(self, topic: str) -> bytes:
        """Return a sound envelope of a sender that nobody knows."""
        sealer = self._sealers[topic.partition("/")[0]]
        return sealer.seal(b'{"forged":true}', bound=(topic.encode(),))

    def impostor(self, topic: str, victim: bytes) -> bytes:
        """Return the same, with a known sender's key id in place of the own."""
        data = self.stranger(topic)
        return data[:8] + victim + data[24:]
