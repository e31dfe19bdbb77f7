"""Freshness by challenge (SPEC 7.7): young streams, and what an opener makes of them.

Rules of this file: wall clocks and monotonic clocks are handed in, and are apart.
"""

from __future__ import annotations

import pytest
from support import SECOND, FakeClock, World

from envelope import Opener
from envelope.errors import (
    BadSignatureError,
    BeforeStartError,
    FutureError,
    PolicyError,
    ReplayedError,
    StaleError,
    TooOldError,
    UsageError,
)
from envelope.message import message_id
from envelope.replay import SQLiteReplayStore
from envelope.resync import YoungStreams

ORIGIN = bytes(32)
HOUR = 3600


def origin(sender: int, stream: int) -> bytes:
    return sender.to_bytes(16, "big") + stream.to_bytes(16, "big")


class TestYoungStreams:
    def fresh(self, young, sent_at, now, name=ORIGIN):
        return young.is_fresh(name, sent_at, now=now, max_age=30, max_future=2)

    def test_at_first_there_are_none(self):
        young = YoungStreams()
        assert not young
        assert ORIGIN not in young
        assert not self.fresh(young, 0, 0)

    def test_a_stream_is_judged_by_its_own_clock(self):
        young = YoungStreams()
        young.add(ORIGIN, sent_at=1000, since=100, now=110)
        assert young
        assert ORIGIN in young
        # At 200 the sender's clock shows 1090 to 1100.
        verdicts = [(sent_at, self.fresh(young, sent_at, 200)) for sent_at in (1069, 1070)]
        assert verdicts == [(1069, False), (1070, True)]
        verdicts = [(sent_at, self.fresh(young, sent_at, 200)) for sent_at in (1092, 1093)]
        assert verdicts == [(1092, True), (1093, False)]

    @pytest.mark.audit("A16")
    def test_each_sender_has_eight(self):
        young = YoungStreams()
        young.add(origin(1, 0), sent_at=0, since=0, now=0)
        for stream in range(9):
            young.add(origin(2, stream), sent_at=0, since=0, now=0)
        assert [origin(2, stream) in young for stream in range(9)] == [False] + [True] * 8
        assert origin(1, 0) in young

    def test_the_oldest_goes_and_one_that_is_there_stays_one(self):
        young = YoungStreams()
        for stream in range(8):
            young.add(origin(1, stream), sent_at=0, since=0, now=0)
        young.add(origin(1, 9), sent_at=0, since=0, now=0)
        assert len(young) == 8

    def test_a_signal_handler_may_drop_the_oldest_meanwhile(self):
        class Interrupted(YoungStreams):
            def __iter__(self):
                names = [*super().__iter__()]
                for name in names[:1]:
                    del self[name]
                return iter(names)

        young = Interrupted()
        young.update({origin(1, stream): None for stream in range(8)})
        young.add(origin(1, 9), sent_at=0, since=0, now=0)
        assert [*young.keys()] == [origin(1, stream) for stream in (*range(1, 8), 9)]


@pytest.fixture
def world():
    return World()


@pytest.fixture
def slow(world):
    """The same people by a clock that is an hour behind."""
    return World(FakeClock(world.clock.now - HOUR * SECOND))


@pytest.fixture
def asked(world):
    """The id of a challenge that Bob made."""
    return message_id(world.sealer(world.bob).seal(b"who are you?"))


