"""Time, handed in: the only importer of ``time``.

Rules of this file: a clock is a callable without arguments that returns whole
microseconds. Everything in the library takes its clock as an argument, so that
tests and simulations own time. Wall time is Unix time (SPEC 1.2).
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable

from envelope.errors import UsageError

Clock = Callable[[], int]

_log = logging.getLogger("envelope.clock")

MAX_TIME = 2**53
"""Readings are below this, as sent_at is (SPEC 11.1)."""

SECOND = 1_000_000
"""Microseconds in a second."""

_time_ns = time.time_ns
_monotonic_ns = functools.partial(
    time.clock_gettime_ns, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
)


def wall() -> int:
    """Return the wall clock in Unix microseconds. It may step both ways."""
    return _time_ns() // 1000


def wall_ns() -> int:
    """Return the wall clock in Unix nanoseconds; an ingredient of stream ids."""
    return _time_ns()


def monotonic() -> int:
    """Return microseconds since an unknown start. It never steps back.

    Where the system can, those count in which the machine slept: an envelope ages then.
    """
    return _monotonic_ns() // 1000


monotonic_ns = time.monotonic_ns
"""Nanoseconds of a clock for waiting, where a call of Python's would show."""


def check(now: int) -> int:
    """Return a reading of a wall clock that can be one.

    Raises:
        UsageError: not an int, or out of the range of sent_at; nanoseconds, perhaps.
    """
    if type(now) is not int or not 0 <= now < MAX_TIME:
        raise UsageError("clock returns Unix microseconds as an int, from 0 to below 2**53")
    return now


def microseconds(seconds: float) -> int:
    """Return a number of seconds in whole microseconds, to the nearest."""
    return round(seconds * SECOND)


class HighWater:
    """The highest reading of a wall clock so far (SPEC 7.2 step 6, 7.6).

    Threads may share it; at worst a reading of a moment ago is forgotten.

    What was once too old stays so, also when the clock is set back; an operator
    who knows better says so by ``reset``.

    Attributes:
        last: the last reading itself.
        steps: how often the clock was seen to step back by more than ``tolerance``.
    """

    __slots__ = ("_clock", "_highest", "_is_back", "_tolerance", "last", "steps")

    def __init__(self, clock: Clock, *, tolerance: int) -> None:
        """Take the clock, and how many microseconds back are no step."""
        self._clock = clock
        self._tolerance = tolerance
        self._highest = self.last = check(clock())
        self._is_back = False
        self.steps = 0

    def now(self) -> int:
        """Return the highest reading so far."""
        now = self.last = self._clock()
        if now >= self._highest:
            self._highest = now
            self._is_back = False
            return now
        return self._behind(now)

    def _behind(self, now: int) -> int:
        is_back = now < self._highest - self._tolerance
        if is_back and not self._is_back:
            self.steps += 1
            _log.warning(
                "the wall clock stepped back by %.1f s; freshness is still judged by the highest "
                "reading. If the old reading was wrong, call reset_clock()",
                (self._highest - now) / SECOND,
            )
        self._is_back = is_back
        return self._highest

    @property
    def is_back(self) -> bool:
        """Whether the clock is behind its highest reading by more than the tolerance."""
        return self._is_back

    def reset(self) -> None:
        """Accept the clock as it is now."""
        self._highest = self._clock()
        self._is_back = False
