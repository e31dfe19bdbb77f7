"""The rules of SPEC 8.3 to 8.9 with exact edges, one by one."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from parallel import at_once, held_by_another_thread, in_child, raw_fork
from support import identity

from envelope.errors import RejectedError, StoreUnavailableError
from envelope.forks import process
from envelope.replay.guard import NEVER, Gaps, Guard, Remembered
from envelope.stream import Stream, birth

A, B, C, D = (bytes([letter]) * 16 for letter in b"abcd")


def new_guard(cold=NEVER):
    return Guard(cold=cold, birth=birth())


def new_stream():
    return Stream(identity("alice")._stream_hedge, now=0, ns=0, random=os.urandom)


def offer(guard, stream, sequence, sent_at, *, window=64, forget_before=NEVER, **options):
    """Check and mark; return ``skipped`` or the code.

    Both must come to one verdict, the check must change nothing, and neither
    must a refusal.
    """
    options = {"full_at": 3, "expected": False} | options
    before = guard.state(), guard.gaps()
    verdicts = []
    for step in (
        lambda: guard.check(stream, sequence, sent_at, **options),
        lambda: guard.mark(
            stream, sequence, sent_at, window=window, forget_before=forget_before, **options
        ),
    ):
        assert (guard.state(), guard.gaps()) == before
        try:
            verdicts.append(step())
        except RejectedError as error:
            verdicts.append(error.code)
    checked, marked = verdicts
    if isinstance(marked, int):
        assert checked is None
        assert guard.state() != before[0]
    else:
        assert checked == marked
        assert (guard.state(), guard.gaps()) == before
    return marked


def floors(guard):
    """Return the guard's floor and those of its streams."""
    floor, entries = guard.state()
    return floor, {entry[0]: entry[1] for entry in entries}


def known(guard):
    return {entry[0] for entry in guard.state()[1]}


class TestCold:
    """SPEC 8.4.1, 8.7."""

    def test_what_is_stamped_at_the_cold_start_is_refused_and_one_later_is_not(self):
        guard = new_guard(cold=100)
        assert offer(guard, A, 0, 99) == "before_start"
        assert offer(guard, A, 0, 100) == "before_start"
        assert offer(guard, A, 0, 101) == 0

    def test_it_holds_for_known_streams_too(self):
        guard = new_guard()
        assert offer(guard, A, 0, 50) == 0
        guard.cold = 100
        assert offer(guard, A, 1, 100) == "before_start"
        assert offer(guard, A, 0, 100) == "before_start"  # before replayed
        assert offer(guard, A, 1, 101) == 0

    def test_never_refuses_nothing_not_even_the_earliest_time(self):
        assert offer(new_guard(), A, 0, 0) == 0

    def test_an_expected_reply_is_exempt(self):
        guard = new_guard(cold=100)
        assert offer(guard, A, 0, 100, expected=True) == 0
        assert offer(guard, A, 1, 100) == "before_start"

    def test_an_expected_reply_is_exempt_from_nothing_else(self):
        guard = new_guard(cold=100)
        assert offer(guard, A, 80, 50, expected=True) == 80
        assert offer(guard, A, 80, 50, expected=True) == "replayed"
        assert offer(guard, A, 16, 50, expected=True) == "too_old"
        guard.floor = 60
        assert offer(guard, B, 0, 60, expected=True) == "too_old"

    def test_a_stream_that_this_process_began_after_the_store_is_exempt(self):
        older = new_stream()
        guard = new_guard(cold=100)
        younger = new_stream()
        assert offer(guard, older.id, 0, 100) == "before_start"
        assert offer(guard, younger.id, 0, 100) == 0
        assert offer(guard, younger.id, 0, 100) == "replayed"

    def test_it_is_so_also_when_its_sealer_is_gone(self):
        guard = new_guard(cold=100)
        assert offer(guard, new_stream().id, 0, 100) == 0

    def test_a_stream_of_the_very_birth_of_the_store_is_no_younger(self):
        stream = new_stream()
        assert offer(Guard(cold=100, birth=stream.birth), stream.id, 0, 100) == "before_start"
        assert offer(Guard(cold=100, birth=stream.birth - 1), stream.id, 0, 100) == 0