class TestAnswer:
    def test_it_is_fresh_whatever_its_stamp(self, world, slow, asked):
        bob = world.opener()
        data = slow.sealer().seal(b"me", in_reply_to=asked)
        since = bob.monotonic()
        message = bob.answer(data, in_reply_to=asked, asked=[world.alice.key_id], since=since)
        assert (message.payload, message.index) == (b"me", 0)
        assert message.id == message_id(data)

    @pytest.mark.parametrize(("after", "is_fresh"), [(30, True), (30.000001, False)])
    def test_for_max_age(self, world, slow, asked, after, is_fresh):
        bob = world.opener()
        data = slow.sealer().seal(b"me", in_reply_to=asked)
        since = bob.monotonic()
        world.clock.advance(after)
        if is_fresh:
            bob.answer(data, in_reply_to=asked, asked=None, since=since)
            return
        with pytest.raises(StaleError):
            bob.answer(data, in_reply_to=asked, asked=None, since=since)
        assert bob.stats.refused == {"stale": 1}

    @pytest.mark.audit("A22")
    def test_from_nobody_else(self, world, slow, asked):
        bob = world.opener()
        data = slow.sealer(slow.carol).seal(b"me!", in_reply_to=asked)
        with pytest.raises(PolicyError):
            bob.answer(data, in_reply_to=asked, asked=[world.alice.key_id], since=0)

    @pytest.mark.audit("A3")
    def test_once(self, world, asked):
        bob = world.opener()
        data = world.sealer().seal(b"me", in_reply_to=asked)
        ask = {"in_reply_to": asked, "asked": None, "since": bob.monotonic()}
        bob.answer(data, **ask)
        with pytest.raises(ReplayedError):
            bob.answer(data, **ask)

    def heard(self, world, sealer, asked, *, first=b"me", **options):
        bob = world.opener(**options)
        data = sealer.seal(first, in_reply_to=asked)
        bob.answer(data, in_reply_to=asked, asked=None, since=bob.monotonic())
        return bob

    def test_its_stream_is_past_the_cold_start_for_one_and_for_several_at_once(
        self, world, slow, asked
    ):
        sealer = slow.sealer()  # Before the memory: it is of an earlier life.
        bob = self.heard(world, sealer, asked, replay=world.store(first_life=False))
        assert bob.open(sealer.seal(b"one")).payload == b"one"
        (messages,) = bob.open_each([[sealer.seal(b"two")]])
        assert messages[0].payload == b"two"

    def test_its_stream_is_fresh_from_then_on(self, world, slow, asked):
        sealer = slow.sealer()
        bob = self.heard(world, sealer, asked)
        for clock in (world.clock, slow.clock):
            clock.advance(7200)
        data = sealer.seal(b"later")
        assert bob.open(data).payload == b"later"
        with pytest.raises(ReplayedError):
            bob.open(data)
        with pytest.raises(StaleError):
            bob.open(slow.sealer().seal(b"in another stream"))

    @pytest.mark.audit("A4")
    def test_what_is_held_back_in_it_is_stale(self, world, slow, asked):
        sealer = slow.sealer()
        bob = self.heard(world, sealer, asked)
        data = sealer.seal(b"held")
        world.clock.advance(30.000001)
        with pytest.raises(StaleError):
            bob.open(data)

    def test_not_if_it_is_not_the_first(self, world, slow, asked):
        sealer = slow.sealer()
        sealer.seal(b"before")
        bob = self.heard(world, sealer, asked)
        with pytest.raises(StaleError):
            bob.open(sealer.seal(b"later"))

    def test_a_cold_start_does_not_refuse_it(self, world, asked):
        sealer, other = world.sealer(), world.sealer()
        bob = self.heard(world, sealer, asked, replay=world.store(first_life=False))
        assert bob.open(sealer.seal(b"later")).payload == b"later"
        with pytest.raises(BeforeStartError):
            bob.open(other.seal(b"in another stream"))

    @pytest.mark.audit("A3", "A19")
    def test_ahead_of_a_memory_that_can_be_lost_nothing_but_the_answer_passes(self, world, asked):
        fast = World(FakeClock(world.clock.now + HOUR * SECOND))
        sealer = fast.sealer()
        bob = self.heard(world, sealer, asked)
        with pytest.raises(FutureError):
            bob.open(sealer.seal(b"later"))
        named = world.sealer(world.bob).seal(b"?")
        data = sealer.seal(b"a reply", in_reply_to=message_id(named))
        assert bob.open(data, in_reply_to=message_id(named)).payload == b"a reply"

    def test_ahead_of_one_on_disk_all_of_the_stream_passes(self, world, asked, tmp_path):
        fast = World(FakeClock(world.clock.now + HOUR * SECOND))
        sealer = fast.sealer()
        with SQLiteReplayStore(tmp_path / "replay.db", first_life=True, clock=world.clock) as store:
            bob = self.heard(world, sealer, asked, replay=store)
            assert bob.open(sealer.seal(b"later")).payload == b"later"


