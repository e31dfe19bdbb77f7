"""What an opener delivers once, and what happens when its memory fails (SPEC 7.2, 8)."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from crafting import craft
from parallel import at_once
from support import SECOND, START, World, identity

from envelope import Opener, Policy
from envelope.errors import (
    BeforeStartError,
    RejectedError,
    ReplayedError,
    StoreUnavailableError,
    UnknownSenderError,
)
from envelope.replay import MemoryReplayStore, ReplayStore

ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")


@pytest.fixture
def world():
    return World()


class SwappingStore(ReplayStore):
    """A memory that does something at the moment of marking, and then marks or fails."""

    def __init__(self, memory):
        self.memory = memory
        self.when_marking = lambda: None

    def guard(self, domain, sender, context):
        guard, store = self.memory.guard(domain, sender, context), self

        class Guard:
            check, gaps = guard.check, guard.gaps

            def mark(self, *args, **options):
                store.when_marking()
                return guard.mark(*args, **options)

        return Guard()

    def close(self):
        raise NotImplementedError


class TestReplay:
    @pytest.mark.audit("A3")
    @pytest.mark.parametrize("to", [(), (BOB.public,)], ids=["signed", "sealed"])
    def test_a_replay_is_refused_at_once_and_after_the_window(self, world, to):
        opener = world.opener(policy=Policy(window=64))
        sealer = world.sealer(to=to)
        first, *others = (sealer.seal(b"x") for _ in range(65))
        opener.open(first)
        with pytest.raises(ReplayedError):
            opener.open(first)
        for data in others:
            opener.open(data)
        with pytest.raises(RejectedError, match="too_old: behind the replay window"):
            opener.open(first)

    @pytest.mark.audit("A3", "R6")
    def test_receivers_that_share_store_and_domain_deliver_once(self, world):
        store = world.store()
        data = world.sealer().seal(b"x")
        opener, other = world.opener(replay=store), world.opener(replay=store)
        assert opener.domain == other.domain == BOB.key_id.hex()
        opener.open(data)
        with pytest.raises(ReplayedError):
            other.open(data)

    @pytest.mark.audit("R6")
    def test_two_domains_in_one_store_deliver_once_each(self, world):
        store = world.store()
        data = world.sealer().seal(b"x")
        openers = [
            world.opener(BOB, replay=store),
            world.opener(CAROL, replay=store),
            world.opener(BOB, replay=store, domain="another"),
        ]
        for opener in openers:
            assert opener.open(data).payload == b"x"
        for opener in openers:
            with pytest.raises(ReplayedError):
                opener.open(data)

    @pytest.mark.audit("A16")
    def test_streams_are_bounded_by_the_policy_and_none_comes_back(self, world):
        opener = world.opener(policy=Policy(max_streams=2))
        first = world.sealer().seal(b"x")
        opener.open(first)
        for _ in range(3):
            world.clock.now += 1
            opener.open(world.sealer().seal(b"x"))
        assert opener.stats.senders["alice"].streams == 2
        with pytest.raises(RejectedError, match="too_old"):
            opener.open(first)

    @pytest.mark.parametrize(
        ("max_age", "keep"), [(30, 86_400), (8_640, 86_400), (8_641, 86_410), (86_400, 864_000)]
    )
    def test_a_stream_is_kept_for_a_day_and_ten_times_max_age(self, world, max_age, keep):
        for idle, streams in ((keep * SECOND - 1, 2), (keep * SECOND, 1)):
            world.clock.now = START
            opener = world.opener(policy=Policy(max_age=max_age))
            opener.open(world.sealer().seal(b"x"))
            world.clock.now += idle
            opener.open(world.sealer().seal(b"x"))
            assert opener.stats.senders["alice"].streams == streams

    @pytest.mark.audit("A3", "R2")
    def test_the_default_memory_begins_cold(self, world):
        def opener():
            return Opener(world.trust, context="orders", identity=BOB, clock=world.clock)

        cold = opener()
        assert isinstance(cold.replay, MemoryReplayStore)
        with pytest.raises(BeforeStartError):
            cold.open(craft(ALICE, b"x", sent_at=START + 2 * SECOND))
        world.clock.advance(1)
        assert cold.open(craft(ALICE, b"x", sent_at=START + 2 * SECOND + 1))
        assert cold.open(world.sealer().seal(b"a stream younger than the store"))
        assert opener().replay is not cold.replay

    @pytest.mark.audit("R1", "R6")
    @pytest.mark.parametrize("to", [(), (BOB.public,)], ids=["signed", "sealed"])
    def test_of_many_threads_that_open_the_same_each_is_delivered_once(self, world, to):
        opener = world.opener()
        sealers = [world.sealer(to=to), world.sealer(CAROL, to=to)]
        envelopes = [sealer.seal(b"%d" % n) for sealer in sealers for n in range(30)]

        def run(seed):
            outcomes = Counter()
            for data in random.Random(seed).sample(envelopes, len(envelopes)):
                try:
                    message = opener.open(data)
                except RejectedError as error:
                    outcomes[error.code] += 1
                else:
                    outcomes[message.sender.name, message.payload] += 1
            return outcomes

        outcomes = sum(at_once(8, run), Counter())
        assert outcomes.pop("replayed") == 7 * 60
        assert set(outcomes.values()) == {1}
        assert len(outcomes) == 60
        stats = opener.stats
        assert (stats.accepted, stats.messages) == (60, 60)
        assert stats.refused == {"replayed": 420}
        assert stats.senders["alice"].accepted == stats.senders["carol"].accepted == 30


class TestStoreUnavailable:
    def fail(self):
        raise StoreUnavailableError

    @pytest.mark.audit("A24", "R7")
    @pytest.mark.parametrize("bundle", [False, True])
    @pytest.mark.parametrize("sealed", [False, True])
    def test_nothing_is_delivered_and_the_envelope_may_be_offered_again(
        self, world, sealed, bundle
    ):
        store = SwappingStore(world.store())
        opener = world.opener(replay=store)
        sealer = world.sealer(to=[BOB.public], sealed=sealed)
        data = sealer.seal_bundle([b"a", b"b"]) if bundle else sealer.seal(b"a")
        store.when_marking = self.fail
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                opener.open_bundle(data)
        assert store.memory.state() == {}
        assert (opener.stats.accepted, opener.stats.refused) == (0, {"store_unavailable": 3})
        store.when_marking = lambda: None
        assert len(opener.open_bundle(data)) == 1 + bundle
        with pytest.raises(ReplayedError):
            opener.open_bundle(data)

    @pytest.mark.audit("A24", "R7")
    def test_a_store_may_fail_already_when_it_is_asked_for_a_guard(self, world):
        class Store(ReplayStore):
            is_up = False

            def guard(self, domain, sender, context):
                if not self.is_up:
                    raise StoreUnavailableError("not connected")
                return memory.guard(domain, sender, context)

            def close(self):
                raise NotImplementedError

        memory, store = world.store(), Store()
        opener = world.opener(replay=store)
        data = world.sealer().seal(b"x")
        with pytest.raises(StoreUnavailableError, match="not connected"):
            opener.open(data)
        store.is_up = True
        assert opener.open(data).payload == b"x"


@pytest.mark.audit("A13", "R1")
def test_an_opening_sees_one_snapshot_from_start_to_end(world):
    """Alice is removed while her envelope is on its way through the checks."""
    store = SwappingStore(world.store())
    opener = world.opener(replay=store)
    sealer = world.sealer(to=[BOB.public])
    for bound in ([], [b"topic"]):
        data = sealer.seal(b"x", bound=bound)
        peers = list(world.trust)
        store.when_marking = lambda: world.trust.replace([])
        assert opener.open(data, bound=bound).sender.name == "alice"
        store.when_marking = lambda: None
        with pytest.raises(UnknownSenderError):
            opener.open(sealer.seal(b"y"))
        world.trust.replace(peers)
        # What was marked stays marked, though the peer was gone in between.
        with pytest.raises(ReplayedError):
            opener.open(data, bound=bound)
