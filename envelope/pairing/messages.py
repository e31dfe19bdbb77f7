"""Messages of a pairing: types, sizes, one encoding (SPEC 19.3).

Rules of this file: a message is told by its size and six bytes, before anything else is
looked at. What is in it, ``exchange`` judges.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from envelope.errors import PairingError

MAGIC: Final = b"ENVP"
VERSION: Final = 1
MAX_MESSAGE: Final = 256
"""Bytes that a receiver takes at all; the largest message has 214."""


STRANGE: Final = "the other side sent something that is no message of a pairing"


class Type(IntEnum):
    """What a message is, and so who sends it; END either may send."""

    END = 0
    HELLO = 1
    ANSWER = 2
    CONFIRMATION = 3
    LISTENER_PROOF = 4
    CONNECTOR_PROOF = 5
    CONNECTOR_DECISION = 6
    LISTENER_DECISION = 7
    DONE = 8


ELEMENT: Final = 32
EPHEMERAL: Final = 32
CODE_TAG: Final = 32
AEAD_TAG: Final = 16
PUB: Final = 64
PROOF: Final = 64 + 32
"""An Ed25519 signature and a MAC."""

BODY_SIZES: Final = {
    Type.END: 0,
    Type.HELLO: ELEMENT + EPHEMERAL,
    Type.ANSWER: ELEMENT + EPHEMERAL,
    Type.CONFIRMATION: CODE_TAG + PUB + AEAD_TAG,
    Type.LISTENER_PROOF: CODE_TAG + PUB + PROOF + AEAD_TAG,
    Type.CONNECTOR_PROOF: PROOF + AEAD_TAG,
    Type.CONNECTOR_DECISION: 1 + AEAD_TAG,
    Type.LISTENER_DECISION: 1 + AEAD_TAG,
    Type.DONE: AEAD_TAG,
}


def head(kind: Type) -> bytes:
    """Return the six bytes that a message of this type begins with."""
    return MAGIC + bytes((VERSION, kind))


_BY_HEAD: Final = {head(kind): kind for kind in Type}


def decode(data: bytes) -> tuple[Type, bytes]:
    """Return type and body of a message.

    Raises:
        PairingError: not a message of a pairing.
    """
    kind = _BY_HEAD.get(data[:6])
    if kind is None or len(data) != 6 + BODY_SIZES[kind]:
        raise PairingError(STRANGE)
    return kind, data[6:]
