"""benchmarks/flood.py refuses what it says, and its bounds on memory hold for each kind."""

from __future__ import annotations

import itertools

import flood
import pytest
from flood import CHUNK, LATE, MEMORY_BAR, ONCE, OPENED, Siege, World, memory, receiver, report

from envelope import TrustStore

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


# --- A million streams --------------------------------------------------------------------


@pytest.mark.audit("A20", "P3")
def test_a_peer_with_a_stream_for_each_envelope_is_heard_and_what_is_late_refused(world):
    held = Siege(world)
    held.hold(3 * CHUNK)
    half = 3 * CHUNK // 2
    assert held.counts == {OPENED: half, LATE: half}
    assert len(held.sizes) == len(held.beside[OPENED]) == len(held.beside[LATE]) == 3
    (_, first), *_, (_, last) = held.sizes
    assert last <= first * flood.GROWTH_BAR


def test_something_kept_for_each_stream_is_seen(world):
    held, kept = Siege(world), []
    act = held._act

    def leak(data):
        act(data)
        kept.extend(object() for _ in range(200))

    held._act = leak
    held.hold(2 * CHUNK)
    lines, holds = report(held)
    assert not holds
    assert lines[-1].startswith("| objects of Python")
    assert lines[-1].endswith("| MISSED |")


def test_a_stream_with_another_verdict_stops_the_siege(world):
    world.trust = TrustStore([])
    with pytest.raises(SystemExit, match=r"unknown_sender.* and not 1,000 of each"):
        Siege(world).hold(2 * CHUNK)


def told(world, *, last=1.5, late=0.2, memory=105, objects=1050):
    """Return what is reported of 20 chunks whose last two are others."""
    held = Siege(world)
    held.counts.update({OPENED: 10_000, LATE: 10_000})
    for code, took, most, end in ((OPENED, 8e-5, 1.25, last), (LATE, 1e-5, 0.125, late)):
        held.took[code].extend([took] * 20)
        held.beside[code].extend([most] * 18 + [end] * 2)
    held.sizes = [(100, 1000), (memory, objects), (90, 900)]
    return report(held)


def test_figures_of_a_siege_are_those_of_its_tenths_and_its_most_memory(world):
    (introduction, *_, new, late, memory, objects), holds = told(world)
    assert holds
    assert "20,000 envelopes" in introduction
    assert "keeps 64 streams" in introduction
    assert "| 1.250 at first, 1.500 at last; 80.0 us each | 2.0 | holds |" in new
    assert "| 0.125 at first, 0.200 at last; 10.0 us each | 0.25 | holds |" in late
    assert memory.endswith("| 1.050 | 1.05 | holds |")
    assert objects.endswith("| 1.050 | 1.05 | holds |")


@pytest.mark.parametrize(
    "more", [{"last": 2.01}, {"late": 0.26}, {"memory": 106}, {"objects": 1060}]
)
def test_each_bar_of_a_siege_can_be_missed(world, more):
    lines, holds = told(world, **more)
    assert not holds
    assert sum("MISSED" in line for line in lines) == 1
