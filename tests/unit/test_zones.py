"""Zones: which times they hold, and what becomes of too many (SPEC 8.10)."""

from __future__ import annotations

import pytest

from envelope.replay.zones import NO_ZONE, Zone, bury, find, merge


@pytest.mark.parametrize("time", [-2, -1, 0, 1])
def test_the_zone_that_is_none_holds_no_time(time):
    assert find([NO_ZONE], time) is None


def test_sixteen_zones_stay_apart():
    used = {Zone(10 * n, 10 * n + 3): n for n in range(16)}
    before = dict(used)
    merge(used)
    assert used == before


@pytest.mark.parametrize(
    ("another", "neighbour", "both"),
    [
        (Zone(45, 46), Zone(40, 43), Zone(40, 46)),
        (Zone(48, 49), Zone(50, 53), Zone(48, 53)),
        (Zone(91, 92), Zone(90, 93), Zone(90, 93)),
    ],
)
@pytest.mark.parametrize("used_at", [3, 30])
def test_of_seventeen_the_two_nearest_become_one(another, neighbour, both, used_at):
    used = {Zone(10 * n, 10 * n + 3): n for n in range(16)}
    expected = {**used, both: max(used_at, used[neighbour])}
    if both != neighbour:
        del expected[neighbour]
    used[another] = used_at
    merge(used)
    assert used == expected


def test_sixty_four_dead_zones_are_kept_and_the_oldest_raise_the_cold_start():
    zones = [Zone(10 * n, 10 * n + 3) for n in range(66)]
    assert bury(zones[:64], -1) == (zones[:64], -1)
    assert bury(zones, -1) == (zones[2:], zones[1].until)
