"""A refusal is silent on the wire: a peer cannot tell codes apart, nor that there was one."""

from __future__ import annotations

import pytest
import zmq
from support import World

from envelope.zeromq import SecureSocket


@pytest.mark.audit("E1")
def test_nothing_is_sent_back_whatever_was_refused():
    world = World()
    context = zmq.Context()
    here, there = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    try:
        port = here.bind_to_random_port("tcp://127.0.0.1")
        there.connect(f"tcp://127.0.0.1:{port}")
        here.rcvtimeo = 2000
        codes = []
        receiver = SecureSocket(
            here,
            sealer=world.sealer(world.bob),
            opener=world.opener(),
            on_rejected=lambda error: codes.append(error.code),
        )
        honest = world.sealer()
        data = honest.seal(b"once")
        attempts = [
            b"garbage",
            world.sealer(world.mallory).seal(b"x"),
            world.sealer(context="stock").seal(b"x"),
            data,
            data,
        ]
        for attempt in [*attempts, honest.seal(b"end")]:
            there.send(attempt)
        assert [receiver.recv().payload, receiver.recv().payload] == [b"once", b"end"]
        assert codes == ["malformed", "unknown_sender", "bad_signature", "replayed"]
        assert not there.poll(50)
    finally:
        context.destroy(linger=0)
