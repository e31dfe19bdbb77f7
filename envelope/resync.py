"""Freshness by challenge: what a receiver knows of streams that answered it (SPEC 7.7).

Rules of this file: no wall clock. An id that nobody could know before is proof
enough that whoever names it did so later; the monotonic clock bounds how much later.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from envelope.trust import Peer
from envelope.wire import KEY_ID_SIZE

_MAX_STREAMS: Final = 8
"""Streams kept for each sender: its processes that share an identity, and then some."""


class Challenge(NamedTuple):
    """What a receiver has to say to the sender of what it could not judge (SPEC 16.5)."""

    peer: Peer
    """Who signed it."""
    id: bytes
    """Its message id; it will never be delivered here."""
    age: int
    """Of the replay memory that refused it, microseconds."""


class Asking(NamedTuple):
    """What a receiver waits for: the reply to a request, or the answer to a challenge."""

    id: bytes | None
    """Of the request. None: the envelope is no reply."""
    senders: Collection[bytes] | None
    """The key ids that may answer; None for all that may send here."""
    since: int | None = None
    """When the challenge was made, monotonic microseconds; None: it is no challenge."""


UNJUDGED: Final = Asking(None, None)
"""For looking at what was refused as not fresh: steps 6 and 7 are left out."""


class _Anchor(NamedTuple):
    """A moment at which a stream's clock was heard."""

    sent_at: int
    since: int
    heard_at: int


class YoungStreams(dict[bytes, _Anchor]):
    """Streams that began after a challenge of this life; bounded for each sender.

    By the sender's key id and stream, 32 bytes. A dict, since every opening looks whether
    there is any. One thread writes at a time; any may read.
    """

    __slots__ = ()

    def add(self, origin: bytes, *, sent_at: int, since: int, now: int) -> None:
        """Remember a stream by the envelope that answered, its sequence being 0."""
        sender = origin[:KEY_ID_SIZE]
        own = [known for known in list(self) if known.startswith(sender)]
        for oldest in own[: max(0, len(own) - _MAX_STREAMS + 1)]:
            self.pop(oldest, None)
        self[origin] = _Anchor(sent_at, since, now)

    def is_fresh(
        self, origin: bytes, sent_at: int, *, now: int, max_age: int, max_future: int
    ) -> bool:
        """Judge an envelope by its stream's own clock; all times in microseconds."""
        anchor = self.get(origin)
        if anchor is None:
            return False
        oldest = anchor.sent_at + (now - anchor.since) - max_age
        return oldest <= sent_at <= anchor.sent_at + (now - anchor.heard_at) + max_future
