"""The simulation behind docs/guides/scaling.md tells what the guide says."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import scaling

from envelope import clock


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Return what came of every world whose time is simulated, by its name."""
    people, time = scaling.People(), scaling.Time(clock.wall())
    folder = tmp_path_factory.mktemp("scaling")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
        return {
            world.what: scaling.simulate(world, 5, people, time, other)
            for world in (*scaling.alone(people, time, folder), *scaling.sharded(people, time))
        }


def one(outcomes, part):
    (name,) = [name for name in outcomes if part in name]
    return outcomes[name]


def test_only_a_shard_map_changed_at_once_delivers_twice(outcomes):
    assert [name for name in outcomes if outcomes[name].twice] == [
        "4 shards become 5: at once (wrong)"
    ]


@pytest.mark.parametrize("part", ["memory: calm", "cleanly", "addressed"])
def test_without_a_loss_of_memory_all_that_arrives_is_delivered(outcomes, part):
    for name in outcomes:
        if part in name:
            assert outcomes[name].delivered == outcomes[name].arrived > 1000


def test_a_memory_that_was_lost_is_quiet_for_max_future(outcomes):
    restarted = one(outcomes, "one receiver, memory: restarted")
    quiet = scaling.DOWN + scaling.POLICY.max_future
    assert quiet <= restarted.quiet < quiet + 0.2
    assert set(restarted.refused) == {"before_start"}


def test_a_killed_file_refuses_three_seconds_at_most(outcomes):
    killed = one(outcomes, "killed")
    assert set(killed.refused) == {"before_start"}
    assert 0 < killed.refused.total() < 3 * scaling.SENDERS * scaling.RATE
    assert killed.quiet < 2


def test_the_senders_that_move_with_a_pause_are_refused_meanwhile(outcomes):
    assert set(one(outcomes, "pause").refused) == {"unknown_sender"}
