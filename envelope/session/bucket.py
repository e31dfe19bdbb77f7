"""A bound on how often something is done (SPEC 18.12).

Rules of this file: integers only; time is handed in.
"""

from __future__ import annotations

from typing import Final

from envelope import clock
from envelope.session.timing import BURST, RATE

_EACH: Final = clock.SECOND // RATE


class Bucket:
    """Permits ``BURST`` at once, then ``RATE`` a second. Not thread-safe."""

    __slots__ = ("_full_at",)

    def __init__(self) -> None:
        self._full_at = -(2**62)

    def take(self, now: int) -> bool:
        """Tell whether one more is permitted at ``now`` (monotonic us), and count it if so."""
        full_at = max(self._full_at, now) + _EACH
        if full_at - now > BURST * _EACH:
            return False
        self._full_at = full_at
        return True
