"""How long a key lives, and why a nonce does not repeat (SPEC 6.3, 6.4)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support import SECOND, START, World, identity, seeded

from envelope import Peer, TrustStore, UsageError
from envelope import clock as clocks
from envelope import sealer as sealers
from envelope.wire import decode

BOB, CAROL = identity("bob"), identity("carol")


@pytest.fixture
def world():
    return World()


def key_block(data):
    header = decode(data)
    return data[header.key_block : header.body]


def held(sealer):
    """Return every bytes object that the sealer's own state can reach."""
    found, seen, todo = set(), set(), [vars(sealer)]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, bytes):
            found.add(one)
        elif isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            todo += one
        elif type(one).__module__ == "envelope.sealer":
            todo += [getattr(one, name) for name in type(one).__slots__]
    return found


class TestEpoch:
    """SPEC 6.3."""

    def test_it_lasts_ten_minutes(self, world):
        sealer = world.sealer(to=[BOB.public])
        stream, block = sealer.stream, key_block(sealer.seal(b"1"))
        for now in (START, START + 1, START + 600 * SECOND - 1):
            world.clock.now = now
            assert key_block(sealer.seal(b"2")) == block
        world.clock.now = START + 600 * SECOND
        data = sealer.seal(b"3")
        assert key_block(data) != block
        assert (decode(data).stream, decode(data).sequence) == (stream, 4)
        block = key_block(data)
        world.clock.advance(600 - 1e-6)
        assert key_block(sealer.seal(b"")) == block
        world.clock.advance(1e-6)
        assert key_block(sealer.seal(b"")) != block

    def test_it_has_so_many_envelopes(self, world, monkeypatch):
        assert sealers.EPOCH_ENVELOPES == 2**20
        monkeypatch.setattr(sealers, "EPOCH_ENVELOPES", 3)
        sealer = world.sealer(to=[BOB.public])
        envelopes = [sealer.seal(b"") for _ in range(8)]
        blocks = [key_block(data) for data in envelopes]
        assert [blocks.index(block) for block in blocks] == [0, 0, 0, 3, 3, 3, 6, 6]
        assert [decode(data).sequence for data in envelopes] == list(range(8))
        assert {decode(data).stream for data in envelopes} == {sealer.stream}

    def test_what_is_signed_has_none(self, world, monkeypatch):
        monkeypatch.setattr(sealers, "EPOCH_ENVELOPES", 1)
        sealer = world.sealer(to=[BOB.public], sealed=False)
        epoch = sealer._epoch
        for _ in range(3):
            world.clock.advance(601)
            sealer.seal(b"")
        assert sealer._epoch is epoch
        assert epoch.aead_key == b""

    @pytest.mark.audit("K6")
    def test_its_key_is_forgotten_at_its_end(self, world):
        sealer = world.sealer(to=[BOB.public])
        old = sealer._epoch.aead_key
        assert old in held(sealer)
        world.clock.advance(600)
        sealer.seal(b"")
        assert old not in held(sealer)
        assert sealer._epoch.aead_key in held(sealer)

    @pytest.mark.audit("A13", "C3")
    def test_a_revoked_recipient_is_dropped_at_once(self, world):
        peers = [Peer(name, identity(name).public, contexts=["*"]) for name in ("bob", "carol")]
        trust = TrustStore(peers)
        for sealed in (True, False):
            trust.replace(peers)
            sealer = world.sealer(to=[trust["bob"], trust["carol"]], sealed=sealed)
            before = sealer.seal(b"")
            trust.replace([peers[0], Peer("carol", CAROL.public, contexts=["*"], revoked=True)])
            after = sealer.seal(b"")
            assert (decode(before).recipients, decode(after).recipients) == (2, 1)
            assert CAROL.key_id not in after
            assert key_block(after)[:64] != key_block(before)[:64]
            assert decode(after).stream == decode(before).stream
            assert decode(after).sequence == 1

    def test_a_rotated_recipient_gets_both_keys(self, world):
        trust = TrustStore([Peer("bob", BOB.public, contexts=["*"])])
        sealer = world.sealer(to=[trust["bob"]])
        assert decode(sealer.seal(b"")).recipients == 1
        trust.replace(
            [
                Peer("bob", BOB.public, contexts=["*"]),
                Peer("bob", identity("bob's new key").public, contexts=["*"]),
            ]
        )
        assert decode(sealer.seal(b"")).recipients == 2

    def test_an_unchanged_trust_store_changes_nothing(self, world):
        trust = TrustStore([Peer("bob", BOB.public, contexts=["*"])])
        sealer = world.sealer(to=[trust["bob"]])
        assert key_block(sealer.seal(b"")) == key_block(sealer.seal(b""))

    @pytest.mark.parametrize("sealed", [True, False])
    def test_a_recipients_dates_hold_exactly(self, world, sealed):
        start = datetime.fromtimestamp(START // SECOND, UTC)
        carol = Peer("carol", CAROL.public, contexts=["*"], not_after=start + timedelta(seconds=5))
        late = Peer(
            "late", identity("l").public, contexts=["*"], not_before=start + timedelta(seconds=9)
        )
        sealer = world.sealer(to=[BOB.public, carol, late], sealed=sealed)
        counts = {}
        for now in (0, 5 * SECOND - 1, 5 * SECOND, 9 * SECOND - 1, 9 * SECOND):
            world.clock.now = START + now
            counts[now] = decode(sealer.seal(b"")).recipients
        assert list(counts.values()) == [2, 2, 1, 1, 2]

    def test_without_a_valid_recipient_nothing_is_sealed_or_consumed(self, world):
        bob = Peer("bob", BOB.public, contexts=["*"])
        trust = TrustStore([bob])
        sealer = world.sealer(to=[trust["bob"]])
        first = sealer.seal(b"")
        trust.replace([])
        for _ in range(3):
            with pytest.raises(UsageError, match="recipient"):
                sealer.seal(b"")
        trust.replace([bob])
        second = sealer.seal(b"")
        assert decode(second).sequence == 1
        assert decode(second).stream == decode(first).stream


class TestNonce:
    """SPEC 6.4: hedged against a broken random source."""

    @pytest.fixture(autouse=True)
    def _still_time(self, monkeypatch):
        monkeypatch.setattr(clocks, "wall_ns", lambda: START * 1000)

    def clone(self, world, random=bytes):
        """Return a sealer as in the copy of a machine: all that it rests on is the same."""
        return world.sealer(to=[BOB.public], random=random)

    def test_clones_that_seal_the_same_at_the_same_time_repeat_themselves(self, world):
        """Nothing differs, so nothing can; the envelopes are the same, which betrays nothing."""
        assert self.clone(world).seal(b"x") == self.clone(world).seal(b"x")

    @pytest.mark.audit("C6", "A18", "K1")
    def test_clones_that_seal_something_else_do_not_repeat_a_nonce(self, world):
        nonces = set()

        def seal(*args, sealer=None, **options):
            nonces.add((sealer or self.clone(world)).seal(*args, **options)[56:80])

        seal(b"x")
        seal(b"y")
        seal(b"x" * 1023 + b"a")
        seal(b"x" * 1023 + b"b")
        seal(b"")
        seal(b"x", bound=[b"topic"])
        seal(b"x", bound=[b"top", b"ic"])
        seal(b"x", sealer=world.sealer(to=[BOB.public], context="stock", random=bytes))
        seal(b"x", sealer=world.sealer(CAROL, to=[BOB.public], random=bytes))
        twice = self.clone(world)
        twice.seal(b"x")
        seal(b"x", sealer=twice)  # another sequence
        late = self.clone(world)
        world.clock.now += 1
        seal(b"x", sealer=late)  # another time
        seal(b"x")  # another stream
        seal(b"x", sealer=self.clone(world, random=seeded()))
        assert len(nonces) == 13

    def test_of_the_payload_the_first_1024_bytes_count(self, world):
        start = bytes(1024)
        first = self.clone(world).seal(start + b"a")
        second = self.clone(world).seal(start + b"b")
        assert first[56:80] == second[56:80]
        third = self.clone(world).seal(start[:-1] + b"z" + b"a")
        assert third[56:80] != first[56:80]

    def test_a_bundle_is_hedged_as_it_is_encrypted(self, world):
        assert (
            self.clone(world).seal_bundle([b"x"])[56:80]
            == self.clone(world).seal(b"\x91\xc4\x01x")[56:80]
        )

    @pytest.mark.audit("K1")
    def test_so_many_random_bytes_are_asked_for(self, world):
        """32 for a stream, 64 for an epoch, and for a nonce 32 or 24 (SPEC 6.2 to 6.4)."""
        asked = []

        def count(size):
            asked.append(size)
            return bytes(size)

        world.sealer(to=[BOB.public], random=count).seal(b"")
        world.sealer(random=count).seal(b"")
        assert asked == [32, 64, 32, 32, 24]

    def test_a_signed_envelope_has_fresh_random_bytes(self, world):
        sealer = world.sealer(random=lambda n: bytes(range(n)))
        assert sealer.seal(b"")[56:80] == bytes(range(24))
