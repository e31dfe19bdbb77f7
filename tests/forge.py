"""Envelopes that nobody honest would make, by hand from SPEC 4 and 5.

Rules of this file:

- A forgery says who signs, whom it claims to be, and every field of the header;
  any of them may be a lie. Nothing is checked here: the opener is to do that.
- What an attacker may not have (a seed) is an argument, so each story shows by its
  call what the attacker stole.
- The formulas are written from the specification, not called from ``keyblock``:
  an attacker has other code than we do.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import nacl.bindings as sodium
from support import START

from envelope import Identity, PublicIdentity, wire
from envelope.binding import body_digest, context_digest
from envelope.primitives import SIGN_LABEL, H, aead_decrypt, aead_encrypt, sign, x25519

STREAM = b"a forged stream!"
CONTENT_KEY = bytes(range(32))
SECRET = bytes(range(100, 132))
"""The ephemeral X25519 secret of forged key blocks."""
ORDER = 2**252 + 27742317777372353535851937790883648493
"""The order of Ed25519's group."""


@dataclass(frozen=True)
class Forgery:
    """An envelope as its maker likes to have it. ``encode`` signs it."""

    signer: Identity
    claims: PublicIdentity | None = None
    """Whose key id stands in the header and whose PUB in BIND; the signer's by default."""
    context: str = "orders"
    bound: tuple[bytes, ...] = ()
    version: int = wire.VERSION
    kind: int = wire.SIGNED
    flags: int = 0
    recipients: int = 0
    stream: bytes = STREAM
    sequence: int = 0
    sent_at: int = START
    nonce: bytes = bytes(24)
    in_reply_to: bytes = b""
    key_block: bytes = b""
    body: bytes = b""

    @classmethod
    def of(cls, data: bytes, signer: Identity, claims: PublicIdentity, **changes: object) -> Self:
        """Return what it takes to make this envelope again, with changes."""
        header = wire.decode(data)
        fields: dict[str, object] = {
            "kind": header.kind,
            "flags": header.flags,
            "recipients": header.recipients,
            "stream": header.stream,
            "sequence": header.sequence,
            "sent_at": header.sent_at,
            "nonce": data[wire.NONCE_AT : wire.FIXED_SIZE],
            "in_reply_to": header.in_reply_to or b"",
            "key_block": data[header.key_block : header.body],
            "body": data[header.body : -wire.SIGNATURE_SIZE],
        }
        return cls(signer, claims, **fields | changes)  # type: ignore[arg-type]  # its own fields

    @property
    def sender(self) -> PublicIdentity:
        """Whom it claims to be from."""
        return self.claims or self.signer.public

    def head(self) -> bytes:
        """Return HEAD (SPEC 4.1); numbers of any size that the struct can hold."""
        start = struct.pack(">3sBBBH", b"ENV", self.version, self.kind, self.flags, self.recipients)
        times = struct.pack(">QQ", self.sequence, self.sent_at)
        before = start + self.sender.key_id + self.stream + times
        return before + self.nonce + self.in_reply_to + self.key_block

    def bind(self) -> bytes:
        """Return BIND (SPEC 5.2)."""
        ctx = context_digest(self.context.encode(), self.bound)
        return H(64, b"env1-bind", self.sender.public, ctx, self.head())

    def encrypted(self, payload: bytes, content_key: bytes = CONTENT_KEY) -> Self:
        """Return it with a body that this content key opens (SPEC 5.6)."""
        key = aead_key(content_key)
        return replace(self, body=aead_encrypt(payload, self.bind(), self.nonce, key))

    def statement(self) -> bytes:
        """Return what Ed25519 signs (SPEC 5.4)."""
        return SIGN_LABEL + self.bind() + body_digest(self.body)

    def encode(self) -> bytes:
        """Return the envelope, signed by whoever makes it."""
        signature = sign(self.statement(), self.signer._sign_secret)[:64]
        return self.head() + self.body + signature


def aead_key(content_key: bytes) -> bytes:
    """Return the key that encrypts bodies (SPEC 5.6)."""
    return H(32, b"env1-aead", key=content_key)


def key_block(
    sender: PublicIdentity,
    wrapped: Mapping[PublicIdentity, bytes],
    *,
    stream: bytes = STREAM,
    committed: bytes = CONTENT_KEY,
    ephemeral: bytes | None = None,
    agree: Callable[[PublicIdentity], bytes] = lambda to: x25519(SECRET, to.public[32:]),
) -> bytes:
    """Return a key block that wraps any content key for anybody (SPEC 5.6, 5.7).

    Args:
        sender: whose PUB enters the derivations.
        wrapped: the content key that each recipient shall get.
        stream: that enters the derivations.
        committed: the content key that COM is made of.
        ephemeral: the ephemeral public key; that of ``SECRET`` by default.
        agree: returns the X25519 result with a recipient.
    """
    if ephemeral is None:
        ephemeral = sodium.crypto_scalarmult_base(SECRET)
    com = H(32, b"env1-commit", ephemeral, sender.public, stream, key=committed)
    parts = [ephemeral, com]
    for to in sorted(wrapped, key=lambda to: to.key_id):
        ingredients = (ephemeral, to.public, sender.public, stream, com)
        kek = H(32, b"env1-kek", *ingredients, key=agree(to))
        parts += to.key_id, aead_encrypt(wrapped[to], b"", bytes(24), kek)
    return b"".join(parts)


