"""A receiver that is killed at random moments under load delivers nothing twice.

Each round replays everything that was ever recorded. ``make soak`` makes the rounds
many: ENVELOPE_ROUNDS is their number. The clock of a round is ten seconds ahead of
that of the round before, so that each has something to deliver.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from envelope import Node, Sealer, clock

ROUNDS = int(os.environ.get("ENVELOPE_ROUNDS", "20"))
RECEIVER = Path(__file__).with_name("receiver.py")
PER_ROUND = 300
STEP = 10 * clock.SECOND


class Receiver:
    """A receiver's process and what it delivered."""

    def __init__(self, folder, record, offset):
        self.process = subprocess.Popen(
            [sys.executable, str(RECEIVER), str(folder), str(record), str(offset)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stdout is not None
        self.delivered: list[bytes] = []
        self._some = threading.Condition()
        assert self.process.stdout.readline() == b"ready\n"
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._some:
                self.delivered.append(line)
                self._some.notify()

    def wait_for(self, count):
        """Wait until it has delivered so many."""
        with self._some:
            assert self._some.wait_for(lambda: len(self.delivered) >= count, timeout=60)

    def kill(self):
        """Give it no chance to clean up; take what it had written."""
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL
        self._reader.join()
        self.process.stdout.close()


class Ahead:
    """A clock ahead of the wall."""

    microseconds = 0

    def __call__(self):
        return clock.wall() + self.microseconds


@pytest.mark.audit("A3", "A23", "R2")
@pytest.mark.timeout(60 + 10 * ROUNDS)
def test_kills_at_random_moments_never_make_a_second_delivery(tmp_path):
    dice = random.Random(7)
    alice = Node.create(tmp_path / "alice")
    Node.create(tmp_path / "bob")
    (tmp_path / "bob" / "peers.toml").write_text(
        f'[[peer]]\nname = "alice"\nkey = "{alice.identity.public}"\ncontexts = ["orders"]\n'
    )
    record = tmp_path / "record"
    record.touch()
    delivered: list[bytes] = []
    sealer = None
    ahead = Ahead()
    for number in range(ROUNDS):
        offset = number * STEP
        receiver = Receiver(tmp_path / "bob", record, offset)
        ahead.microseconds = offset
        if sealer is None or dice.random() < 0.5:  # Else the sender lives on.
            sealer = Sealer(alice.identity, context="orders", clock=ahead)
        sent = [sealer.seal(b"%d-%d" % (number, index)) for index in range(PER_ROUND)]
        with record.open("ab") as file:
            file.write(b"".join(len(data).to_bytes(4, "big") + data for data in sent))
        # What is waited for also proves that it delivers after each crash.
        receiver.wait_for(dice.randrange(1, PER_ROUND))
        receiver.kill()
        delivered += receiver.delivered
        assert len(delivered) == len(set(delivered)), "delivered twice"
        assert set(receiver.delivered) <= {b"%d-%d\n" % (number, i) for i in range(PER_ROUND)}