class TestKnownStream:
    """SPEC 8.4.2."""

    @pytest.mark.audit("A3")
    def test_a_replay_is_refused_at_once_and_later(self):
        guard = new_guard()
        assert offer(guard, A, 0, 10) == 0
        assert offer(guard, A, 0, 10) == "replayed"
        assert offer(guard, A, 1, 11) == 0
        assert offer(guard, A, 0, 10) == "replayed"

    def test_the_same_sequence_at_another_time_is_a_replay(self):
        guard = new_guard()
        assert offer(guard, A, 5, 10) == 5
        assert offer(guard, A, 5, 11) == "replayed"
        assert offer(guard, A, 5, 9) == "replayed"

    def test_the_same_sequence_of_another_stream_is_none(self):
        guard = new_guard()
        assert offer(guard, A, 5, 10) == 5
        assert offer(guard, B, 5, 10) == 5

    @pytest.mark.audit("A3")
    def test_a_replay_is_refused_after_the_window_moved(self):
        guard = new_guard()
        assert offer(guard, A, 0, 10) == 0
        assert offer(guard, A, 63, 11) == 62
        assert offer(guard, A, 0, 10) == "replayed"
        assert offer(guard, A, 64, 12) == 0
        assert offer(guard, A, 0, 10) == "too_old"

    def test_the_window_reaches_back_its_size_and_no_further(self):
        guard = new_guard()
        assert offer(guard, A, 1000, 10, window=65) == 1000
        assert offer(guard, A, 1000 - 65, 10) == "too_old"
        assert offer(guard, A, 1000 - 64, 10) == 0

    def test_the_window_keeps_the_size_it_was_made_with(self):
        guard = new_guard()
        assert offer(guard, A, 1000, 10, window=64) == 1000
        assert offer(guard, A, 1000 - 64, 10, window=4096) == "too_old"
        assert guard.state()[1][0][3] == 64

    def test_at_its_own_floor_a_stream_is_too_old_and_one_later_it_is_not(self):
        guard = new_guard()
        guard.floor = 100
        assert offer(guard, A, 0, 101) == 0
        assert floors(guard) == (100, {A: 100})
        assert offer(guard, A, 1, 100) == "too_old"
        assert offer(guard, A, 0, 100) == "too_old"  # before replayed
        assert offer(guard, A, 2, 101) == 1

    def test_a_floor_that_rises_later_does_not_touch_a_known_stream(self):
        guard = new_guard()
        assert offer(guard, A, 0, 10) == 0
        guard.floor = 100
        assert offer(guard, A, 1, 10) == 0
        assert floors(guard) == (100, {A: NEVER})

    @pytest.mark.audit("A17", "R4")
    def test_a_leap_to_the_last_sequence_is_accepted_and_reported(self):
        guard = new_guard()
        assert offer(guard, A, 0, 10) == 0
        assert offer(guard, A, 2**48 - 1, 11) == 2**48 - 2
        assert offer(guard, A, 1, 12) == "too_old"
        assert offer(guard, A, 2**48 - 64, 12) == 0
        assert offer(guard, A, 2**48 - 65, 12) == "too_old"


