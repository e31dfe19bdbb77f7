"""Clocks that leap, drift and are corrected: A19.

The attacker turns somebody's clock and replays what he recorded. ``Receiver`` holds
every refusal to it that nothing was delivered and no replay state has changed.
"""

from __future__ import annotations

import pytest
from cast import KINDS, each_kind, restarted
from simulator import DELIVERED, Receiver
from support import World

from envelope.wire import decode

DAY = 86_400


@pytest.mark.audit("A19", "R2", "R7")
def test_the_receivers_clock_leaps_ahead_and_is_corrected(world, bob):
    """I feed Bob a false time, an hour ahead, and later the right one.

    What I recorded stays refused throughout. New envelopes are stale until an operator
    accepts the correction: the highest reading is in force.
    """
    alice_world = World()
    alice = alice_world.sealer()
    recorded = alice.seal(b"before")
    assert bob.offer(recorded) == DELIVERED
    world.clock.advance(3600)
    assert bob.offer(alice.seal(b"during")) == "stale"
    world.clock.advance(-3600)
    assert bob.offer(alice.seal(b"corrected")) == "stale"
    assert "stepped back" in bob.refused[-1].detail
    assert bob.opener.stats.clock_stepped_back == 1
    bob.opener.reset_clock()
    assert bob.offer(alice.seal(b"accepted")) == DELIVERED
    assert bob.offer(recorded) == "replayed"


@pytest.mark.audit("A19", "A4", "R2")
def test_setting_the_receivers_clock_back_makes_nothing_fresh_again(world, bob):
    """I held an envelope back until it went stale, and now set Bob's clock back: step 6."""
    alice = world.sealer()
    delivered, held_back = alice.seal(b"0"), alice.seal(b"1")
    assert bob.offer(delivered) == DELIVERED
    world.clock.advance(31)
    assert [bob.offer(delivered), bob.offer(held_back)] == ["stale", "stale"]
    world.clock.advance(-31)
    assert [bob.offer(delivered), bob.offer(held_back)] == ["stale", "stale"]
    # Who accepts a false step may get what was late, and still nothing twice.
    bob.opener.reset_clock()
    assert [bob.offer(delivered), bob.offer(held_back)] == ["replayed", DELIVERED]


@pytest.mark.audit("A19")
@pytest.mark.parametrize(("drift", "code", "limit"), [(0.1, "future", 2), (-0.1, "stale", 30)])
def test_a_drifting_sender_is_refused_beyond_the_limits_and_never_doubled(drift, code, limit):
    """I slow one clock down, little by little: from the limit on step 6 refuses, by name."""
    alice_world, bob_world = World(), World()
    alice, bob = alice_world.sealer(), Receiver(bob_world.opener())
    verdicts = []
    for _ in range(limit * 10 + 5):
        alice_world.clock.advance(1 + drift)
        bob_world.clock.advance(1)
        data = alice.seal(b"tick")
        verdicts.append(bob.offer(data))
        assert bob.offer(data) == ("replayed" if verdicts[-1] == DELIVERED else code)
    assert verdicts == [DELIVERED] * limit * 10 + [code] * 5
    alice_world.clock.now = bob_world.clock.now
    assert bob.offer(alice.seal(b"corrected")) == DELIVERED


@pytest.mark.audit("A19", "R2", "R7")
def test_a_receiver_that_booted_ahead_fails_closed_until_its_restart():
    """I boot Bob an hour ahead of time; his memory then begins in the future.

    Corrected, he refuses everything at step 7 (no replay, but no service either) until
    he is restarted with the right time, or the hour is over.
    """
    alice_world, bob_world = World(), World()
    alice = alice_world.sealer()
    bob_world.clock.advance(3600)
    bob = restarted(bob_world)
    assert bob.offer(alice.seal(b"while ahead")) == "stale"
    bob_world.clock.advance(-3600)
    bob.opener.reset_clock()
    recorded = alice.seal(b"corrected")
    assert bob.offer(recorded) == "before_start"
    for clock in (alice_world.clock, bob_world.clock):
        clock.advance(10)
    again = restarted(bob_world)
    assert again.offer(recorded) == "before_start"
    for clock in (alice_world.clock, bob_world.clock):
        clock.advance(2.1)
    assert again.offer(alice.seal(b"restarted")) == DELIVERED
    assert again.offer(recorded) == "before_start"


@pytest.mark.audit("A19", "R2")
def test_when_both_were_ahead_nothing_returns_with_its_hour(world, bob):
    """I set both clocks an hour ahead, record, and replay when that hour really comes.

    The memory reasons with no clock: step 7, although step 6 finds it fresh.
    """
    world.clock.advance(3600)
    recorded = world.sealer().seal(b"pay")
    assert bob.offer(recorded) == DELIVERED
    world.clock.advance(-3600)
    bob.opener.reset_clock()
    assert bob.offer(recorded) == "future"
    assert bob.offer(world.sealer().seal(b"corrected")) == DELIVERED
    world.clock.advance(3600)
    assert bob.offer(recorded) == "replayed"


@pytest.mark.audit("A19", "R3")
def test_what_a_leaping_clock_expired_stays_refused(world, bob):
    """I set Bob's clock two days ahead, so that he expires what he knows, and back again.

    Expiry raised the floor to what it forgot: step 7.
    """
    alice_world = World()
    alice = alice_world.sealer()
    recorded = [alice.seal(b"0")]
    alice_world.clock.advance(1)
    recorded.append(alice.seal(b"1"))
    # The later stamp comes first: the floor must be the highest, not the last.
    assert [bob.offer(data) for data in reversed(recorded)] == [DELIVERED] * 2
    world.clock.advance(2 * DAY)
    assert bob.offer(world.sealer().seal(b"stamped ahead too")) == DELIVERED
    world.clock.advance(-2 * DAY)
    bob.opener.reset_clock()
    assert [bob.offer(data) for data in recorded] == ["too_old"] * 2


@pytest.mark.audit("A19")
@each_kind
def test_a_sender_that_steps_back_begins_another_stream(bob, kind):
    """I set Alice's clock back, so that her stamps repeat: they do so in another stream."""
    alice_world = World()
    alice = alice_world.sealer(**KINDS[kind])
    before = [alice.seal(b"0"), alice.seal(b"1")]
    alice_world.clock.advance(-10)
    after = [alice.seal(b"2"), alice.seal(b"3")]
    alice_world.clock.advance(10)
    later = alice.seal(b"4")
    sent = [*before, *after, later]
    assert [bob.offer(data) for data in sent] == [DELIVERED] * 5
    assert [decode(data).sequence for data in sent] == [0, 1, 0, 1, 2]
    assert len({decode(data).stream for data in sent}) == 2
