"""The cast of every story: a world, Bob who listens, and a network between."""

from __future__ import annotations

import pytest
from simulator import Network, Receiver
from support import World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def bob(world):
    return Receiver(world.opener())


@pytest.fixture
def carol(world):
    return Receiver(world.opener(world.carol))


@pytest.fixture
def network(world):
    """A network that does nothing yet; a story hands it its attacks."""
    return Network(world.clock)
