"""Bundling: payloads of one topic wait a little and share an envelope (SPEC 9, 16.6).

Rules of this file: it collects and never seals, sends or waits. What it holds is in the
order in which it came, by topic. Time is handed in.
"""

from __future__ import annotations

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

    __slots__ = ("due", "payloads", "size", "topic")

    def __init__(self, topic: bytes | None, due: int) -> None:
        self.topic = topic
        self.due = due
        self.payloads: list[bytes] = []
        self.size = 0


class Collector:
    """What waits, by topic, the oldest first. Not thread-safe."""

    def __init__(self, bundling: Bundling) -> None:
        self.delay = clock.microseconds(bundling.max_delay)
        self._max_count = bundling.max_count
        self._max_bytes = bundling.max_bytes
        self._batches: dict[bytes | None, Batch] = {}

    def find(self, topic: bytes | None, now: int) -> Batch:
        """Return the batch of a topic, a new one if there is none."""
        batch = self._batches.get(topic)
        if batch is None:
            batch = self._batches[topic] = Batch(topic, now + self.delay)
        return batch

    def has_room(self, batch: Batch, size: int) -> bool:
        """Tell whether a payload of this size still goes into a batch."""
        return (
            len(batch.payloads) < self._max_count and batch.size + size <= self._max_bytes
        ) or not batch.payloads

    def is_full(self, batch: Batch) -> bool:
        """Tell whether a batch is to go out now."""
        return len(batch.payloads) >= self._max_count or batch.size >= self._max_bytes

    def take_back(self, batch: Batch) -> None:
        """Give up the payload that came last."""
        batch.size -= len(batch.payloads.pop())
        if not batch.payloads:
            self.drop(batch)

    def drop(self, batch: Batch) -> None:
        """Forget a batch that went out."""
        self._batches.pop(batch.topic, None)

    def next_due(self) -> int | None:
        """Return when the oldest batch is to go out; None: nothing waits."""
        for batch in self._batches.values():
            return batch.due
        return None

    def is_due(self, now: int) -> bool:
        """Tell whether a batch has waited long enough, or too many topics wait."""
        for batch in self._batches.values():
            return batch.due <= now or len(self._batches) > _MAX_TOPICS
        return False

    def due(self, now: int | None) -> Iterator[Batch]:
        """Give the batches that are to go out, the oldest first; all, if ``now`` is None.

        Each must be dropped before the next one is asked for.
        """
        while self._batches and (now is None or self.is_due(now)):
            yield next(iter(self._batches.values()))


def chunks(payloads: Sequence[bytes], bundling: Bundling) -> Iterator[list[bytes]]:
    """Split payloads into bundles, in order; at least one in each.

    Raises:
        UsageError: not a list or tuple of bytes.
    """
    if type(payloads) not in (list, tuple):
        raise UsageError("payloads is a list of bytes")
    if payloads and set(map(type, payloads)) != {bytes}:
        raise UsageError("payloads is a list of bytes")
    chunk: list[bytes] = []
    size = 0
    for payload in payloads:
        if chunk and (len(chunk) >= bundling.max_count or size + len(payload) > bundling.max_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(payload)
        size += len(payload)
    if chunk:
        yield chunk
