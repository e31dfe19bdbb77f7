"""What each step of the exchange sends, keeps and says (SPEC 18.8 to 18.12)."""

from __future__ import annotations

import pytest
from sides import CONTEXT, Pair, Side, note_statics
from support import SECOND, START, flip, identity

from envelope import TrustStore
from envelope.binding import context_digest
from envelope.errors import PolicyError, RejectedError
from envelope.session import Datagram, Pace, handshake, hint, wire
from envelope.session.handshake import begin
from envelope.session.timing import REJECT_AFTER
from envelope.session.wire import Offer

ALICE, BOB, CAROL = map(identity, ("alice", "bob", "carol"))
CTX = context_digest(CONTEXT.encode(), ())
STREAM = b"t" * 16


def refused(side, data):
    """Return the error by which a side refuses a message."""
    with pytest.raises(RejectedError) as caught:
        side.manager.receive(data)
    return caught.value


def granted():
    """Return a pair of which Bob has granted what Alice asked for; the response is on its way."""
    pair = Pair()
    pair.bob.hear(pair.alice.send()[0])
    return pair, pair.bob.out()[0]


@pytest.fixture
def multiplied(monkeypatch):
    """Return the keys that static keys are multiplied with, as they come."""
    return note_statics(monkeypatch)


# Where it goes.


def test_all_that_is_said_of_a_session_goes_by_its_link_and_without_frames():
    pair = Pair()
    alice, bob = pair.alice.manager, pair.bob.manager
    alice.send(b"x", bound=[b"t"], address="there")
    (initiation,) = alice.outbox
    assert initiation == Datagram("there", (), initiation.data)
    alice.outbox.clear()
    bob.receive(initiation.data, address="back")
    (response,) = bob.outbox
    assert response == Datagram("back", (), response.data)
    bob.outbox.clear()
    alice.receive(response.data, address="there")
    (data,) = alice.outbox
    assert data == Datagram("there", (b"t",), data.data)
    alice.outbox.clear()
    alice._exchange.send_control(pair.alice.link("there"))
    (control,) = alice.outbox
    assert control == Datagram("there", (), control.data)
    assert pair.bob.hear(flip(data.data, 12), bound=[b"t"], address="else") == "unknown_session"
    (made,) = bob.outbox
    assert made == Datagram("else", (), made.data)


# What is left.


def test_what_waited_is_sent_as_it_was_to_be_and_waits_for_an_answer():
    pair = Pair()
    sealed = []
    pair.alice.manager.send(b"reply", in_reply_to=bytes(32), on_sealed=sealed.append)
    pair.bob.hear(pair.alice.out()[0])
    pair.mono.advance(0.1)
    link = pair.alice.link()
    link.owed_since = 5
    pair.alice.hear(pair.bob.out()[0])
    (data,) = pair.alice.out()
    assert data[5] == wire.REPLY
    assert sealed == [link.current.sealed(data)]
    assert (link.owed_since, link.unanswered_since) == (0, pair.mono())


def test_what_was_unanswered_before_stays_so_since_then():
    pair = Pair().open()
    link = pair.alice.link()
    link.is_lost = True
    pair.alice.manager.send(b"x")
    link.unanswered_since = 7
    pair.mono.advance(1)
    pair.alice.manager._exchange.found(link, pair.mono())
    assert link.unanswered_since == 7
    assert link.staged == ()


def test_what_waits_is_not_sent_by_a_session_that_is_over():
    pair, response = granted()
    link = pair.alice.link()
    pair.alice.hear(response)
    pair.alice.out()
    link.is_lost = True
    pair.alice.manager.send(b"x")
    pair.alice.out()
    pair.alice.manager._exchange.send_staged(link, link.current.ends_at)
    assert (pair.alice.out(), len(link.staged)) == ([], 1)
    pair.alice.manager._exchange.send_staged(link, link.current.ends_at - 1)
    assert (len(pair.alice.out()), link.staged) == (1, ())


def test_the_last_counter_ends_what_is_sent_at_once():
    pair = Pair().open()
    link = pair.alice.link()
    link.is_lost = True
    for _ in range(3):
        pair.alice.manager.send(b"x")
    pair.alice.out()
    link.current._take = iter((REJECT_AFTER - 2, REJECT_AFTER - 1)).__next__
    # In the microsecond of its birth, which is its end then.
    assert link.current.born == pair.mono()
    pair.alice.manager._exchange.found(link, pair.mono())
    assert (len(pair.alice.out()), len(link.staged)) == (2, 1)


