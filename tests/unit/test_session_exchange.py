"""How sessions come about, are doubted and come again (SPEC 18.8 to 18.12)."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from datetime import UTC, datetime

import pytest
from sides import CONTEXT, Pair
from support import SECOND, START, flip, identity, seeded

from envelope import Policy
from envelope.binding import context_digest
from envelope.session import Pace, Timing, hint, wire
from envelope.session.handshake import Request
from envelope.session.timing import MAX_LINKS

CTX = context_digest(CONTEXT.encode(), ())
BOB = identity("bob")
INITIATION, RESPONSE, CONTROL, HINT = 174, 94, 36, 106


def sizes(messages):
    return [len(data) for data in messages]


def offers(side, data, peer="alice"):
    """Return what an initiation offers to its responder."""
    return Request(side.identity, identity(peer).public, CTX, data, b"2" * 32).offer


def ask(side):
    """Have a side ask for another session now, as one does that doubts."""
    exchange = side.manager._exchange
    exchange.ask(side.link(), side.mono())
    exchange.tables.schedule(side.link(), side.mono())


# A session comes about.


@pytest.mark.parametrize("first", ["alice", "bob"])
def test_either_end_may_begin_and_what_waits_arrives(first):
    pair = Pair()
    side = getattr(pair, first)
    payloads = [b"one", b"two", b"three"]
    assert [side.manager.send(payload) for payload in payloads] == [None] * 3
    assert side.manager.staged == 3
    assert pair.carry() == payloads
    assert side.manager.staged == 0
    for one, other in ((pair.alice, pair.bob), (pair.bob, pair.alice)):
        assert other.hear(one.manager.send(b"more")) == b"more"
    assert pair.alice.current.our_id == pair.bob.current.their_id


def test_where_nothing_waits_the_initiator_says_that_it_uses_the_session():
    pair = Pair().open()
    ask(pair.alice)
    assert pair.bob.hear(pair.alice.out()[0]) is None
    old = pair.bob.current
    assert pair.alice.hear(pair.bob.out()[0]) is None
    (control,) = pair.alice.out()
    assert (len(control), control[5]) == (CONTROL, wire.CONTROL)
    assert pair.bob.current is old
    assert pair.bob.hear(control) is None
    assert pair.bob.link().previous is old
    assert pair.bob.current is not old


@pytest.mark.audit("A3")
def test_the_responder_does_not_send_by_a_session_before_it_has_heard_on_it():
    pair = Pair()
    (initiation,) = pair.alice.send()
    pair.bob.hear(initiation)
    pair.bob.out()
    assert pair.bob.manager.send(b"answer") is None
    assert pair.bob.out() == []
    assert pair.bob.current is None


def test_what_comes_by_the_session_before_is_still_heard():
    pair = Pair().open()
    late = pair.alice.manager.send(b"late")
    too_late = pair.alice.manager.send(b"too late")
    for _ in range(2):
        ask(pair.alice)
        pair.carry()
        assert pair.alice.manager.staged == 0
        if late:
            assert pair.bob.hear(late) == b"late"
            late = None
    assert pair.bob.hear(too_late) == "unknown_session"


def test_a_responder_whose_session_stays_unused_asks_itself():
    pair = Pair()
    pair.bob.hear(pair.alice.send()[0])
    pair.bob.out()  # The response is lost.
    assert pair.bob.manager.send(b"mine") is None
    pair.mono.advance(0.249)
    assert pair.bob.tick() == []
    pair.mono.advance(0.001)
    assert sizes(pair.bob.tick()) == [INITIATION]


# Repetitions.


def test_an_initiation_is_made_anew_each_time_and_stamped_later():
    pair = Pair()
    seen = pair.alice.send()
    for _ in range(5):
        pair.mono.now = pair.alice.manager.next_tick()
        seen += pair.alice.tick()
    made = [offers(pair.bob, data) for data in seen]
    assert [offer.sequence for offer in made] == list(range(6))
    assert len({offer.session_id for offer in made}) == 6
    assert len({offer.stream for offer in made}) == 1
    assert len({data[38:70] for data in seen}) == 6
    # The wall clock stood still.
    assert [offer.sent_at for offer in made] == [START + n for n in range(6)]
    assert len(pair.alice.manager._tables.asked) == 1


def test_nobody_answers_for_90_seconds_and_what_waited_is_dropped_counted_and_logged(caplog):
    pair = Pair()
    began = pair.mono()
    asked = pair.alice.send(b"one") + pair.alice.send(b"two")
    while (due := pair.alice.manager.next_tick()) is not None:
        pair.mono.now = due
        asked += pair.alice.tick()
    assert pair.mono.now == began + 90 * SECOND
    assert sizes(asked) == [INITIATION] * len(asked)
    # 0.25, 0.5, 1 and 2 s, then 4 s, and each up to a quarter more.
    assert 4 + (90 - 4.7) / 5 <= len(asked) <= 5 + (90 - 3.75) / 4
    assert (pair.alice.manager.staged, pair.alice.manager.dropped) == (0, 2)
    assert pair.alice.manager.links == []
    (line,) = caplog.messages
    assert (
        line == "no session with 'bob': no answer in 90 s; 2 messages that waited for it are lost"
    )


def test_giving_up_leaves_the_session_that_there_is():
    pair = Pair().open()
    pair.advance(121)
    assert sizes(pair.alice.send())[0] == INITIATION
    for _ in range(58):
        pair.advance(1)
        pair.alice.tick()
    assert pair.alice.current is not None
    pair.advance(40)
    pair.alice.tick()
    assert pair.alice.link() is None


@pytest.mark.audit("A19")
def test_a_clock_that_was_an_hour_ahead_and_is_set_back_does_not_end_sessions():
    pair = Pair()
    pair.alice.wall.advance(3600)
    pair.alice.send()
    for _ in range(3):
        pair.mono.now = pair.alice.manager.next_tick()
        (initiation,) = pair.alice.tick()
        assert pair.bob.hear(initiation) == "future"
    pair.alice.wall.advance(-3600)
    assert pair.pass_(6) == [b"payload"]


@pytest.mark.audit("A19")
def test_a_clock_that_is_set_back_a_little_leaves_stamps_in_order():
    pair = Pair()
    (first,) = pair.alice.send()
    pair.alice.wall.advance(-0.9)
    pair.mono.advance(1)
    (second,) = pair.alice.tick()
    assert offers(pair.bob, second).sent_at == offers(pair.bob, first).sent_at + 1
    pair.alice.wall.advance(-0.1)
    pair.mono.advance(1)
    (third,) = pair.alice.tick()
    assert offers(pair.bob, third).sent_at == pair.alice.wall.now == START - SECOND


@pytest.mark.audit("A3")
def test_an_initiation_behind_one_that_was_granted_takes_nothing_away():
    pair = Pair()
    (first,) = pair.alice.send()
    pair.advance(0.4)
    (second,) = pair.alice.tick()
    assert pair.bob.hear(second) is None
    before = pair.bob.state()
    assert pair.bob.hear(first) == "too_old"
    assert pair.bob.state() == before
    assert pair.carry() == [b"payload"]
    # On another link it is as good as any.
    assert pair.bob.hear(first, address="other") is None


# Crossing (18.10).


def test_of_two_that_cross_one_session_remains():
    for seed in range(12):
        pair = Pair(random=seeded(seed))
        pair.bob.options["random"] = seeded(1000 + seed)
        pair.bob.begin()
        (one,), (two,) = pair.alice.send(b"from alice"), pair.bob.send(b"from bob")
        alice_wins = one[38:70] < two[38:70]
        assert pair.alice.hear(two) == ("policy" if alice_wins else None)
        assert pair.bob.hear(one) == (None if alice_wins else "policy")
        assert sorted(pair.carry()) == [b"from alice", b"from bob"]
        assert pair.alice.current.is_initiator is alice_wins
        assert pair.bob.current.is_initiator is not alice_wins
        assert len(pair.alice.manager._channels) == len(pair.bob.manager._channels) == 1


def test_an_initiation_that_is_a_second_old_yields_whatever_its_key():
    pair = Pair(timing=Timing(retry=1, retry_most=4))
    (one,), (two,) = pair.alice.send(), pair.bob.send()
    winner, loser = (pair.alice, two) if one[38:70] < two[38:70] else (pair.bob, one)
    before = winner.state()
    assert winner.hear(loser) == "policy"
    assert winner.state() == before
    pair.mono.advance(4)
    assert winner.hear(loser) == "policy"
    pair.mono.now += 1
    assert winner.hear(loser) is None
    assert winner.link().initiation is None


def test_both_yield_and_messages_arrive_all_the_same():
    pair = Pair(timing=Timing(retry=1, retry_most=4))
    (one,), (two,) = pair.alice.send(b"a"), pair.bob.send(b"b")
    pair.mono.advance(4.1)
    assert (pair.alice.hear(two), pair.bob.hear(one)) == (None, None)
    assert pair.carry() == []
    assert sorted(pair.pass_(5)) == [b"a", b"b"]


@pytest.mark.parametrize("way", [0.3, 1.1, 1.5, 1.9])
def test_two_that_begin_together_far_from_each_other_have_a_session_soon(way):
    pair = Pair()
    end = pair.mono() + 30 * SECOND
    transit, heard = deque(), []

    def dispatch(side):
        transit.extend((pair.mono() + round(way * SECOND), side, data) for data in side.out())

    for side in (pair.alice, pair.bob):
        assert side.manager.send(b"together") is None
        dispatch(side)
    while len(heard) < 2:
        due = [transit[0][0]] if transit else []
        due += [t for side in (pair.alice, pair.bob) if (t := side.manager.next_tick())]
        pair.advance((max(min(due), pair.mono()) - pair.mono()) / SECOND)
        assert pair.mono() < end, "they yield to each other for ever"
        while transit and transit[0][0] <= pair.mono():
            _, sender, data = transit.popleft()
            receiver = pair.other(sender)
            if isinstance(receiver.hear(data), bytes):
                heard.append(receiver.name)
            dispatch(receiver)
        for side in (pair.alice, pair.bob):
            side.manager.tick()
            dispatch(side)
    assert sorted(heard) == ["alice", "bob"]


# Hints and doubt.


def lost():
    """Return a pair of which Bob has begun another life, and Alice's message to the old one."""
    pair = Pair().open()
    pair.advance(1)
    pair.bob.begin()
    return pair, pair.alice.manager.send(b"lost")


