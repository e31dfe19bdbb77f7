"""Which links and sessions there are, and when to look at them (SPEC 18.2, 18.12)."""

from __future__ import annotations

from itertools import pairwise

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
from envelope.session.timing import MAX_LINKS, MAX_STAGED, MAX_STAGED_BYTES, Times
from envelope.stats import Tally

BOB, CAROL = (Peer(name, identity(name).public, contexts=["orders"]) for name in ("bob", "carol"))
TIMES = Times.of(Timing())
NOW = 1_000 * SECOND


@pytest.fixture
def tables():
    return Tables(bytes(16), TIMES, Tally(lambda: NOW), seeded(1))


def channel(tables, their_id=b"t" * 8):
    return Channel(
        Keys(b"1" * 32, b"2" * 32, b"h" * 64),
        our_id=tables.new_id(),
        their_id=their_id,
        is_initiator=True,
        born=NOW,
        times=TIMES,
        began_at=0,
        window=64,
    )


def with_session(tables, address="address", their_id=b"t" * 8):
    link = tables.add_link(BOB, address, NOW)
    link.current = channel(tables, their_id)
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
    tables = Tables(bytes(16), TIMES, Tally(lambda: NOW), lambda _: next(source))
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


@pytest.mark.audit("A16")
def test_of_1025_links_the_one_that_was_heard_longest_ago_ends_and_it_is_said(tables, caplog):
    links = [tables.add_link(BOB, n, NOW + n) for n in range(MAX_LINKS)]
    assert [one.heard_at for one in links[:2]] == [NOW, NOW + 1]
    links[5].heard_at = NOW - 1
    tables.stage(links[5], Staged(b"x", (), 0, None))
    assert len(tables.links) == len(tables.by_peer[BOB.key_id]) == MAX_LINKS
    assert caplog.records == []
    new = tables.add_link(BOB, "new", NOW)
    kept = [one for one in links if one is not links[5]] + [new]
    assert list(tables.links.values()) == list(tables.by_peer[BOB.key_id].values()) == kept
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("envelope.session", "WARNING")
    assert record.message == (
        "no session with 'bob': another link of this peer took its place; "
        "1 messages that waited for it are lost"
    )
    tables.add_link(CAROL, 0, NOW)
    assert len(tables.by_peer[BOB.key_id]) == MAX_LINKS


def test_a_link_moves_to_where_no_other_is(tables):
    link = with_session(tables, "here")
    tables.move(link, "there")
    assert link.address == "there"
    assert tables.links == {(BOB.key_id, "there"): link}
    assert tables.by_peer == {BOB.key_id: {"there": link}}
    other = tables.add_link(BOB, "other", NOW)
    tables.move(link, "other")
    assert (link.address, other.address) == ("there", "other")
    assert tables.by_peer == {BOB.key_id: {"there": link, "other": other}}
    assert len(tables.links) == 2


def test_a_peer_is_counted_as_one_over_all_its_sessions(tables):
    def stats():
        (name, found), *others = tables._tally.read(0).senders.items()
        assert others == []
        return name, found.streams, found.missing, found.lost

    first, second = (with_session(tables, n) for n in range(2))
    assert first.tally is second.tally
    for link in (first, second):
        link.current.window.add(2)
        link.current.accepted = 1
    assert stats() == ("bob", 2, 4, 0)
    for link in (first, second):
        tables.drop(link.revoke(), link)
    assert stats() == ("bob", 0, 0, 4)
    # What came before goes on when the peer comes again.
    third = with_session(tables, "third")
    third.current.window.add(1)
    third.current.accepted = 1
    assert stats() == ("bob", 1, 1, 4)
    tables.drop(third.revoke(), third)
    assert stats() == ("bob", 0, 0, 5)
    # When nothing of it is left, it is counted all the same.
    for link in (first, second, third):
        tables.remove_link(link)
    assert stats() == ("bob", 0, 0, 5)
    other = tables.add_link(CAROL, 0, NOW)
    other.current = channel(tables)
    tables.add(other.current, other)
    assert set(tables._tally.read(0).senders) == {"bob", "carol"}


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
    assert tables.has_room(BOB.key_id, size) is has_room
    while link.staged:
        tables.unstage(link)
    assert tables.has_room(BOB.key_id, MAX_STAGED_BYTES)


