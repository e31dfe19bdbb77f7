"""A second implementation of docs/SPEC.md, written from that document alone.

Rules of this file and of reference_opener.py. They import nothing of the package,
only hashlib and the bare functions of libsodium, so that the two can be held
against each other. They are as plain as they can be: no caches, no state kept
between two calls but the guard's, a set where the package has a ring of bits.
Time, randomness, process ids and streams are arguments, so one input gives one
output. Secrets lie in the open and nothing is constant-time: this is for tests
and for reading, never for use.

Numbers in comments are sections of SPEC.md. This file has identities, peers,
derived values, generating, bundles and text forms (2, 3, 5, 6, 9, 13); the other
one has decoding, opening and the replay guard (4, 7, 8).
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from nacl import bindings as sodium

SIGNED, SEALED = 1, 2
BUNDLE, REPLY = 1, 2

# --- 1 and 2: numbers and hash -----------------------------------------------------------


def u16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def H(n: int, label: str, *data: bytes, key: bytes = b"") -> bytes:  # noqa: N802 (its name in 2.2)
    padded = label.encode("ascii").ljust(128, b"\0")
    return hashlib.blake2b(padded + b"".join(data), digest_size=64, key=key).digest()[:n]


# --- 3: identities and peers ---------------------------------------------------------------


class Identity:
    """3.1 to 3.3: everything that follows from one seed."""

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self.ed_seed = H(32, "env1-ed25519", key=seed)
        self.x_secret = H(32, "env1-x25519", key=seed)
        self.hedge = H(32, "env1-hedge", key=seed)
        ed_public, self.ed_secret = sodium.crypto_sign_seed_keypair(self.ed_seed)
        self.pub = ed_public + sodium.crypto_scalarmult_base(self.x_secret)
        self.key_id = key_id(self.pub)


def key_id(pub: bytes) -> bytes:
    return H(16, "env1-keyid", pub)


def is_sound_x25519(key: bytes) -> bool:
    """3.4, second half."""
    if int.from_bytes(key, "little") >= 2**255 - 19:
        return False
    try:
        sodium.crypto_scalarmult(bytes(32), key)  # a clamped zero is 2^254
    except RuntimeError:  # libsodium's answer to 32 zero bytes
        return False
    return True


def is_sound_pub(pub: bytes) -> bool:
    """3.4."""
    return (
        len(pub) == 64
        and sodium.crypto_core_ed25519_is_valid_point(pub[:32])
        and is_sound_x25519(pub[32:])
    )


@dataclass
class Peer:
    """3.5, for one PUB; a rotation is two of these with one name."""

    name: str
    pub: bytes
    contexts: list[str]
    topics: list[bytes] | None = None
    not_before: int | None = None
    not_after: int | None = None
    revoked: bool = False

    def may_use(self, context: str, bound: Sequence[bytes]) -> bool:
        if not any(matches(pattern, context) for pattern in self.contexts):
            return False
        if self.topics is None:
            return True
        return len(bound) > 0 and any(bound[0].startswith(topic) for topic in self.topics)

    def is_in_force(self, now: int) -> bool:
        return (
            not self.revoked
            and (self.not_before is None or self.not_before <= now)
            and (self.not_after is None or now < self.not_after)
        )


def matches(pattern: str, context: str) -> bool:
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return context.startswith(pattern[:-1]) and len(context) > len(pattern) - 1
    return context == pattern


# --- 5: derived values ---------------------------------------------------------------------


def context_hash(context: str, bound: Sequence[bytes]) -> bytes:
    """5.1, CTX."""
    name = context.encode("utf-8")
    data = u64(len(name)) + name + u32(len(bound))
    for frame in bound:
        data += u64(len(frame)) + frame
    return H(64, "env1-context", data)


def bind_hash(sender_pub: bytes, ctx: bytes, head: bytes) -> bytes:
    """5.2, BIND."""
    return H(64, "env1-bind", sender_pub, ctx, head)


def body_hash(body: bytes) -> bytes:
    """5.3, BODY."""
    return H(64, "env1-body", body)


def signature_input(bind: bytes, body: bytes) -> bytes:
    """5.4: the 144 bytes that are signed."""
    return b"envelope/v1/sign" + bind + body_hash(body)


def message_id(head: bytes, body: bytes, index: int) -> bytes:
    """5.5."""
    return H(32, "env1-id", head, body_hash(body), u32(index))


def commitment(ck: bytes, ephemeral: bytes, sender_pub: bytes, stream: bytes) -> bytes:
    """5.6, COM."""
    return H(32, "env1-commit", ephemeral, sender_pub, stream, key=ck)


def aead_key(ck: bytes) -> bytes:
    """5.6."""
    return H(32, "env1-aead", key=ck)


def key_encryption_key(
    shared: bytes, ephemeral: bytes, own_pub: bytes, sender_pub: bytes, stream: bytes, com: bytes
) -> bytes:
    """5.7, KEK."""
    return H(32, "env1-kek", ephemeral, own_pub, sender_pub, stream, com, key=shared)


def encrypt(key: bytes, nonce: bytes, aad: bytes, plain: bytes) -> bytes:
    return sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, aad, nonce, key)


def decrypt(key: bytes, nonce: bytes, aad: bytes, closed: bytes) -> bytes:
    return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(closed, aad, nonce, key)


# --- 6: generating -------------------------------------------------------------------------


def new_stream(sender: Identity, start: int, random32: bytes, process: int, ns: int) -> bytes:
    """6.2."""
    half = H(8, "env1-stream", random32, u64(process), u64(ns), key=sender.hedge)
    return u64(start) + half


@dataclass
class Epoch:
    """6.3."""

    e: bytes
    ck: bytes

    @property
    def ephemeral(self) -> bytes:
        return sodium.crypto_scalarmult_base(self.e)


def new_epoch(sender: Identity, stream: bytes, random64: bytes, now: int) -> Epoch:
    both = H(64, "env1-epoch", random64, stream, u64(now), key=sender.hedge)
    return Epoch(both[:32], both[32:])


def sealed_nonce(
    sender: Identity,
    random32: bytes,
    stream: bytes,
    sequence: int,
    sent_at: int,
    ctx: bytes,
    payload: bytes,
) -> bytes:
    """6.4."""
    data = random32 + stream + u64(sequence) + u64(sent_at) + ctx + payload[:1024]
    return H(24, "env1-nonce", data, key=sender.hedge)


def signed_key_block(recipients: Sequence[bytes]) -> bytes:
    """4.2, kind 1; recipients are PUBs."""
    return b"".join(sorted(key_id(pub) for pub in recipients))


def sealed_key_block(
    sender_pub: bytes, stream: bytes, epoch: Epoch, recipients: Sequence[bytes]
) -> bytes:
    """4.2, kind 2; recipients are PUBs."""
    com = commitment(epoch.ck, epoch.ephemeral, sender_pub, stream)
    entries = []
    for pub in recipients:
        shared = sodium.crypto_scalarmult(epoch.e, pub[32:])
        kek = key_encryption_key(shared, epoch.ephemeral, pub, sender_pub, stream, com)
        entries.append(key_id(pub) + encrypt(kek, bytes(24), b"", epoch.ck))
    return epoch.ephemeral + com + b"".join(sorted(entries))


def encode_head(
    *,
    kind: int,
    flags: int,
    recipients: int,
    sender: bytes,
    stream: bytes,
    sequence: int,
    sent_at: int,
    nonce: bytes,
    in_reply_to: bytes = b"",
    key_block: bytes = b"",
    magic: bytes = b"ENV",
    version: int = 1,
) -> bytes:
    """4.1, HEAD. It checks nothing, so that tests can write what they must refuse."""
    return (
        magic
        + bytes([version, kind, flags])
        + u16(recipients)
        + sender
        + stream
        + u64(sequence)
        + u64(sent_at)
        + nonce
        + in_reply_to
        + key_block
    )


def sign_envelope(sender: Identity, ctx: bytes, head: bytes, body: bytes) -> bytes:
    """6.5, step 6."""
    signed = signature_input(bind_hash(sender.pub, ctx, head), body)
    return head + body + sodium.crypto_sign(signed, sender.ed_secret)[:64]


def generate(
    sender: Identity,
    context: str,
    payload: bytes,
    *,
    stream: bytes,
    sequence: int,
    sent_at: int,
    random: bytes,
    bound: Sequence[bytes] = (),
    recipients: Sequence[bytes] = (),
    epoch: Epoch | None = None,
    bundle: bool = False,
    in_reply_to: bytes = b"",
) -> bytes:
    """6.5, from step 3 on: sealed if there is an epoch, signed if not.

    `random` is what 6.4 takes fresh: 24 bytes for signed, 32 for sealed. The
    payload of a bundle is what `pack_bundle` made.
    """
    ctx = context_hash(context, bound)
    if epoch is None:
        kind, nonce, key_block = SIGNED, random, signed_key_block(recipients)
    else:
        kind = SEALED
        nonce = sealed_nonce(sender, random, stream, sequence, sent_at, ctx, payload)
        key_block = sealed_key_block(sender.pub, stream, epoch, recipients)
    head = encode_head(
        kind=kind,
        flags=(BUNDLE if bundle else 0) | (REPLY if in_reply_to else 0),
        recipients=len(recipients),
        sender=sender.key_id,
        stream=stream,
        sequence=sequence,
        sent_at=sent_at,
        nonce=nonce,
        in_reply_to=in_reply_to,
        key_block=key_block,
    )
    body = payload
    if epoch is not None:
        body = encrypt(aead_key(epoch.ck), nonce, bind_hash(sender.pub, ctx, head), payload)
    return sign_envelope(sender, ctx, head, body)


# --- 9: bundles ----------------------------------------------------------------------------


def pack_bundle(payloads: Sequence[bytes]) -> bytes:
    """9.1."""
    count = len(payloads)
    packed = bytes([0x90 | count]) if count < 16 else b"\xdc" + u16(count)
    for payload in payloads:
        size = len(payload)
        if size < 2**8:
            packed += b"\xc4" + bytes([size]) + payload
        elif size < 2**16:
            packed += b"\xc5" + u16(size) + payload
        else:
            packed += b"\xc6" + u32(size) + payload
    return packed


def unpack_bundle(packed: bytes) -> list[bytes]:
    """9.2."""
    first = packed[:1]
    if first and 0x90 <= first[0] <= 0x9F:
        count, at = first[0] & 0x0F, 1
    elif first == b"\xdc":
        count, at = number(packed[1:3]), 3
    else:
        raise ValueError(packed)
    if not 1 <= count <= 4096:
        raise ValueError(packed)
    widths = {b"\xc4": 1, b"\xc5": 2, b"\xc6": 4}
    payloads = []
    for _ in range(count):
        width = widths.get(packed[at : at + 1])
        if width is None:
            raise ValueError(packed)
        start = at + 1 + width
        at = start + number(packed[at + 1 : start])
        payloads.append(packed[start:at])
    # This one comparison finds longer forms than needed, missing and trailing bytes.
    if pack_bundle(payloads) != packed:
        raise ValueError(packed)
    return payloads


# --- 13: text forms ------------------------------------------------------------------------


def base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").lower()


def public_text(pub: bytes) -> str:
    """13.1."""
    return "envpub1" + base32(pub + H(6, "env1-text", b"envpub1", pub))


def secret_text(seed: bytes) -> str:
    """13.1."""
    return "envsec1" + base32(seed + H(8, "env1-text", b"envsec1", seed))


def locked_text(
    seed: bytes, passphrase: str, *, salt: bytes, nonce: bytes, passes: int, memory_kib: int
) -> str:
    """13.2."""
    settings = salt + u32(passes) + u32(memory_kib)
    key = sodium.crypto_pwhash_alg(
        32,
        unicodedata.normalize("NFC", passphrase).encode("utf-8"),
        salt,
        passes,
        memory_kib * 1024,
        sodium.crypto_pwhash_ALG_ARGON2ID13,
    )
    data = settings + nonce + encrypt(key, nonce, b"envkey1" + settings, seed)
    return "envkey1" + base32(data + H(9, "env1-text", b"envkey1", data))
