"""Replay memory of one process: its cold start, its places, and forks (SPEC 8.1, 8.7)."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from parallel import at_once, held_by_another_thread, in_child, raw_fork
from support import SECOND, START, FakeClock, World, identity

from envelope import Opener, Policy, UsageError
from envelope import clock as clocks
from envelope.errors import RejectedError, StoreUnavailableError
from envelope.replay import Gaps, Guard, MemoryReplayStore, ReplayStore, memory
from envelope.replay.guard import NEVER
from envelope.stream import Stream

SENDER, OTHER = b"s" * 16, b"o" * 16
STREAM = b"t" * 16
COLD = START + 2 * SECOND


def guard_of(store, domain="home", sender=SENDER, context="orders"):
    return store.guard(domain, sender, context)


def verdict(guard, sent_at, stream=STREAM):
    """Check one envelope; return None or the code."""
    try:
        guard.check(stream, 0, sent_at, full_at=3, expected=False)
    except RejectedError as error:
        return error.code
    return None


def mark(guard, sequence=0, sent_at=COLD + 1):
    return guard.mark(STREAM, sequence, sent_at, full_at=3, window=64, expected=False)


def cold_store():
    return MemoryReplayStore(clock=FakeClock())


def test_a_place_that_is_known_costs_no_other_guard(monkeypatch):
    made = []
    monkeypatch.setattr(
        memory, "Guard", lambda **options: made.append(Guard(**options)) or made[-1]
    )
    store = cold_store()
    guards = [guard_of(store) for _ in range(3)]
    assert guards == made * 3
    assert len(made) == 1


class TestColdStart:
    @pytest.mark.audit("A3", "R2")
    def test_it_refuses_up_to_its_start_plus_max_future(self):
        guard = guard_of(cold_store())
        assert guard.cold == COLD
        assert verdict(guard, COLD) == "before_start"
        assert verdict(guard, COLD + 1) is None

    @pytest.mark.parametrize("max_future", [0, 0.5, 8.2, 60])
    def test_it_covers_the_max_future_that_it_is_told(self, max_future):
        store = MemoryReplayStore(max_future=max_future, clock=FakeClock())
        assert store.max_future == max_future
        assert guard_of(store).cold == START + round(max_future * SECOND)

    def test_it_covers_the_policys_default(self):
        assert cold_store().max_future == ReplayStore.max_future == Policy().max_future

    def test_the_opener_that_makes_its_own_has_it_cover_its_policy(self):
        world = World()
        opener = Opener(
            world.trust,
            context="orders",
            identity=world.bob,
            policy=Policy(max_future=9),
            clock=world.clock,
        )
        assert opener.replay.max_future == 9
        assert guard_of(opener.replay).cold == START + 9 * SECOND

    def test_a_first_life_has_nothing_to_wait_for(self):
        guard = guard_of(MemoryReplayStore(first_life=True, clock=FakeClock()))
        assert guard.cold == NEVER
        assert verdict(guard, 0) is None

    def test_its_start_is_when_it_was_made(self):
        clock = FakeClock()
        store = MemoryReplayStore(clock=clock)
        clock.advance(100)
        assert guard_of(store).cold == COLD

    def test_a_stream_begun_here_after_the_store_is_exempt(self):
        hedge = identity("alice")._stream_hedge
        older = Stream(hedge, now=0, ns=0, random=os.urandom)
        guard = guard_of(cold_store())
        younger = Stream(hedge, now=0, ns=0, random=os.urandom)
        assert verdict(guard, START, older.id) == "before_start"
        assert verdict(guard, START, younger.id) is None

    def test_the_real_clock_is_the_default(self):
        before = clocks.wall()
        cold = guard_of(MemoryReplayStore()).cold
        assert before <= cold - 2 * SECOND <= clocks.wall()


class TestPlaces:
    def test_the_same_place_has_one_guard(self):
        store = cold_store()
        assert guard_of(store) is guard_of(store)
        assert isinstance(guard_of(store), Guard)

    @pytest.mark.audit("R6")
    @pytest.mark.parametrize("place", [{"domain": "away"}, {"sender": OTHER}, {"context": "stock"}])
    def test_another_domain_sender_or_context_has_another(self, place):
        store = cold_store()
        mark(guard_of(store))
        assert mark(guard_of(store, **place)) == 0
        with pytest.raises(RejectedError, match="replayed"):
            mark(guard_of(store))

    def test_many_threads_get_one_guard(self):
        store = cold_store()
        rows = at_once(8, lambda _: [guard_of(store, context=str(n)) for n in range(50)])
        got = [guard for row in rows for guard in row]
        assert len(got) == 400
        assert len(set(map(id, got))) == 50

    def test_the_state_leaves_out_who_was_only_asked_about(self):
        store = cold_store()
        guard = guard_of(store)
        guard_of(store, sender=OTHER)
        assert store.state() == {}
        mark(guard)
        assert store.state() == {("home", SENDER, "orders"): guard.state()}

    def test_the_state_is_read_between_two_changes(self):
        store = cold_store()
        with ThreadPoolExecutor(1) as pool:
            with held_by_another_thread(store._lock):
                asked = pool.submit(store.state)
                with pytest.raises(TimeoutError):
                    asked.result(timeout=0.05)
            assert asked.result() == {}

    def test_a_floor_alone_is_state(self):
        store = cold_store()
        guard = guard_of(store)
        guard.floor = 0
        assert store.state() == {("home", SENDER, "orders"): (0, ())}


class TestForks:
    @pytest.mark.audit("A18", "R6")
    def test_a_child_accepts_nothing_by_its_parents_store(self):
        store = MemoryReplayStore(first_life=True, clock=FakeClock())
        guard = guard_of(store)

        def use():
            with pytest.raises(StoreUnavailableError):
                mark(guard)
            return True

        assert in_child(use)

    @pytest.mark.audit("A18", "R6")
    @pytest.mark.parametrize("fork", [os.fork, raw_fork])
    def test_nor_of_a_sender_whom_the_parent_had_not_met(self, fork):
        store = MemoryReplayStore(first_life=True, clock=FakeClock())

        def use():
            with pytest.raises(StoreUnavailableError):
                mark(guard_of(store))
            return True

        assert in_child(use, fork=fork)

    @pytest.mark.audit("A18", "R6")
    def test_one_envelope_is_not_delivered_in_parent_and_child(self):
        world = World()
        opener = world.opener()
        data = world.sealer().seal(b"once")

        def open_it():
            try:
                return opener.open(data).payload
            except StoreUnavailableError as error:
                return error.code

        assert in_child(open_it) == "store_unavailable"
        assert open_it() == b"once"

    def test_a_store_made_in_the_child_serves_it(self):
        def use():
            return mark(guard_of(MemoryReplayStore(first_life=True, clock=FakeClock())))

        assert in_child(use) == 0

    def test_a_child_may_ask_though_a_thread_held_the_lock_at_the_fork(self):
        store = cold_store()
        with held_by_another_thread(store._lock):
            assert in_child(lambda: len(store.state()), seconds=5) == 0


class TestInterface:
    """What ``ReplayStore`` promises to openers and asks of stores."""

    def test_a_store_has_guards_and_an_end(self):
        with pytest.raises(TypeError, match=r"close.*guard"):
            ReplayStore()

    def test_it_is_not_durable(self):
        assert MemoryReplayStore.is_durable is False
        assert ReplayStore.is_durable is False

    def test_it_is_closed_at_the_end_of_with_also_after_an_error(self):
        closed = []

        class Store(ReplayStore):
            def guard(self, domain, sender, context):
                raise NotImplementedError

            def close(self):
                closed.append(self)

        with Store() as store:
            assert isinstance(store, Store)
            assert closed == []
        assert closed == [store]
        with pytest.raises(KeyError), Store() as other:
            raise KeyError
        assert closed == [store, other]

    def test_closing_memory_loses_nothing(self):
        with cold_store() as store:
            guard = guard_of(store)
            mark(guard)
        with pytest.raises(RejectedError, match="replayed"):
            mark(guard)

    def test_only_a_bool_declares_a_first_life(self):
        """A str from a configuration file is true, whatever it says."""
        with pytest.raises(UsageError, match="first_life is True or False"):
            MemoryReplayStore(first_life="false")

    @pytest.mark.parametrize("max_future", [-1, 61, "2", None])
    def test_its_max_future_is_one_that_a_policy_may_have(self, max_future):
        with pytest.raises(UsageError, match="max_future is a number of seconds from 0 to 60"):
            MemoryReplayStore(max_future=max_future)

    @pytest.mark.parametrize("now", [-1, 2**53, 1.5, START * 1000])
    def test_its_clock_counts_microseconds(self, now):
        with pytest.raises(UsageError, match="microseconds"):
            MemoryReplayStore(clock=lambda: now)

    def test_a_guard_tells_its_figures(self):
        guard = guard_of(cold_store())
        mark(guard, sequence=2)
        assert guard.gaps() == Gaps(1, 1, 2, 0, 0, 0, 2)
