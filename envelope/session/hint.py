"""Hints: "I do not have the session of what you sent" (SPEC 18.7).

Rules of this file: bytes in, bytes out. A hint is signed, is about one data message, and
asks for nothing but doubt.
"""

from __future__ import annotations

from typing import Final

from envelope.identity import Identity, PublicIdentity
from envelope.primitives import HINT_LABEL, CryptoError, H, sign, verify
from envelope.session import wire
from envelope.wire import SIGNATURE_SIZE

_DIGEST: Final = 64


def make(identity: Identity, ctx: bytes, data: bytes) -> bytes:
    """Return the hint about a data message.

    Args:
        identity: whose hint it is.
        ctx: CTX of the context without bound frames.
        data: the data message, decoded.
    """
    head = wire.start(wire.HINT) + identity.key_id + data[: wire.DATA_HEAD]
    signed = _signed(identity.public, ctx, head)
    return head + sign(signed, identity._sign_secret)[:SIGNATURE_SIZE]  # noqa: SLF001 (signs)


def is_genuine(data: bytes, public: PublicIdentity, ctx: bytes) -> bool:
    """Tell whether a hint was signed by this key in this context."""
    head, signature = data[: wire.HINT_HEAD], data[wire.HINT_HEAD :]
    try:
        verify(signature + _signed(public, ctx, head), public.public[:32])
    except CryptoError:
        return False
    return True


def _signed(public: PublicIdentity, ctx: bytes, head: bytes) -> bytes:
    return HINT_LABEL + H(_DIGEST, b"env1-hint", public.public, ctx, head)
