"""What a sealer writes is what the reference generates, byte for byte (SPEC 6).

Rules of this file: whatever differs between the two is a bug in one of them, or in
docs/SPEC.md.
"""

from __future__ import annotations

import pytest
from support import FakeClock, seeded
from vectors import reference
from vectors.reference import Identity as ReferenceIdentity
from vectors.reference import pack_bundle
from vectors.reference_opener import Receiver
from vectors.world import (
    ALICE,
    BOB,
    CAROL,
    NOW,
    STREAM,
    craft,
    epoch,
    fresh,
    identity,
)

from envelope import (
    Identity,
    PublicIdentity,
    Sealer,
    message_id,
)

CROWD = [identity(f"crowd-{number}") for number in range(256)]
TOPICS = [[], [b"topic"], [b"", b"a"], [bytes(300)]]


def package(who: ReferenceIdentity) -> Identity:
    return Identity(who.seed)


def public(who: ReferenceIdentity) -> PublicIdentity:
    return PublicIdentity(who.pub)


class Recorder:
    """A source of repeatable bytes that remembers what it gave, and when."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.source = seeded(7)
        self.given: list[tuple[int, bytes]] = []

    def __call__(self, size: int) -> bytes:
        self.given.append((self.clock.now, self.source(size)))
        return self.given[-1][1]


class Twin:
    """A sealer, and the reference generating the same from the same random bytes."""

    def __init__(self, to: list[ReferenceIdentity], *, is_sealed: bool) -> None:
        self.clock = FakeClock(NOW)
        self.random = Recorder(self.clock)
        self.to = [one.pub for one in to]
        self.sealer = Sealer(
            package(ALICE),
            context="orders",
            to=[public(one) for one in to],
            sealed=is_sealed,
            clock=self.clock,
            random=self.random,
        )
        self.stream = b""
        self.sequence = 0
        self.keys: reference.Epoch | None = None

    def expected(self, payload: bytes, options: dict[str, object]) -> bytes:
        """Generate by the reference what the sealer has just generated."""
        if self.sealer.stream == self.stream:
            self.sequence += 1
        else:
            self.stream, self.sequence = self.sealer.stream, 0
        for begun, piece in self.random.given:
            if len(piece) == 64:  # what a key epoch begins with
                self.keys = reference.new_epoch(ALICE, self.stream, piece, begun)
        _, random = self.random.given[-1]
        self.random.given.clear()
        return reference.generate(
            ALICE,
            "orders",
            payload,
            stream=self.stream,
            sequence=self.sequence,
            sent_at=self.clock.now,
            random=random,
            recipients=self.to,
            epoch=self.keys,
            **options,
        )

    def seal(self, payload: bytes, **options: object) -> bytes:
        made = self.sealer.seal(payload, **options)
        assert made == self.expected(payload, options)
        return made


AUDIENCES = pytest.mark.parametrize(
    ("count", "is_sealed"),
    [(0, False), (1, False), (20, False), (1, True), (2, True), (20, True), (256, True)],
)


@pytest.mark.audit("C6", "M2")
@AUDIENCES
def test_a_sealer_writes_what_the_reference_writes_from_the_same_randomness(count, is_sealed):
    twin = Twin([BOB, *CROWD][:count], is_sealed=is_sealed)
    for number, bound in enumerate(TOPICS):
        twin.clock.advance(0.001)
        made = twin.seal(b"payload %d" % number, bound=bound)
        twin.seal(b"reply", bound=bound, in_reply_to=message_id(made))
    for size in (0, 1, 1023, 1024, 1025, 5000):
        twin.seal(bytes(size))


@pytest.mark.audit("C6", "M2")
@AUDIENCES
def test_so_it_does_with_bundles(count, is_sealed):
    twin = Twin([BOB, *CROWD][:count], is_sealed=is_sealed)
    for payloads in ([b""], [b"one", b"two"], [bytes(300)] * 20, [bytes(70_000)]):
        made = twin.sealer.seal_bundle(payloads, bound=[b"topic"])
        options = {"bound": [b"topic"], "bundle": True}
        assert made == twin.expected(pack_bundle(payloads), options)


@pytest.mark.audit("A18", "A19")
def test_so_it_does_after_a_new_key_epoch_and_after_a_new_stream():
    twin = Twin([BOB], is_sealed=True)
    first = twin.seal(b"one")
    twin.clock.advance(599)
    same_epoch = twin.seal(b"two")
    twin.clock.advance(2)
    next_epoch = twin.seal(b"three")
    twin.clock.advance(-1)
    next_stream = twin.seal(b"four")
    assert first[24:40] == same_epoch[24:40] == next_epoch[24:40] != next_stream[24:40]
    assert first[80:208] == same_epoch[80:208] != next_epoch[80:208]
    assert [made[47] for made in (first, same_epoch, next_epoch, next_stream)] == [0, 1, 2, 0]


@AUDIENCES
def test_what_a_sealer_writes_opens_in_the_reference(count, is_sealed):
    clock = FakeClock(NOW)
    sealer = Sealer(
        package(ALICE),
        context="orders",
        to=[public(one) for one in [BOB, *CROWD][:count]],
        sealed=is_sealed,
        clock=clock,
    )
    receiver = Receiver([reference.Peer("alice", ALICE.pub, ["orders"])], "orders", [BOB])
    for sequence, bound in enumerate(TOPICS):
        made = sealer.seal(b"payload", bound=bound)
        (message,) = receiver.open(made, clock=NOW, bound=bound)
        assert (message.payload, message.sequence, message.skipped) == (b"payload", sequence, 0)
        assert message.id == message_id(made)
    made = sealer.seal_bundle([b"one", b"two"])
    messages = receiver.open(made, clock=NOW, bundle=True)
    assert [message.payload for message in messages] == [b"one", b"two"]
    assert [message.id for message in messages] == [message_id(made, 0), message_id(made, 1)]


@pytest.mark.parametrize("to", [[], [BOB, CAROL]])
@pytest.mark.parametrize("keys", [None, epoch()])
@pytest.mark.parametrize(
    "options", [{}, {"bound": [b"a"], "in_reply_to": bytes(range(32)), "bundle": True}]
)
def test_a_crafted_envelope_is_a_generated_one_unless_told_otherwise(to, keys, options):
    random = fresh(STREAM, 0, NOW)
    assert craft(to=to, keys=keys, **options) == reference.generate(
        ALICE,
        "orders",
        b"payload",
        stream=STREAM,
        sequence=0,
        sent_at=NOW,
        random=random if keys else random[:24],
        recipients=[one.pub for one in to],
        epoch=keys,
        **options,
    )
