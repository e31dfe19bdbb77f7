"""What a fork changes, with real forks in processes of their own."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from envelope import forks

ROOT = Path(__file__).parents[2]

# From Python 3.12 on, forking a process with threads warns; here it is the subject.
FORKING = "ignore:This process:DeprecationWarning"

IN_CHILD = """
import os, sys

def in_child(check):
    # Run check in a forked child; the child's verdict is its exit code.
    child = os.fork()
    if not child:
        try:
            check()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
"""


def run(script):
    """Run a script in a process of its own, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", FORKING, "-c", IN_CHILD + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


class Owner:
    def __init__(self):
        self._lock = threading.RLock()


@pytest.fixture
def process():
    """A process counter that no fork hook knows."""
    return forks._Process()


def test_a_fork_begins_another_life(process):
    assert process.life() == 0
    process._renew()
    process._renew()
    assert process.life() == 2


@pytest.mark.parametrize("mark", [forks._mark, forks._ById])
def test_what_is_not_marked_is_another_life_too(monkeypatch, mark):
    # For a fork that went around Python, and so around the hook.
    monkeypatch.setattr(forks, "_mark", mark)
    process = forks._Process()
    owner = Owner()
    process.adopt(owner)
    lock = owner._lock
    if mark is forks._ById:
        monkeypatch.setattr(os, "getpid", lambda: 2**22)
    else:
        process.mark[0] = 0
    assert process.life() == 1
    assert owner._lock is not lock
    lock = owner._lock
    assert process.life() == 1
    assert owner._lock is lock


@pytest.mark.audit("A18", "C6")
@pytest.mark.parametrize("mark", ["_mark", "_ById"])
@pytest.mark.parametrize("fork", ["os.fork", "ctypes.CDLL(None).fork"])
def test_no_child_has_the_mark_of_its_parent_nor_a_grandchild_its(mark, fork):
    run(f"""
import ctypes
from envelope import forks

os.fork = {fork}
mark = forks.{mark}()
assert not mark[0]
mark[0] = 1

def check():
    assert not mark[0]
    mark[0] = 1
    assert mark[0]
    def again():
        assert not mark[0]
    in_child(again)
    assert mark[0]

in_child(check)
assert mark[0]
""")


@pytest.mark.skipif(sys.platform != "linux", reason="this is Linux's")
def test_a_system_whose_madvise_cannot_be_believed_goes_by_the_process_id(monkeypatch):
    class Believes(mmap.mmap):
        def madvise(self, option):
            """Agree, as some emulators do."""

    class Refuses(mmap.mmap):
        def madvise(self, option):
            raise OSError(errno.EINVAL, "an old kernel")

    assert isinstance(forks._mark(), mmap.mmap)
    for kind in (Believes, Refuses):
        monkeypatch.setattr("mmap.mmap", kind)
        assert isinstance(forks._mark(), forks._ById)
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert isinstance(forks._mark(), forks._ById)


def test_every_adopted_lock_is_replaced_and_is_free(process):
    owners = [Owner(), Owner()]
    before = [owner._lock for owner in owners]
    for owner in owners:
        process.adopt(owner)
        process.adopt(owner)
    held = threading.Thread(target=owners[0]._lock.acquire)
    held.start()
    held.join()
    process._renew()
    for owner, old in zip(owners, before, strict=True):
        assert owner._lock is not old
        assert owner._lock.acquire(blocking=False)
        # Re-entrant, as the first one was.
        assert owner._lock.acquire(blocking=False)


@pytest.mark.audit("A18")
@pytest.mark.parametrize("mark", [forks._mark, forks._ById])
def test_a_signal_handler_that_asks_meanwhile_finds_no_lock_of_the_parent(monkeypatch, mark):
    monkeypatch.setattr(forks, "_mark", mark)
    process = forks._Process()
    before = process.life()
    seen = []

    class Interrupted:
        """One whose lock is replaced just when a signal comes."""

        def __init__(self):
            self.lock = threading.RLock()

        @property
        def _lock(self):
            return self.lock

        @_lock.setter
        def _lock(self, lock):
            if not seen:
                seen.append(None)  # Once.
                life = process.life()
                seen[0] = life, [owner.lock for owner in owners if owner.lock in old]
            self.lock = lock

    owners = [Interrupted() for _ in range(3)]
    old = [owner.lock for owner in owners]
    for owner in owners:
        process.adopt(owner)
    if mark is forks._ById:
        monkeypatch.setattr(os, "getpid", lambda: 2**22)
    else:
        process.mark[0] = 0
    process._renew()
    ((life, held),) = seen
    assert before < life <= process.life()
    assert held == []


