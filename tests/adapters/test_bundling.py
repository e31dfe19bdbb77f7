"""send() collects by topic: nothing is lost, doubled or reordered (SPEC 16.6).

``SLOW`` waits so long that only count, bytes or a call send what was collected.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading

import pytest
import zmq
import zmq.asyncio

from envelope import UsageError, clock
from envelope.zeromq import Bundling, SecureSocket, aio

SLOW = Bundling(max_delay=60)
COUNT = Bundling(max_count=3, max_delay=60)
SENDERS = [zmq.PUB, zmq.XPUB, zmq.PUSH, zmq.PAIR, zmq.DEALER]
ACROSS = {
    zmq.PUB: zmq.SUB,
    zmq.XPUB: zmq.SUB,
    zmq.PUSH: zmq.PULL,
    zmq.PAIR: zmq.PAIR,
    zmq.DEALER: zmq.ROUTER,
}


def name(kind: int) -> str:
    return zmq.SocketType(kind).name


def finish(one, linger: int | None = None) -> None:
    """Close in the way that waits for room."""
    getattr(one, "aclose", one.close)(linger)


@pytest.fixture
def later(monkeypatch):
    """Moves the clock that bundles wait by: ``later(seconds)``."""
    offset, real = [0], clock.monotonic_ns

    def move(seconds: float) -> None:
        offset[0] += round(seconds * 1e9)

    monkeypatch.setattr(clock, "monotonic_ns", lambda: real() + offset[0])
    return move


@pytest.fixture
def pipe(secure, world, link):
    """Makes a PUSH that bundles and the PULL across from it."""

    def make(bundling: Bundling, **options):
        push = secure(zmq.PUSH, sealer=world.sealer(**options), bundling=bundling)
        pull = secure(zmq.PULL, opener=world.opener())
        link(pull, push)
        return push, pull

    return make


@pytest.fixture
def pair(secure, world, link):
    """Makes Alice's PAIR, which bundles, and Bob's, which does not."""

    def make(bundling: Bundling, *, hwm: int = 1000, **options):
        alice = secure(
            zmq.PAIR,
            sealer=world.sealer(**options),
            opener=world.opener(world.alice),
            bundling=bundling,
        )
        bob = secure(zmq.PAIR, sealer=world.sealer(world.bob), opener=world.opener())
        alice.socket.sndhwm = bob.socket.rcvhwm = hwm
        link(bob, alice)
        return alice, bob

    return make


def bundles(pull, count: int) -> list[list[bytes]]:
    """Receive so many bundles, and check that there is not one more."""
    got = [[message.payload for message in pull.recv_bundle()] for _ in range(count)]
    assert not pull.poll(0)
    return got


class TestWhen:
    def test_it_waits_for_company_and_goes_by_count(self, pipe):
        push, pull = pipe(COUNT)
        for payload in (b"1", b"2"):
            push.send(payload)
        assert not pull.poll(0)
        for payload in (b"3", b"4", b"5", b"6", b"7"):
            push.send(payload)
        assert bundles(pull, 2) == [[b"1", b"2", b"3"], [b"4", b"5", b"6"]]

    def test_it_goes_by_bytes(self, pipe):
        push, pull = pipe(Bundling(max_bytes=10, max_delay=60))
        for payload in (b"4444", b"55555", b"22", b"x" * 8, b"1"):
            push.send(payload)
        assert bundles(pull, 2) == [[b"4444", b"55555"], [b"22", b"x" * 8]]
        push.flush()
        assert bundles(pull, 1) == [[b"1"]]

    def test_a_payload_larger_than_a_bundle_goes_alone_and_at_once(self, pipe):
        push, pull = pipe(Bundling(max_bytes=10, max_delay=60))
        for payload in (b"1", b"x" * 30, b"2"):
            push.send(payload)
        assert bundles(pull, 2) == [[b"1"], [b"x" * 30]]
        push.flush()
        assert bundles(pull, 1) == [[b"2"]]

    def test_flush_sends_all_of_all_topics_the_oldest_first(self, pipe):
        push, pull = pipe(SLOW)
        for topic in (b"b", None, "a", b"b", "b", b""):
            push.send(b"payload", topic)
        push.flush()
        got = [pull.recv_bundle() for _ in range(4)]
        assert [(bundle[0].topic, len(bundle)) for bundle in got] == [
            (b"b", 3),
            (None, 1),
            (b"a", 1),
            (b"", 1),
        ]
        push.flush()
        assert not pull.poll(0)

    def test_the_next_send_of_any_topic_sends_what_is_due(self, pipe, later):
        push, pull = pipe(SLOW)
        push.send(b"old", "a")
        later(59)
        push.send(b"young", "b")
        assert not pull.poll(0)
        later(1)
        push.send(b"new", "b")
        assert bundles(pull, 1) == [[b"old"]]
        later(59)
        push.send(b"none", "c")
        assert bundles(pull, 1) == [[b"young", b"new"]]

    def test_more_than_1024_topics_push_the_oldest_out(self, pipe):
        push, pull = pipe(SLOW)
        for number in range(1026):
            push.send(b"%d" % number, b"%d" % number)
        assert bundles(pull, 1) == [[b"0"]]
        push.flush()
        assert [pull.recv().payload for _ in range(1025)] == [b"%d" % n for n in range(1, 1026)]

    def test_one_alone_is_no_bundle(self, pipe, bare):
        push, pull = pipe(SLOW)
        push.send(b"alone")
        push.flush()
        [data] = bare(pull).recv_multipart()
        assert not data[5] & 1

    @pytest.mark.parametrize("bundling", [Bundling(max_count=1), Bundling(max_bytes=1)], ids=repr)
    def test_without_room_for_two_it_goes_at_once(self, pipe, bundling):
        push, pull = pipe(bundling)
        push.send(b"1")
        push.send(b"2")
        assert bundles(pull, 2) == [[b"1"], [b"2"]]


class TestReceiving:
    def test_an_end_that_receives_sends_what_is_due_meanwhile(self, pair):
        alice, bob = pair(Bundling(max_delay=0.01))
        alice.send(b"question")
        alice.socket.rcvtimeo = 50
        with pytest.raises(zmq.Again):
            alice.recv()
        assert bob.recv().payload == b"question"

    def test_an_end_that_polls_sends_what_is_due_meanwhile(self, pair):
        alice, bob = pair(Bundling(max_delay=0.01))
        alice.send(b"question")
        assert alice.poll(50) is False
        assert bob.recv().payload == b"question"

    def test_a_receive_that_does_not_wait_sends_what_is_due(self, pair, later):
        alice, bob = pair(SLOW)
        for call in (lambda: alice.poll(0), lambda: alice.recv(zmq.NOBLOCK)):
            alice.send(b"question")
            later(61)
            with contextlib.suppress(zmq.Again):
                call()
            alice.send(b"next")  # In asyncio the timer has had no turn: this call sends it.
            assert bob.recv().payload == b"question"
            alice.flush()
            bob.recv()

    def test_an_end_that_waits_for_a_reply_sends_what_is_due_meanwhile(self, pair):
        alice, bob = pair(Bundling(max_delay=0.01))
        request = alice.send_request(b"request")
        alice.send(b"beside")
        with pytest.raises(TimeoutError):
            alice.wait(request, timeout=50)
        assert [bob.recv().payload for _ in range(2)] == [b"request", b"beside"]

    def test_an_end_that_waits_sends_what_had_no_room_as_soon_as_there_is_some(
        self, pair, bare, world, monkeypatch
    ):
        """Else two that wait for each other's messages would wait for ever."""
        alice, bob = pair(Bundling(max_count=1), hwm=1)
        sent = fill(alice)
        answer = world.sealer(world.bob).seal(b"all of them")
        waits, looks, real = threading.Event(), itertools.count(1), clock.monotonic_ns

        def look() -> int:
            """Alice looks at the clock when she begins, and again before she waits."""
            if next(looks) >= 2:
                waits.set()
            return real()

        def answer_when_all_came() -> None:
            line = bare(bob)
            waits.wait(5)
            for _ in range(sent):
                line.recv_multipart()
            line.send(answer)

        monkeypatch.setattr(clock, "monotonic_ns", look)
        reader = threading.Thread(target=answer_when_all_came)
        reader.start()
        assert alice.recv().payload == b"all of them"
        reader.join()

    def test_bundles_come_one_by_one_or_at_once(self, pipe):
        push, pull = pipe(COUNT)
        for number in range(6):
            push.send(b"%d" % number, "topic")
        assert [pull.recv().payload for _ in range(2)] == [b"0", b"1"]
        assert [message.payload for message in pull.recv_bundle()] == [b"2"]
        bundle = pull.recv_bundle()
        assert [(one.payload, one.index, one.sequence) for one in bundle] == [
            (b"3", 0, 1),
            (b"4", 1, 1),
            (b"5", 2, 1),
        ]


