"""At most one delivery over all lives of a durable store, whatever the network does.

The model is a set of what was delivered. The machine sends, repeats, delays, turns
the clock, crashes (what is on the disk goes on), closes, changes policies, and makes
the disk fail at some statement.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support import SECOND, FakeClock

from envelope.errors import RejectedError
from envelope.replay import SQLiteReplayStore

SENDERS = (b"a" * 16, b"b" * 16)
CODES = {"before_start", "too_old", "replayed"}


class Failing:
    """A connection whose disk fails after some statements; the last one may have run."""

    def __init__(self, database, left, *, has_run):
        self._database = database
        self._left = left
        self._has_run = has_run

    def execute(self, *arguments):
        return self._run(self._database.execute, arguments)

    def executemany(self, *arguments):
        return self._run(self._database.executemany, arguments)

    def _run(self, work, arguments):
        if not self._left:
            if self._has_run:
                work(*arguments)
            raise sqlite3.OperationalError("database or disk is full")
        self._left -= 1
        return work(*arguments)

    def __getattr__(self, name):
        return getattr(self._database, name)


class Receiver(RuleBasedStateMachine):
    """Two senders, their streams, and one receiver with many lives."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "0.db"
        self.clock = FakeClock()
        self.lives = 0
        self.full_at, self.window = 3, 64
        self.sent: list[tuple[bytes, bytes, int, int]] = []
        self.next: dict[tuple[bytes, bytes], int] = {}
        self.delivered: set[tuple[bytes, bytes, int, int]] = set()
        self.store = SQLiteReplayStore(self.path, first_life=True, clock=self.clock)

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.folder)

    def offer(self, envelope):
        """Open one envelope; return the code, or None if it is delivered."""
        sender, stream, sequence, sent_at = envelope
        guard = self.store.guard("home", sender, "orders")
        before = self.store.state()
        try:
            guard.mark(
                stream,
                sequence,
                sent_at,
                full_at=self.full_at,
                window=self.window,
                expected=False,
                forget_before=self.clock.now - 600 * SECOND,
            )
        except RejectedError as error:
            assert self.store.state() == before
            return error.code
        assert envelope not in self.delivered, "delivered twice"
        self.delivered.add(envelope)
        return None

    @rule(
        who=st.sampled_from(SENDERS),
        stream=st.integers(0, 4),
        skip=st.sampled_from((0, 0, 0, 1, 70, 10_000)),
        lag=st.sampled_from((0, 0, 0, 1, 5, 29, -1)),
        arrives=st.booleans(),
    )
    def send(self, who, stream, skip, lag, arrives):
        """Send the next of a stream; the network may hold it back."""
        name = bytes([stream]) * 16
        sequence = self.next.get((who, name), 0) + skip
        self.next[who, name] = sequence + 1
        envelope = (who, name, sequence, self.clock.now - lag * SECOND)
        self.sent.append(envelope)
        if arrives:
            self.offer(envelope)

    @rule(data=st.data())
    def repeat(self, data):
        """Offer something that was sent at any time."""
        if self.sent:
            envelope = data.draw(st.sampled_from(self.sent))
            was_delivered = envelope in self.delivered
            code = self.offer(envelope)
            assert code in CODES if was_delivered else code in {None, *CODES}

    @rule()
    def repeat_all(self):
        """Offer all that was ever sent."""
        for envelope in self.sent:
            self.offer(envelope)

    @rule(seconds=st.sampled_from((0.01, 0.5, 1, 3, 40, 1000, -0.5, -3, -100)))
    def turn_the_clock(self, seconds):
        """Let time go by, or set the clock."""
        self.clock.advance(seconds)

    @rule(full_at=st.sampled_from((1, 3, 64)), window=st.sampled_from((64, 100, 4096)))
    def change_the_policy(self, full_at, window):
        """Allow more or fewer streams."""
        self.full_at, self.window = full_at, window

    @rule()
    def close(self):
        """End cleanly, and go on exactly."""
        before = self.store.state()
        self.store.close()
        self.store = SQLiteReplayStore(self.path, clock=self.clock)
        assert self.store.state() == before

    @rule()
    def crash(self):
        """Go on with what is on the disk."""
        self.lives += 1
        path = self.folder / f"{self.lives}.db"
        shutil.copy(self.path, path)
        self.store.close()
        self.path = path
        self.store = SQLiteReplayStore(path, clock=self.clock)

    @rule(
        left=st.integers(0, 9),
        data=st.data(),
        has_run=st.booleans(),
        dies=st.sampled_from((0, 0, 1)),
    )
    def disk_fails(self, left, data, has_run, dies):
        """Run out of disk at some statement, and die of it or not."""
        if not self.sent:
            return
        whole = self.store._database
        self.store._database = Failing(whole, left, has_run=has_run)
        self.offer(data.draw(st.sampled_from(self.sent)))
        self.store._database = whole
        if dies:
            self.crash()

    @rule()
    def fresh_ones_arrive(self):
        """First arrivals that no rule speaks against are delivered."""
        self.clock.now = max([self.clock.now, *(sent_at for *_, sent_at in self.sent)])
        self.clock.advance(5)
        name = len(self.sent).to_bytes(16, "big")
        envelope = (SENDERS[0], name, 0, self.clock.now)
        self.sent.append(envelope)
        assert self.offer(envelope) is None

    @invariant()
    def tables_are_bounded(self):
        """No more streams than ever allowed."""
        for _, streams in self.store.state().values():
            assert len(streams) <= 64


Receiver.TestCase.settings = settings(
    settings.default,
    max_examples=max(settings.default.max_examples // 2, 10),
    stateful_step_count=40,
)


@pytest.mark.audit("A3", "A19", "A23", "R2", "R3")
class TestDurable(Receiver.TestCase):
    """Hypothesis runs the machine."""
