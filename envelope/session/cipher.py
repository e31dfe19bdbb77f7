"""The cipher of sessions, ChaCha20-Poly1305 (RFC 8439): by OpenSSL or by libsodium.

Rules of this file: the only importer of ``cryptography``, which may not be there. Whose the
cipher is changes no byte, no refusal and no error, only how long a message takes (decision
0016).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from envelope.primitives import CryptoError, chacha_decrypt, chacha_encrypt

Use = Callable[[bytes, bytes, bytes, bytes], bytes]
"""Of data, additional data, nonce (12) and key (32)."""

MINIMUM: Final = 46
"""Of ``cryptography``: with those before, a message takes no less than with libsodium."""


class Cipher(NamedTuple):
    """How to encrypt and decrypt, and by whose code.

    Attributes:
        by: of the code, the name of its library.
        encrypt: returns the ciphertext and its tag (16) of a plaintext.
        decrypt: returns the plaintext, or raises CryptoError.
    """

    by: str
    encrypt: Use
    decrypt: Use


def libsodium() -> Cipher:
    """Return libsodium's, by PyNaCl."""
    return Cipher("libsodium", chacha_encrypt, chacha_decrypt)


def openssl() -> Cipher | None:
    """Return OpenSSL's, by ``cryptography``; None: it is not there, or old, or may not."""
    try:
        import cryptography  # noqa: PLC0415 (an extra)
        from cryptography.exceptions import (  # noqa: PLC0415 (as above)
            InvalidTag,
            UnsupportedAlgorithm,
        )
        from cryptography.hazmat.primitives.ciphers import aead  # noqa: PLC0415 (as above)
    except ImportError:
        return None
    if int(cryptography.__version__.partition(".")[0]) < MINIMUM:
        return None
    make = aead.ChaCha20Poly1305
    try:
        make(bytes(32))
    except UnsupportedAlgorithm:  # An OpenSSL that is held to FIPS 140.
        return None

    # Made anew for each message: one that is kept takes more memory than all else that there
    # is of a session, and holds its key where nobody can drop it.
    def encrypt(plaintext: bytes, aad: bytes, nonce: bytes, key: bytes) -> bytes:
        try:
            return make(key).encrypt(nonce, plaintext, aad)
        except ValueError:  # The key of a session that is over.
            raise CryptoError("not a key, or not a nonce") from None

    def decrypt(ciphertext: bytes, aad: bytes, nonce: bytes, key: bytes) -> bytes:
        try:
            return make(key).decrypt(nonce, ciphertext, aad)
        except (InvalidTag, ValueError, OverflowError):  # It takes less than 2^31 bytes.
            raise CryptoError("not encrypted by this key for this place") from None

    return Cipher("OpenSSL", encrypt, decrypt)


BY, encrypt, decrypt = openssl() or libsodium()
