"""The limits, which are the primitives alone, and what one writes by hand with PyNaCl.

Rules of this file: a limit carries nothing but ciphertext, tag and signature, and its
nonce is fixed, so it is no way to carry a message. It signs the whole payload; what costs
less signs a hash, shares a signature among messages, or uses another binding.
"""

from __future__ import annotations

import nacl.bindings as nacl
from nacl.public import Box, PrivateKey
from nacl.signing import SigningKey

from peers.ways import SIGN, SIGN_ENCRYPT, YES, Does, Start, Way, steady

AAD = b"a" * 64


def sign() -> Start:
    """Sign and verify."""
    public, secret = nacl.crypto_sign_keypair()
    return steady(
        lambda payload: nacl.crypto_sign(payload, secret),
        lambda data: nacl.crypto_sign_open(data, public),
    )


def sign_encrypt() -> Start:
    """Encrypt and sign; verify and decrypt."""
    public, secret = nacl.crypto_sign_keypair()
    key, nonce = nacl.randombytes(32), nacl.randombytes(24)
    encrypt = nacl.crypto_aead_xchacha20poly1305_ietf_encrypt
    decrypt = nacl.crypto_aead_xchacha20poly1305_ietf_decrypt
    return steady(
        lambda payload: nacl.crypto_sign(encrypt(payload, AAD, nonce, key), secret),
        lambda data: decrypt(nacl.crypto_sign_open(data, public), AAD, nonce, key),
    )


def sign_box() -> Start:
    """Sign with a SigningKey, and encrypt that with a Box."""
    signing, alice, bob = SigningKey.generate(), PrivateKey.generate(), PrivateKey.generate()
    verifying = signing.verify_key
    there, here = Box(alice, bob.public_key), Box(bob, alice.public_key)
    return steady(
        lambda payload: bytes(there.encrypt(signing.sign(payload))),
        lambda data: verifying.verify(here.decrypt(data)),
    )


LIMITS = (
    Way(SIGN, Does(signed=YES), sign, kind="limit", excused=()),
    Way(
        SIGN_ENCRYPT,
        Does(signed=YES, encrypted=YES, to="key"),
        sign_encrypt,
        kind="limit",
        excused=(),
    ),
)

WAYS = (Way("PyNaCl sign + Box by hand", Does(signed=YES, encrypted=YES, to="1"), sign_box),)
