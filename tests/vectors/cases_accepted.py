"""What must be accepted: every kind, flag and edge, and what no refusal may spoil."""

from __future__ import annotations

from collections.abc import Iterator

from vectors.cases_replay import SMALL, at
from vectors.reference import pack_bundle, signed_key_block, u64
from vectors.world import (
    ALICE,
    BOB,
    CAROL,
    MALLORY,
    NOW,
    SECOND,
    Case,
    Opening,
    Trusted,
    case,
    commit,
    craft,
    epoch,
    id_of,
    identity,
    noise,
    sealed,
    stream,
    wrap_entry,
)

CROWD = [identity(f"crowd-{number}") for number in range(255)]
REQUEST = noise("request id", 32)


def cases() -> Iterator[Case]:
    yield from shapes()
    yield from bundles_and_replies()
    yield from places()
    yield from recipients()
    yield from edges_of_fields()
    yield from trust()
    yield from after_refusals()


def shapes() -> Iterator[Case]:
    for n in (0, 1, 2, 20, 256):
        to = [BOB, *CROWD][:n]
        yield case(f"signed_to_{n}", "a signed envelope", craft(to=to))
        if n:
            yield case(f"sealed_to_{n}", "a sealed envelope", sealed(to=to))
    yield case("signed_empty", "an envelope may carry nothing", craft(b""))
    yield case("signed_to_1_empty", "an envelope may carry nothing", craft(b"", to=[BOB]))
    yield case("sealed_empty", "the body is a bare tag", sealed(b""))
    for size in (1, 127, 128, 1024, 1025):
        yield case(f"signed_{size}", "sizes around blocks", craft(bytes([size & 255]) * size))
        yield case(f"sealed_{size}", "sizes around blocks", sealed(bytes([size & 255]) * size))
    yield case(
        "payload_is_an_envelope",
        "a payload is opaque, also if it looks like an envelope",
        craft(craft(b"inner")),
    )


def bundles_and_replies() -> Iterator[Case]:
    for count in (1, 2, 15, 16, 17):
        packed = pack_bundle([b"%d" % number for number in range(count)])
        for kind, make in (("signed", craft), ("sealed", sealed)):
            yield case(
                f"{kind}_bundle_of_{count}",
                "fixarray up to 15, array16 from 16",
                make(packed, bundle=True),
                bundle=True,
            )
    for name, payloads in {
        "of_4096": [b""] * 4096,
        "of_one_empty": [b""],
        "bin8_255": [bytes(255)],
        "bin16_256": [bytes(256)],
        "bin32_65536": [bytes(65_536)],
    }.items():
        packed = pack_bundle(payloads)
        yield case(f"bundle_{name}", "edges of the forms", craft(packed, bundle=True), bundle=True)
    single = "opened where a bundle may come, a single envelope is one message"
    yield case("single_where_bundles_may_come", single, craft(), bundle=True)
    looks = "without the flag a payload that looks like a bundle is one message"
    yield case("no_bundle_in_spite_of_its_payload", looks, craft(pack_bundle([b"a"])), bundle=True)
    for kind, make in (("signed", craft), ("sealed", sealed)):
        reply = make(in_reply_to=REQUEST)
        yield case(f"{kind}_reply", "a reply where it is expected", reply, in_reply_to=REQUEST)
        reply = make(pack_bundle([b"a", b"b"]), bundle=True, in_reply_to=REQUEST)
        yield case(f"{kind}_bundle_reply", "both flags", reply, in_reply_to=REQUEST, bundle=True)
    asked = id_of(craft(pack_bundle([b"a", b"b"]), by=BOB, bundle=True), 1)
    yield case(
        "reply_to_the_second_of_a_bundle",
        "a message id counts the messages of a bundle",
        craft(in_reply_to=asked),
        in_reply_to=asked,
    )


