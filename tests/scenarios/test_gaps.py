"""What did not arrive: A21.

The attacker drops, holds back and shuffles, and hopes that nobody counts.
``Receiver`` holds every refusal to it that nothing was delivered and no replay state
has changed.
"""

from __future__ import annotations

import dataclasses

import pytest
from cast import BOB, KINDS, each_kind
from simulator import DELIVERED, Network, Receiver, drop, reorder, when

from envelope import Policy


@pytest.mark.audit("A21", "R8")
@each_kind
def test_dropped_messages_are_noticed(world, bob, kind):
    """I drop a few and hope that nobody counts; each gap is told just where it is."""
    victims = {b"3", b"4", b"7"}
    payload_of = {}
    network = Network(world.clock, when(lambda packet: payload_of[packet.data] in victims, drop))
    alice = world.sealer(**KINDS[kind])
    for number in range(10):
        data = alice.seal(b"%d" % number)
        payload_of[data] = b"%d" % number
        network.send(data)
    assert network.deliver(bob=bob) == [DELIVERED] * 7
    told = [(message.sequence, message.skipped) for message in bob.delivered]
    assert told == [(0, 0), (1, 0), (2, 0), (5, 2), (6, 0), (8, 1), (9, 0)]
    stats = bob.opener.stats.senders["alice"]
    assert (stats.skipped, stats.missing, stats.lost, stats.unseen) == (3, 3, 0, 0)


@pytest.mark.audit("A21", "R8")
def test_what_is_missing_may_still_come_and_what_left_the_window_is_lost(world):
    """I hold some back and drop others: the figures tell late from lost."""
    bob = Receiver(world.opener(policy=Policy(window=64)))
    alice = world.sealer()
    sent = [alice.seal(b"%d" % number) for number in range(100)]
    for number in (0, 10, 99):
        assert bob.offer(sent[number]) == DELIVERED
    stats = bob.opener.stats.senders["alice"]
    assert (stats.missing, stats.lost) == (63, 34)
    assert bob.offer(sent[35]) == "too_old"
    assert bob.offer(sent[36]) == DELIVERED
    assert bob.delivered[-1].skipped == 0
    stats = bob.opener.stats.senders["alice"]
    assert (stats.missing, stats.lost, stats.late, stats.skipped) == (62, 34, 1, 97)


@pytest.mark.audit("A21", "R5")
def test_a_late_joiner_is_told_what_came_before(world, bob):
    """I drop the beginning of a stream; to Bob that may be loss, or his own late start."""
    alice = world.sealer()
    sent = [alice.seal(b"%d" % number) for number in range(6)]
    assert [bob.offer(data) for data in sent[4:]] == [DELIVERED] * 2
    assert [message.skipped for message in bob.delivered] == [4, 0]
    stats = bob.opener.stats.senders["alice"]
    assert (stats.unseen, stats.missing, stats.lost) == (4, 0, 0)
    assert bob.offer(sent[3]) == DELIVERED
    assert bob.opener.stats.senders["alice"].unseen == 3


@pytest.mark.audit("A21", "R8")
def test_the_end_of_a_stream_is_missed_only_by_the_next(world, bob):
    """I drop the last ones, or everything: no receiver can notice before something comes."""
    alice = world.sealer()
    assert bob.offer(alice.seal(b"0")) == DELIVERED
    dropped = [alice.seal(b"") for _ in range(5)]
    assert bob.opener.stats.senders["alice"].missing == 0
    assert bob.offer(alice.seal(b"6")) == DELIVERED
    assert bob.delivered[-1].skipped == len(dropped)
    assert bob.opener.stats.senders["alice"].missing == 5


@pytest.mark.audit("A21", "A3")
def test_reordering_within_the_window_loses_nothing(world, bob):
    """I shuffle everything within three seconds: all arrive, each once, none missing."""
    network = Network(world.clock, reorder(3), seed=3)
    alice = world.sealer(to=[BOB])
    for number in range(200):
        network.send(alice.seal(b"%d" % number))
        world.clock.advance(0.01)
    world.clock.advance(3)
    assert network.deliver(bob=bob) == [DELIVERED] * 200
    sequences = [message.sequence for message in bob.delivered]
    assert sequences != sorted(sequences)
    assert sorted(sequences) == list(range(200))
    stats = bob.opener.stats.senders["alice"]
    assert (stats.missing, stats.lost, stats.unseen) == (0, 0, 0)
    assert stats.late > 100


@pytest.mark.audit("A21", "A5")
def test_a_gap_figure_cannot_be_forged_by_the_network(world, bob):
    """I invent sequences, to have Bob report losses that there were not: step 8."""
    data = world.sealer().seal(b"0")
    leap = data[:40] + (10**6).to_bytes(8, "big") + data[48:]
    assert bob.offer(leap) == "bad_signature"
    assert bob.offer(data) == DELIVERED
    stats = dataclasses.asdict(bob.opener.stats.senders["alice"])
    assert all(stats[name] == 0 for name in ("skipped", "missing", "lost", "unseen", "late"))
