"""What an opener hands on to its parts: memory, trust, counters, threads (SPEC 7.2, 7.7, 8)."""

from __future__ import annotations

import logging

import pytest
from crafting import craft, sign_again
from support import SECOND, START, FakeClock, World, flip, identity

from envelope import Opener, Policy, TrustStore
from envelope import opener as openers
from envelope.errors import (
    BeforeStartError,
    NotAddressedError,
    RejectedError,
    StaleError,
    UsageError,
)
from envelope.message import message_id
from envelope.replay import MemoryReplayStore

ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")
DAY = 86_400 * SECOND
HOUR = 3600


@pytest.fixture
def world():
    return World()


@pytest.fixture
def asked(world):
    """The id of something that Bob sent."""
    return message_id(world.sealer(BOB).seal(b"?"))


def answered(opener, data, request, **options):
    """Open the answer to a challenge that was made just now."""
    options = {"asked": None, "since": opener.monotonic()} | options
    return opener.answer(data, in_reply_to=request, **options)


CALLS = {
    "open": lambda opener, data, request, bound=(): opener.open(
        data, bound=bound, in_reply_to=request
    ),
    "open_bundle": lambda opener, data, request, bound=(): opener.open_bundle(
        data, bound=bound, in_reply_to=request
    ),
    "answer": lambda opener, data, request, bound=(): answered(opener, data, request, bound=bound),
}


class TestEveryWayIn:
    @pytest.mark.parametrize("call", CALLS)
    def test_a_refusal_says_and_logs_who_is_claimed_to_have_sent_it(
        self, world, asked, call, caplog
    ):
        data = flip(world.sealer().seal(b"x", in_reply_to=asked), -1)
        with caplog.at_level(logging.WARNING), pytest.raises(RejectedError) as refused:
            CALLS[call](world.opener(), data, asked)
        assert (refused.value.code, refused.value.claimed_sender) == ("bad_signature", ALICE.key_id)
        assert f"claimed sender {ALICE.key_id.hex()} (alice); context 'orders'" in caplog.text

    def test_so_does_one_of_several(self, world, caplog):
        arrivals = [[b"t", flip(world.sealer().seal(b"x", bound=[b"t"]), -1)]]
        with caplog.at_level(logging.WARNING):
            [error] = world.opener().open_each(arrivals)
        assert (error.code, error.claimed_sender) == ("bad_signature", ALICE.key_id)
        assert f"claimed sender {ALICE.key_id.hex()} (alice)" in caplog.text

    @pytest.mark.parametrize("call", CALLS)
    def test_bound_frames_are_part_of_it(self, world, asked, call):
        data = world.sealer().seal(b"x", in_reply_to=asked, bound=[b"topic"])
        with pytest.raises(RejectedError) as refused:
            CALLS[call](world.opener(), data, asked)
        assert refused.value.code == "bad_signature"
        assert CALLS[call](world.opener(), data, asked, [b"topic"])

    @pytest.mark.parametrize("call", ["challenge", "answer"])
    def test_an_envelope_is_bytes(self, world, asked, call):
        more = {"in_reply_to": asked, "asked": None, "since": 0} if call == "answer" else {}
        for wrong in ("text", None):
            with pytest.raises(
                UsageError, match=f"^an envelope is bytes, not {type(wrong).__name__}"
            ):
                getattr(world.opener(), call)(wrong, **more)

    def test_an_answer_is_no_bundle(self, world, asked):
        data = world.sealer().seal_bundle([b"a"], in_reply_to=asked)
        with pytest.raises(RejectedError, match=r"open it with open_bundle\(\)"):
            answered(world.opener(), data, asked)

    def test_one_that_does_not_unseal_is_counted_by_its_name_also_among_several(self, world):
        opener = world.opener()
        data = craft(ALICE, b"x", to=[BOB.public], sealed=True, spoil_tag=True)
        [error] = opener.open_each([[data]])
        assert (error.code, error.verified) == ("unseal", True)
        assert opener.stats.senders["alice"].refused == {"unseal": 1}