def test_a_hint_brings_about_another_session_at_once():
    pair, data = lost()
    assert pair.bob.hear(data) == "unknown_session"
    (made,) = pair.bob.out()
    assert hint.is_genuine(made, BOB.public, CTX)
    stream = pair.alice.current.our_stream
    assert pair.alice.hear(made) is None
    assert list(pair.alice.manager.lost) == [stream]
    assert not pair.alice.manager.is_open()
    assert pair.alice.manager.send(b"staged") is None
    assert pair.carry() == [b"staged"]
    assert pair.alice.manager.is_open()


@pytest.mark.audit("A3")
def test_a_hint_takes_nothing_away():
    pair = Pair().open()
    data = pair.alice.manager.send(b"lost")
    pair.advance(1)
    session = pair.alice.current
    # Another process with Bob's identity has not this session, and says so.
    assert pair.alice.hear(hint.make(BOB, CTX, data)) is None
    assert pair.alice.current is session
    pair.alice.out()
    assert pair.alice.manager.send(b"staged") is None
    assert pair.alice.hear(pair.bob.manager.send(b"alive")) == b"alive"
    # It was heard on that very session: what waited goes by it.
    (staged,) = pair.alice.out()
    assert pair.bob.hear(staged) == b"staged"
    assert pair.bob.hear(pair.alice.manager.send(b"more")) == b"more"


