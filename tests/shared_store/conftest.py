"""Stores over a real server: one that all tests share, or one of a test's own."""

from __future__ import annotations

import pytest
import shared_redis
from local_redis import LocalRedis
from support import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store(clock):
    with shared_redis.born(shared_redis.server().url, clock) as made:
        yield made


@pytest.fixture
def server(tmp_path):
    """Return a server of the test's own, to be maltreated."""
    with LocalRedis(tmp_path) as own:
        yield own