class Spy:
    """A guard that notes what it is asked."""

    def __init__(self, guard, asked):
        self.guard, self.asked = guard, asked
        self.gaps = guard.gaps

    def check(self, stream, sequence, sent_at, **options):
        self.asked.append(("check", options))
        return self.guard.check(stream, sequence, sent_at, **options)

    def mark(self, stream, sequence, sent_at, **options):
        self.asked.append(("mark", options))
        return self.guard.mark(stream, sequence, sent_at, **options)


class SpyingStore(MemoryReplayStore):
    """A memory whose guards note what they are asked."""

    def __init__(self, **options):
        super().__init__(**options)
        self.asked = []

    def guard(self, domain, sender, context):
        return Spy(super().guard(domain, sender, context), self.asked)


class TestMemory:
    @pytest.mark.audit("A3")
    @pytest.mark.parametrize("together", [False, True])
    def test_peek_and_mark_are_told_of_each_envelope_alone_whether_it_is_expected(
        self, world, asked, together
    ):
        store = SpyingStore(first_life=True, clock=world.clock)
        opener, young, other = world.opener(replay=store), world.sealer(), world.sealer()
        answered(opener, young.seal(b"me", in_reply_to=asked), asked)
        store.asked.clear()
        envelopes = [young.seal(b"x"), other.seal(b"x")]
        if together:
            opener.open_each([[data] for data in envelopes])
        else:
            for data in envelopes:
                opener.open(data)
        for step in ("check", "mark"):
            told = [options["expected"] for name, options in store.asked if name == step]
            assert told == [True, False]

    def test_the_limits_are_those_of_the_policy_and_its_horizon(self, world):
        store = SpyingStore(first_life=True, clock=world.clock)
        opener = world.opener(replay=store, policy=Policy(window=100, max_streams=7))
        limits = {"full_at": 7, "window": 100, "expected": False, "forget_before": START - DAY}
        sealer = world.sealer()
        opener.open(sealer.seal(b"x"))
        opener.open_each([[sealer.seal(b"x")]])
        opener.challenge(sealer.seal(b"x"))
        marked = [options for name, options in store.asked if name == "mark"]
        assert marked == [limits, limits, limits | {"expected": True}]
        assert [options["full_at"] for name, options in store.asked if name == "check"] == [7, 7]

    def test_what_a_cold_start_refused_may_be_challenged_and_is_remembered(self, world):
        opener = world.opener(replay=world.store(first_life=False))
        data = craft(ALICE, b"x")
        with pytest.raises(BeforeStartError):
            opener.open(data)
        assert opener.challenge(data).id == message_id(data)
        with pytest.raises(RejectedError, match="replayed"):
            opener.challenge(data)

    @pytest.mark.parametrize("lost", [[], [[]], [[0]]])
    def test_a_store_that_does_not_answer_for_each_is_a_bug_and_delivers_nothing(self, world, lost):
        class Forgetful(MemoryReplayStore):
            def mark_each(self, batches):
                return lost

        opener = world.opener(replay=Forgetful(first_life=True, clock=world.clock))
        sealer = world.sealer()
        with pytest.raises(ValueError, match="zip"):
            opener.open_each([[sealer.seal(b"x")], [sealer.seal(b"y")]])

    def test_the_default_memory_covers_the_max_future_of_the_policy(self, world):
        opener = Opener(
            world.trust, context="orders", policy=Policy(max_future=5), clock=world.clock
        )
        assert opener.replay.max_future == 5
        with pytest.raises(BeforeStartError):
            opener.open(craft(ALICE, b"x", sent_at=START + 5 * SECOND))


