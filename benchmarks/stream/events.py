"""Events of Zeek, and the head that each gets for its journey.

Rules of this file: an event is a line of JSON from a log, of a usual size, byte for byte or
as the same object in MessagePack. All are read before any clock runs. The head in front of
an event is what a subscriber needs to tell that it came, once, and when it was due.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Final, NamedTuple

from envelope import codec
from envelope.demo import events

LEAST, MOST = 256, 700
"""Bytes of an event. What is smaller or larger is left out."""
HEAD: Final = struct.Struct("=QQ")
"""An event's number, from 0, and when it was due, monotonic nanoseconds."""

_ROOT = Path(__file__).parents[2]


class Event(NamedTuple):
    """What one log line says, and under which topic it goes."""

    topic: bytes
    body: bytes


def find_logs() -> list[Path]:
    """Return the logs that stand beside the project, or those that come with it."""
    return sorted((_ROOT.parent / "shared" / "data" / "zeek").glob("*.log")) or events.find_logs()


def load(encoding: str) -> list[Event]:
    """Return all events of a usual size, encoded as ``msgpack`` or as ``json``.

    Raises:
        FileNotFoundError: there are no logs.
    """
    lines = [one for log in find_logs() for one in events.load(log, events.Parser(log))]
    found = [
        Event(
            kind.encode(),
            payload if encoding == "json" else codec.encode_object(json.loads(payload)),
        )
        for kind, payload in lines
    ]
    return [event for event in found if LEAST <= len(event.body) <= MOST]


def describe(found: list[Event], encoding: str) -> str:
    """Return in words what is sent."""
    sizes = [len(event.body) for event in found]
    kinds = len({event.topic for event in found})
    return (
        f"{len(found)} events of Zeek, of {kinds} kinds, {min(sizes)} to {max(sizes)} bytes as "
        f"{encoding}, {sum(sizes) / len(sizes):.0f} on average"
    )
