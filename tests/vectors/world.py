"""What the cases are made of: test keys, crafted envelopes, cases as JSON.

Rules of this file: everything is a function of its arguments, so one run writes
the same bytes as the next. Nothing here comes from the package under test.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from vectors.reference import (
    BUNDLE,
    REPLY,
    SEALED,
    SIGNED,
    Epoch,
    Identity,
    Peer,
    aead_key,
    bind_hash,
    commitment,
    context_hash,
    encode_head,
    encrypt,
    key_encryption_key,
    key_id,
    message_id,
    sealed_key_block,
    sealed_nonce,
    sign_envelope,
    signed_key_block,
    u64,
)
from vectors.reference_opener import Message, Policy, Receiver, Refused, decode

SECOND = 1_000_000
NOW = 1_800_000_000_000_000
"""When most openings take place: Unix us, in January 2027."""
SHORT = 180
"""Characters that JSON of one object may have to stand on one line."""
LISTED_IDS = 8
"""A bundle of more messages than this has only its first and last id listed."""

P = 2**255 - 19
ORDER_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
"""A point of edwards25519 of order 8."""
LOW_U = (
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
)
"""The points of curve25519 of order 8."""

Json = dict[str, Any]


@cache
def identity(name: str) -> Identity:
    """Return the test identity of this name; always the same one."""
    return Identity(
        hashlib.blake2b(b"envelope test key: " + name.encode(), digest_size=32).digest()
    )


def noise(label: str, size: int) -> bytes:
    """Return bytes that stand for fresh random ones; one label, one value."""
    return hashlib.shake_256(b"envelope test noise: " + label.encode()).digest(size)


def little(number: int) -> bytes:
    """Return 32 bytes, little-endian, as both curves write numbers."""
    return number.to_bytes(32, "little")


def stream(label: str, start: int = NOW - 60 * SECOND) -> bytes:
    return u64(start) + noise(f"stream {label}", 8)


ALICE, BOB, CAROL, MALLORY = map(identity, ("alice", "bob", "carol", "mallory"))
STREAM = stream("first")


def epoch(label: str = "first") -> Epoch:
    return Epoch(noise(f"e {label}", 32), noise(f"ck {label}", 32))


def fresh(in_stream: bytes, sequence: int, sent_at: int) -> bytes:
    """Return what stands for the random bytes of a nonce: 32, of which signed takes 24."""
    return noise(f"nonce {in_stream.hex()} {sequence} {sent_at}", 32)


# --- envelopes -----------------------------------------------------------------------------


def craft(
    payload: bytes = b"payload",
    *,
    by: Identity = ALICE,
    to: Sequence[Identity] = (),
    keys: Epoch | None = None,
    context: str = "orders",
    bound: Sequence[bytes] = (),
    bundle: bool = False,
    body: bytes | None = None,
    aad: bytes | None = None,
    finish: Callable[[Identity, bytes, bytes, bytes], bytes] = sign_envelope,
    **fields: Any,
) -> bytes:
    """Return an envelope; sealed if there are ``keys``, signed if not.

    Whatever is named in ``fields`` stands in the header instead of what the spec
    puts there, and everything after it is computed from what stands there: the
    AEAD, its AAD, and the signature, which is always the last to be made.
    """
    ctx = context_hash(context, bound)
    in_reply_to = fields.get("in_reply_to", b"")
    head_fields: Json = {
        "kind": SIGNED if keys is None else SEALED,
        "flags": (BUNDLE if bundle else 0) | (REPLY if in_reply_to else 0),
        "recipients": len(to),
        "sender": by.key_id,
        "stream": STREAM,
        "sequence": 0,
        "sent_at": NOW,
    } | fields
    where = head_fields["stream"], head_fields["sequence"], head_fields["sent_at"]
    pubs = [recipient.pub for recipient in to]
    random = fresh(*where)
    if keys is None:
        head_fields.setdefault("nonce", random[:24])
        head_fields.setdefault("key_block", signed_key_block(pubs))
    else:
        head_fields.setdefault("nonce", sealed_nonce(by, random, *where, ctx, payload))
        head_fields.setdefault("key_block", sealed_key_block(by.pub, where[0], keys, pubs))
    head = encode_head(**head_fields)
    if body is None and keys is None:
        body = payload
    elif body is None and keys is not None:
        aad = bind_hash(by.pub, ctx, head) if aad is None else aad
        body = encrypt(aead_key(keys.ck), head_fields["nonce"], aad, payload)
    assert body is not None
    return finish(by, ctx, head, body)


def sealed(payload: bytes = b"payload", **options: Any) -> bytes:
    """Return ``craft`` sealed to Bob, unless told otherwise."""
    options.setdefault("to", [BOB])
    options.setdefault("keys", epoch())
    return craft(payload, **options)


def wrap_entry(
    to: Identity,
    shared: bytes,
    ephemeral: bytes,
    com: bytes,
    ck: bytes,
    *,
    by: Identity = ALICE,
    in_stream: bytes = STREAM,
) -> bytes:
    """Return one entry of a sealed key block (SPEC 5.7) from its ingredients."""
    kek = key_encryption_key(shared, ephemeral, to.pub, by.pub, in_stream, com)
    return to.key_id + encrypt(kek, bytes(24), b"", ck)


def commit(keys: Epoch, *, by: Identity = ALICE, in_stream: bytes = STREAM) -> bytes:
    return commitment(keys.ck, keys.ephemeral, by.pub, in_stream)


def id_of(envelope: bytes, index: int = 0) -> bytes:
    parts = decode(envelope)
    return message_id(parts.head, parts.body, index)


# --- cases ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opening:
    """One envelope handed to the receiver, and what its author means to come of it."""

    envelope: bytes
    result: str = "ok"
    now: int = NOW
    bound: Sequence[bytes] = ()
    in_reply_to: bytes | None = None
    bundle: bool = False


@dataclass(frozen=True)
class Trusted:
    """One entry of the receiver's trust store; ``key`` names a test key."""

    name: str
    key: str = ""
    contexts: Sequence[str] = ("orders",)
    topics: Sequence[bytes] | None = None
    not_before: int | None = None
    not_after: int | None = None
    revoked: bool = False


