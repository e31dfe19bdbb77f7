"""At most once: the rules of SPEC 8, for one sender in one context.

Rules of this file:

- No clock decides anything here. ``sent_at`` is compared with what was accepted
  before; ``now`` only tells what is so old that its memory may go.
- ``check`` changes nothing. ``mark`` checks again and then changes everything in
  one step under one lock.
- Whatever drops a window raises the floor first. Floors never fall.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, NamedTuple

from envelope import stream as streams
from envelope.errors import BeforeStartError, ReplayedError, StoreUnavailableError, TooOldError
from envelope.forks import process
from envelope.replay.window import Window
from envelope.wire import STREAM_SIZE

NEVER: Final = -1
"""A time before all times: the floor or cold start that refuses nothing."""
_BEHIND: Final = "behind the replay window of its stream"


class Gaps(NamedTuple):
    """What a sender claims to have sent, and what came of it (SPEC 8.9)."""

    streams: int
    """Streams in memory now."""
    accepted: int
    """Envelopes accepted."""
    skipped: int
    """Sequences passed over when a newer one came, whether they came later or not."""
    late: int
    """Accepted behind a newer one."""
    missing: int
    """Not here yet, and still welcome."""
    lost: int
    """Not here, and too late now."""
    unseen: int
    """Before the first one accepted of a stream: lost, or sent before we listened."""


@dataclass(slots=True)
class _Entry:
    """What is remembered of one stream."""

    window: Window
    floor: int
    """The guard's floor when this entry was made."""
    first: int
    """The first sequence accepted."""
    newest: int = NEVER
    """The highest sent_at accepted."""
    accepted: int = 0
    early: int = 0
    """How many of ``accepted`` are below ``first``."""


class Remembered(NamedTuple):
    """One stream's memory as values, for a store that writes it down."""

    floor: int
    first: int
    newest: int
    accepted: int
    early: int
    size: int
    top: int
    ring: bytes


