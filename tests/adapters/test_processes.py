"""Senders are processes that end, crash and come back; receivers go on.

Clocks here are real, and ``max_age`` is long: a slow machine must fail no test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

import envelope
from envelope import Opener, Policy
from envelope.errors import ReplayedError
from envelope.replay import MemoryReplayStore

PACKAGE = Path(envelope.__file__).parents[1]
SCRIPT = Path(__file__).with_name("sender.py")

pytestmark = pytest.mark.audit("A3", "A18", "R2")


class Sender:
    """A sender's process."""

    def __init__(self, seed: str, *arguments: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(PACKAGE), "ENVELOPE_IDENTITY": seed}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(SCRIPT), *arguments],
            env=environment,
            stdin=subprocess.PIPE,
        )

    def say(self, line: bytes) -> None:
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Let it send what it has and end well."""
        self.process.stdin.close()
        assert self.process.wait(20) == 0

    def crash(self) -> None:
        self.process.kill()
        self.process.wait(20)
        self.process.stdin.close()


@pytest.fixture
def alice(world):
    """Starts a process that sends as Alice."""
    started = []

    def start(*arguments: str) -> Sender:
        started.append(Sender(world.alice.export(), *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.returncode is None:
            one.crash()


@pytest.fixture
def opener(world):
    store = MemoryReplayStore(first_life=True)
    policy = Policy(max_age=600)
    return Opener(world.trust, context="orders", identity=world.bob, replay=store, policy=policy)


def heard(receiver, sender: Sender) -> None:
    """Have a sender call until it is heard; leaves nothing queued."""
    receiver.socket.rcvtimeo = 20
    for number in range(1_000):
        sender.say(b"call %d" % number)
        try:
            message = receiver.recv()
        except zmq.Again:
            continue
        receiver.socket.rcvtimeo = 10_000
        while message.payload != b"call %d" % number:
            message = receiver.recv()
        return
    pytest.fail("never heard")


def test_a_pusher_that_comes_back_is_a_new_stream(secure, plain, link, opener, alice):
    """Bob's socket stands behind a tap that records, as any broker could."""
    bob = secure(zmq.PULL, opener=opener)
    tap, onward, thief = plain(zmq.PULL), plain(zmq.PUSH), plain(zmq.PUSH)
    tap.rcvtimeo = 20_000
    tap.bind("tcp://127.0.0.1:*")
    link(bob, onward, thief)
    recorded = []

    def life() -> list:
        sender = alice("PUSH", "connect", tap.last_endpoint.decode())
        for line in (b"one", b"two", b"three"):
            sender.say(line)
        sender.end()
        for _ in range(3):
            recorded.append(tap.recv_multipart())
            onward.send_multipart(recorded[-1])
        return [bob.recv(strict=True) for _ in range(3)]

    first, second = life(), life()
    for messages in (first, second):
        assert [message.payload for message in messages] == [b"one", b"two", b"three"]
        assert [message.sequence for message in messages] == [0, 1, 2]
        assert {message.skipped for message in messages} == {0}
        assert {message.topic for message in messages} == {b"news"}
        assert len({message.stream for message in messages}) == 1
    assert first[0].stream != second[0].stream
    assert bob.stats.senders["alice"].streams == 2

    for frames in recorded[:3]:
        thief.send_multipart(frames)
        with pytest.raises(ReplayedError):
            bob.recv(strict=True)
    assert [message.payload for message in life()] == [b"one", b"two", b"three"]


def test_a_publisher_that_crashed_and_comes_back_is_a_new_stream(
    secure, plain, link, meet, opener, alice, tmp_path
):
    bob = secure(zmq.SUB, opener=opener)
    recorder, thief = plain(zmq.SUB), plain(zmq.PUB)
    place = f"ipc://{tmp_path}/publisher"
    for socket in (bob.socket, recorder):
        socket.reconnect_ivl = 10
        socket.connect(place)

    sender = alice("PUB", "bind", place)
    heard(bob, sender)
    while not recorder.poll(20):
        sender.say(b"does anybody record?")
    lines = [b"one", b"two", b"three"]
    for line in lines:
        sender.say(line)
    recorded = [recorder.recv_multipart()]
    while lines[-1] not in recorded[-1][-1]:
        recorded.append(recorder.recv_multipart())
    recorded = recorded[-3:]
    first = [bob.recv(strict=True)]
    while first[-1].payload != lines[-1]:
        first.append(bob.recv(strict=True))
    assert [message.payload for message in first[-3:]] == lines
    assert {message.skipped for message in first} == {0}
    sender.crash()

    sender = alice("PUB", "bind", place)
    heard(bob, sender)
    sender.say(b"the second life")
    second = bob.recv(strict=True)
    assert (second.payload, second.skipped) == (b"the second life", 0)
    assert second.stream != first[-1].stream
    assert bob.stats.senders["alice"].streams == 2
    assert bob.stats.refused == {}

    link(thief, bob)
    meet(thief, bob)
    for frames in recorded:
        thief.send_multipart(frames)
        with pytest.raises(ReplayedError):
            bob.recv(strict=True)
    sender.say(b"and on")
    assert bob.recv(strict=True).payload == b"and on"
