"""Receivers that are killed at random moments under load deliver nothing twice.

Each round replays everything that was ever recorded. ``make soak`` makes the rounds
many: ENVELOPE_ROUNDS is their number. With a file, the clock of a round is ten seconds
ahead of that of the round before, so that each has something to deliver. With a server,
time is what it is, and the server is killed too.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from local_redis import LocalRedis

from envelope import Node, Sealer, clock

ROUNDS = int(os.environ.get("ENVELOPE_ROUNDS", "20"))
RECEIVER = Path(__file__).with_name("receiver.py")
PER_ROUND = 300
STEP = 10 * clock.SECOND


class Receiver:
    """A receiver's process and what it delivered."""

    def __init__(self, folder, record, offset, *url):
        self.process = subprocess.Popen(
            [sys.executable, str(RECEIVER), str(folder), str(record), str(offset), *url],
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

    def have(self, receivers, count, wait):
        """Tell whether receivers have delivered so many, within so many seconds."""
        with self._some:
            return self._some.wait_for(
                lambda: sum(len(one.delivered) for one in receivers) >= count, timeout=wait
            )

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


def write(record, sent):
    with record.open("ab") as file:
        file.write(b"".join(len(data).to_bytes(4, "big") + data for data in sent))


@pytest.fixture
def nodes(tmp_path):
    """Return alice's node, and the folder of bob's, who believes her."""
    alice = Node.create(tmp_path / "alice")
    Node.create(tmp_path / "bob")
    (tmp_path / "bob" / "peers.toml").write_text(
        f'[[peer]]\nname = "alice"\nkey = "{alice.identity.public}"\ncontexts = ["orders"]\n'
    )
    return alice, tmp_path / "bob"


@pytest.mark.audit("A3", "A23", "R2")
@pytest.mark.timeout(60 + 10 * ROUNDS)
def test_kills_at_random_moments_never_make_a_second_delivery(tmp_path, nodes):
    dice = random.Random(7)
    alice, bob = nodes
    record = tmp_path / "record"
    record.touch()
    delivered: list[bytes] = []
    sealer = None
    ahead = Ahead()
    for number in range(ROUNDS):
        offset = number * STEP
        receiver = Receiver(bob, record, offset)
        ahead.microseconds = offset
        if sealer is None or dice.random() < 0.5:  # Else the sender lives on.
            sealer = Sealer(alice.identity, context="orders", clock=ahead)
        sent = [sealer.seal(b"%d-%d" % (number, index)) for index in range(PER_ROUND)]
        write(record, sent)
        # What is waited for also proves that it delivers after each crash.
        receiver.wait_for(dice.randrange(1, PER_ROUND))
        receiver.kill()
        delivered += receiver.delivered
        assert len(delivered) == len(set(delivered)), "delivered twice"
        assert set(receiver.delivered) <= {b"%d-%d\n" % (number, i) for i in range(PER_ROUND)}


@pytest.mark.audit("A3", "A23", "A24", "R2", "R6")
@pytest.mark.timeout(60 + 15 * ROUNDS)
def test_kills_of_two_receivers_and_of_their_server_never_make_a_second_delivery(tmp_path, nodes):
    dice = random.Random(7)
    alice, bob = nodes
    record = tmp_path / "record"
    record.touch()
    delivered: list[bytes] = []
    sealer, count = Sealer(alice.identity, context="orders"), itertools.count()

    def send_until(is_enough):
        """Send, little by little, for as long as it takes to get so many through."""
        for _ in range(3000):
            write(record, [sealer.seal(b"%d" % next(count)) for _ in range(3)])
            if is_enough(0.005):
                return
        raise AssertionError("nothing gets through any more")

    with LocalRedis(tmp_path) as server:
        receivers = [Receiver(bob, record, 0, server.url) for _ in range(2)]
        for _ in range(ROUNDS):
            if dice.random() < 0.3:
                sealer = Sealer(alice.identity, context="orders")
            # Each round something gets through, whoever was killed before: to either.
            before = sum(len(one.delivered) for one in receivers)
            wanted = before + dice.randrange(1, 60)
            send_until(lambda wait: receivers[0].have(receivers, wanted, wait))  # noqa: B023
            if dice.random() < 0.5:
                server.kill()
                write(record, [sealer.seal(b"%d" % next(count)) for _ in range(9)])
                server.start()
            for index in range(2):
                if dice.random() < 0.4:
                    receivers[index].kill()
                    delivered += receivers[index].delivered
                    receivers[index] = Receiver(bob, record, 0, server.url)
            everything = delivered + [line for one in receivers for line in list(one.delivered)]
            assert len(everything) == len(set(everything)), "delivered twice"
        for receiver in receivers:
            receiver.kill()
            delivered += receiver.delivered
    assert len(delivered) == len(set(delivered)), "delivered twice"
    assert {int(line) for line in delivered} <= set(range(next(count)))
