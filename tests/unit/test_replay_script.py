"""What the script of the shared store takes, answers and stores (SPEC 8.11)."""

from __future__ import annotations

import struct

import pytest

from envelope.replay import script

ATTEMPT = b"a" * 16
A, B = b"A" * 16, b"B" * 16
META = struct.pack(">10q", -1, *range(9))


def reply(cold, *verdicts):
    return ATTEMPT + struct.pack(f">{1 + len(verdicts)}q", cold, *verdicts)


def head(*, newest):
    """Return a stream of one envelope, 0, in a window of 64."""
    return struct.pack(">7q", -1, 0, newest, 1, 0, 64, 0)


def test_a_place_has_the_name_that_every_release_gives_it():
    name = "73737373737373737373737373737373:a71243b29fa123765752fa31269c3beb"
    assert script.key(b"s" * 16, "home", "orders") == name


@pytest.mark.parametrize(
    ("cold", "verdicts"),
    [(-1, []), (2**53 - 1, [0]), (-1, [-6, 2**48 - 1]), (0, [2**48 - 1, -6, 0])],
)
def test_an_answer_within_all_bounds_is_taken(cold, verdicts):
    assert script.parse(reply(cold, *verdicts), ATTEMPT, len(verdicts)) == (cold, verdicts)


@pytest.mark.parametrize(
    ("cold", "verdicts"), [(-2, []), (2**53, [0]), (-1, [0, -7]), (-1, [2**48, 0]), (-2, [0])]
)
def test_an_answer_out_of_a_bound_is_none(cold, verdicts):
    with pytest.raises(ValueError, match="out of all bounds"):
        script.parse(reply(cold, *verdicts), ATTEMPT, len(verdicts))


def test_what_is_stored_of_a_place_is_read_whole():
    ring = b"\x01" + bytes(8)
    fields = {b"meta": META, b"ids": A + B, b"r" + A: ring, b"r" + B: ring}
    fields |= {b"h" + A: head(newest=5), b"h" + B: head(newest=7)}
    floor, streams = script.restore(fields, None).state()
    assert floor == -1
    assert [(stream, newest) for stream, _, newest, *_ in streams] == [(A, 5), (B, 7)]


@pytest.mark.parametrize(("ceiling", "floor"), [(None, -1), (-1, -1), (7, 7)])
def test_a_place_without_fields_has_the_floor_of_its_ceiling(ceiling, floor):
    stored = None if ceiling is None else struct.pack(">q", ceiling)
    assert script.restore({}, stored).state() == (floor, ())
