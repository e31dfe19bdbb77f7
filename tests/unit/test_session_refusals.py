"""Every refusal of SPEC 18.8, in its order, and that none of them changes anything."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from sides import CONTEXT, MONOTONIC, Pair, Side
from support import SECOND, START, flip, identity

from envelope import Peer, Policy
from envelope.binding import context_digest
from envelope.session import handshake, hint, wire
from envelope.session.bucket import Bucket
from envelope.session.wire import Offer

ALICE, BOB, CAROL, MALLORY = map(identity, ("alice", "bob", "carol", "mallory"))
CTX = context_digest(CONTEXT.encode(), ())
STREAM = b"t" * 16


def pairs_of(steps):
    """Return each step alone, and each two that an end could find at once, in their order."""
    return [(one,) for one in steps] + [
        (one, two) for one, two in itertools.combinations(steps, 2) if steps[one] != steps[two]
    ]


def name(case):
    return "-".join(case)


# Initiations.

INITIATION = {
    "too_large": "too_large",
    "flags": "malformed",
    "unknown": "unknown_sender",
    "reflected": "reflected",
    "revoked": "not_trusted",
    "not_yet": "not_trusted",
    "expired": "not_trusted",
    "context": "not_trusted",
    "not_addressed": "not_addressed",
    "unseal": "unseal",
    "stale": "stale",
    "future": "future",
    "too_old": "too_old",
    "replayed": "replayed",
    "behind": "too_old",
    "flood": "policy",
    "crossing": "policy",
}
DATES = {
    "not_yet": {"not_before": datetime(2027, 6, 1, tzinfo=UTC)},
    "expired": {"not_after": datetime(2026, 6, 1, tzinfo=UTC)},
    "revoked": {"revoked": True},
    "context": {"contexts": ["invoices"]},
}
EXCLUSIVE = (("unknown", "reflected"), ("unknown", *DATES), ("stale", "future"))
EXCLUSIVE += (("too_old", "replayed"), ("crossing", "reflected"), ("crossing", "unknown"))
EXCLUSIVE += (("crossing", *DATES), ("behind", "crossing"), ("behind", "reflected"))
EXCLUSIVE += (("behind", "unknown"), ("behind", *DATES))


class Bobs:
    """Bob, and one initiation that has some things wrong."""

    def __init__(self, wrong):
        self.side = Side("bob", "alice")
        if "too_large" in wrong:
            self.side.manager._max_size = 173
        peer, sender = "alice", ALICE
        if "crossing" in wrong:
            self.side.send()
            self.side.link().initiation.ephemeral = bytes(32)
        if "behind" in wrong:
            self.side.send()
            self.side.link()._granted = STREAM, 6
        if "reflected" in wrong:
            peer, sender = "bob", BOB
        fields = {}
        for one in wrong:
            fields |= DATES.get(one, {})
        self.side.permit(*(["carol"] if "unknown" in wrong else [peer]), **fields)
        offset = {"stale": -31 * SECOND, "future": 2 * SECOND + 1}
        sent_at = START + sum(offset.get(one, 0) for one in wrong)
        sequence = 5
        guard = self.side.manager._exchange._heard.guard("sessions", sender.key_id, CONTEXT)
        marked = {"replayed": 5, "too_old": 5 + 4096}
        for one in set(wrong) & set(marked):
            place = STREAM, marked[one], sent_at
            guard.mark(*place, full_at=64, window=4096, expected=False)
        if "flood" in wrong:
            self.side.manager._exchange._granted[sender.key_id] = full_bucket()
        to = CAROL.public if "not_addressed" in wrong else BOB.public
        offer = Offer(b"i" * 8, STREAM, sequence, sent_at)
        data = handshake.begin(sender, to, CTX, offer, ephemeral=b"1" * 32, now=0).data
        if "unseal" in wrong:
            data = flip(data, 173)
        if "flags" in wrong:
            data = flip(data, 5)
        self.data = data
        self.granted = self.side.manager._exchange._granted


def full_bucket():
    """Return a bucket that permits nothing more."""
    bucket = Bucket()
    while bucket.take(MONOTONIC):
        pass
    return bucket


def can_be(case):
    return not any(len(set(case) & set(group)) > 1 for group in EXCLUSIVE)


@pytest.mark.audit("A3", "A4", "A6", "A12", "A13", "P1", "R1", "A16")
@pytest.mark.parametrize("case", list(filter(can_be, pairs_of(INITIATION))), ids=name)
def test_the_first_thing_wrong_with_an_initiation_decides(case):
    bob = Bobs(case)
    bob.side.manager._now()
    before = bob.side.state()
    buckets = {who: bucket._full_at for who, bucket in bob.granted.items()}
    assert bob.side.hear(bob.data) == INITIATION[case[0]]
    assert bob.side.state() == before
    assert bob.side.out() == []
    assert {who: bucket._full_at for who, bucket in bob.granted.items()} == buckets


def test_an_initiation_with_nothing_wrong_is_granted_once():
    bob = Bobs(())
    assert bob.side.hear(bob.data) is None
    assert [len(data) for data in bob.side.out()] == [94]
    assert bob.side.hear(bob.data) == "replayed"
    assert bob.side.out() == []


@pytest.mark.audit("A4")
@pytest.mark.parametrize("step", [-30 * SECOND, 2 * SECOND])
def test_freshness_includes_its_bounds(step):
    bob = Bobs(())
    offer = Offer(b"i" * 8, STREAM, 5, START + step)
    data = handshake.begin(ALICE, BOB.public, CTX, offer, ephemeral=b"1" * 32, now=0).data
    assert bob.side.hear(data) is None


@pytest.mark.audit("A3", "A16")
def test_what_was_refused_by_policy_may_be_offered_again():
    bob = Bobs(("flood",))
    assert bob.side.hear(bob.data) == "policy"
    bob.side.mono.advance(0.125)
    assert bob.side.hear(bob.data) is None


@pytest.mark.audit("A16")
def test_each_peer_is_granted_32_handshakes_at_once_and_8_a_second():
    side = Side("bob", "alice", "carol")

    def granted(sender, first, count):
        heard = []
        for sequence in range(first, first + count):
            offer = Offer(sequence.to_bytes(8, "big"), sender.key_id, sequence, START)
            ephemeral = sequence.to_bytes(32, "big")
            data = handshake.begin(sender, BOB.public, CTX, offer, ephemeral=ephemeral, now=0).data
            heard.append(side.hear(data))
        return heard.count(None), heard.count("policy")

    assert granted(ALICE, 0, 40) == (32, 8)
    assert granted(CAROL, 0, 33) == (32, 1)
    side.mono.advance(1)
    assert granted(ALICE, 40, 20) == (8, 12)


# Responses.

RESPONSE = {
    "flags": "malformed",
    "unknown": "unknown_session",
    "expired": "not_trusted",
    "unseal": "unseal",
}


@pytest.mark.audit("A13")
@pytest.mark.parametrize("case", pairs_of(RESPONSE), ids=name)
def test_the_first_thing_wrong_with_a_response_decides(case):
    pair = Pair()
    pair.alice.permit("bob", not_after=datetime.fromtimestamp(START / SECOND + 60, UTC))
    (initiation,) = pair.alice.send()
    pair.bob.hear(initiation)
    (data,) = pair.bob.out()
    for one, at in (("flags", 5), ("unknown", 6), ("unseal", 93)):
        if one in case:
            data = flip(data, at)
    if "expired" in case:  # In the tenth of a second before dates are looked at again.
        pair.alice.wall.advance(60)
    before = pair.alice.state()
    assert pair.alice.hear(data) == RESPONSE[case[0]]
    assert pair.alice.state() == before


def test_a_response_is_heard_once_and_only_to_the_last_initiation():
    pair = Pair()
    (first,) = pair.alice.send()
    pair.advance(0.4)
    (second,) = pair.alice.tick()
    for data in (first, second):
        assert pair.bob.hear(data) is None
    to_first, to_second = pair.bob.out()
    assert pair.alice.hear(to_first) == "unknown_session"
    assert pair.alice.hear(to_second) is None
    assert pair.alice.hear(to_second) == "unknown_session"


def test_a_response_that_comes_when_its_session_is_over_opens_nothing():
    pair = Pair()
    pair.bob.hear(pair.alice.send()[0])
    (response,) = pair.bob.out()
    pair.mono.advance(180)  # And nobody called tick.
    assert pair.alice.hear(response) == "unknown_session"
    assert pair.alice.out() == []


def test_a_response_of_nonsense_by_the_peer_itself_is_malformed_and_the_end_goes_on():
    pair = Pair()
    (initiation,) = pair.alice.send()
    request = handshake.Request(BOB, ALICE.public, CTX, initiation, b"2" * 32)
    nonsense, _ = request.grant(wire.Grant(b"r" * 8, 2**53, STREAM))
    assert pair.alice.hear(nonsense) == "malformed"
    assert pair.alice.hear(nonsense) == "unseal"
    assert pair.pass_(1) == [b"payload"]


# Data.

DATA = {
    "control_bound": "malformed",
    "reply_short": "malformed",
    "flags": "malformed",
    "unknown": "unknown_session",
    "over": "unknown_session",
    "limit": "unknown_session",
    "topic": "not_trusted",
    "too_old": "too_old",
    "replayed": "replayed",
    "unseal": "unseal",
}
CHANGED = {
    "control_bound": lambda data: data[:5] + b"\4" + data[6:36],
    "reply_short": lambda data: data[:5] + b"\2" + data[6:67],
    "flags": lambda data: data[:5] + b"\1" + data[6:],
    "unknown": lambda data: flip(data, 12),
    "limit": lambda data: data[:6] + (2**40).to_bytes(6, "big") + data[12:],
    "unseal": lambda data: flip(data, len(data) - 1),
}
DATA_EXCLUSIVE = (
    ("control_bound", "reply_short", "flags"),
    ("control_bound", "topic", "replayed", "too_old"),
    ("reply_short", "replayed", "too_old", "unseal"),
    ("limit", "replayed", "too_old"),
    ("over", "replayed", "too_old"),
    ("too_old", "replayed"),
)


@pytest.mark.audit("A1", "A3", "A5", "A13", "A17", "R1")
@pytest.mark.parametrize(
    "case",
    [
        case
        for case in pairs_of(DATA)
        if not any(len(set(case) & set(group)) > 1 for group in DATA_EXCLUSIVE)
    ],
    ids=name,
)
def test_the_first_thing_wrong_with_a_data_message_decides(case):
    pair = Pair(policy=Policy(window=64)).open()
    bound = [b"t"]
    data = pair.alice.manager.send(b"payload", bound=bound)
    if "replayed" in case:
        assert pair.bob.hear(data, bound=bound) == b"payload"
    if "too_old" in case:
        for _ in range(64):
            last = pair.alice.manager.send(b"", bound=bound)
        assert pair.bob.hear(last, bound=bound) == b""
    if "over" in case:
        pair.mono.advance(180)
    if "topic" in case:
        pair.bob.permit("alice", topics=["u"])
    for one in set(case) & set(CHANGED):
        data = CHANGED[one](data)
    pair.bob.manager._now()
    before = pair.bob.state()
    assert pair.bob.hear(data, bound=bound) == DATA[case[0]]
    assert pair.bob.state() == before
    hints = pair.bob.out()
    assert [len(one) for one in hints] == [106] * (DATA[case[0]] == "unknown_session")


def test_data_shorter_than_the_shortest_is_malformed():
    pair = Pair().open()
    data = pair.alice.manager.send(b"")
    assert pair.bob.hear(data[:35]) == "malformed"
    assert pair.bob.out() == []


@pytest.mark.audit("A5")
@pytest.mark.parametrize("bound", [[], [b"u"], [b"t", b""], [b"", b"t"]])
def test_data_with_other_bound_frames_does_not_open(bound):
    pair = Pair().open()
    data = pair.alice.manager.send(b"payload", bound=[b"t"])
    assert pair.bob.hear(data, bound=bound) == "unseal"
    assert pair.bob.hear(data, bound=[b"t"]) == b"payload"


@pytest.mark.parametrize("kind", [wire.INITIATION, wire.RESPONSE, wire.HINT])
def test_bound_frames_go_with_data_alone(kind):
    pair = Pair()
    (initiation,) = pair.alice.send()
    pair.bob.hear(initiation)
    (response,) = pair.bob.out()
    made = hint.make(ALICE, CTX, b"ENV\x01\x05\x00" + bytes(30))
    data = {wire.INITIATION: initiation, wire.RESPONSE: response, wire.HINT: made}[kind]
    side = pair.alice if kind == wire.RESPONSE else pair.bob
    assert side.hear(data, bound=[b"t"]) == "malformed"


@pytest.mark.audit("P3")
def test_sizes_count_the_bound_frames_and_there_are_64_of_them_at_most():
    pair = Pair(policy=Policy(max_size=300)).open()
    data = pair.alice.manager.send(b"payload")
    assert pair.bob.hear(data, bound=[b"x" * (300 - len(data))]) == "unseal"
    assert pair.bob.hear(data, bound=[b"x" * (301 - len(data))]) == "too_large"
    assert pair.bob.hear(data, bound=[b""] * 64) == "unseal"
    assert pair.bob.hear(data, bound=[b""] * 65) == "too_large"
    assert pair.bob.hear(bytes(301)) == "too_large"


@pytest.mark.audit("P4")
@pytest.mark.parametrize(
    "data", [b"", b"ENV", b"ENV\x01\x05", bytes(174), b"ENV\x01\x01" + bytes(200)]
)
def test_anything_else_is_malformed(data):
    assert Pair().open().bob.hear(data) == "malformed"


def test_a_message_of_another_version_is_called_so():
    (initiation,) = Pair().alice.send()
    assert Pair().bob.hear(flip(initiation, 3, 2)) == "version"


# Hints.

HINT = {
    "about_nothing": "malformed",
    "unknown": "unknown_sender",
    "reflected": "reflected",
    "revoked": "not_trusted",
    "context": "not_trusted",
    "session": "unknown_session",
    "counter": "unknown_session",
    "signature": "bad_signature",
}


@pytest.mark.audit("A1", "A6", "A12", "A13", "A16")
@pytest.mark.parametrize("case", pairs_of(HINT), ids=name)
def test_the_first_thing_wrong_with_a_hint_decides(case):
    pair = Pair().open()
    data = pair.alice.manager.send(b"lost")
    pair.mono.advance(1)
    signer = {"unknown": MALLORY, "reflected": ALICE}
    by = next((signer[one] for one in case if one in signer), BOB)
    if "about_nothing" in case:
        data = flip(data, 4)
    if "session" in case:
        data = flip(data, 12)
    if "counter" in case:  # That of the next one.
        data = data[:6] + pair.alice.current.sent.to_bytes(6, "big") + data[12:]
    made = hint.make(by, CTX, data)
    if "signature" in case:
        made = flip(made, 105)
    peers = [Peer("bob", BOB.public, contexts=[CONTEXT])]
    if "reflected" in case:
        peers.append(Peer("alice", ALICE.public, contexts=[CONTEXT]))
    if case[0] in ("revoked", "context") or case[-1] in ("revoked", "context"):
        fields = DATES["revoked" if "revoked" in case else "context"]
        peers[0] = Peer("bob", BOB.public, **{"contexts": [CONTEXT]} | fields)
    pair.alice.trust.replace(peers)
    pair.alice.manager._now()
    before = pair.alice.state()
    assert pair.alice.hear(made) == HINT[case[0]]
    assert pair.alice.state() == before
    assert pair.alice.out() == []


def test_a_hint_with_nothing_wrong_is_heard():
    pair = Pair().open()
    data = pair.alice.manager.send(b"lost")
    pair.mono.advance(1)
    assert pair.alice.hear(hint.make(BOB, CTX, data)) is None
    assert [len(one) for one in pair.alice.out()] == [174]


# What is said of a refusal.


@pytest.mark.audit("E3")
def test_nothing_that_was_refused_is_counted_as_said_by_its_claimed_sender():
    pair = Pair().open()
    manager = pair.bob.manager
    data = pair.alice.manager.send(b"payload")
    forged = handshake.begin(
        ALICE, BOB.public, CTX, Offer(b"i" * 8, STREAM, 0, START), ephemeral=b"1" * 32, now=0
    ).data
    for refused in (flip(data, 30), flip(forged, 100)):
        assert pair.bob.hear(refused) == "unseal"
    pair.mono.advance(1)
    with pytest.raises(Exception, match="unseal") as error:
        manager.receive(flip(data, 31))
    assert (error.value.claimed_sender, error.value.verified) == (ALICE.key_id, False)
    with pytest.raises(Exception, match="unseal") as error:
        manager.receive(flip(forged, 101))
    assert (error.value.claimed_sender, error.value.verified) == (ALICE.key_id, False)
    assert manager.stats.refused == {"unseal": 4}
    assert manager.stats.senders["alice"].refused == {}
    assert pair.bob.hear(data) == b"payload"


@pytest.mark.audit("E3")
def test_what_the_peer_itself_wrote_too_late_is_counted_as_its_own():
    pair = Pair().open()
    offer = Offer(b"i" * 8, STREAM, 0, START - 31 * SECOND)
    data = handshake.begin(ALICE, BOB.public, CTX, offer, ephemeral=b"1" * 32, now=0).data
    assert pair.bob.hear(data) == "stale"
    assert pair.bob.manager.stats.senders["alice"].refused == {"stale": 1}


@pytest.mark.audit("A19", "E3")
def test_a_refusal_as_stale_says_if_the_clock_stepped_back():
    pair = Pair().open()
    pair.bob.wall.advance(3600)
    pair.mono.advance(1)
    pair.bob.tick()
    pair.bob.wall.advance(-3600)
    pair.alice.begin()
    (initiation,) = pair.alice.send()
    with pytest.raises(Exception, match=r"stale: .*stepped back, see reset_clock"):
        pair.bob.manager.receive(initiation)
    assert pair.bob.manager.stats.clock_stepped_back == 1
    pair.bob.manager.reset_clock()
    assert pair.bob.hear(initiation) is None
