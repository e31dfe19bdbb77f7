"""The second implementation, continued: decoding, opening, the guard (SPEC 4, 7, 8).

The rules of this file are those of reference.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nacl import bindings as sodium
from nacl.exceptions import CryptoError
from vectors.reference import (
    BUNDLE,
    REPLY,
    SEALED,
    SIGNED,
    Identity,
    Peer,
    aead_key,
    bind_hash,
    commitment,
    context_hash,
    decrypt,
    is_sound_x25519,
    key_encryption_key,
    key_id,
    message_id,
    number,
    signature_input,
    unpack_bundle,
)

# --- 4: decoding ----------------------------------------------------------------------


class Refused(Exception):  # noqa: N818 (it is the spec's word)
    """An opening that ended in a code of section 12."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Envelope:
    """4.1: the fields, and the two byte strings that are hashed."""

    kind: int
    flags: int
    recipients: int
    sender: bytes
    stream: bytes
    sequence: int
    sent_at: int
    nonce: bytes
    in_reply_to: bytes
    key_block: bytes
    head: bytes
    body: bytes
    signature: bytes

    @property
    def entries(self) -> list[bytes]:
        """4.2: the part of the key block that has one piece for each recipient."""
        start, size = (0, 16) if self.kind == SIGNED else (64, 64)
        block = self.key_block
        return [block[at : at + size] for at in range(start, len(block), size)]


def decode(data: bytes) -> Envelope:
    """4.3 and 4.4."""
    if len(data) < 144 or data[0:3] != b"ENV":
        raise Refused("malformed")
    if data[3] != 1:
        raise Refused("version")
    kind, flags, recipients = data[4], data[5], number(data[6:8])
    if kind not in {SIGNED, SEALED} or flags > BUNDLE + REPLY:
        raise Refused("malformed")
    if recipients > 256 or (kind == SEALED and recipients == 0):
        raise Refused("malformed")
    sequence, sent_at = number(data[40:48]), number(data[48:56])
    if sequence >= 2**48 or sent_at >= 2**53:
        raise Refused("malformed")
    h = 112 if flags & REPLY else 80
    k = 16 * recipients if kind == SIGNED else 64 + 64 * recipients
    tag = 0 if kind == SIGNED else 16
    if len(data) < h + k + tag + 64:
        raise Refused("malformed")
    envelope = Envelope(
        kind=kind,
        flags=flags,
        recipients=recipients,
        sender=data[8:24],
        stream=data[24:40],
        sequence=sequence,
        sent_at=sent_at,
        nonce=data[56:80],
        in_reply_to=data[80:h],
        key_block=data[h : h + k],
        head=data[: h + k],
        body=data[h + k : -64],
        signature=data[-64:],
    )
    key_ids = [entry[:16] for entry in envelope.entries]
    if key_ids != sorted(set(key_ids)):
        raise Refused("malformed")
    return envelope


@dataclass
class Policy:
    """11.2; times in microseconds."""

    require: str = "signed"
    addressed: bool = False
    accept_own: bool = False
    max_age: int = 30_000_000
    max_future: int = 2_000_000
    max_size: int = 16 * 1024 * 1024
    window: int = 4096
    max_streams: int = 64


@dataclass
class Message:
    """What an opening delivers."""

    payload: bytes
    sender: str
    id: bytes
    skipped: int
    stream: bytes
    sequence: int
    sent_at: int
    sealed: bool
    in_reply_to: bytes | None