EVERYBODY = (Trusted("alice"), Trusted("bob"), Trusted("carol"))


@dataclass(frozen=True)
class Case:
    """A receiver and what it is handed, in order; the last opening is the point."""

    name: str
    comment: str
    openings: Sequence[Opening]
    trust: Sequence[Trusted] = EVERYBODY
    identities: Sequence[str] = ("bob",)
    context: str = "orders"
    policy: Mapping[str, Any] = field(default_factory=dict)
    cold: int | None = None
    own_streams: Sequence[bytes] = ()

    @property
    def outcome(self) -> str:
        return self.openings[-1].result


PLACE = {"trust", "identities", "context", "policy", "cold", "own_streams"}


def case(name: str, comment: str, envelope: bytes, result: str = "ok", **options: Any) -> Case:
    """Return a case of one opening, after those in ``before``."""
    before: Iterable[Opening] = options.pop("before", ())
    place = {key: options.pop(key) for key in list(options) if key in PLACE}
    return Case(name, comment, [*before, Opening(envelope, result, **options)], **place)


def to_json(value: Any) -> Any:
    """Return the value with bytes as hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def describe(messages: Sequence[Any], sender: str) -> Json:
    """Return what was delivered, as the JSON has it; for messages of either side."""
    first, count = messages[0], len(messages)
    listed = range(count) if count <= LISTED_IDS else (0, count - 1)
    assert all(message.skipped == 0 for message in messages[1:])
    return {
        "sender": sender,
        "sealed": first.sealed,
        "stream": first.stream.hex(),
        "sequence": first.sequence,
        "sent_at": first.sent_at,
        "skipped": first.skipped,
        "payloads": [message.payload.hex() for message in messages],
        "ids": {str(index): messages[index].id.hex() for index in listed},
    }


def to_json_case(given: Case) -> Json:
    """Return the case with what the reference makes of it.

    Raises:
        AssertionError: that is not what the case's author meant.
    """
    shown: Json = {
        "name": given.name,
        "comment": given.comment,
        "trust": [to_json(asdict(peer) | {"key": peer.key or peer.name}) for peer in given.trust],
        "receiver": {
            "identities": list(given.identities),
            "context": given.context,
            "policy": asdict(Policy(**given.policy)),
            "cold": given.cold,
            "own_streams": to_json(given.own_streams),
        },
        "openings": [],
    }
    receiver = reference_receiver(shown)
    for opening in given.openings:
        asked = to_json(asdict(opening))
        del asked["result"]
        got = open_by_reference(receiver, asked)
        assert got["result"] == opening.result, (given.name, got, opening.result)
        shown["openings"].append(asked | got)
    return shown


def reference_receiver(shown: Json) -> Receiver:
    """Return the reference's receiver for a case read from JSON."""
    place = shown["receiver"]
    return Receiver(
        trust=[
            Peer(
                name=peer["name"],
                pub=identity(peer["key"]).pub,
                contexts=peer["contexts"],
                topics=None if peer["topics"] is None else unhex(peer["topics"]),
                not_before=peer["not_before"],
                not_after=peer["not_after"],
                revoked=peer["revoked"],
            )
            for peer in shown["trust"]
        ],
        context=place["context"],
        identities=[identity(name) for name in place["identities"]],
        policy=Policy(**place["policy"]),
        cold=place["cold"],
        own_streams=set(unhex(place["own_streams"])),
    )


def open_by_reference(receiver: Receiver, opening: Json) -> Json:
    """Return ``result`` and, if it is ok, ``message``."""
    try:
        messages: list[Message] = receiver.open(
            bytes.fromhex(opening["envelope"]),
            clock=opening["now"],
            bound=unhex(opening["bound"]),
            in_reply_to=None
            if opening["in_reply_to"] is None
            else bytes.fromhex(opening["in_reply_to"]),
            bundle=opening["bundle"],
        )
    except Refused as refused:
        return {"result": refused.code}
    return {"result": "ok", "message": describe(messages, messages[0].sender)}


def unhex(texts: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def key_table(names: Iterable[str]) -> Json:
    """Return the test keys of these names."""
    return {
        name: {
            "seed": identity(name).seed.hex(),
            "pub": identity(name).pub.hex(),
            "key_id": key_id(identity(name).pub).hex(),
        }
        for name in sorted(names)
    }


def layout(value: Any, indent: str = "") -> str:
    """Return JSON that reads well in a diff: what is short or flat stands on one line."""
    line = json.dumps(value)
    members = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list) or len(line) <= SHORT:
        return line
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in members):
        return line
    inner = indent + " "
    if isinstance(value, dict):
        rows = [f"{json.dumps(key)}: {layout(item, inner)}" for key, item in value.items()]
        left, right = "{", "}"
    else:
        rows = [layout(item, inner) for item in value]
        left, right = "[", "]"
    joined = ",\n".join(inner + row for row in rows)
    return f"{left}\n{joined}\n{indent}{right}"