def test_the_last_counter_ends_a_session_also_when_it_goes_to_say_that_this_end_is_alive():
    pair = Pair().open()
    link = pair.alice.link()
    pair.alice.hear(pair.bob.manager.send(b"x"))
    link.current._take = iter((REJECT_AFTER - 1,)).__next__
    pair.advance(10)
    assert [len(data) for data in pair.alice.tick()] == [36]
    assert link.current is None
    due = pair.alice.manager.next_tick()
    assert due is None or due > pair.mono()


def test_a_session_begins_when_the_other_end_says():
    pair = Pair()
    pair.alice.wall.advance(1)
    pair.bob.wall.advance(1.5)
    pair.bob.hear(pair.alice.send()[0])
    assert pair.bob.link().next.began_at == START + SECOND
    pair.alice.hear(pair.bob.out()[0])
    assert pair.alice.current.began_at == START + SECOND * 3 // 2


def test_a_link_that_an_initiation_made_was_heard_now():
    pair, _ = granted()
    assert pair.bob.link().heard_at == pair.mono()
    pair.mono.advance(0.1)
    pair.alice.hear(granted_again(pair))
    assert pair.alice.link().heard_at == pair.mono()


def granted_again(pair):
    """Have Alice's initiation repeated and granted; return the response."""
    pair.alice.manager._exchange.ask(pair.alice.link(), pair.mono())
    pair.bob.hear(pair.alice.out()[0])
    return pair.bob.out()[0]


def test_control_and_confirmations_leave_nothing_to_confirm():
    pair = Pair().open()
    link = pair.alice.link()
    link.owed_since = 5
    pair.alice.manager._exchange.send_control(link)
    assert link.owed_since == 0


def test_streams_of_lost_sessions_are_kept_up_to_1024():
    assert Pair().alice.manager.lost.maxlen == 1024


def test_whom_to_believe_is_known_from_the_start():
    pair = Pair()
    exchange = pair.alice.manager._exchange
    assert exchange.snapshot is pair.alice.trust.snapshot
    assert exchange.peer(BOB.key_id).name == "bob"
    assert exchange.name_of(BOB.key_id) == "bob"
    assert exchange.name_of(CAROL.key_id) is None


# What is taken from randomness and clocks.


def test_an_initiation_takes_an_id_a_key_and_a_byte_of_chance():
    side, asked = Side("alice", "bob"), []

    def random(size):
        asked.append(size)
        return bytes([len(asked)]) * size

    side.options["random"] = random
    side.begin()
    asked.clear()
    side.send()
    assert asked == [8, 32, 1]
    assert side.link().initiation.session_id == b"\1" * 8
    times = side.manager._end.times
    assert side.link().repeat_at == side.mono() + times.retry + times.retry * 3 // 1024


@pytest.mark.audit("A19")
@pytest.mark.parametrize(("step", "sent_at"), [(SECOND, START - SECOND), (SECOND - 1, START + 1)])
def test_a_stamp_is_less_than_a_second_ahead_of_the_clock(step, sent_at):
    pair = Pair()
    pair.alice.send()
    pair.alice.wall.now -= step
    pair.alice.manager._exchange.ask(pair.alice.link(), pair.mono())
    (again,) = pair.alice.out()
    request = handshake.Request(BOB, ALICE.public, CTX, again, b"2" * 32)
    assert request.offer.sent_at == sent_at


# What is calculated once.


def test_of_static_keys_nothing_is_calculated_twice_until_the_peers_change(multiplied):
    pair = Pair()
    pair.alice.send()
    for _ in range(3):
        granted_again(pair)
    here, there = BOB.public.public[32:], ALICE.public.public[32:]
    assert sorted(multiplied) == sorted([here, there])
    # Time alone changes nothing of it.
    pair.mono.advance(1)
    pair.alice.tick()
    granted_again(pair)
    assert len(multiplied) == 2
    pair.alice.permit("bob", topics=["t"])
    pair.alice.tick()
    granted_again(pair)
    assert multiplied[2:] == [here]


def test_a_look_costs_nothing_while_peers_dates_and_clock_are_the_same(monkeypatch):
    pair = Pair().open()
    exchange = pair.alice.manager._exchange
    looked = []
    monkeypatch.setattr(
        type(exchange), "peer", lambda _, key_id: looked.append(key_id) or pair.alice.link().peer
    )
    exchange.look()
    exchange.look()
    assert looked == []
    pair.alice.permit("bob")
    exchange.look()
    exchange.look()
    assert looked == [BOB.key_id]
    # Who was not valid yet by a clock that was ahead is looked at by the right one.
    pair.alice.wall.advance(-10)
    pair.alice.manager.reset_clock()
    exchange.look()
    exchange.look()
    assert looked == [BOB.key_id] * 2


def test_files_of_peers_are_looked_at_by_the_wall_clock(monkeypatch):
    readings = []
    current = TrustStore.current

    def spied(trust, now):
        readings.append(now)
        return current(trust, now)

    monkeypatch.setattr(TrustStore, "current", spied)
    side = Side("alice", "bob")
    side.send()
    side.wall.advance(1)
    side.mono.advance(1)
    side.tick()
    assert readings == [START, START + SECOND]


