"""A signal handler may run between any two lines of a mark, call anything, and raise.

Here it does so at each line in turn. Whatever it did, nothing is delivered twice: not in
this life, not after a clean close, not after a crash; and the file can be opened.
"""

from __future__ import annotations

import contextlib
import itertools
import linecache
import os
import shutil
import sys
import threading

import pytest
from life import Life
from support import SECOND

import envelope.replay.guard
import envelope.replay.sqlite
import envelope.replay.window
from envelope.errors import ReplayedError, StoreFileError, StoreUnavailableError, UsageError
from envelope.replay import MemoryReplayStore, SQLiteReplayStore
from envelope.replay.sqlite import MAX_CHANGED

FILES = {
    module.__file__
    for module in (envelope.replay.guard, envelope.replay.sqlite, envelope.replay.window)
}
SAFE = (
    *("with ", "try:", "finally:", "return", "raise", "except", "if store.wants_close"),
    *("store.is_inside", "self.is_inside", "self._is_marking", "store.close()"),
)
"""Lines before which CPython looks for no signal: nothing is called just before them."""
A, B, C, D = (bytes([n]) * 16 for n in b"abcd")


class Out(BaseException):
    """What a handler raises."""


class Signal:
    """Runs a handler before the n-th line of the store that is reached."""

    def __init__(self, number, handler):
        self.left = number
        self.handler = handler

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *error):
        sys.settrace(self._before)

    def _call(self, frame, event, argument):
        return self._line if frame.f_code.co_filename in FILES else None

    def _line(self, frame, event, argument):
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and not text.startswith(SAFE):
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                frame.f_trace = None
                self.handler()
        return self._line


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return a file with two streams, of which the next mark drops one, and its deliveries."""
    life = Life(tmp_path_factory.mktemp("prepared") / "replay.db")
    sent = [(A, n, life.clock()) for n in range(63, 128)] + [(B, 0, life.clock() + 1)]
    delivered = [one for one in sent if life.mark(one[1], one[2], stream=one[0], full_at=2) is None]
    assert delivered == sent
    life.store.close()
    return life.store.path, delivered


def begin(prepared, path):
    """Return a new life of such a file, three seconds later."""
    shutil.copy(prepared[0], path)
    life = Life(path)
    life.store._database.execute("PRAGMA synchronous = OFF")  # No power is lost here.
    life.clock.advance(3)
    return life, list(prepared[1])


def offer(life, delivered, envelope):
    stream, sequence, sent_at = envelope
    if life.mark(sequence, sent_at, stream=stream, full_at=2) is None:
        assert envelope not in delivered, "delivered twice"
        delivered.append(envelope)


HANDLERS = {
    "raises": lambda life, delivered: (_ for _ in ()).throw(Out),
    "closes": lambda life, delivered: life.store.close(),
    "closes and raises": lambda life, delivered: (life.store.close(), HANDLERS["raises"](0, 0)),
    "marks the same": lambda life, delivered: offer(life, delivered, life.now),
    "marks another": lambda life, delivered: offer(life, delivered, (D, 0, life.clock() - 9)),
    "marks one far off": lambda life, delivered: offer(
        life, delivered, (D, 0, life.clock() - 20 * SECOND)
    ),
    "reads": lambda life, delivered: (life.guard.gaps(), life.store.state()),
}


@pytest.mark.audit("A18", "A23", "R1")
@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize(
    "envelope",
    [(A, 130), (A, 200), (C, 5)],
    ids=["wrap", "jump", "new"],
)
def test_a_handler_at_any_line_permits_no_second_delivery(tmp_path, prepared, handler, envelope):
    for number in itertools.count(1):
        life, delivered = begin(prepared, tmp_path / f"{number}.db")
        life.now = (*envelope, life.clock())
        signal = Signal(number, lambda: HANDLERS[handler](life, delivered))  # noqa: B023
        with signal, contextlib.suppress(Out):
            offer(life, delivered, life.now)
        for one in [life.now, *delivered]:
            offer(life, delivered, one)
        crashed = life.after_crash(f"{number}-crashed")
        closed = life.after_close()
        for next_life in (crashed, closed):
            heard = list(delivered)
            for one in [life.now, *delivered, (D, 0, life.clock() - 9)]:
                offer(next_life, heard, one)
            next_life.store.close()
        for ending in ("", "-crashed"):
            (tmp_path / f"{number}{ending}.db").unlink()
        if signal.left > 0:
            assert number > 20
            return


@pytest.fixture(autouse=True)
def none_is_left_open():
    yield
    for store in list(envelope.replay.sqlite._open_stores):
        store.close()


def test_a_memory_store_can_be_read_by_a_handler_and_marks_nothing_for_it():
    guard = MemoryReplayStore(first_life=True).guard("home", b"s" * 16, "orders")
    options = {"full_at": 2, "window": 64, "expected": False}
    refused = []

    def handle():
        guard.gaps()
        try:
            guard.mark(A, number, number, **options)
        except StoreUnavailableError:
            refused.append(number)

    for number in itertools.count(1):
        with Signal(number, handle) as signal:
            try:
                guard.mark(A, number, number, **options)
            except ReplayedError:  # The handler's came first, or last.
                assert number not in refused
        with pytest.raises(ReplayedError):
            guard.mark(A, number, number, **options)
        if signal.left > 0:
            break
    assert refused


def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.audit("A18")
def test_a_fork_that_waits_for_a_close_leaves_no_lock_held(tmp_path):
    life = Life(tmp_path / "replay.db")
    life.mark(0)
    inside, go, whole = threading.Event(), threading.Event(), life.store._database

    class Slow:
        def execute(self, *arguments):
            if arguments[0] == "COMMIT":
                inside.set()
                go.wait()
            return whole.execute(*arguments)

        def __getattr__(self, name):
            return getattr(whole, name)

    life.store._database = Slow()
    closing = in_thread(life.store.close)
    inside.wait()

    def fork():
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)

    forking = in_thread(fork)
    go.set()
    closing.join()
    forking.join()
    assert life.store._lock.acquire(timeout=9)
    assert life.mark(1) == "store_unavailable"


@pytest.mark.audit("A18")
def test_a_child_may_open_a_store_though_a_thread_of_its_parent_was_opening_one(tmp_path):
    registry = envelope.replay.lockfile._registry
    holding, go = threading.Event(), threading.Event()

    def hold():
        with registry.changing():
            holding.set()
            go.wait()

    thread = in_thread(hold)
    holding.wait()
    child = os.fork()
    if not child:
        SQLiteReplayStore(tmp_path / "replay.db", first_life=True).close()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    go.set()
    thread.join()
    assert status == 0


@pytest.mark.audit("A23")
@pytest.mark.parametrize("how", ["lock removed", "hard link"])
def test_a_second_life_of_one_file_takes_it_from_the_first(tmp_path, how):
    first = Life(tmp_path / "replay.db")
    assert [first.mark(n) for n in range(3)] == [None] * 3
    path = first.store.path
    if how == "lock removed":
        path.with_name(path.name + ".lock").unlink()
    else:
        os.link(path, tmp_path / "other.db")
        path = tmp_path / "other.db"
    second = Life(path, clock=first.clock)
    assert [second.mark(n) for n in range(3, 6)] == ["before_start"] * 3
    assert [first.mark(n) for n in range(3, 6)] == [None] * 3  # In its zone, dead for the other.
    first.clock.advance(9)
    assert second.mark(9) is None
    assert first.mark(9) == "store_unavailable"
    first.store.close()
    assert second.mark(10) is None
    second.store.close()


def test_a_store_that_went_out_of_scope_is_closed_at_the_end(tmp_path):
    life = Life(tmp_path / "replay.db")
    assert life.store in envelope.replay.sqlite._open_stores
    life.store.close()
    assert life.store not in envelope.replay.sqlite._open_stores


def test_a_place_whose_name_cannot_be_written_is_refused(tmp_path):
    life = Life(tmp_path / "replay.db")
    for domain, context in (("\ud800", "c"), ("d", "\udfff")):
        with pytest.raises(UsageError, match="UTF-8"):
            life.store.guard(domain, A, context)
    life.mark(0)
    life.clock.advance(9)
    assert life.mark(1) is None
    assert life.after_close().mark(1) == "replayed"


@pytest.mark.audit("A23")
def test_every_flipped_bit_of_a_file_is_told_or_does_no_harm(tmp_path):
    life = Life(tmp_path / "replay.db")
    sent = [(stream, n) for stream in (A, B) for n in range(0, 120, 2)]
    for stream, n in sent:
        assert life.mark(n, stream=stream) is None
    life.clock.advance(30)
    life.store.close()
    whole = life.store.path.read_bytes()
    told = 0
    for at in range(0, len(whole), 41):
        (tmp_path / "damaged.db").write_bytes(
            whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
        )
        (tmp_path / "damaged.db").chmod(0o600)
        try:
            damaged = Life(tmp_path / "damaged.db", clock=life.clock)
        except StoreFileError:
            told += 1
            continue
        then = life.clock() - 30 * SECOND
        assert None not in {damaged.mark(n, then, stream=stream) for stream, n in sent}
        damaged.store.close()
    assert told


def test_what_is_noted_as_changed_is_bounded(tmp_path):
    life = Life(tmp_path / "replay.db")
    noted = []
    for n in range(2 * MAX_CHANGED):
        life.mark(0, life.clock() + n, stream=n.to_bytes(16, "big"))
        noted.append(len(life.guard._changed))
    assert max(noted) == MAX_CHANGED + 1 == 2049


def test_what_has_not_changed_is_not_written_again_however_much_has(tmp_path):
    life = Life(tmp_path / "replay.db")
    life.mark(0, stream=A, full_at=9999)
    life.clock.advance(9)
    for n in range(MAX_CHANGED + 2):
        life.mark(0, stream=n.to_bytes(16, "big"), full_at=9999)
    assert len(life.guard._changed) == MAX_CHANGED + 2
    assert A not in life.guard._changed


def test_a_mark_within_a_mark_is_refused(monkeypatch):
    guard = MemoryReplayStore(first_life=True).guard("home", b"s" * 16, "orders")
    options = {"full_at": 2, "window": 64, "expected": False}
    add = envelope.replay.window.Window.add

    def interrupted(window, sequence):
        with pytest.raises(StoreUnavailableError, match="signal handler"):
            guard.mark(A, sequence, 1, **options)
        return add(window, sequence)

    monkeypatch.setattr(envelope.replay.window.Window, "add", interrupted)
    assert guard.mark(A, 0, 1, **options) == 0
    monkeypatch.undo()
    assert guard.mark(A, 1, 1, **options) == 0
