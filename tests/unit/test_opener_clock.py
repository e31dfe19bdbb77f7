"""Freshness to the microsecond, and clocks that step (SPEC 7.2 step 6, 7.6)."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from crafting import craft
from support import SECOND, START, World, identity

from envelope import Peer, Policy, TrustStore
from envelope.errors import FutureError, RejectedError, ReplayedError, StaleError
from envelope.replay import MemoryReplayStore

ALICE = identity("alice")


@pytest.fixture
def world():
    return World()


def stamped(sent_at, sequence=0):
    return craft(ALICE, b"x", sent_at=sent_at, sequence=sequence)


class TestFreshness:
    @pytest.mark.audit("A4")
    @pytest.mark.parametrize("max_age", [0.001, 0.5, 30, 30.0, 8.2, 86_400])
    def test_max_age_is_the_last_age_accepted(self, world, max_age):
        opener = world.opener(policy=Policy(max_age=max_age))
        oldest = START - round(max_age * SECOND)
        with pytest.raises(StaleError, match=f"max_age is {max_age} s; compare the clocks$"):
            opener.open(stamped(oldest - 1))
        assert opener.open(stamped(oldest)).sent_at == oldest

    @pytest.mark.audit("A4")
    @pytest.mark.parametrize("max_future", [0, 0.5, 2, 2.0, 8.2, 60])
    def test_max_future_is_the_last_lead_accepted(self, world, max_future):
        store = MemoryReplayStore(first_life=True, max_future=max_future, clock=world.clock)
        opener = world.opener(policy=Policy(max_future=max_future), replay=store)
        last = START + round(max_future * SECOND)
        with pytest.raises(FutureError, match=f"max_future is {max_future} s; compare the clocks"):
            opener.open(stamped(last + 1))
        assert opener.open(stamped(last)).sent_at == last

    def test_the_refusal_says_how_far_off_the_stamp_is(self, world):
        with pytest.raises(StaleError, match=r"^stale: 31\.250 s old; max_age is 30\.0 s"):
            world.opener().open(stamped(START - 31_250_000))
        with pytest.raises(FutureError, match=r"^future: stamped 2\.750 s ahead; max_future is 2"):
            world.opener().open(stamped(START + 2_750_000))

    @pytest.mark.audit("A4", "A17")
    def test_the_ends_of_time_are_stale_or_future(self, world):
        with pytest.raises(StaleError):
            world.opener().open(stamped(0))
        with pytest.raises(FutureError):
            world.opener().open(stamped(2**53 - 1))

    def test_what_is_late_in_its_stream_is_judged_by_its_own_time(self, world):
        opener = world.opener()
        assert opener.open(stamped(START + SECOND, sequence=1))
        assert opener.open(stamped(START - 30 * SECOND, sequence=0))


class TestSteps:
    @pytest.mark.audit("A19", "R2")
    def test_what_was_too_old_stays_so_when_the_clock_is_set_back(self, world):
        opener = world.opener()
        data = stamped(START)
        world.clock.advance(30 + 1e-6)
        for _ in range(2):
            with pytest.raises(StaleError):
                opener.open(data)
            world.clock.now = START

    @pytest.mark.audit("A19")
    def test_a_step_back_is_logged_counted_and_named_until_it_is_accepted(self, world, caplog):
        opener = world.opener()
        world.clock.advance(-100)
        with caplog.at_level(logging.WARNING, "envelope.clock"), pytest.raises(StaleError) as error:
            opener.open(stamped(START - 100 * SECOND))
        assert "stepped back by 100.0 s" in caplog.text
        assert "reset_clock()" in caplog.text
        assert str(error.value).endswith("this receiver's clock stepped back, see reset_clock()")
        assert opener.stats.clock_stepped_back == 1
        # It is one step, however many envelopes come while it lasts.
        assert opener.open(stamped(START)).payload == b"x"
        assert opener.stats.clock_stepped_back == 1
        opener.reset_clock()
        assert opener.open(stamped(START - 100 * SECOND, sequence=1)).payload == b"x"
        assert opener.stats.clock_stepped_back == 1
        with pytest.raises(StaleError, match=r"compare the clocks$"):
            opener.open(stamped(START - 200 * SECOND, sequence=2))

    def test_a_step_back_within_max_future_is_none(self, world, caplog):
        opener = world.opener()
        world.clock.advance(-2)
        with caplog.at_level(logging.WARNING, "envelope.clock"), pytest.raises(StaleError) as error:
            opener.open(stamped(START - 31 * SECOND))
        assert "stepped" not in str(error.value) + caplog.text
        world.clock.advance(-1e-6)
        with pytest.raises(StaleError, match="stepped back"):
            opener.open(stamped(START - 31 * SECOND))

    def test_a_clock_that_came_back_is_named_no_more(self, world):
        opener = world.opener()
        world.clock.advance(-60)
        assert opener.open(stamped(START))
        world.clock.advance(120)
        with pytest.raises(StaleError, match=r"compare the clocks$"):
            opener.open(stamped(START))

    @pytest.mark.audit("A19")
    def test_each_step_back_is_counted(self, world):
        opener = world.opener()
        for _ in range(2):
            world.clock.advance(-60)
            with pytest.raises(RejectedError):
                opener.open(stamped(START - 60 * SECOND))
            world.clock.advance(120)
            with pytest.raises(StaleError):
                opener.open(stamped(START - 60 * SECOND))
        assert opener.stats.clock_stepped_back == 2

    @pytest.mark.audit("A19", "R2")
    def test_an_accepted_step_brings_back_nothing_that_was_accepted(self, world):
        opener = world.opener()
        sealer = world.sealer()
        recorded = [sealer.seal(b"x") for _ in range(5)]
        for data in recorded:
            opener.open(data)
        world.clock.advance(3600)
        opener.open(sealer.seal(b"y"))
        world.clock.now = START
        opener.reset_clock()
        for data in recorded:
            with pytest.raises(ReplayedError):
                opener.open(data)

    @pytest.mark.audit("A19")
    def test_after_a_boot_with_the_clock_ahead_a_sender_is_heard_once_both_are_corrected(
        self, world
    ):
        opener = world.opener()
        world.clock.advance(86_400)
        assert opener.open(world.sealer().seal(b"ahead"))
        world.clock.now = START
        sealer = world.sealer()
        with pytest.raises(StaleError, match="stepped back"):
            opener.open(sealer.seal(b"now"))
        opener.reset_clock()
        assert opener.open(sealer.seal(b"now")).payload == b"now"

    def test_dates_of_peers_are_judged_by_the_highest_reading(self, world):
        ends = datetime.fromtimestamp(START // SECOND, UTC) + timedelta(seconds=10)
        trust = TrustStore([Peer("alice", ALICE.public, contexts=["*"], not_after=ends)])
        opener = world.opener(trust=trust)
        world.clock.advance(10)
        for _ in range(2):
            with pytest.raises(RejectedError, match="has expired"):
                opener.open(stamped(START + 10 * SECOND))
            world.clock.now = START
