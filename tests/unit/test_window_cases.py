"""The cases by which WireGuard tests its replay window, through our guard, in our words.

Source of the cases: wireguard-go, replay/replay_test.go. Its window accepts one
sequence more than its constant says, which is its limit there, and our size here.
"""

from __future__ import annotations

import pytest

from envelope.errors import ReplayedError, TooOldError
from envelope.replay.guard import NEVER, Guard
from envelope.wire import MAX_SEQUENCE

SIZES = [64, 65, 100, *(2**n for n in range(7, 17)), 65_535]
LAST = MAX_SEQUENCE - 1


class Receiver:
    """One stream of one sender."""

    def __init__(self, size):
        self._guard = Guard(cold=NEVER, birth=1)
        self._size = size

    def takes(self, sequence):
        """Offer one sequence; tell whether it was accepted."""
        try:
            self._guard.mark(
                b"s" * 16,
                sequence,
                1,
                full_at=1,
                window=self._size,
                expected=False,
                forget_before=NEVER,
            )
        except (ReplayedError, TooOldError):
            return False
        return True


@pytest.fixture(params=SIZES)
def size(request):
    return request.param


@pytest.fixture
def receiver(size):
    return Receiver(size)


@pytest.mark.audit("R4")
def test_steps_forward_back_and_far_ahead_in_order(receiver, size):
    far = 4 * size
    steps = [
        # The beginning, a repeat, a small jump filled from behind.
        (0, True),
        (1, True),
        (1, False),
        (9, True),
        (8, True),
        (7, True),
        (7, False),
        # To the edge of the window, and what is just inside it.
        (size, True),
        (size - 1, True),
        (size - 1, False),
        (size - 2, True),
        (2, True),
        (2, False),
        # A little further: what was inside has left.
        (size + 16, True),
        (3, False),
        (size + 16, False),
        # Far ahead: only the last of the window is left, and each of it once.
        (far, True),
        (far - (size - 1), True),
        (10, False),
        (far - size, False),
        (far - (size + 1), False),
        (far - (size - 2), True),
        (far + 1 - size, False),
        (0, False),
        # The end of all sequences.
        (LAST - 1, True),
        (LAST, True),
        (LAST, False),
        (LAST - 1, False),
        (LAST - 2, True),
        (LAST - (size - 1), True),
        (LAST - (size - 1), False),
        (LAST - size, False),
        (far, False),
        (0, False),
    ]
    assert len(steps) == 34
    for number, (sequence, accepted) in enumerate(steps):
        assert receiver.takes(sequence) == accepted, (number, sequence)


def run(receiver, sequences):
    assert all(map(receiver.takes, sequences))


class TestInBulk:
    def test_upwards_from_one_leaves_room_for_zero_once(self, receiver, size):
        run(receiver, range(1, size))
        assert receiver.takes(0)
        assert not receiver.takes(0)

    def test_upwards_from_two_leaves_room_for_one_and_none_for_zero(self, receiver, size):
        run(receiver, range(2, size + 1))
        assert receiver.takes(1)
        assert not receiver.takes(0)

    def test_downwards_through_the_whole_window(self, receiver, size):
        run(receiver, range(size, 0, -1))
        assert not any(map(receiver.takes, range(size, 0, -1)))

    def test_downwards_from_one_further_puts_zero_and_one_behind(self, receiver, size):
        run(receiver, range(size + 1, 1, -1))
        assert not receiver.takes(0)
        assert not receiver.takes(1)

    def test_downwards_and_then_ahead_puts_zero_behind(self, receiver, size):
        run(receiver, range(size - 1, 0, -1))
        assert receiver.takes(size)
        assert not receiver.takes(0)

    def test_downwards_to_zero_and_then_ahead(self, receiver, size):
        run(receiver, range(size - 1, 0, -1))
        assert receiver.takes(0)
        assert receiver.takes(size)
        assert not receiver.takes(0)
