"""What a manager keeps, counts and hands on with each call (SPEC 18.6 to 18.12)."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from sides import Pair, Side
from support import SECOND, START, flip, identity, seeded

from envelope import UsageError
from envelope.errors import NoRoomError
from envelope.forks import process
from envelope.session import Datagram, Pace, wire
from envelope.session.channel import message_id
from envelope.session.timing import REJECT_AFTER

BOB = identity("bob")


@pytest.fixture
def forked(monkeypatch):
    """Return what makes this process another, as a fork does; its parent is forgotten."""
    return lambda: monkeypatch.setattr(process, "told", process.told + 1)


# Another process.


@pytest.mark.audit("A18", "C6")
@pytest.mark.parametrize(
    "call",
    [
        lambda side, _: side.manager.send(b"x"),
        lambda side, data: side.hear(data),
        lambda side, _: side.manager.tick(),
    ],
    ids=["send", "receive", "tick"],
)
def test_whatever_is_called_first_in_another_process_nothing_of_the_parent_is_left(call, forked):
    pair = Pair().open()
    data = pair.bob.manager.send(b"to the parent")
    manager, channel = pair.alice.manager, pair.alice.current
    end, tables, outbox, lost = manager._end, manager._tables, manager.outbox, manager.lost
    outbox.append("the parent's")
    forked()
    assert not manager.is_open()
    call(pair.alice, data)
    assert channel._send_key == channel._receive_key == b""
    assert manager._tables is not tables
    assert manager._tables is manager._exchange.tables
    assert manager._channels is manager._tables.channels == {}
    assert manager._links is manager._tables.links
    assert manager.outbox is manager._exchange.outbox
    assert "the parent's" not in manager.outbox
    assert (manager.lost, manager.lost is lost) == (manager._exchange.lost, False)
    assert manager.stats.accepted == 0
    # It is the same end, which counts anew.
    assert manager._end.tally is manager._tally is not end.tally
    assert manager._end.identity is end.identity
    # And once: what it begins now stays.
    manager.outbox.clear()
    exchange = manager._exchange
    manager.send(b"y")
    manager.tick()
    assert manager._exchange is exchange
    assert manager.staged > 0


@pytest.mark.audit("A18")
def test_a_child_whose_first_call_is_interrupted_begins_again_with_the_next(forked):
    interrupts, source = [], seeded(7)

    def random(size):
        if interrupts:
            raise interrupts.pop()
        return source(size)

    pair = Pair(random=random).open()
    manager = pair.alice.manager
    manager.outbox.append("the parent's")
    forked()
    interrupts.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        manager.send(b"x")
    assert manager.send(b"y") is None
    assert [one.data[4] for one in manager.outbox] == [wire.INITIATION]
    assert manager.staged == 1


# Links.


def test_a_manager_serves_one_socket():
    manager = Pair().alice.manager
    manager.attach(Pace.FREE)
    with pytest.raises(UsageError, match="serves one socket"):
        manager.attach(Pace.FREE)


def test_a_link_that_was_made_to_send_counts_as_heard_now():
    pair = Pair()
    pair.alice.send()
    assert pair.alice.link().heard_at == pair.mono()


def test_whether_there_is_a_session_is_told_of_the_peer_that_is_named():
    side = Side("alice", "bob", "carol")
    peers = {name: Side(name, "alice") for name in ("bob", "carol")}
    assert not side.manager.is_open()
    side.send(to=BOB.public)
    (initiation,) = side.send(to=identity("carol").public)
    peers["carol"].hear(initiation)
    side.hear(peers["carol"].out()[0])
    assert side.manager.is_open(to=identity("carol").public)
    assert not side.manager.is_open(to=BOB.public)
    assert not side.manager.is_open()


def test_a_hint_goes_where_the_message_came_from():
    pair = Pair().open()
    data = pair.alice.manager.send(b"x")
    assert pair.bob.hear(flip(data, 12), address="one") == "unknown_session"
    pair.advance(180)
    assert pair.bob.hear(data, address="two") == "unknown_session"
    assert [(one.address, one.bound) for one in pair.bob.manager.outbox] == [
        ("one", ()),
        ("two", ()),
    ]
    assert all(type(one) is Datagram for one in pair.bob.manager.outbox)


# Dates.


@pytest.mark.audit("A13", "A19")
def test_dates_are_looked_at_ten_times_a_second_when_something_is_sent():
    pair = Pair().open()
    pair.alice.permit("bob", not_after=datetime.fromtimestamp(START / SECOND + 60, UTC))
    assert pair.alice.manager.send(b"x") is not None
    pair.alice.wall.advance(60)
    pair.mono.now += SECOND // 10 - 1
    assert pair.alice.manager.send(b"x") is not None
    pair.mono.now += 1
    with pytest.raises(UsageError, match="no session with this peer: not_trusted"):
        pair.alice.manager.send(b"x")
    assert pair.alice.manager.links == []


@pytest.mark.audit("A13", "A19")
def test_dates_are_looked_at_with_a_tick_that_is_due():
    pair = Pair().open()
    pair.alice.permit("bob", not_after=datetime.fromtimestamp(START / SECOND + 60, UTC))
    pair.alice.tick()
    pair.alice.wall.advance(60)
    pair.mono.now += SECOND // 10 - 1
    pair.alice.tick()
    assert len(pair.alice.manager.links) == 1
    pair.mono.now += 1
    pair.alice.tick()
    assert pair.alice.manager.links == []


# Ids.


@pytest.mark.parametrize("counter", [7, 2**32 - 1, 2**32, REJECT_AFTER - 1])
@pytest.mark.parametrize("payload", [b"", b"payload"])
def test_the_id_of_data_is_that_of_its_counter(counter, payload):
    pair = Pair().open()
    pair.alice.current._take = itertools.count(counter).__next__
    data = pair.alice.manager.send(payload)
    assert pair.bob.manager.id_of(data) == message_id(pair.alice.current.our_stream, counter)
    message = pair.bob.manager.receive(data)
    assert (message.sequence, message.id) == (counter, pair.bob.manager.id_of(data))


# Sessions that seemed lost.


def test_only_what_comes_by_the_current_session_shows_that_it_is_not_lost():
    pair = Pair().open()
    before = pair.bob.manager.send(b"before")
    pair.alice.manager._exchange.ask(pair.alice.link(), pair.mono())
    pair.carry()
    link = pair.alice.link()
    link.is_lost = True
    assert pair.alice.hear(before) == b"before"
    assert link.is_lost
    assert pair.alice.hear(pair.bob.manager.send(b"now")) == b"now"
    assert not link.is_lost


def test_what_waits_for_new_keys_does_not_go_by_the_old_when_they_are_heard():
    pair = Pair()
    pair.alice.manager.attach(Pace.ASKS)
    pair.open()
    pair.advance(121)
    assert len(pair.alice.send(b"waits")) == 1
    assert pair.alice.hear(pair.bob.manager.send(b"x")) == b"x"
    assert (pair.alice.out(), pair.alice.manager.staged) == ([], 1)


# What is counted.


def test_each_message_is_counted_and_control_is_not():
    pair = Pair().open()
    before = pair.bob.manager.stats.senders["alice"]
    for _ in range(3):
        pair.bob.hear(pair.alice.manager.send(b"x"))
    pair.alice.manager._exchange.send_control(pair.alice.link())
    pair.bob.hear(pair.alice.out()[0])
    after = pair.bob.manager.stats.senders["alice"]
    assert after.messages - before.messages == 3
    assert pair.bob.link().tally.messages == pair.bob.link().tally.accepted == after.messages


# What waits.


@pytest.mark.audit("A16")
def test_room_is_that_of_the_peer_that_is_named():
    side = Side("alice", "bob", "carol")
    carol = identity("carol").public
    side.send(to=carol)
    for _ in range(512):
        side.send(to=BOB.public)
    before = side.state()
    assert not side.manager.has_room(to=BOB.public)
    assert side.manager.has_room(to=carol)
    assert side.manager.has_room()
    for address in ((), "another link"):
        with pytest.raises(NoRoomError):
            side.manager.send(b"x", to=BOB.public, address=address)
    assert side.state() == before
    side.manager.to = BOB.key_id
    assert not side.manager.has_room()
    assert side.manager.has_room(to=carol)
    assert side.manager.send(b"x", to=carol) is None


def test_what_another_layer_dropped_is_counted():
    manager = Pair().alice.manager
    for count in (1, 2, 3):
        manager.note_dropped()
        assert manager.dropped == count


def test_no_hint_is_sent_about_a_session_that_is_about_to_be():
    pair = Pair().open()
    data = pair.bob.manager.send(b"x")
    pair.alice.manager._exchange.ask(pair.alice.link(), pair.mono())
    pair.alice.out()
    session_id = pair.alice.link().initiation.session_id
    assert pair.alice.hear(data[:12] + session_id + data[20:]) == "unknown_session"
    assert pair.alice.out() == []
    assert pair.alice.hear(data[:12] + bytes(8) + data[20:]) == "unknown_session"
    assert [len(one) for one in pair.alice.out()] == [106]
