"""benchmarks/flood.py refuses what it says, and its bounds on memory hold for each kind."""

from __future__ import annotations

import itertools

import flood
import pytest
from flood import MEMORY_BAR, ONCE, World, memory, receiver

KINDS = [kind.what for kind in World().kinds()]
MANY = {"objects": 4}
"""Inputs of a kind by its first word; others are small."""


@pytest.fixture
def world():
    return World(seed=1)


def kind_of(world, what):
    (kind,) = [kind for kind in world.kinds() if kind.what == what]
    return kind, MANY.get(what.split()[0], 200)


@pytest.mark.audit("A16", "A20", "P3")
@pytest.mark.parametrize("what", KINDS)
def test_each_kind_has_the_verdict_that_its_row_says(world, what):
    kind, many = kind_of(world, what)
    act, counts = receiver(world, kind)
    for data in itertools.islice(kind.make(), many):
        act(data)
    assert counts == {kind.code: many}


@pytest.mark.parametrize("what", KINDS)
def test_what_each_kind_is_measured_beside_opens_and_has_about_its_size(world, what):
    kind, _ = kind_of(world, what)
    act, counts = receiver(world, kind)
    (good,), (bad,) = itertools.islice(kind.good(), 1), itertools.islice(kind.make(), 1)
    act(good)
    assert counts == {flood.OPENED: 1}
    assert abs(len(good) - len(bad)) <= 0.1 * len(good)


@pytest.mark.audit("A16", "A20", "P3")
@pytest.mark.parametrize("what", KINDS)
def test_no_kind_needs_much_memory_or_leaves_any(world, what):
    """I go on and on: what is needed does not grow with how long, and nothing is kept."""
    kind, many = kind_of(world, what)
    need = memory(world, kind, many)
    assert need.kept <= MEMORY_BAR * many + ONCE
    assert need.peak <= 256 * 1024


def test_the_ratio_of_a_round_is_that_of_its_two_loops(world, monkeypatch):
    took = {"make": 3.0, "good": 2.0}
    kind, _ = kind_of(world, KINDS[0])
    kind = kind._replace(make=lambda: iter(["make"]), good=lambda: iter(["good"]))
    monkeypatch.setattr(flood, "seconds", lambda w, k, make, n, code: took[next(make())])
    assert flood.ratios(world, kind, 4, 1) == [1.5] * 4


def test_a_verdict_that_is_another_stops_the_measurement(world):
    kind, _ = kind_of(world, KINDS[0])
    with pytest.raises(SystemExit, match="malformed"):
        flood.seconds(world, kind, kind.make, 3, "stale")
