"""No longer, not yet, not here: A13, and who gets nothing any more.

The attacker has Alice's or Bob's seed, or is one of them. ``Receiver`` holds every
refusal to it that nothing was delivered and no replay state has changed.
"""

from __future__ import annotations

import dataclasses
import os
from datetime import UTC, datetime, timedelta

import pytest
from cast import ALICE, BOB, KINDS, each_cache, each_kind, write_trust
from forge import content_key
from simulator import DELIVERED, Receiver
from support import SECOND, START

from envelope import Peer, Sealer, TrustStore, UsageError


def revoked(trust, name):
    """Return the peers of a store, one of them revoked."""
    return [dataclasses.replace(peer, revoked=peer.name == name) for peer in trust]


def install(file, *peers):
    """Replace a trust file as an operator should: whole or not at all."""
    new = file.with_suffix(".new")
    write_trust(new, *peers)
    os.replace(new, file)  # noqa: PTH105 (the call that the advice names)


def date(seconds):
    """Return the date so many seconds after the test clock's start."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=START + seconds * SECOND)


@pytest.mark.audit("A13")
@each_kind
def test_a_revoked_sender_is_refused_from_the_next_envelope_on(world, bob, kind):
    """I have Alice's seed, and go on after she was revoked, while all caches are warm: step 4."""
    alice = world.sealer(**KINDS[kind])
    assert bob.offer(alice.seal(b"0", bound=[b"t"]), bound=[b"t"]) == DELIVERED
    before = list(world.trust)
    world.trust.replace(revoked(world.trust, "alice"))
    data = alice.seal(b"1", bound=[b"t"])
    assert bob.offer(data, bound=[b"t"]) == "not_trusted"
    assert "revoked" in bob.refused[-1].detail
    world.trust.replace([peer for peer in before if peer.name != "alice"])
    assert bob.offer(data, bound=[b"t"]) == "unknown_sender"
    world.trust.replace(before)
    assert bob.offer(data, bound=[b"t"]) == DELIVERED


@pytest.mark.audit("A13")
def test_a_revocation_in_the_trust_file_is_in_force_a_second_later(world, tmp_path):
    """I have Alice's seed, and hope that Bob reads his trust file at the next start only."""
    file = tmp_path / "peers.toml"
    peer = Peer("alice", ALICE, contexts=["orders"])
    install(file, peer)
    bob = Receiver(world.opener(trust=TrustStore.load(file)))
    alice = world.sealer(to=[BOB])
    assert bob.offer(alice.seal(b"0")) == DELIVERED
    install(file, dataclasses.replace(peer, revoked=True))
    world.clock.advance(1)
    assert bob.offer(alice.seal(b"1")) == "not_trusted"
    assert bob.payloads == [b"0"]


@pytest.mark.audit("A13")
def test_a_trust_file_that_cannot_be_read_revokes_nothing_that_was_revoked(world, tmp_path):
    """I damage the trust file, so that Bob falls back to believing me: he keeps what he had."""
    file = tmp_path / "peers.toml"
    peer = Peer("alice", ALICE, contexts=["orders"], revoked=True)
    install(file, peer)
    trust = TrustStore.load(file)
    bob = Receiver(world.opener(trust=trust))
    alice = world.sealer()
    assert bob.offer(alice.seal(b"0")) == "not_trusted"
    for damage in ("[[peer", "", None):
        if damage is None:
            file.unlink()
        else:
            file.write_text(damage, encoding="utf-8")
        world.clock.advance(1)
        expected = "unknown_sender" if damage == "" else "not_trusted"
        assert bob.offer(alice.seal(b"1")) == expected
        assert (trust.stale_since is None) == (damage == "")
        install(file, peer)
        world.clock.advance(1)
        assert bob.offer(alice.seal(b"2")) == "not_trusted"
        assert trust.stale_since is None


@pytest.mark.audit("A13")
@each_kind
def test_a_key_expires_and_begins_while_running(world, bob, kind):
    """I use Alice's key a moment too early and a moment too late: step 4, to the microsecond."""
    dated = Peer("alice", ALICE, contexts=["orders"], not_before=date(10), not_after=date(20))
    world.trust.replace([dated])
    alice = world.sealer(**KINDS[kind])
    offers = []
    for step in (9.999999, 0.000001, 9.999999, 0.000001):
        world.clock.advance(step)
        offers.append(bob.offer(alice.seal(b"")))
    assert offers == ["not_trusted", DELIVERED, DELIVERED, "not_trusted"]
    # An expired key is not revived by setting the clock back.
    world.clock.advance(-1)
    assert bob.offer(alice.seal(b"")) == "not_trusted"


