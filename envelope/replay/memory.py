"""Replay memory that lives and ends with the process (SPEC 8.7).

Rules of this file: it keeps guards and knows when its memory began. What an
earlier process accepted it cannot know, so it refuses what could be from then.
"""

from __future__ import annotations

import threading

from envelope import clock as clocks
from envelope import stream as streams
from envelope.clock import Clock
from envelope.errors import UsageError
from envelope.forks import process
from envelope.policy import Policy
from envelope.replay.guard import NEVER, Guard
from envelope.replay.store import ReplayStore


class MemoryReplayStore(ReplayStore):
    """Replay memory in this process alone. Thread-safe; not shared by fork.

    After a restart it is empty. Unless told that no earlier life used these keys,
    it therefore refuses (``before_start``) what is not stamped later than its own
    start plus ``max_future``: for about two seconds after a start
    nothing from outside is accepted. That protects a restart as long as the
    wall clock is not set back, in the earlier life or since, and ``max_future`` not
    lowered.

    A forked child that uses its parent's store gets ``store_unavailable``.
    """

    def __init__(
        self,
        *,
        first_life: bool = False,
        max_future: float = ReplayStore.max_future,
        clock: Clock = clocks.wall,
    ) -> None:
        """Begin an empty memory.

        Args:
            first_life: the receiver's keys, or its domain, were never used
                before; then there is nothing to remember and nothing to wait for.
                Declaring it after a restart permits replays.
            max_future: seconds, at least that of every policy used with this store,
                in this life and in those before.
            clock: wall clock in Unix microseconds.

        Raises:
            UsageError: ``first_life`` is no bool, or ``max_future`` out of bounds.
        """
        if type(first_life) is not bool:
            raise UsageError("first_life is True or False")
        self.max_future = Policy(max_future=max_future).max_future
        start = clocks.check(clock())
        self._cold = NEVER if first_life else start + clocks.microseconds(max_future)
        self._life = process.life()
        self._birth = streams.birth()
        self._guards: dict[tuple[str, bytes, str], Guard] = {}
        self._lock = threading.RLock()
        process.adopt(self)

    def guard(self, domain: str, sender: bytes, context: str) -> Guard:
        """Return the guard of one sender; see ``ReplayStore``. Raises nothing."""
        place = (domain, sender, context)
        with self._lock:
            found = self._guards.get(place)
            if found is None:
                made = Guard(cold=self._cold, birth=self._birth, life=self._life)
                # A signal handler may have made one meanwhile, and marked in it.
                found = self._guards.setdefault(place, made)
            return found

    def close(self) -> None:
        """Do nothing: there is nothing to keep."""

    def state(self) -> dict[tuple[str, bytes, str], object]:
        """Return all that decides a verdict, as values; untouched guards are left out."""
        with self._lock:
            states = {place: guard.state() for place, guard in self._guards.items()}
        return {place: state for place, state in states.items() if state != (NEVER, ())}
