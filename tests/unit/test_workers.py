"""Work by several threads: in order, whole, and what fails ends it."""

from __future__ import annotations

import itertools
import threading

import pytest

from envelope import workers
from envelope.workers import work_off


@pytest.mark.parametrize("threads", [1, 2, 3, 64])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 17, 1000])
def test_results_are_in_the_order_of_the_items(threads, count):
    assert work_off(lambda item: item + 1, range(count), threads) == list(range(1, count + 1))


def test_so_many_threads_work_at_once():
    gate = threading.Barrier(3)

    def meet(item):
        if item % 8 == 0:  # The first of each portion.
            gate.wait(10)
        return threading.get_ident()

    assert len(set(work_off(meet, range(24), 3))) == 3


def test_few_items_are_no_reason_to_start_threads():
    here = threading.get_ident()
    assert work_off(lambda _: threading.get_ident(), range(8), 64) == [here] * 8


def test_threads_live_no_longer_than_the_call():
    before = threading.active_count()
    work_off(lambda item: item, range(1000), 8)
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_ends_the_work_and_is_raised(error):
    done = itertools.count()
    before = threading.active_count()

    def fail(item):
        next(done)
        if item == 20:
            raise error("this one")
        return item

    with pytest.raises(error, match="this one"):
        work_off(fail, range(100_000), 4)
    assert next(done) < 100_000
    assert threading.active_count() == before


def test_an_interrupt_while_others_are_waited_for_ends_them(monkeypatch):
    gate = threading.Event()
    here = threading.main_thread()
    others = []

    def work(item):
        if threading.current_thread() is not here:
            others.append(threading.current_thread())
            gate.wait(10)
        return item

    def interrupt(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupt)
        with pytest.raises(KeyboardInterrupt):
            work_off(work, range(16), 2)
    gate.set()
    for one in set(others):
        one.join(10)
        assert not one.is_alive()


def test_where_no_thread_can_be_had_the_caller_does_it_all(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers.threading.Thread, "start", refuse)
    assert work_off(lambda item: -item, range(100), 4) == [-item for item in range(100)]
