"""What is sent arrives: every pattern, over every transport, in both kinds of socket."""

from __future__ import annotations

import time

import pytest
import zmq
from support import identity

from envelope import Peer, TrustStore, UsageError, codec

BOB = identity("bob")
TRANSPORTS = ["tcp", "ipc", "inproc"]


@pytest.fixture
def pipe(secure, world, link):
    """Makes a PUSH of Alice's and a PULL of Bob's that are connected."""

    def make(*, to=(), transport="inproc", **options):
        push = secure(zmq.PUSH, sealer=world.sealer(to=to))
        pull = secure(zmq.PULL, opener=world.opener(**options))
        link(pull, push, transport=transport)
        return push, pull

    return make


@pytest.mark.parametrize("to", [(), (BOB.public,)], ids=["signed", "sealed"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_is_pushed_is_pulled_in_order(pipe, transport, to):
    push, pull = pipe(to=to, transport=transport)
    sent = [b"one", b"", b"x" * 100_000]
    for payload in sent:
        push.send(payload)
    got = [pull.recv() for _ in sent]
    assert [message.payload for message in got] == sent
    assert [message.sequence for message in got] == [0, 1, 2]
    assert {message.sender.name for message in got} == {"alice"}
    assert {message.sealed for message in got} == {bool(to)}
    assert {message.topic for message in got} == {None}
    assert (pull.stats.accepted, pull.stats.refused) == (3, {})


@pytest.mark.parametrize("to", [(), (BOB.public,)], ids=["signed", "sealed"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_subscriber_gets_the_topics_that_begin_as_it_asked(
    secure, world, link, meet, transport, to
):
    publisher = secure(zmq.PUB, sealer=world.sealer(to=to))
    subscriber = secure(zmq.SUB, opener=world.opener())
    subscriber.socket.unsubscribe(b"")
    subscriber.socket.subscribe(b"eu.")
    link(publisher, subscriber, transport=transport)
    meet(publisher, subscriber, topic=b"eu.")
    for topic in (b"us.1", b"eu.1", "eu.zürich", b"eu", None, b"eu.1"):
        publisher.send(b"payload", topic)
    got = [subscriber.recv() for _ in range(3)]
    assert [message.topic for message in got] == [b"eu.1", "eu.zürich".encode(), b"eu.1"]
    assert {message.payload for message in got} == {b"payload"}
    assert subscriber.stats.refused == {}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_pair_talks_both_ways(secure, world, link, transport):
    alice = secure(zmq.PAIR, sealer=world.sealer(to=[BOB.public]), opener=world.opener(world.alice))
    bob = secure(
        zmq.PAIR,
        sealer=world.sealer(world.bob, to=[world.alice.public]),
        opener=world.opener(world.bob),
    )
    link(alice, bob, transport=transport)
    alice.send(b"question", "topic")
    question = bob.recv()
    assert (question.payload, question.topic, question.sender.name) == (
        b"question",
        b"topic",
        "alice",
    )
    bob.send_many([b"answer", b"more"])
    answer, more = alice.recv_bundle()
    assert (answer.payload, more.payload, answer.sender.name) == (b"answer", b"more", "bob")


@pytest.mark.audit("A13")
def test_a_peer_is_held_to_its_topics(secure, world, link, meet):
    world.trust = TrustStore(
        [Peer("alice", world.alice.public, contexts=["orders"], topics=["eu."])]
    )
    publisher = secure(zmq.PUB, sealer=world.sealer())
    subscriber = secure(zmq.SUB, opener=world.opener())
    link(publisher, subscriber)
    meet(publisher, subscriber)
    for topic in ("us.1", None, "eu.1"):
        publisher.send(b"payload", topic)
    assert subscriber.recv().topic == b"eu.1"
    assert subscriber.stats.refused == {"not_trusted": 2}


class TestBundles:
    @pytest.mark.parametrize(
        ("sizes", "bundles"),
        [
            ([1] * 600, [256, 256, 88]),
            ([0] * 257, [256, 1]),
            ([32_768, 32_768], [2]),
            ([32_768, 32_769], [1, 1]),
            ([30_000] * 5, [2, 2, 1]),
            ([65_536, 0, 1], [2, 1]),
            ([70_000, 1, 70_000, 1], [1, 1, 1, 1]),
            ([5], [1]),
        ],
    )
    def test_many_are_sent_in_bundles_of_at_most_256_and_64_kib(self, pipe, sizes, bundles):
        push, pull = pipe()
        sent = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
        push.send_many(sent)
        got = [pull.recv_bundle() for _ in bundles]
        assert [len(bundle) for bundle in got] == bundles
        assert [message.payload for bundle in got for message in bundle] == sent
        assert [bundle[0].sequence for bundle in got] == list(range(len(bundles)))
        assert not pull.poll(0)

    def test_no_payloads_are_no_bundle_and_take_no_sequence(self, pipe):
        push, pull = pipe()
        push.send_many([])
        push.send(b"first")
        assert pull.recv().sequence == 0

    def test_a_tuple_is_as_good_as_a_list(self, pipe):
        push, pull = pipe()
        push.send_many((b"a", b"b"))
        assert [message.payload for message in pull.recv_bundle()] == [b"a", b"b"]

    def test_a_bundle_is_received_one_by_one(self, pipe):
        push, pull = pipe(to=[BOB.public])
        push.send_many([b"a", b"b", b"c"], "topic")
        push.send(b"d")
        got = [pull.recv() for _ in range(4)]
        assert [message.payload for message in got] == [b"a", b"b", b"c", b"d"]
        assert [message.index for message in got] == [0, 1, 2, 0]
        assert [message.sequence for message in got] == [0, 0, 0, 1]
        assert [message.topic for message in got] == [b"topic"] * 3 + [None]
        assert (pull.stats.accepted, pull.stats.messages) == (2, 4)

    def test_what_is_left_of_a_bundle_is_a_bundle(self, pipe):
        push, pull = pipe()
        push.send_many([b"a", b"b", b"c"])
        push.send(b"d")
        assert pull.recv().payload == b"a"
        assert [message.payload for message in pull.recv_bundle()] == [b"b", b"c"]
        assert [message.payload for message in pull.recv_bundle()] == [b"d"]

    def test_a_bundle_of_more_than_we_send_is_received(self, pipe, world, plain, link):
        _, pull = pipe()
        other = plain(zmq.PUSH)
        link(other, pull)
        other.send(world.sealer().seal_bundle([b"x"] * 4096))
        assert len(pull.recv_bundle()) == 4096

    @pytest.mark.parametrize("topic", ["news", b"news", b""])
    def test_a_bundle_is_bound_to_its_topic(self, secure, world, link, meet, topic):
        publisher = secure(zmq.PUB, sealer=world.sealer())
        subscriber = secure(zmq.SUB, opener=world.opener())
        link(publisher, subscriber)
        meet(publisher, subscriber)
        publisher.send_many([b"a", b"b"], topic)
        name = topic.encode() if isinstance(topic, str) else topic
        assert [message.bound for message in subscriber.recv_bundle()] == [(name,)] * 2


class TestPoll:
    def test_it_is_false_while_there_is_nothing(self, pipe):
        _, pull = pipe()
        assert pull.poll(0) is False
        assert pull.poll(5) is False

    def test_it_sees_what_has_arrived(self, pipe):
        push, pull = pipe()
        push.send(b"a")
        assert pull.poll(5_000) is True
        assert pull.poll() is True
        assert pull.poll(0) is True

    def test_it_sees_what_is_left_of_a_bundle(self, pipe, bare):
        push, pull = pipe()
        push.send_many([b"a", b"b"])
        pull.recv()
        assert not bare(pull).poll(0)
        assert pull.poll(0) is True
        assert pull.poll() is True
        pull.recv()
        assert pull.poll(0) is False

    def test_it_waits_as_long_as_it_was_told_whatever_rcvtimeo_says(self, pipe):
        _, pull = pipe()
        pull.socket.rcvtimeo = 1
        assert pull.poll(30) is False


class TestObjects:
    @pytest.mark.parametrize(
        "value",
        [None, True, -5, 1.5, "text", b"bytes", [1, [2]], {"key": {"a": [None]}}],
        ids=repr,
    )
    def test_an_object_arrives_as_it_was_sent(self, pipe, value):
        push, pull = pipe()
        push.send_object(value, "topic")
        got = pull.recv_object()
        assert (got, type(got)) == (value, type(value))

    def test_an_object_that_has_no_encoding_is_not_sent(self, pipe):
        push, pull = pipe()
        with pytest.raises(UsageError, match="cannot encode"):
            push.send_object({1, 2})
        push.send_object("first")
        message = pull.recv()
        assert (message.sequence, message.object()) == (0, "first")

    def test_the_objects_of_a_bundle_come_one_by_one(self, pipe):
        push, pull = pipe()
        push.send_many([codec.encode_object(value) for value in (1, "two")])
        assert [pull.recv_object() for _ in range(2)] == [1, "two"]


class TestSending:
    def test_what_the_socket_did_not_take_is_a_gap(self, secure, world, link):
        push = secure(zmq.PUSH, sealer=world.sealer())
        start = time.monotonic()
        for send in (push.send, push.send_object):
            with pytest.raises(zmq.Again):
                send(b"nobody is connected", flags=zmq.NOBLOCK)
        with pytest.raises(zmq.Again):
            push.send_many([b"nobody"], flags=zmq.NOBLOCK)
        assert time.monotonic() - start < push.socket.sndtimeo / 1000
        pull = secure(zmq.PULL, opener=world.opener())
        link(pull, push)
        push.send(b"somebody")
        assert pull.recv().skipped == 3

    def test_sndtimeo_is_honoured(self, secure, world):
        push = secure(zmq.PUSH, sealer=world.sealer())
        push.socket.sndtimeo = 5
        with pytest.raises(zmq.Again):
            push.send(b"nobody is connected")


def test_closing_closes_the_socket_inside(pipe):
    for one in pipe():
        assert not one.socket.closed
        one.close()
        assert one.socket.closed


@pytest.mark.parametrize("linger", [0, None])
def test_closing_waits_for_unsent_messages_as_long_as_it_is_told(secure, world, tmp_path, linger):
    """By the argument, or by the socket's own option."""
    push = secure(zmq.PUSH, sealer=world.sealer())
    push.socket.linger = 0 if linger is None else 5_000
    push.socket.connect(f"ipc://{tmp_path}/nobody")
    push.send(b"nobody will have it")
    start = time.monotonic()
    push.close(linger)
    push.socket.context.term()
    assert time.monotonic() - start < 3
