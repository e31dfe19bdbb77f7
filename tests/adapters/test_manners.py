"""A secure socket behaves as the socket inside: flags, timeouts, polling, queues, closing."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
import zmq
import zmq.asyncio
from support import identity

from envelope import UsageError, clock
from envelope.errors import StoreUnavailableError
from envelope.replay import MemoryReplayStore
from envelope.zeromq import Bundling, SecureSocket, aio

ALICE, BOB = identity("alice").public, identity("bob").public
SENDS = ["send", "send_many", "send_object", "send_multipart"]
RECEIVES = ["recv", "recv_bundle", "recv_object", "recv_multipart"]
LARGE = 400_000


def finish(one, linger: int | None = None) -> None:
    """Close in the way that waits for room."""
    getattr(one, "aclose", one.close)(linger)


def payload_for(call: str):
    return [b"payload"] if call in {"send_many", "send_multipart"} else b"payload"


@pytest.fixture
def pipe(secure, world, link):
    def make(transport: str = "inproc", hwm: int = 1000, **options):
        push = secure(zmq.PUSH, sealer=world.sealer(), **options)
        pull = secure(zmq.PULL, opener=world.opener())
        push.socket.sndhwm = pull.socket.rcvhwm = hwm
        link(pull, push, transport=transport)
        return push, pull

    return make


class TestFlags:
    @pytest.mark.parametrize("call", SENDS)
    @pytest.mark.parametrize("flags", [zmq.SNDMORE, zmq.SNDMORE | zmq.NOBLOCK, 4])
    def test_a_send_takes_noblock_alone(self, pipe, call, flags):
        push, pull = pipe()
        with pytest.raises(UsageError, match="NOBLOCK"):
            getattr(push, call)(payload_for(call), flags=flags)
        assert not pull.poll(0)

    @pytest.mark.parametrize("call", RECEIVES)
    def test_a_receive_takes_noblock_alone(self, pipe, call):
        _, pull = pipe()
        with pytest.raises(UsageError, match="NOBLOCK"):
            getattr(pull, call)(zmq.SNDMORE)

    @pytest.mark.parametrize("call", RECEIVES)
    def test_noblock_and_a_timeout_end_a_receive(self, pipe, call):
        _, pull = pipe()
        with pytest.raises(zmq.Again):
            getattr(pull, call)(zmq.NOBLOCK)
        for timeout in (0, 1, 20):
            pull.socket.rcvtimeo = timeout
            with pytest.raises(zmq.Again):
                getattr(pull, call)()

    @pytest.mark.parametrize("call", SENDS)
    @pytest.mark.parametrize("timeout", [0, 1, 20])
    def test_a_timeout_ends_a_send(self, secure, world, call, timeout):
        push = secure(zmq.PUSH, sealer=world.sealer())
        push.socket.sndtimeo = timeout
        with pytest.raises(zmq.Again):
            getattr(push, call)(payload_for(call))

    @pytest.mark.parametrize("call", SENDS)
    def test_who_has_no_sealer_does_not_send(self, secure, world, call):
        one = secure(zmq.PAIR, opener=world.opener())
        with pytest.raises(UsageError, match="no sealer"):
            getattr(one, call)(payload_for(call))

    @pytest.mark.parametrize("call", RECEIVES)
    def test_who_has_no_opener_does_not_receive(self, secure, world, call):
        one = secure(zmq.PAIR, sealer=world.sealer())
        with pytest.raises(UsageError, match="no opener"):
            getattr(one, call)()
        with pytest.raises(UsageError, match="no opener"):
            _ = one.stats

    @pytest.mark.parametrize("call", ["request", "send_request", "sync", "reply"])
    def test_a_socket_of_one_direction_neither_asks_nor_replies(self, pipe, call):
        push, pull = pipe()
        push.send(b"payload")
        arguments = {"reply": [pull.recv(), b""], "sync": []}.get(call, [b""])
        for one in (push, pull):
            with pytest.raises(UsageError, match="requests and replies need"):
                getattr(one, call)(*arguments)


class TestCopy:
    @pytest.mark.parametrize("transport", ["tcp", "inproc"])
    @pytest.mark.parametrize("size", [0, 1000, LARGE])
    def test_without_a_copy_the_same_arrives(self, pipe, transport, size):
        push, pull = pipe(transport)
        for number in range(4):
            push.send(bytes([number]) * size, "topic", copy=False)
            push.send(bytes([number]) * size, copy=False)
        got = [pull.recv(copy=False) for _ in range(8)]
        assert [(one.payload, one.topic) for one in got] == [
            (bytes([number]) * size, topic) for number in range(4) for topic in (b"topic", None)
        ]
        assert {type(one.payload) for one in got} == {bytes}

    def test_what_nobody_holds_any_more_arrives_whole(self, pipe):
        """ZeroMQ keeps what it was handed until it has sent it."""
        push, pull = pipe("tcp")
        pull.socket.rcvtimeo = 5000
        for number in range(20):
            push.send(bytes([number]) * LARGE, copy=False)
        finish(push, 5000)
        for number in range(20):
            assert pull.recv().payload == bytes([number]) * LARGE


class TestPolling:
    def test_a_poller_sees_what_arrives_and_poll_what_is_left(self, pipe, bare):
        """A bundle is one arrival: whoever uses a Poller asks ``poll(0)`` too."""
        push, pull = pipe()
        poller = zmq.Poller()
        poller.register(bare(pull), zmq.POLLIN)
        assert poller.poll(0) == []
        push.send_many([b"1", b"2", b"3"])
        push.send(b"4")
        got = []
        while pull.poll(0) or poller.poll(50):
            got.append(pull.recv(zmq.NOBLOCK).payload)
        assert got == [b"1", b"2", b"3", b"4"]

    def test_what_is_left_is_known_without_asking_the_socket(self, plain, world, link):
        push = SecureSocket(plain(zmq.PUSH), sealer=world.sealer())
        pull = SecureSocket(plain(zmq.PULL), opener=world.opener())
        link(pull, push)
        push.send_many([b"1", b"2"])
        assert pull.has_ready is False
        pull.recv()
        assert pull.has_ready is True
        pull.recv()
        assert pull.has_ready is False

    def test_a_poller_sees_room(self, pipe, bare):
        push, pull = pipe(hwm=1)
        poller = zmq.Poller()
        poller.register(bare(push), zmq.POLLOUT)
        with contextlib.suppress(zmq.Again):
            for _ in range(10):
                push.send(b"payload", flags=zmq.NOBLOCK)
        assert poller.poll(0) == []
        while pull.poll(0):
            pull.recv()
        assert [event for _, event in poller.poll(5000)] == [zmq.POLLOUT]

    def test_several_asyncio_sockets_share_a_poller(self, plain, world, link):
        async def story() -> None:
            pulls, pushes = [], []
            poller = zmq.asyncio.Poller()
            for _ in range(3):
                pull, push = plain(zmq.PULL, zmq.asyncio.Socket), plain(zmq.PUSH)
                link(pull, push)
                pulls.append(aio.SecureSocket(pull, opener=world.opener()))
                pushes.append(SecureSocket(push, sealer=world.sealer()))
                poller.register(pull, zmq.POLLIN)
            pushes[1].send_many([b"1", b"2"])
            [(ready, _)] = await poller.poll(5000)
            assert ready is pulls[1].socket
            assert (await pulls[1].recv()).payload == b"1"
            assert await poller.poll(0) == []
            assert await pulls[1].poll(0) is True
            for one in pulls:
                one.close()

        asyncio.run(story())

    @pytest.mark.parametrize("timeout", [0, 1, 30, 0.5])
    def test_a_timeout_is_in_milliseconds_as_in_pyzmq(self, pipe, timeout):
        _, pull = pipe()
        assert pull.poll(timeout) is False

    def test_any_negative_timeout_waits_without_end(self, pipe):
        push, pull = pipe()
        push.send(b"payload")
        assert pull.poll(-1) is True


class TestQueues:
    def test_a_full_queue_stops_the_sender_until_there_is_room(self, pipe):
        push, pull = pipe(hwm=1)
        push.socket.sndtimeo = 10
        sent, refused = [], []
        for number in range(8):
            try:
                push.send(b"%d" % number)
                sent.append(b"%d" % number)
            except zmq.Again:
                refused.append(number)
        assert refused
        assert refused[-1] == 7
        got = [pull.recv() for _ in sent]
        assert [message.payload for message in got] == sent
        push.socket.sndtimeo = 5000
        push.send(b"next")
        # What was refused took a sequence: it is a gap, and it is one.
        assert pull.recv().skipped == len(refused)

    def test_a_publisher_drops_for_whoever_is_slow_and_it_shows(self, secure, world, link, meet):
        publisher = secure(zmq.PUB, sealer=world.sealer())
        subscriber = secure(zmq.SUB, opener=world.opener())
        publisher.socket.sndhwm = subscriber.socket.rcvhwm = 5
        link(publisher, subscriber)
        meet(publisher, subscriber)
        for number in range(50):
            publisher.send(b"%d" % number)
        got = []
        while subscriber.poll(20):
            got.append(subscriber.recv())
        publisher.send(b"last")
        got.append(subscriber.recv())
        assert len(got) < 50
        assert got[-1].payload == b"last"
        assert sum(message.skipped for message in got) == 51 - len(got)

    def test_what_is_sent_before_anybody_connects_arrives(self, secure, world, tmp_path):
        push = secure(zmq.PUSH, sealer=world.sealer(), bundling=Bundling(max_count=2))
        push.socket.connect(f"ipc://{tmp_path}/later")
        for number in range(6):
            push.send(b"%d" % number)
        pull = secure(zmq.PULL, opener=world.opener())
        pull.socket.bind(f"ipc://{tmp_path}/later")
        assert [pull.recv().payload for _ in range(6)] == [b"%d" % number for number in range(6)]


class TestReconnect:
    def test_a_publisher_that_comes_back_is_heard_in_a_new_stream(
        self, secure, world, tmp_path, meet
    ):
        where = f"ipc://{tmp_path}/place"
        subscriber = secure(zmq.SUB, opener=world.opener())
        subscriber.socket.reconnect_ivl = 1
        subscriber.socket.connect(where)
        for _ in range(2):
            world.clock.advance(1)
            publisher = secure(zmq.PUB, sealer=world.sealer())
            publisher.socket.bind(where)
            meet(publisher, subscriber)
            publisher.send(b"payload", "topic")
            message = subscriber.recv()
            assert (message.sequence, message.skipped) == (0, 0)
            finish(publisher, 0)
        assert subscriber.stats.refused == {}


class TestClosing:
    @pytest.mark.parametrize("linger", [5000, None])
    @pytest.mark.parametrize("bundling", [None, Bundling(max_delay=60)], ids=repr)
    def test_what_was_sent_arrives_if_the_socket_lingers(self, pipe, linger, bundling):
        push, pull = pipe("tcp", bundling=bundling)
        push.socket.linger = 5000
        for number in range(50):
            push.send(b"%d" % number, "topic")
        finish(push, linger)
        assert [pull.recv().payload for _ in range(50)] == [b"%d" % number for number in range(50)]

    def test_a_lingering_socket_waits_for_room_for_its_bundles(self, pipe, bare):
        push, pull = pipe(hwm=1, bundling=Bundling(max_count=1))
        sent = 0
        with contextlib.suppress(zmq.Again):
            for sent in range(50):
                push.send(b"%d" % sent, flags=zmq.NOBLOCK)
        got = []

        def read() -> None:
            line = bare(pull)
            while len(got) < sent and line.poll(5000):
                got.append(line.recv_multipart())

        reader = threading.Thread(target=read)
        reader.start()
        finish(push, 5000)
        reader.join()
        assert len(got) == sent

    @pytest.mark.parametrize("short", [0, 1])
    def test_a_short_sndtimeo_does_not_shorten_the_wait(self, pipe, bare, short):
        push, pull = pipe(hwm=1, bundling=Bundling(max_count=1))
        sent = 0
        with contextlib.suppress(zmq.Again):
            for sent in range(50):
                push.send(b"%d" % sent, flags=zmq.NOBLOCK)
        push.socket.sndtimeo = short
        got = []

        def read() -> None:
            line = bare(pull)
            line.poll(20)
            while len(got) < sent and line.poll(5000):
                got.append(line.recv_multipart())

        reader = threading.Thread(target=read)
        reader.start()
        finish(push, 5000)
        reader.join()
        assert len(got) == sent

    def test_a_closed_socket_says_so(self, pipe):
        push, pull = pipe()
        for one in (push, pull):
            one.close()
            one.close()
            assert one.socket.closed
        for call in (lambda: push.send(b""), pull.recv, lambda: push.send_many([b""])):
            with pytest.raises(zmq.ZMQError):
                call()

    def test_a_context_that_was_destroyed_is_no_error_at_the_end(self, world):
        context = zmq.Context()
        with SecureSocket(context.socket(zmq.PULL), opener=world.opener()) as one:
            context.destroy(0)
        assert one.socket.closed

    def test_a_context_that_ends_ends_a_receive(self, world):
        context = zmq.Context()
        one = SecureSocket(context.socket(zmq.PULL), opener=world.opener())
        ender = threading.Thread(target=context.term)
        ender.start()
        with one, pytest.raises(zmq.ContextTerminated):
            one.recv()
        ender.join()

    def test_aclose_and_async_with_send_what_waits(self, plain, world, link):
        async def story() -> None:
            pull = aio.SecureSocket(plain(zmq.PULL, zmq.asyncio.Socket), opener=world.opener())
            one = aio.SecureSocket(
                plain(zmq.PUSH, zmq.asyncio.Socket), sealer=world.sealer(), bundling=Bundling()
            )
            link(pull, one)
            await one.send(b"1")
            with pytest.raises(ZeroDivisionError):
                async with one:
                    raise ZeroDivisionError
            async with pull:
                assert (await pull.recv()).payload == b"1"
            await pull.aclose()

        asyncio.run(story())

    def test_a_task_that_receives_is_cancelled_by_closing_as_in_pyzmq(self, plain, world):
        async def story() -> None:
            one = aio.SecureSocket(plain(zmq.PULL, zmq.asyncio.Socket), opener=world.opener())
            one.socket.rcvtimeo = -1
            task = asyncio.create_task(one.recv())
            await asyncio.sleep(0)
            one.close()
            with pytest.raises((asyncio.CancelledError, zmq.ZMQError)):
                await asyncio.wait_for(task, 5)

        asyncio.run(story())


class Broken(MemoryReplayStore):
    """Cannot answer so many times."""

    failures = 3

    def guard(self, domain, sender, context):
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError
        return super().guard(domain, sender, context)


@pytest.mark.audit("A24")
def test_who_waits_for_a_reply_in_an_outage_pauses_between_two_questions(secure, world, link):
    store = Broken(first_life=True, clock=world.clock)
    alice = secure(zmq.PAIR, sealer=world.sealer(), opener=world.opener(world.alice, replay=store))
    bob = secure(zmq.PAIR, sealer=world.sealer(world.bob), opener=world.opener())
    link(bob, alice)
    request = alice.send_request(b"request")
    bob.reply(bob.recv(), b"reply")
    start = clock.monotonic()
    assert alice.wait(request, timeout=5000).payload == b"reply"
    assert store.failures == 0
    assert clock.monotonic() - start > 3 * 40_000


def test_an_xsub_subscribes_by_the_socket_inside_and_an_xpub_sees_it(secure, world, link):
    alice = secure(zmq.XPUB, sealer=world.sealer())
    bob = secure(zmq.XSUB, opener=world.opener())
    link(alice, bob)
    zmq.Socket.shadow(bob.socket.underlying).send(b"\x01eu.")
    assert zmq.Socket.shadow(alice.socket.underlying).recv() == b"\x01eu."
    for topic in ("us.1", "eu.1"):
        alice.send(b"payload", topic)
    message = bob.recv()
    assert (message.topic, message.payload) == (b"eu.1", b"payload")
    assert not bob.poll(0)
