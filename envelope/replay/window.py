"""Which sequences were accepted: a sliding window of integers (SPEC 8.3, 8.4.2).

Rules of this file: it knows integers, no envelopes, keys or time. Every step
costs constant time whatever the jump, for every size: a ring of bytes is cleared
by slices, never by shifting an integer (one shift by 2^33 takes seconds).
"""

from __future__ import annotations

from typing import Self

MIN_SIZE = 64
MAX_SIZE = 65_536


class Window:
    """The last ``size`` sequences up to the highest accepted one, a bit for each.

    Not thread-safe; the guard holds a lock.

    Attributes:
        size: how many sequences at and below ``top`` are remembered.
        top: the highest accepted sequence; -1 before the first.
    """

    __slots__ = ("_blocks", "_ring", "size", "top")

    def __init__(self, size: int) -> None:
        """Make an empty window of ``size`` sequences (64 to 65536; the policy checks)."""
        self.size = size
        self.top = -1
        # One byte more than the bits need: the byte that is entered is cleared
        # whole, and must hold nothing that is still inside the window.
        self._blocks = (size + 7) // 8 + 1
        self._ring = bytearray(self._blocks)

    @property
    def ring(self) -> bytes:
        """The bits as they lie in memory, for ``restore``."""
        return bytes(self._ring)

    @classmethod
    def restore(cls, size: int, top: int, ring: bytes) -> Self:
        """Return the window that had this size, top and ring.

        Raises:
            ValueError: no window has.
        """
        if not MIN_SIZE <= size <= MAX_SIZE or top < 0:
            raise ValueError("a window that is none")
        window = cls(size)
        if len(ring) != len(window._ring):
            raise ValueError("a window of another size than it says")
        window.top = top
        window._ring = bytearray(ring)
        return window

    def has(self, sequence: int) -> bool:
        """Tell whether a sequence above ``top - size`` was accepted."""
        return (
            sequence <= self.top
            and self._ring[(sequence >> 3) % self._blocks] & (1 << (sequence & 7)) != 0
        )

    def add(self, sequence: int) -> int:
        """Accept a sequence that is above ``top - size`` and was not accepted.

        Returns:
            How many sequences between the old top and this one were skipped; 0 for
            one below the top.
        """
        block = sequence >> 3
        skipped = sequence - self.top - 1
        if skipped >= 0:
            first = (self.top >> 3) + 1
            # The top first: a signal handler that raises in between may leave marked
            # what was never accepted, but not the reverse.
            self.top = sequence
            if block >= first:
                self._clear(first, block)
        else:
            skipped = 0
        self._ring[block % self._blocks] |= 1 << (sequence & 7)
        return skipped

    def _clear(self, first: int, last: int) -> None:
        """Clear blocks ``first`` to ``last``, which the top has come to."""
        count = last - first + 1
        if count >= self._blocks:
            self._ring = bytearray(self._blocks)
            return
        start = first % self._blocks
        end = start + count
        if end <= self._blocks:
            self._ring[start:end] = bytes(count)
        else:
            self._ring[start:] = bytes(self._blocks - start)
            self._ring[: end - self._blocks] = bytes(end - self._blocks)

    def bits(self) -> int:
        """Return the window as an integer: bit i is set if ``top - i`` was accepted."""
        if self.top < 0:
            return 0
        at = ((self.top >> 3) + 1) % self._blocks
        # From the oldest block to the newest, as one number with the oldest lowest.
        number = int.from_bytes(self._ring[at:] + self._ring[:at], "little")
        # The top's bit is bit 8 * (blocks - 1) + (top & 7); keep the size bits up to it.
        low = 8 * (self._blocks - 1) + (self.top & 7) - self.size + 1
        ascending = (number >> low) & ((1 << self.size) - 1)
        return int(f"{ascending:0{self.size}b}"[::-1], 2)

    def holes(self, first: int) -> int:
        """Return how many sequences in the window, from ``first`` to top, are missing."""
        lowest = max(first, self.top - self.size + 1, 0)
        span = self.top - lowest + 1
        if span <= 0:
            return 0
        return span - (self.bits() & ((1 << span) - 1)).bit_count()
