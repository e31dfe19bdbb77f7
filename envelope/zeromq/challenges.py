"""Challenges that wait for their answer, bounded for each sender (SPEC 16.5).

Rules of this file: tables without I/O, by a monotonic clock that is handed in. Whoever
is in them has signed something.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from envelope import clock

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
        self._buckets: dict[bytes, _Bucket] = {}

    def may_ask(self, sender: bytes, now: int) -> bool:
        """Take one of a sender's tokens, if it has any; only of one that was verified.

        Else a stranger who claims its key id could use them up.
        """
        bucket = self._buckets.setdefault(sender, _Bucket(now))
        more = (now - bucket.at) // _EVERY
        if more > 0:
            bucket.tokens = min(_BURST, bucket.tokens + more)
            bucket.at = now
        if bucket.tokens == 0:
            return False
        bucket.tokens -= 1
        return True

    def is_first(self, sender: bytes) -> bool:
        """Tell whether nothing else is awaited of a sender."""
        return not any(one.sender == sender for one in self.pending.values())

    def add(self, challenge: bytes, sender: bytes, now: int) -> None:
        """Wait for the answer to a challenge; forget those that came to nothing."""
        for old, one in list(self.pending.items()):
            if now - one.since <= self._max_age:
                break  # They are in the order of their times.
            del self.pending[old]
        self.pending[challenge] = Pending(sender, now)
