"""Hash, signature, key agreement, AEAD, randomness: SPEC 2, and nothing else.

Rules of this file:

- The only importer of ``nacl``, and the only source of randomness.
- No type of PyNaCl leaves: printing one of its keys prints the secret.
- Bytes in, bytes out. A failure of any primitive is ``CryptoError``; PyNaCl's own
  five exception classes are all subclasses of it.
- The names that the hot path calls are the bindings themselves: a wrapper of
  our own would cost more than the check it repeats.
"""

from __future__ import annotations

import hashlib
import hmac
import os

import nacl.bindings
from nacl.exceptions import CryptoError

__all__ = [
    "HINT_LABEL",
    "LABELS",
    "PAIR_LABEL",
    "SIGN_LABEL",
    "CryptoError",
    "H",
    "Hasher",
    "aead_decrypt",
    "aead_encrypt",
    "argon2id",
    "chacha_decrypt",
    "chacha_encrypt",
    "equal",
    "hasher",
    "hkdf_blake2b",
    "is_ed25519_public",
    "is_x25519_public",
    "random_bytes",
    "sign",
    "signing_keypair",
    "unkeyed_blake2b",
    "verify",
    "x25519",
    "x25519_public",
]

LABELS = frozenset(
    {
        b"env1-ed25519",
        b"env1-x25519",
        b"env1-hedge",
        b"env1-keyid",
        b"env1-context",
        b"env1-bind",
        b"env1-body",
        b"env1-id",
        b"env1-epoch",
        b"env1-commit",
        b"env1-aead",
        b"env1-kek",
        b"env1-nonce",
        b"env1-stream",
        b"env1-text",
        b"env1-session",
        b"env1-streams",
        b"env1-message",
        b"env1-hint",
        b"env1-pair-run",
        b"env1-pair-code",
        b"env1-pair-key",
        b"env1-pair-proof",
        b"env1-pair-dh",
        b"env1-pair-print",
    }
)
"""The labels of H (SPEC 2.3); a hash under any other label cannot be begun."""

SIGN_LABEL = b"envelope/v1/sign"
"""The first 16 bytes of what Ed25519 signs in an envelope (SPEC 5.4)."""

HINT_LABEL = b"envelope/v1/hint"
"""The first 16 bytes of what Ed25519 signs in a hint of sessions (SPEC 18.7)."""

PAIR_LABEL = b"envelope/v1/pair"
"""The first 16 bytes of what Ed25519 signs in a pairing (SPEC 19.5)."""

_BLOCK = 128  # BLAKE2b's block: a label fills one (SPEC 2.2).
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))
_FIELD_PRIME = 2**255 - 19
# A scalar, any clamped one: multiplied by it, exactly the points of low order give zero.
_PROBE = bytes(31) + b"\x40"

Hasher = hashlib.blake2b
"""The type of a hash state that has absorbed a label; copy it, then update the copy."""

random_bytes = os.urandom
"""Return n bytes of the operating system's generator, which reseeds across forks."""

sign = nacl.bindings.crypto_sign
"""sign(message, secret 64) -> signature (64) || message."""

verify = nacl.bindings.crypto_sign_open
"""verify(signature (64) || message, public 32) -> message, or CryptoError."""

aead_encrypt = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt
"""aead_encrypt(plaintext, aad, nonce 24, key 32) -> ciphertext || tag (16)."""

aead_decrypt = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt
"""aead_decrypt(ciphertext || tag, aad, nonce 24, key 32) -> plaintext, or CryptoError."""

chacha_encrypt = nacl.bindings.crypto_aead_chacha20poly1305_ietf_encrypt
"""chacha_encrypt(plaintext, aad, nonce 12, key 32) -> ciphertext || tag (16); for sessions."""

chacha_decrypt = nacl.bindings.crypto_aead_chacha20poly1305_ietf_decrypt
"""chacha_decrypt(ciphertext || tag, aad, nonce 12, key 32) -> plaintext, or CryptoError."""

equal = hmac.compare_digest
"""equal(a, b) -> bool, in constant time for equal lengths."""