class TestUnknownStream:
    """SPEC 8.4.3, 8.5, 8.6."""

    def test_at_the_floor_it_is_too_old_and_one_later_it_is_not(self):
        guard = new_guard()
        guard.floor = 100
        assert offer(guard, A, 0, 99) == "too_old"
        assert offer(guard, A, 0, 100) == "too_old"
        assert offer(guard, A, 0, 101) == 0

    def test_room_is_what_full_at_says(self):
        guard = new_guard()
        for stream in (A, B, C):
            assert offer(guard, stream, 0, 10, full_at=3) == 0
        assert known(guard) == {A, B, C}
        assert offer(guard, D, 0, 10, full_at=3) == "too_old"
        assert offer(guard, D, 0, 10, full_at=4) == 0
        assert known(guard) == {A, B, C, D}

    def test_a_full_table_takes_only_what_is_later_than_its_lowest_newest(self):
        guard = new_guard()
        for stream, sent_at in ((A, 30), (B, 20), (C, 40)):
            assert offer(guard, stream, 0, sent_at) == 0
        assert offer(guard, D, 0, 20) == "too_old"
        assert offer(guard, D, 0, 21) == 0
        assert known(guard) == {A, C, D}
        assert floors(guard) == (20, {A: NEVER, C: NEVER, D: 20})

    def test_the_lowest_newest_counts_and_not_the_last_accepted_or_the_first(self):
        guard = new_guard()
        for sequence, sent_at in enumerate((10, 50, 20)):
            assert offer(guard, A, sequence, sent_at, full_at=2) == 0
        assert offer(guard, B, 0, 30, full_at=2) == 0
        assert offer(guard, C, 0, 31, full_at=2) == 0
        assert known(guard) == {A, C}
        assert guard.floor == 30

    def test_a_known_stream_needs_no_room(self):
        guard = new_guard()
        for stream, sent_at in ((A, 30), (B, 20), (C, 40)):
            assert offer(guard, stream, 0, sent_at) == 0
        assert offer(guard, B, 1, 5) == 0
        assert offer(guard, A, 1, 5) == 0

    @pytest.mark.audit("A3", "R3")
    def test_nothing_comes_back_after_eviction_nor_with_the_return_of_its_stream(self):
        guard = new_guard()
        assert offer(guard, A, 0, 10, full_at=1) == 0
        assert offer(guard, A, 1, 12, full_at=1) == 0
        assert offer(guard, B, 0, 13, full_at=1) == 0
        assert floors(guard) == (12, {B: 12})
        for sequence, sent_at in ((0, 10), (1, 12)):
            assert offer(guard, A, sequence, sent_at, full_at=2) == "too_old"
        # A returns by a later one, and finds a floor that covers its past.
        assert offer(guard, A, 2, 13, full_at=2) == 2
        assert floors(guard) == (12, {A: 12, B: 12})
        for sequence, sent_at in ((0, 10), (1, 12)):
            assert offer(guard, A, sequence, sent_at, full_at=2) == "too_old"

    def test_of_two_as_old_one_goes_and_what_it_took_stays_refused(self):
        guard = new_guard()
        assert offer(guard, A, 0, 10, full_at=2) == 0
        assert offer(guard, B, 0, 10, full_at=2) == 0
        assert offer(guard, C, 0, 11, full_at=2) == 0
        assert guard.floor == 10
        assert {offer(guard, stream, 0, 10, full_at=3) for stream in (A, B)} == {
            "too_old",
            "replayed",
        }

    def test_a_smaller_table_makes_room_for_one_and_raises_the_floor_to_the_last_dropped(self):
        guard = new_guard()
        for stream, sent_at in ((A, 30), (B, 20), (C, 40)):
            assert offer(guard, stream, 0, sent_at) == 0
        assert offer(guard, D, 0, 21, full_at=2) == 0
        assert known(guard) == {C, D}
        assert floors(guard) == (30, {C: NEVER, D: 30})
        # Stamped before the floor that it raised itself, and no replay all the same.
        assert offer(guard, D, 0, 21, full_at=2) == "too_old"
        assert offer(guard, D, 1, 31, full_at=2) == 0

    def test_the_lowest_newest_of_no_streams_refuses_nothing(self):
        new_guard().check(A, 0, 0, full_at=0, expected=False)


