"""What does not belong here: policy, trust, address (7.2 steps 3 to 5)."""

from __future__ import annotations

from collections.abc import Iterator

from vectors.reference import pack_bundle
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
    noise,
    sealed,
    stream,
)

REQUEST = noise("request id", 32)
LATE = NOW - 60 * SECOND


def cases() -> Iterator[Case]:
    yield from policy()
    yield from unknown_sender()
    yield from reflected()
    yield from not_trusted()
    yield from not_addressed()


def policy() -> Iterator[Case]:
    for name, envelope in {"for_everyone": craft(), "addressed": craft(to=[BOB])}.items():
        yield case(
            f"signed_where_sealed_is_required_{name}",
            "a downgrade: the receiver decides what is enough, never the message",
            envelope,
            "policy",
            policy={"require": "sealed"},
        )
    yield case(
        "for_everyone_where_addressed_is_required",
        "an envelope for everyone could be played to many receivers",
        craft(),
        "policy",
        policy={"addressed": True},
    )
    for kind, make in (("signed", craft), ("sealed", sealed)):
        yield case(
            f"{kind}_bundle_not_expected",
            "a caller that wants one message does not get the first of many",
            make(pack_bundle([b"a", b"b"]), bundle=True),
            "policy",
        )
        yield case(
            f"{kind}_reply_not_expected",
            "a reply is not opened as a request",
            make(in_reply_to=REQUEST),
            "policy",
        )
        yield case(
            f"{kind}_no_reply_where_one_is_expected",
            "something unasked is not opened as the reply",
            make(),
            "policy",
            in_reply_to=REQUEST,
        )
        yield case(
            f"{kind}_reply_to_another_request",
            "one bit of the message id differs",
            make(in_reply_to=bytes([REQUEST[0] ^ 1]) + REQUEST[1:]),
            "policy",
            in_reply_to=REQUEST,
        )
    yield case(
        "reply_without_a_bundle_flag_expected",
        "the reply is the right one, and a bundle nobody asked for",
        craft(pack_bundle([b"a"]), bundle=True, in_reply_to=REQUEST),
        "policy",
        in_reply_to=REQUEST,
    )
    yield case(
        "before_the_sender",
        "an unknown sender's bundle: policy is judged first (order of 7.2)",
        craft(pack_bundle([b"a"]), by=MALLORY, bundle=True),
        "policy",
    )


def unknown_sender() -> Iterator[Case]:
    yield case(
        "stranger",
        "rightly signed, by nobody who is known; there is no trust on first use",
        craft(by=MALLORY),
        "unknown_sender",
    )
    yield case("stranger_sealed", "the same, sealed", sealed(by=MALLORY), "unknown_sender")
    changed = bytes([ALICE.key_id[0] ^ 1]) + ALICE.key_id[1:]
    yield case("one_bit", "a key id is compared whole", craft(sender=changed), "unknown_sender")
    for name, key_id in {"zero": bytes(16), "ones": b"\xff" * 16}.items():
        yield case(f"key_id_{name}", "no special values", craft(sender=key_id), "unknown_sender")
    yield case(
        "own_key_not_in_the_store",
        "the store is asked before the own identities (order of 7.2)",
        craft(by=BOB),
        "unknown_sender",
        trust=[Trusted("alice")],
    )
    yield case("empty_store", "nobody is known", craft(), "unknown_sender", trust=[])
    yield case(
        "before_the_address",
        "for another, and late: the sender is judged first (order of 7.2)",
        sealed(by=MALLORY, to=[CAROL], sent_at=LATE),
        "unknown_sender",
    )


def reflected() -> Iterator[Case]:
    for name, envelope in {
        "signed": craft(by=BOB),
        "addressed_to_oneself": craft(by=BOB, to=[BOB]),
        "sealed_to_oneself": sealed(by=BOB),
    }.items():
        yield case(name, "the own envelope is played back", envelope, "reflected")
    yield case(
        "before_the_address",
        "the own envelope, for another: its sender is judged first (order of 7.2)",
        sealed(by=BOB, to=[CAROL]),
        "reflected",
    )
    yield case(
        "second_identity",
        "each of the own identities counts",
        craft(by=CAROL),
        "reflected",
        identities=["bob", "carol"],
    )
    own = stream("of this process")
    yield case(
        "own_stream_in_spite_of_accept_own",
        "processes may share an identity; this one still knows what it sent itself",
        craft(by=BOB, stream=own),
        "reflected",
        policy={"accept_own": True},
        own_streams=[own],
    )
    yield case(
        "before_revocation",
        "an own key that is revoked is reflected all the same (order of 7.2)",
        craft(by=BOB),
        "reflected",
        trust=[Trusted("bob", revoked=True)],
    )
    yield case(
        "forged",
        "not signed by the receiver: that is judged much later (order of 7.2)",
        craft(by=ALICE, sender=BOB.key_id),
        "reflected",
    )