def test_what_is_heard_after_a_hint_ends_the_doubt_where_nothing_waits():
    pair = Pair().open()
    data = pair.alice.manager.send(b"lost")
    pair.alice.hear(hint.make(BOB, CTX, data))
    assert pair.alice.link().is_lost
    assert pair.alice.hear(pair.bob.manager.send(b"alive")) == b"alive"
    assert not pair.alice.link().is_lost
    pair.alice.out()
    assert pair.alice.manager.send(b"by the same") is not None


@pytest.mark.audit("A16", "E3")
def test_a_hint_that_is_repeated_is_noted_and_logged_once_and_asks_no_more_than_retries(caplog):
    caplog.set_level(logging.INFO)
    pair, data = lost()
    pair.bob.hear(data)
    (made,) = pair.bob.out()
    asked = []
    for _ in range(1000):
        assert pair.alice.hear(made) is None
        asked += pair.alice.out()
        pair.mono.advance(0.001)
    assert sizes(asked) == [INITIATION] * 4
    assert len(pair.alice.manager.lost) == 1
    ours = [line.message for line in caplog.records if line.name == "envelope.session"]
    assert ours == ["'bob' has lost its session; this end asks for another"]


def test_a_hint_about_the_session_before_is_about_nothing():
    pair, data = lost()
    pair.bob.hear(data)
    (made,) = pair.bob.out()
    assert pair.alice.hear(made) is None
    pair.carry()
    before = pair.alice.state()
    pair.mono.advance(1)
    assert pair.alice.hear(made) == "unknown_session"
    assert pair.alice.state() == before


