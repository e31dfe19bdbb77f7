"""The line of a pairing: real sockets, strangers on them, and what is no message."""

from __future__ import annotations

import pytest
import zmq

from envelope import clock
from envelope.errors import UsageError
from envelope.pairing.messages import MAX_MESSAGE
from envelope.zeromq.pairing import Line

LONG = 30 * clock.SECOND


def soon() -> int:
    return clock.monotonic() + LONG


def at_once() -> int:
    return clock.monotonic() + clock.SECOND // 10


@pytest.fixture
def listener():
    with Line("tcp://127.0.0.1:*", listens=True) as line:
        yield line


@pytest.fixture
def stranger(listener):
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(listener.endpoint)
    yield socket
    context.destroy(linger=0)


def test_messages_go_both_ways(listener):
    with Line(listener.endpoint, listens=False) as connector:
        connector.send(b"one")
        assert listener.receive(soon()) == b"one"
        listener.send(b"two")
        assert connector.receive(soon()) == b"two"
        connector.send(b"three")
        assert listener.receive(soon()) == b"three"


def test_who_speaks_first_is_the_other_end_and_others_are_passed_over(listener, stranger):
    with Line(listener.endpoint, listens=False) as connector:
        connector.send(b"one")
        assert listener.receive(soon()) == b"one"
        stranger.send(b"I, too")
        connector.send(b"two")
        assert listener.receive(soon()) == b"two"
        assert listener.receive(at_once()) is None
        listener.send(b"three")
        assert connector.receive(soon()) == b"three"
        assert stranger.poll(100) == 0


@pytest.mark.parametrize("frames", [[b""], [b"a", b"b"], [b"", b"a"]])
def test_another_number_of_frames_is_no_message(listener, stranger, frames):
    stranger.send_multipart(frames)
    assert listener.receive(soon()) == b""


@pytest.mark.audit("A16")
def test_a_message_of_any_size_does_not_get_in(listener, stranger):
    stranger.send(bytes(MAX_MESSAGE + 1))
    assert listener.receive(at_once()) is None


def test_nobody_there_is_none_in_time_and_a_message_for_nobody_is_dropped(listener):
    listener.send(b"anybody?")
    assert listener.receive(at_once()) is None
    assert listener.receive(clock.monotonic() - 1) is None


def test_a_line_that_takes_no_more_drops(listener):
    with Line("tcp://127.0.0.1:9", listens=False) as connector:
        connector._socket.set(zmq.LINGER, 0)
        for _ in range(2000):
            connector.send(b"x")
        connector._context.destroy(linger=0)


@pytest.mark.parametrize("endpoint", ["", "tcp://", "nothing", "tcp://a\0b:1", "udp://x:1"])
@pytest.mark.parametrize("listens", [True, False])
def test_an_endpoint_that_is_none_is_the_callers_mistake(endpoint, listens):
    with pytest.raises(UsageError, match="cannot"):
        Line(endpoint, listens=listens)


def test_an_endpoint_that_is_taken_is_told(listener):
    with pytest.raises(UsageError, match="cannot listen at"):
        Line(listener.endpoint, listens=True)


def test_the_sixth_protocol_works_where_it_is():
    try:
        with Line("tcp://[::1]:*", listens=True) as line:
            assert "[::1]" in line.endpoint
    except UsageError:
        pytest.skip("no IPv6 here")
