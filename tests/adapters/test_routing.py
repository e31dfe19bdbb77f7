"""Routes stay outside the signature and come back as they came (SPEC 16.2).

The brokers are pyzmq's own devices: they know nothing of envelopes.
"""

from __future__ import annotations

import pytest
import zmq
from support import identity
from zmq.devices import ThreadMonitoredQueue, ThreadProxy

from envelope import UsageError
from envelope.errors import MalformedError, PolicyError
from envelope.message import recipients_of
from envelope.zeromq import Bundling

ALICE, BOB, CAROL = (identity(name).public for name in ("alice", "bob", "carol"))
CLIENTS, SERVERS = [zmq.REQ, zmq.DEALER], [zmq.REP, zmq.ROUTER]


def name(kind: int) -> str:
    return zmq.SocketType(kind).name


@pytest.fixture
def devices():
    """Starts brokers in a row: ``place to connect to, place to connect from``."""
    context = zmq.Context()
    running = []

    def chain(hops: int) -> tuple[str, str]:
        place = first = None
        for number in range(hops):
            if number == hops - 1:
                # The last one tells everything that passes to whoever listens, too.
                device = ThreadMonitoredQueue(
                    zmq.ROUTER, zmq.DEALER, zmq.PUB, in_prefix=b"in", out_prefix=b"out"
                )
                device.bind_mon_to_random_port("tcp://127.0.0.1")
            else:
                device = ThreadProxy(zmq.ROUTER, zmq.DEALER)
            device.context_factory = lambda: context
            front = f"tcp://127.0.0.1:{device.bind_in_to_random_port('tcp://127.0.0.1')}"
            if place is None:
                first = front
            else:
                running[-1].connect_out(front)
            place = front
            running.append(device)
        back = f"tcp://127.0.0.1:{running[-1].bind_out_to_random_port('tcp://127.0.0.1')}"
        for device in running:
            device.start()
        return first, back

    yield chain
    context.term()
    for device in running:
        device.join(10)


@pytest.fixture
def client(secure, world):
    def make(kind: int, who=world.alice, **ends):
        ends.setdefault("sealer", world.sealer(who, to=[BOB]))
        return secure(kind, opener=world.opener(who), **ends)

    return make


@pytest.fixture
def server(secure, world):
    def make(kind: int, **ends):
        ends.setdefault("sealer", world.sealer(world.bob, to=[ALICE]))
        ends.setdefault("opener", world.opener())
        return secure(kind, **ends)

    return make


@pytest.mark.audit("A22")
class TestDevices:
    @pytest.mark.parametrize("hops", [1, 3])
    @pytest.mark.parametrize("server_kind", SERVERS, ids=name)
    @pytest.mark.parametrize("client_kind", CLIENTS, ids=name)
    def test_each_of_many_gets_its_own_reply(
        self, devices, client, server, world, client_kind, server_kind, hops
    ):
        front, back = devices(hops)
        bob = server(server_kind)
        bob.socket.connect(back)
        people = [world.alice, world.carol, world.alice]
        clients = [client(client_kind, who) for who in people]
        requests = []
        for number, one in enumerate(clients):
            one.socket.connect(front)
            requests.append(one.send_request(b"%d" % number))
        for _ in clients:
            message = bob.recv()
            assert message.sealed
            # To all but a REP it names every hop, whoever asked, and the number of a REQ.
            frames = hops + 2 + (client_kind == zmq.REQ)
            assert len(message.route) == (frames if server_kind == zmq.ROUTER else 0)
            bob.reply(message, b"re: " + message.payload)
        for number, (one, request) in enumerate(zip(clients, requests, strict=True)):
            reply = one.wait(request, timeout=5000)
            assert (reply.payload, reply.sender.name) == (b"re: %d" % number, "bob")
            assert one.stats.refused == {}
        assert bob.stats.refused == {}

    def test_a_router_replies_in_any_order_and_much_later(self, devices, client, server):
        front, back = devices(2)
        bob = server(zmq.ROUTER)
        bob.socket.connect(back)
        one, other = client(zmq.DEALER), client(zmq.DEALER)
        for each in (one, other):
            each.socket.connect(front)
        requests = [
            (each, each.send_request(b"%d of %d" % (number, who), "topic"))
            for number in range(3)
            for who, each in enumerate((one, other))
        ]
        asked = [bob.recv() for _ in requests]
        for message in reversed(asked):
            bob.reply(message, message.payload, message.topic)
        for each, request in requests:
            reply = each.wait(request, timeout=5000)
            assert (reply.payload, reply.topic) == (request.payload, b"topic")

    def test_messages_and_bundles_go_both_ways_without_being_requests(
        self, devices, client, server
    ):
        front, back = devices(1)
        bob, alice = server(zmq.ROUTER), client(zmq.DEALER)
        bob.socket.connect(back)
        alice.socket.connect(front)
        alice.send_many([b"1", b"2"], "topic")
        got = bob.recv_bundle()
        assert [(one.payload, one.topic) for one in got] == [(b"1", b"topic"), (b"2", b"topic")]
        assert got[0].route == got[1].route
        bob.send_many([b"3", b"4"], route=got[1].route)
        bob.send(b"5", "topic", route=list(got[0].route))
        bob.send_object({"n": 6}, route=got[0].route)
        got = [alice.recv() for _ in range(4)]
        assert [one.payload for one in got[:3]] == [b"3", b"4", b"5"]
        assert got[3].object() == {"n": 6}
        assert [one.skipped for one in got] == [0] * 4


