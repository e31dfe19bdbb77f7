"""What people set up wrongly is told in one line, at once, over real sockets.

Clocks stand still unless a story moves them; what is waited for is waited for one second.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import zmq
from crafting import craft
from support import SECOND, START, World, flip, identity

from envelope import Identity, Peer, Policy, RejectedError, TrustStore
from envelope.stats import LOG_EVERY
from envelope.zeromq import SecureSocket

ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")
NEW = identity("alice, set up anew")
HOUR = 3600
NOW = datetime.fromtimestamp(START // SECOND, UTC)
PATTERNS = {"PUSH-PULL": (zmq.PULL, zmq.PUSH), "PUB-SUB": (zmq.SUB, zmq.XPUB)}
"""Who receives, and who sends. An XPUB is a PUB that can wait for its SUB."""


@pytest.fixture
def world(caplog):
    caplog.set_level(logging.DEBUG)
    return World()


@pytest.fixture
def lines(caplog):
    """Returns what the log has said since it was asked last."""

    def read():
        said = [record.getMessage() for record in caplog.records]
        assert {(record.name, record.levelname) for record in caplog.records} <= {
            ("envelope.opener", "WARNING")
        }
        caplog.clear()
        return said

    return read


@pytest.fixture
def connect():
    """Makes one who receives and some who send to it: ``connect(opener, sealer, ...)``."""
    context = zmq.Context()
    opened = []

    def plain(kind):
        opened.append(context.socket(kind))
        opened[-1].linger = 0
        return opened[-1]

    def make(opener, *sealers, pattern="PUSH-PULL"):
        receives, sends = PATTERNS[pattern]
        inside = plain(receives)
        inside.rcvtimeo = 1000  # What is loud is loud within a second.
        if receives == zmq.SUB:
            inside.subscribe(b"")
        senders = []
        for sealer in sealers:
            socket = plain(sends)
            inside.connect(f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}")
            if sends == zmq.XPUB:
                socket.rcvtimeo = 5000
                assert socket.recv() == b"\1"
            senders.append(SecureSocket(socket, sealer=sealer))
        return SecureSocket(inside, opener=opener), *senders

    yield make
    for socket in opened:
        socket.close()
    context.term()


def refused(receiver) -> str:
    """Receive what is refused, and return its code."""
    with pytest.raises(RejectedError) as told:
        receiver.recv(strict=True)
    return told.value.code


class Story(NamedTuple):
    """What is set up wrongly, and what its line has to say."""

    code: str
    says: tuple[str, ...]
    who: Identity = ALICE
    peer: Mapping[str, Any] = MappingProxyType({})
    """What Bob's trust store has of Alice beside the usual."""
    ahead: float = 0
    """Of the sender's clock, in seconds."""
    sealer: Mapping[str, Any] = MappingProxyType({})
    opener: Mapping[str, Any] = MappingProxyType({})