def fill(one) -> int:
    """Send until the queues between are full; return how many were taken."""
    for count in range(50):
        try:
            one.send(b"%d" % count, flags=zmq.NOBLOCK)
        except zmq.Again:
            return count
    raise AssertionError


class TestPatterns:
    @pytest.mark.parametrize("kind", SENDERS, ids=name)
    @pytest.mark.parametrize("sealed", [False, True])
    def test_every_socket_that_sends_to_all_or_any_bundles(
        self, secure, world, link, meet, kind, sealed
    ):
        ends = {"sealer": world.sealer(to=[world.bob.public] if sealed else [])}
        one = secure(kind, bundling=COUNT, **ends)
        across = secure(ACROSS[kind], opener=world.opener())
        link(one, across)
        if ACROSS[kind] == zmq.SUB:
            meet(one, across)
        for number in range(4):
            one.send(b"%d" % number, "topic")
        one.flush()
        got = [across.recv() for _ in range(4)]
        assert [message.payload for message in got] == [b"0", b"1", b"2", b"3"]
        assert {(message.topic, message.sealed) for message in got} == {(b"topic", sealed)}
        assert [message.sequence for message in got] == [0, 0, 0, 1]
        assert [bool(message.route) for message in got] == [kind == zmq.DEALER] * 4

    @pytest.mark.parametrize("kind", [zmq.REQ, zmq.REP, zmq.ROUTER], ids=name)
    def test_what_sends_to_one_at_a_time_has_nothing_to_bundle(self, secure, world, kind):
        with pytest.raises(UsageError, match="nothing to bundle"):
            secure(kind, sealer=world.sealer(), opener=world.opener(), bundling=SLOW)

    def test_who_does_not_send_has_nothing_to_bundle(self, secure, world):
        for kind in (zmq.SUB, zmq.PAIR):
            with pytest.raises(UsageError, match="nothing to bundle"):
                secure(kind, opener=world.opener(), bundling=SLOW)

    @pytest.mark.parametrize("bundling", [True, 5, "default", {}], ids=repr)
    def test_it_is_a_bundling(self, secure, world, bundling):
        with pytest.raises(UsageError, match="bundling is a Bundling"):
            secure(zmq.PUSH, sealer=world.sealer(), bundling=bundling)

    def test_each_topic_of_a_publisher_keeps_its_stream(self, secure, world, link, meet):
        publisher = secure(zmq.PUB, sealer=world.sealer(), bundling=COUNT)
        subscriber = secure(zmq.SUB, opener=world.opener())
        link(publisher, subscriber)
        meet(publisher, subscriber)
        for number in range(6):
            for topic in ("a", "b"):
                publisher.send(b"%d" % number, topic)
        got = [subscriber.recv_bundle() for _ in range(4)]
        assert [(one[0].topic, one[0].sequence, one[0].skipped) for one in got] == [
            (b"a", 0, 0),
            (b"b", 0, 0),
            (b"a", 1, 0),
            (b"b", 1, 0),
        ]

    @pytest.mark.audit("A5")
    def test_a_prefix_still_selects_at_a_broker(self, secure, world, broker, meet):
        publisher = secure(zmq.PUB, sealer=world.sealer(), bundling=COUNT)
        subscriber = secure(zmq.SUB, opener=world.opener(), on_rejected=pytest.fail)
        subscriber.socket.unsubscribe(b"")
        subscriber.socket.subscribe(b"eu.")
        started = broker(publisher, subscriber)
        meet(publisher, subscriber, topic=b"eu.")
        started.seen.clear()
        for number in range(3):
            for topic in ("us.1", "eu.1", "eu.2", "eu"):
                publisher.send(b"%d" % number, topic)
        publisher.flush()
        got = [subscriber.recv() for _ in range(6)]
        assert [message.topic for message in got] == [b"eu.1"] * 3 + [b"eu.2"] * 3
        assert {frames[0][:3] for frames in started.seen} == {b"eu."}
        assert subscriber.stats.refused == {}