class TestStrangeRoutes:
    """What a network makes of a route is nobody's word."""

    @pytest.fixture
    def ends(self, server, plain, link):
        """Bob's ROUTER, and the plain socket across from it."""
        bob = server(zmq.ROUTER)
        line = plain(zmq.DEALER)
        line.routing_id = b"line"
        link(bob, line)
        return bob, line

    @pytest.mark.parametrize("hops", [[], [b"far"], [b"a", b"b", b"c"]], ids=len)
    def test_whatever_stands_before_the_empty_frame_comes_back(self, ends, world, hops):
        bob, line = ends
        line.send_multipart(
            [*hops, b"", b"topic", world.sealer(to=[BOB]).seal(b"1", bound=[b"topic"])]
        )
        message = bob.recv()
        assert message.route == (b"line", *hops, b"")
        bob.reply(message, b"reply", "topic")
        assert line.recv_multipart()[:-1] == [*hops, b"", b"topic"]

    @pytest.mark.audit("A5")
    @pytest.mark.parametrize(
        ("change", "code"),
        [
            (lambda topic, data: [topic, data], "malformed"),
            (lambda topic, data: [data], "malformed"),
            (lambda topic, data: [b""], "malformed"),
            (lambda topic, data: [topic, data, b""], "malformed"),
            (lambda topic, data: [b"", b"", topic, data], "bad_signature"),
            (lambda topic, data: [topic, b"", data], "bad_signature"),
            (lambda topic, data: [b"", topic, b"", data], "bad_signature"),
            (lambda topic, data: [b"", data], "bad_signature"),
            (lambda topic, data: [b"", data, topic], "malformed"),
        ],
    )
    def test_a_frame_that_moved_to_or_from_the_route_is_refused(self, ends, world, change, code):
        bob, line = ends
        data = world.sealer(to=[BOB]).seal(b"1", bound=[b"topic"])
        line.send_multipart(change(b"topic", data))
        bob.socket.rcvtimeo = 50
        with pytest.raises(zmq.Again):
            bob.recv()
        assert bob.stats.refused == {code: 1}
        bob.socket.rcvtimeo = 5000
        line.send_multipart([b"", b"topic", data])
        assert bob.recv().payload == b"1"

    def test_a_dealer_refuses_what_has_no_empty_frame(self, client, plain, link, world):
        alice, line = client(zmq.DEALER), plain(zmq.DEALER)
        link(alice, line)
        data = world.sealer(world.bob, to=[ALICE]).seal(b"1")
        line.send(data)
        with pytest.raises(MalformedError, match="no empty frame"):
            alice.recv(strict=True)
        line.send_multipart([b"", data])
        assert alice.recv().payload == b"1"

    @pytest.mark.audit("A22")
    def test_a_reply_that_a_network_takes_to_another_is_refused_there(self, client, plain, world):
        """Two asked; the network swaps the routes of their replies."""
        line = plain(zmq.ROUTER)
        line.bind("tcp://127.0.0.1:*")
        one, other = client(zmq.DEALER), client(zmq.DEALER)
        requests = []
        for each in (one, other):
            each.socket.connect(line.last_endpoint.decode())
            requests.append(each.send_request(b"what?"))
        arrivals = [line.recv_multipart() for _ in requests]
        opener, sealer = world.opener(), world.sealer(world.bob, to=[ALICE])
        asked = [opener.open(frames[-1]) for frames in arrivals]
        swapped = zip(arrivals, reversed(asked), strict=True)
        replies = [sealer.seal(b"reply", in_reply_to=message.id) for _, message in swapped]
        for frames, data in zip(arrivals, replies, strict=True):
            line.send_multipart([*frames[:-1], data])
        for each in (one, other):
            with pytest.raises(PolicyError):
                each.recv(strict=True)
        # Each one still takes its own.
        for frames, data in zip(arrivals, reversed(replies), strict=True):
            line.send_multipart([*frames[:-1], data])
        for each, request in zip((one, other), requests, strict=True):
            assert each.wait(request, timeout=5000).payload == b"reply"

    def test_a_route_that_the_network_changed_loses_the_reply_and_nothing_else(self, ends, world):
        bob, line = ends
        data = world.sealer(to=[BOB]).seal(b"1")
        line.send_multipart([b"nobody", b"", data])
        bob.reply(bob.recv(), b"reply")
        assert line.recv_multipart()[:-1] == [b"nobody", b""]

    def test_a_reply_to_a_peer_that_is_gone_is_dropped_or_told_as_in_pyzmq(
        self, ends, world, plain, link
    ):
        bob, _ = ends
        bob.send(b"to nobody", route=[b"nobody"])
        bob.socket.set(zmq.ROUTER_MANDATORY, 1)
        for send in (bob.send, bob.send_object):
            with pytest.raises(zmq.ZMQError) as raised:
                send(b"to nobody", route=[b"nobody"])
            assert raised.value.errno == zmq.EHOSTUNREACH


