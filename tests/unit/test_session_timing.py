"""Times of sessions and their bounds (SPEC 18.11)."""

from __future__ import annotations

import dataclasses
import math

import pytest

from envelope import UsageError
from envelope.session import Timing
from envelope.session.timing import (
    BURST,
    MAX_LINKS,
    MAX_STAGED,
    MAX_STAGED_BYTES,
    RATE,
    REJECT_AFTER,
    REKEY_AFTER,
    RESPONDER_LATER,
    Times,
)

DEFAULTS = {
    "rekey_after": 120,
    "reject_after": 180,
    "retry": 0.25,
    "retry_most": 4,
    "give_up": 90,
    "keepalive": 10,
    "silence": 15,
}


def test_the_defaults_are_those_of_the_specification():
    assert dataclasses.asdict(Timing()) == DEFAULTS
    assert (REKEY_AFTER, REJECT_AFTER, RESPONDER_LATER) == (2**32, 2**40, 15_000_000)
    assert (MAX_STAGED, MAX_STAGED_BYTES, MAX_LINKS) == (1024, 16 * 1_048_576, 1024)
    assert (BURST, RATE) == (32, 8)


def test_times_are_the_same_in_microseconds():
    times = Times.of(Timing())
    assert [getattr(times, name) for name in times.__slots__] == [
        round(1_000_000 * seconds) for seconds in DEFAULTS.values()
    ]


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize(
    "value", [0, -1, 0.0009, 86_400.1, math.inf, math.nan, "1", None, True, 1j]
)
def test_a_time_outside_its_bounds_is_refused(name, value):
    with pytest.raises(UsageError, match=f"{name} is a number of seconds from"):
        Timing(**{name: value})


def test_the_bounds_themselves_are_welcome():
    assert Timing(**dict.fromkeys(DEFAULTS, 0.001)).retry == 0.001
    assert Timing(**dict.fromkeys(DEFAULTS, 86_400)).retry == 86_400


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("rekey_after", "reject_after"),
        ("retry", "retry_most"),
        ("retry_most", "give_up"),
        ("keepalive", "silence"),
        ("silence", "reject_after"),
    ],
)
def test_times_that_contradict_each_other_are_refused(less, more):
    # Rising values, in the order of what they are compared by; then one is put too low.
    rising = {"retry": 1, "retry_most": 2, "give_up": 3, "keepalive": 4, "silence": 5}
    rising |= {"rekey_after": 6, "reject_after": 7}
    Timing(**rising)
    with pytest.raises(UsageError, match=f"{less} is at most {more}"):
        Timing(**rising | {less: rising[more] + 0.5})


def test_a_timing_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Timing().retry = 1