@pytest.mark.audit("A16")
@pytest.mark.parametrize(
    ("payload", "most", "then"), [(b"", 512, 256), (bytes(2**18), 32, 16), (bytes(2**24), 1, 0)]
)
def test_of_several_peers_none_takes_the_room_of_all(tables, payload, most, then):
    first = [tables.add_link(BOB, address, NOW) for address in ("one", "two")]
    other = tables.add_link(CAROL, "one", NOW)

    def fill(peer, *links):
        count = 0
        while tables.has_room(peer.key_id, len(payload)):
            tables.stage(links[count % len(links)], Staged(payload, (), 0, None))
            count += 1
        return count

    assert (fill(BOB, *first), fill(CAROL, other)) == (most, then)
    assert fill(BOB, *first) == 0
    tables.give_up(first[0], "no answer")
    tables.give_up(first[1], "no answer")
    assert tables.staged == then
    tables.give_up(other, "no answer")
    assert (fill(CAROL, other), fill(BOB, *first)) == (most, then)


def test_what_waits_leaves_in_order(tables):
    link = tables.add_link(BOB, "address", NOW)
    for n in range(3):
        tables.stage(link, Staged(bytes([n]), (), 0, None))
    assert [tables.unstage(link).payload for _ in range(3)] == [b"\0", b"\1", b"\2"]
    assert link.staged == ()


def test_the_bytes_of_all_that_waits_are_counted_together(tables):
    links = [tables.add_link(BOB, n, NOW) for n in range(2)]
    for size, link in ((10, links[0]), (20, links[1]), (5, links[1])):
        tables.stage(link, Staged(bytes(size), (b"bound",), 0, None))
    assert tables.has_room(BOB.key_id, MAX_STAGED_BYTES - 35)
    assert not tables.has_room(BOB.key_id, MAX_STAGED_BYTES - 34)
    tables.unstage(links[1])
    assert tables.has_room(BOB.key_id, MAX_STAGED_BYTES - 15)
    assert not tables.has_room(BOB.key_id, MAX_STAGED_BYTES - 14)


def test_what_is_given_up_is_counted_over_all_links(tables, caplog):
    for n, count in enumerate((2, 3)):
        link = tables.add_link(BOB, n, NOW)
        for _ in range(count):
            tables.stage(link, Staged(b"", (), 0, None))
        tables.give_up(link, "a\nreason")
    assert (tables.staged, tables.dropped) == (0, 5)
    assert caplog.messages == [
        f"no session with 'bob': a\\nreason; {count} messages that waited for it are lost"
        for count in (2, 3)
    ]


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
    assert link.wake_at == 0
    assert tables.due(NOW + TIMES.keepalive) == []
    assert tables.next_wake() is None
    tables.schedule(link, NOW + TIMES.keepalive)
    assert tables.due(NOW + 2 * TIMES.keepalive) == [link]


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
    piles = []
    for n in range(1000):
        for link in links:
            link.owed_since = NOW - 5 * SECOND - n
            tables.schedule(link, NOW)
            piles.append(len(tables._wakes))
            assert tables.next_wake() == NOW + 5 * SECOND - n
    # Room for as many again as there are links, and some; then none that was put forward is left.
    assert max(piles) == _SPARE + 2 * len(links) == 64 + 6
    assert {after for before, after in pairwise(piles) if after < before} == {len(links)}
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
    assert link.wake_at == 0


def test_of_two_ends_the_one_with_the_higher_key_id_waits_longer():
    for own, is_second in ((bytes(16), False), (BOB.key_id, False), (b"\xff" * 16, True)):
        tables = Tables(own, TIMES, Tally(lambda: NOW), seeded(1))
        assert tables.add_link(BOB, "address", NOW).is_second is is_second


def test_what_waits_is_counted_by_peer_and_of_whom_nothing_waits_nothing(tables):
    one, other = tables.add_link(BOB, 1, NOW), tables.add_link(BOB, 2, NOW)
    for link, size in ((one, 10), (other, 20)):
        tables.stage(link, Staged(bytes(size), (), 0, None))
    assert tables._staged_of == {BOB.key_id: (2, 30)}
    tables.unstage(one)
    assert tables._staged_of == {BOB.key_id: (1, 20)}
    tables.unstage(other)
    assert tables._staged_of == {}


def test_the_last_place_is_for_a_peer_for_whom_nothing_waits(tables):
    link = tables.add_link(BOB, "address", NOW)
    tables.add_link(CAROL, "address", NOW)
    for _ in range(MAX_STAGED - 1):
        tables.stage(link, Staged(b"", (), 0, None))
    assert tables.has_room(CAROL.key_id, 0)
    assert not tables.has_room(BOB.key_id, 0)