@pytest.mark.audit("A13")
@pytest.mark.parametrize(
    ("contexts", "allowed", "refused"),
    [
        (["orders"], ["orders"], ["orders.eu", "order", "billing", "orders."]),
        (["orders.*"], ["orders.eu", "orders.eu.north"], ["orders", "orders.", "ordersx.eu"]),
        (["*"], ["orders", "billing"], []),
        (["orders", "billing.*"], ["orders", "billing.eu"], ["billing", "orders.eu"]),
    ],
)
def test_a_peer_may_send_in_its_contexts_only(world, contexts, allowed, refused):
    """I am Alice, and speak up where I have nothing to say, with a sound signature: step 4."""
    world.trust.replace([Peer("alice", ALICE, contexts=contexts)])
    for context in allowed + refused:
        receiver = Receiver(world.opener(context=context))
        verdict = receiver.offer(world.sealer(context=context).seal(b""))
        assert verdict == (DELIVERED if context in allowed else "not_trusted"), context


@pytest.mark.audit("A13")
@each_cache
def test_a_peer_may_send_on_its_topics_only(world, bob, is_warm):
    """I am Alice, and publish on another's topic, or on none, with a sound signature: step 4."""
    world.trust.replace([Peer("alice", ALICE, contexts=["orders"], topics=["dns/", b"ssl/"])])
    alice = world.sealer()
    if is_warm:
        assert bob.offer(alice.seal(b"", bound=[b"dns/a"]), bound=[b"dns/a"]) == DELIVERED
    for bound, expected in [
        ([b"dns/a"], DELIVERED),
        ([b"ssl/"], DELIVERED),
        ([b"dns"], "not_trusted"),
        ([b"http/"], "not_trusted"),
        ([b"x", b"dns/a"], "not_trusted"),
        ([], "not_trusted"),
    ]:
        assert bob.offer(alice.seal(b"", bound=bound), bound=bound) == expected


@pytest.mark.audit("A13", "C3")
def test_a_revoked_recipient_gets_nothing_any_more(world, bob, carol):
    """I have Bob's seed, and read on after he was revoked: he is dropped with a new key epoch."""
    alice = world.sealer(to=[world.trust["bob"], world.trust["carol"]])
    data = alice.seal(b"0")
    assert [bob.offer(data), carol.offer(data)] == [DELIVERED, DELIVERED]
    stolen = content_key(data, ALICE, world.bob)
    world.trust.replace(revoked(world.trust, "bob"))
    later = alice.seal(b"1")
    assert [bob.offer(later), carol.offer(later)] == ["not_addressed", DELIVERED]
    assert content_key(later, ALICE, world.carol) != stolen
    world.trust.replace(revoked(world.trust, "carol"))
    assert carol.offer(alice.seal(b"2")) == "not_addressed"


@pytest.mark.audit("A13")
@pytest.mark.parametrize("how", ["revoked", "expired", "removed"])
def test_when_the_only_recipient_is_gone_nothing_is_sealed(world, bob, tmp_path, how):
    """I have Bob's seed, and he is struck from the file: Alice refuses to seal at all."""
    file = tmp_path / "peers.toml"
    peer = Peer("bob", BOB, contexts=["orders"], not_after=date(20) if how == "expired" else None)
    install(file, peer)
    trust = TrustStore.load(file)
    alice = Sealer(world.alice, context="orders", to=[trust["bob"]], clock=world.clock)
    assert bob.offer(alice.seal(b"0")) == DELIVERED
    if how == "revoked":
        install(file, dataclasses.replace(peer, revoked=True))
    elif how == "removed":
        install(file)
    world.clock.advance(20)
    with pytest.raises(UsageError, match="every recipient"):
        alice.seal(b"1")
    install(file, dataclasses.replace(peer, not_after=None))
    world.clock.advance(1)
    assert bob.offer(alice.seal(b"2")) == DELIVERED
    assert bob.delivered[-1].skipped == 0
