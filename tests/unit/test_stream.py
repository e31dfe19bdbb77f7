"""Streams: their id, their counter, and whose they are (SPEC 6.1, 6.2)."""

from __future__ import annotations

import gc
import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import START, identity, seeded

from envelope import forks, stream
from envelope.stream import Stream, began_here

ROOT = Path(__file__).parents[2]
ALICE = identity("alice")
NS = START * 1000 + 7


def begin(*, now=START, ns=NS, random=None, who=ALICE):
    return Stream(who._stream_hedge, now=now, ns=ns, random=random or seeded())


@pytest.fixture
def process(monkeypatch):
    """Give the module a process and a register of its own: no other test may see a fork."""
    fresh = forks._Process()
    monkeypatch.setattr(stream, "process", fresh)
    monkeypatch.setattr(stream, "_register", stream._Register())
    return fresh


def blake(label, *data, key=b""):
    """Return the full hash of SPEC 2.2."""
    return hashlib.blake2b(label.ljust(128, b"\0") + b"".join(data), key=key).digest()


@pytest.mark.audit("C6", "K1")
def test_a_stream_id_is_that_of_spec_6_2():
    asked = []

    def random(n):
        asked.append(n)
        return bytes(range(n))

    hedge = blake(b"env1-hedge", key=ALICE._seed)[:32]
    tail = blake(
        b"env1-stream",
        bytes(range(32)),
        os.getpid().to_bytes(8, "big"),
        NS.to_bytes(8, "big"),
        key=hedge,
    )[:8]
    assert begin(random=random).id == START.to_bytes(8, "big") + tail
    assert asked == [32]


@pytest.mark.audit("C6", "A18")
def test_every_ingredient_changes_the_id(process, monkeypatch):
    ids = [
        begin().id,
        begin(now=START + 1).id,
        begin(ns=NS + 1).id,
        begin(random=seeded(1)).id,
        begin(who=identity("bob")).id,
    ]
    monkeypatch.setattr(os, "getpid", lambda: 2**22)
    ids.append(begin().id)
    assert len(set(ids)) == len(ids)
    # The random half depends on all but the start, which stands in the first half.
    assert len({made[8:] for made in ids}) == len(ids) - 1
    assert begin().id == ids[-1]


def test_a_stream_begins_at_sequence_0_and_at_its_start():
    new = begin()
    assert [new.take() for _ in range(4)] == [0, 1, 2, 3]
    assert new.latest == START
    assert begin().take() == 0


@pytest.mark.audit("C6")
def test_threads_get_each_sequence_once():
    shared = begin()
    start = threading.Barrier(4)

    def take(_):
        start.wait()
        return [shared.take() for _ in range(2000)]

    with ThreadPoolExecutor(4) as threads:
        taken = [sequence for part in threads.map(take, range(4)) for sequence in part]
    assert sorted(taken) == list(range(8000))


def test_births_rise():
    one, two = begin(), begin(random=seeded(1))
    number = stream.birth()
    assert 0 < one.birth < two.birth < number


def test_a_stream_began_here_also_when_its_sealer_is_gone():
    one = begin()
    key, number = one.id, one.birth
    del one
    gc.collect()
    assert began_here(key) == number
    assert began_here(bytes(16)) is None


def test_the_oldest_of_very_many_streams_is_forgotten(monkeypatch):
    assert stream.MAX_KNOWN == 65_536
    monkeypatch.setattr(stream, "MAX_KNOWN", 3)
    monkeypatch.setattr(stream._register, "_births", {})
    first, *others = [begin(random=seeded(number)) for number in range(4)]
    assert began_here(first.id) is None
    assert all(began_here(one.id) == one.birth for one in others)


def test_a_stream_knows_another_life(process):
    mine = begin()
    assert mine.life == process.life()
    process._renew()
    assert mine.life != process.life()
    assert begin().life == process.life()


def test_a_stream_knows_another_process(process):
    mine = begin()
    process.mark[0] = 0
    assert mine.life != process.life()
    assert begin().life == process.life()


def test_the_register_of_another_life_begins_empty_and_takes_what_begins_then(process):
    register = stream._register
    before = begin()
    assert register.birth_of(before.id) == before.birth
    process._renew()
    assert register.birth_of(before.id) is None
    after = begin(random=seeded(1))
    assert register.birth_of(after.id) == after.birth
    assert register.birth_of(before.id) is None


@pytest.mark.parametrize("first", ["birth_of", "add"])
def test_the_register_takes_its_new_lock_in_a_child_forked_around_python(process, first):
    register = stream._register
    before = begin()
    held = threading.Thread(target=register._lock.acquire)
    held.start()
    held.join()
    process.mark[0] = 0
    if first == "add":
        register.add(before)
    assert register.birth_of(before.id) == (before.birth if first == "add" else None)


FORK = """
import ctypes, os, sys
sys.path.insert(0, "tests")
from support import World
from envelope import stream
from envelope.stream import began_here

world = World()
sealer = world.sealer()
first = sealer.seal(b"one")
before = sealer.stream
begun = began_here(before)
assert begun is not None
assert first[24:40] == before
lock = stream._register._lock

child = {fork}
if not child:
    code = 1
    try:
        {in_child}
        data = sealer.seal(b"two")
        os.write(1, data[24:48])
        assert began_here(sealer.stream) is not None
        code = 0
    finally:
        os._exit(code)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
assert began_here(before) == begun
assert stream._register._lock is lock
data = sealer.seal(b"three")
assert data[24:40] == before == sealer.stream
assert int.from_bytes(data[40:48], "big") == 1
sys.stdout.buffer.write(before)
"""


def forked(fork, in_child):
    """Run the script; return the child's stream and sequence, and the parent's stream."""
    script = FORK.format(fork=fork, in_child=in_child)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) == 16 + 8 + 16
    return done.stdout[:16], int.from_bytes(done.stdout[16:24], "big"), done.stdout[24:]


@pytest.mark.audit("A18", "C6", "R2")
def test_a_forked_child_has_a_stream_of_its_own_from_0_on_and_forgets_its_parents():
    child, sequence, parent = forked(
        "os.fork()",
        "assert began_here(before) is None and stream._register._lock is not lock",
    )
    # The clock stands still and the two are equal in all but process, time and randomness.
    assert child[:8] == parent[:8]
    assert child[8:] != parent[8:]
    assert sequence == 0


@pytest.mark.audit("A18", "C6")
def test_a_child_forked_around_python_has_a_stream_of_its_own_too():
    # The C library's fork runs none of Python's hooks; the process id tells.
    child, sequence, parent = forked("ctypes.PyDLL(None).fork()", "pass")
    assert child[8:] != parent[8:]
    assert sequence == 0


@pytest.mark.audit("A18", "A6")
def test_a_child_forked_around_python_forgets_its_parents_streams_too():
    forked("ctypes.PyDLL(None).fork()", "assert began_here(before) is None")