STORIES = {
    "a wrong key": Story(
        "unknown_sender",
        (
            f"claimed sender {NEW.key_id.hex()};",
            "no peer in the trust store has this key id",
            "add the sender's envpub1... text to it",
        ),
        who=NEW,
    ),
    "a sender that nobody entered": Story(
        "unknown_sender",
        (f"claimed sender {CAROL.key_id.hex()};", "`envelope public KEY --key-id` there tells"),
        who=CAROL,
    ),
    "a clock that is behind": Story(
        "stale",
        ("(alice)", "3600.000 s old; max_age is 30.0 s; compare the clocks", "is behind this one"),
        ahead=-HOUR,
    ),
    "a clock that is ahead": Story(
        "future",
        ("(alice)", "stamped 3600.000 s ahead; max_future is 2.0 s", "this one is behind"),
        ahead=HOUR,
    ),
    "a context with a typing error": Story(
        "bad_signature",
        ("(alice)", "context 'orders'", "compare context and topic of both ends"),
        sealer={"context": "order"},
    ),
    "a context that was not permitted": Story(
        "not_trusted",
        ("(alice)", "'alice' may not send in the context 'orders', only in 'invoices', 'stock.*'"),
        peer={"contexts": ["invoices", "stock.*"]},
    ),
    "a date that has passed": Story(
        "not_trusted",
        ("(alice)", "'alice' has expired; not_after is 2027-01-15 06:00:00+00:00"),
        peer={"not_after": NOW - timedelta(hours=2)},
    ),
    "a date that has not come": Story(
        "not_trusted",
        ("(alice)", "'alice' is not valid yet; not_before is 2027-01-15 10:00:00+00:00"),
        peer={"not_before": NOW + timedelta(hours=2)},
    ),
    "a sender that was revoked": Story(
        "not_trusted", ("(alice)", "'alice' is revoked"), peer={"revoked": True}
    ),
    "a recipient of another day": Story(
        "not_addressed",
        ("(alice)", "does the sender name this end, by its key of today, in to=[...]?"),
        sealer={"to": [CAROL.public]},
    ),
    "a sender that does not seal": Story(
        "policy",
        ("(alice)", "signed only; sealed is required, which the sender does with to=[...]"),
        opener={"policy": Policy(require="sealed")},
    ),
    "an identity that two ends share": Story(
        "reflected",
        (BOB.key_id.hex(), "or has the sender the same identity?"),
        who=BOB,
    ),
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("title", STORIES)
def test_what_is_set_up_wrongly_is_told_at_once_in_one_line(world, connect, lines, title, pattern):
    story = STORIES[title]
    usual = Peer("alice", ALICE.public, contexts=["orders"])
    peers = [dataclasses.replace(usual, **story.peer), Peer("bob", BOB.public, contexts=["*"])]
    opener = world.opener(trust=TrustStore(peers), **story.opener)
    world.clock.advance(story.ahead)
    sealer = world.sealer(story.who, **story.sealer)
    receiver, sender = connect(opener, sealer, pattern=pattern)
    for _ in range(3):
        sender.send(b"a secret", topic="eu")
    world.clock.advance(-story.ahead)
    assert [refused(receiver) for _ in range(3)] == [story.code] * 3
    (line,) = lines()
    assert line.startswith(f"envelope refused, {story.code}: ")
    for words in story.says:
        assert words in line
    assert line.isprintable()
    assert "secret" not in line
    assert receiver.stats.refused == {story.code: 3}
    assert receiver.stats.accepted == 0


def test_a_program_without_envelopes_is_told(world, connect, lines):
    receiver, sender = connect(world.opener(), world.sealer())
    sender.socket.send_multipart([b"eu", b"a secret, in the open"])
    assert refused(receiver) == "malformed"
    (line,) = lines()
    assert "no sender decoded" in line
    assert "does a program without envelopes send here?" in line
    assert "secret" not in line


def test_an_object_that_is_none_is_told_as_its_signers(world, connect, lines):
    receiver, sender = connect(world.opener(), world.sealer())
    sender.send(b"\xc1 a secret")
    with pytest.raises(RejectedError):
        receiver.recv_object(strict=True)
    (line,) = lines()
    assert f"signed by {ALICE.key_id.hex()} (alice)" in line
    assert "the sender sends something else than this end expects" in line
    assert "without envelopes" not in line
    assert "secret" not in line


class TestRemedies:
    """To do what the line says is enough."""

    def test_to_enter_the_sender(self, world, connect, lines):
        trust = TrustStore()
        receiver, sender = connect(world.opener(trust=trust), world.sealer())
        sender.send(b"1")
        assert refused(receiver) == "unknown_sender"
        assert len(lines()) == 1
        trust.replace([Peer("alice", ALICE.public, contexts=["orders"])])
        sender.send(b"2")
        assert receiver.recv().payload == b"2"

    def test_to_set_the_clock(self, world, connect, lines):
        receiver, sender = connect(world.opener(), world.sealer())
        world.clock.advance(-60)
        sender.send(b"1")
        world.clock.advance(60)
        assert refused(receiver) == "stale"
        assert len(lines()) == 1
        sender.send(b"2")
        assert receiver.recv().payload == b"2"

    def test_to_wait_after_a_start(self, world, connect, lines):
        opener = world.opener(replay=world.store(first_life=False))
        receiver, sender = connect(opener, world.sealer())
        sender.socket.send(craft(ALICE, b"1", sent_at=world.clock.now))
        assert refused(receiver) == "before_start"
        (line,) = lines()
        assert "(alice)" in line
        assert "it passes" in line
        world.clock.advance(2.001)
        sender.socket.send(craft(ALICE, b"2", sent_at=world.clock.now, sequence=1))
        assert receiver.recv().payload == b"2"


class TestRate:
    def test_a_mistake_that_goes_on_has_a_line_every_five_seconds(self, world, connect, lines):
        receiver, sender = connect(world.opener(), world.sealer(context="order"))
        said = []
        for _ in range(12):  # One each second.
            sender.send(b"x")
            assert refused(receiver) == "bad_signature"
            said += lines()
            world.clock.advance(1)
        assert len(said) == 3
        assert "more of this code" not in said[0]
        assert said[1].endswith("; 4 more of this code and sender since the last line")
        assert said[2].endswith("; 4 more of this code and sender since the last line")
        assert receiver.stats.refused == {"bad_signature": 12}

    @pytest.mark.audit("E3", "A16")
    def test_noise_in_the_name_of_one_peer_does_not_hide_another(self, world, connect, lines):
        receiver, noise, sender = connect(
            world.opener(), world.sealer(CAROL), world.sealer(context="order")
        )
        for number in range(200):
            noise.socket.send(flip(craft(CAROL, b"noise", sequence=number), -1))
            assert refused(receiver) == "bad_signature"
        assert [" (carol)" in line for line in lines()] == [True]
        sender.send(b"x")
        assert refused(receiver) == "bad_signature"
        (line,) = lines()
        assert " (alice)" in line
        assert receiver.stats.refused == {"bad_signature": 201}
        # And the noise goes on being told, as what it is.
        world.clock.advance(LOG_EVERY / SECOND)
        noise.socket.send(flip(craft(CAROL, b"noise", sequence=200), -1))
        assert refused(receiver) == "bad_signature"
        assert lines()[0].endswith("; 199 more of this code and sender since the last line")

    @pytest.mark.audit("E3")
    def test_what_a_stranger_writes_into_a_topic_is_not_in_the_log(self, world, connect, lines):
        receiver, sender = connect(world.opener(), world.sealer())
        topic = b"eu\n2027-01-15 WARNING all is well\x1b[2J\r" + bytes(10_000)
        sender.socket.send_multipart([topic, craft(ALICE, b"x")])
        sender.socket.send_multipart([topic, world.sealer(CAROL).seal(b"x")])
        sender.socket.send_multipart([topic, world.sealer(identity("mallory")).seal(b"x")])
        codes = [refused(receiver) for _ in range(3)]
        assert codes == ["bad_signature", "bad_signature", "unknown_sender"]
        said = lines()
        assert len(said) == 3
        for line in said:
            assert line.isprintable()
            assert "all is well" not in line
            assert len(line) < 500