def not_trusted() -> Iterator[Case]:
    for name, peer in {
        "revoked": Trusted("alice", revoked=True),
        "expired": Trusted("alice", not_after=NOW),
        "long_expired": Trusted("alice", not_after=1),
        "not_yet_valid": Trusted("alice", not_before=NOW + 1),
        "revoked_within_its_dates": Trusted(
            "alice", not_before=NOW - 1, not_after=NOW + 1, revoked=True
        ),
    }.items():
        yield case(
            name, "at the first moment that is not permitted", craft(), "not_trusted", trust=[peer]
        )
    yield case(
        "dates_by_the_highest_clock",
        "the clock was set back after the key had expired (7.6)",
        craft(sequence=1),
        "not_trusted",
        trust=[Trusted("alice", not_after=NOW + SECOND)],
        before=[Opening(craft(), "not_trusted", now=NOW + SECOND)],
    )
    yield case(
        "expired_while_its_stream_goes_on",
        "dates are judged for every envelope, whatever is kept",
        craft(sequence=1, sent_at=NOW + 1),
        "not_trusted",
        trust=[Trusted("alice", not_after=NOW + 1)],
        before=[Opening(craft())],
        now=NOW + 1,
    )
    for name, contexts, context in (
        ("other", ["invoices"], "orders"),
        ("longer", ["orders.new"], "orders"),
        ("shorter", ["order"], "orders"),
        ("stem_only", ["orders.*"], "orders"),
        ("dot_only", ["orders.*"], "orders."),
        ("no_dot", ["orders.*"], "ordersx"),
        ("case", ["Orders"], "orders"),
        ("pattern_is_no_name", ["orders.*"], "orders*"),
    ):
        yield case(
            f"context_{name}",
            "rightly signed, by one who may not send here",
            craft(context=context),
            "not_trusted",
            trust=[Trusted("alice", contexts=contexts)],
            context=context,
        )
    for name, topics, bound in (
        ("other", [b"dns"], [b"http"]),
        ("shorter", [b"dns/"], [b"dns"]),
        ("missing", [b"dns"], []),
        ("missing_with_an_empty_prefix", [b""], []),
        ("in_the_second_frame", [b"dns"], [b"http", b"dns"]),
        ("case", [b"dns"], [b"DNS"]),
    ):
        yield case(
            f"topic_{name}",
            "rightly signed, by one who may not publish this",
            craft(bound=bound),
            "not_trusted",
            trust=[Trusted("alice", topics=topics)],
            bound=bound,
        )
    yield case(
        "topic_after_a_permitted_one",
        "a topic that was once verified permits no other",
        craft(sequence=1, bound=[b"http"]),
        "not_trusted",
        trust=[Trusted("alice", topics=[b"dns"])],
        before=[Opening(craft(bound=[b"dns"]), bound=[b"dns"])],
        bound=[b"http"],
    )
    yield case(
        "the_older_key_of_a_name",
        "in a rotation each key has its own dates",
        craft(),
        "not_trusted",
        trust=[Trusted("alice", not_after=NOW), Trusted("alice", key="alice-2027")],
    )
    yield case(
        "before_the_address",
        "for another, and late: trust is judged first (order of 7.2)",
        sealed(to=[CAROL], sent_at=LATE),
        "not_trusted",
        trust=[Trusted("alice", revoked=True)],
    )


def not_addressed() -> Iterator[Case]:
    for name, to in {"one": [CAROL], "two": [ALICE, CAROL]}.items():
        comment = "forwarded to a receiver that it is not for"
        yield case(f"signed_to_{name}", comment, craft(to=to), "not_addressed")
        yield case(f"sealed_to_{name}", comment, sealed(to=to), "not_addressed")
    for kind, make in (("signed", craft), ("sealed", sealed)):
        yield case(
            f"{kind}_at_a_receiver_without_identity",
            "a tap without an identity reads what is for everyone, no more",
            make(to=[BOB]),
            "not_addressed",
            identities=[],
        )
    keys = epoch()
    decoy = CAROL.key_id + BOB.key_id + noise("decoy", 32)
    yield case(
        "own_key_id_inside_the_wrap_of_another",
        "a search for the key id's bytes alone would find one",
        sealed(to=[CAROL], keys=keys, key_block=keys.ephemeral + commit(keys) + decoy),
        "not_addressed",
    )
    yield case(
        "own_key_id_as_the_ephemeral_key",
        "the same, in the fixed part of the key block",
        sealed(to=[CAROL], keys=keys, key_block=BOB.key_id * 4 + decoy[:16] + noise("d", 48)),
        "not_addressed",
    )
    halves = [bytes(8) + BOB.key_id[:8], BOB.key_id[8:] + bytes(8)]
    assert halves == sorted(halves)
    yield case(
        "own_key_id_across_two_entries",
        "the same, between two key ids",
        craft(recipients=2, key_block=b"".join(halves)),
        "not_addressed",
    )
    yield case(
        "own_key_id_in_the_body",
        "the same, after the key block",
        craft(BOB.key_id * 3, to=[CAROL]),
        "not_addressed",
    )
    yield case(
        "before_freshness",
        "late, and not signed by its sender: the address is judged first (order of 7.2)",
        craft(to=[CAROL], sent_at=LATE, by=ALICE, sender=CAROL.key_id),
        "not_addressed",
    )