@pytest.mark.audit("A16")
def test_32_hints_are_sent_at_once_and_8_a_second_and_nothing_answers_one():
    pair, data = lost()

    def hints(count):
        for n in range(count):
            pair.bob.hear(data[:12] + n.to_bytes(8, "big") + data[20:])
        return pair.bob.out()

    first = hints(100)
    assert sizes(first) == [HINT] * 32
    pair.advance(1)
    assert sizes(hints(100)) == [HINT] * 8
    for made in first:
        pair.alice.hear(made)
    assert pair.alice.out() == []


@pytest.mark.audit("A3")
def test_a_session_that_comes_about_is_not_said_to_be_unknown_meanwhile():
    pair = Pair()
    (initiation,) = pair.alice.send()
    pair.bob.hear(initiation)
    (response,) = pair.bob.out()
    # A response shows the id that it answers. Whoever holds it back could have Alice sign now
    # that she has no such session, and show that to Bob once she has.
    early = wire.start(wire.DATA) + bytes(6) + response[6:14] + bytes(16)
    assert pair.alice.hear(early) == "unknown_session"
    assert pair.alice.out() == []
    assert pair.alice.hear(response) is None
    assert sizes(pair.alice.out())[0] > CONTROL


def test_a_hint_while_a_session_waits_to_be_used_asks_for_none():
    pair, data = lost()
    pair.bob.hear(data)
    (made,) = pair.bob.out()
    (initiation,) = pair.bob.send(b"mine")
    assert pair.alice.hear(initiation) is None
    assert sizes(pair.alice.out()) == [RESPONSE]
    assert pair.alice.hear(made) is None
    assert pair.alice.out() == []


def test_silence_is_doubted_after_15_seconds_and_only_after_data():
    pair = Pair().open()
    pair.bob.begin()  # Says nothing, since nothing reaches it.
    pair.advance(1)
    pair.alice.manager.send(b"lost")
    pair.alice.manager.send(b"lost")
    pair.mono.advance(14.99)
    assert INITIATION not in sizes(pair.alice.tick())
    pair.mono.advance(0.01)
    assert sizes(pair.alice.tick()) == [INITIATION]


def test_what_is_answered_is_not_doubted():
    pair = Pair().open()
    for _ in range(11):
        assert pair.bob.hear(pair.alice.manager.send(b"one way")) == b"one way"
        pair.pass_(9.9)
        assert pair.alice.link().initiation is None
    assert len(pair.alice.manager._channels) == 1


