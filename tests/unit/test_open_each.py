"""Several envelopes at once are judged as one after the other would be."""

from __future__ import annotations

import pytest
import shared_redis
from hypothesis import given
from hypothesis import strategies as st
from support import START, World

from envelope import Bundle
from envelope.errors import RejectedError, StoreUnavailableError, UsageError
from envelope.replay import MemoryReplayStore, SQLiteReplayStore


def one_by_one(opener, arrivals):
    """Return what ``open_bundle`` returns or raises for each."""
    results = []
    for *bound, data in arrivals:
        try:
            results.append(opener.open_bundle(data, bound=bound))
        except RejectedError as error:
            results.append(error)
    return results


def plain(results):
    """Return results as values that compare."""
    return [
        (one.code, one.detail, one.verified, one.claimed_sender)
        if isinstance(one, RejectedError)
        else [(m.payload, m.skipped, m.id, m.sender.name, m.bound) for m in one]
        for one in results
    ]


def some_of_everything(world):
    """Return arrivals: good ones, and one for each way to be refused."""
    alice, sealed = world.sealer(), world.sealer(to=[world.bob.public])
    good = [[b"t", alice.seal(b"%d" % n, bound=[b"t"])] for n in range(3)]
    secret = [[sealed.seal(b"s")], [sealed.seal_bundle([b"a", b"b"])]]
    broken = bytearray(sealed.seal(b"x"))
    broken[-70] ^= 1
    arrivals = [
        *good,
        *secret,
        [b"other", alice.seal(b"elsewhere", bound=[b"t"])],
        [bytes(broken)],
        [b""],
        [b"\0" * 200],
        [world.sealer().seal(b"y", in_reply_to=b"i" * 32)],
        [alice.seal(b"late")],
    ]
    stranger = World()
    stranger.alice = world.mallory
    arrivals.append([stranger.sealer().seal(b"m")])
    return arrivals


@given(st.data())
def test_the_results_are_those_of_one_after_the_other(data):
    world = World()
    arrivals = data.draw(st.permutations(some_of_everything(world)))
    at = data.draw(st.integers(0, len(arrivals)))
    workers = data.draw(st.integers(1, 3))
    first, second = world.opener(), world.opener()
    expected = one_by_one(first, arrivals)
    results = [
        *second.open_each(arrivals[:at], workers=workers),
        *second.open_each(tuple(arrivals[at:]), workers=workers),
    ]
    assert plain(results) == plain(expected)
    assert second.stats == first.stats
    assert second.replay.state() == first.replay.state()


@pytest.mark.audit("R1")
@pytest.mark.parametrize("workers", [1, 4])
def test_of_copies_in_one_batch_one_is_delivered(workers):
    world = World()
    opener, sealer = world.opener(), world.sealer()
    arrivals = [[sealer.seal(b"%d" % n)] for n in range(3)]
    copies = [*arrivals, *reversed(arrivals), *arrivals, *arrivals * 10]
    results = opener.open_each(copies, workers=workers)
    assert [one[0].payload for one in results[:3]] == [b"0", b"1", b"2"]
    refused = [(one.code, one.verified, one.claimed_sender) for one in results[3:]]
    assert refused == [("replayed", True, world.alice.key_id)] * 36


def test_many_workers_mark_in_a_durable_store_too(tmp_path):
    world = World()
    sealer = world.sealer(to=[world.bob.public])
    arrivals = [[sealer.seal(b"%d" % n)] for n in range(200)]
    path = tmp_path / "memory"
    with SQLiteReplayStore(path, first_life=True, clock=world.clock) as store:
        results = world.opener(replay=store).open_each(arrivals, workers=4)
        assert [one[0].payload for one in results] == [b"%d" % n for n in range(200)]
    with SQLiteReplayStore(path, clock=world.clock) as store:
        results = world.opener(replay=store).open_each(arrivals, workers=4)
        assert {one.code for one in results} == {"replayed"}


@pytest.mark.parametrize("workers", [0, -1, None, True, 2.0, "2"])
def test_workers_are_a_number_of_threads(workers):
    world = World()
    opener = world.opener()
    arrivals = [[world.sealer().seal(b"x")]]
    with pytest.raises(UsageError, match="workers"):
        opener.open_each(arrivals, workers=workers)
    assert opener.open_each(arrivals)[0][0].payload == b"x"


def test_nothing_is_nothing():
    assert World().opener().open_each([]) == []


@pytest.mark.parametrize("arrivals", [b"x", None, [b"x"], [[]], [["x"]], [[b"x"], [None]], {1: 2}])
def test_what_are_no_arrivals_is_refused_before_anything_is_opened(arrivals):
    world = World()
    opener = world.opener()
    with pytest.raises(UsageError):
        opener.open_each(arrivals)
    good = [world.sealer().seal(b"x")]
    if isinstance(arrivals, list):
        with pytest.raises(UsageError):
            opener.open_each([good, *arrivals])
    assert isinstance(opener.open_each([good])[0], Bundle)


def test_a_refusal_keeps_no_frames_of_the_way_it_came():
    world = World()
    opener = world.opener()
    for one in opener.open_each(some_of_everything(world)):
        if isinstance(one, RejectedError):
            assert one.__traceback__ is None
            assert one.__context__ is None


@pytest.mark.audit("A24")
def test_an_outage_refuses_each_and_each_may_be_offered_again():
    world = World()
    server, name = shared_redis.server(), shared_redis.namespace()
    shared_redis.bear(server.url, name)
    with shared_redis.TimedStore(server.url, clock=world.clock, namespace=name) as store:
        opener = world.opener(replay=store)
        arrivals = [[world.sealer().seal(b"%d" % n)] for n in range(5)]
        for fault in ("lost", "unheard"):
            store.fault = fault
            refused = opener.open_each([*arrivals, [b"nonsense"]])
            assert [one.code for one in refused] == ["store_unavailable"] * 5 + ["malformed"]
            assert all(isinstance(one, StoreUnavailableError) for one in refused[:5])
        store.fault = None
        results = opener.open_each(arrivals)
        assert [one[0].payload for one in results] == [b"%d" % n for n in range(5)]
        assert {one.code for one in opener.open_each(arrivals)} == {"replayed"}
        assert opener.stats.messages == 5


def test_batches_of_a_shared_store_are_judged_as_through_memory():
    world = World()
    server, name = shared_redis.server(), shared_redis.namespace()
    shared_redis.bear(server.url, name)
    arrivals = some_of_everything(world)
    memory = world.opener(replay=MemoryReplayStore(first_life=True, clock=world.clock))
    with shared_redis.TimedStore(server.url, clock=world.clock, namespace=name) as store:
        shared = world.opener(replay=store)
        expected = [getattr(one, "code", None) or len(one) for one in one_by_one(memory, arrivals)]
        results = [getattr(one, "code", None) or len(one) for one in shared.open_each(arrivals)]
        assert results == expected
        assert world.clock.now == START
