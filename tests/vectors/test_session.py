"""session.json through the package, and sessions between the package and the reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sides import CONTEXT, Side
from support import START
from vectors import session as reference
from vectors.reference import Identity as ReferenceIdentity
from vectors.reference import context_hash, u64

from envelope import Identity
from envelope.session import Timing, channel, cipher, handshake, hint, noise, wire
from envelope.session.channel import Channel, frames_of, message_id
from envelope.session.timing import Times
from envelope.session.wire import Grant, Offer

ROWS = json.loads((Path(__file__).parent / "session.json").read_text(encoding="utf-8"))["sessions"]
each_row = pytest.mark.parametrize("row", ROWS, ids=[row["context"][:8] for row in ROWS])


@pytest.fixture(params=[cipher.openssl(), cipher.libsodium()], ids=lambda one: one.by, autouse=True)
def by(request, monkeypatch):
    """Run each test with each cipher."""
    for module in (channel, noise):
        monkeypatch.setattr(module, "encrypt", request.param.encrypt)
        monkeypatch.setattr(module, "decrypt", request.param.decrypt)


def unhex(row, *names):
    values = [bytes.fromhex(row[name]) for name in names]
    return values[0] if len(values) == 1 else values


def finished(row):
    """Return initiation and response as the package writes them, and the keys of both ends."""
    initiator, responder = map(Identity, unhex(row, "initiator", "responder"))
    ctx, e_i, e_r = unhex(row, "ctx", "initiator_ephemeral", "responder_ephemeral")
    numbers = row["sequence"], row["sent_at"]
    offer = Offer(*unhex(row, "initiator_session", "initiator_stream"), *numbers)
    grant = Grant(unhex(row, "responder_session"), row["sent_at"], unhex(row, "responder_stream"))
    asked = handshake.begin(initiator, responder.public, ctx, offer, ephemeral=e_i, now=0)
    request = handshake.Request(responder, initiator.public, ctx, asked.data, e_r)
    assert request.offer == offer
    response, theirs = request.grant(grant)
    granted, ours = asked.finish(response)
    assert granted == grant
    return asked.data, response, ours, theirs


@pytest.mark.audit("M2", "C2")
@each_row
def test_the_handshakes(row):
    initiation, response, ours, theirs = finished(row)
    assert initiation == unhex(row, "initiation")
    assert response == unhex(row, "response")
    assert ours.hash == theirs.hash == unhex(row, "handshake_hash")
    keys = unhex(row["keys"], "initiator", "responder")
    assert [ours.send, ours.receive] == keys == [theirs.receive, theirs.send]


@pytest.mark.audit("M2", "C1")
@each_row
def test_the_messages(row):
    _, _, ours, theirs = finished(row)
    ids = unhex(row, "initiator_session", "responder_session")
    ends = {}
    for name, keys, (our_id, their_id) in (
        ("initiator", ours, ids),
        ("responder", theirs, ids[::-1]),
    ):
        ends[name] = Channel(
            keys,
            our_id=our_id,
            their_id=their_id,
            is_initiator=name == "initiator",
            born=0,
            times=Times.of(Timing()),
            began_at=0,
            window=64,
        )
        assert ends[name].our_stream == unhex(row["streams"], name)
    for one in row["messages"]:
        sender = ends[one["from"]]
        receiver = next(end for end in ends.values() if end is not sender)
        plaintext, data = unhex(one, "plaintext", "data")
        frames = frames_of(tuple(map(bytes.fromhex, one["bound"])))
        sender._take = iter([one["counter"]]).__next__
        assert sender.seal(plaintext, frames, one["flags"]) == data
        wire.check_flags(one["flags"], len(data))
        assert receiver.open(data, one["counter"], frames)[0] == plaintext
        assert message_id(receiver.their_stream, one["counter"]) == unhex(one, "id")


@pytest.mark.audit("M2")
@each_row
def test_the_hints(row):
    responder = Identity(unhex(row, "responder"))
    ctx, made = unhex(row, "ctx", "hint")
    assert hint.make(responder, ctx, unhex(row["messages"][0], "data")) == made
    assert hint.is_genuine(made, responder.public, ctx)


class Other:
    """Bob by the reference, with Alice's manager at the other end."""

    def __init__(self):
        self.side = Side("alice", "bob")
        self.bob = ReferenceIdentity(Side("bob", "alice").identity._seed)
        self.alice = self.side.identity.public.public
        self.ctx = context_hash(CONTEXT, ())

    def noise(self, head, initiator, responder):
        both = reference.prologue(self.ctx, initiator, responder, head)
        return reference.Noise(self.bob, b"e" * 32, both, responder[32:])


@pytest.mark.audit("M2")
def test_a_manager_asks_the_reference_for_a_session():
    other = Other()
    (initiation,) = other.side.send(b"payload", bound=[b"t"])
    noise = other.noise(initiation[:38], other.alice, other.bob.pub)
    ephemeral, static, offer = noise.read_first(initiation[38:])
    assert static == other.alice[32:]
    assert offer[24:] == u64(0) + u64(START)
    payload = b"bobs_id!" + u64(START) + bytes(16)
    response = reference.start(reference.RESPONSE) + offer[:8]
    response += noise.write_second(ephemeral, static, payload)
    assert other.side.hear(response) is None
    (data,) = other.side.out()
    ours, theirs = noise.split()
    assert data[12:20] == b"bobs_id!"
    assert reference.unseal(ours, data, [b"t"]) == b"payload"
    answer = reference.seal(theirs, offer[:8], 0, [], 0, b"answer")
    message = other.side.manager.receive(answer)
    assert message.payload == b"answer"
    assert message.id == reference.message_id(reference.streams(noise.h)[1], 0)
    other.side.mono.advance(1)
    assert other.side.hear(reference.hint(other.bob, other.ctx, data)) is None
    assert [len(one) for one in other.side.out()] == [174]


@pytest.mark.audit("M2")
def test_the_reference_asks_a_manager_for_a_session():
    other = Other()
    head = reference.start(reference.INITIATION) + other.bob.key_id + other.side.identity.key_id
    noise = other.noise(head, other.bob.pub, other.alice)
    offer = b"bobs_id!" + bytes(16) + u64(7) + u64(START)
    assert other.side.hear(head + noise.write_first(other.alice[32:], offer)) is None
    (response,) = other.side.out()
    assert response[:14] == reference.start(reference.RESPONSE) + b"bobs_id!"
    grant = noise.read_second(response[14:])
    assert grant[8:16] == u64(START)
    ours, theirs = noise.split()
    assert other.side.hear(reference.seal(ours, grant[:8], 0, [], 0, b"payload")) == b"payload"
    answer = other.side.manager.send(b"answer")
    assert reference.unseal(theirs, answer, []) == b"answer"
