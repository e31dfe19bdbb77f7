"""What a sealer takes, refuses without a trace, and keeps (SPEC 6.5 step 1, 11)."""

from __future__ import annotations

import pytest
from support import START, World, identity

from envelope import Peer, Policy, Sealer, UsageError
from envelope import sealer as sealers
from envelope.errors import TooLargeError
from envelope.wire import decode

ALICE, BOB = identity("alice"), identity("bob")


@pytest.fixture
def world():
    return World()


@pytest.fixture(params=["signed", "addressed", "sealed"])
def each(request, world):
    """A sealer of each kind."""
    options = {
        "signed": {},
        "addressed": {"to": [BOB.public], "sealed": False},
        "sealed": {"to": [BOB.public]},
    }
    return world.sealer(**options[request.param])


def key_block(data):
    header = decode(data)
    return data[header.key_block : header.body]


class TestUsage:
    """A wrong argument is found at once, says what to do, and consumes nothing."""

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"identity": ALICE.public}, "identity is an Identity"),
            ({"identity": None}, "identity is an Identity"),
            ({"context": ""}, "context is a non-empty str"),
            ({"context": b"orders"}, "context is a non-empty str"),
            ({"context": None}, "context is a non-empty str"),
            ({"context": "x" * 256}, "at most 255 bytes"),
            ({"context": "é" * 128}, "at most 255 bytes"),
            ({"context": "\ud800"}, "UTF-8"),
            ({"to": BOB.public}, r"to is a list of recipients: to=\[bob.public\]"),
            ({"to": Peer("bob", BOB.public, contexts=["*"])}, "to is a list"),
            ({"to": "bob"}, "to is a list"),
            ({"to": 5}, "to is a list"),
            ({"to": [BOB]}, "never a secret Identity"),
            ({"to": ["bob"]}, r"trust\[name\]"),
            ({"to": [], "sealed": True}, r"sealing needs recipients: to=\[bob.public\]"),
            ({"to": [BOB.public], "sealed": 1}, "sealed is True, False or None"),
            ({"to": [BOB.public], "sealed": "no"}, "sealed is True, False or None"),
            ({"sealed": 0}, "sealed is True, False or None"),
            ({"clock": lambda: START * 1000}, "clock returns Unix microseconds as an int"),
            ({"clock": lambda: START / 1}, "clock returns Unix microseconds as an int"),
            ({"clock": lambda: -1}, "clock returns Unix microseconds as an int"),
            ({"max_size": 143}, "max_size is an integer from 144"),
            ({"max_size": 1e6}, "max_size is an integer"),
            ({"max_size": 2**31 + 1}, "max_size is an integer"),
        ],
    )
    def test_what_a_sealer_cannot_be_made_of(self, arguments, text):
        options = {"identity": ALICE, "context": "orders"} | arguments
        with pytest.raises(UsageError, match=text):
            Sealer(options.pop("identity"), **options)

    def test_an_audience_without_a_valid_key_is_refused_at_once(self):
        revoked = Peer("bob", BOB.public, contexts=["*"], revoked=True)
        with pytest.raises(UsageError, match="every recipient is revoked"):
            Sealer(ALICE, context="orders", to=[revoked])

    @pytest.mark.parametrize(
        ("call", "arguments", "text"),
        [
            ("seal", {"payload": "text"}, "payload is bytes, not str; encode it first"),
            ("seal", {"payload": None}, "payload is bytes, not NoneType"),
            ("seal", {"payload": 5}, "payload is bytes, not int"),
            ("seal", {"bound": b"topic"}, r'bound is a list of bytes: bound=\[b"topic"\]'),
            ("seal", {"bound": "topic"}, "bound is a list of bytes"),
            ("seal", {"bound": ["topic"]}, "bound is a list of bytes"),
            ("seal", {"bound": [bytearray(b"t")]}, "bound is a list of bytes"),
            ("seal", {"bound": None}, "bound is a list of bytes"),
            ("seal", {"bound": {b"t"}}, "bound is a list of bytes"),
            ("seal", {"bound": [b""] * 65}, "at most 64 bound frames"),
            ("seal", {"in_reply_to": "x"}, "in_reply_to is the id of a message: 32 bytes"),
            ("seal", {"in_reply_to": bytes(31)}, "32 bytes"),
            ("seal", {"in_reply_to": b""}, "32 bytes"),
            ("seal", {"payload": bytes(2000)}, "larger than 1000 bytes; raise max_size"),
            ("seal", {"bound": [bytes(2000)]}, "larger than 1000 bytes"),
            ("seal_bundle", {"payloads": b"ab"}, "a bundle is a list of bytes"),
            ("seal_bundle", {"payloads": []}, "a bundle has 1 to 4096 payloads"),
            ("seal_bundle", {"payloads": [b""] * 4097}, "a bundle has 1 to 4096 payloads"),
            ("seal_bundle", {"payloads": [b"a", "b"]}, "a bundle is a list of bytes"),
            ("seal_bundle", {"payloads": iter([b"a"])}, "a bundle is a list of bytes"),
            ("seal_bundle", {"payloads": [bytes(2000)]}, "larger than 1000 bytes"),
            ("seal_bundle", {"bound": b"topic"}, "bound is a list of bytes"),
            ("seal_bundle", {"in_reply_to": 7}, "32 bytes"),
        ],
    )
    def test_what_cannot_be_sealed_consumes_nothing(self, world, call, arguments, text):
        sealer = world.sealer(to=[BOB.public], max_size=1000)
        first = sealer.seal(b"")
        usual = {"seal": {"payload": b""}, "seal_bundle": {"payloads": [b""]}}[call]
        with pytest.raises(UsageError, match=text):
            getattr(sealer, call)(**(usual | arguments))
        second = sealer.seal(b"")
        assert decode(second).sequence == 1
        assert decode(second).stream == decode(first).stream
        assert key_block(second) == key_block(first)

    def test_what_cannot_be_sealed_takes_none_of_the_epochs_envelopes(self, world, monkeypatch):
        monkeypatch.setattr(sealers, "EPOCH_ENVELOPES", 2)
        sealer = world.sealer(to=[BOB.public], max_size=1000)
        first = sealer.seal(b"")
        for _ in range(5):
            with pytest.raises(UsageError):
                sealer.seal(bytes(1000))
        assert key_block(sealer.seal(b"")) == key_block(first)

    def test_64_bound_frames_are_sealed(self, world, each):
        frames = [b""] * 64
        assert world.opener(BOB).open(each.seal(b"x", bound=frames), bound=frames).payload == b"x"