def places() -> Iterator[Case]:
    for name, bound in {
        "one": [b"topic"],
        "one_empty": [b""],
        "two_empty": [b"", b""],
        "like_a_length": [u64(5) + b"topic"],
        "64": [b"%d" % number for number in range(64)],
        "long": [bytes(1000)],
    }.items():
        comment = "bound frames enter the signature and are not carried"
        yield case(f"bound_{name}", comment, craft(bound=bound), bound=bound)
        comment = "bound frames enter the AAD as well"
        yield case(f"sealed_bound_{name}", comment, sealed(bound=bound), bound=bound)
    for name, context in {
        "of_1_byte": "x",
        "of_255_bytes": "x" * 255,
        "of_255_bytes_of_utf8": "x" + "é" * 127,
        "like_a_pattern": "orders.*",
        "with_zero": "a\0b",
        "not_normalised": "e\u0301",
    }.items():
        yield case(
            f"context_{name}",
            "any UTF-8 of 1 to 255 bytes, as it is",
            craft(context=context),
            context=context,
            trust=[Trusted("alice", contexts=["*"])],
        )


def recipients() -> Iterator[Case]:
    yield case(
        "every_recipient_opens",
        "Carol opens what Bob can open too",
        sealed(to=[BOB, CAROL]),
        identities=["carol"],
    )
    yield case("sealed_to_the_sender_too", "a copy for oneself", sealed(to=[ALICE, BOB]))
    yield case(
        "second_identity_addressed",
        "a receiver in rotation: only its older key is addressed",
        sealed(to=[CAROL]),
        identities=["bob", "carol"],
    )
    keys = epoch()
    shared = noise("unrelated", 32)
    broken = wrap_entry(CAROL, shared, keys.ephemeral, commit(keys), keys.ck)
    ordered = sorted([bob_entry(), broken])
    yield case(
        "first_own_identity_decides",
        "both own keys are addressed; only the first of the receiver's list is tried (7.5)",
        sealed(
            to=[BOB, CAROL], key_block=keys.ephemeral + commit(keys) + b"".join(ordered), keys=keys
        ),
        identities=["bob", "carol"],
    )
    low = next(one for one in CROWD if one.key_id < BOB.key_id)
    decoy = low.key_id + noise("decoy", 13) + BOB.key_id + noise("decoy", 19)
    block = keys.ephemeral + commit(keys) + decoy + bob_entry()
    yield case(
        "own_key_id_inside_another_wrap",
        "a key id counts only at the start of an entry",
        sealed(to=[low, BOB], key_block=block, keys=keys),
    )
    decoy = u64(0) + BOB.key_id[:8] + BOB.key_id[8:] + u64(0)
    straddling = sorted([decoy[:16], decoy[16:], BOB.key_id])
    yield case(
        "own_key_id_across_two_entries",
        "the same for addressed envelopes; the true entry is there too",
        craft(recipients=3, key_block=b"".join(straddling)),
    )
    yield case(
        "anonymous_receiver",
        "what is for everyone opens without an identity",
        craft(),
        identities=[],
    )
    yield case(
        "strictest_policy",
        "sealed and addressed, as required",
        sealed(),
        policy={"require": "sealed", "addressed": True},
    )
    yield case("addressed_as_required", "", craft(to=[BOB]), policy={"addressed": True})


def bob_entry() -> bytes:
    keys = epoch()
    parts = sealed(keys=keys)
    return parts[144:208]


def edges_of_fields() -> Iterator[Case]:
    yield case("oldest", "sent_at = now - max_age", craft(sent_at=NOW - 30 * SECOND))
    yield case("furthest_ahead", "sent_at = now + max_future", craft(sent_at=NOW + 2 * SECOND))
    yield case("sent_at_0", "no time is below zero", craft(sent_at=0), now=10 * SECOND)
    last = 2**53 - 1
    yield case("sent_at_last", "the last time", craft(sent_at=last), now=last)
    yield case("sequence_last", "the last sequence; skipped says so", craft(sequence=2**48 - 1))
    for name, odd in {"zero": bytes(16), "ones": b"\xff" * 16, "future": u64(NOW * 2) * 2}.items():
        yield case(f"stream_{name}", "nothing depends on what is in a stream", craft(stream=odd))
    yield case("nonce_zero", "a receiver does not judge nonces", sealed(nonce=bytes(24)))
    size = len(craft())
    yield case("max_size", "exactly as large as permitted", craft(), policy={"max_size": size})
    yield case(
        "max_size_with_bound",
        "envelope and frames together are exactly as large as permitted",
        craft(bound=[b"to", b"pic"]),
        bound=[b"to", b"pic"],
        policy={"max_size": size + 5},
    )
    yield case(
        "payload_like_a_signature",
        "the body ends where the last 64 bytes begin, whatever is in it",
        craft(craft()[-64:]),
    )


