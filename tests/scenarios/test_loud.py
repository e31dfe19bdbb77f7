"""What people set up wrongly is told in one line, at once, over real sockets."""

from __future__ import annotations

import logging

import pytest
import zmq
from support import World, identity

from envelope import Identity, Opener, Peer, Sealer, TrustStore
from envelope.clock import wall
from envelope.replay import MemoryReplayStore
from envelope.zeromq import SecureSocket

ALICE, BOB = identity("alice"), identity("bob")
HOUR = 3_600_000_000


@pytest.fixture
def pipe(caplog):
    """Makes Bob, who pulls, and one who pushes to him; returns what the log says of it."""
    caplog.set_level(logging.WARNING)
    context = zmq.Context()

    def make(sealer: Sealer, **bob):
        push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        push.linger = pull.linger = 0
        pull.rcvtimeo = 1000  # The story's limit: within a second.
        push.connect(f"tcp://127.0.0.1:{pull.bind_to_random_port('tcp://127.0.0.1')}")
        options = {
            "trust": TrustStore([Peer("alice", ALICE.public, contexts=["orders"])]),
            "context": "orders",
            "identity": BOB,
            "replay": MemoryReplayStore(first_life=True),
        }
        opener = Opener(**(options | bob))
        told = []

        def on_rejected(error):
            told.append(error)
            raise InterruptedError

        sender = SecureSocket(push, sealer=sealer)
        receiver = SecureSocket(pull, opener=opener, on_rejected=on_rejected)
        for _ in range(20):
            sender.send(b"a secret", topic="eu")
            with pytest.raises(InterruptedError):
                receiver.recv()
        (line,) = caplog.messages
        assert receiver.stats.refused == {told[0].code: 20}
        assert "secret" not in line
        return line

    yield make
    context.destroy(linger=0)


class TestStories:
    def test_a_wrong_key(self, pipe):
        # Alice was set up anew, and Bob has her old key.
        line = pipe(Sealer(Identity(bytes(32)), context="orders"))
        assert "unknown_sender" in line
        assert f"claimed sender {Identity(bytes(32)).key_id.hex()}" in line
        assert "add its envpub1... text to the trust store" in line

    def test_a_sender_that_nobody_entered(self, pipe):
        line = pipe(Sealer(ALICE, context="orders"), trust=TrustStore())
        assert "unknown_sender: no peer in the trust store has this key id" in line
        assert ALICE.key_id.hex() in line

    @pytest.mark.parametrize(
        ("off", "code", "by"), [(-HOUR, "stale", "3600."), (HOUR, "future", "3600.")]
    )
    def test_a_clock_that_is_off(self, pipe, off, code, by):
        line = pipe(Sealer(ALICE, context="orders", clock=lambda: wall() + off))
        assert f"{code}: " in line
        assert "3600." in line or "3599." in line
        assert "compare the clocks" in line
        assert "(alice)" in line

    def test_a_context_that_is_not_the_same(self, pipe):
        line = pipe(Sealer(ALICE, context="order"))
        assert "bad_signature" in line
        assert "(alice)" in line
        assert "context 'orders'" in line
        assert "compare context and topic of both ends" in line

    def test_a_recipient_of_another_day(self, pipe):
        line = pipe(Sealer(ALICE, context="orders", to=[World().carol.public]))
        assert "not_addressed" in line
        assert "does the sender name this end" in line