class TestOrder:
    def test_what_was_collected_goes_before_what_is_sent_as_many(self, pipe):
        push, pull = pipe(SLOW)
        push.send(b"a")
        push.send_many([b"b", b"c"])
        push.send(b"d")
        push.flush()
        got = [pull.recv() for _ in range(4)]
        assert [message.payload for message in got] == [b"a", b"b", b"c", b"d"]
        assert [(message.sequence, message.skipped) for message in got] == [
            (0, 0),
            (1, 0),
            (1, 0),
            (2, 0),
        ]

    def test_what_was_collected_goes_before_a_request_and_a_reply(self, pair):
        alice, bob = pair(SLOW)
        alice.send(b"before")
        alice.send_request(b"request")
        got = [bob.recv() for _ in range(2)]
        assert [message.payload for message in got] == [b"before", b"request"]
        bob.send(b"to be replied to")
        alice.send(b"before")
        alice.reply(alice.recv(), b"reply")
        assert [bob.recv().payload] == [b"before"]

    def test_all_kinds_of_payload_are_collected(self, pipe):
        push, pull = pipe(COUNT)
        push.send_object({"a": 1})
        push.send_multipart([b"a", b"b"])
        push.send(b"bytes", copy=False)
        one, other, last = pull.recv_bundle()
        assert (one.object(), other.frames(), last.payload) == ({"a": 1}, [b"a", b"b"], b"bytes")