class TestExpiry:
    """SPEC 8.6: what may be forgotten, and what stays of it."""

    def test_streams_up_to_forget_before_go_when_a_new_one_comes(self):
        guard = new_guard()
        for stream, sent_at in ((A, 10), (B, 11), (C, 12)):
            assert offer(guard, stream, 0, sent_at, full_at=9) == 0
        assert offer(guard, D, 0, 20, full_at=9, forget_before=11) == 0
        assert known(guard) == {C, D}
        assert floors(guard) == (11, {C: NEVER, D: 11})

    def test_a_known_stream_makes_nothing_expire(self):
        guard = new_guard()
        assert offer(guard, A, 0, 10) == 0
        assert offer(guard, B, 0, 20) == 0
        assert offer(guard, B, 1, 21, forget_before=15) == 0
        assert known(guard) == {A, B}

    @pytest.mark.audit("A3")
    def test_nothing_comes_back_after_expiry(self):
        guard = new_guard()
        assert offer(guard, A, 0, 10) == 0
        assert offer(guard, B, 0, 20, forget_before=15) == 0
        assert offer(guard, A, 0, 10) == "too_old"
        assert offer(guard, A, 1, 11) == 1
        assert offer(guard, A, 0, 10) == "too_old"

    def test_the_newest_decides_what_expires(self):
        guard = new_guard()
        assert offer(guard, A, 0, 30) == 0
        assert offer(guard, A, 1, 10) == 0
        assert offer(guard, B, 0, 40, forget_before=29) == 0
        assert known(guard) == {A, B}
        assert offer(guard, C, 0, 40, forget_before=30) == 0
        assert known(guard) == {B, C}

    def test_floors_never_fall(self):
        guard = new_guard()
        assert offer(guard, A, 0, 50) == 0
        assert offer(guard, B, 0, 20) == 0
        # A is dropped first and B after it, whose newest is lower.
        assert offer(guard, C, 0, 60, forget_before=50) == 0
        assert floors(guard) == (50, {C: 50})
        assert offer(guard, D, 0, 70, forget_before=NEVER) == 0
        assert guard.floor == 50

    def test_without_a_bound_nothing_expires(self):
        guard = new_guard()
        assert guard.mark(A, 0, 0, full_at=9, window=64, expected=False) == 0
        assert guard.mark(B, 0, 0, full_at=9, window=64, expected=False) == 0
        assert known(guard) == {A, B}


class TestGaps:
    """SPEC 8.9."""

    def test_a_new_guard_has_nothing_to_tell(self):
        assert new_guard().gaps() == Gaps(0, 0, 0, 0, 0, 0, 0)

    @pytest.mark.audit("R5")
    def test_what_came_before_the_first_one_is_unseen_and_not_lost(self):
        guard = new_guard()
        assert offer(guard, A, 10, 1) == 10
        assert guard.gaps() == Gaps(
            streams=1, accepted=1, skipped=10, late=0, missing=0, lost=0, unseen=10
        )
        assert offer(guard, A, 8, 1) == 0
        assert guard.gaps() == Gaps(
            streams=1, accepted=2, skipped=10, late=1, missing=0, lost=0, unseen=9
        )
        assert offer(guard, A, 10 + 64, 1) == 63
        assert guard.gaps() == Gaps(
            streams=1, accepted=3, skipped=73, late=1, missing=63, lost=0, unseen=9
        )

    @pytest.mark.audit("A21")
    def test_what_is_missing_comes_late_or_is_lost_when_it_leaves_the_window(self):
        guard = new_guard()
        assert offer(guard, A, 0, 1) == 0
        assert offer(guard, A, 5, 1) == 4
        assert guard.gaps() == Gaps(
            streams=1, accepted=2, skipped=4, late=0, missing=4, lost=0, unseen=0
        )
        assert offer(guard, A, 2, 1) == 0
        assert guard.gaps() == Gaps(
            streams=1, accepted=3, skipped=4, late=1, missing=3, lost=0, unseen=0
        )
        assert offer(guard, A, 65, 1) == 59  # 0 and 1 leave
        assert guard.gaps() == Gaps(
            streams=1, accepted=4, skipped=63, late=1, missing=61, lost=1, unseen=0
        )
        assert offer(guard, A, 1000, 1) == 934
        assert guard.gaps() == Gaps(
            streams=1, accepted=5, skipped=997, late=1, missing=63, lost=933, unseen=0
        )

    def test_refusals_count_nowhere(self):
        guard = new_guard()
        assert offer(guard, A, 70, 1) == 70
        before = guard.gaps()
        assert offer(guard, A, 70, 1) == "replayed"
        assert offer(guard, A, 6, 1) == "too_old"
        assert guard.gaps() == before

    def test_what_a_dropped_stream_still_missed_is_lost(self):
        guard = new_guard()
        assert offer(guard, A, 3, 1, full_at=1) == 3
        assert offer(guard, A, 6, 1, full_at=1) == 2
        assert offer(guard, A, 1, 1, full_at=1) == 0
        assert offer(guard, B, 0, 2, full_at=1) == 0
        assert offer(guard, B, 2, 2, full_at=1) == 1
        assert guard.gaps() == Gaps(
            streams=1, accepted=5, skipped=6, late=1, missing=1, lost=2, unseen=2
        )
        assert offer(guard, C, 0, 3, full_at=1) == 0
        assert guard.gaps() == Gaps(
            streams=1, accepted=6, skipped=6, late=1, missing=0, lost=3, unseen=2
        )

    def test_figures_of_streams_add_up(self):
        guard = new_guard()
        for stream in (A, B):
            assert offer(guard, stream, 2, 1) == 2
            assert offer(guard, stream, 4, 1) == 1
        assert guard.gaps() == Gaps(
            streams=2, accepted=4, skipped=6, late=0, missing=2, lost=0, unseen=4
        )