def test_what_was_heard_is_confirmed_after_10_seconds_if_nothing_else_was_sent():
    pair = Pair().open()
    pair.bob.link().owed_since = 0
    pair.bob.hear(pair.alice.manager.send(b"x"))
    pair.mono.advance(9.99)
    assert pair.bob.tick() == []
    pair.mono.advance(0.01)
    (control,) = pair.bob.tick()
    assert (len(control), control[5]) == (CONTROL, wire.CONTROL)
    assert pair.alice.hear(control) is None
    pair.mono.advance(20)
    assert pair.bob.tick() == []  # Control is not confirmed, nor does it wait for anything.
    assert pair.alice.manager._channels[pair.alice.current.our_id][1].unanswered_since == 0


def test_an_end_that_answers_confirms_nothing_besides():
    pair = Pair().open()
    pair.bob.hear(pair.alice.manager.send(b"x"))
    pair.alice.hear(pair.bob.manager.send(b"y"))
    assert pair.bob.link().owed_since == 0
    assert pair.alice.link().unanswered_since == 0


# Times.


def test_whoever_sends_asks_for_new_keys_after_two_minutes():
    pair = Pair().open()
    pair.advance(119.99)
    assert sizes(pair.alice.send(b"")) == [36]
    pair.advance(0.01)
    initiation, data = pair.alice.send(b"")
    assert sizes([initiation, data]) == [INITIATION, 36]
    assert sizes(pair.alice.send(b"")) == [36]  # It is out.
    # The other end waits 15 seconds more.
    assert sizes(pair.bob.send(b"")) == [36]
    pair.advance(15)
    assert sizes(pair.bob.send(b"")) == [INITIATION, 36]


def test_whoever_granted_a_session_just_now_does_not_ask_for_another():
    pair = Pair().open()
    pair.advance(136)
    assert pair.bob.hear(pair.alice.send(b"")[0]) is None
    pair.bob.out()
    assert sizes(pair.bob.send(b"")) == [36]
    pair.advance(0.25)
    assert sizes(pair.bob.send(b"")) == [INITIATION, 36]


def test_sessions_that_are_used_last_as_long_as_they_are_and_lose_nothing():
    pair = Pair().open()
    said, heard = [], []
    for n in range(400):
        side = (pair.alice, pair.bob)[n % 2]
        said.append(str(n).encode())
        data = side.manager.send(said[-1])
        assert data is not None
        heard.append(pair.other(side).hear(data))
        heard += pair.carry() + pair.pass_(2.5)
    assert heard == said
    assert pair.alice.manager.stats.senders["bob"].lost == 0


@pytest.mark.audit("K6")
@pytest.mark.parametrize("first", [0, 1])
def test_a_session_ends_after_three_minutes_and_nothing_is_sent_or_accepted(first):
    pair = Pair().open()
    sides = (pair.alice, pair.bob)
    one, other = sides[first], sides[1 - first]
    data = one.manager.send(b"late")
    keys = one.current._send_key
    assert len(keys) == 32
    channel = one.current
    pair.advance(180)
    assert other.hear(data) == "unknown_session"
    assert one.manager.send(b"staged") is None
    one.tick()
    assert one.link().slots() == [None, None, None]
    assert channel._send_key == channel._receive_key == b""


def test_the_initiators_session_ends_first_since_it_is_older():
    pair = Pair()
    (initiation,) = pair.alice.send()
    pair.advance(0.2)
    pair.bob.hear(initiation)
    (response,) = pair.bob.out()
    pair.advance(0.1)
    pair.alice.hear(response)
    pair.carry()
    assert pair.alice.current.ends_at == pair.bob.current.ends_at - SECOND // 5


