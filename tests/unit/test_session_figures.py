"""What was received of a peer by sessions, and what is missing (SPEC 8.9, 18.5)."""

from __future__ import annotations

import pytest
from sides import Pair

from envelope import Policy


def received(pair, sent, order):
    for n in order:
        pair.bob.hear(sent[n])
    return pair.bob.manager.stats.senders["alice"]


@pytest.mark.audit("A21")
def test_messages_that_do_not_come_are_missing_and_then_lost():
    pair = Pair(policy=Policy(window=64)).open()
    before = pair.bob.manager.stats.senders["alice"]
    assert (before.accepted, before.missing, before.lost, before.streams) == (2, 0, 0, 1)
    sent = [pair.alice.manager.send(b"") for _ in range(100)]
    after = received(pair, sent, [0, 3, 2])
    assert (after.accepted, after.messages, after.skipped, after.late) == (5, 5, 2, 1)
    assert (after.missing, after.lost, after.unseen) == (1, 0, 0)
    # 64 behind the newest they are too old to come.
    after = received(pair, sent, [70])
    assert (after.missing, after.lost) == (63, 4)


@pytest.mark.audit("A21")
def test_the_figures_of_a_session_stay_when_it_ends():
    pair = Pair().open()
    sent = [pair.alice.manager.send(b"") for _ in range(5)]
    received(pair, sent, [1, 4])
    pair.advance(181)
    for side in (pair.alice, pair.bob):
        side.tick()
    pair.alice.send(b"again")
    pair.pass_(5)
    after = pair.bob.manager.stats.senders["alice"]
    assert (after.accepted, after.skipped, after.lost, after.missing) == (5, 3, 3, 0)
    assert after.streams == 1


@pytest.mark.audit("A21")
def test_a_message_says_how_many_are_missing_before_it():
    pair = Pair().open()
    sent = [pair.alice.manager.send(b"") for _ in range(6)]
    messages = [pair.bob.manager.receive(sent[n]) for n in (0, 3, 2, 5)]
    assert [message.skipped for message in messages] == [0, 2, 0, 1]