def test_the_state_lists_streams_in_order_with_all_that_decides():
    guard = new_guard()
    assert guard.state() == (NEVER, ())
    offer(guard, B, 3, 7)
    offer(guard, A, 1, 9, window=128)
    offer(guard, A, 0, 8)
    assert guard.state() == (
        NEVER,
        ((A, NEVER, 9, 128, 1, 0b11, 1), (B, NEVER, 7, 64, 3, 0b1, 3)),
    )


class TestFork:
    """Parent and child have one memory and cannot know what the other accepts."""

    @pytest.mark.audit("A18")
    @pytest.mark.parametrize("fork", [os.fork, raw_fork])
    def test_a_child_accepts_nothing_by_its_parents_memory(self, fork):
        guard = new_guard()
        offer(guard, A, 0, 1)
        before = guard.state()

        def mark():
            with pytest.raises(StoreUnavailableError) as refused:
                guard.mark(A, 1, 1, full_at=3, window=64, expected=False)
            return str(refused.value), guard.state() == before

        text, is_unchanged = in_child(mark, fork=fork)
        assert "fork" in text
        assert is_unchanged
        assert offer(guard, A, 1, 1) == 0  # The parent goes on.

    def test_a_child_reads_figures_though_a_thread_held_the_lock_at_the_fork(self):
        guard = new_guard()
        offer(guard, A, 3, 1)
        with held_by_another_thread(guard._lock):
            assert in_child(lambda: guard.gaps().unseen, seconds=2) == 3


def new_life(guard):
    """Return a new guard that took up what a store writes down of this one."""
    floor, figures = guard.figures()
    again = new_guard()
    again.restore(floor, figures, [(stream, guard.remembered(stream)) for stream in known(guard)])
    return again


def lived():
    """Return a guard whose figures differ: dropped streams, floors, gaps, late ones."""
    guard = new_guard()
    for stream, sequence, sent_at in (
        (A, 3, 1), (A, 6, 1), (A, 1, 1),
        (B, 7, 2), (B, 5, 3), (B, 75, 9), (B, 12, 2),
        (C, 0, 4),
    ):  # fmt: skip
        assert isinstance(offer(guard, stream, sequence, sent_at, full_at=2), int)
    return guard


