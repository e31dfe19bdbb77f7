"""Zones: the times of which a crash leaves no record (SPEC 8.10).

Rules of this file: it knows integers, no files, envelopes or clocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final, NamedTuple

from envelope.clock import SECOND

BEHIND: Final = 2 * SECOND
AHEAD: Final = SECOND
"""A zone reaches from two seconds before its middle to one second after: about one
commit a second for what is sent now, and three seconds of stamps lost by a crash."""
MAX_ZONES: Final = 16
"""Open at once: now, and senders that lag behind by different times. Beyond, the two
nearest become one."""
LINGER: Final = 2 * SECOND
"""How long a zone stays open that is not used."""
MAX_DEAD: Final = 64
"""Dead zones remembered, some crashes each; beyond, the oldest raise ``cold``."""


class Zone(NamedTuple):
    """The times later than ``after``, up to and with ``until``; Unix microseconds."""

    after: int
    until: int


NO_ZONE: Final = Zone(0, -1)
"""Holds no time."""


def around(time: int) -> Zone:
    """Return the zone that is opened for a time."""
    return Zone(time - BEHIND, time + AHEAD)


def find(zones: Iterable[Zone], sent_at: int) -> Zone | None:
    """Return the first zone that a time lies in, or None."""
    return next((zone for zone in zones if zone.after < sent_at <= zone.until), None)


def merge(used: dict[Zone, int]) -> None:
    """Make one of the two nearest zones until there are not too many."""
    while len(used) > MAX_ZONES:
        zones = sorted(used)
        left, right = min(itertools.pairwise(zones), key=lambda two: two[1].after - two[0].until)
        both = Zone(left.after, max(left.until, right.until))
        used[both] = max(used.pop(left), used.pop(right))


def bury(zones: Iterable[Zone], cold: int) -> tuple[list[Zone], int]:
    """Return dead zones, merged and few, and ``cold``, raised to those left out."""
    merged: list[Zone] = []
    for zone in sorted(zones):
        if type(zone.after) is not int or type(zone.until) is not int:
            raise ValueError("a zone that is none")
        if merged and zone.after <= merged[-1].until:
            merged[-1] = Zone(merged[-1].after, max(merged[-1].until, zone.until))
        else:
            merged.append(zone)
    while len(merged) > MAX_DEAD:
        cold = max(cold, merged.pop(0).until)
    return [zone for zone in merged if zone.until > cold], cold
