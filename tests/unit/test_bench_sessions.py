"""benchmarks/sessions.py computes what its table says, and delivers what it times."""

from __future__ import annotations

import pytest
import sessions
from ratios import Row
from sessions import Crowd, Line, Pair, judge


def row(bar):
    return Row("it", "that", bar, lambda: 0.0, lambda: 0.0)


@pytest.mark.parametrize(("bar", "holds"), [(2.0, True), (1.99, False)])
def test_a_bar_is_on_the_ratio_of_the_smallest_times(bar, holds):
    line, verdict = judge(row(bar), [4e-6, 9e-6, 9e-6], [2e-6, 3e-6, 3e-6])
    assert verdict is holds
    assert line.startswith("| it | that | 4.00 | 2.00 | 2.000 | 3.000 |")
    assert line.endswith("| holds |" if holds else "| MISSED |")


def test_what_is_stated_is_not_judged():
    line, verdict = judge(row(sessions.STATED), [9e-6], [2e-6])
    assert verdict is True
    assert line == "| it | that | 9.00 | 2.00 | 4.500 | 4.500 | | |"


def test_the_end_of_a_pair_opens_what_the_other_sealed():
    pair = Pair()
    sealed = pair.sealed([b"one", b"two"])
    assert [pair.there.receive(data).payload for data in sealed] == [b"one", b"two"]


def test_a_crowd_sends_and_receives_in_turn():
    crowd = Crowd(3)
    for work, items in (crowd.sending(), crowd.receiving()):
        assert len(items) == 4 * sessions.COUNT
        assert all(work(item) for item in items)


@pytest.mark.parametrize("holds", [True, False])
def test_a_missed_line_is_named_and_fails_the_table(monkeypatch, holds):
    monkeypatch.setattr(sessions, "restarts", lambda kills: iter(()))
    monkeypatch.setattr(sessions, "memory", lambda: Line("memory", "1 byte", "2", holds))
    lines, good = sessions.stated(1)
    assert good is holds
    assert lines[-1] == f"| memory | 1 byte | 2 | {'holds' if holds else 'MISSED'} |"
