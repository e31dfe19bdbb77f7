"""A reply opens for its request alone, and a request is executed once."""

from __future__ import annotations

import pytest
import zmq
from line import Server
from support import World, identity

from envelope.zeromq import SecureSocket
from envelope.zeromq import requests as requests_module
from envelope.zeromq.frames import SYNC

ALICE, BOB, CAROL = (identity(name).public for name in ("alice", "bob", "carol"))
PAIRS = [(zmq.REQ, zmq.REP), (zmq.REQ, zmq.ROUTER), (zmq.DEALER, zmq.ROUTER)]
PAIRS += [(zmq.DEALER, zmq.REP), (zmq.PAIR, zmq.PAIR), (zmq.DEALER, zmq.DEALER)]


def names(pair) -> str:
    return "-".join(zmq.SocketType(kind).name for kind in pair)


@pytest.fixture
def serve(plain, world):
    """Makes Bob's end: ``serve(zmq.ROUTER)``; it is started by ``start``."""
    servers = []

    def make(kind: int, **ends) -> Server:
        ends.setdefault("sealer", world.sealer(world.bob, to=[ALICE]))
        ends.setdefault("opener", world.opener())
        servers.append(Server(SecureSocket(plain(kind), **ends)))
        return servers[-1]

    yield make
    for server in servers:
        if server.is_alive():
            server.end()


@pytest.fixture
def ends(serve, secure, world, link):
    """Makes both ends: ``client, server = ends(zmq.DEALER, zmq.ROUTER)``, started."""

    def make(client_kind: int, server_kind: int, **server_ends):
        server = serve(server_kind, **server_ends)
        client = secure(
            client_kind, sealer=world.sealer(to=[BOB]), opener=world.opener(world.alice)
        )
        link(server.socket, client)
        server.start()
        return client, server

    return make


@pytest.mark.audit("A22")
class TestPatterns:
    @pytest.mark.parametrize("pair", PAIRS, ids=names)
    def test_a_request_gets_its_reply(self, ends, pair):
        client, server = ends(*pair)
        for number in range(3):
            reply = client.request(b"%d" % number, timeout=5000)
            assert (reply.payload, reply.sender.name, reply.sealed) == (
                b"re: %d" % number,
                "bob",
                True,
            )
        assert server.executed == [b"0", b"1", b"2"]

    def test_many_are_in_flight(self, ends):
        client, _ = ends(zmq.DEALER, zmq.ROUTER)
        requests = [client.send_request(b"%d" % number) for number in range(50)]
        for number in reversed(range(50)):
            assert client.wait(requests[number], timeout=5000).payload == b"re: %d" % number

    def test_sync_tells_who_is_there(self, ends):
        client, server = ends(zmq.DEALER, zmq.ROUTER)
        assert client.sync(timeout=5000).name == "bob"
        assert client.sync("eu", timeout=5000).name == "bob"
        assert server.executed == []


@pytest.fixture
def elsewhere(world):
    """The same people by a clock that is an hour behind."""
    other = World()
    other.clock.now = world.clock.now - 3_600_000_000
    return other


class TestChallenge:
    """A clock that is off, at the start of a dialogue."""

    @pytest.fixture
    def apart(self, serve, secure, world, elsewhere, link):
        def make(client_kind, server_kind):
            server = serve(server_kind)
            client = secure(
                client_kind,
                sealer=elsewhere.sealer(to=[BOB]),
                opener=elsewhere.opener(world.alice),
            )
            link(server.socket, client)
            server.start()
            return client, server

        return make

    @pytest.mark.parametrize("pair", PAIRS, ids=names)
    def test_each_end_learns_the_clock_of_the_other(self, apart, pair):
        client, server = apart(*pair)
        assert client.request(b"go", timeout=5000, retry=5000, idempotent=True).payload == b"re: go"
        assert client.request(b"on", timeout=5000).payload == b"re: on"
        assert server.executed == [b"go", b"on"]
        assert server.socket.stats.refused["stale"] == 1
        assert client.stats.refused == {}

    @pytest.mark.parametrize("pair", PAIRS, ids=names)
    def test_sync_does_it_beforehand(self, apart, pair):
        client, server = apart(*pair)
        assert client.sync(timeout=5000).name == "bob"
        assert client.request(b"go", timeout=5000).payload == b"re: go"
        assert server.executed == [b"go"]


class TestLazyPirate:
    """A REQ whose server is silent asks again and again, by send and recv."""

    def test_what_it_gave_up_is_not_in_flight(self, secure, world, plain, link, monkeypatch):
        monkeypatch.setattr(requests_module, "_MAX_PENDING", 3)
        client = secure(zmq.REQ, sealer=world.sealer(to=[BOB]), opener=world.opener(world.alice))
        link(plain(zmq.ROUTER), client)
        client.socket.rcvtimeo = 5
        for _ in range(10):
            client.send(b"anybody there?")
            with pytest.raises(zmq.Again):
                client.recv()


class TestControlMessages:
    """They are never handed to an application (SPEC 16.4)."""

    @pytest.mark.audit("A5")
    def test_nor_by_a_socket_that_has_no_dialogue(self, secure, world, plain, link):
        pull = secure(zmq.PULL, opener=world.opener())
        pull.socket.rcvtimeo = 200
        line = plain(zmq.PUSH)
        link(pull, line)
        data = world.sealer(to=[BOB]).seal(b"", bound=[SYNC])
        line.send_multipart([SYNC, data])
        with pytest.raises(zmq.Again):
            pull.recv()
