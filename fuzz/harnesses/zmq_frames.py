"""What frames are split into is what they were; without a route's end they are malformed.

SPEC 16.1, 16.2. The first byte is the type of the socket, then pieces that are frames.
"""

from __future__ import annotations

from random import Random

from envelope.errors import MalformedError, UsageError
from envelope.zeromq import frames as zmq_frames
from envelope.zeromq.frames import LABELS, PATTERNS, RESERVED
from fuzz.envelopes import REQUEST, VALID
from fuzz.harness import Change
from fuzz.mutations import join, pieces_mutator, split

COVERS = ("envelope.zeromq.frames",)
SHARE = 2

_PATTERNS = tuple(PATTERNS.values())
_KINDS = len(_PATTERNS)
_ROUTER = _KINDS - 1
_FRAMES = (b"", b"", b"route", b"topic", *sorted(LABELS), RESERVED, VALID[0], VALID[4])
SEEDS = (
    bytes([_ROUTER]) + join([b"client", b"", b"topic", VALID[4]]),
    bytes([_ROUTER]) + join([b"client", b"", VALID[0]]),
    bytes([_ROUTER]) + join([b"", VALID[0]]),
    b"\2" + join([b"topic", VALID[0]]),
    b"\6" + join([b"eu", b"envelope/v1/challenge", VALID[4]]),
)
_LIMIT = 80


def check(data: bytes) -> None:
    """Split, put together, and read what the last frame answers."""
    frames = split(data[1:], _LIMIT) or [b""]
    pattern = _PATTERNS[data[0] % _KINDS] if data else _PATTERNS[0]
    try:
        route, bound, last = zmq_frames.split(frames, pattern)
    except MalformedError:
        assert pattern.is_routed
        assert b"" not in frames[:-1]
        return
    assert [*route, *bound, last] == frames
    assert bool(route) == pattern.is_routed
    assert b"" not in route[:-1]
    assert route[-1:] in ((), (b"",))
    plain = zmq_frames.plain_bound(bound)
    assert [one for one in bound if one in plain] == list(plain)
    named = zmq_frames.in_reply_to(last)
    assert named is None or (named == last[80:112] and last[5] & 2)
    for frame in frames[:4]:
        _check_topic(frame)
    if route and any(route[:-1]):
        assert zmq_frames.as_route(list(route), is_needed=True) == route
        assert zmq_frames.as_route(list(route[:-1]), is_needed=True) == route


def _check_topic(frame: bytes) -> None:
    try:
        assert zmq_frames.as_topic(frame) == frame
    except UsageError:
        assert frame.startswith(RESERVED)
    else:
        assert not frame.startswith(RESERVED)


def _change_frame(frame: bytes, max_size: int, random: Random, change: Change) -> bytes:
    return change(frame, max_size) if random.randrange(2) else random.choice((*_FRAMES, REQUEST))


_change = pieces_mutator(_LIMIT, lambda random: random.choice(_FRAMES), _change_frame)


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change the frames as a list, or bytes."""
    if random.randrange(3) == 0:
        return change(data, max_size)
    kind = random.choice((data[:1] or b"\0", bytes([random.randrange(_KINDS)])))
    return kind + _change(data[1:], max_size - 1, random, change)