class TestSize:
    """``max_size`` means the same at both ends: the envelope and its bound frames."""

    @pytest.mark.parametrize("bound", [(), (b"topic",), (b"", b"abc", b"de")])
    @pytest.mark.parametrize("reply", [None, bytes(32)])
    @pytest.mark.parametrize("bundle", [False, True])
    def test_the_limit_is_reached_exactly(self, each, bound, reply, bundle):
        options = {"bound": list(bound), "in_reply_to": reply}

        def seal(sealer, size):
            if bundle:
                return sealer.seal_bundle([bytes(size)], **options)
            return sealer.seal(bytes(size), **options)

        limit = len(seal(each, 100)) + sum(map(len, bound))
        world = World()
        sealer = world.sealer(to=[BOB.public] * each.addressed, sealed=each.sealed, max_size=limit)
        data = seal(sealer, 100)
        with pytest.raises(UsageError, match=f"larger than {limit} bytes"):
            seal(sealer, 101)
        opener = world.opener(BOB, policy=Policy(max_size=limit))
        assert opener.open_bundle(data, **options)[0].payload == bytes(100)
        tight = world.opener(BOB, policy=Policy(max_size=limit - 1))
        with pytest.raises(TooLargeError):
            tight.open_bundle(data, **options)

    def test_the_default_is_the_policys(self, world):
        sealer = world.sealer()
        assert len(sealer.seal(bytes(Policy().max_size - 144))) == 16 * 2**20
        with pytest.raises(UsageError, match="16777216"):
            sealer.seal(bytes(Policy().max_size - 143))


class TestKeptTopics:
    """Hash states of bound frames are kept, and their number and size are bounded."""

    def test_a_kept_topic_seals_as_a_new_one(self, world, each):
        opener = world.opener(BOB)
        for number in range(3):
            data = each.seal(b"x", bound=[b"topic"])
            assert opener.open(data, bound=[b"topic"]).sequence == number
        assert list(each._bound) == [(b"topic",)]
        kept = each._bound[(b"topic",)]
        each.seal(b"x", bound=[b"topic"])
        assert each._bound[(b"topic",)] is kept is not None

    def test_no_bound_frames_need_no_keeping(self, each):
        each.seal(b"x")
        assert each._bound == {}

    def test_no_more_than_256_are_kept(self, world):
        sealer = world.sealer()
        for number in range(600):
            sealer.seal(b"", bound=[b"%d" % number])
            assert len(sealer._bound) == number % 256 + 1
        assert (b"599",) in sealer._bound

    def test_only_short_ones_are_kept(self, world):
        sealer = world.sealer()
        sealer.seal(b"", bound=[bytes(1025)])
        sealer.seal(b"", bound=[bytes(1000), bytes(25)])
        assert sealer._bound == {}
        sealer.seal(b"", bound=[bytes(1000), bytes(24)])
        assert len(sealer._bound) == 1