class TestErrors:
    @pytest.mark.parametrize(
        ("payload", "options"),
        [
            ("text", {}),
            (bytearray(b"a"), {}),
            (None, {}),
            (b"", {"topic": 5}),
            (b"", {"topic": ["a"]}),
            (b"", {"topic": "envelope/v1/sync"}),
            (b"", {"flags": zmq.SNDMORE}),
            (b"", {"route": [b"id"]}),
        ],
    )
    def test_what_is_wrong_is_not_taken(self, pipe, payload, options):
        push, pull = pipe(SLOW)
        for before in (False, True):
            if before:
                push.send(b"good")
            with pytest.raises(UsageError):
                push.send(payload, **options)
        push.flush()
        assert bundles(pull, 1) == [[b"good"]]

    def test_flush_takes_no_other_flags(self, pipe):
        push, _ = pipe(SLOW)
        with pytest.raises(UsageError, match="NOBLOCK"):
            push.flush(zmq.SNDMORE)

    def test_what_no_envelope_holds_is_told_at_once_and_stops_nothing(self, pipe):
        push, pull = pipe(SLOW, max_size=1000)
        for payload in (b"1", b"2"):
            push.send(payload)
            for size in (900, 1000, 5000):
                with pytest.raises(UsageError, match="larger than 1000"):
                    push.send(bytes(size))
        push.flush()
        assert [pull.recv().payload for _ in range(2)] == [b"1", b"2"]
        assert not pull.poll(0)

    @pytest.mark.parametrize("topic", [None, b"t" * 700])
    @pytest.mark.parametrize("sealed", [False, True])
    def test_what_no_envelope_holds_at_once_goes_in_several(self, pipe, world, topic, sealed):
        """Topic, recipients and the headers of the bundle take room too."""
        push, pull = pipe(SLOW, max_size=1100, to=[world.bob.public] if sealed else [])
        sent = [bytes([number]) * (number % 90) for number in range(120)]
        for payload in sent:
            push.send(payload, topic)
        push.flush()
        got = [pull.recv() for _ in sent]
        assert [message.payload for message in got] == sent
        assert sum(message.skipped for message in got) == 0

    def test_an_empty_bundle_that_is_too_large_by_its_topic_is_told(self, pipe):
        push, pull = pipe(SLOW, max_size=1000)
        with pytest.raises(UsageError, match="larger than 1000"):
            push.send(b"", b"t" * 1000)
        push.send(b"a")
        push.flush()
        assert bundles(pull, 1) == [[b"a"]]