class TestChallenge:
    def test_it_says_who_what_and_how_old_the_memory_is(self, world, slow):
        bob = world.opener()
        world.clock.advance(7)
        data = slow.sealer().seal(b"")
        challenge = bob.challenge(data)
        assert (challenge.peer.name, challenge.id) == ("alice", message_id(data))
        assert challenge.age == 7 * SECOND

    def test_the_age_begins_anew_with_each_opener(self, world, tmp_path):
        path = tmp_path / "replay.db"
        for _ in range(2):
            with SQLiteReplayStore(path, first_life=True, clock=world.clock) as store:
                bob = world.opener(replay=store)
                world.clock.advance(5)
                assert bob.challenge(world.sealer().seal(b"")).age == 5 * SECOND

    @pytest.mark.audit("A3")
    def test_what_was_challenged_is_never_delivered(self, world, slow):
        bob = world.opener()
        data = slow.sealer().seal(b"")
        bob.challenge(data)
        with pytest.raises(ReplayedError):
            bob.challenge(data)
        world.clock.now = slow.clock.now
        bob.reset_clock()
        with pytest.raises(ReplayedError):
            bob.open(data)

    @pytest.mark.audit("A3")
    def test_what_was_delivered_is_not_challenged(self, world):
        bob = world.opener()
        data = world.sealer().seal(b"")
        bob.open(data)
        world.clock.advance(HOUR)
        with pytest.raises(ReplayedError):
            bob.challenge(data)

    @pytest.mark.audit("A3")
    def test_nor_what_is_behind_a_floor(self, world):
        bob = world.opener()
        data = world.sealer().seal(b"")
        bob.open(data)
        for _ in range(bob.policy.max_streams):
            world.clock.advance(1)
            bob.open(world.sealer().seal(b""))
        with pytest.raises(TooOldError):
            bob.challenge(data)

    def test_nor_a_forgery_nor_a_reply_nor_a_bundle(self, world, slow, asked):
        bob = world.opener()
        sealer = slow.sealer()
        with pytest.raises(BadSignatureError):
            bob.challenge(sealer.seal(b"")[:-1] + b"!")
        with pytest.raises(PolicyError):
            bob.challenge(sealer.seal(b"", in_reply_to=asked))
        with pytest.raises(PolicyError):
            bob.challenge(sealer.seal_bundle([b"1", b"2"]))

    def test_a_memory_that_others_share_does_not_challenge(self, world):
        store = world.store()
        store.is_remote = True
        bob = Opener(world.trust, context="orders", identity=world.bob, replay=store)
        with pytest.raises(UsageError, match="shared"):
            bob.challenge(world.sealer().seal(b""))

    def test_the_stream_of_an_answer_to_one_that_others_share_is_not_young(
        self, world, slow, asked
    ):
        store = world.store()
        store.is_remote = True
        bob = world.opener(replay=store)
        sealer = slow.sealer()
        data = sealer.seal(b"", in_reply_to=asked)
        bob.answer(data, in_reply_to=asked, asked=None, since=bob.monotonic())
        with pytest.raises(StaleError):
            bob.open(sealer.seal(b""))

    def test_the_wall_clock_is_read_with_each_envelope(self, world):
        bob = world.opener()
        world.clock.advance(5)
        bob.open(world.sealer().seal(b""))
        assert bob.wall() == world.clock.now
        world.clock.advance(-2)
        bob.open(world.sealer().seal(b""))
        assert bob.wall() == world.clock.now
