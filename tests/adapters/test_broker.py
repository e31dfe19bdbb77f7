"""Through a broker that has no key: what it changes, repeats or drops is noticed.

The broker is a plain XSUB and XPUB in a thread of its own, over tcp.
"""

from __future__ import annotations

import pytest
import zmq
from support import flip, identity

BOB, CAROL = identity("bob"), identity("carol")


@pytest.fixture
def told():
    return []


@pytest.fixture
def publisher(secure, world):
    return secure(zmq.PUB, sealer=world.sealer())


@pytest.fixture
def subscriber(secure, world, told):
    return secure(zmq.SUB, opener=world.opener(), on_rejected=told.append)


@pytest.fixture
def through(broker, meet, publisher, subscriber):
    started = broker(publisher, subscriber)
    meet(publisher, subscriber)
    started.seen.clear()
    return started


@pytest.mark.parametrize("to", [(), (BOB.public, CAROL.public)], ids=["signed", "sealed"])
def test_an_honest_broker_is_not_noticed(secure, world, broker, meet, to):
    publisher = secure(zmq.PUB, sealer=world.sealer(to=to))
    bob, carol = (
        secure(zmq.SUB, opener=world.opener(who), on_rejected=pytest.fail)
        for who in (world.bob, world.carol)
    )
    broker(publisher, bob, carol)
    meet(publisher, bob, carol)
    publisher.send(b"payload", "topic")
    publisher.send_many([b"many", b"more"], "topic")
    for one in (bob, carol):
        got = [one.recv() for _ in range(3)]
        assert [message.payload for message in got] == [b"payload", b"many", b"more"]
        assert {message.sender.name for message in got} == {"alice"}


CHANGES = {
    "another topic": lambda topic, data: [b"eu.fr", data],
    "a longer topic": lambda topic, data: [topic + b".berlin", data],
    "a shorter topic": lambda topic, data: [topic[:-1], data],
    "an empty topic": lambda _, data: [b"", data],
    "no topic": lambda _, data: [data],
    "the topic twice": lambda topic, data: [topic, topic, data],
    "one frame more": lambda topic, data: [topic, b"", data],
    "one frame before": lambda topic, data: [b"", topic, data],
    "two frames of one": lambda topic, data: [topic[:2], topic[2:], data],
    "another payload": lambda topic, data: [topic, flip(data, -65)],
    "another signature": lambda topic, data: [topic, flip(data, -1)],
    "a topic in the envelope": lambda topic, data: [topic + data],
    "the envelope first": lambda topic, data: [data, topic],
    "the envelope cut": lambda topic, data: [topic, data[:-1]],
    "the envelope in two": lambda topic, data: [topic, data[:100], data[100:]],
}
MALFORMED = {"a topic in the envelope", "the envelope first", "the envelope in two"}


@pytest.mark.audit("A1", "A2", "A5", "A21")
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_broker_changes_is_refused_and_missed(through, publisher, subscriber, told, change):
    through.change = lambda frames: [CHANGES[change](*frames) if len(through.seen) == 1 else frames]
    publisher.send(b"payload", "eu.de")
    publisher.send(b"honest", "eu.de")
    message = subscriber.recv()
    assert (message.payload, message.topic) == (b"honest", b"eu.de")
    assert (message.sequence, message.skipped) == (1, 1)
    assert [error.code for error in told] == [
        "malformed" if change in MALFORMED else "bad_signature"
    ]


@pytest.mark.audit("A5")
@pytest.mark.parametrize("topic", [b"topic", b""])
def test_a_topic_that_a_broker_adds_is_refused(through, publisher, subscriber, told, topic):
    through.change = lambda frames: [[topic, *frames], frames]
    publisher.send(b"payload")
    assert subscriber.recv().topic is None
    assert [error.code for error in told] == ["bad_signature"]


@pytest.mark.audit("A3")
def test_what_a_broker_repeats_is_delivered_once(through, publisher, subscriber, told):
    through.change = lambda frames: through.seen * 2 if len(through.seen) < 5 else [frames]
    for number in range(5):
        publisher.send(b"%d" % number, "topic")
    assert [subscriber.recv().payload for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    assert [error.code for error in told] == ["replayed"] * 16


@pytest.mark.audit("A21")
def test_what_a_broker_drops_is_a_gap(through, publisher, subscriber):
    through.change = lambda frames: [] if len(through.seen) in (2, 3) else [frames]
    for _ in range(4):
        publisher.send(b"payload", "topic")
    assert [subscriber.recv().skipped for _ in range(2)] == [0, 2]
    counts = subscriber.stats.senders["alice"]
    assert (counts.skipped, counts.missing) == (2, 2)


@pytest.mark.audit("A16")
def test_what_a_broker_invents_does_not_stop_the_loop(through, publisher, subscriber, told):
    through.change = lambda frames: [*([b"topic", b"garbage"] for _ in range(200)), frames]
    for number in range(3):
        publisher.send(b"%d" % number, "topic")
    assert [subscriber.recv().payload for _ in range(3)] == [b"0", b"1", b"2"]
    assert subscriber.stats.refused == {"malformed": 600}
    assert len(told) == 600