class TestRevoked:
    """All recipients are revoked while something waits."""

    @pytest.fixture
    def bobs(self, world):
        """Says whether Bob is trusted, or whoever."""
        peers = list(world.trust)

        def trusted(*, is_valid: bool, name: str = "bob") -> None:
            world.trust.replace([one for one in peers if is_valid or one.name != name])

        return trusted

    @pytest.fixture
    def ends(self, pipe, world):
        return pipe(COUNT, to=[world.trust["bob"]])

    def test_it_goes_on_waiting_and_goes_when_it_can(self, ends, bobs):
        push, pull = ends
        push.send(b"1")
        push.send(b"2", "topic")
        bobs(is_valid=False)
        for _ in range(2):
            with pytest.raises(UsageError):
                push.flush()
            with pytest.raises(UsageError):
                push.send_many([b"none"])
        bobs(is_valid=True)
        push.send(b"3")
        push.flush()
        assert bundles(pull, 2) == [[b"1", b"3"], [b"2"]]

    def test_the_one_that_would_send_it_is_not_taken(self, ends, bobs):
        push, pull = ends
        push.send(b"1")
        push.send(b"2")
        bobs(is_valid=False)
        with pytest.raises(UsageError):
            push.send(b"not this one")
        bobs(is_valid=True)
        push.send(b"3")
        assert bundles(pull, 1) == [[b"1", b"2", b"3"]]

    def test_a_new_topic_is_not_taken(self, secure, world, link, meet, bobs):
        publisher = secure(zmq.PUB, sealer=world.sealer(to=[world.trust["bob"]]), bundling=COUNT)
        subscriber = secure(zmq.SUB, opener=world.opener())
        link(publisher, subscriber)
        meet(publisher, subscriber)
        bobs(is_valid=False)
        with pytest.raises(UsageError):
            publisher.send(b"not this one", "topic")
        bobs(is_valid=True)
        publisher.send(b"1", "topic")
        publisher.flush()
        assert bundles(subscriber, 1) == [[b"1"]]

    def test_closing_tells_and_closes(self, ends, bobs, caplog):
        push, _ = ends
        push.send(b"1")
        bobs(is_valid=False)
        with pytest.raises(UsageError):
            finish(push)
        assert push.socket.closed
        assert "closed with 1 bundles that were not sent" in caplog.text

    def test_it_keeps_nobody_from_receiving(self, pair, world, bobs):
        alice, bob = pair(Bundling(max_delay=0.001), to=[world.trust["carol"]], sealed=False)
        alice.send(b"waits")
        bobs(is_valid=False, name="carol")
        alice.socket.rcvtimeo = 20
        with pytest.raises(zmq.Again):
            alice.recv()
        bob.send(b"to alice")
        assert alice.poll(5000) is True
        assert alice.recv().payload == b"to alice"
        with pytest.raises(UsageError):
            alice.flush()
        bobs(is_valid=True)
        alice.flush()
        assert bob.poll(5000) is True


class TestNoRoom:
    @pytest.fixture
    def ends(self, pair):
        """Two whose queues hold almost nothing, full."""
        alice, bob = pair(Bundling(max_count=1), hwm=1)
        return alice, bob, fill(alice)

    def test_what_was_refused_was_not_taken_and_what_was_taken_arrives(self, ends):
        alice, bob, sent = ends
        got = [int(bob.recv().payload)]
        for number in range(sent, sent + 50):
            while True:
                try:
                    alice.send(b"%d" % number, flags=zmq.NOBLOCK)
                except zmq.Again:
                    if bob.poll(1):
                        got.append(int(bob.recv().payload))
                else:
                    break
        while len(got) < sent + 50:
            with contextlib.suppress(zmq.Again):
                alice.flush(zmq.NOBLOCK)
            if bob.poll(1):
                got.append(int(bob.recv().payload))
        assert got == list(range(sent + 50))
        assert not bob.poll(0)

    def test_sndtimeo_ends_the_wait(self, ends):
        alice, _, _ = ends
        alice.socket.sndtimeo = 10
        calls = (lambda: alice.send(b""), lambda: alice.send_many([b""]), alice.flush)
        for call in calls:
            with pytest.raises(zmq.Again):
                call()

    def test_closing_waits_as_long_as_it_lingers_and_says_what_it_dropped(self, ends, caplog):
        alice, _, _ = ends
        finish(alice, 20)
        assert alice.socket.closed
        assert "closed with 1 bundles that were not sent" in caplog.text

    @pytest.mark.parametrize("timeout", [0, 1, -1])
    def test_waiting_does_not_keep_the_processor_busy(self, ends, monkeypatch, timeout):
        """Also where pyzmq ends each wait of its own after a short SNDTIMEO."""
        alice, _, _ = ends
        alice.socket.sndtimeo = timeout
        looks, real = itertools.count(), clock.monotonic
        monkeypatch.setattr(clock, "monotonic", lambda: (next(looks), real())[1])
        finish(alice, 50)
        assert next(looks) < 200

    def test_closing_by_close_does_not_wait_longer(self, ends, caplog):
        alice, _, _ = ends
        alice.close(0)
        assert alice.socket.closed
        assert "closed with 1 bundles that were not sent" in caplog.text


