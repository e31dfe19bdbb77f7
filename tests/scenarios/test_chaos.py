"""Peers die and come back, queues overflow, subscribers are slow: nothing false gets in.

Everything received is authentic and comes at most once, also over lives; and what was
dropped on the way to a receiver that lives shows in its figures, to the last envelope.
``make soak`` makes it long: ENVELOPE_CHAOS is the seconds of chaos.
"""

from __future__ import annotations

import collections
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from envelope import Node
from envelope.clock import SECOND, monotonic

SECONDS = float(os.environ.get("ENVELOPE_CHAOS", "6"))
ENDS = Path(__file__).with_name("chaos_ends.py")
NAMES = ["publisher", "pusher", "taker", "fast", "slow", "server", "asker"]


class End:
    """One end: a process, and all the lines that its lives wrote."""

    def __init__(self, folder, role, name, place, *more):
        self.command = [sys.executable, str(ENDS), role, name, str(folder), place, *more]
        self.lives: list[list[list[str]]] = []
        self.begin()

    def begin(self):
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        self.lives.append([])
        self._reader = threading.Thread(target=self._read, args=(self.process, self.lives[-1]))
        self._reader.start()

    @staticmethod
    def _read(process, lines):
        for line in process.stdout:
            lines.append(line.decode().split(maxsplit=5))

    def kill(self):
        self.process.kill()
        self._ended()

    def end(self):
        wait_until(lambda: self.lives[-1])  # From then on it ends by a signal as it should.
        self.process.terminate()
        assert self._ended() == 0

    def _ended(self):
        status = self.process.wait(timeout=60)
        self._reader.join()
        self.process.stdout.close()
        return status

    def lines(self, kind):
        return [line for life in self.lives for line in life if line[0] == kind]

    @property
    def figures(self):
        """What its last life said at its end."""
        (line,) = [line for line in self.lives[-1] if line[0] == "figures"]
        return json.loads(" ".join(line[1:]))


def wait_until(is_so):
    """Wait for a condition that the ends bring about."""
    pause = threading.Event()
    end = monotonic() + 30 * SECOND
    while not is_so():
        assert monotonic() < end
        pause.wait(0.01)


@pytest.fixture
def start(tmp_path):
    """Starts ends: ``start("publish", "publisher", "here")``; all end with the test."""
    nodes = {name: Node.create(tmp_path / name) for name in NAMES}
    peers = "".join(
        f'[[peer]]\nname = "{name}"\nkey = "{node.identity.public}"\ncontexts = ["chaos"]\n'
        for name, node in nodes.items()
    )
    for name in NAMES:
        nodes[name].close()
        (tmp_path / name / "peers.toml").write_text(peers)
    ends: list[End] = []

    def make(role, name, place, *more):
        ends.append(End(tmp_path, role, name, f"ipc://{tmp_path}/{place}", *more))
        return ends[-1]

    yield make
    for end in ends:
        if end.process.poll() is None:
            end.kill()


def storm(victims, seed):
    """Kill and restart victims at random moments."""
    dice = random.Random(seed)
    pause = threading.Event()
    end = monotonic() + round(SECONDS * SECOND)
    while monotonic() < end:
        pause.wait(dice.uniform(0.1, 0.6))
        victim = dice.choice(victims)
        victim.kill()
        pause.wait(dice.uniform(0, 0.2))
        victim.begin()


def check_messages(ends, sender):
    """Everything is authentic, and came at most once at each end over all its lives."""
    for end in ends:
        seen = collections.Counter()
        for _, name, stream, sequence, index, payload in end.lines("got"):
            assert name == sender
            assert payload.split()[0] == sender
            seen[stream, sequence, index] += 1
        assert seen
        assert set(seen.values()) == {1}
        # Nor is a payload doubled under another sequence.
        payloads = [line[5] for line in end.lines("got")]
        assert len(set(payloads)) == len(payloads)


@pytest.mark.audit("A21", "R2")
@pytest.mark.timeout(60 + 20 * SECONDS)
class TestChaos:
    def test_publishers_die_and_one_subscriber_is_slow(self, start):
        publisher = start("publish", "publisher", "pub")
        fast = start("subscribe", "fast", "pub")
        slow = start("subscribe", "slow", "pub", "slow")
        wait_until(lambda: fast.lines("got") and slow.lines("got"))
        storm([publisher], seed=1)
        # The last life is seen by both, so that nothing before it is a mere tail.
        publisher.end()
        fast.end()
        slow.end()
        check_messages([fast, slow], "publisher")
        for end in (fast, slow):
            figures = end.figures
            assert figures["accepted"] + figures["gone"] == figures["sent"]
            assert set(figures["refused"]) <= {"stale"}
        assert slow.figures["gone"] > 0

    def test_both_ends_of_a_pipeline_die(self, start):
        pusher = start("push", "pusher", "pipe")
        taker = start("pull", "taker", "pipe")
        wait_until(lambda: taker.lines("got"))
        storm([pusher, taker], seed=2)
        count = len(taker.lines("got"))
        wait_until(lambda: len(taker.lines("got")) > count)
        pusher.end()
        taker.end()
        check_messages([taker], "pusher")
        assert len(taker.lives) > 1

    def test_a_server_and_its_clients_die(self, start):
        server = start("serve", "server", "ask")
        asker = start("ask", "asker", "ask")
        wait_until(lambda: asker.lines("replied"))
        storm([server, asker, server], seed=3)
        count = len(asker.lines("replied"))
        wait_until(lambda: len(asker.lines("replied")) > count)
        asker.end()
        server.end()
        executed = collections.Counter(" ".join(line[1:]) for line in server.lines("executed"))
        assert set(executed.values()) == {1}
        for line in asker.lines("replied"):
            assert executed[" ".join(line[1:])] == 1
