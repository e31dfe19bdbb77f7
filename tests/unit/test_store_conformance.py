"""What every replay store must do, whoever wrote it: the rules of ``ReplayStore``.

To try another store, add to ``STORES`` a function that makes one - from a folder and a
clock, and whether it is its first life - and how many times max_future its cold start is.
"""

from __future__ import annotations

import pytest
import shared_redis
from parallel import at_once, in_child
from support import SECOND, START, STREAM, FakeClock, World, mark

from envelope.errors import RejectedError
from envelope.replay import Batch, Gaps, Mark, MemoryReplayStore, ReplayStore, SQLiteReplayStore

SENDER, OTHER = b"s" * 16, b"o" * 16


def on_redis(_folder, clock, first):
    server, name = shared_redis.server(), shared_redis.namespace()
    if first:
        shared_redis.bear(server.url, name)
    return shared_redis.TimedStore(server.url, clock=clock, namespace=name)


STORES = {
    "memory": (lambda _folder, clock, first: MemoryReplayStore(first_life=first, clock=clock), 1),
    "sqlite": (
        lambda folder, clock, first: SQLiteReplayStore(
            folder / "replay.db", first_life=first, clock=clock
        ),
        1,
    ),
    "redis": (on_redis, 2),
}


@pytest.fixture(params=STORES)
def kind(request):
    return STORES[request.param]


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(kind, clock, tmp_path):
    """Return what makes a store of a kind."""
    return lambda *, first=True: kind[0](tmp_path, clock, first)


@pytest.fixture
def store(make):
    with make() as made:
        yield made


def check(guard, sequence, sent_at=START, *, stream=STREAM, expected=False):
    """Check one envelope; return None or the code."""
    try:
        guard.check(stream, sequence, sent_at, full_at=2, expected=expected)
    except RejectedError as error:
        return error.code
    return None


@pytest.fixture
def guard(store):
    return store.guard("home", SENDER, "orders")


def test_it_is_a_replay_store_and_says_whether_it_lasts(store):
    assert isinstance(store, ReplayStore)
    assert type(store.is_durable) is bool
    assert store.max_future == 2.0


def test_an_opener_takes_it(store):
    world = World()
    opener = world.opener(replay=store)
    data = world.sealer().seal(b"x")
    assert opener.open(data).payload == b"x"
    with pytest.raises(RejectedError, match="replayed"):
        opener.open(data)


@pytest.mark.audit("R1")
def test_check_changes_nothing_and_mark_remembers(guard):
    assert [check(guard, 0), check(guard, 0)] == [None, None]
    assert mark(guard, 0) == 0
    assert [check(guard, 0), mark(guard, 0)] == ["replayed", "replayed"]


def test_what_is_skipped_is_told_and_counted(guard):
    assert [mark(guard, n) for n in (2, 5, 4)] == [2, 2, 0]
    assert guard.gaps() == Gaps(1, 3, 4, 1, 1, 0, 2)


def test_behind_the_window_is_too_old(guard):
    mark(guard, 64)
    assert [mark(guard, 0), mark(guard, 1)] == ["too_old", 0]


@pytest.mark.audit("R3")
def test_a_dropped_stream_raises_the_floor(guard):
    for number in range(3):
        assert mark(guard, 0, START + number, stream=bytes([number]) * 16) == 0
    assert mark(guard, 1, START, stream=b"\0" * 16) == "too_old"
    assert mark(guard, 0, START, stream=b"n" * 16) == "too_old"
    assert mark(guard, 0, START + 9, stream=b"n" * 16) == 0


def test_an_old_stream_is_forgotten_behind_a_floor(guard):
    mark(guard, 0)
    mark(guard, 0, START + 9, stream=b"n" * 16, forget_before=START)
    assert guard.gaps().streams == 1
    assert mark(guard, 1) == "too_old"


@pytest.mark.audit("R6")
def test_one_place_is_one_memory_and_other_places_are_others(store, guard):
    mark(guard, 0)
    again = store.guard("home", SENDER, "orders")
    assert mark(again, 0) == "replayed"
    for place in (("away", SENDER, "orders"), ("home", OTHER, "orders"), ("home", SENDER, "x")):
        assert mark(store.guard(*place), 0) == 0


@pytest.mark.audit("A3", "R2")
def test_a_cold_start_refuses_up_to_its_start_plus_max_future(kind, make, clock):
    with make(first=False) as store:
        guard = store.guard("home", SENDER, "orders")
        cold = START + kind[1] * 2 * SECOND
        clock.advance(9)
        assert [check(guard, 0, cold), mark(guard, 0, cold)] == ["before_start"] * 2
        assert mark(guard, 0, cold, expected=True) == 0
        assert mark(guard, 1, cold + 1) == 0


@pytest.mark.audit("A16")
@pytest.mark.parametrize("sequence", [0, 2**48 - 1])
@pytest.mark.parametrize("sent_at", [0, 2**53 - 1])
def test_the_ends_of_all_ranges_are_taken(guard, clock, sequence, sent_at):
    clock.now = sent_at  # A shared store refuses what is ahead of its clock.
    assert mark(guard, sequence, sent_at) == sequence
    assert mark(guard, sequence, sent_at) == "replayed"


def test_a_batch_is_judged_one_by_one_and_in_order(store, guard):
    first, fourth = (STREAM, 0, START), (STREAM, 4, START)
    marks = [Mark(*one, False) for one in (first, first, (b"n" * 16, 7, START), fourth)]
    other = store.guard("home", OTHER, "orders")
    batches = [Batch(guard, marks, 2, 64, -1), Batch(other, marks[:1], 2, 128, -1)]
    results = [[getattr(one, "code", one) for one in some] for some in store.mark_each(batches)]
    assert results == [[0, "replayed", 7, 3], [0]]
    assert store.mark_each([]) == []
    assert store.mark_each([Batch(guard, [], 2, 64, -1)]) == [[]]
    assert mark(guard, 4) == "replayed"


def test_one_of_many_threads_gets_each(guard):
    won = at_once(4, lambda _: [mark(guard, n, full_at=64) for n in range(50)])
    for sequence in range(50):
        assert sum(type(one[sequence]) is int for one in won) == 1


@pytest.mark.audit("A18")
def test_a_forked_child_gets_nothing(store, guard):
    mark(guard, 0)
    assert in_child(lambda: mark(guard, 1)) == "store_unavailable"
    assert mark(guard, 1) == 0


def test_closing_raises_nothing_and_may_be_repeated(make):
    store = make()
    store.close()
    store.close()


def test_what_is_expected_is_taken_in_a_batch_though_the_start_was_cold(make):
    with make(first=False) as store:
        guard = store.guard("home", SENDER, "orders")
        marks = [Mark(STREAM, 0, START, False), Mark(STREAM, 1, START, True)]
        ((cold, expected),) = store.mark_each([Batch(guard, marks, 64, 64, 0)])
    assert cold.code == "before_start"
    assert expected == 1


def test_which_stores_outlive_a_process_and_which_wait_for_a_network():
    class Own(ReplayStore):
        """Says nothing of itself."""

    kinds = {kind: (kind.is_durable, kind.is_remote) for kind in (Own, MemoryReplayStore)}
    assert set(kinds.values()) == {(False, False)}
    assert (SQLiteReplayStore.is_durable, SQLiteReplayStore.is_remote) == (True, False)