@pytest.mark.audit("A13")
def test_every_peer_that_may_not_speak_any_more_goes_and_its_reason_is_told(caplog):
    side = Side("alice", "bob", "carol")
    for one in (BOB, CAROL):
        side.send(to=one.public)
    side.permit("bob", "carol", revoked=True)
    side.tick()
    assert side.manager.links == []
    assert sorted(line.partition(";")[0] for line in caplog.messages) == [
        f"no session with {name!r}: not_trusted: {name!r} is revoked" for name in ("bob", "carol")
    ]


# What is said of a refusal.


@pytest.mark.parametrize(
    ("ahead", "says"),
    [
        (2 * SECOND + 1, "future: stamped 2.000 s ahead; max_future is 2.0 s"),
        (-31 * SECOND, "stale: 31.000 s old; max_age is 30.0 s"),
    ],
)
def test_how_far_a_stamp_is_off_is_said(ahead, says):
    side = Side("bob", "alice")
    offer = Offer(b"i" * 8, STREAM, 0, START + ahead)
    data = begin(ALICE, BOB.public, CTX, offer, ephemeral=b"1" * 32, now=0).data
    assert str(refused(side, data)).startswith(says)


@pytest.mark.audit("E3")
def test_of_a_refused_response_or_hint_only_the_claimed_sender_is_noted():
    pair, response = granted()
    error = refused(pair.alice, flip(response, 93))
    assert (error.code, error.claimed_sender, error.verified) == ("unseal", BOB.key_id, False)
    pair.alice.hear(response)
    (data,) = pair.alice.out()
    error = refused(pair.alice, flip(hint.make(BOB, CTX, data), 105))
    noted = error.code, error.claimed_sender, error.verified
    assert noted == ("bad_signature", BOB.key_id, False)


@pytest.mark.audit("A13", "E3")
def test_why_a_peer_is_not_trusted_here_is_said():
    side = Side("bob", "alice")
    data = begin(
        ALICE, BOB.public, CTX, Offer(b"i" * 8, STREAM, 0, START), ephemeral=b"1" * 32, now=0
    ).data
    side.permit("alice", contexts=["invoices"])
    assert str(refused(side, data)) == (
        "not_trusted: 'alice' may not send in the context 'orders', only in 'invoices'"
    )


def test_a_name_is_said_of_whom_a_refusal_is_about(caplog):
    pair = Pair().open()
    message = pair.bob.manager.receive(pair.alice.manager.send(b"x"))
    pair.bob.manager.refuse(PolicyError("because"), message)
    assert f"signed by {ALICE.key_id.hex()} (alice)" in caplog.text


# What time does.


@pytest.mark.parametrize("pace", [Pace.ASKS, Pace.ANSWERS])
def test_what_was_due_is_due_no_more_at_an_end_that_speaks_in_turn(pace):
    pair = Pair()
    pair.alice.manager.attach(pace)
    pair.bob.manager.send(b"x")
    pair.carry()
    link = pair.alice.link()
    times = link.times
    now = pair.mono()
    link.owed_since, link.unanswered_since = now - times.keepalive, now - times.silence
    pair.alice.manager._exchange.turn(link, now)
    assert (link.owed_since, link.unanswered_since, pair.alice.out()) == (0, 0, [])
    # Who may not ask now asks before it sends the next.
    assert link.is_lost is (pace is Pace.ASKS)


@pytest.mark.parametrize("pace", Pace)
def test_where_there_is_no_session_none_is_lost_in_silence(pace):
    pair, _ = granted()
    pair.alice.manager._exchange._end = pair.alice.manager._end.at(pace)
    link = pair.alice.link()
    now = pair.mono()
    link.unanswered_since = now - link.times.silence
    pair.alice.manager._exchange.turn(link, now)
    assert (link.unanswered_since, link.is_lost) == (0, False)


def test_nothing_is_confirmed_or_doubted_before_its_time():
    pair = Pair().open()
    link = pair.alice.link()
    times = link.times
    now = pair.mono.now = pair.mono() + SECOND
    owed, unanswered = now - times.keepalive + 1, now - times.silence + 1
    link.owed_since, link.unanswered_since = owed, unanswered
    pair.alice.manager._exchange.turn(link, now)
    assert (link.owed_since, link.unanswered_since, pair.alice.out()) == (owed, unanswered, [])
    pair.alice.manager._exchange.turn(link, now + 1)
    assert (link.owed_since, link.unanswered_since) == (0, 0)
    assert [len(data) for data in pair.alice.out()] == [174, 36]
