"""Challenges that wait for their answer, bounded for each sender (SPEC 16.5).

Rules of this file: tables without I/O, by a monotonic clock that is handed in. Whoever
is in them has signed something.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from envelope import clock
from envelope.zeromq.frames import Frames
from envelope.zeromq.requests import Lately

_BURST: Final = 64
_EVERY: Final = clock.SECOND // 10
"""A challenge costs a verification and a signature, some 200 us: with these bounds
recorded envelopes of one sender cost 2 ms of each second, however many are repeated. A
forged one costs a verification, as it would if it were fresh."""


class Pending(NamedTuple):
    """A challenge that was sent."""

    sender: bytes
    """The key id that may answer."""
    since: int
    request: bytes
    """The id of what it is about."""
    frames: Frames
    """Itself, without a route: it may be lost, and is sent again to whoever asks again."""


class _Bucket:
    __slots__ = ("at", "tokens")

    def __init__(self, now: int) -> None:
        self.tokens = _BURST
        self.at = now


class Challenges:
    """The challenges of one socket. Not thread-safe."""

    def __init__(self, max_age: int) -> None:
        self._max_age = max_age
        self.pending: dict[bytes, Pending] = {}
        self._by_request: dict[bytes, bytes] = {}
        self._answered = Lately()
        self._buckets: dict[bytes, _Bucket] = {}

    def may_ask(self, sender: bytes, now: int) -> bool:
        """Tell whether a sender has a token left. It may be a claim: nothing is taken."""
        bucket = self._buckets.get(sender)
        return bucket is None or bucket.tokens > 0 or now - bucket.at >= _EVERY

    def take(self, sender: bytes, now: int) -> None:
        """Take one of the tokens of a sender that ``may_ask``; only of one that was verified.

        Else a stranger who claims its key id could use them up.
        """
        bucket = self._buckets.setdefault(sender, _Bucket(now))
        more = (now - bucket.at) // _EVERY
        bucket.at += more * _EVERY
        bucket.tokens = min(_BURST, bucket.tokens + more) - 1

    def is_first(self, sender: bytes, now: int) -> bool:
        """Tell whether nothing else is awaited of a sender."""
        self._forget(now)
        return not any(one.sender == sender for one in self.pending.values())

    def add(self, challenge: bytes, pending: Pending) -> None:
        """Wait for the answer to a challenge."""
        self._forget(pending.since)
        self.pending[challenge] = pending
        self._by_request[pending.request] = challenge

    def find(self, request: bytes, now: int) -> Frames | None:
        """Return the challenge of a request, if its answer is still waited for."""
        self._forget(now)
        challenge = self._by_request.get(request)
        return None if challenge is None else self.pending[challenge].frames

    def close(self, challenge: bytes) -> bool:
        """Wait no more for an answer; return whether it was waited for."""
        pending = self.pending.pop(challenge, None)
        if pending is None:
            return False
        del self._by_request[pending.request]
        self._answered.add(challenge)
        return True

    def was_answered(self, challenge: bytes) -> bool:
        """Tell whether a challenge was answered lately."""
        return challenge in self._answered

    def _forget(self, now: int) -> None:
        """Forget those that came to nothing; they are in the order of their times."""
        while self.pending:
            oldest = next(iter(self.pending))
            if now - self.pending[oldest].since <= self._max_age:
                return
            del self._by_request[self.pending.pop(oldest).request]
