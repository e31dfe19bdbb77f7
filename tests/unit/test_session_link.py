"""The slots of one link: each row of the table in SPEC 18.9, and 18.10."""

from __future__ import annotations

import itertools
import re

import pytest
from specification import SPEC
from support import SECOND, identity

from envelope import Peer
from envelope.session import Timing
from envelope.session import link as links
from envelope.session.channel import Channel
from envelope.session.handshake import Initiation
from envelope.session.link import Link, Staged
from envelope.session.noise import Keys
from envelope.session.timing import Times

BOB = Peer("bob", identity("bob").public, contexts=["orders"])
TIMES = Times.of(Timing())
NOW = 1_000 * SECOND
RETRY = TIMES.retry
ids = itertools.count()


def channel(born=NOW):
    return Channel(
        Keys(b"1" * 32, b"2" * 32, b"h" * 64),
        our_id=next(ids).to_bytes(8, "big"),
        their_id=bytes(8),
        is_initiator=True,
        born=born,
        times=TIMES,
        began_at=0,
        window=64,
    )


def initiation(made_at=NOW, ephemeral=b"m" * 32):
    return Initiation(b"s" * 8, made_at, ephemeral, b"", None)


def link(**slots):
    made = Link("address", BOB, TIMES, NOW, is_second=False)
    for slot, value in slots.items():
        setattr(made, slot, value)
    return made


def slots(one):
    return one.current, one.next, one.previous


STAGED = Staged(b"", (), 0, None)


def test_a_new_link_has_nothing_and_was_heard_now():
    one = link()
    assert (one.address, one.peer, one.key_id, one.times) == ("address", BOB, BOB.key_id, TIMES)
    assert slots(one) == (None, None, None)
    assert (one.is_lost, one.initiation, one.staged, one.heard_at) == (False, None, (), NOW)
    assert one.asked_at == one.asking_since == one.wait == one.repeat_at == 0
    assert one.owed_since == one.unanswered_since == one.wake_at == 0
    assert not hasattr(one, "tally")
    one.tally = tally = object()
    assert one.tally is tally


def test_the_steps_are_those_of_spec_18_9_and_each_that_changes_a_slot_is_a_method():
    text = SPEC.read_text(encoding="utf-8").split("\n18.9.")[1].split("\n18.10.")[0]
    specified = re.findall(r"^\| (?!name|-)([^|]+) \|", text, re.MULTILINE)
    _, _, rows, _ = re.split(r"^==.*\n", links.__doc__, flags=re.MULTILINE)
    assert re.findall(r"^(\S+(?: \S+)?)  ", rows, re.MULTILINE) == specified
    methods = {name.replace("_", " ") for name in vars(Link)}
    assert set(specified) - methods == {"hear", "doubt"}


class TestSend:
    def test_by_a_current_session_that_is_not_over_and_not_lost(self):
        one = link(current=channel())
        assert one.may_send(NOW + TIMES.reject - 1)
        assert not one.may_send(NOW + TIMES.reject)
        one.is_lost = True
        assert not one.may_send(NOW)

    def test_by_no_other_session(self):
        assert not link(next=channel(), previous=channel()).may_send(NOW)


class TestAsk:
    def test_the_second_end_waits_twice_as_long_after_a_grant(self):
        for is_second, wait in ((False, RETRY), (True, 2 * RETRY)):
            one = Link("address", BOB, TIMES, NOW, is_second=is_second)
            one.grant(channel(), b"t" * 16, 0)
            assert not one.may_ask(NOW + wait - 1)
            assert one.may_ask(NOW + wait)

    def test_an_initiation_is_out(self):
        one, out = link(), initiation()
        one.ask(out, 0)
        assert one.initiation is out
        assert one.asking_since == one.asked_at == NOW
        assert slots(one) == (None, None, None)

    def test_each_repetition_waits_twice_as_long_up_to_the_most(self):
        one, at, waits = link(), NOW, []
        for _ in range(7):
            one.ask(initiation(at), 0)
            waits.append(one.repeat_at - at)
            at = one.repeat_at
        assert waits == [RETRY * n for n in (1, 2, 4, 8, 16, 16, 16)]
        assert one.asking_since == NOW

    @pytest.mark.parametrize("chance", [0, 1, 128, 255])
    def test_chance_adds_up_to_a_quarter(self, chance):
        one = link()
        one.ask(initiation(), chance)
        assert RETRY <= one.repeat_at - NOW == RETRY + RETRY * chance // 1024 < RETRY * 5 // 4

    def test_not_while_one_is_out(self):
        assert link().may_ask(NOW)
        assert not link(initiation=initiation()).may_ask(NOW)

    def test_where_next_waits_only_once_it_is_as_old_as_the_last_retry(self):
        one = link(next=channel())
        assert not one.may_ask(NOW + RETRY - 1)
        assert one.may_ask(NOW + RETRY)
        one.wait = 3 * RETRY
        assert not one.may_ask(NOW + 3 * RETRY - 1)
        assert one.may_ask(NOW + 3 * RETRY)