class TestTrust:
    def test_it_looks_at_its_file_by_the_last_reading_and_not_by_the_highest(self, world):
        looks = []

        class Watched(TrustStore):
            def current(self, now):
                looks.append(now)
                return super().current(now)

        opener = world.opener(trust=Watched(world.trust))
        world.clock.advance(60)
        opener.open(world.sealer().seal(b"x"))
        world.clock.advance(-100)
        with pytest.raises(StaleError):
            opener.open(world.sealer().seal(b"x"))
        assert looks == [START + 60 * SECOND, START - 40 * SECOND]


class TestCounters:
    def test_the_log_says_who_could_be_addressed_and_where_was_looked(self, world, caplog):
        opener = world.opener()
        for data in (
            world.sealer(to=[CAROL.public]).seal(b"x"),
            world.sealer(world.mallory).seal(b"x"),
        ):
            with caplog.at_level(logging.WARNING), pytest.raises(RejectedError):
                opener.open(data)
        assert f"this end is {BOB.key_id.hex()}" in caplog.text
        assert f"looked up in {world.trust!r}" in caplog.text

    def test_log_lines_are_spaced_by_the_monotonic_clock(self, world, caplog):
        monotonic = FakeClock()
        opener = Opener(world.trust, context="orders", clock=world.clock, monotonic=monotonic)
        with caplog.at_level(logging.WARNING):
            for seconds in (0, 0, 3600, 0):
                monotonic.advance(seconds)
                with pytest.raises(RejectedError):
                    opener.open(b"")
        assert len(caplog.records) == 2


class TestThreads:
    def test_several_are_judged_by_as_many_threads_as_are_asked_for(self, world, monkeypatch):
        asked = []

        def work_off(work, items, threads):
            asked.append(threads)
            return list(map(work, items))

        monkeypatch.setattr(openers, "work_off", work_off)
        opener, sealer = world.opener(), world.sealer()
        for options in ({}, {"workers": 1}, {"workers": 5}):
            [[message]] = opener.open_each([[sealer.seal(b"x")]], **options)
            assert message.payload == b"x"
        assert asked == [1, 1, 5]


@pytest.mark.audit("A7", "P2")
@pytest.mark.parametrize("sealed", [True, False])
def test_a_key_id_behind_the_key_block_addresses_nobody(world, sealed):
    """Wherever it stands in the body, also where an entry would begin."""
    data = craft(ALICE, BOB.key_id * 20, to=[CAROL.public], sealed=sealed)
    with pytest.raises(NotAddressedError):
        world.opener().open(data)
    if sealed:  # The ciphertext is what Alice says it is: she signs it.
        body = data.index(CAROL.key_id) + 64
        data = sign_again(ALICE, data[:body] + BOB.key_id * 20 + bytes(64))
        with pytest.raises(NotAddressedError):
            world.opener().open(data)


class TestStaleAndAsked:
    def test_a_reply_that_was_asked_for_by_no_challenge_may_be_stale(self, world, asked):
        opener = world.opener()
        data = world.sealer().seal(b"x", in_reply_to=asked)
        world.clock.advance(31)
        with pytest.raises(StaleError):
            opener.open(data, in_reply_to=asked)

    def test_with_a_short_max_age_a_young_stream_that_is_a_little_late_is_judged_by_its_own_clock(
        self, world, asked
    ):
        """Late by the wall, though not by as much as max_future; the memory can be lost."""
        slow = World(FakeClock(START - SECOND * 3 // 2))
        opener = world.opener(policy=Policy(max_age=1, max_future=2))
        sealer = slow.sealer()
        answered(opener, sealer.seal(b"me", in_reply_to=asked), asked)
        assert opener.open(sealer.seal(b"x")).payload == b"x"

    def test_a_stranger_to_the_young_is_stale_by_the_wall(self, world, asked):
        slow = World(FakeClock(START - HOUR * SECOND))
        opener, sealer = world.opener(), slow.sealer()
        answered(opener, sealer.seal(b"me", in_reply_to=asked), asked)
        assert opener.open(sealer.seal(b"x")).payload == b"x"
        with pytest.raises(StaleError):
            opener.open(slow.sealer().seal(b"x"))