def hasher(label: bytes, *, key: bytes = b"") -> Hasher:
    """Begin H: return a BLAKE2b-512 state that has absorbed the padded label.

    Args:
        label: one of ``LABELS``.
        key: up to 64 bytes; keyed BLAKE2b if given.

    Raises:
        KeyError: the label is not in the table. A bug, never input.
    """
    if label not in LABELS:
        raise KeyError(label)
    return hashlib.blake2b(label.ljust(_BLOCK, b"\0"), key=key)


def H(n: int, label: bytes, *data: bytes, key: bytes = b"") -> bytes:  # noqa: N802 (SPEC's name)
    """Return the first ``n`` bytes of the hash of label and data (SPEC 2.2)."""
    state = hasher(label, key=key)
    for part in data:
        state.update(part)
    return state.digest()[:n]


def unkeyed_blake2b(data: bytes) -> bytes:
    """Return BLAKE2b-512 as Noise uses it: no label, no key (SPEC 18.1)."""
    return hashlib.blake2b(data).digest()


def hkdf_blake2b(chain: bytes, shared: bytes) -> tuple[bytes, bytes]:
    """Return the first two outputs of HKDF (RFC 5869) over BLAKE2b-512, as Noise uses it.

    Args:
        chain: the key that the input is extracted with, at most 128 bytes; a longer one would
            be hashed first, and in Noise there is none.
        shared: the input.
    """
    inner, outer = _hmac_states(chain)
    inner.update(shared)
    outer.update(inner.digest())
    # The key of both outputs is the same: its two states are made once.
    inner, outer = _hmac_states(outer.digest())
    again, last = inner.copy(), outer.copy()
    inner.update(b"\x01")
    outer.update(inner.digest())
    first = outer.digest()
    again.update(first + b"\x02")
    last.update(again.digest())
    return first, last.digest()


def _hmac_states(key: bytes) -> tuple[Hasher, Hasher]:
    """Return the inner and outer state of HMAC (RFC 2104) with this key.

    By hand: the standard library's takes twice as long, and a handshake has thirty.
    """
    assert len(key) <= _BLOCK
    block = key.ljust(_BLOCK, b"\0")
    return hashlib.blake2b(block.translate(_INNER_PAD)), hashlib.blake2b(
        block.translate(_OUTER_PAD)
    )


def signing_keypair(seed: bytes) -> tuple[bytes, bytes]:
    """Return the public key (32) and libsodium's form of the secret (64) of a seed.

    The 64-byte form lives in memory only: it is neither stored nor accepted,
    since one that does not match its public half signs so that the key leaks.
    """
    public, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
    return public, secret


def x25519(secret: bytes, public: bytes) -> bytes:
    """Return the shared secret (32).

    Raises:
        CryptoError: ``public`` is of low order, so the result would be zero; or one of
            the two has not 32 bytes.
    """
    if len(secret) != 32 or len(public) != 32:
        raise CryptoError("an X25519 key has 32 bytes")
    return nacl.bindings.crypto_scalarmult(secret, public)


def x25519_public(secret: bytes) -> bytes:
    """Return the public key (32) of an X25519 secret.

    Raises:
        CryptoError: the secret has not 32 bytes.
    """
    if len(secret) != 32:
        raise CryptoError("an X25519 secret has 32 bytes")
    return nacl.bindings.crypto_scalarmult_base(secret)


def is_ed25519_public(key: bytes) -> bool:
    """Tell whether 32 bytes are a canonical point of the prime-order subgroup (SPEC 3.4)."""
    return bool(nacl.bindings.crypto_core_ed25519_is_valid_point(key))


def is_x25519_public(key: bytes) -> bool:
    """Tell whether these are 32 bytes, canonical and not of low order (SPEC 3.4)."""
    if len(key) != 32 or int.from_bytes(key, "little") >= _FIELD_PRIME:
        return False
    try:
        nacl.bindings.crypto_scalarmult(_PROBE, key)
    except CryptoError:
        return False
    return True


def argon2id(passphrase: bytes, salt: bytes, *, passes: int, memory_kib: int) -> bytes:
    """Return 32 bytes of Argon2id 1.3 with one lane (SPEC 13.2; RFC 9106).

    Raises:
        CryptoError: the parameters are outside libsodium's limits, or memory is short.
    """
    return nacl.bindings.crypto_pwhash_alg(
        32,
        passphrase,
        salt,
        passes,
        memory_kib * 1024,
        nacl.bindings.crypto_pwhash_ALG_ARGON2ID13,
    )