class Guard:
    """Floor and streams of one (domain, sender, context). Thread-safe.

    Attributes:
        cold: times at and before it are before the store's memory; raised by the
            store, never lowered.
        floor: unknown streams at and before it are too old.
    """

    __slots__ = (
        "_birth",
        "_closed",
        "_entries",
        "_is_marking",
        "_late",
        "_life",
        "_lock",
        "_skipped",
        "cold",
        "floor",
    )

    def __init__(self, *, cold: int, birth: int, life: int | None = None) -> None:
        """Make an empty memory.

        Args:
            cold: the store's cold start in Unix microseconds, or ``NEVER``.
            birth: the store's birth number in this process (``stream.birth``).
            life: of the process that made the store; this one's if None.
        """
        self.cold = cold
        self.floor = NEVER
        self._birth = birth
        self._life = process.life() if life is None else life
        self._entries: dict[bytes, _Entry] = {}
        self._is_marking = False
        self._lock = threading.RLock()  # A signal handler may want the figures.
        self._skipped = 0
        self._late = 0
        self._closed = Gaps(0, 0, 0, 0, 0, 0, 0)

    def check(
        self, stream: bytes, sequence: int, sent_at: int, *, full_at: int, expected: bool
    ) -> None:
        """Check one envelope and change nothing (SPEC 8.4).

        Args:
            stream: 16 bytes.
            sequence: of the envelope.
            sent_at: Unix microseconds.
            full_at: at how many streams the table is full.
            expected: whether this is the reply to a request of this process's life.

        Raises:
            BeforeStartError: stamped before the memory begins.
            TooOldError: behind the window or a floor.
            ReplayedError: accepted before.
        """
        if sent_at <= self.cold and not expected and not self.is_younger(stream):
            short = (self.cold - sent_at) / 1_000_000
            raise BeforeStartError(
                f"stamped {short:.3f} s before this receiver's replay memory begins"
            )
        entry = self._entries.get(stream)
        if entry is not None:
            window = entry.window
            if sent_at <= entry.floor:
                raise TooOldError("stamped before this sender's floor")
            if sequence <= window.top:  # An honest next one calls nothing.
                if sequence + window.size <= window.top:
                    raise TooOldError(_BEHIND)
                if window.has(sequence):
                    raise ReplayedError
        elif sent_at <= self.floor:
            raise TooOldError("stamped before this sender's floor")
        elif len(self._entries) >= full_at and sent_at <= self._lowest_newest():
            raise TooOldError("older than every stream remembered of this sender")

    def check_window(self, stream: bytes, sequence: int) -> None:
        """Check the window alone, of a memory that is not all there is (SPEC 8.11).

        Raises:
            TooOldError: behind it.
            ReplayedError: accepted before.
        """
        entry = self._entries.get(stream)
        if entry is None or sequence > entry.window.top:
            return
        if sequence + entry.window.size <= entry.window.top:
            raise TooOldError(_BEHIND)
        if entry.window.has(sequence):
            raise ReplayedError

    def mark(  # noqa: PLR0913 (an envelope's place, and the receiver's two limits)
        self,
        stream: bytes,
        sequence: int,
        sent_at: int,
        *,
        full_at: int,
        window: int,
        expected: bool,
        forget_before: int = NEVER,
    ) -> int:
        """Check again and remember, in one step (SPEC 8.5).

        Args:
            stream: 16 bytes.
            sequence: of the envelope.
            sent_at: Unix microseconds.
            full_at: at how many streams the table is full.
            window: size for a stream that is new.
            expected: as in ``check``.
            forget_before: streams whose newest envelope is not later may be
                dropped when a new one comes; their time raises the floor.

        Returns:
            How many sequences are missing just before this one (SPEC 8.9).

        Raises:
            BeforeStartError, TooOldError, ReplayedError: as ``check``.
            StoreUnavailableError: this memory was made before a fork; the parent
                has it too, and neither can know what the other accepts. Or a signal
                handler calls this from within itself.
        """
        if process.life() != self._life:
            raise StoreUnavailableError("this replay memory is the parent's; make one after fork")
        with self._lock:
            if self._is_marking:
                raise StoreUnavailableError("called by a signal handler from within a mark")
            self._is_marking = True
            try:
                self.check(stream, sequence, sent_at, full_at=full_at, expected=expected)
                entry = self._entries.get(stream)
                if entry is None:
                    self._make_room(full_at, forget_before)
                    entry = _Entry(Window(window), self.floor, sequence)
                late = sequence < entry.window.top
                # At every point a signal handler may raise: newest is never too low.
                entry.newest = max(entry.newest, sent_at)
                skipped = entry.window.add(sequence)
                entry.accepted += 1
                if late:
                    self._late += 1
                    entry.early += sequence < entry.first
                self._skipped += skipped
                if entry.accepted == 1:  # Now it is whole.
                    self._entries[stream] = entry
                return skipped
            finally:
                self._is_marking = False

    def _make_room(self, full_at: int, forget_before: int) -> None:
        """Make room for an entry."""
        if self._entries:
            for known, entry in list(self._entries.items()):
                if entry.newest <= forget_before:
                    self._drop(known)
        while len(self._entries) >= full_at:
            self._drop(min(self._entries, key=lambda known: self._entries[known].newest))

    def _drop(self, stream: bytes) -> None:
        """Raise the floor to what the window accepted, then drop the window (SPEC 8.6)."""
        entry = self._entries[stream]
        self.floor = max(self.floor, entry.newest)
        self._closed = self._add(self._closed, entry, closed=True)
        del self._entries[stream]

    def _lowest_newest(self) -> int:
        """Return the lowest ``newest``; of a copy, for a peek holds no lock."""
        return min((entry.newest for entry in list(self._entries.values())), default=NEVER)

    def is_younger(self, stream: bytes) -> bool:
        """Tell whether this very process began the stream after the store (SPEC 8.7)."""
        birth = streams.began_here(stream)
        return birth is not None and birth > self._birth

    def _reading(self) -> AbstractContextManager[object]:
        """Return what protects a reading: in a forked child, where nobody marks, nothing."""
        return self._lock if process.life() == self._life else nullcontext()

    @staticmethod
    def _add(total: Gaps, entry: _Entry, *, closed: bool) -> Gaps:
        unseen = entry.first - entry.early
        gone = entry.window.top + 1 - unseen - entry.accepted
        holes = 0 if closed else entry.window.holes(entry.first)
        return total._replace(
            accepted=total.accepted + entry.accepted,
            missing=total.missing + holes,
            lost=total.lost + gone - holes,
            unseen=total.unseen + unseen,
        )

    def gaps(self) -> Gaps:
        """Return the figures of SPEC 8.9. Costs about the size of the windows."""
        with self._reading():
            total = self._closed
            for entry in self._entries.values():
                total = self._add(total, entry, closed=False)
            return total._replace(
                streams=len(self._entries), skipped=self._skipped, late=self._late
            )

    def state(self) -> tuple[int, tuple[tuple[bytes, int, int, int, int, int, int], ...]]:
        """Return all that decides a verdict, as values that compare and serialise.

        Returns:
            floor, and for each stream (id, stream floor, newest, window size, top,
            bits, first), in the order of ids.
        """
        with self._reading():
            return self.floor, tuple(
                (
                    stream,
                    entry.floor,
                    entry.newest,
                    entry.window.size,
                    entry.window.top,
                    entry.window.bits(),
                    entry.first,
                )
                for stream, entry in sorted(self._entries.items())
            )

    def known(self) -> set[bytes]:
        """Return the ids of the streams in memory."""
        with self._reading():
            return set(self._entries)

    def remembered(self, stream: bytes) -> Remembered:
        """Return the memory of a stream that is ``known``."""
        with self._reading():
            entry = self._entries[stream]
            window = entry.window
            return Remembered(
                entry.floor,
                entry.first,
                entry.newest,
                entry.accepted,
                entry.early,
                window.size,
                window.top,
                window.ring,
            )

    def figures(self) -> tuple[int, list[int]]:
        """Return the floor, and the figures that no stream in memory has."""
        with self._reading():
            return self.floor, [self._skipped, self._late, *self._closed]

    def restore(
        self, floor: int, figures: list[int], known: Iterable[tuple[bytes, Remembered]]
    ) -> None:
        """Take up what ``figures`` and ``remembered`` returned, in a guard that is empty.

        Raises:
            ValueError, TypeError: nothing that they would return.
        """
        skipped, late, *closed = figures
        if set(map(type, figures)) != {int}:
            raise ValueError("figures that are none")
        for stream, one in known:
            if (
                type(stream) is not bytes
                or len(stream) != STREAM_SIZE
                or set(map(type, one[:-1])) != {int}
                or not NEVER <= one.floor <= floor
                or min(one[1:-1]) < 0
            ):
                raise ValueError("a stream that is none")
            self._entries[stream] = _Entry(
                Window.restore(one.size, one.top, one.ring),
                one.floor,
                one.first,
                one.newest,
                one.accepted,
                one.early,
            )
        self.floor, self._skipped, self._late = floor, skipped, late
        self._closed = Gaps(*closed)
