"""Sessions over real sockets: the restart that TLS over message sockets could not survive.

Nobody tells a ZeroMQ socket that its peer went away. Here either end ends without a word,
and the other finds out by what it sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time

import pytest
import zmq
import zmq.asyncio
from support import FakeClock, World
from whisper import manager

from envelope import Peer, TrustStore
from envelope.binding import context_digest
from envelope.errors import RejectedError, RequestRefusedError, RequestTimeoutError, UsageError
from envelope.session import Timing, hint
from envelope.zeromq import Bundling, SecureSocket, aio

PAIRS = [(zmq.DEALER, zmq.ROUTER), (zmq.PAIR, zmq.PAIR), (zmq.DEALER, zmq.DEALER)]
ASKING = [
    (zmq.DEALER, zmq.ROUTER),
    (zmq.PAIR, zmq.PAIR),
    (zmq.REQ, zmq.REP),
    (zmq.REQ, zmq.ROUTER),
    (zmq.DEALER, zmq.REP),
]


def names(pair):
    return "-".join(zmq.SocketType(kind).name for kind in pair)


@pytest.fixture
def world():
    """Sockets wait by the real clock."""
    return World(clock=lambda: time.time_ns() // 1000)


@pytest.fixture
def ends(world, secure):
    """Makes Alice's and Bob's sockets."""

    def make(kinds=PAIRS[0], **options):
        one = secure(kinds[0], session=manager(world, world.alice, to=world.bob.public), **options)
        other = secure(kinds[1], session=manager(world, world.bob), **options)
        return one, other

    return make


def take(receiver, *others, within=5.0):
    """Return the next message of one socket, while the others do what they have to."""
    (message,) = take_each(receiver, others=others, within=within)
    return message


def take_each(*receivers, others=(), within=5.0):
    """Return the next message of each of several sockets."""
    found = {}
    end = time.monotonic() + within
    while len(found) < len(receivers):
        assert time.monotonic() < end, "nothing came"
        for one in (*receivers, *others):
            one.poll(1)
            with contextlib.suppress(zmq.Again):
                message = one.recv(zmq.NOBLOCK)
                assert one in receivers
                assert one not in found
                found[one] = message
    return [found[one] for one in receivers]


class Server:
    """Answers what it gets, in a thread, until it is ended without a word."""

    def __init__(self, world, kind, where, context):
        self.seen: list[bytes] = []
        self._end = threading.Event()
        socket = context.socket(kind)
        socket.linger = 0
        socket.rcvtimeo = 20
        while True:
            try:
                socket.bind(where)
                break
            except zmq.ZMQError:  # The one before is closing.
                time.sleep(0.01)
        self.where = socket.last_endpoint.decode().rstrip("\0")
        self.secure = SecureSocket(socket, session=manager(world, world.bob))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._end.is_set():
            try:
                message = self.secure.recv()
            except zmq.Again:
                continue
            self.seen.append(message.payload)
            self.secure.reply(message, b"re " + message.payload)

    def end(self):
        self._end.set()
        self._thread.join()
        self.secure.socket.close(0)


@pytest.fixture
def serve(world):
    running = []
    context = zmq.Context()

    def start(kind, where="tcp://127.0.0.1:*"):
        running.append(Server(world, kind, where, context))
        return running[-1]

    yield start
    for server in running:
        server.end()
    context.term()


@pytest.mark.parametrize("kinds", PAIRS, ids=names)
def test_messages_go_both_ways_with_their_topics(ends, link, kinds):
    one, other = ends(kinds)
    link(other, one, transport="tcp")
    one.send(b"hello", topic="greetings")
    message = take(other, one)
    assert (message.payload, message.topic, message.sender.name) == (
        b"hello",
        b"greetings",
        "alice",
    )
    assert message.by_session
    assert message.sealed
    if kinds[1] == zmq.ROUTER:
        other.send(b"back", route=message.route, to=message.sender)
        assert take(one, other).payload == b"back"


@pytest.mark.parametrize("kinds", PAIRS[1:], ids=names)
def test_either_end_may_speak_first(world, secure, link, kinds):
    one = secure(kinds[0], session=manager(world, world.alice, to=world.bob.public))
    other = secure(kinds[1], session=manager(world, world.bob, to=world.alice.public))
    link(other, one, transport="tcp")
    other.send(b"from Bob")
    one.send(b"from Alice")
    messages = take_each(one, other)
    assert [message.payload for message in messages] == [b"from Bob", b"from Alice"]


@pytest.mark.parametrize("kinds", ASKING, ids=names)
def test_requests_have_their_replies(world, secure, serve, kinds):
    server = serve(kinds[1])
    client = secure(kinds[0], session=manager(world, world.alice, to=world.bob.public))
    client.socket.connect(server.where)
    for number in range(20):
        payload = b"%d" % number
        assert client.request(payload, timeout=5000).payload == b"re " + payload
    assert client.sync().name == "bob"
    assert server.seen == [b"%d" % number for number in range(20)]
    assert client.stats.refused == {}
    assert client.stats.senders["bob"].streams == 1


def test_a_req_sends_and_receives_by_turns(world, secure, serve):
    server = serve(zmq.REP)
    client = secure(zmq.REQ, session=manager(world, world.alice, to=world.bob.public))
    client.socket.connect(server.where)
    for number in range(3):
        client.send(b"%d" % number)
        assert client.recv().payload == b"re %d" % number


@pytest.mark.audit("A3", "R2")
@pytest.mark.parametrize("kinds", ASKING, ids=names)
def test_the_restart_that_tls_over_zeromq_could_not_survive(world, secure, serve, kinds):
    server = serve(kinds[1])
    client = secure(kinds[0], session=manager(world, world.alice, to=world.bob.public))
    client.socket.connect(server.where)
    seen = []
    for life in range(3):
        failed = 0
        for number in range(5):
            payload = b"%d %d" % (life, number)
            try:
                assert client.request(payload, timeout=5000).payload == b"re " + payload
            except RequestRefusedError:
                failed += 1
        # The first request tells that the session is lost; nothing after it fails.
        assert failed == (1 if life else 0)
        seen += server.seen
        server.end()
        server = serve(kinds[1], server.where)
    assert len(seen) == len(set(seen)) == 13


@pytest.mark.audit("A3", "R2")
@pytest.mark.parametrize("kinds", [ASKING[0], ASKING[2], ASKING[3]], ids=names)
def test_a_client_that_is_restarted_is_served_at_once(world, secure, serve, kinds):
    server = serve(kinds[1])
    for life in range(3):
        client = secure(kinds[0], session=manager(world, world.alice, to=world.bob.public))
        client.socket.connect(server.where)
        assert client.request(b"%d" % life, timeout=5000).payload == b"re %d" % life
        client.close()
    assert server.seen == [b"0", b"1", b"2"]


def test_what_a_restarted_server_says_first_is_heard(world, secure, link, ends):
    one, other = ends((zmq.PAIR, zmq.PAIR))
    where = link(other, one, transport="tcp")
    one.send(b"hello")
    assert take(other, one).payload == b"hello"
    other.socket.close(0)
    again = secure(zmq.PAIR, session=manager(world, world.bob, to=world.alice.public))
    while True:
        try:
            again.socket.bind(where)
            break
        except zmq.ZMQError:
            time.sleep(0.01)
    again.send(b"I am back")
    assert take(one, again).payload == b"I am back"


@pytest.mark.audit("A6", "A16")
def test_garbage_and_strangers_stop_nothing(world, ends, link, bare):
    refused = []
    one, other = ends((zmq.PAIR, zmq.PAIR), on_rejected=lambda error: refused.append(error.code))
    link(other, one)
    for garbage in (b"", b"garbage", bytes(174), world.sealer().seal(b"an envelope")):
        bare(one).send(garbage)
    one.send(b"hello")
    assert take(other, one).payload == b"hello"
    assert refused == ["malformed"] * 4


def test_objects_and_frames_go_by_sessions_too(ends, link, bare):
    one, other = ends((zmq.PAIR, zmq.PAIR))
    link(other, one)
    one.send(b"\xc1 no object")
    one.send_object({"valve": 3})
    one.send_multipart([b"a", b"b"])
    other.poll(100)
    for _ in range(200):
        with contextlib.suppress(zmq.Again):
            assert other.recv_object(zmq.NOBLOCK) == {"valve": 3}
            break
        with contextlib.suppress(zmq.Again):
            one.recv(zmq.NOBLOCK)
        other.poll(5)
    else:
        raise AssertionError("nothing came")
    assert other.recv_multipart() == [b"a", b"b"]
    assert other.stats.refused == {"malformed": 1}


def test_who_only_sends_has_a_session_too(world, ends, link):
    one, other = ends((zmq.PAIR, zmq.PAIR))
    link(other, one)
    got = []
    for number in range(50):
        one.send(b"%d" % number)
        other.poll(1)
        with contextlib.suppress(zmq.Again):
            while True:
                got.append(other.recv(zmq.NOBLOCK).payload)
    while len(got) < 50:
        got.append(take(other, one).payload)
    assert got == [b"%d" % number for number in range(50)]


def test_send_many_sends_them_one_by_one(ends, link):
    one, other = ends((zmq.PAIR, zmq.PAIR))
    link(other, one)
    one.send_many([b"1", b"2", b"3"])
    assert [take(other, one).payload for _ in range(3)] == [b"1", b"2", b"3"]


@pytest.mark.audit("A16")
def test_a_client_that_lets_all_wait_stops_no_other(world, secure, link, plain):
    sessions, hers = manager(world, world.bob), manager(world, world.carol, to=world.bob.public)
    server = secure(zmq.ROUTER, session=sessions)
    server.socket.sndtimeo = 1000
    silent = plain(zmq.DEALER)
    one = secure(zmq.DEALER, session=manager(world, world.alice, to=world.bob.public))
    link(server, silent, one, transport="tcp")

    def hear():
        while not silent.poll(10):
            with contextlib.suppress(zmq.Again):
                server.recv(zmq.NOBLOCK)
        return silent.recv_multipart()[-1]

    hers.send(b"hello")
    silent.send_multipart([b"", hers.outbox.popleft().data])
    hers.receive(hear())
    silent.send_multipart([b"", hers.outbox.popleft().data])
    route, carol = (message := take(server)).route, message.sender
    one.send(b"hello")
    alice = take(server, one)
    # Carol says that she has lost her session, and answers nothing any more.
    server.send(b"lost", route=route, to=carol)
    ctx = context_digest(world.context.encode(), ())
    silent.send_multipart([b"", hint.make(world.carol, ctx, hear())])
    assert len(hear()) == 174
    for n in range(1100):
        server.send(b"%d" % n, route=route, to=carol)
    assert (sessions.staged, sessions.dropped) == (512, 1100 - 512)
    server.send(b"alive", route=alice.route, to=alice.sender)
    assert take(one, server).payload == b"alive"


def test_when_as_much_waits_as_may_a_send_says_so(world, ends):
    one, _ = ends()
    one.socket.sndtimeo = 20
    one.socket.bind("inproc://nobody")
    for _ in range(1024):
        one.send(b"")
    with pytest.raises(zmq.Again):
        one.send(b"")
    with pytest.raises(zmq.Again):
        one.send(b"", flags=zmq.NOBLOCK)


@pytest.mark.parametrize("call", ["recv", "poll", "send"])
def test_a_req_that_looks_seldom_reads_the_response_before_it_asks_anew(world, plain, call):
    """To send would drop it, and the next one, and the next."""
    mono = FakeClock(10**9)
    alice = manager(world, world.alice, to=world.bob.public, monotonic=mono)
    bob = manager(world, world.bob, monotonic=mono)
    line = plain(zmq.REP)
    port = line.bind_to_random_port("tcp://127.0.0.1")
    requester = SecureSocket(plain(zmq.REQ), session=alice)
    requester.socket.connect(f"tcp://127.0.0.1:{port}")
    requester.send(b"what")
    assert bob.receive(line.recv()) is None
    line.send(bob.outbox.popleft().data)
    assert requester.socket.poll(5000)
    mono.advance(10)
    if call == "poll":
        assert requester.poll(0)
    if call == "send":
        requester.send(b"another")
    else:
        with pytest.raises(zmq.Again):
            requester.recv(zmq.NOBLOCK)
    assert bob.receive(line.recv()).payload == b"what"


def test_nobody_answers_a_request(world, ends):
    one, _ = ends()
    one.socket.bind("inproc://nobody")
    with pytest.raises(RequestTimeoutError):
        one.request(b"?", timeout=50)


def test_what_waits_for_a_session_when_a_socket_closes_is_told(ends, caplog):
    one, _ = ends()
    one.socket.bind("inproc://nobody")
    one.send(b"1")
    one.send(b"2")
    with caplog.at_level(logging.WARNING, "envelope.zeromq"):
        one.close()
    assert "closed with 2 messages that waited for a session" in caplog.text


def test_a_close_that_lingers_waits_for_the_session(world, serve, plain):
    server = serve(zmq.ROUTER)
    client = SecureSocket(
        plain(zmq.DEALER), session=manager(world, world.alice, to=world.bob.public)
    )
    client.socket.connect(server.where)
    client.send(b"the last word")
    client.close(linger=5000)
    end = time.monotonic() + 5
    while not server.seen and time.monotonic() < end:
        time.sleep(0.01)
    assert server.seen == [b"the last word"]


def test_with_asyncio_a_close_that_lingers_waits_for_the_session_too(world, serve, plain):
    server = serve(zmq.ROUTER)

    async def talk():
        client = aio.SecureSocket(
            plain(zmq.DEALER, zmq.asyncio.Socket),
            session=manager(world, world.alice, to=world.bob.public),
        )
        client.socket.connect(server.where)
        await client.send(b"the last word")
        await client.aclose(linger=5000)

    asyncio.run(talk())
    end = time.monotonic() + 5
    while not server.seen and time.monotonic() < end:
        time.sleep(0.01)
    assert server.seen == [b"the last word"]


def test_asyncio_repeats_its_initiation_by_a_timer(world, plain, serve):
    """The peer comes late, and what was lost before it came is said again."""

    async def talk():
        quick = Timing(retry=0.02)
        context = plain(zmq.DEALER, zmq.asyncio.Socket)
        client = aio.SecureSocket(
            context, session=manager(world, world.alice, to=world.bob.public, timing=quick)
        )
        client.socket.bind("tcp://127.0.0.1:*")
        where = client.socket.last_endpoint.decode().rstrip("\0")
        middle = plain(zmq.DEALER, zmq.asyncio.Socket)
        middle.connect(where)
        waiting = asyncio.ensure_future(client.request(b"?", timeout=5000))
        initiations = [await middle.recv_multipart() for _ in range(3)]
        assert len({frames[-1] for frames in initiations}) == 3
        server = manager(world, world.bob)
        while not waiting.done():
            if not initiations and not await middle.poll(20):
                continue
            frames = initiations.pop() if initiations else await middle.recv_multipart()
            with contextlib.suppress(RejectedError):
                message = server.receive(frames[-1])
                if message is not None:
                    reply = server.send(b"!", to=message.sender, in_reply_to=message.id)
                    await middle.send_multipart([b"", reply])
            while server.outbox:
                await middle.send_multipart([b"", server.outbox.popleft().data])
        assert (await waiting).payload == b"!"
        client.close()

    asyncio.run(talk())


@pytest.mark.audit("A13")
def test_a_peer_that_is_revoked_has_no_session_any_more(world, secure, link):
    trust = TrustStore([Peer("alice", world.alice.public, contexts=[world.context])])
    one = secure(zmq.PAIR, session=manager(world, world.alice, to=world.bob.public))
    other = secure(zmq.PAIR, session=manager(world, world.bob, trust=trust))
    link(other, one)
    one.send(b"hello")
    assert take(other, one).payload == b"hello"
    revoked = TrustStore(
        [Peer("alice", world.alice.public, contexts=[world.context], revoked=True)]
    )
    trust.snapshot = revoked.snapshot
    one.send(b"still there?")
    with pytest.raises(AssertionError, match="nothing came"):
        take(other, one, within=0.3)
    assert other.stats.refused["unknown_session"] == 1


def test_sessions_stand_alone(world, secure):
    session = manager(world, world.alice)
    for ends in ({"sealer": world.sealer()}, {"opener": world.opener()}, {"bundling": Bundling()}):
        with pytest.raises(UsageError, match="neither"):
            secure(zmq.PAIR, session=session, **ends)
    with pytest.raises(UsageError, match="SessionManager"):
        secure(zmq.PAIR, session="session")
    with pytest.raises(UsageError, match="two ends"):
        secure(zmq.PUB, session=session)
    secure(zmq.PAIR, session=session)
    with pytest.raises(UsageError, match="one socket"):
        secure(zmq.PAIR, session=session)


def test_a_client_that_went_away_stops_no_other(world, secure, link, plain):
    server = secure(zmq.ROUTER, session=manager(world, world.bob))
    server.socket.router_mandatory = True
    gone, one = (
        plain(zmq.DEALER),
        secure(zmq.DEALER, session=manager(world, world.alice, to=world.bob.public)),
    )
    link(server, gone, one, transport="tcp")
    asking = manager(world, world.carol, to=world.bob.public)
    asking.send(b"hello")
    gone.send_multipart([b"", asking.outbox.popleft().data])
    assert server.poll(5000)
    gone.close()  # The response finds nobody.
    one.send(b"hello")
    assert take(server, one).payload == b"hello"
