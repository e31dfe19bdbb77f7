"""Threads that open and seal while signals come, whose handler opens and seals too.

Run as: hall.py memory|sqlite FOLDER. Says "all delivered once" and ends with 0, or fails.
Its process is its own, and no tool traces it: a handler may run within any call of Python
code in the main thread, also within those of a tracer that holds a lock.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cast import BOB
from support import World

from envelope import RejectedError
from envelope.replay import MemoryReplayStore, SQLiteReplayStore

THREADS = 3
"""Beside the main one."""
EACH = 40
"""Envelopes that each of them seals."""
INTERVAL = 0.001
"""Seconds between two alarms."""
ALARMS = 5
"""At least so many are handled in a run."""
PATIENCE = 100
"""Seconds before a run counts as hung, and shows where."""
DEEPEST = 3
"""Handlers within handlers: an end to them on a busy machine."""


class Hall:
    """A sealer and an opener of all threads and of the handlers, and what came of both."""

    def __init__(self, store):
        world = World()
        self.store = store(world.clock)
        self.opener = world.opener(replay=self.store)
        self.sealer = world.sealer(to=[BOB])
        self.sent = []
        self.delivered = []
        self.refused = []
        self.handled = Counter()
        self.depth = 0

    def seal(self):
        # list.append is one step for threads and handlers alike, so nothing here is locked.
        self.sent.append(self.sealer.seal(b"", bound=[b"topic"]))

    def open(self, data):
        try:
            message = self.opener.open(data, bound=[b"topic"])
        except RejectedError as error:
            self.refused.append(error.code)
        else:
            self.delivered.append(message.id)

    def handle(self, number, frame):
        if self.depth == DEEPEST:
            return
        self.depth += 1
        self.handled[number] += 1
        self.seal()
        self.open(self.sent[-1])
        self.open(self.sent[0])
        self.depth -= 1

    def work(self, _=0):
        """Seal some, open the newest more than once, and interrupt the main thread."""
        for _ in range(EACH):
            self.seal()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            for data in self.sent[-3:]:
                self.open(data)


@contextlib.contextmanager
def signals(handler):
    """Have a timer, and whoever likes to, interrupt the main thread."""
    kinds = (signal.SIGALRM, signal.SIGUSR1)
    before = [signal.signal(kind, handler) for kind in kinds]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for kind, old in zip(kinds, before, strict=True):
            signal.signal(kind, old)
        sys.setswitchinterval(interval)


def memory(clock, folder):
    return MemoryReplayStore(first_life=True, clock=clock)


def sqlite(clock, folder):
    return SQLiteReplayStore(folder / "replay.db", first_life=True, clock=clock)


def run(store, folder):
    """Let them all at it, then say what came of it, and fail where it does not add up."""
    hall = Hall(lambda clock: store(clock, folder))
    with contextlib.closing(hall.store):
        with signals(hall.handle), ThreadPoolExecutor(THREADS) as pool:
            others = [pool.submit(hall.work) for _ in range(THREADS)]
            hall.work()  # Handlers run in the main thread, so it has to be at it too.
            for other in others:
                other.result()
            while hall.handled[signal.SIGALRM] < ALARMS:
                hall.work()
        for data in hall.sent:  # What a handler was refused within a mark comes now.
            hall.open(data)
        assert len(set(hall.delivered)) == len(hall.delivered) == len(hall.sent)
        places = {data[24:48] for data in hall.sent}
        assert len(places) == len(hall.sent)
        stats = hall.opener.stats
        assert stats.accepted == len(hall.delivered)
        assert stats.refused == Counter(hall.refused)
        assert stats.senders["alice"].lost == stats.senders["alice"].missing == 0
        assert hall.handled[signal.SIGUSR1] > 0


if __name__ == "__main__":
    # From a thread that is none of Python's, so that it sees whatever hangs.
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    logging.disable(logging.CRITICAL)
    run({"memory": memory, "sqlite": sqlite}[sys.argv[1]], Path(sys.argv[2]))
    sys.stdout.write("all delivered once\n")
