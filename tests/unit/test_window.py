"""The replay window is exact at every edge, for every size (SPEC 8.3, 8.4, 8.9)."""

from __future__ import annotations

import copy
import tracemalloc

import pytest

from envelope.replay.window import MAX_SIZE, MIN_SIZE, Window

SIZES = [64, 65, 71, 72, 73, 127, 128, 1000, 4096, 65_535, 65_536]
LAST = 2**48 - 1
"""The highest sequence of the format."""


class NaiveWindow:
    """The same, as a set of everything that was ever accepted."""

    def __init__(self, size):
        self.size = size
        self.top = -1
        self.accepted = set()

    def is_behind(self, sequence):
        return sequence <= self.top - self.size

    def add(self, sequence):
        skipped = max(0, sequence - self.top - 1)
        self.accepted.add(sequence)
        self.top = max(self.top, sequence)
        return skipped

    def bits(self):
        row = ("1" if self.top - i in self.accepted else "0" for i in range(self.size))
        return int("".join(row)[::-1], 2)

    def holes(self, first):
        lowest = max(first, self.top - self.size + 1, 0)
        return sum(one not in self.accepted for one in range(lowest, self.top + 1))


def offer(window, sequence):
    """Accept the sequence if it may be accepted; return what came of it."""
    if sequence <= window.top - window.size:
        return "behind"
    if window.has(sequence):
        return "seen"
    window.add(sequence)
    return "new"


