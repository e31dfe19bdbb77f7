"""A durable store on a clock, its crashes and its next lives."""

from __future__ import annotations

import shutil
from pathlib import Path

from support import FakeClock

from envelope.errors import RejectedError
from envelope.replay import SQLiteReplayStore

SENDER = b"s" * 16
STREAM = b"t" * 16


class Life:
    """A store on a clock, and what happens to it."""

    def __init__(self, path, *, clock=None, **options):
        self.clock = clock or FakeClock()
        options.setdefault("first_life", True)
        self.store = SQLiteReplayStore(path, clock=self.clock, **options)
        self.guard = self.store.guard("home", SENDER, "orders")

    def mark(
        self, sequence=0, sent_at=None, *, stream=STREAM, expected=False, full_at=3, forget=-1
    ):
        """Mark one envelope; return None or the code."""
        sent_at = self.clock() if sent_at is None else sent_at
        try:
            self.guard.mark(
                stream,
                sequence,
                sent_at,
                full_at=full_at,
                window=64,
                expected=expected,
                forget_before=forget,
            )
        except RejectedError as error:
            return error.code
        return None

    def after_crash(self, name="crashed"):
        """Return the next life of what is on the disk now, as a crash would leave it."""
        source = self.store.path
        target = source.with_name(f"{name}.db")
        copy(source, target)
        return Life(target, clock=self.clock)

    def after_close(self):
        self.store.close()
        return Life(self.store.path, clock=self.clock)


def copy(source, target):
    """Copy a database with the journal that may stand beside it."""
    for ending in ("", "-journal"):
        old = Path(f"{source}{ending}")
        if old.exists():
            shutil.copy(old, f"{target}{ending}")
