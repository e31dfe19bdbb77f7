"""Streams: the life of one generator (SPEC 6.1, 6.2).

Rules of this file:

- A stream starts at sequence 0, is never resumed, and needs nothing on disk.
- It belongs to the process that began it; a forked child is another process.
- The register is this process's own memory of what it sends: by it an opener knows
  its own envelopes (``reflected``) and which streams are younger than its replay
  memory. It outlives the sealers: an echo may come back late.
"""

from __future__ import annotations

import itertools
import os
import struct
import threading
from collections.abc import Callable

from envelope.forks import process
from envelope.primitives import Hasher

_two = struct.Struct(">QQ").pack
_start = struct.Struct(">Q").pack

birth = itertools.count(1).__next__
"""Return a number greater than that of every birth before it in this process."""


MAX_KNOWN = 65_536
"""Streams remembered as this process's own; some ten megabytes."""


class _Register:
    """The streams that this process began, by id; the last 65,536 of them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._life = process.life()
        self._births: dict[bytes, int] = {}
        process.adopt(self)

    def add(self, stream: Stream) -> None:
        process.life()  # In a child this replaces the lock, before it is taken.
        with self._lock:
            births = self._own()
            births[stream.id] = stream.birth
            if len(births) > MAX_KNOWN:
                # A signal handler may have dropped the same one meanwhile.
                births.pop(next(iter(births)), None)

    def birth_of(self, stream: bytes) -> int | None:
        process.life()
        with self._lock:
            return self._own().get(stream)

    def _own(self) -> dict[bytes, int]:
        life = process.life()
        if self._life != life:  # A child: the parent's streams are not its own.
            self._births = {}
            self._life = life
        return self._births


class Stream:
    """An id and a counter. Thread-safe: each sequence is handed out once.

    Attributes:
        id: 16 bytes (SPEC 6.2).
        take: returns the next sequence; atomic, without a lock.
        latest: the last sent_at, as good as threads can tell; kept by the sealer.
        birth: its place among the births of this process.
        life: that of the process which began it; in another a fork lies between.
    """

    __slots__ = ("birth", "id", "latest", "life", "take")

    def __init__(self, hedge: Hasher, *, now: int, ns: int, random: Callable[[int], bytes]) -> None:
        """Begin a stream.

        Args:
            hedge: the identity's hash state of the label ``env1-stream``.
            now: wall clock, Unix microseconds.
            ns: wall clock, Unix nanoseconds.
            random: returns n random bytes.
        """
        self.life = process.life()
        state = hedge.copy()
        state.update(random(32) + _two(os.getpid(), ns))
        self.id = _start(now) + state.digest()[:8]
        self.take: Callable[[], int] = itertools.count().__next__
        self.latest = now
        self.birth = birth()
        _register.add(self)


_register = _Register()
began_here = _register.birth_of
"""began_here(stream id) -> its birth number if this process began it, or None."""