class TestRestore:
    """What a store writes down, and what it reads."""

    def test_a_new_guard_has_nothing_to_write_down(self):
        assert new_guard().figures() == (NEVER, [0] * 9)
        assert new_guard().known() == set()

    @pytest.mark.audit("A3")
    def test_all_that_decides_and_all_that_is_counted_comes_back(self):
        guard = lived()
        again = new_life(guard)
        assert guard.known() == again.known() == {B, C}
        assert again.figures() == guard.figures()
        assert again.state() == guard.state()
        assert again.gaps() == guard.gaps()
        for stream in (B, C):
            assert again.remembered(stream) == guard.remembered(stream)
        for one in (guard, again):
            assert offer(one, B, 75, 9) == "replayed"
            assert offer(one, B, 11, 9) == "too_old"
            assert offer(one, C, 1, 1) == "too_old"
            assert offer(one, A, 9, 1) == "too_old"
            assert offer(one, D, 0, 12, full_at=2) == 0
            assert floors(one) == (4, {B: NEVER, D: 4})
        assert again.gaps() == guard.gaps()

    def test_the_memory_of_a_stream_is_told_by_name(self):
        guard = lived()
        assert guard.remembered(B)._replace(ring=b"") == Remembered(
            floor=NEVER, first=7, newest=9, accepted=4, early=1, size=64, top=75, ring=b""
        )
        assert guard.remembered(C)[:7] == (1, 0, 4, 1, 0, 64, 0)

    @pytest.mark.parametrize("figures", [[0] * 8 + [True], ["0"] * 9, [0.0] * 9, [0] * 8, [0] * 10])
    def test_figures_that_are_none_are_refused(self, figures):
        with pytest.raises((ValueError, TypeError)):
            new_guard().restore(NEVER, figures, [])

    @pytest.mark.parametrize(
        "changed",
        [
            {"floor": 2},
            {"floor": -2},
            {"floor": True},
            {"first": -1},
            {"newest": -1},
            {"accepted": -1},
            {"early": -1},
            {"size": -1},
            {"size": 63},
            {"top": -1},
            {"first": "0"},
            {"newest": 4.0},
            {"top": False},
            {"size": 72},
            {"ring": b""},
        ],
    )
    def test_a_stream_that_is_none_is_refused(self, changed):
        guard = lived()
        floor, figures = guard.figures()
        one = guard.remembered(C)
        assert floor == one.floor == 1  # As high as it can be.
        new_guard().restore(floor, figures, [(C, one)])
        with pytest.raises((ValueError, TypeError)):
            new_guard().restore(floor, figures, [(C, one._replace(**changed))])

    @pytest.mark.parametrize("stream", [C[:-1], C + b"c", "c" * 16, list(C)])
    def test_a_stream_that_is_not_16_bytes_is_refused(self, stream):
        guard = lived()
        with pytest.raises(ValueError, match="a stream that is none"):
            new_guard().restore(*guard.figures(), [(stream, guard.remembered(C))])


class TestWithin:
    """A signal handler, or whatever else runs inside a mark in the same thread."""

    def test_a_mark_within_a_mark_is_refused_and_both_ends_stay_whole(self):
        guard = new_guard()
        offer(guard, A, 0, 1)
        options = {"full_at": 3, "window": 64, "expected": False}
        inner = []

        class Interrupting(int):
            """A sequence that marks another one when it is first compared with the top."""

            __hash__ = int.__hash__

            def __lt__(self, other):
                if not inner:
                    with pytest.raises(StoreUnavailableError, match="within a mark") as refused:
                        inner.append(guard.mark(B, 0, 1, **options))
                    inner.append(refused.value.code)
                return int(self) < other

        assert guard.mark(A, Interrupting(5), 1, **options) == 4
        assert inner == ["store_unavailable"]
        assert known(guard) == {A}
        # Behind it, and behind a refusal, marks go on.
        assert offer(guard, A, 5, 1) == "replayed"
        assert offer(guard, B, 0, 1) == 0

    def test_a_guard_of_another_life_marks_nothing(self):
        guard = Guard(cold=NEVER, birth=birth(), life=process.life() + 1)
        guard.check(A, 0, 1, full_at=3, expected=False)
        with pytest.raises(StoreUnavailableError, match="fork"):
            guard.mark(A, 0, 1, full_at=3, window=64, expected=False)


