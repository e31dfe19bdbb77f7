"""Real threads and real children, for what only they can show.

Rules of this file: whatever goes wrong in a thread or a child is raised in the
test. A child never returns into pytest, and one that hangs is ended by its own
alarm.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work(number)`` in many threads that start together and take turns often.

    Returns:
        What they returned, in the order of their numbers.
    """
    start = threading.Barrier(count)

    def run(number: int) -> Any:
        start.wait()
        return work(number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(run, range(count)))
    finally:
        sys.setswitchinterval(interval)


@contextlib.contextmanager
def held_by_another_thread(lock: Any) -> Iterator[None]:
    """Have a thread that holds the lock all the time."""
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            holding.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        holding.wait()
        yield
    finally:
        done.set()
        thread.join()


def raw_fork() -> int:
    """Fork as a C library does: without Python's hooks."""
    return int(ctypes.PyDLL(None).fork())


def in_child(
    work: Callable[[], Any], *, fork: Callable[[], int] = os.fork, seconds: int = 60
) -> Any:
    """Return what ``work`` returns in a forked child.

    Raises:
        AssertionError: it raised, or did not come to an end in time.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn of threads at a fork; some tests are about just that.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = fork()
    if pid == 0:
        _be_the_child(work, writer, seconds)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not answer:
        raise AssertionError(f"the child gave no answer; status {status}")
    is_result, value = pickle.loads(answer)
    if not is_result:
        raise AssertionError(f"in the child:\n{value}")
    return value


def _be_the_child(work: Callable[[], Any], writer: int, seconds: int) -> None:
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            answer = pickle.dumps((True, work()))
        except BaseException:  # noqa: BLE001 (whatever it is, the parent tells)
            answer = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)