@pytest.mark.audit("A16")
@pytest.mark.parametrize("pace", Pace)
def test_a_tick_comes_to_an_end_whatever_was_due_when_the_session_ended(pace):
    # A confirmation and silence are due at a link that has no session to speak by.
    pair = Pair().open()
    for side in (pair.alice, pair.bob):
        side.manager._exchange._end = dataclasses.replace(side.manager._end, pace=pace)
    pair.advance(172)
    pair.bob.hear(pair.alice.manager.send(b"x"))
    pair.alice.hear(pair.bob.manager.send(b"y"))
    pair.bob.hear(pair.alice.manager.send(b"z"))
    link = pair.alice.link()
    if link.initiation is None:
        ask(pair.alice)
    for _ in range(60):
        pair.mono.advance(1)
        for side in (pair.alice, pair.bob):
            side.tick()
            due = side.manager.next_tick()
            assert due is None or due > pair.mono()


@pytest.mark.audit("A16")
def test_a_peer_that_dies_for_a_while_leaves_neither_a_loop_nor_a_leak():
    pair = Pair().open()
    for n in range(400):
        pair.alice.manager.send(bytes(8))
        pair.advance(1)
        pair.alice.tick()
        due = pair.alice.manager.next_tick()
        assert due is None or due > pair.mono()
        if n % 40 == 0:
            assert len(pair.alice.manager._tables._wakes) <= 66
    pair.bob.begin()
    assert pair.pass_(6)
    assert pair.bob.hear(pair.alice.manager.send(b"alive")) == b"alive"


# Links (18.2, 18.12).


def test_each_link_has_a_session_of_its_own():
    pair = Pair()
    for address in ("one", "two"):
        (initiation,) = pair.alice.send(address=address)
        pair.bob.hear(initiation, address=address)
        (response,) = pair.bob.out()
        pair.alice.hear(response, address=address)
        (data,) = pair.alice.out()
        assert pair.bob.hear(data, address=address) == b"payload"
    one, two = pair.bob.link("one"), pair.bob.link("two")
    assert one.current.our_id != two.current.our_id
    data = pair.bob.manager.send(b"to two", address="two")
    assert data[12:20] == two.current.their_id


def test_where_no_link_can_be_told_an_initiation_makes_one_by_its_stream():
    pair = Pair()
    (initiation,) = pair.alice.send()
    stream = offers(pair.bob, initiation).stream
    pair.bob.hear(initiation, address=None)
    assert [link.address for link in pair.bob.manager.links] == [stream]
    (response,) = pair.bob.out()
    pair.alice.hear(response)
    (data,) = pair.alice.out()
    assert pair.bob.hear(data, address=None) == b"payload"
    assert pair.bob.link(stream).current is not None


@pytest.mark.audit("A16")
def test_a_peer_has_1024_links_and_the_one_heard_longest_ago_goes(caplog):
    pair = Pair()
    for n in range(MAX_LINKS + 1):
        (initiation,) = pair.alice.send(b"x", address=n)
        assert pair.bob.hear(initiation, address=n) is None
        (response,) = pair.bob.out()
        pair.alice.hear(response)
        for data in pair.alice.out():
            pair.bob.hear(data, address=n)
        pair.advance(0.2)
        if n == 500:  # It is heard again.
            pair.bob.hear(pair.alice.manager.send(b"x", address=0), address=0)
    for side, gone in ((pair.alice, 0), (pair.bob, 1)):
        assert len(side.manager.links) == len(side.manager._channels) == MAX_LINKS
        assert {0, 1, 2} - {link.address for link in side.manager.links} == {gone}
    assert caplog.text.count("another link of this peer took its place") == 2


def test_a_link_without_anything_is_forgotten():
    pair = Pair().open()
    pair.pass_(200)
    for side in (pair.alice, pair.bob):
        assert side.manager.links == []
        assert side.manager._channels == side.manager._tables.by_peer == {}
        assert side.manager.next_tick() is None


def test_the_newest_message_moves_a_link_and_nothing_else_does():
    pair = Pair().open()
    sent = [pair.alice.manager.send(bytes([n])) for n in range(4)]
    assert pair.bob.hear(sent[1], address="new") == b"\1"
    assert pair.bob.link("new").current is not None
    assert pair.bob.link() is None
    # One that was held back, one that is forged, one that comes again.
    assert pair.bob.hear(sent[0], address="attacker") == b"\0"
    assert pair.bob.hear(flip(sent[2], 30), address="attacker") == "unseal"
    assert pair.bob.hear(sent[1], address="attacker") == "replayed"
    assert pair.bob.hear(sent[2], address=None) == b"\2"
    assert [link.address for link in pair.bob.manager.links] == ["new"]