class TestClosing:
    def test_it_sends_what_waits(self, pipe):
        push, pull = pipe(SLOW)
        push.send(b"1")
        push.send(b"2", "topic")
        finish(push)
        assert [pull.recv().payload for _ in range(2)] == [b"1", b"2"]

    def test_close_without_waiting_sends_what_there_is_room_for(self, pipe):
        """In asyncio outside of every task, too."""
        push, pull = pipe(SLOW)
        push.send(b"1")
        push.close()
        assert pull.recv().payload == b"1"

    def test_it_may_be_closed_twice(self, pipe, caplog):
        push, _ = pipe(SLOW)
        push.send(b"1")
        for close in (finish, finish, lambda one: one.close(), lambda one: one.close(0)):
            close(push)
        assert caplog.text == ""

    def test_what_is_sent_afterwards_is_refused(self, pipe):
        push, _ = pipe(SLOW)
        push.send(b"1")
        push.close()
        for topic in (None, "topic"):
            with pytest.raises(zmq.ZMQError) as raised:
                push.send(b"2", topic)
            assert raised.value.errno == zmq.ENOTSOCK

    @pytest.mark.parametrize("close", [finish, lambda one: one.close()], ids=["aclose", "close"])
    def test_a_socket_that_was_closed_inside_is_told_of(self, pipe, caplog, close):
        push, _ = pipe(SLOW)
        push.send(b"1")
        push.socket.close()
        close(push)
        assert "closed with 1 bundles that were not sent" in caplog.text
        with pytest.raises(zmq.ZMQError):
            push.send(b"2")

    def test_a_block_that_ends_by_an_error_sends_what_waits(self, plain, world, link):
        push = SecureSocket(plain(zmq.PUSH), sealer=world.sealer(), bundling=SLOW)
        pull = SecureSocket(plain(zmq.PULL), opener=world.opener())
        link(pull, push)
        push.send(b"1")
        with pytest.raises(ZeroDivisionError), push:
            raise ZeroDivisionError
        assert pull.recv().payload == b"1"


