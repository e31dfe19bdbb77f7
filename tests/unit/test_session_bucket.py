"""So many at once, then so many a second (SPEC 18.12)."""

from __future__ import annotations

import pytest

from envelope.session.bucket import Bucket
from envelope.session.timing import BURST, RATE

SECOND = 1_000_000


def taken(bucket, now, tries=1000):
    return sum(bucket.take(now) for _ in range(tries))


def test_the_numbers_are_those_of_the_specification():
    assert (BURST, RATE) == (32, 8)


@pytest.mark.audit("A16")
@pytest.mark.parametrize("now", [-5 * SECOND, 0, 1, 5 * SECOND, 2**62])
def test_32_at_once_and_then_8_a_second(now):
    bucket = Bucket()
    assert taken(bucket, now) == 32
    assert taken(bucket, now + SECOND // 8 - 1) == 0
    assert taken(bucket, now + SECOND // 8) == 1
    assert taken(bucket, now + SECOND) == 7
    assert taken(bucket, now + 3 * SECOND) == 16


def test_what_is_not_taken_is_saved_up_to_32():
    bucket = Bucket()
    assert taken(bucket, 0) == 32
    assert taken(bucket, 3600 * SECOND) == 32


def test_what_was_refused_costs_nothing():
    bucket = Bucket()
    assert taken(bucket, 0, tries=100_000) == 32
    assert bucket.take(SECOND // 8)


def test_a_reading_from_before_all_time_permits_nothing():
    bucket = Bucket()
    assert not bucket.take(-(2**62) - BURST * SECOND // RATE)
    assert taken(bucket, -(2**62)) == BURST