def test_a_link_does_not_move_to_where_another_is():
    pair = Pair().open()
    pair.bob.manager.send(b"x", address="other")
    pair.bob.out()
    assert pair.bob.hear(pair.alice.manager.send(b"y"), address="other") == b"y"
    assert {link.address for link in pair.bob.manager.links} == {(), "other"}
    assert pair.bob.link().current is not None


# Trust.


def expired(side, name):
    side.permit(name, not_after=datetime.fromtimestamp((START + SECOND) / SECOND, UTC))
    side.wall.advance(2)
    side.mono.advance(0.1)


@pytest.mark.audit("A13")
@pytest.mark.parametrize(
    "end",
    [
        lambda side: side.permit("bob", revoked=True),
        lambda side: side.permit("bob", contexts=["invoices"]),
        lambda side: side.permit("carol"),
        lambda side: expired(side, "bob"),
    ],
    ids=["revoked", "context", "gone", "expired"],
)
@pytest.mark.parametrize("is_asking", [False, True])
def test_what_a_peer_may_not_have_any_more_ends_at_once(end, is_asking, caplog):
    pair = Pair()
    if is_asking:
        (initiation,) = pair.alice.send(b"one")
        pair.alice.send(b"two")
        pair.bob.hear(initiation)
        (late,) = pair.bob.out()
    else:
        pair.open()
        late = pair.bob.manager.send(b"late")
    end(pair.alice)
    assert pair.alice.hear(late) == "unknown_session"
    pair.alice.out()
    tables = pair.alice.manager._tables
    assert pair.alice.manager.links == []
    assert tables.channels == tables.asked == tables.links == tables.by_peer == {}
    assert pair.alice.manager.staged == 0
    assert pair.alice.manager.dropped == (2 if is_asking else 0)
    assert ("2 messages" if is_asking else "0 messages") in caplog.text
    pair.advance(300)
    assert pair.alice.tick() == []
    assert pair.alice.manager.next_tick() is None


@pytest.mark.audit("A13")
def test_a_peer_that_is_permitted_again_has_another_session():
    pair = Pair().open()
    pair.alice.permit("bob", revoked=True)
    assert pair.alice.tick() == []
    pair.alice.permit("bob")
    assert pair.alice.manager.send(b"again") is None
    assert pair.carry() == [b"again"]


def test_a_peer_that_is_renamed_keeps_its_session():
    pair = Pair().open()
    pair.alice.permit("bob", topics=["t"])
    data = pair.bob.manager.send(b"x", bound=[b"topic"])
    message = pair.alice.manager.receive(data, bound=[b"topic"])
    assert message.sender.topics == (b"t",)


@pytest.mark.audit("A13", "A19")
def test_dates_are_looked_at_ten_times_a_second():
    pair = Pair().open()
    pair.alice.permit("bob", not_after=datetime.fromtimestamp(START / SECOND + 60, UTC))
    pair.alice.hear(pair.bob.manager.send(b"x"))
    pair.alice.wall.advance(60)
    pair.mono.now += SECOND // 10
    assert pair.alice.hear(pair.bob.manager.send(b"x")) == "unknown_session"


# What carries the sessions (18.13).


def test_an_end_that_only_answers_never_asks():
    pair = Pair()
    pair.bob.manager.attach(Pace.ANSWERS)
    assert pair.bob.manager._end.pace is Pace.ANSWERS
    with pytest.raises(ValueError, match="only answers"):
        pair.bob.manager.send(b"x")
    assert pair.bob.manager.links == []
    pair.open()
    pair.advance(140)
    data = pair.bob.manager.send(b"x")
    assert pair.bob.out() == []
    pair.advance(1)
    assert pair.bob.hear(hint.make(identity("alice"), CTX, data)) is None
    assert pair.bob.out() == []
    pair.advance(180)
    with pytest.raises(ValueError, match="only answers"):
        pair.bob.manager.send(b"x")


