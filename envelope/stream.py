"""Streams: the life of one generator (SPEC 6.1, 6.2).

Rules of this file:

- A stream starts at sequence 0, is never resumed, and needs nothing on disk.
- It belongs to the process that began it; a forked child is another process.
- The register of living streams is this process's own memory of what it sends:
  by it an opener knows its own envelopes (``reflected``) and which streams are
  younger than its replay memory.
"""

from __future__ import annotations

import itertools
import os
import struct
import threading
import weakref
from collections.abc import Callable

from envelope.forks import process
from envelope.primitives import Hasher

_two = struct.Struct(">QQ").pack
_start = struct.Struct(">Q").pack

birth = itertools.count(1).__next__
"""Return a number greater than that of every birth before it in this process."""


class _Register:
    """The streams that are alive here, by id; their sealers keep them alive."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._life = process.life()
        self._living: weakref.WeakValueDictionary[bytes, Stream] = weakref.WeakValueDictionary()
        process.adopt(self)

    def add(self, stream: Stream) -> None:
        process.life()  # In a child this replaces the lock, before it is taken.
        with self._lock:
            self._own()[stream.id] = stream

    def birth_of(self, stream: bytes) -> int | None:
        process.life()
        with self._lock:
            found = self._own().get(stream)
        return None if found is None else found.birth

    def _own(self) -> weakref.WeakValueDictionary[bytes, Stream]:
        life = process.life()
        if self._life != life:  # A child: the parent's streams are not its own.
            self._living = weakref.WeakValueDictionary()
            self._life = life
        return self._living


class Stream:
    """An id and a counter. Thread-safe: each sequence is handed out once.

    Attributes:
        id: 16 bytes (SPEC 6.2).
        take: returns the next sequence; atomic, without a lock.
        latest: the last sent_at, as good as threads can tell; kept by the sealer.
        birth: its place among the births of this process.
    """

    __slots__ = ("__weakref__", "_life", "birth", "id", "latest", "take")

    def __init__(self, hedge: Hasher, *, now: int, ns: int, random: Callable[[int], bytes]) -> None:
        """Begin a stream.

        Args:
            hedge: the identity's hash state of the label ``env1-stream``.
            now: wall clock, Unix microseconds.
            ns: wall clock, Unix nanoseconds.
            random: returns n random bytes.
        """
        self._life = process.life()
        state = hedge.copy()
        state.update(random(32) + _two(os.getpid(), ns))
        self.id = _start(now) + state.digest()[:8]
        self.take: Callable[[], int] = itertools.count().__next__
        self.latest = now
        self.birth = birth()
        _register.add(self)

    def is_foreign(self) -> bool:
        """Tell whether another process began this stream: a fork lies between."""
        return self._life != process.life()


_register = _Register()
began_here = _register.birth_of
"""began_here(stream id) -> its birth number if it is alive in this process, or None."""
