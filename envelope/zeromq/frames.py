"""Messages as frames: patterns, routes, topics (SPEC 16.1, 16.2).

Rules of this file: no sealing, no opening, no I/O. What comes from a socket here was
authenticated by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import zmq

from envelope.errors import MalformedError, UsageError
from envelope.wire import FIXED_SIZE, ID_SIZE, MIN_SIZE, REPLY

Topic = bytes | str | None
Frames = list[bytes]
Route = tuple[bytes, ...]

RESERVED: Final = b"envelope/v1/"
CHALLENGE: Final = RESERVED + b"challenge"
ANSWER: Final = RESERVED + b"answer"
SYNC: Final = RESERVED + b"sync"
DONE: Final = RESERVED + b"done"
LABELS: Final = frozenset({CHALLENGE, ANSWER, SYNC, DONE})

_FLAGS_AT: Final = 5
_OTHER_FLAGS: Final = ~int(zmq.NOBLOCK)


class Pattern(NamedTuple):
    """What one type of socket can do."""

    sends: bool = False
    receives: bool = False
    by_topic: bool = False
    """Whether each of the first topics has a stream of its own."""
    is_routed: bool = False
    """Whether frames of the route stand before the message."""
    asks: bool = False
    answers: bool = False


PATTERNS: Final[dict[int, Pattern]] = {
    zmq.PUB: Pattern(sends=True, by_topic=True),
    zmq.XPUB: Pattern(sends=True, by_topic=True),
    zmq.SUB: Pattern(receives=True),
    zmq.XSUB: Pattern(receives=True),
    zmq.PUSH: Pattern(sends=True),
    zmq.PULL: Pattern(receives=True),
    zmq.PAIR: Pattern(sends=True, receives=True, asks=True, answers=True),
    zmq.REQ: Pattern(sends=True, receives=True, asks=True),
    zmq.REP: Pattern(sends=True, receives=True, answers=True),
    zmq.DEALER: Pattern(sends=True, receives=True, is_routed=True, asks=True, answers=True),
    zmq.ROUTER: Pattern(sends=True, receives=True, is_routed=True, asks=True, answers=True),
}


def split(frames: Sequence[bytes], pattern: Pattern) -> tuple[Route, Frames, bytes]:
    """Return route, bound frames and envelope of what a socket received.

    Raises:
        MalformedError: it has no empty frame where one belongs, or nothing after it.
    """
    if not pattern.is_routed:
        return (), list(frames[:-1]), frames[-1]
    try:
        at = frames.index(b"") + 1
    except ValueError:
        raise MalformedError("no empty frame before the envelope (SPEC 16.2)") from None
    if at == len(frames):
        raise MalformedError("nothing after the empty frame (SPEC 16.2)")
    return tuple(frames[:at]), list(frames[at:-1]), frames[-1]


def plain_bound(bound: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the bound frames without the label of a control message."""
    return tuple(one for one in bound if one not in LABELS)


def in_reply_to(data: bytes) -> bytes | None:
    """Return the id that an envelope names, if it is one and a reply. Nothing is verified."""
    if len(data) < MIN_SIZE or not data[_FLAGS_AT] & REPLY:
        return None
    return data[FIXED_SIZE : FIXED_SIZE + ID_SIZE]


def as_topic(topic: Topic) -> bytes | None:
    """Return a topic as bytes.

    Raises:
        UsageError: neither bytes nor str, or reserved.
    """
    if type(topic) is str:
        try:
            topic = topic.encode()
        except UnicodeEncodeError:
            raise UsageError("topic cannot be encoded as UTF-8") from None
    if topic is None:
        return None
    if type(topic) is not bytes:
        raise UsageError("topic is bytes or str; flags go by name: flags=zmq.NOBLOCK")
    if topic.startswith(RESERVED):
        raise UsageError(f"topics that begin with {RESERVED.decode()} are reserved (SPEC 16.1)")
    return topic


def as_route(route: Sequence[bytes] | None, *, is_needed: bool) -> Route:
    """Return a route as it is written before a message.

    Raises:
        UsageError: none where a ROUTER needs one, one where no other has any, or not a
            list of non-empty frames, with or without the empty one at the end.
    """
    if route is None and not is_needed:
        return ()
    if not is_needed:
        raise UsageError("only a ROUTER takes a route")
    if type(route) not in (list, tuple) or not route:
        raise UsageError("a ROUTER sends by a route: route=message.route, or route=[identity]")
    frames = tuple(route)
    if set(map(type, frames)) != {bytes}:
        raise UsageError("a route is a list of bytes")
    if frames[-1] != b"":
        frames = (*frames, b"")
    if b"" in frames[:-1] or len(frames) == 1:
        raise UsageError("the frames of a route are not empty")
    return frames


def check_no_one(to: object) -> None:
    """Check that a message is for no one in particular.

    Raises:
        UsageError: it is; only what a ROUTER sends by itself can be.
    """
    if to is not None:
        raise UsageError("to is for what a ROUTER sends by a route")


def check_flags(flags: int) -> None:
    """Check the flags of a send or a receive.

    Raises:
        UsageError: others than NOBLOCK. With SNDMORE the next message would become
            a part of this one.
    """
    if flags & _OTHER_FLAGS:
        raise UsageError(
            "flags are zmq.NOBLOCK or 0; several frames go in one call of send_multipart()"
        )
