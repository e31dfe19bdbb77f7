"""Clocks in whole microseconds, and the highest reading that freshness rests on."""

from __future__ import annotations

import logging
import time

import pytest
from support import FakeClock

from envelope import UsageError, clock
from envelope.clock import SECOND, HighWater

TOLERANCE = 2 * SECOND


@pytest.fixture
def turned():
    return FakeClock(100 * SECOND)


@pytest.fixture
def water(turned):
    return HighWater(turned, tolerance=TOLERANCE)


def test_a_second_has_a_million_microseconds():
    assert SECOND == 1_000_000


def test_the_clocks_are_those_of_the_system():
    assert clock._time_ns is time.time_ns
    for ours, theirs in (
        (clock._monotonic_ns, lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)),
        (clock.monotonic_ns, time.monotonic_ns),
    ):
        before = theirs()
        assert before <= ours() <= theirs()


@pytest.mark.parametrize(("ns", "us"), [(0, 0), (999, 0), (1000, 1), (1999, 1), (-1, -1)])
def test_clocks_read_whole_microseconds_rounded_down(monkeypatch, ns, us):
    monkeypatch.setattr(clock, "_time_ns", lambda: ns)
    monkeypatch.setattr(clock, "_monotonic_ns", lambda: 7_000_000 + ns)
    assert clock.wall() == us
    assert clock.wall_ns() == ns
    assert clock.monotonic() == 7_000 + us


@pytest.mark.parametrize(
    ("seconds", "us"),
    [
        (0, 0),
        (1, 1_000_000),
        (2.3, 2_300_000),  # 2.3 * 10**6 lies just below
        (0.001, 1000),
        (30.0, 30_000_000),
        (1e-6, 1),
        (0.6e-6, 1),
        (0.4e-6, 0),
        (86_400, 86_400_000_000),
    ],
)
def test_seconds_become_the_nearest_microseconds(seconds, us):
    made = clock.microseconds(seconds)
    assert made == us
    assert type(made) is int


@pytest.mark.audit("A17")
def test_a_reading_of_a_wall_clock_has_the_range_of_sent_at():
    assert clock.MAX_TIME == 2**53
    for reading in (0, 1, 2**53 - 1):
        assert clock.check(reading) == reading


@pytest.mark.parametrize("reading", [-1, 2**53, 2**63, 1.5, None, "0", True])
def test_another_reading_is_the_callers_mistake(reading):
    for use in (clock.check, lambda now: HighWater(lambda: now, tolerance=0)):
        with pytest.raises(UsageError, match="clock returns Unix microseconds as an int"):
            use(reading)


def test_the_last_reading_is_known_beside_the_highest(turned, water):
    assert water.last == 100 * SECOND
    for reading in (101 * SECOND, 50 * SECOND, 60 * SECOND):
        turned.now = reading
        assert water.now() == 101 * SECOND
        assert water.last == reading


def test_the_highest_reading_rises_with_the_clock_and_never_falls(turned, water):
    assert water.now() == 100 * SECOND
    turned.now = 101 * SECOND
    assert water.now() == 101 * SECOND
    turned.now = 50 * SECOND
    assert water.now() == 101 * SECOND
    turned.now = 101 * SECOND + 1
    assert water.now() == 101 * SECOND + 1


def test_the_reading_at_the_start_counts(turned, water):
    turned.now -= SECOND
    assert water.now() == 100 * SECOND


@pytest.mark.audit("A19")
def test_a_step_back_is_one_beyond_the_tolerance(turned, water, caplog):
    turned.now = 100 * SECOND - TOLERANCE
    assert water.now() == 100 * SECOND
    assert (water.is_back, water.steps, caplog.records) == (False, 0, [])
    turned.now -= 1
    assert water.now() == 100 * SECOND
    assert (water.is_back, water.steps) == (True, 1)


@pytest.mark.audit("A19", "E3")
def test_a_step_back_is_counted_and_logged_once(turned, water, caplog):
    turned.now -= 90 * SECOND
    for _ in range(3):
        water.now()
        turned.now += 1
    assert water.steps == 1
    [record] = caplog.records
    assert (record.name, record.levelno) == ("envelope.clock", logging.WARNING)
    assert "stepped back by 90.0 s" in record.getMessage()
    assert "reset_clock()" in record.getMessage()


def test_a_clock_that_crept_back_within_the_tolerance_is_back_no_more(turned, water):
    turned.now -= 90 * SECOND
    water.now()
    turned.now = 100 * SECOND - TOLERANCE
    water.now()
    assert not water.is_back
    turned.now -= 1
    water.now()
    assert water.steps == 2


@pytest.mark.audit("A19")
@pytest.mark.parametrize("recovered", [100 * SECOND, 101 * SECOND])
def test_a_clock_that_jumped_forward_again_is_back_no_more(turned, water, recovered):
    turned.now -= 90 * SECOND
    water.now()
    turned.now = recovered
    assert water.now() == recovered
    assert not water.is_back
    turned.now -= 90 * SECOND
    water.now()
    assert water.steps == 2


def test_no_step_back_is_seen_at_first(water):
    assert (water.is_back, water.steps) == (False, 0)


@pytest.mark.audit("A19")
def test_reset_accepts_the_clock_as_it_is(turned, water):
    turned.now -= 90 * SECOND
    water.now()
    water.reset()
    assert not water.is_back
    assert water.now() == 10 * SECOND
    turned.now -= TOLERANCE + 1
    assert water.now() == 10 * SECOND
    assert water.steps == 2
