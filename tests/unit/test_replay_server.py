"""How a server of the shared store is named, and when waiting for it ends (SPEC 8.11)."""

from __future__ import annotations

import socket

import pytest

from envelope import clock as clocks
from envelope.errors import StoreUnavailableError
from envelope.replay import server as module


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://", "localhost:6379"),
        ("redis://:secret@example.org", "example.org:6379"),
        ("rediss://example.org:7/1", "example.org:7"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
    ],
)
def test_its_name_says_where_it_is_and_no_password(url, name):
    server = module.Server(url, 1)
    assert (server.name, server.is_down) == (name, False)


def test_what_it_offers_is_there():
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(), "TimeoutError"),
        (ValueError("no"), "no"),
        (ValueError("x" * 201), "x" * 200),
        (ValueError("\x1b[2J"), "'\\x1b[2J'"),
    ],
)
def test_a_conversation_that_died_says_of_what_and_the_next_one_is_another(error, text):
    server = module.Server("unix:///run/redis.sock", 1)
    with pytest.raises(StoreUnavailableError) as caught, server.conversation():
        raise error
    assert caught.value.detail == f"the replay store at /run/redis.sock: {text}"
    assert server.is_down
    with server.conversation():
        pass
    assert not server.is_down


@pytest.fixture
def ends():
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_waiting_ends_just_when_the_time_is_over(ends, monkeypatch):
    near, far = ends
    now = 0
    monkeypatch.setattr(clocks, "monotonic", lambda: now)
    line = module._Line(near, 1.0)
    far.sendall(b"ab")
    now = 999_999
    assert line.recv(1) == b"a"
    now = 1_000_000
    with pytest.raises(TimeoutError):
        line.recv(1)
    line.begin()
    assert line.recv(1) == b"b"


def test_an_answer_may_have_just_as_much_as_there_is_room(ends, monkeypatch):
    near, far = ends
    monkeypatch.setattr(module, "MAX_ANSWER", 2)
    line = module._Line(near, 60)
    far.sendall(b"ab")
    assert line.recv(8) == b"ab"
    far.sendall(b"c")
    with pytest.raises(OSError, match="without end"):
        line.recv(8)


def test_there_is_room_for_thirty_two_mebibytes(ends):
    line = module._Line(ends[0], 60)
    line._took(2**25)
    with pytest.raises(OSError, match="without end"):
        line._took(1)