class TestGrant:
    def test_next_is_the_new_session_in_place_of_any_other_and_no_initiation_is_out(self):
        current, old, previous, new = (channel() for _ in range(4))
        one = link(current=current, next=old, previous=previous, initiation=initiation())
        assert one.grant(new, b"stream", 0) == [old]
        assert slots(one) == (current, new, previous)
        assert one.initiation is None

    def test_how_long_it_waited_is_kept(self):
        one = link()
        for _ in range(3):
            one.ask(initiation(), 0)
        assert one.grant(channel(), b"stream", 0) == []
        assert one.wait == 4 * RETRY

    def test_the_time_of_asking_goes_on_while_something_is_staged_and_not_else(self):
        for staged, since in (([STAGED], NOW), ([], 0)):
            one = link()
            one.ask(initiation(), 0)
            one.staged = tuple(staged)
            one.grant(channel(), b"stream", 0)
            assert one.asking_since == since

    def test_later_initiations_of_the_stream_are_welcome_and_no_others(self):
        one = link()
        assert not one.is_granted(b"t" * 16, 0)
        one.grant(channel(), b"t" * 16, 5)
        assert [one.is_granted(b"t" * 16, n) for n in (0, 4, 5, 6)] == [True, True, True, False]
        assert not one.is_granted(b"u" * 16, 0)


class TestOpen:
    def test_previous_is_current_where_nothing_was_granted(self):
        current, previous, new = (channel() for _ in range(3))
        one = link(current=current, previous=previous, initiation=initiation(), is_lost=True)
        one.unanswered_since = NOW
        assert one.open(new) == [previous]
        assert slots(one) == (new, None, current)
        assert (one.initiation, one.asking_since, one.wait) == (None, 0, 0)
        assert (one.is_lost, one.unanswered_since) == (False, 0)

    def test_previous_is_next_where_one_was_granted(self):
        current, granted, previous, new = (channel() for _ in range(4))
        one = link(current=current, next=granted, previous=previous)
        assert one.open(new) == [previous, current]
        assert slots(one) == (new, None, granted)


class TestConfirm:
    def test_next_is_current_and_current_previous(self):
        current, granted, previous = (channel() for _ in range(3))
        one = link(current=current, next=granted, previous=previous, initiation=initiation())
        one.is_lost = True
        assert one.confirm() == [previous]
        assert slots(one) == (granted, None, current)
        assert (one.initiation, one.asking_since, one.is_lost) == (None, 0, False)


class TestDoubt:
    def test_not_while_the_last_initiation_is_younger_than_the_first_retry(self):
        one = link()
        assert one.may_doubt(NOW)
        one.ask(initiation(), 0)
        assert not one.may_doubt(NOW + RETRY - 1)
        assert one.may_doubt(NOW + RETRY)

    def test_answered_or_not(self):
        one = link()
        one.ask(initiation(), 0)
        one.open(channel())
        assert not one.may_doubt(NOW + RETRY - 1)
        assert one.may_doubt(NOW + RETRY)

    def test_not_while_a_session_was_granted_just_now(self):
        one = link(next=channel())
        assert not one.may_doubt(NOW + RETRY - 1)
        assert one.may_doubt(NOW + RETRY)


class TestRetire:
    @pytest.mark.parametrize("slot", ["current", "next", "previous"])
    def test_a_slot_is_empty_when_its_session_is_too_old(self, slot):
        old, young = channel(), channel(NOW + 1)
        one = link(current=young, next=young, previous=young)
        setattr(one, slot, old)
        assert one.retire(NOW + TIMES.reject - 1) == []
        assert one.retire(NOW + TIMES.reject) == [old]
        assert getattr(one, slot) is None
        assert len(list(one.channels())) == 2
        assert one.retire(NOW + TIMES.reject + 1) == [young, young]
        assert one.is_empty


