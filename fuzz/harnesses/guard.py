"""The guard and the reference's come to one verdict and one count of gaps, step by step.

SPEC 8.3 to 8.7, 8.9. The data is limits and cold in three bytes, then for each envelope its
stream, how far its sequence is from that stream's top, and its time. What is refused changes
nothing, and what was accepted is refused from then on.
"""

from __future__ import annotations

from vectors.reference_opener import Envelope, Refused
from vectors.reference_opener import Guard as ReferenceGuard

from envelope.errors import RejectedError
from envelope.replay.guard import NEVER, Guard, Remembered
from envelope.wire import MAX_SEQUENCE

COVERS = ("envelope.replay.guard",)
SHARE = 2
SEEDS = (
    bytes([0, 1, 0]) + bytes([0, 1, 5, 1, 1, 6, 0, 1, 7, 0, 128, 7]),
    bytes([3, 0, 4]) + bytes([0, 1, 5, 1, 1, 9, 2, 1, 12, 0, 1, 13, 0, 90, 14, 0, 200, 15]),
    bytes([1, 2, 0]) + bytes([2, 255, 9, 2, 254, 9, 2, 1, 3, 128, 1, 0]),
)
_STREAMS = tuple(bytes([at]) * 16 for at in range(6))
_SENDER = b"s" * 16


def check(data: bytes) -> None:
    """Offer the same to both."""
    limits = data[:3].ljust(3, b"\0")
    full_at, window = 1 + limits[0] % 4, 64 + limits[1]
    cold = None if not limits[2] else limits[2] % 8
    guard = Guard(cold=NEVER if cold is None else cold, birth=2**62)
    reference = ReferenceGuard(window, full_at, cold)
    tops = dict.fromkeys(_STREAMS, -1)
    delivered: set[tuple[bytes, int, int]] = set()
    for at in range(3, min(len(data) - 2, 300), 3):
        what, step, time = data[at : at + 3]
        stream, is_expected = _STREAMS[what % 6], what >= 0xE0
        far = step - 128 if step < 250 else 1 << (step - 250) * 9
        sequence = min(max(0, tops[stream] + far), MAX_SEQUENCE - 1)
        before = _state(guard)
        try:
            result: int | str = guard.mark(
                stream, sequence, time, full_at=full_at, window=window, expected=is_expected
            )
        except RejectedError as error:
            result = error.code
            assert _state(guard) == before
        else:
            assert (stream, sequence, time) not in delivered
            delivered.add((stream, sequence, time))
            tops[stream] = max(tops[stream], sequence)
        assert result == _by_reference(reference, stream, sequence, time, exempt=is_expected)
    figures = guard.gaps()
    assert figures.accepted == len(delivered)
    assert min(figures) >= 0


def _state(guard: Guard) -> tuple[int, dict[bytes, Remembered]]:
    return guard.floor, {stream: guard.remembered(stream) for stream in guard.known()}


def _by_reference(
    guard: ReferenceGuard, stream: bytes, sequence: int, sent_at: int, *, exempt: bool
) -> int | str:
    envelope = Envelope(1, 0, 0, _SENDER, stream, sequence, sent_at, b"", b"", b"", b"", b"", b"")
    try:
        return guard.mark(envelope, "orders", exempt=exempt)
    except Refused as refused:
        return refused.code
