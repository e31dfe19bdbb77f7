"""Envelopes taken apart, changed in one place, and signed again by the sender they name.

Rules of this file: the reference in ``tests/vectors`` makes and takes apart, so nothing here
is of the package under test. What comes out may be anything; most of it is behind the
signature, and half of what is sealed is encrypted again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from random import Random
from typing import Any, Final

from vectors import reference
from vectors.reference import BUNDLE, REPLY, SEALED, SIGNED
from vectors.reference_opener import Envelope, Receiver, Refused, decode
from vectors.world import (
    ALICE,
    BOB,
    CAROL,
    LOW_U,
    MALLORY,
    NOW,
    SECOND,
    craft,
    epoch,
    identity,
    little,
    sealed,
    stream,
)

from fuzz.harness import Change
from fuzz.mutations import number
from fuzz.packed import change_bundle

CONTEXT: Final = "orders"
REQUEST: Final = bytes(range(32))
"""The message id that replies name."""
BOUNDS: Final[tuple[list[bytes], ...]] = ([], [b"topic"], [b"a"] * 64, [b"a"] * 65)
PEERS: Final = (ALICE, BOB, CAROL)
CROWD: Final = tuple(identity(f"crowd-{at}") for at in range(3))

BUNDLE_OF_TWO: Final = reference.pack_bundle([b"one", bytes(300)])
VALID: Final = (
    craft(),
    craft(b""),
    craft(to=[BOB, CAROL]),
    craft(BUNDLE_OF_TWO, bundle=True),
    craft(in_reply_to=REQUEST),
    craft(by=CAROL, bound=BOUNDS[1]),
    sealed(),
    sealed(b""),
    sealed(to=[BOB, *CROWD]),
    sealed(BUNDLE_OF_TWO, bundle=True),
    sealed(in_reply_to=REQUEST, sequence=70),
    sealed(keys=epoch("second"), stream=stream("second"), by=CAROL),
    sealed(by=CAROL, bound=BOUNDS[1]),
)
"""Envelopes that Bob opens, with what is to be handed in beside them."""

_SENDERS: Final = {one.key_id: one for one in (*PEERS, MALLORY)}
_RECIPIENTS: Final = (BOB, CAROL, *CROWD)
_TIMES: Final = (NOW, NOW - 30 * SECOND, NOW + 2 * SECOND)
_context: Final = cache(lambda at: reference.context_hash(CONTEXT, BOUNDS[at]))


def _readers() -> list[Receiver]:
    peers = [reference.Peer("", one.pub, ["*"]) for one in _SENDERS.values()]
    return [Receiver(peers, CONTEXT, [own]) for own in (BOB, CAROL)]


_READERS: Final = _readers()


@lru_cache(256)
def _plaintext(head: bytes, body: bytes, bound: int) -> bytes | None:
    """Return what an envelope has sealed, if Bob or Carol can read it."""
    parts = decode(head + body + bytes(64))
    sender = _SENDERS.get(parts.sender)
    if sender is None:
        return None
    bind = reference.bind_hash(sender.pub, _context(bound), head)
    for reader in _READERS:
        own = reader.identities[0]
        if own.key_id in [entry[:16] for entry in parts.entries]:
            try:
                return reader.unseal(parts, reference.Peer("", sender.pub, []), own, bind)
            except (Refused, RuntimeError):
                return None
    return None


def change_envelope(
    data: bytes, max_size: int, random: Random, change: Change, *, bound: int = 0
) -> bytes:
    """Return an envelope with one thing changed, as ``Mutate`` has it.

    Args:
        data: the envelope.
        max_size: of its body, after the change.
        random: for all choices.
        change: for bytes.
        bound: which of ``BOUNDS`` it is signed for.
    """
    if random.randrange(8) == 0:
        return change(data, max_size)
    try:
        parts = decode(data)
    except Refused:
        return random.choice(VALID) if random.randrange(2) else change(data, max_size)
    fields = _fields(parts)
    sender = _SENDERS.get(parts.sender, ALICE)
    plain = _plaintext(parts.head, parts.body, bound) if parts.kind == SEALED else None
    body, is_plain = (parts.body, False) if plain is None else (plain, True)
    if random.randrange(2):
        body = _change_body(body, parts.flags, max_size, random, change)
    else:
        _change_field(fields, random, change)
        sender = _SENDERS.get(fields["sender"], sender)
    if is_plain and random.randrange(2):
        return _seal_again(fields, sender, body, bound, random)
    if is_plain and body is plain:
        body = parts.body
    head = reference.encode_head(**fields)
    if random.randrange(10) == 0:
        return head + body + change(parts.signature, 64)
    return reference.sign_envelope(sender, _context(bound), head, body)


def _fields(parts: Envelope) -> dict[str, Any]:
    names = ("kind", "flags", "recipients", "sender", "stream", "sequence", "sent_at", "nonce")
    fields = {name: getattr(parts, name) for name in (*names, "in_reply_to", "key_block")}
    return {"magic": b"ENV", "version": 1} | fields


def _seal_again(
    fields: dict[str, Any], sender: reference.Identity, plain: bytes, bound: int, random: Random
) -> bytes:
    """Encrypt, to some of those who can be meant, and sign for what the fields say now."""
    to = random.choice(((BOB,), (CAROL,), (BOB, CAROL), (BOB, *CROWD), CROWD))
    keys = epoch(random.choice(("first", "second")))
    fields["kind"], fields["recipients"] = SEALED, len(to)
    pubs = tuple(one.pub for one in to)
    fields["key_block"] = _key_block(sender.pub, fields["stream"], keys.e, keys.ck, pubs)
    head = reference.encode_head(**fields)
    bind = reference.bind_hash(sender.pub, _context(bound), head)
    body = reference.encrypt(reference.aead_key(keys.ck), fields["nonce"], bind, plain)
    return reference.sign_envelope(sender, _context(bound), head, body)


@lru_cache(256)
def _key_block(
    sender: bytes, in_stream: bytes, e: bytes, ck: bytes, to: tuple[bytes, ...]
) -> bytes:
    return reference.sealed_key_block(sender, in_stream, reference.Epoch(e, ck), to)


def _change_body(body: bytes, flags: int, max_size: int, random: Random, change: Change) -> bytes:
    if flags & BUNDLE and random.randrange(4):
        return change_bundle(body, max_size, random, change)
    return change(body, max_size)


def _change_field(fields: dict[str, Any], random: Random, change: Change) -> None:
    """Change one field, or what two of them say together."""
    _FIELDS[random.randrange(len(_FIELDS))](fields, random, change)


def _set_small(fields: dict[str, Any], random: Random, _: Change) -> None:
    name, values = random.choice(
        (
            ("version", (0, 2, 255)),
            ("kind", (0, SIGNED, SEALED, 3, 255)),
            ("flags", (0, BUNDLE, REPLY, BUNDLE | REPLY, 4, 128)),
            ("magic", (b"env", b"\0\0\0")),
        )
    )
    fields[name] = random.choice(values)


def _set_number(fields: dict[str, Any], random: Random, _: Change) -> None:
    if random.randrange(2):
        fields["sequence"] = number(random, 64, 2**48, fields["sequence"])
    else:
        fields["sent_at"] = number(random, 64, 2**53, fields["sent_at"], *_TIMES)


def _set_party(fields: dict[str, Any], random: Random, change: Change) -> None:
    if random.randrange(2):
        sender = random.choice((*_SENDERS, bytes(16), change(fields["sender"], 16)))
        fields["sender"] = sender.ljust(16, b"\0")
    else:
        new = random.choice((stream("first"), stream("second"), change(fields["stream"], 16)))
        fields["stream"] = new.ljust(16, b"\0")


def _set_reply(fields: dict[str, Any], random: Random, change: Change) -> None:
    """With the flag that belongs to it, or against it."""
    fields["in_reply_to"] = random.choice((b"", REQUEST, change(REQUEST, 32).ljust(32, b"\0")))
    if random.randrange(4):
        flags = fields["flags"] & ~REPLY
        fields["flags"] = flags | (REPLY if fields["in_reply_to"] else 0)


def _set_nonce(fields: dict[str, Any], _: Random, change: Change) -> None:
    fields["nonce"] = change(fields["nonce"], 24).ljust(24, b"\0")


def _set_entries(fields: dict[str, Any], random: Random, change: Change) -> None:
    """Drop, repeat, swap, readdress or change entries of the key block; or its keys."""
    is_sealed = fields["kind"] == SEALED
    start, size = (64, 64) if is_sealed else (0, 16)
    block: bytes = fields["key_block"]
    keys, rest = block[:start], block[start:]
    entries = [rest[at : at + size] for at in range(0, len(rest), size)]
    match random.randrange(6):
        case 0 if entries:
            at = random.randrange(len(entries))
            other = random.choice(_RECIPIENTS).key_id
            entries[at] = other + entries[at][16:]
        case 1 if entries:
            entries.append(random.choice(entries))
        case 2:
            random.shuffle(entries)
        case 3 if is_sealed:
            point = random.choice((*LOW_U, bytes(32), little(1), little(2**255 - 19), b"\xff" * 32))
            keys = random.choice((point + keys[32:], change(keys, 64).ljust(64, b"\0")))
        case 4:
            entries = entries[: random.randrange(len(entries) + 1)]
        case _ if entries:
            at = random.randrange(len(entries))
            entries[at] = change(entries[at], size).ljust(size, b"\0")
    if random.randrange(4):
        entries = sorted({entry[:16]: entry for entry in entries}.values())
    fields["key_block"] = keys + b"".join(entries)
    fields["recipients"] = len(entries)
    if random.randrange(12) == 0:
        fields["recipients"] = number(random, 16, 256, len(entries))


_FIELDS: Final[tuple[Callable[[dict[str, Any], Random, Change], None], ...]] = (
    _set_small,
    _set_number,
    _set_number,
    _set_party,
    _set_reply,
    _set_nonce,
    _set_entries,
    _set_entries,
)
