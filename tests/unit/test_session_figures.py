"""What was received of a peer by sessions, and what is missing (SPEC 8.9, 18.5)."""

from __future__ import annotations

import pytest
from sides import Pair

from envelope import Policy
from envelope.replay import Gaps
from envelope.session.figures import Figures


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


@pytest.mark.audit("A21")
def test_every_figure_counts_the_sessions_that_are_there_and_those_that_were():
    here, gone = Pair(policy=Policy(window=64)), Pair(policy=Policy(window=64))
    for pair, order in ((here, [1, 4, 3]), (gone, [70, 69, 2])):
        pair.alice.manager.send(b"")
        pair.bob.hear(pair.alice.out()[0])
        pair.alice.hear(pair.bob.out()[0])
        pair.alice.out()  # The message of counter 0 is lost.
        sent = [pair.alice.manager.send(b"") for _ in range(70)]
        received(pair, [None, *sent], order)
    channels = [here.bob.current]
    figures = Figures(lambda: channels)
    # Skipped are 0, then 2 and 3, of which 3 came late.
    assert figures.gaps() == Gaps(1, 3, 3, 1, 2, 0, 0)
    # Of the other nothing can come any more: of 71, 69 are lost; 2 was behind the window.
    figures.close(gone.bob.current)
    assert figures.gaps() == Gaps(1, 5, 73, 2, 2, 69, 0)
    channels.clear()
    assert figures.gaps() == Gaps(0, 2, 70, 1, 0, 69, 0)