@dataclass
class Receiver:
    """7.1, with a guard of its own."""

    trust: list[Peer]
    context: str
    identities: list[Identity] = field(default_factory=list)
    policy: Policy = field(default_factory=Policy)
    cold: int | None = None
    own_streams: set[bytes] = field(default_factory=set)
    """Streams that live generators of this process began, after the store."""

    def __post_init__(self) -> None:
        self.guard = Guard(self.policy.window, self.policy.max_streams, self.cold)
        self.now = 0

    def open(
        self,
        data: bytes,
        *,
        clock: int,
        bound: Sequence[bytes] = (),
        in_reply_to: bytes | None = None,
        bundle: bool = False,
    ) -> list[Message]:
        """7.2, step by step.

        Raises:
            Refused: at the first step that fails.
        """
        self.check_size(data, bound)  # 1
        envelope = decode(data)  # 2
        self.check_policy(envelope, in_reply_to, bundle=bundle)  # 3
        self.now = max(self.now, clock)  # 4: what is refused before reads no clock
        peer = self.check_trust(envelope, bound)
        identity = self.check_addressed(envelope)  # 5
        self.check_freshness(envelope)  # 6
        exempt = in_reply_to is not None or envelope.stream in self.own_streams  # 8.7
        self.guard.check(envelope, self.context, exempt=exempt)  # 7
        bind = bind_hash(peer.pub, context_hash(self.context, bound), envelope.head)
        self.check_signature(envelope, peer, bind)  # 8
        payload = envelope.body
        if envelope.kind == SEALED:
            assert identity is not None
            payload = self.unseal(envelope, peer, identity, bind)  # 9
        payloads = [payload]
        if envelope.flags & BUNDLE:
            payloads = self.unpack(payload)  # 10
        skipped = self.guard.mark(envelope, self.context, exempt=exempt)  # 11
        return [
            Message(
                payload=one,
                sender=peer.name,
                id=message_id(envelope.head, envelope.body, index),
                skipped=skipped if index == 0 else 0,
                stream=envelope.stream,
                sequence=envelope.sequence,
                sent_at=envelope.sent_at,
                sealed=envelope.kind == SEALED,
                in_reply_to=in_reply_to,
            )
            for index, one in enumerate(payloads)
        ]

    @staticmethod
    def unpack(payload: bytes) -> list[bytes]:
        try:
            return unpack_bundle(payload)
        except ValueError:
            raise Refused("malformed") from None

    def check_size(self, data: bytes, bound: Sequence[bytes]) -> None:
        size = len(data) + sum(len(frame) for frame in bound)
        if size > self.policy.max_size or len(bound) > 64:
            raise Refused("too_large")

    def check_policy(self, envelope: Envelope, in_reply_to: bytes | None, *, bundle: bool) -> None:
        if self.policy.require == "sealed" and envelope.kind != SEALED:
            raise Refused("policy")
        if self.policy.addressed and envelope.recipients == 0:
            raise Refused("policy")
        if envelope.flags & BUNDLE and not bundle:
            raise Refused("policy")
        if bool(envelope.flags & REPLY) != (in_reply_to is not None):
            raise Refused("policy")
        if in_reply_to is not None and envelope.in_reply_to != in_reply_to:
            raise Refused("policy")

    def check_trust(self, envelope: Envelope, bound: Sequence[bytes]) -> Peer:
        found = [peer for peer in self.trust if key_id(peer.pub) == envelope.sender]
        if not found:
            raise Refused("unknown_sender")
        peer = found[0]
        if envelope.sender in [identity.key_id for identity in self.identities] and (
            not self.policy.accept_own or envelope.stream in self.own_streams
        ):
            raise Refused("reflected")
        if not peer.is_in_force(self.now) or not peer.may_use(self.context, bound):
            raise Refused("not_trusted")
        return peer

    def check_addressed(self, envelope: Envelope) -> Identity | None:
        """7.5: the first own identity that is addressed, if anybody is."""
        if envelope.recipients == 0:
            return None
        addressed = [entry[:16] for entry in envelope.entries]
        for identity in self.identities:
            if identity.key_id in addressed:
                return identity
        raise Refused("not_addressed")

    def check_freshness(self, envelope: Envelope) -> None:
        if envelope.sent_at < self.now - self.policy.max_age:
            raise Refused("stale")
        if envelope.sent_at > self.now + self.policy.max_future:
            raise Refused("future")

    def check_signature(self, envelope: Envelope, peer: Peer, bind: bytes) -> None:
        signed = envelope.signature + signature_input(bind, envelope.body)
        try:
            sodium.crypto_sign_open(signed, peer.pub[:32])
        except CryptoError:
            raise Refused("bad_signature") from None

    def unseal(self, envelope: Envelope, peer: Peer, own: Identity, bind: bytes) -> bytes:
        ephemeral, com = envelope.key_block[:32], envelope.key_block[32:64]
        if not is_sound_x25519(ephemeral):
            raise Refused("unseal")
        wrap = next(entry[16:] for entry in envelope.entries if entry[:16] == own.key_id)
        shared = sodium.crypto_scalarmult(own.x_secret, ephemeral)
        kek = key_encryption_key(shared, ephemeral, own.pub, peer.pub, envelope.stream, com)
        try:
            ck = decrypt(kek, bytes(24), b"", wrap)
            # A careful implementation compares in constant time; this one is not careful.
            if commitment(ck, ephemeral, peer.pub, envelope.stream) != com:
                raise Refused("unseal")
            return decrypt(aead_key(ck), envelope.nonce, bind, envelope.body)
        except CryptoError:
            raise Refused("unseal") from None


# --- 8: the guard --------------------------------------------------------------------------


@dataclass
class Entry:
    """8.3: what is known of one stream. The set may hold what has left the window."""

    floor: int
    top: int = -1
    accepted: set[int] = field(default_factory=set)
    newest: int = -1


class Guard:
    """8.3 to 8.6 in the obvious way. One domain; entries never expire."""

    def __init__(self, window: int, max_streams: int, cold: int | None) -> None:
        self.window = window
        self.max_streams = max_streams
        self.cold = cold
        self.floors: dict[tuple[bytes, str], int] = {}
        self.tables: dict[tuple[bytes, str], dict[bytes, Entry]] = {}

    def check(self, envelope: Envelope, context: str, *, exempt: bool) -> None:
        """8.4."""
        where = envelope.sender, context
        floor, table = self.floors.get(where, -1), self.tables.get(where, {})
        sent_at, sequence = envelope.sent_at, envelope.sequence
        if self.cold is not None and sent_at <= self.cold and not exempt:
            raise Refused("before_start")
        entry = table.get(envelope.stream)
        if entry is not None:
            if sent_at <= entry.floor or sequence + self.window <= entry.top:
                raise Refused("too_old")
            if sequence in entry.accepted:
                raise Refused("replayed")
            return
        if sent_at <= floor:
            raise Refused("too_old")
        if len(table) >= self.max_streams and sent_at <= min(e.newest for e in table.values()):
            raise Refused("too_old")

    def mark(self, envelope: Envelope, context: str, *, exempt: bool) -> int:
        """8.5; returns `skipped` of 8.9."""
        self.check(envelope, context, exempt=exempt)
        where = envelope.sender, context
        table = self.tables.setdefault(where, {})
        if envelope.stream not in table:
            if len(table) >= self.max_streams:
                oldest = min(table, key=lambda stream: table[stream].newest)
                self.floors[where] = max(self.floors.get(where, -1), table[oldest].newest)
                del table[oldest]
            table[envelope.stream] = Entry(floor=self.floors.get(where, -1))
        entry = table[envelope.stream]
        skipped = max(0, envelope.sequence - entry.top - 1)
        entry.accepted.add(envelope.sequence)
        entry.top = max(entry.top, envelope.sequence)
        entry.newest = max(entry.newest, envelope.sent_at)
        return skipped
