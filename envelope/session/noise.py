"""The Noise protocol IK_25519_ChaChaPoly_BLAKE2b, and nothing of Noise besides (SPEC 18.1).

Rules of this file:

- Written from the Noise Protocol Framework, revision 34; names and steps are its own.
- Bytes in, bytes out: no peers, no time, no transport. Ephemeral secrets are handed in.
- What fails to be read changes nothing: a forged message does not end a handshake.
- A key encrypts under each nonce once, for nonces are counted here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from envelope.primitives import (
    CryptoError,
    hkdf_blake2b,
    unkeyed_blake2b,
    x25519,
    x25519_public,
)
from envelope.session.cipher import decrypt, encrypt

PROTOCOL: Final = b"Noise_IK_25519_ChaChaPoly_BLAKE2b"
KEY_SIZE: Final = 32
TAG_SIZE: Final = 16
MAX_MESSAGE: Final = 65_535
"""Bytes of a Noise message (revision 34, section 3)."""

# The pattern IK, section 7.5, after its pre-message "<- s". First and second message.
_PATTERN: Final = (("e", "es", "s", "ss"), ("e", "ee", "se"))


class Keys(NamedTuple):
    """What a handshake leaves (section 5.2, Split)."""

    send: bytes
    receive: bytes
    hash: bytes
    """The handshake hash, 64 bytes: the same at both ends, and at no others (section 11.2)."""


class _SymmetricState:
    """Chaining key, transcript hash and cipher key (sections 5.1 and 5.2)."""

    __slots__ = ("_chain", "_key", "_nonce", "hash")

    def __init__(self) -> None:
        # No longer than a hash, so it is padded and not hashed.
        self.hash = self._chain = PROTOCOL.ljust(64, b"\0")
        self._key = b""  # In IK a key is mixed before anything is encrypted.
        self._nonce = 0

    def copy(self) -> _SymmetricState:
        twin = _SymmetricState()
        twin.hash, twin._chain = self.hash, self._chain
        twin._key, twin._nonce = self._key, self._nonce
        return twin

    def mix_hash(self, data: bytes) -> None:
        self.hash = unkeyed_blake2b(self.hash + data)

    def mix_key(self, shared: bytes) -> None:
        self._chain, key = hkdf_blake2b(self._chain, shared)
        self._key, self._nonce = key[:KEY_SIZE], 0

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        data = encrypt(plaintext, self.hash, nonce_of(self._nonce), self._key)
        self._nonce += 1
        self.mix_hash(data)
        return data

    def decrypt_and_hash(self, data: bytes) -> bytes:
        if len(data) < TAG_SIZE:  # The binding would raise something else.
            raise CryptoError("shorter than it must be")
        plaintext = decrypt(data, self.hash, nonce_of(self._nonce), self._key)
        self._nonce += 1
        self.mix_hash(data)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        first, second = hkdf_blake2b(self._chain, b"")
        return first[:KEY_SIZE], second[:KEY_SIZE]


class Handshake:
    """One handshake, of one end. Not thread-safe.

    Attributes:
        remote_static: the other end's X25519 key; the responder knows it once it has read
            the first message.
        keys: what the handshake leaves; None until its second message was written or read.
    """

    __slots__ = (
        "_ephemeral",
        "_is_initiator",
        "_public",
        "_remote_ephemeral",
        "_secret",
        "_shared",
        "_state",
        "_step",
        "keys",
        "remote_static",
    )

    def __init__(  # noqa: PLR0913 (what Noise calls the parameters of a handshake)
        self,
        *,
        secret: bytes,
        public: bytes,
        ephemeral: bytes,
        prologue: bytes,
        remote_static: bytes | None,
        shared: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Begin.

        Args:
            secret: this end's X25519 secret.
            public: and its public key.
            ephemeral: a fresh X25519 secret, 32 bytes that nobody knows, used for this
                handshake alone.
            prologue: what both ends agree on without saying it; else they do not agree on
                anything.
            remote_static: of an initiator: the responder's X25519 key. None: respond.
            shared: returns what ``secret`` and another end's static key come to, ss, which is
                the same in each handshake; None: calculate it.
        """
        self._is_initiator = remote_static is not None
        self._secret = secret
        self._public = public
        self._ephemeral = ephemeral
        self._remote_ephemeral = b""
        self._step = 0
        self._shared = shared
        self.remote_static = remote_static
        self.keys: Keys | None = None
        self._state = _SymmetricState()
        self._state.mix_hash(prologue)
        self._state.mix_hash(public if remote_static is None else remote_static)

    @property
    def is_over(self) -> bool:
        """Whether both messages were written and read."""
        return self._step == len(_PATTERN)

    @property
    def _is_writing(self) -> bool:
        return (self._step == 0) == self._is_initiator

    def write(self, payload: bytes) -> bytes:
        """Return the message that is next, with a payload.

        Raises:
            CryptoError: the other end's key is of low order.
            RuntimeError: it is not this end's turn, or the message would be too large; a bug.
        """
        if self._step >= len(_PATTERN) or not self._is_writing:
            raise RuntimeError("it is not this end's turn to write")
        state = self._state
        parts = []
        for word in _PATTERN[self._step]:
            if word == "e":
                parts.append(x25519_public(self._ephemeral))
                state.mix_hash(parts[-1])
            elif word == "s":
                parts.append(state.encrypt_and_hash(self._public))
            else:
                state.mix_key(self._agree(word))
        message = b"".join([*parts, state.encrypt_and_hash(payload)])
        if len(message) > MAX_MESSAGE:
            raise RuntimeError("larger than a Noise message may be")
        self._go_on()
        return message

    def read(self, message: bytes) -> bytes:
        """Return the payload of the message that is next.

        Raises:
            CryptoError: it is not that; the handshake stands where it stood.
            RuntimeError: it is not this end's turn; a bug.
        """
        if self._step >= len(_PATTERN) or self._is_writing:
            raise RuntimeError("it is not this end's turn to read")
        if len(message) > MAX_MESSAGE:
            raise CryptoError("larger than a Noise message may be")
        before = self._state.copy(), self._remote_ephemeral, self.remote_static
        try:
            payload = self._read(message)
        except BaseException:
            self._state, self._remote_ephemeral, self.remote_static = before
            raise
        self._go_on()
        return payload

    def _read(self, message: bytes) -> bytes:
        state = self._state
        at = 0
        for word in _PATTERN[self._step]:
            if word == "e":
                self._remote_ephemeral, at = _cut(message, at, KEY_SIZE)
                state.mix_hash(self._remote_ephemeral)
            elif word == "s":
                data, at = _cut(message, at, KEY_SIZE + TAG_SIZE)
                self.remote_static = state.decrypt_and_hash(data)
            else:
                state.mix_key(self._agree(word))
        return state.decrypt_and_hash(message[at:])

    def _agree(self, word: str) -> bytes:
        """Return the shared secret of a word, which names the initiator's key first."""
        first, second = word[0], word[1]
        ours, theirs = (first, second) if self._is_initiator else (second, first)
        remote = self._remote_ephemeral if theirs == "e" else self.remote_static
        assert remote is not None
        if word == "ss" and self._shared is not None:
            return self._shared(remote)
        return x25519(self._ephemeral if ours == "e" else self._secret, remote)

    def _go_on(self) -> None:
        self._step += 1
        if self._step == len(_PATTERN):
            first, second = self._state.split()
            ours, theirs = (first, second) if self._is_initiator else (second, first)
            self.keys = Keys(ours, theirs, self._state.hash)

    def __repr__(self) -> str:
        """Return the role and the step, and no key."""
        role = "initiator" if self._is_initiator else "responder"
        return f"<Handshake, {role}, {self._step} of {len(_PATTERN)} messages>"


def nonce_of(counter: int) -> bytes:
    """Return ChaChaPoly's nonce of a counter (section 12.3): 4 zero bytes, 8 little-endian."""
    return bytes(4) + counter.to_bytes(8, "little")


def _cut(message: bytes, at: int, size: int) -> tuple[bytes, int]:
    """Return so many bytes of a message, and where they end."""
    part = message[at : at + size]
    if len(part) < size:
        raise CryptoError("shorter than it must be")
    return part, at + size
