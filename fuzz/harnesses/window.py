"""Every verdict and figure of a replay window is that of a set of all that was accepted.

SPEC 8.3, 8.4.2, 8.9. The data is the window's size in two bytes, then steps from its top:
a byte that says how, and one that says how far.
"""

from __future__ import annotations

from envelope.replay.window import MAX_SIZE, MIN_SIZE, Window
from envelope.wire import MAX_SEQUENCE

COVERS = ("envelope.replay.window",)
SEEDS = (
    b"\0\0" + bytes([0, 1] * 8),
    b"\0\x01" + bytes([0, 9, 1, 3, 2, 1, 0, 1, 3, 1]),
    b"\x0f\xc0" + bytes([2, 200, 1, 199, 4, 40, 1, 5]),
)


def check(data: bytes) -> None:
    """Go the way that the data says, with both."""
    size = MIN_SIZE + int.from_bytes(data[:2], "big") % (MAX_SIZE - MIN_SIZE + 1)
    window = Window(size)
    accepted: set[int] = set()
    top = -1
    for at in range(2, min(len(data) - 1, 256), 2):
        sequence = min(max(0, top + _step(size, data[at], data[at + 1])), MAX_SEQUENCE - 1)
        if sequence + size <= top:
            continue  # The guard refuses it before it asks.
        assert window.has(sequence) == (sequence in accepted)
        if sequence not in accepted:
            assert window.add(sequence) == max(0, sequence - top - 1)
            accepted.add(sequence)
            top = max(top, sequence)
        assert window.top == top
    assert window.bits() == sum(1 << (top - one) for one in accepted if top - one < size)
    for first in (0, top - size + 1, top - size + 2, top, top + 1):
        lowest = max(first, top - size + 1, 0)
        inside = sum(lowest <= one <= top for one in accepted)
        assert window.holes(first) == max(0, top - lowest + 1) - inside
    if accepted:
        again = Window.restore(size, top, window.ring)
        assert (again.bits(), again.top) == (window.bits(), top)


def _step(size: int, how: int, far: int) -> int:
    """Return a step: near, at the window's edges, or far."""
    match how % 6:
        case 0:
            return far
        case 1:
            return -far
        case 2:
            return far - size - 128
        case 3:
            return size + far - 128
        case 4:
            return int(1 << (far % 48))
        case _:
            return (far - 128) * 8
