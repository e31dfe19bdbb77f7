"""Every limit of sessions that an application may set (SPEC 18.11), and those it may not.

Rules of this file: each number is named, bounded and argued.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envelope import clock
from envelope.errors import UsageError

REKEY_AFTER: Final = 2**32
"""Messages in one direction; after them whoever sends asks for new keys."""
REJECT_AFTER: Final = 2**40
"""Messages in one direction; none is sent after them. The nonce has room for 2^64 and the
header for 2^48; at a million a second this is 12 days, a session lives for minutes."""

MAX_STAGED: Final = 1024
MAX_STAGED_BYTES: Final = 16 * 2**20
"""What waits for sessions, of all links: some seconds of a busy sender."""
MAX_LINKS: Final = 1024
"""Links of one peer: processes that share an identity, or reconnects in one session's life."""
BURST: Final = 32
RATE: Final = 8
"""Handshakes granted to each peer, and hints sent: so many at once, and a second. A peer needs
one in two minutes; a thousand links that all lost their sessions have them in two minutes."""
RESPONDER_LATER: Final = 15 * clock.SECOND
"""Microseconds that the responder waits longer before it asks, so that usually one end does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a session does what (SPEC 18.11). Seconds. Immutable.

    Attributes:
        rekey_after: age at which whoever sends asks for new keys. Two minutes, so that the
            handshake's cost vanishes and what one stolen memory opens is little.
        reject_after: age at which a session ends, used or not: twice 30 s more, so that a
            handshake that needs a few tries does not interrupt.
        retry: until the first repetition of an initiation; a round trip and more, and still
            little where somebody waits for a restarted peer.
        retry_most: what the doubling ends at.
        give_up: from the first initiation to the end of trying. What is staged is lost then.
        keepalive: the time after which what was heard is confirmed if nothing else was sent.
        silence: the time after which nobody is believed to listen: keepalive and more.

    Raises:
        UsageError: a value outside its bounds, or values that contradict each other.
    """

    rekey_after: float = 120.0
    reject_after: float = 180.0
    retry: float = 0.25
    retry_most: float = 4.0
    give_up: float = 90.0
    keepalive: float = 10.0
    silence: float = 15.0

    def __post_init__(self) -> None:
        """Check every bound."""
        for name in self.__slots__:
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0.001 <= value <= 86_400:
                raise UsageError(f"{name} is a number of seconds from 0.001 to 86400")
        for less, more in (
            ("rekey_after", "reject_after"),
            ("retry", "retry_most"),
            ("retry_most", "give_up"),
            ("keepalive", "silence"),
            ("silence", "reject_after"),
        ):
            if getattr(self, less) > getattr(self, more):
                raise UsageError(f"{less} is at most {more}")


@dataclass(frozen=True, slots=True)
class Times:
    """The times of ``Timing`` in microseconds."""

    rekey: int
    reject: int
    retry: int
    retry_most: int
    give_up: int
    keepalive: int
    silence: int

    @classmethod
    def of(cls, timing: Timing) -> Times:
        """Convert them."""
        return cls(
            *map(
                clock.microseconds,
                (
                    timing.rekey_after,
                    timing.reject_after,
                    timing.retry,
                    timing.retry_most,
                    timing.give_up,
                    timing.keepalive,
                    timing.silence,
                ),
            )
        )
