"""Content keys and how recipients get them (SPEC 5.6, 5.7, 6.3).

Rules of this file: a content key lives for one key epoch and encrypts nothing
itself; what encrypts is derived from it after it was committed to. Everything
that enters a derivation has a fixed size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from envelope import wire
from envelope.errors import UnsealError
from envelope.identity import Identity, PublicIdentity
from envelope.primitives import (
    CryptoError,
    H,
    aead_decrypt,
    aead_encrypt,
    equal,
    is_x25519_public,
    x25519,
    x25519_public,
)

_WRAP_NONCE = bytes(24)
"""Zero is safe: COM is in the KEK, so one KEK meets one plaintext (SPEC 5.7)."""
_u64 = struct.Struct(">Q").pack


def make(
    identity: Identity,
    recipients: Sequence[PublicIdentity],
    *,
    stream: bytes,
    now: int,
    random: Callable[[int], bytes],
) -> tuple[bytes, bytes]:
    """Make the key block of a new key epoch.

    Args:
        identity: the sender.
        recipients: 1 to 256, ascending by key id.
        stream: 16 bytes.
        now: Unix microseconds.
        random: returns n random bytes.

    Returns:
        The key block, and the AEAD key (32 bytes). The content key is forgotten.
    """
    state = identity._epoch_hedge.copy()  # noqa: SLF001 (one package, one secret)
    state.update(random(64) + stream + _u64(now))
    digest = state.digest()
    secret, content_key = digest[:32], digest[32:]
    ephemeral = x25519_public(secret)
    sender = identity.public.public
    commitment = _commit(content_key, ephemeral, sender, stream)
    parts = [ephemeral, commitment]
    for recipient in recipients:
        shared = x25519(secret, recipient.public[32:])
        kek = _kek(shared, ephemeral, recipient.public, sender, stream, commitment)
        parts += recipient.key_id, aead_encrypt(content_key, b"", _WRAP_NONCE, kek)
    return b"".join(parts), _aead_key(content_key)


def unwrap(
    identity: Identity, sender: PublicIdentity, *, stream: bytes, keys: bytes, entry: bytes
) -> bytes:
    """Return the AEAD key (32 bytes) of a key block.

    Args:
        identity: the recipient.
        sender: whose signature was verified.
        stream: 16 bytes.
        keys: ephemeral key and commitment, 64 bytes.
        entry: the recipient's own entry, key id and wrapped key, 64 bytes.

    Raises:
        UnsealError: the ephemeral key is not sound, the wrap does not open, or the
            content key is not the one committed to.
    """
    ephemeral, commitment = keys[:32], keys[32:]
    if not is_x25519_public(ephemeral):
        raise UnsealError("the ephemeral key is not canonical, or of low order")
    try:
        shared = x25519(identity._x_secret, ephemeral)  # noqa: SLF001 (one package, one secret)
        kek = _kek(shared, ephemeral, identity.public.public, sender.public, stream, commitment)
        content_key = aead_decrypt(entry[wire.KEY_ID_SIZE :], b"", _WRAP_NONCE, kek)
    except CryptoError:
        raise UnsealError("the wrapped key does not open") from None
    if not equal(_commit(content_key, ephemeral, sender.public, stream), commitment):
        raise UnsealError("the content key is not the one committed to")
    return _aead_key(content_key)


def _commit(content_key: bytes, ephemeral: bytes, sender: bytes, stream: bytes) -> bytes:
    return H(32, b"env1-commit", ephemeral, sender, stream, key=content_key)


def _aead_key(content_key: bytes) -> bytes:
    return H(32, b"env1-aead", key=content_key)


def _kek(  # noqa: PLR0913, PLR0917 (SPEC 5.7 names six ingredients)
    shared: bytes, ephemeral: bytes, recipient: bytes, sender: bytes, stream: bytes, com: bytes
) -> bytes:
    return H(32, b"env1-kek", ephemeral, recipient, sender, stream, com, key=shared)