def assert_same(window, naive):
    """Compare all that can be asked; sequence by sequence around every edge."""
    top, size = naive.top, naive.size
    edges = {0, 1, 7, 8, 9, top - size // 2}
    for edge in (top - 2 * size, top - size, top, top + size):
        edges.update(range(edge - 17, edge + 18))
    for sequence in (one for one in edges if one >= 0):
        behind = naive.is_behind(sequence)
        assert (sequence <= window.top - window.size) == behind, sequence
        if not behind:
            assert window.has(sequence) == (sequence in naive.accepted), sequence
    assert window.top == top
    assert window.bits() == naive.bits()
    assert window.holes(0) == naive.holes(0)


def test_the_limits_are_those_of_the_specification():
    assert (MIN_SIZE, MAX_SIZE) == (64, 65_536)


@pytest.mark.parametrize("size", SIZES)
def test_a_new_window_has_accepted_nothing(size):
    window = Window(size)
    assert (window.size, window.top, window.bits(), window.holes(0)) == (size, -1, 0, 0)
    for sequence in (0, 1, size, LAST):
        assert sequence > window.top - window.size
        assert not window.has(sequence)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("first", [0, 1, 7, 8, 63, 64, 65, 71, 72, 73, 100_003, LAST])
def test_the_first_sequence_may_be_any_and_skips_those_before_it(size, first):
    window, naive = Window(size), NaiveWindow(size)
    assert window.add(first) == naive.add(first) == first
    assert_same(window, naive)


@pytest.mark.audit("A17", "R4")
@pytest.mark.parametrize(
    ("size", "start"),
    [(size, start) for size in SIZES for start in ((0, 5, 7, 8) if size < 60_000 else (5,))],
)
def test_jumps_of_every_size_agree_with_a_set(size, start):
    """From a ring whose every byte is full of what must not be seen again."""
    full, known = Window(size), NaiveWindow(size)
    for sequence in range(start, start + size + 20):
        assert full.add(sequence) == known.add(sequence)
    for jump in (1, 2, 3, 7, 8, 9, 17, size - 8, size - 1, size, size + 1, size + 8, 2**33):
        window, naive = copy.deepcopy((full, known))
        landing = naive.top + jump
        assert window.add(landing) == naive.add(landing) == jump - 1
        assert_same(window, naive)
        assert window.add(landing + 1) == naive.add(landing + 1) == 0
        assert_same(window, naive)


@pytest.mark.parametrize("size", [64, 65, 71, 72, 73])
@pytest.mark.parametrize("jump", [2, 3, 5, 8, 9])
def test_steps_all_around_a_small_ring_agree_with_a_set(size, jump):
    window, naive = Window(size), NaiveWindow(size)
    for sequence in range(0, 4 * size, jump):
        assert window.add(sequence) == naive.add(sequence)
        for near in range(max(0, sequence - size + 1), sequence + 9):
            assert window.has(near) == (near in naive.accepted)


def test_a_jump_of_nothing_is_a_sequence_already_seen():
    window = Window(64)
    window.add(9)
    assert window.has(9)
    assert not window.has(10)
    assert not window.has(8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("top", [3 * 65_536, 3 * 65_536 + 7, 3 * 65_536 + 8, LAST])
def test_the_last_place_inside_is_accepted_and_the_first_outside_is_behind(size, top):
    window = Window(size)
    window.add(top)
    assert top - size + 1 > window.top - window.size
    assert top - size <= window.top - window.size
    assert top - size - 1 <= window.top - window.size
    assert offer(window, top - size + 1) == "new"
    assert window.has(top - size + 1)
    assert window.bits() == 1 | 1 << (size - 1)
    # One step more, and it has left; its bit does not come back as another's.
    assert window.add(top + 1) == 0
    assert top - size + 1 <= window.top - window.size
    assert window.bits() == 0b11


@pytest.mark.parametrize("size", [64, 65, 72, 1000])
def test_a_full_window_keeps_exactly_its_size(size):
    window = Window(size)
    for sequence in range(3 * size):
        assert offer(window, sequence) == "new"
        assert window.bits() == (1 << min(sequence + 1, size)) - 1
        assert window.holes(0) == 0
    assert [offer(window, one) for one in range(3 * size)] == ["behind"] * 2 * size + [
        "seen"
    ] * size


@pytest.mark.parametrize("size", [64, 65, 72, 1000, 65_536])
def test_a_window_filled_backwards_takes_each_once(size):
    window = Window(size)
    top = 5 * size + 3
    for sequence in range(top, top - size, -1):
        assert offer(window, sequence) == "new"
    assert offer(window, top - size) == "behind"
    assert window.bits() == (1 << size) - 1
    for sequence in range(top - size + 1, top + 1):
        assert offer(window, sequence) == "seen"


@pytest.mark.parametrize("size", [64, 128, 4096, 65_536])
def test_stragglers_repeats_and_leaps_in_one_story(size):
    """What a network does: early, late and twice, across one, two and many windows."""
    window = Window(size)
    story = [
        (0, "new"),
        (1, "new"),
        (1, "seen"),
        (10, "new"),
        (9, "new"),
        (8, "new"),
        (8, "seen"),
        (10, "seen"),
        (size, "new"),  # 0 leaves
        (0, "behind"),
        (1, "seen"),
        (size - 1, "new"),
        (size - 1, "seen"),
        (2, "new"),
        (2, "seen"),
        (size + 16, "new"),  # 16 leaves
        (3, "behind"),
        (16, "behind"),
        (17, "new"),
        (size + 16, "seen"),
        (4 * size, "new"),  # everything leaves
        (size + 16, "behind"),
        (3 * size, "behind"),
        (3 * size + 1, "new"),
        (3 * size + 1, "seen"),
        (4 * size - 1, "new"),
        (4 * size + 1, "new"),
        (3 * size + 1, "behind"),
        (3 * size + 2, "new"),
        (LAST, "new"),
        (4 * size + 1, "behind"),
        (LAST - size, "behind"),
        (LAST - size + 1, "new"),
        (LAST - 1, "new"),
        (LAST, "seen"),
    ]
    for sequence, outcome in story:
        assert offer(window, sequence) == outcome, sequence


def test_odd_ones_first_and_then_the_even_ones():
    window = Window(128)
    for sequence in range(1, 256, 2):
        assert offer(window, sequence) == "new"
    assert window.holes(0) == 64
    for sequence in range(0, 128, 2):
        assert offer(window, sequence) == "behind"
    for sequence in range(128, 256, 2):
        assert offer(window, sequence) == "new"
    assert window.holes(0) == 0


def test_what_comes_late_skips_nothing():
    window = Window(64)
    assert window.add(20) == 20
    assert window.add(19) == 0
    assert window.add(0) == 0
    assert window.add(22) == 1


def test_bits_name_the_top_first():
    window = Window(64)
    for sequence in (100, 99, 96, 100 - 63):
        window.add(sequence)
    assert window.bits() == 1 | 1 << 1 | 1 << 4 | 1 << 63


def test_holes_are_counted_from_the_first_asked_for_to_the_top():
    window = Window(64)
    for sequence in (10, 12, 15):
        window.add(sequence)
    # Missing are 11, 13 and 14, and before the first one 0 to 9.
    assert window.holes(10) == 3
    assert window.holes(11) == 3
    assert window.holes(12) == 2
    assert window.holes(13) == 2
    assert window.holes(14) == 1
    assert window.holes(15) == 0
    assert window.holes(16) == 0
    assert window.holes(1000) == 0
    assert window.holes(0) == window.holes(-1) == window.holes(-100) == 13
    window.add(15 + 64)  # 15 has left, 16 is the lowest inside
    assert window.holes(10) == 63
    assert window.holes(17) == 62


@pytest.mark.audit("A16", "A17")
@pytest.mark.parametrize("jump", [2**33, 2**40, LAST - 1])
def test_a_leap_costs_no_more_memory_than_the_window(jump):
    window = Window(MAX_SIZE)
    window.add(0)
    tracemalloc.start()
    try:
        window.add(jump)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The ring has 8193 bytes; a shifted integer would have 2^30 and more.
    assert peak < 20_000
    assert window.bits() == 1


def filled(size, *sequences):
    """Return the window, and the set, that accepted these."""
    window, naive = Window(size), NaiveWindow(size)
    for sequence in sequences:
        assert offer(window, sequence) == "new"
        naive.add(sequence)
    return window, naive


@pytest.mark.audit("R2")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("top", [0, 7, 8, 10 * MAX_SIZE + 5, LAST])
def test_a_restored_window_is_the_one_that_was_kept(size, top):
    window, naive = filled(size, *{0, max(0, top - size + 1), max(0, top - 9), top})
    again = Window.restore(size, window.top, window.ring)
    assert_same(again, naive)
    assert again.ring == window.ring
    # What it accepts from here on is its own.
    again.add(top + 3)
    naive.add(top + 3)
    assert_same(again, naive)
    assert window.top == top
    assert not window.has(top + 3)


@pytest.mark.parametrize(
    ("size", "length"), [(64, 9), (65, 10), (72, 10), (73, 11), (65_536, 8193)]
)
def test_the_ring_that_is_kept_has_the_bits_and_one_byte_more(size, length):
    assert len(Window(size).ring) == length


@pytest.mark.parametrize(
    ("size", "top", "length"),
    [
        (MIN_SIZE - 1, 5, 9),
        (MAX_SIZE + 1, 5, MAX_SIZE // 8 + 2),
        (0, 5, 1),
        (64, -1, 9),
        (64, 5, 8),
        (64, 5, 10),
        (64, 5, 0),
    ],
)
def test_what_no_window_keeps_is_not_restored(size, top, length):
    with pytest.raises(ValueError, match=r"^a window (that is none|of another size than it says)$"):
        Window.restore(size, top, bytes(length))


@pytest.mark.parametrize("top", [0, 3, 7, 8, 64, 71])
def test_bits_above_the_top_which_only_a_damaged_ring_has_are_not_counted(top):
    window = Window.restore(64, top, b"\xff" * 9)
    assert window.bits() == 2**64 - 1
    assert window.holes(0) == 0