class TestTimer:
    """In asyncio a timer looks at the clock."""

    @pytest.fixture
    def ends(self, plain, world, link):
        """Makes Alice's end for asyncio, and Bob's for threads."""

        def make(bundling: Bundling, *, hwm: int = 1000, **options):
            alice = aio.SecureSocket(
                plain(zmq.PUSH, zmq.asyncio.Socket),
                sealer=world.sealer(**options),
                bundling=bundling,
            )
            bob = SecureSocket(plain(zmq.PULL), opener=world.opener())
            alice.socket.sndhwm = bob.socket.rcvhwm = hwm
            link(bob, alice)
            return alice, bob

        return make

    @staticmethod
    async def arrival(bob) -> list[bytes]:
        """Receive a bundle, while the loop goes on."""
        async with asyncio.timeout(10):
            while not bob.poll(0):  # noqa: ASYNC110 (a socket has no Event)
                await asyncio.sleep(0.001)
        return [message.payload for message in bob.recv_bundle()]

    def test_what_waits_goes_by_itself(self, ends):
        async def story() -> None:
            alice, bob = ends(Bundling(max_delay=0.01))
            async with alice:
                for number in range(3):
                    await alice.send(b"%d" % number)
                    await alice.send(b"more")
                    assert await self.arrival(bob) == [b"%d" % number, b"more"]

        asyncio.run(story())

    def test_each_topic_goes_when_it_is_due(self, ends, later):
        async def story() -> None:
            alice, bob = ends(Bundling(max_delay=0.02))
            async with alice:
                await alice.send(b"1", "a")
                later(0.01)
                await alice.send(b"2", "b")
                assert await self.arrival(bob) == [b"1"]
                assert await self.arrival(bob) == [b"2"]

        asyncio.run(story())

    def test_what_had_no_room_goes_when_there_is_some_though_nothing_else_is_due(self, ends):
        async def story() -> None:
            alice, bob = ends(Bundling(max_count=2, max_delay=60), hwm=1)
            async with alice:
                await alice.send(b"waits for long", "other")
                sent = 0
                with contextlib.suppress(zmq.Again):
                    for sent in range(50):
                        await alice.send(b"%d" % sent, flags=zmq.NOBLOCK)
                got = []
                while len(got) < sent:
                    got += await self.arrival(bob)
                assert got == [b"%d" % number for number in range(sent)]

        asyncio.run(story())

    def test_it_outlives_the_loop(self, ends):
        alice, bob = ends(Bundling(max_delay=0.01))

        async def first() -> None:
            await alice.send(b"1")
            await alice.flush()

        async def second() -> None:
            assert await self.arrival(bob) == [b"1"]
            await alice.send(b"2")
            assert await self.arrival(bob) == [b"2"]

        asyncio.run(first())
        asyncio.run(second())
        alice.close()

    def test_a_socket_whose_loop_is_over_is_closed_and_sends_what_waits(self, ends):
        alice, bob = ends(SLOW)
        asyncio.run(alice.send(b"1"))
        alice.close()
        assert bob.recv().payload == b"1"

    @pytest.mark.parametrize("closes", [True, False], ids=["wrapper", "inside"])
    def test_it_ends_with_the_socket(self, ends, caplog, closes):
        async def story() -> None:
            alice, _ = ends(Bundling(max_delay=0.001))
            await alice.send(b"1")
            (alice if closes else alice.socket).close()
            await asyncio.sleep(0.01)

        asyncio.run(story(), debug=True)
        assert caplog.text == ""

    def test_it_tells_of_what_it_could_not_send_once(self, ends, world, caplog):
        async def story() -> None:
            alice, _ = ends(Bundling(max_delay=0.001), to=[world.trust["bob"]])
            await alice.send(b"1")
            world.trust.replace([])
            while not caplog.records:  # noqa: ASYNC110 (nor has a log)
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            assert [record.getMessage() for record in caplog.records] == [
                "what was collected could not be sent: " + caplog.records[0].args[0].args[0]
            ]
            with pytest.raises(UsageError):
                await alice.aclose()

        asyncio.run(story())

    def test_a_send_that_is_cancelled_while_it_waits_for_room_loses_and_doubles_nothing(self, ends):
        async def story() -> None:
            alice, bob = ends(Bundling(max_count=1), hwm=1)
            async with alice:
                taken = []
                for number in range(12):
                    task = asyncio.create_task(alice.send(b"%d" % number))
                    await asyncio.sleep(0.002)
                    if not task.cancel():
                        taken.append(b"%d" % number)
                    await asyncio.wait([task])
                got = await self.arrival(bob)
                while await self.is_there(bob):
                    got += (bob.recv_bundle()[0].payload,)
                # The first that found no room was taken, and then cancelled.
                assert got[: len(taken)] == taken
                assert got == [b"%d" % number for number in range(len(taken) + 1)]

        asyncio.run(story())

    @staticmethod
    async def is_there(bob) -> bool:
        await asyncio.sleep(0.01)
        return bob.poll(20)

    def test_tasks_that_send_at_once_do_so_in_their_own_order(self, ends):
        async def story() -> None:
            alice, bob = ends(Bundling(max_count=3, max_delay=0.001), hwm=1)
            got: dict[bytes, list[int]] = {b"a": [], b"b": [], b"c": []}

            async def send(topic: bytes) -> None:
                for number in range(40):
                    await alice.send(b"%d" % number, topic)
                    await asyncio.sleep(0)

            async with alice, asyncio.TaskGroup() as group:
                for topic in got:
                    group.create_task(send(topic))
                while sum(map(len, got.values())) < 120:
                    if bob.poll(0):
                        message = bob.recv()
                        got[message.topic].append(int(message.payload))
                    await asyncio.sleep(0)
            assert got == {topic: list(range(40)) for topic in got}

        asyncio.run(story())