def test_an_end_that_sends_in_turn_asks_first_where_its_session_is_late():
    pair = Pair()
    pair.alice.manager.attach(Pace.ASKS)
    pair.open()
    assert pair.alice.manager.send(b"") is not None
    pair.advance(121)
    assert pair.alice.manager.send(b"waits") is None
    assert pair.carry() == [b"waits"]


@pytest.mark.audit("A24", "R7")
def test_an_end_that_sends_in_turn_asks_first_where_it_heard_nothing_for_long():
    """No hint has to tell it: those can be kept from it, or used up by strangers."""
    pair = Pair()
    pair.alice.manager.attach(Pace.ASKS)
    pair.open()
    assert pair.alice.manager.send(b"lost") is not None
    pair.bob.begin()
    pair.advance(14.9)
    assert pair.alice.tick() == []
    assert not pair.alice.link().is_lost
    pair.advance(0.1)
    assert pair.alice.tick() == []
    assert pair.alice.manager.send(b"waits") is None
    assert pair.carry() == [b"waits"]
    assert pair.alice.manager.send(b"goes") is not None


def test_an_end_that_sends_in_turn_goes_on_once_it_hears_its_slow_peer():
    pair = Pair()
    pair.alice.manager.attach(Pace.ASKS)
    pair.open()
    asked = pair.alice.manager.send(b"slow")
    pair.advance(20)
    assert pair.alice.tick() == []
    assert pair.bob.hear(asked) == b"slow"
    assert pair.alice.hear(pair.bob.manager.send(b"done")) == b"done"
    assert pair.alice.manager.send(b"goes") is not None


@pytest.mark.parametrize("pace", [Pace.ASKS, Pace.ANSWERS])
def test_who_speaks_in_turn_neither_confirms_nor_doubts(pace):
    pair = Pair().open()
    side = pair.bob
    side.manager._exchange._end = dataclasses.replace(side.manager._end, pace=pace)
    side.manager.send(b"x")
    side.hear(pair.alice.manager.send(b"y"))
    for _ in range(40):
        pair.advance(1)
        assert side.tick() == []


# Contexts and policies.


@pytest.mark.audit("A5")
def test_ends_in_different_contexts_have_no_session():
    pair = Pair()
    pair.bob.options["context"] = "invoices"
    for side, other in ((pair.alice, "bob"), (pair.bob, "alice")):
        side.permit(other, contexts=["*"])
    pair.bob.begin()
    (initiation,) = pair.alice.send()
    assert pair.bob.hear(initiation) == "unseal"
    assert pair.bob.out() == []


@pytest.mark.audit("A3", "A18")
def test_sessions_of_a_former_life_open_nothing_in_the_next():
    pair = Pair().open()
    recorded = []
    for n in range(5):
        recorded += pair.alice.send(str(n).encode())
    ask(pair.alice)
    (initiation,) = pair.alice.out()
    recorded.append(initiation)
    pair.bob.begin()
    heard = [pair.bob.hear(data) for data in recorded * 2]
    assert heard == ["unknown_session"] * 5 + [None] + ["unknown_session"] * 5 + ["replayed"]
    assert pair.bob.current is None
    # What was granted to the recording has no peer; it goes when its time is over.
    pair.bob.out()
    assert pair.bob.manager.send(b"mine") is None
    assert pair.pass_(5) == [b"mine"]


@pytest.mark.parametrize("window", [64, 4096])
def test_the_window_is_that_of_the_policy(window):
    pair = Pair(policy=Policy(window=window)).open()
    sent = [pair.alice.manager.send(b"") for _ in range(window + 1)]
    assert pair.bob.hear(sent[-1]) == b""
    assert pair.bob.hear(sent[0]) == "too_old"
    assert pair.bob.hear(sent[1]) == b""