def test_a_lock_that_was_not_adopted_stays(process):
    owner = Owner()
    lock = owner._lock
    process._renew()
    assert owner._lock is lock


def test_adoption_keeps_nothing_alive(process):
    owner = Owner()
    process.adopt(owner)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
    process._renew()


@pytest.mark.audit("A18", "C6")
def test_a_forked_child_and_its_child_each_live_another_life():
    run("""
from envelope.forks import process
assert process.life() == 0

def check():
    assert process.life() == 1
    def again():
        assert process.life() == 2
    in_child(again)
    assert process.life() == 1

in_child(check)
assert process.life() == 0
""")


@pytest.mark.audit("A18", "C6")
@pytest.mark.parametrize("wrong", ["mark", "pid"])
@pytest.mark.parametrize("mark", [forks._mark, forks._ById])
def test_the_hook_believes_neither_a_mark_nor_a_process_id_alone(monkeypatch, mark, wrong):
    monkeypatch.setattr(forks, "_mark", mark)
    process = forks._Process()
    if mark is forks._ById:
        pass  # One has it from a parent in another namespace.
    elif wrong == "mark":
        process.mark[0] = 0
    else:
        monkeypatch.setattr(os, "getpid", lambda: 2**22)
    process.forked()
    assert process.life() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is another life again")
def test_what_a_hook_that_comes_first_makes_in_a_child_is_the_childs():
    run("""
import os, sys
sys.path.insert(0, "tests")
made = []
os.register_at_fork(after_in_child=lambda: made.append(make()))  # Before that of envelope.

from support import World
from envelope.replay import MemoryReplayStore

world = World()
make = lambda: world.opener(replay=MemoryReplayStore(first_life=True, clock=world.clock))

def check():
    assert made[0].open(world.sealer().seal(b"payload")).payload == b"payload"

in_child(check)
""")


@pytest.mark.audit("A18")
def test_a_lock_held_by_a_thread_at_the_fork_is_free_in_the_child():
    run("""
import threading
from envelope.forks import process

class Owner:
    def __init__(self):
        self._lock = threading.RLock()

owner, stranger = Owner(), Owner()
process.adopt(owner)
held, done = threading.Event(), threading.Event()

def hold():
    with owner._lock, stranger._lock:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()

def check():
    assert owner._lock.acquire(timeout=5)
    # This is what would have been: the holder does not exist here.
    assert not stranger._lock.acquire(blocking=False)

in_child(check)
assert not owner._lock.acquire(blocking=False)
done.set()
thread.join()
""")


@pytest.mark.audit("A18")
def test_sealers_openers_stores_and_trust_work_in_a_child_forked_while_their_locks_were_held():
    run("""
import contextlib, sys, threading
sys.path.insert(0, "tests")
from support import World
from envelope import stream
from envelope.replay import MemoryReplayStore

world = World()
sealer = world.sealer(to=[world.bob.public])
opener = world.opener()
opener.open(sealer.seal(b"before"))
owners = (sealer, world.trust, stream._register, opener._senders, opener.replay)
held, done = threading.Event(), threading.Event()

def hold():
    with contextlib.ExitStack() as stack:
        for owner in owners:
            stack.enter_context(owner._lock)
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()

def check():
    watchdog = threading.Timer(20, os._exit, [7])
    watchdog.daemon = True
    watchdog.start()
    data = sealer.seal(b"child")
    assert world.opener().open(data).payload == b"child"
    world.trust.replace(list(world.trust))
    assert stream.began_here(sealer.stream) is not None

in_child(check)
done.set()
thread.join()
assert opener.open(sealer.seal(b"after")).payload == b"after"
""")
