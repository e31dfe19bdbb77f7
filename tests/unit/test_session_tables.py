"""Which links and sessions there are, and when to look at them (SPEC 18.2, 18.12)."""

from __future__ import annotations

import pytest
from support import SECOND, identity, seeded

from envelope import Peer
from envelope.errors import UnknownSessionError
from envelope.session import Timing
from envelope.session.channel import Channel
from envelope.session.handshake import Initiation
from envelope.session.link import Staged
from envelope.session.noise import Keys
from envelope.session.tables import _SPARE, Tables
from envelope.session.timing import MAX_STAGED, MAX_STAGED_BYTES, Times
from envelope.stats import Tally

BOB = Peer("bob", identity("bob").public, contexts=["orders"])
TIMES = Times.of(Timing())
NOW = 1_000 * SECOND


@pytest.fixture
def tables():
    return Tables(TIMES, Tally(lambda: NOW), seeded(1))


def with_session(tables, address="address", their_id=b"t" * 8):
    link = tables.add_link(BOB, address, NOW)
    link.current = Channel(
        Keys(b"1" * 32, b"2" * 32, b"h" * 64),
        our_id=tables.new_id(),
        their_id=their_id,
        is_initiator=True,
        born=NOW,
        times=TIMES,
        began_at=0,
        window=64,
    )
    tables.add(link.current, link)
    return link


def asking(tables, address="address"):
    link = tables.add_link(BOB, address, NOW)
    link.ask(Initiation(tables.new_id(), NOW, b"m" * 32, b"", None), 0)
    tables.asked[link.initiation.session_id] = link
    return link


def test_a_session_id_is_in_use_for_nothing_else():
    one, two, three = b"1" * 8, b"2" * 8, b"3" * 8
    source = iter([one, two, one, two, three])
    tables = Tables(TIMES, Tally(lambda: NOW), lambda _: next(source))
    link = with_session(tables)
    assert link.current.our_id == one
    assert asking(tables, "other").initiation.session_id == two
    assert tables.new_id() == three


@pytest.mark.audit("A13")
def test_what_ends_leaves_every_table_and_loses_its_keys(tables):
    link, other = with_session(tables), asking(tables, "other")
    channel = link.current
    tables.stage(other, Staged(b"x", (), 0, None))
    for one in (link, other):
        tables.end(one, "why")
    assert tables.channels == tables.asked == tables.links == tables.by_peer == {}
    assert (tables.staged, tables.dropped) == (0, 1)
    assert channel._send_key == channel._receive_key == b""
    tables.remove_link(link)  # Gone already: nothing happens.


@pytest.mark.audit("A18")
def test_a_child_forgets_keys_and_initiations(tables):
    link, other = with_session(tables), asking(tables, "other")
    tables.forget()
    assert link.current._send_key == link.current._receive_key == b""
    assert other.initiation is None


@pytest.mark.parametrize(
    ("count", "size", "has_room"),
    [
        (0, 0, True),
        (0, MAX_STAGED_BYTES, True),
        (0, MAX_STAGED_BYTES + 1, False),
        (1, MAX_STAGED_BYTES - 10, True),
        (1, MAX_STAGED_BYTES - 9, False),
        (MAX_STAGED - 1, 0, True),
        (MAX_STAGED, 0, False),
    ],
)
def test_1024_messages_and_16_mib_wait_at_most(tables, count, size, has_room):
    link = tables.add_link(BOB, "address", NOW)
    for _ in range(count):
        tables.stage(link, Staged(bytes(10 if count == 1 else 0), (), 0, None))
    assert tables.has_room(size) is has_room
    while link.staged:
        tables.unstage(link)
    assert tables.has_room(MAX_STAGED_BYTES)


def test_what_waits_leaves_in_order(tables):
    link = tables.add_link(BOB, "address", NOW)
    for n in range(3):
        tables.stage(link, Staged(bytes([n]), (), 0, None))
    assert [tables.unstage(link).payload for _ in range(3)] == [b"\0", b"\1", b"\2"]


def test_a_hint_finds_the_link_whose_current_session_it_is_about(tables):
    one, two = with_session(tables, 1, b"1" * 8), with_session(tables, 2, b"2" * 8)
    tables.add_link(BOB, 3, NOW)
    for link in (one, two):
        link.current.sent = 5
    assert tables.addressed_by(BOB.key_id, b"2" * 8, 4) is two
    for key_id, session_id, counter in (
        (BOB.key_id, b"2" * 8, 5),
        (BOB.key_id, b"3" * 8, 0),
        (bytes(16), b"1" * 8, 0),
    ):
        with pytest.raises(UnknownSessionError):
            tables.addressed_by(key_id, session_id, counter)


def test_a_link_is_looked_at_once_when_it_is_due(tables):
    link = with_session(tables)
    assert tables.next_wake() is None
    tables.schedule(link, NOW)
    assert tables.next_wake() == NOW + TIMES.keepalive
    assert tables.due(NOW + TIMES.keepalive - 1) == []
    assert tables.due(NOW + TIMES.keepalive) == [link]
    assert tables.due(NOW + TIMES.keepalive) == []
    assert tables.next_wake() is None


def test_a_look_that_is_put_forward_takes_place_once(tables):
    link = with_session(tables)
    tables.schedule(link, NOW)
    link.owed_since = NOW - 5 * SECOND
    tables.schedule(link, NOW)
    assert tables.next_wake() == NOW + 5 * SECOND
    assert tables.due(NOW + 5 * SECOND) == [link]
    assert tables.due(NOW + TIMES.keepalive) == []


def test_a_look_is_not_put_off_but_by_itself(tables):
    link = with_session(tables)
    link.owed_since = NOW - 5 * SECOND
    tables.schedule(link, NOW)
    link.owed_since = 0
    tables.schedule(link, NOW)
    assert tables.next_wake() == NOW + 5 * SECOND


@pytest.mark.audit("A16")
def test_looks_that_were_put_forward_do_not_pile_up(tables):
    links = [with_session(tables, n, n.to_bytes(8, "big")) for n in range(3)]
    for n in range(1000):
        for link in links:
            link.owed_since = NOW - 5 * SECOND - n
            tables.schedule(link, NOW)
            assert len(tables._wakes) <= _SPARE + 2 * len(links)
    due = tables.due(NOW + 5 * SECOND)
    assert (len(due), set(due)) == (3, set(links))


@pytest.mark.audit("A16")
def test_looks_that_are_overdue_do_not_pile_up(tables):
    link = with_session(tables)
    link.owed_since = NOW - 3600 * SECOND
    for n in range(1000):
        tables.schedule(link, NOW + n)
    assert len(tables._wakes) == 1
    assert tables.due(NOW) == [link]


def test_a_link_without_anything_is_forgotten_when_it_is_looked_at(tables):
    link = with_session(tables)
    tables.schedule(link, NOW)
    tables.drop(link.revoke(), link)
    tables.schedule(link, NOW)
    assert tables.links == {}
    assert tables.next_wake() is None