def content_key(data: bytes, sender: PublicIdentity, reader: Identity) -> bytes:
    """Return the content key of an envelope, as whoever has a recipient's seed learns it."""
    header = wire.decode(data)
    block = data[header.key_block : header.body]
    ephemeral, com = block[:32], block[32:64]
    at = wire.find_entry(block, 64, len(block), 64, reader.key_id)
    kek = H(
        32,
        b"env1-kek",
        ephemeral,
        reader.public.public,
        sender.public,
        header.stream,
        com,
        key=x25519(reader._x_secret, ephemeral),
    )
    return aead_decrypt(block[at + 16 : at + 64], b"", bytes(24), kek)


# --- Signatures that only a lax verifier takes ------------------------------------------


def plus_order(data: bytes) -> bytes:
    """Return the envelope with S + L for S: the same signature, in other bytes."""
    s = int.from_bytes(data[-32:], "little") + ORDER
    return data[:-32] + s.to_bytes(32, "little")


def sign_with_torsion(forgery: Forgery, torsion: bytes) -> bytes:
    """Return the envelope, signed with R plus a point of small order.

    A verifier that multiplies by the cofactor takes it, others do not: two
    receivers would disagree about one envelope.
    """
    digest = hashlib.sha512(forgery.signer._sign_secret[:32]).digest()
    secret = (int.from_bytes(digest[:32], "little") & ((1 << 254) - 8)) | (1 << 254)
    r = sodium.crypto_core_ed25519_scalar_reduce(hashlib.sha512(forgery.statement()).digest())
    point = sodium.crypto_scalarmult_ed25519_base_noclamp(r)
    point = sodium.crypto_core_ed25519_add(point, torsion)
    hashed = point + forgery.sender.public[:32] + forgery.statement()
    challenge = int.from_bytes(hashlib.sha512(hashed).digest(), "little")
    s = (int.from_bytes(r, "little") + challenge * secret) % ORDER
    return forgery.head() + forgery.body + point + s.to_bytes(32, "little")


# --- One ciphertext, two keys -----------------------------------------------------------

_P = 2**130 - 5
_CONSTANTS = struct.unpack("<4L", b"expand 32-byte k")


def two_plaintexts(
    keys: tuple[bytes, bytes], payloads: tuple[bytes, bytes], *, nonce: bytes, aad: bytes
) -> bytes:
    """Return one ciphertext and tag that XChaCha20-Poly1305 opens under either key.

    Poly1305 is a polynomial in a key that the maker of the message knows; with two
    keys known, one block of ciphertext is solved for so that both give one tag.
    Under the first key the first 16 bytes are the first payload; under the second
    the next 16 bytes are the second. The rest is noise.

    Args:
        keys: two AEAD keys.
        payloads: two of 16 bytes.
        nonce: 24 bytes.
        aad: a whole number of 16-byte blocks.
    """
    streams = [aead_encrypt(bytes(32), b"", nonce, key)[:32] for key in keys]
    macs = [_poly1305_key(key, nonce) for key in keys]
    fixed = _xor(streams[0][:16], payloads[0]) + _xor(streams[1][16:], payloads[1])
    length = struct.pack("<QQ", len(aad), 64)
    (r1, s1), (r2, s2) = macs
    for filler in range(1 << 16):
        known = fixed + filler.to_bytes(16, "little")
        # The polynomial of everything, with the solved block still zero.
        sums = [_poly1305(r, aad + known + bytes(16) + length) for r in (r1, r2)]
        for carry in range(-4, 5):
            wanted = sums[1] + s2 - sums[0] - s1 + carry * 2**128
            solved = wanted * pow(r1 * r1 - r2 * r2, -1, _P) % _P
            if solved < 2**128:
                body = known + solved.to_bytes(16, "little")
                tags = [(_poly1305(r, aad + body + length) + s) % 2**128 for r, s in macs]
                if tags[0] == tags[1]:
                    return body + tags[0].to_bytes(16, "little")
    raise AssertionError("no filler made it come out")


def _poly1305(r: int, data: bytes) -> int:
    """Return the polynomial of whole blocks, before s is added."""
    total = 0
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at : at + 16] + b"\1", "little")) * r % _P
    return total


def _poly1305_key(key: bytes, nonce: bytes) -> tuple[int, int]:
    """Return r and s: the first half block of ChaCha20 under the key HChaCha20 makes."""
    words = _rounds([*_CONSTANTS, *struct.unpack("<12L", key + nonce[:16])])
    start = [*_CONSTANTS, *words[:4], *words[12:], 0, 0, *struct.unpack("<2L", nonce[16:])]
    block = [(a + b) % 2**32 for a, b in zip(start, _rounds(list(start)), strict=True)]
    r, s = struct.unpack("<16s16s", struct.pack("<8L", *block[:8]))
    clamp = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    return int.from_bytes(r, "little") & clamp, int.from_bytes(s, "little")


def _rounds(x: list[int]) -> list[int]:
    """Return the words after ChaCha's twenty rounds, nothing added."""
    columns = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
    diagonals = [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
    for a, b, c, d in (columns + diagonals) * 10:
        for i, j, k, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[i] = (x[i] + x[j]) % 2**32
            x[k] ^= x[i]
            x[k] = (x[k] << turn | x[k] >> (32 - turn)) % 2**32
    return x


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
