"""What is cached of senders: verified, bounded, and never a change of verdict (SPEC 7.4)."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from crafting import STREAM, craft, sign_again
from parallel import at_once, held_by_another_thread, in_child
from support import START, World, flip, identity

from envelope import Peer, TrustStore, keyblock
from envelope import opener as openers
from envelope import sealer as sealers
from envelope.errors import (
    BadSignatureError,
    NotTrustedError,
    RejectedError,
    UnknownSenderError,
    UnsealError,
)
from envelope.replay import MemoryReplayStore
from envelope.senders import Place, Senders
from envelope.stats import Tally

ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")
KEYS_AT, ENTRY_AT, BODY_AT = 80, 144, 208
"""Offsets in an envelope that is sealed to one."""


@pytest.fixture
def world():
    return World()


def sender_of(opener, who=ALICE):
    """Return what the opener keeps of a sender."""
    return opener._senders._met[1][who.key_id]


def verdict(opener, data, **options):
    try:
        return opener.open(data, **options).payload
    except RejectedError as error:
        return error.code


def change(data, at, replacement):
    """Return the envelope with some bytes replaced, signed by Alice again."""
    return sign_again(ALICE, data[:at] + replacement + data[at + len(replacement) :])


LOW_ORDER = bytes(32)
NOT_CANONICAL = (2**255 - 18).to_bytes(32, "little")

CHANGES = {
    "none": lambda data: data,
    "the signature": lambda data: flip(data, -1),
    "the nonce": lambda data: change(data, 56, bytes(24)),
    "the sequence": lambda data: change(data, 47, b"\xff"),
    "the time": lambda data: change(data, 55, bytes([data[55] ^ 1])),
    "the flags": lambda data: change(data, 5, b"\x01"),
    "the stream": lambda data: change(data, 39, bytes([data[39] ^ 1])),
    "the ephemeral key": lambda data: change(data, KEYS_AT, bytes([data[KEYS_AT] ^ 1])),
    "a low-order key": lambda data: change(data, KEYS_AT, LOW_ORDER),
    "a key beyond the prime": lambda data: change(data, KEYS_AT, NOT_CANONICAL),
    "the commitment": lambda data: change(data, 143, bytes([data[143] ^ 1])),
    "the wrap": lambda data: change(data, BODY_AT - 1, bytes([data[BODY_AT - 1] ^ 1])),
    "the ciphertext": lambda data: change(data, BODY_AT, bytes([data[BODY_AT] ^ 1])),
    "the tag": lambda data: change(data, len(data) - 65, bytes([data[-65] ^ 1])),
}


class TestColdAndWarm:
    @pytest.mark.audit("A9", "C5", "C10")
    @pytest.mark.parametrize("what", CHANGES)
    def test_a_cached_key_gives_the_verdict_that_a_new_opener_gives(self, world, what):
        sealer = world.sealer(to=[BOB.public])
        warm, cold = world.opener(), world.opener()
        assert warm.open(sealer.seal(b"x", bound=[b"topic"]), bound=[b"topic"])
        assert warm.open(sealer.seal(b"x"))
        assert len(sender_of(warm).keys) == 1
        data = CHANGES[what](sealer.seal(b"payload"))
        codes = {verdict(opener, data) for opener in (cold, warm)}
        expected = {"none": b"payload", "the signature": "bad_signature", "the flags": "policy"}
        assert codes == {expected.get(what, "unseal")}
        # The key stays as good as it was, for both.
        data = sealer.seal(b"next")
        assert [verdict(opener, data) for opener in (cold, warm)] == [b"next", b"next"]

    @pytest.mark.audit("A9", "A10", "C3", "C4")
    def test_another_senders_key_block_opens_nothing(self, world):
        """Carol, a fellow recipient, knows the content key and puts her name on it."""
        keys = keyblock.make(ALICE, [BOB.public], stream=STREAM, now=START, random=os.urandom)
        warm, cold = world.opener(), world.opener()
        ours = craft(ALICE, b"x", to=[BOB.public], sealed=True, keys=keys)
        theirs = craft(CAROL, b"x", to=[BOB.public], sealed=True, keys=keys)
        assert warm.open(ours).payload == b"x"
        assert verdict(warm, theirs) == verdict(cold, theirs) == "unseal"

    @pytest.mark.audit("A9", "C5")
    def test_a_key_block_belongs_to_its_stream(self, world):
        keys = keyblock.make(ALICE, [BOB.public], stream=STREAM, now=START, random=os.urandom)
        options = {"to": [BOB.public], "sealed": True, "keys": keys}
        warm, cold = world.opener(), world.opener()
        assert warm.open(craft(ALICE, b"x", **options)).payload == b"x"
        data = craft(ALICE, b"x", stream=b"another stream..", **options)
        assert verdict(warm, data) == verdict(cold, data) == "unseal"

    @pytest.mark.audit("A5", "C4")
    def test_a_known_topic_gives_the_verdict_that_a_new_one_gives(self, world):
        sealer, opener = world.sealer(), world.opener()
        for bound in ([b"a"], [b"a"], [b"b"], [b"a", b"b"], []):
            assert opener.open(sealer.seal(b"x", bound=bound), bound=bound).payload == b"x"
        for sent, heard in (([b"a"], [b"b"]), ([b"a"], []), ([], [b"a"]), ([b"ab"], [b"a", b"b"])):
            with pytest.raises(BadSignatureError):
                opener.open(sealer.seal(b"x", bound=sent), bound=heard)

    def test_a_key_block_is_opened_once_and_a_topic_hashed_once(self, world, monkeypatch):
        done = []

        def counted(step):
            def call(*args, **options):
                done.append(step.__name__)
                return step(*args, **options)

            return call

        monkeypatch.setattr(keyblock, "unwrap", counted(keyblock.unwrap))
        monkeypatch.setattr(openers, "bind", counted(openers.bind))
        monkeypatch.setattr(Senders, "remember", counted(Senders.remember))
        opener, sealer = world.opener(), world.sealer(to=[BOB.public])
        for bound in ([], [], [b"topic"], [b"topic"], [b"topic"], []):
            opener.open(sealer.seal(b"x", bound=bound), bound=bound)
        assert done == ["unwrap", "remember", "bind", "remember"]
        opener.open(world.sealer().seal(b"signed only"))
        assert len(done) == 4

    @pytest.mark.audit("A13")
    def test_what_is_cached_does_not_outlive_the_trust(self, world):
        opener, sealer = world.opener(), world.sealer(to=[BOB.public])
        for bound in ([], [b"topic"]):
            opener.open(sealer.seal(b"x", bound=bound), bound=bound)
        world.trust.replace([Peer("alice", ALICE.public, contexts=["orders"], topics=["other"])])
        for bound in ([], [b"topic"]):
            with pytest.raises(NotTrustedError):
                opener.open(sealer.seal(b"x", bound=bound), bound=bound)
        assert (sender_of(opener).keys, sender_of(opener).bound) == ({}, {})
        assert opener.open(sealer.seal(b"x", bound=[b"other"]), bound=[b"other"])


class TestNothingBeforeTheSignature:
    @pytest.mark.audit("R1", "A16")
    def test_a_forgery_fills_no_cache(self, world):
        opener, sealer = world.opener(), world.sealer(to=[BOB.public])
        for number in range(20):
            bound = [b"%d" % number]
            with pytest.raises(BadSignatureError):
                opener.open(flip(sealer.seal(b"x", bound=bound), -1), bound=bound)
        sender = sender_of(opener)
        assert (sender.keys, sender.bound, sender.tally) == ({}, {}, None)
        assert opener.replay.state() == {}

    def test_neither_does_what_does_not_unseal(self, world):
        opener = world.opener()
        data = craft(ALICE, b"x", to=[BOB.public], sealed=True, spoil_tag=True, bound=(b"t",))
        with pytest.raises(UnsealError):
            opener.open(data, bound=[b"t"])
        assert (sender_of(opener).keys, sender_of(opener).bound) == ({}, {})

    @pytest.mark.audit("A16")
    def test_strangers_leave_nothing_at_all(self, world):
        opener = world.opener()
        for number in range(50):
            with pytest.raises(UnknownSenderError):
                opener.open(world.sealer(identity(f"stranger {number}")).seal(b"x"))
        assert opener._senders._met[1] == {}
        assert opener.replay._guards == {}
        assert opener.stats.senders == {}


class TestBounds:
    @pytest.mark.audit("A16", "P3")
    def test_at_most_256_topics_are_kept_of_a_sender(self, world):
        opener, sealer = world.opener(), world.sealer()
        for number in range(600):
            bound = [b"%d" % number]
            assert opener.open(sealer.seal(b"x", bound=bound), bound=bound).sequence == number
            assert len(sender_of(opener).bound) == number % 256 + 1
            assert tuple(bound) in sender_of(opener).bound

    def test_only_short_bound_frames_are_kept(self, world):
        opener, sealer = world.opener(), world.sealer()
        for bound in ([bytes(1025)], [bytes(1024), b"x"]):
            for _ in range(2):
                assert opener.open(sealer.seal(b"x", bound=bound), bound=bound)
            assert sender_of(opener).bound == {}
        bound = [bytes(1000), bytes(24)]
        assert opener.open(sealer.seal(b"x", bound=bound), bound=bound)
        assert list(sender_of(opener).bound) == [tuple(bound)]

    @pytest.mark.audit("A16", "P3")
    def test_at_most_128_keys_are_kept_of_a_sender_and_the_oldest_goes(self, world, monkeypatch):
        monkeypatch.setattr(sealers, "EPOCH_ENVELOPES", 1)
        opener, sealer = world.opener(), world.sealer(to=[BOB.public])
        added = []
        for number in range(300):
            opener.open(sealer.seal(b"x"))
            keys = sender_of(opener).keys
            added.append(next(reversed(keys)))
            assert list(keys) == added[-128:]
            assert len(keys) == min(number + 1, 128)

    def test_a_key_that_is_used_again_is_kept_once(self, world):
        opener, sealer = world.opener(), world.sealer(to=[BOB.public])
        for _ in range(5):
            opener.open(sealer.seal(b"x"))
        assert len(sender_of(opener).keys) == 1

    def test_what_is_only_signed_has_no_key(self, world):
        opener = world.opener()
        sealer = world.sealer(to=[BOB.public], sealed=False)
        opener.open(sealer.seal(b"x"))
        opener.open_bundle(sealer.seal_bundle([b"x", b"y"]))
        assert sender_of(opener).keys == {}

    def test_each_sender_has_its_own(self, world):
        opener = world.opener()
        for who in (ALICE, CAROL):
            opener.open(world.sealer(who, to=[BOB.public]).seal(b"x", bound=[b"t"]), bound=[b"t"])
        assert len(sender_of(opener, ALICE).keys) == len(sender_of(opener, CAROL).keys) == 1
        assert sender_of(opener, ALICE).bound.keys() == sender_of(opener, CAROL).bound.keys()


class TestSenders:
    def senders(self, world, trust, tally=None):
        place = Place("orders", b"orders", frozenset({BOB.key_id}), "home", world.store())
        return Senders(place, trust.snapshot, tally or Tally())

    def test_one_is_made_for_each_key_id_of_a_snapshot(self, world):
        senders = self.senders(world, world.trust)
        snapshot = world.trust.snapshot
        alice = senders.find(snapshot, ALICE.key_id)
        assert senders.find(snapshot, ALICE.key_id) is alice
        assert (alice.peer.name, alice.is_own, alice.is_allowed) == ("alice", False, True)
        assert senders.find(snapshot, BOB.key_id).is_own is True
        with pytest.raises(UnknownSenderError):
            senders.find(snapshot, world.mallory.key_id)

    def test_whoever_is_met_twice_has_one_tally(self, world):
        senders = self.senders(world, world.trust)
        alice = senders.find(world.trust.snapshot, ALICE.key_id)
        assert senders.meet(alice) is senders.meet(alice) is alice.tally

    def test_a_sender_is_met_once(self, world):
        senders = self.senders(world, world.trust)
        alice = senders.find(world.trust.snapshot, ALICE.key_id)
        row = senders.meet(alice)
        assert senders.meet(alice) is alice.tally is row
        assert (row.name, row.guard) == ("alice", alice.guard)

    def test_its_signing_key_is_the_first_half_of_pub(self, world):
        senders = self.senders(world, world.trust)
        alice = senders.find(world.trust.snapshot, ALICE.key_id)
        assert alice.signing_key == ALICE.public.public[:32]

    @pytest.mark.parametrize("pair", [(None, None), (b"place", None), (None, b"key")])
    def test_a_key_without_its_place_is_not_kept_nor_a_place_without_its_key(self, world, pair):
        senders = self.senders(world, world.trust)
        alice = senders.find(world.trust.snapshot, ALICE.key_id)
        senders.remember(alice, (), *pair)
        assert alice.keys == {}
        senders.remember(alice, (), b"place", b"key")
        assert alice.keys == {b"place": b"key"}

    def test_a_signal_handler_may_drop_the_same_key_meanwhile(self, world):
        class Interrupted(dict):
            def __iter__(self):
                oldest = next(super().__iter__())
                del self[oldest]
                return iter([oldest])

        senders = self.senders(world, world.trust)
        alice = senders.find(world.trust.snapshot, ALICE.key_id)
        alice.keys = Interrupted.fromkeys(range(128), b"old")
        senders.remember(alice, (), b"place", b"key")
        assert list(alice.keys.items()) == [
            *((n, b"old") for n in range(1, 128)),
            (b"place", b"key"),
        ]

    def test_a_new_snapshot_begins_anew_and_keeps_the_replay_memory(self, world):
        senders = self.senders(world, world.trust)
        before = senders.find(world.trust.snapshot, ALICE.key_id)
        world.trust.replace([Peer("al", ALICE.public, contexts=["stock"], revoked=True)])
        after = senders.find(world.trust.snapshot, ALICE.key_id)
        assert after is not before
        assert (after.peer.name, after.is_allowed, after.ends) == ("al", False, 0)
        assert after.guard is before.guard
        with pytest.raises(UnknownSenderError):
            senders.find(world.trust.snapshot, CAROL.key_id)

    def test_a_claim_has_the_name_that_its_key_id_has_now(self, world):
        senders = self.senders(world, world.trust)
        assert senders.name_of(ALICE.key_id) == "alice"
        assert senders.name_of(world.mallory.key_id) is None
        world.trust.replace([Peer("al", ALICE.public, contexts=["orders"])])
        senders.find(world.trust.snapshot, ALICE.key_id)
        assert senders.name_of(ALICE.key_id) == "al"

    def test_counters_survive_a_new_snapshot(self, world):
        opener, sealer = world.opener(), world.sealer()
        opener.open(sealer.seal(b"x"))
        world.trust.replace(list(world.trust))
        opener.open(sealer.seal(b"x"))
        assert opener.stats.senders["alice"].accepted == 2

    def test_a_peer_that_was_renamed_is_counted_by_its_new_name(self, world):
        opener, sealer = world.opener(), world.sealer()
        opener.open(sealer.seal(b"x"))
        world.trust.replace([Peer("alice of sales", ALICE.public, contexts=["orders"])])
        message = opener.open(sealer.seal(b"x"))
        assert message.sender.name == "alice of sales"
        assert "alice of sales" in opener.stats.senders

    @pytest.mark.parametrize("_", range(10))
    def test_threads_make_one_entry_for_a_sender(self, world, _):
        senders, snapshot = self.senders(world, world.trust), world.trust.snapshot
        found = at_once(8, lambda _: senders.find(snapshot, ALICE.key_id))
        assert len(set(map(id, found))) == 1

    def test_the_store_is_asked_once_for_a_sender_of_a_snapshot(self, world):
        asked = []

        class Store(MemoryReplayStore):
            def guard(self, domain, sender, context):
                asked.append((domain, sender, context))
                return super().guard(domain, sender, context)

        opener, sealer = world.opener(replay=Store(clock=world.clock)), world.sealer()
        for _ in range(3):
            opener.open(sealer.seal(b"x"))
        assert asked == [(BOB.key_id.hex(), ALICE.key_id, "orders")]

    @pytest.mark.parametrize("step", ["meet", "remember"])
    def test_what_is_kept_is_changed_by_one_thread_at_a_time(self, world, step):
        senders = self.senders(world, world.trust)
        alice = senders.find(world.trust.snapshot, ALICE.key_id)
        arguments = {"meet": (alice,), "remember": (alice, (b"topic",), b"block", b"key")}[step]
        with ThreadPoolExecutor(1) as pool:
            with held_by_another_thread(senders._lock):
                done = pool.submit(getattr(senders, step), *arguments)
                with pytest.raises(TimeoutError):
                    done.result(timeout=0.05)
            done.result()
        assert alice.tally or alice.keys == {b"block": b"key"}

    def test_a_child_remembers_though_a_thread_held_the_lock_at_the_fork(self, world):
        senders = self.senders(world, world.trust)
        alice = senders.find(world.trust.snapshot, ALICE.key_id)

        def remember():
            senders.remember(alice, (b"topic",), None, None)
            return list(alice.bound)

        with held_by_another_thread(senders._lock):
            assert in_child(remember, seconds=5) == [(b"topic",)]


def test_a_trust_store_may_be_empty():
    with pytest.raises(UnknownSenderError):
        World().opener(trust=TrustStore()).open(World().sealer().seal(b"x"))