class TestGiveUpAndRevoke:
    def test_giving_up_leaves_the_sessions(self):
        current = channel()
        one = link(current=current, initiation=initiation(), asking_since=NOW, wait=RETRY)
        one.give_up()
        assert slots(one) == (current, None, None)
        assert (one.initiation, one.asking_since, one.wait) == (None, 0, 0)

    def test_revoking_leaves_nothing(self):
        three = [channel() for _ in range(3)]
        one = link(current=three[0], next=three[1], previous=three[2], initiation=initiation())
        assert one.revoke() == three
        assert slots(one) == (None, None, None)
        assert (one.initiation, one.asking_since, one.wait) == (None, 0, 0)
        assert one.is_empty


class TestCrossing:
    """SPEC 18.10."""

    def test_the_lower_ephemeral_key_is_the_initiators(self):
        one = link(initiation=initiation(ephemeral=b"m" * 32))
        assert one.wins(b"m" * 31 + b"n", NOW)
        assert not one.wins(b"l" + b"\xff" * 31, NOW)
        assert not one.wins(b"m" * 32, NOW)  # Reflected, or by chance: nobody is first.

    def test_who_asked_long_ago_yields(self):
        one = link(initiation=initiation())
        assert one.wins(b"\xff" * 32, NOW + 4 * RETRY)
        assert not one.wins(b"\xff" * 32, NOW + 4 * RETRY + 1)

    def test_who_did_not_ask_yields(self):
        assert not link().wins(b"\xff" * 32, NOW)


class TestNewest:
    def test_only_the_highest_counter_of_the_current_session_is_the_newest(self):
        current, previous = channel(), channel()
        one = link(current=current, previous=previous)
        for session in (current, previous):
            session.window.add(3)
            session.window.add(5)
        assert one.is_newest(previous, 5)  # Nothing was heard on the current one yet.
        current.accepted = 2
        assert one.is_newest(current, 5)
        assert not one.is_newest(current, 3)
        assert not one.is_newest(previous, 5)
        one.current = None
        assert one.is_newest(previous, 5)
        assert not one.is_newest(previous, 3)


class TestDeadline:
    def test_an_empty_link_has_none(self):
        one = link(owed_since=NOW, unanswered_since=NOW, asking_since=NOW)
        assert one.is_empty
        assert one.deadline(NOW) is None

    @pytest.mark.parametrize(
        ("state", "due"),
        [
            ({"current": channel(NOW - TIMES.reject + 5)}, 5),
            ({"previous": channel(NOW - TIMES.reject + 6)}, 6),
            ({"next": channel(NOW - TIMES.reject + 7)}, 7),
            ({"current": channel()}, TIMES.keepalive),
            ({"current": channel(), "owed_since": NOW - 3}, TIMES.keepalive - 3),
            ({"current": channel(), "unanswered_since": NOW - TIMES.silence + 9}, 9),
            ({"initiation": initiation(), "repeat_at": NOW + 8, "asking_since": NOW}, 8),
            (
                {
                    "initiation": initiation(),
                    "repeat_at": NOW + 80,
                    "asking_since": NOW - TIMES.give_up + 4,
                },
                4,
            ),
            (
                {
                    "current": channel(NOW - TIMES.reject + 3),
                    "initiation": initiation(),
                    "repeat_at": NOW + 8,
                    "asking_since": NOW,
                },
                3,
            ),
            ({"next": channel(NOW - 2), "staged": [STAGED]}, RETRY - 2),
            ({"next": channel(NOW - 2), "staged": [STAGED], "wait": 3 * RETRY}, 3 * RETRY - 2),
            ({"staged": [STAGED]}, TIMES.keepalive),
        ],
    )
    def test_the_first_of_what_is_due_is_the_deadline(self, state, due):
        assert link(**state).deadline(NOW) == NOW + due


@pytest.mark.audit("K5")
def test_printing_a_link_names_what_it_has():
    assert repr(link()) == "<Link to 'bob': nothing>"
    assert repr(link(current=channel(), initiation=initiation())) == (
        "<Link to 'bob': current, initiation>"
    )
