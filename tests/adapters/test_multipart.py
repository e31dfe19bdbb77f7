"""Several frames as one payload: their boundaries are signed (SPEC 10.3)."""

from __future__ import annotations

import array

import pytest
import zmq
from support import identity

from envelope import UsageError, codec
from envelope.errors import MalformedError

BOB = identity("bob").public
MANY = [b"", b"\x00", b"frame", b"x" * 70_000, b""]


@pytest.fixture
def told():
    return []


@pytest.fixture
def pipe(secure, world, link, told):
    def make(to=(), transport="inproc"):
        push = secure(zmq.PUSH, sealer=world.sealer(to=to))
        pull = secure(zmq.PULL, opener=world.opener(), on_rejected=told.append)
        link(pull, push, transport=transport)
        return push, pull

    return make


@pytest.mark.parametrize("to", [(), (BOB,)], ids=["signed", "sealed"])
@pytest.mark.parametrize("transport", ["tcp", "ipc", "inproc"])
@pytest.mark.parametrize("frames", [[], [b""], [b"", b""], MANY], ids=len)
def test_frames_arrive_as_they_were_sent(pipe, to, transport, frames):
    push, pull = pipe(to, transport)
    push.send_multipart(frames)
    push.send_multipart(frames, "topic", copy=False)
    assert pull.recv_multipart() == frames
    message = pull.recv()
    assert (message.frames(), message.topic) == (frames, b"topic")


def test_they_travel_in_one_frame_behind_the_topic(pipe, bare):
    """So a proxy that adds, drops or moves frames has none of these to take."""
    push, pull = pipe()
    push.send_multipart(MANY, "topic")
    assert [len(frame) for frame in bare(pull).recv_multipart()][:-1] == [len("topic")]


@pytest.mark.parametrize("flags", [0, zmq.NOBLOCK])
@pytest.mark.parametrize("copy", [True, False])
def test_it_is_received_as_in_pyzmq(pipe, flags, copy):
    push, pull = pipe()
    push.send_multipart([b"a", b"b"], flags=flags)
    assert pull.poll(5000)
    assert pull.recv_multipart(flags, copy=copy) == [b"a", b"b"]
    with pytest.raises(zmq.Again):
        pull.recv_multipart(zmq.NOBLOCK, copy=copy)


def test_an_array_goes_without_a_copy_of_ones_own(pipe):
    push, pull = pipe()
    samples = array.array("d", [1.0, 2.5])
    push.send_multipart([b"samples", memoryview(samples), bytearray(b"end")])
    head, data, end = pull.recv_multipart()
    assert (head, array.array("d", data), end) == (b"samples", samples, b"end")


def test_what_is_changed_after_sending_is_not_changed_in_flight(pipe):
    push, pull = pipe()
    buffer = bytearray(b"x" * 500_000)
    push.send_multipart([buffer], copy=False)
    buffer[:] = b"y" * 500_000
    assert pull.recv_multipart() == [b"x" * 500_000]


def test_a_payload_that_is_no_frames_is_passed_over(pipe, told):
    push, pull = pipe()
    push.send(b"no frames")
    push.send_object(["no", "frames"])
    push.send_multipart([b"frames"])
    assert pull.recv_multipart() == [b"frames"]
    assert [error.code for error in told] == ["malformed"] * 2
    assert pull.stats.refused == {"malformed": 2}


def test_strict_raises_for_it(pipe):
    push, pull = pipe()
    push.send(b"no frames")
    push.send_multipart([b"frames"])
    with pytest.raises(MalformedError):
        pull.recv_multipart(strict=True)
    assert pull.recv_multipart(strict=True) == [b"frames"]


def test_frames_in_bundles_come_one_by_one(pipe):
    push, pull = pipe()
    push.send_many([codec.encode_frames([b"%d" % number, b""]) for number in range(3)])
    assert [pull.recv_multipart() for _ in range(3)] == [[b"0", b""], [b"1", b""], [b"2", b""]]


@pytest.mark.parametrize("frames", [b"ab", "ab", None, ["a"], [b""] * 4097, [zmq.Frame(b"a")]])
def test_what_are_no_frames_is_not_sent(pipe, frames):
    push, pull = pipe()
    with pytest.raises(UsageError):
        push.send_multipart(frames)
    push.send_multipart([b"first"])
    assert pull.recv().sequence == 0


def test_they_are_asked_and_replied_with_too(secure, world, link):
    req = secure(zmq.REQ, sealer=world.sealer(), opener=world.opener(world.alice))
    rep = secure(zmq.REP, sealer=world.sealer(world.bob), opener=world.opener())
    link(rep, req)
    req.send_multipart([b"what", b"is"])
    assert rep.recv_multipart() == [b"what", b"is"]
    rep.send_multipart([b"that", b""])
    assert req.recv_multipart() == [b"that", b""]


@pytest.mark.audit("A5")
def test_a_subscriber_gets_frames_by_topic(secure, world, broker, meet):
    publisher = secure(zmq.PUB, sealer=world.sealer())
    subscriber = secure(zmq.SUB, opener=world.opener())
    started = broker(publisher, subscriber)
    meet(publisher, subscriber)
    started.change = lambda frames: [[*frames[:-1], b"added", frames[-1]], [b"", *frames], frames]
    publisher.send_multipart([b"a", b"b"], "topic")
    assert subscriber.recv_multipart() == [b"a", b"b"]
    assert subscriber.stats.refused == {"bad_signature": 2}