def trust() -> Iterator[Case]:
    for name, contexts, context in (
        ("exact", ["orders"], "orders"),
        ("all", ["*"], "orders"),
        ("below", ["orders.*"], "orders.new"),
        ("far_below", ["orders.*"], "orders.new.today"),
        ("dot_below", ["orders.*"], "orders.."),
        ("second_pattern", ["invoices", "orders"], "orders"),
    ):
        peers = [Trusted("alice", contexts=contexts)]
        yield case(f"pattern_{name}", "3.5", craft(context=context), trust=peers, context=context)
    for name, topics, bound in (
        ("exact", [b"dns"], [b"dns"]),
        ("prefix", [b"dns"], [b"dns/query"]),
        ("second", [b"http", b"dns"], [b"dns"]),
        ("empty_prefix", [b""], [b""]),
        ("first_frame_only", [b"dns"], [b"dns", b"http"]),
    ):
        peers = [Trusted("alice", topics=topics)]
        yield case(f"topic_{name}", "3.5", craft(bound=bound), trust=peers, bound=bound)
    for name, peer in {
        "not_before": Trusted("alice", not_before=NOW),
        "not_after": Trusted("alice", not_after=NOW + 1),
    }.items():
        yield case(f"date_{name}", "the last moment that is permitted", craft(), trust=[peer])
    yield case(
        "rotation",
        "one name, two keys; each has a replay memory of its own",
        craft(by=identity("alice-2027")),
        trust=[Trusted("alice"), Trusted("alice", key="alice-2027")],
        before=[Opening(craft())],
    )
    own = [*(Trusted(name) for name in ("alice", "bob"))]
    yield case(
        "own_identity_of_another_process",
        "accept_own: two processes share one identity",
        craft(by=BOB),
        trust=own,
        policy={"accept_own": True},
        own_streams=[stream("of this process")],
    )
    yield case(
        "same_stream_of_another_sender",
        "replay memory is kept for each sender",
        craft(by=CAROL),
        before=[Opening(craft())],
    )


def after_refusals() -> Iterator[Case]:
    """A refused envelope changes nothing, at whatever step it fell."""
    good = at(5)
    other = sealed(sequence=5)
    flipped = bytearray(at(2**48 - 1))
    flipped[-1] ^= 1
    tampered = bytearray(other)
    tampered[-65] ^= 1
    resealed = sealed(sequence=5, body=bytes(tampered[208:-64]))
    for name, refused in {
        "a_forgery_far_ahead": Opening(bytes(flipped), "bad_signature"),
        "a_replay": Opening(at(5, by=CAROL, sender=MALLORY.key_id), "unknown_sender"),
        "another_context": Opening(craft(sequence=9, context="else"), "bad_signature"),
        "one_that_does_not_unseal": Opening(resealed, "unseal"),
        "a_broken_bundle": Opening(
            craft(b"\x90", sequence=5, bundle=True), "malformed", bundle=True
        ),
        "one_too_early": Opening(at(9, sent_at=NOW + 3 * SECOND), "future"),
        "one_for_another": Opening(
            craft(sequence=9, recipients=1, key_block=signed_key_block([CAROL.pub])),
            "not_addressed",
        ),
    }.items():
        yield case(
            f"after_{name}",
            "a refusal changes no replay state: the sequence is still welcome, skipped as ever",
            good,
            before=[refused],
            policy=SMALL,
        )
    yield case(
        "a_new_key_epoch_within_a_stream",
        "the key block changes and the stream goes on",
        sealed(sequence=1, keys=epoch("second")),
        before=[Opening(sealed())],
    )
    yield case(
        "a_kept_key_opens_the_next_one",
        "the same key block again (7.4)",
        sealed(b"second", sequence=1),
        before=[Opening(sealed())],
    )