class TestArguments:
    @pytest.mark.parametrize("call", ["send", "send_many", "send_request"])
    def test_a_router_sends_by_a_route(self, server, call):
        bob = server(zmq.ROUTER)
        payload = [b""] if call == "send_many" else b""
        for route in (None, [], b"id", [b""], [b"", b"id"], ["id"]):
            with pytest.raises(UsageError, match="route"):
                getattr(bob, call)(payload, route=route)

    @pytest.mark.parametrize("kind", [zmq.PUB, zmq.PUSH, zmq.PAIR, zmq.DEALER], ids=name)
    @pytest.mark.parametrize("call", ["send", "send_many"])
    def test_nobody_else_does(self, secure, world, kind, call):
        one = secure(kind, sealer=world.sealer())
        with pytest.raises(UsageError, match="only a ROUTER takes a route"):
            getattr(one, call)([b""] if call == "send_many" else b"", route=[b"id"])

    @pytest.mark.parametrize("kind", [zmq.REQ, zmq.REP], ids=name)
    def test_what_sends_one_for_one_sends_not_many(self, client, kind):
        with pytest.raises(UsageError, match="one for one"):
            client(kind).send_many([b""])

    def test_each_route_has_a_stream(self, server, plain, link, world, bare):
        """What goes to one peer is a whole stream, so its gaps are true."""
        bob = server(zmq.ROUTER, sealer=world.sealer(world.bob))
        lines = []
        for number in range(2):
            line = plain(zmq.DEALER)
            line.routing_id = b"%d" % number
            link(bob, line)
            line.send_multipart([b"", b"hello"])
            bare(bob).recv_multipart()
            lines.append(line)
        for number in (0, 1, 0, 0, 1):
            bob.send(b"payload", route=[b"%d" % number])
        opener = world.opener(world.alice)
        for line, count in zip(lines, (3, 2), strict=True):
            got = [opener.open(line.recv_multipart()[-1]) for _ in range(count)]
            assert [message.sequence for message in got] == list(range(count))
            assert {message.skipped for message in got} == {0}


class TestTo:
    """One of those whom a ROUTER's sealer addresses."""

    def router(self, world, secure):
        people = [world.alice.public, identity("carol").public]
        router = secure(
            zmq.ROUTER, sealer=world.sealer(world.bob, to=people), opener=world.opener()
        )
        router.socket.bind("inproc://to")
        alice = secure(
            zmq.DEALER,
            sealer=world.sealer(to=[world.bob.public]),
            opener=world.opener(world.alice),
        )
        alice.socket.connect("inproc://to")
        alice.send(b"here")
        return router, alice

    def test_nobody_else_can_read_it(self, world, secure, plain):
        router, alice = self.router(world, secure)
        came = router.recv()
        router.send(b"to all", route=came.route)
        router.send(b"to alice", route=came.route, to=came.sender)
        router.send_object(["to", "alice"], route=came.route, to=came.sender)
        router.send_multipart([b"to", b"alice"], route=came.route, to=came.sender)
        first, second = alice.recv(), alice.recv()
        assert (first.payload, second.payload) == (b"to all", b"to alice")
        assert first.stream != second.stream  # Each is seen whole by whoever counts.
        assert (alice.recv_object(), alice.recv_multipart()) == (["to", "alice"], [b"to", b"alice"])
        line = plain(zmq.DEALER)
        line.connect("inproc://to")
        line.send_multipart([b"", world.sealer(to=[world.bob.public]).seal(b"here")])
        came = router.recv()
        router.send(b"secret", route=came.route, to=came.sender)
        assert recipients_of(line.recv_multipart()[-1]) == (ALICE.key_id,)

    def test_it_is_a_peer(self, world, secure):
        router, alice = self.router(world, secure)
        route = router.recv().route
        with pytest.raises(UsageError, match="to is a Peer"):
            router.send(b"", route=route, to="alice")
        with pytest.raises(UsageError, match="by a route"):
            alice.send(b"", to=world.trust["bob"])

    @pytest.mark.parametrize(
        ("kind", "bundling"),
        [
            (zmq.PUSH, None),
            (zmq.REQ, None),
            (zmq.PAIR, None),
            (zmq.PUSH, Bundling()),
            (zmq.PAIR, Bundling()),
        ],
    )
    def test_others_have_no_use_for_it(self, world, secure, kind, bundling):
        opener = None if kind == zmq.PUSH else world.opener(world.alice)
        sealer = world.sealer(to=[world.bob.public])
        socket = secure(kind, sealer=sealer, opener=opener, bundling=bundling)
        with pytest.raises(UsageError, match="by a route"):
            socket.send(b"", to=world.trust["bob"])
