"""Children, and what the kernel says of a process: time of the processor, and memory.

Rules of this file: for Linux. A child is forked from a server that has loaded what all
need, so that sixteen of them start at once; who starts one ends it. Times come from the kernel's
clocks of a process and of its threads, so ZeroMQ's are included, and a tunnel's.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from time import clock_gettime_ns
from typing import Any, NamedTuple

DEADLINE = 60.0
"""Seconds that a child may take for anything."""

_context = multiprocessing.get_context("forkserver")


class FailedError(Exception):
    """A child ended, or is late."""


class Usage(NamedTuple):
    """What processes have used up to now."""

    cpu: int
    """Nanoseconds of the processor."""
    threads: dict[int, int]
    """The same of each thread."""
    peak: int
    """Bytes that were in memory at most."""


class Child:
    """A process, and the pipe to it."""

    def __init__(self, connection: Connection, process: Any) -> None:
        self._connection = connection
        self._process = process
        self.pid: int = process.pid

    def tell(self, message: Any = None) -> None:
        """Tell it something."""
        try:
            self._connection.send(message)
        except OSError:
            raise FailedError(f"{self._process.name} has ended") from None

    def told(self) -> Any:
        """Return what it tells next.

        Raises:
            FailedError: nothing in time, or never.
        """
        try:
            if self._connection.poll(DEADLINE):
                return self._connection.recv()
        except (EOFError, OSError):
            raise FailedError(f"{self._process.name} has ended") from None
        raise FailedError(f"{self._process.name} is late")


def start_server() -> None:
    """Start what children are forked from, with all that is slow to load."""
    before = os.environ.get("PYTHONPATH")
    # Python 3.11's server looks for what it is to load here, and not in our sys.path.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        _context.set_forkserver_preload(["stream.nodes", "stream.sidecar"])
        multiprocessing.forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def shared_numbers(count: int) -> Any:
    """Return numbers that children can see, all 0."""
    return _context.RawArray("Q", count)


@contextmanager
def child(target: Callable[..., None], *arguments: Any) -> Iterator[Child]:
    """Run a function in a process, and end it."""
    here, there = _context.Pipe()
    process = _context.Process(
        target=target, args=(*arguments, there), name=target.__name__, daemon=True
    )
    process.start()
    there.close()
    try:
        yield Child(here, process)
    finally:
        process.kill()
        process.join()
        here.close()


def usage(pids: Iterable[int]) -> Usage:
    """Return what some processes have used together."""
    cpu, peak = 0, 0
    threads: dict[int, int] = {}
    for pid in pids:
        # clock_getcpuclockid(3), for the whole process.
        cpu += clock_gettime_ns((~pid << 3) | 2)
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        peak += int(status.partition("VmHWM:")[2].split()[0]) * 1024
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # It has just ended.
                ran = (thread / "schedstat").read_text(encoding="utf-8").split()[0]
                threads[int(thread.name)] = int(ran)
    return Usage(cpu, threads, peak)
