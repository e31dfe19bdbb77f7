"""Bundling: payloads of one topic wait a little and share an envelope (SPEC 9, 16.6).

Rules of this file: it collects and never seals, sends or waits. What it holds is in the
order in which it came, by topic. Time is handed in.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from envelope import clock
from envelope.errors import UsageError
from envelope.policy import MAX_BUNDLE

MAX_COUNT: Final = 256
MAX_BYTES: Final = 65_536
"""Beyond both, nothing gets cheaper: one signature is shared by enough."""

_MAX_TOPICS: Final = 1024
"""Topics that wait at once; for one more, the oldest goes out."""

# By freeing a block of this size glibc learns to keep the top of its heap, where it would
# give the memory of each bundle back to the kernel, to ask for it again at the next one:
# mallopt(3), the dynamic M_MMAP_THRESHOLD (decision 0013).
bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class Bundling:
    """How long payloads of one topic may wait for company.

    Attributes:
        max_count: payloads in a bundle, 1 to 4096.
        max_bytes: bytes of payload in a bundle, 1 to 2^24. A larger payload goes alone.
        max_delay: seconds that the first one waits, 0 to 60.

    Raises:
        UsageError: out of these bounds.
    """

    max_count: int = MAX_COUNT
    max_bytes: int = MAX_BYTES
    max_delay: float = 0.005

    def __post_init__(self) -> None:
        """Check the bounds."""
        if type(self.max_count) is not int or not 1 <= self.max_count <= MAX_BUNDLE:
            raise UsageError(f"max_count is an int from 1 to {MAX_BUNDLE}")
        if type(self.max_bytes) is not int or not 1 <= self.max_bytes <= 2**24:
            raise UsageError("max_bytes is an int from 1 to 2**24")
        if type(self.max_delay) not in (int, float) or not 0 <= self.max_delay <= 60:
            raise UsageError("max_delay is a number of seconds from 0 to 60")


class Batch:
    """The payloads of one topic that wait."""

    __slots__ = ("append", "due", "given", "left", "payloads", "room", "topic")

    def __init__(self, topic: bytes | None, bundling: Bundling, due: int, room: int) -> None:
        self.topic = topic
        self.due = due
        """When it goes out, monotonic nanoseconds."""
        self.left = bundling.max_count
        self.room = min(bundling.max_bytes, room)
        self.payloads: list[bytes] = []
        self.append = self.payloads.append
        self.given: list[bytes | str | None] = []
        """The topic as callers gave it."""

    def add(self, payload: bytes) -> None:
        """Take a payload."""
        self.append(payload)
        self.left -= 1
        self.room -= len(payload)

    def take_back(self) -> None:
        """Give up the payload that came last."""
        self.room += len(self.payloads.pop())
        self.left += 1

    @property
    def is_full(self) -> bool:
        """Whether it is to go out now."""
        return self.left <= 0 or self.room <= 0


class Collector:
    """What waits, by topic, the oldest first. Not thread-safe."""

    def __init__(self, bundling: Bundling) -> None:
        self._bundling = bundling
        self._delay = clock.microseconds(bundling.max_delay) * 1000
        self._batches: dict[bytes | None, Batch] = {}
        # By what callers give; apart, for bytes and str of one text have one hash.
        self._by_bytes: dict[bytes | str | None, Batch] = {}
        self._by_str: dict[bytes | str | None, Batch] = {}
        self._look_at = 0

    def add(self, payload: bytes, topic: bytes | str | None) -> bool:
        """Take a payload into a batch that stays open then; on the way of every message.

        Returns:
            False: nothing was taken, for this is not the usual case.
        """
        try:
            batch = (self._by_str if type(topic) is str else self._by_bytes)[topic]
        except (KeyError, TypeError):  # Not collected now, or no topic at all.
            return False
        if type(payload) is not bytes:
            return False
        room = batch.room - len(payload)
        if room <= 0 or batch.left <= 1 or clock.monotonic_ns() >= self._look_at:
            return False
        batch.room = room
        batch.left -= 1
        batch.append(payload)
        return True

    def find(self, topic: bytes | None, given: bytes | str | None, room: int) -> Batch:
        """Return the batch of a topic, a new one if there is none.

        Args:
            topic: as bytes.
            given: as the caller gave it.
            room: of an envelope. A payload that no envelope holds fills a batch of its own,
                so whoever sends it is told, and nothing waits behind it.
        """
        batch = self._batches.get(topic)
        if batch is None:
            due = clock.monotonic_ns() + self._delay
            batch = self._batches[topic] = Batch(topic, self._bundling, due, room)
        by_given = self._by_str if type(given) is str else self._by_bytes
        if given not in by_given:
            by_given[given] = batch
            batch.given.append(given)
        return batch

    def has_room(self, batch: Batch, size: int) -> bool:
        """Tell whether a payload of this size still goes into a batch."""
        return not batch.payloads or (batch.left > 0 and size <= batch.room)

    def clear(self) -> int:
        """Forget all that waits, and return how many batches there were."""
        count = len(self._batches)
        self._batches, self._by_bytes, self._by_str = {}, {}, {}
        return count

    def drop(self, batch: Batch) -> None:
        """Forget a batch that went out, or is empty."""
        del self._batches[batch.topic]
        for given in batch.given:
            del (self._by_str if type(given) is str else self._by_bytes)[given]

    def next_due(self) -> int | None:
        """Return when the oldest batch goes out, monotonic nanoseconds; None: nothing waits."""
        for batch in self._batches.values():
            return batch.due
        return None

    def due(self, now: int | None) -> Iterator[Batch]:
        """Give the batches that are to go out at ``now``, the oldest first; all, if None.

        Each must be dropped before the next one is asked for.
        """
        while self._batches:
            batch = next(iter(self._batches.values()))
            if now is not None and batch.due > now and len(self._batches) <= _MAX_TOPICS:
                return
            yield batch

    def look(self, *, is_blocked: bool) -> None:
        """Set when ``add`` is no longer enough: at once, if something could not be sent."""
        due = self.next_due()
        self._look_at = 0 if is_blocked or due is None else due


def chunks(payloads: Sequence[bytes], bundling: Bundling) -> Iterator[list[bytes]]:
    """Split payloads into bundles, in order; at least one in each.

    Raises:
        UsageError: not a list or tuple of bytes.
    """
    if type(payloads) not in (list, tuple):
        raise UsageError("payloads is a list of bytes")
    if payloads and set(map(type, payloads)) != {bytes}:
        raise UsageError("payloads is a list of bytes")
    start = 0
    while start < len(payloads):
        chunk = list(payloads[start : start + bundling.max_count])
        if sum(map(len, chunk)) > bundling.max_bytes:
            ends = list(itertools.accumulate(map(len, chunk)))
            chunk = chunk[: max(1, bisect.bisect_right(ends, bundling.max_bytes))]
        yield chunk
        start += len(chunk)
