"""What the messages of a run are authenticated and encrypted with (SPEC 19.4, 19.5).

Rules of this file:

- Everything depends on all messages before it, in order, and on K, the key of the code.
- Each key meets one plaintext, so the nonce is zero. A tag of the code comes before any
  decryption: one message must not test many codes.
- It knows no states; ``exchange`` decides what is due.
"""

from __future__ import annotations

from typing import Final

from envelope.errors import PairingCodeError, PairingError, UsageError
from envelope.identity import Identity, PublicIdentity
from envelope.pairing import messages
from envelope.pairing.messages import CODE_TAG, Type
from envelope.primitives import (
    PAIR_LABEL,
    CryptoError,
    H,
    aead_decrypt,
    aead_encrypt,
    equal,
    is_x25519_public,
    sign,
    verify,
    x25519,
    x25519_public,
)

_HEAD: Final = 6
_NONCE: Final = bytes(24)
_SIGNATURE: Final = 64


class Transcript:
    """The messages of one run as one end sees them, and its secrets. Not thread-safe.

    Attributes:
        ephemeral: the public half of this end's fresh X25519 key.
        key: K, once the elements were exchanged.
    """

    __slots__ = ("_ephemeral", "_identity", "_messages", "_their_ephemeral", "ephemeral", "key")

    def __init__(self, identity: Identity, ephemeral: bytes) -> None:
        """Take this end's identity, and a fresh X25519 secret for this run alone."""
        self._identity = identity
        self._ephemeral = ephemeral
        self._their_ephemeral = b""
        self._messages: list[bytes] = []
        self.ephemeral = x25519_public(ephemeral)
        self.key = b""

    @property
    def own_public(self) -> bytes:
        """PUB of this end."""
        return self._identity.public.public

    def log(self, message: bytes) -> bytes:
        """Let a message of the types 1 to 5 enter; return it."""
        self._messages.append(message)
        return message

    def take_ephemeral(self, key: bytes) -> None:
        """Take the other side's fresh X25519 key.

        Raises:
            PairingError: not canonical, or of low order.
        """
        if not is_x25519_public(key):
            raise PairingError(messages.STRANGE)
        self._their_ephemeral = key

    def forget(self) -> None:
        """Drop what a later thief of memory could use; Python may keep copies."""
        self.key = self._ephemeral = b""

    def seal(self, kind: Type, plaintext: bytes, *, confirms: bool = False) -> bytes:
        """Return a message that is next, with a tag of the code if it ``confirms``."""
        head = messages.head(kind)
        if confirms:
            head += self._hash(32, b"env1-pair-code", kind)
        key = self._hash(32, b"env1-pair-key", kind)
        return head + aead_encrypt(plaintext, head, _NONCE, key)

    def open(self, kind: Type, message: bytes, *, confirms: bool = False) -> bytes:
        """Return what is encrypted in a message, which has the size of its type.

        Raises:
            PairingCodeError: the other side has another code.
            PairingError: it was changed.
        """
        size = _HEAD + CODE_TAG if confirms else _HEAD
        head, sealed = message[:size], message[size:]
        if confirms and not equal(head[_HEAD:], self._hash(32, b"env1-pair-code", kind)):
            raise PairingCodeError(
                "a wrong code was tried: this code is burned. If nobody mistyped it, somebody "
                "was guessing"
            )
        try:
            return aead_decrypt(sealed, head, _NONCE, self._hash(32, b"env1-pair-key", kind))
        except CryptoError:
            raise PairingError("a message was changed on its way") from None

    def take_public(self, public: bytes) -> PublicIdentity:
        """Return the other side's identity, which is claimed until its proof.

        Raises:
            PairingError: the keys are not sound, or this end's own.
        """
        try:
            claimed = PublicIdentity(public)
        except UsageError as error:
            raise PairingError(f"the other side's keys are not sound: {error}") from None
        own = self.own_public
        if public[:32] == own[:32] or public[32:] == own[32:]:
            raise PairingError("the other side shows this end's own keys")
        return claimed

    def prove(self, kind: Type, other: PublicIdentity) -> bytes:
        """Return a signature and a MAC that only who has both our secrets can make."""
        identity = self._identity
        statement = self._statement(kind, identity.public, other)
        secret = identity._sign_secret  # noqa: SLF001 (one package, one secret)
        signature = sign(PAIR_LABEL + statement, secret)[:_SIGNATURE]
        secret = identity._x_secret  # noqa: SLF001 (one package, one secret)
        shared = x25519(secret, self._their_ephemeral)
        return signature + H(32, b"env1-pair-dh", statement, key=shared)

    def check_proof(self, kind: Type, claimed: PublicIdentity, proof: bytes) -> None:
        """Check that the other side has both secrets of what it claims to be.

        Raises:
            PairingError: it has not.
        """
        statement = self._statement(kind, claimed, self._identity.public)
        try:
            verify(proof[:_SIGNATURE] + PAIR_LABEL + statement, claimed.public[:32])
        except CryptoError:
            raise PairingError("the other side does not have the signing key it shows") from None
        shared = x25519(self._ephemeral, claimed.public[32:])
        if not equal(proof[_SIGNATURE:], H(32, b"env1-pair-dh", statement, key=shared)):
            raise PairingError("the other side does not have the encryption key it shows")

    def _statement(self, kind: Type, prover: PublicIdentity, other: PublicIdentity) -> bytes:
        """Return PROOF (SPEC 19.5)."""
        return self._hash(64, b"env1-pair-proof", kind, prover.public, other.public)

    def _hash(self, size: int, label: bytes, kind: Type, *more: bytes) -> bytes:
        """Return H of a type, of RUN so far, and of more, under K."""
        run = H(64, b"env1-pair-run", *self._messages)
        return H(size, label, bytes((kind,)), run, *more, key=self.key)
