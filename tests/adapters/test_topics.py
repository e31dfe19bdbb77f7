"""A publisher has a stream for each of its first topics: gap figures are true (SPEC 8.9)."""

from __future__ import annotations

import pytest
import zmq

TOPICS = [b"topic %02d" % number for number in range(32)]


@pytest.fixture
def publisher(secure, world):
    return secure(zmq.PUB, sealer=world.sealer())


@pytest.fixture
def subscriber(secure, world, link, meet, publisher):
    subscriber = secure(zmq.SUB, opener=world.opener())
    link(publisher, subscriber)
    meet(publisher, subscriber)
    return subscriber


def test_each_topic_has_a_stream_that_begins_at_its_first_message(publisher, subscriber):
    for topic in (b"a", b"b", None, b"a", b"", b"b", "a", None):
        publisher.send(b"payload", topic)
    got = [subscriber.recv() for _ in range(8)]
    assert [message.sequence for message in got] == [0, 0, 0, 1, 0, 1, 2, 1]
    streams = {message.topic: message.stream for message in got}
    assert len(set(streams.values())) == 4
    assert all(message.stream == streams[message.topic] for message in got)
    assert {message.skipped for message in got} == {0}


@pytest.mark.audit("A21")
def test_a_subscriber_to_some_topics_sees_no_gaps_but_the_real_ones(
    secure, world, publisher, subscriber, link, meet
):
    some = secure(zmq.SUB, opener=world.opener(world.carol))
    some.socket.unsubscribe(b"")
    some.socket.subscribe(b"eu")
    link(publisher, some)
    meet(publisher, some, topic=b"eu")
    for _ in range(5):
        for topic in ("us", "eu.1", "eu.2", None):
            publisher.send(b"payload", topic)
        publisher.send_many([b"one", b"two"], "eu.1")
    got = [some.recv_bundle()[0] for _ in range(15)]
    assert {message.topic for message in got} == {b"eu.1", b"eu.2"}
    assert {message.skipped for message in got} == {0}
    # One that does not arrive is missed in its own topic.
    some.socket.unsubscribe(b"eu")
    some.socket.subscribe(b"eu.1")
    publisher.send(b"payload", "eu.1")
    assert some.recv().skipped == 0
    counts = some.stats.senders["alice"]
    assert (counts.skipped, counts.missing, counts.lost, counts.unseen) == (0, 0, 0, 0)


def test_topics_beyond_the_first_32_share_the_stream_of_messages_without_topic(
    publisher, subscriber
):
    for topic in (*TOPICS, b"33rd", b"34th", None, b"33rd", TOPICS[0], TOPICS[31]):
        publisher.send(b"payload", topic)
    got = [subscriber.recv() for _ in range(38)]
    own, shared, again = got[:32], got[32:36], got[36:]
    assert len({message.stream for message in own}) == 32
    assert [message.sequence for message in own] == [0] * 32
    assert len({message.stream for message in [*own, *shared]}) == 33
    assert len({message.stream for message in shared}) == 1
    assert [message.sequence for message in shared] == [0, 1, 2, 3]
    assert [message.stream for message in again] == [own[0].stream, own[31].stream]
    assert [message.sequence for message in again] == [1, 1]
    # All of them stay within what a receiver remembers of one sender.
    assert subscriber.stats.senders["alice"].streams == 33
    assert subscriber.stats.refused == {}


def test_the_streams_of_two_lives_of_a_publisher_evict_none_that_is_alive(
    secure, world, link, meet, publisher, subscriber
):
    """32 topics and one for the rest, twice, are two more than a receiver remembers."""
    everything = [*TOPICS, None]
    for topic in everything:
        publisher.send(b"first life", topic)
    first = [subscriber.recv() for _ in everything]
    assert len({message.stream for message in first}) == 33
    second = secure(zmq.PUB, sealer=world.sealer())
    link(second, subscriber)
    meet(second, subscriber)
    for _ in range(3):
        world.clock.advance(1)
        for topic in everything:
            second.send(b"second life", topic)
    got = [subscriber.recv() for _ in range(99)]
    assert {message.payload for message in got} == {b"second life"}
    assert {message.skipped for message in got} == {0}
    assert subscriber.stats.refused == {}


@pytest.mark.parametrize("kind", [zmq.PUSH, zmq.PAIR])
def test_other_sockets_have_one_stream_whatever_the_topic(secure, world, link, kind):
    sends = secure(kind, sealer=world.sealer())
    receives = secure({zmq.PUSH: zmq.PULL}.get(kind, kind), opener=world.opener())
    link(receives, sends)
    for topic in (b"a", None, b"b", b"a"):
        sends.send(b"payload", topic)
    got = [receives.recv() for _ in range(4)]
    assert [message.sequence for message in got] == [0, 1, 2, 3]
    assert len({message.stream for message in got}) == 1
    assert [message.topic for message in got] == [b"a", None, b"b", b"a"]