def test_a_refusal_of_the_cold_start_says_how_long_before_it_was_stamped():
    with pytest.raises(RejectedError) as refused:
        new_guard(cold=9_000_000_000).check(A, 0, 1_765_432_000, full_at=3, expected=False)
    text = "before_start: stamped 7234.568 s before this receiver's replay memory begins"
    assert str(refused.value) == text


def test_a_refusal_behind_the_window_says_so():
    guard = new_guard()
    offer(guard, A, 100, 1)
    for step in (
        lambda: guard.check(A, 1, 1, full_at=3, expected=False),
        lambda: guard.check_window(A, 1),
    ):
        with pytest.raises(RejectedError) as refused:
            step()
        assert str(refused.value) == "too_old: behind the replay window of its stream"


@pytest.mark.audit("A3", "R1")
def test_checking_and_remembering_are_one_step():
    """Two threads that meet between the check and what follows it must not both pass."""
    guard = new_guard()
    offer(guard, A, 0, 1)
    both = threading.Barrier(2)

    class Meeting(int):
        """A sequence that waits for the other thread when it is compared with the top."""

        __hash__ = int.__hash__

        def __lt__(self, other):
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.2)
            return int(self) < other

    def run(_):
        try:
            return guard.mark(A, Meeting(5), 1, full_at=3, window=64, expected=False)
        except RejectedError as error:
            return error.code

    assert sorted(map(str, at_once(2, run))) == ["4", "replayed"]


@pytest.mark.audit("A3", "R1")
def test_of_many_threads_that_offer_the_same_each_is_accepted_once():
    guard = new_guard()
    offers = [(stream, sequence) for stream in (A, B, C) for sequence in range(150)]
    accepted = []

    def run(seed):
        refused = Counter()
        mine = offers.copy()
        random.Random(seed).shuffle(mine)
        for stream, sequence in mine:
            try:
                guard.mark(stream, sequence, 1, full_at=3, window=4096, expected=False)
            except RejectedError as error:
                refused[error.code] += 1
            else:
                accepted.append((stream, sequence))
        return refused

    refused = sum(at_once(8, run), Counter())
    assert sorted(accepted) == sorted(offers)
    assert refused == {"replayed": 7 * len(offers)}
    gaps = guard.gaps()
    assert (gaps.accepted, gaps.missing, gaps.lost, gaps.unseen) == (len(offers), 0, 0, 0)


@pytest.mark.parametrize("reading", ["gaps", "state"])
def test_a_reading_waits_for_the_step_that_is_being_made(reading):
    guard = new_guard()
    offer(guard, A, 0, 1)
    with ThreadPoolExecutor(1) as pool:
        with held_by_another_thread(guard._lock):
            asked = pool.submit(getattr(guard, reading))
            with pytest.raises(TimeoutError):
                asked.result(timeout=0.05)
        assert asked.result() == getattr(guard, reading)()


@pytest.mark.parametrize(
    ("stream", "sequence", "code"),
    [
        (A, 100, "replayed"),
        (A, 101, None),
        (A, 99, None),  # Inside the window, and not seen.
        (A, 37, None),
        (A, 36, "too_old"),
        (A, 0, "too_old"),
        (B, 0, None),
    ],
)
def test_the_window_alone_says_nothing_of_times_floors_and_unknown_streams(stream, sequence, code):
    guard = new_guard(cold=50)
    offer(guard, A, 100, 51)
    before = guard.state(), guard.gaps()
    with (
        contextlib.nullcontext()
        if code is None
        else pytest.raises(RejectedError, check=lambda error: error.code == code)
    ):
        guard.check_window(stream, sequence)
    assert (guard.state(), guard.gaps()) == before
