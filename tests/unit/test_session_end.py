"""What one end of sessions is, and that a wrong one is refused (SPEC 18.2)."""

from __future__ import annotations

import pytest
from sides import WRONG_ENDS
from support import SECOND, START, FakeClock, identity, seeded

from envelope import Peer, Policy, TrustStore, UsageError
from envelope.binding import context_digest
from envelope.errors import MalformedError
from envelope.session import Timing
from envelope.session.end import End, Pace
from envelope.session.timing import Times

ALICE, BOB = identity("alice"), identity("bob")
TRUST = TrustStore([Peer("bob", BOB.public, contexts=["orders"])])
CLOCK, MONOTONIC, RANDOM = FakeClock(), FakeClock(5), seeded()


def end(**options):
    given = {"context": "orders", "policy": None, "timing": None, "clock": CLOCK}
    given |= {"identity": ALICE, "trust": TRUST, "monotonic": MONOTONIC, "random": RANDOM}
    return End.of(**given | options)


def test_an_end_is_what_it_was_given():
    made = end(policy=Policy(window=64), timing=Timing(retry=1))
    assert (made.identity, made.trust, made.context) == (ALICE, TRUST, "orders")
    assert made.ctx == context_digest(b"orders", ())
    assert (made.policy, made.times) == (Policy(window=64), Times.of(Timing(retry=1)))
    assert (made.clock, made.monotonic, made.random) == (CLOCK, MONOTONIC, RANDOM)
    assert made.pace is Pace.FREE


def test_what_was_not_given_is_as_usual():
    made = end()
    assert (made.policy, made.times) == (Policy(), Times.of(Timing()))


@pytest.mark.parametrize("max_future", [2, 5])
def test_a_step_back_is_told_by_the_wall_clock_and_what_the_policy_bears(max_future):
    clock = FakeClock()
    watch = end(clock=clock, policy=Policy(max_future=max_future)).watch
    assert watch.now() == START
    clock.now -= max_future * SECOND
    assert (watch.now(), watch.is_back) == (START, False)
    clock.now -= 1
    assert (watch.now(), watch.is_back) == (START, True)


def test_a_pace_changes_nothing_else():
    made = end()
    at = made.at(Pace.ASKS)
    assert (made.pace, at.pace) == (Pace.FREE, Pace.ASKS)
    assert made == at.at(Pace.FREE)
    assert [pace.value for pace in Pace] == ["free", "asks", "answers"]


@pytest.mark.audit("A18", "E3")
@pytest.mark.parametrize("is_anew", [False, True])
def test_it_counts_and_logs_by_its_own_clock_and_whom_it_knows(is_anew, caplog):
    monotonic = FakeClock(5)
    made = end(monotonic=monotonic)
    if is_anew:
        before = made
        before.tally.sender(BOB.key_id, "bob", None)
        made = before.anew()
        assert made.tally is not before.tally
        assert before.at(Pace.ASKS).anew().pace is Pace.ASKS
        assert made.watch is before.watch
    assert made.tally.read(0).senders == {}
    # One line; the next only when its clock has moved far enough.
    for _ in range(3):
        made.tally.refuse(MalformedError("because"), lambda _: None)
    (line,) = caplog.messages
    assert line.startswith("envelope refused, malformed: because;")
    assert "context 'orders'" in line
    monotonic.advance(3600)
    made.tally.refuse(MalformedError("because"), lambda _: None)
    assert len(caplog.messages) == 2
    assert (made.tally._own, made.tally._trust) == ({ALICE.key_id}, TRUST)


@pytest.mark.parametrize(("arguments", "says"), WRONG_ENDS)
def test_a_wrong_argument_is_refused(arguments, says):
    with pytest.raises(UsageError, match=says):
        end(**arguments)


def test_messages_may_be_no_larger_than_the_largest_that_is_not_data():
    assert end(policy=Policy(max_size=174)).policy.max_size == 174
