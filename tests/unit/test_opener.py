"""What an opener requires, delivers and remembers (SPEC 7)."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest
from crafting import STREAM, craft
from support import SECOND, START, World, flip, identity

from envelope import Opener, Peer, Policy, TrustStore, UsageError, keyblock, message_id
from envelope.errors import (
    BadSignatureError,
    BeforeStartError,
    MalformedError,
    NotAddressedError,
    NotTrustedError,
    PolicyError,
    ReflectedError,
    ReplayedError,
    TooLargeError,
    UnknownSenderError,
    UnsealError,
)
from envelope.replay import MemoryReplayStore

ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")


@pytest.fixture
def world():
    return World()


class TestRequirements:
    """SPEC 7.2 step 3."""

    @pytest.mark.audit("A14", "C8", "C9")
    def test_signed_is_the_least_and_sealed_is_more(self, world):
        signed = world.sealer(to=[BOB.public], sealed=False)
        sealed = world.sealer(to=[BOB.public])
        lenient = world.opener()
        strict = world.opener(policy=Policy(require="sealed"))
        assert lenient.open(signed.seal(b"x")).sealed is False
        assert lenient.open(sealed.seal(b"x")).sealed is True
        assert strict.open(sealed.seal(b"x")).sealed is True
        with pytest.raises(PolicyError, match="signed only; sealed is required"):
            strict.open(signed.seal(b"x"))

    def test_addressed_is_required_if_asked_for(self, world):
        strict = world.opener(policy=Policy(addressed=True))
        assert strict.open(world.sealer(to=[BOB.public], sealed=False).seal(b"x"))
        assert strict.open(world.sealer(to=[BOB.public]).seal(b"x"))
        with pytest.raises(PolicyError, match="for everyone in the context; addressed"):
            strict.open(world.sealer().seal(b"x"))

    def test_a_bundle_is_opened_as_one_only(self, world):
        sealer, opener = world.sealer(), world.opener()
        bundle = sealer.seal_bundle([b"a", b"b"])
        with pytest.raises(PolicyError, match=r"open it with open_bundle\(\)"):
            opener.open(bundle)
        assert [message.payload for message in opener.open_bundle(bundle)] == [b"a", b"b"]
        [single] = opener.open_bundle(sealer.seal(b"c"))
        assert (single.payload, single.index) == (b"c", 0)

    @pytest.mark.audit("A22")
    def test_a_reply_opens_where_its_own_is_expected_and_nowhere_else(self, world):
        sealer, opener = world.sealer(), world.opener()
        ours, other = b"o" * 32, b"x" * 32
        reply, plain = sealer.seal(b"x", in_reply_to=ours), sealer.seal(b"x")
        for data, expected, text in (
            (reply, None, "a reply to another request, or to none"),
            (reply, other, "a reply to another request, or to none"),
            (plain, ours, "no reply, where the reply to a request is expected"),
        ):
            with pytest.raises(PolicyError, match=text):
                opener.open(data, in_reply_to=expected)
        assert opener.open(reply, in_reply_to=ours).in_reply_to == ours
        assert opener.open(plain).in_reply_to is None

    @pytest.mark.audit("A22")
    def test_a_reply_may_be_a_bundle(self, world):
        data = world.sealer().seal_bundle([b"a"], in_reply_to=b"o" * 32)
        with pytest.raises(PolicyError, match="open_bundle"):
            world.opener().open(data, in_reply_to=b"o" * 32)
        [message] = world.opener().open_bundle(data, in_reply_to=b"o" * 32)
        assert message.in_reply_to == b"o" * 32

    @pytest.mark.audit("A22")
    @pytest.mark.parametrize("call", ["open", "open_bundle"])
    def test_a_reply_opens_if_one_of_those_asked_sent_it(self, world, call):
        request = b"o" * 32
        reply = world.sealer().seal(b"x", in_reply_to=request)
        opener = world.opener()
        for asked in ([CAROL.key_id], []):
            with pytest.raises(PolicyError, match="whom the request was not addressed to"):
                getattr(opener, call)(reply, in_reply_to=request, asked=asked)
        asked = [CAROL.key_id, ALICE.key_id]
        assert getattr(opener, call)(reply, in_reply_to=request, asked=asked)

    @pytest.mark.audit("A22")
    def test_an_expected_reply_needs_no_wait_after_a_cold_start(self, world):
        request = message_id(world.sealer(BOB).seal(b"question"))
        opener = world.opener(replay=world.store(first_life=False))
        answer = craft(ALICE, b"answer", in_reply_to=request)
        assert opener.open(answer, in_reply_to=request).payload == b"answer"
        with pytest.raises(ReplayedError):
            opener.open(answer, in_reply_to=request)
        with pytest.raises(BeforeStartError):
            opener.open(craft(ALICE, b"news"))

    @pytest.mark.audit("P3")
    def test_the_size_with_bound_frames_may_reach_the_limit(self, world):
        data = world.sealer().seal(bytes(100), bound=[b"topic", b"ab"])
        limit = 144 + 100 + 7
        with pytest.raises(TooLargeError, match=f"larger than {limit - 1} bytes"):
            world.opener(policy=Policy(max_size=limit - 1)).open(data, bound=[b"topic", b"ab"])
        world.opener(policy=Policy(max_size=limit)).open(data, bound=[b"topic", b"ab"])

    @pytest.mark.audit("P3")
    def test_64_bound_frames_are_permitted(self, world):
        opener = world.opener()
        frames = (b"",) * 64
        assert opener.open(craft(ALICE, b"x", bound=frames), bound=frames)
        frames = (b"",) * 65
        with pytest.raises(TooLargeError, match="more than 64 bound frames"):
            opener.open(craft(ALICE, b"x", bound=frames, sequence=1), bound=frames)


class TestTrust:
    """SPEC 7.2 step 4."""

    def opener(self, world, **fields):
        peer = Peer("alice", ALICE.public, **{"contexts": ["orders"], **fields})
        return world.opener(trust=TrustStore([peer]))

    @pytest.mark.audit("A12")
    def test_a_stranger_is_told_apart_by_key_id(self, world):
        opener = world.opener()
        data = world.sealer(world.mallory).seal(b"x")
        with pytest.raises(UnknownSenderError, match="envpub1") as refused:
            opener.open(data)
        assert refused.value.claimed_sender == world.mallory.key_id
        assert refused.value.verified is False

    @pytest.mark.audit("A13")
    def test_dates_hold_exactly(self, world):
        begins = datetime.fromtimestamp(START // SECOND, UTC) + timedelta(seconds=5)
        opener = self.opener(world, not_before=begins, not_after=begins + timedelta(seconds=5))
        verdicts = {}
        sealer = world.sealer()
        for now in (5 * SECOND - 1, 5 * SECOND, 10 * SECOND - 1, 10 * SECOND):
            world.clock.now = START + now
            try:
                verdicts[now] = opener.open(sealer.seal(b"x")).payload
            except NotTrustedError as error:
                verdicts[now] = error.detail
        assert list(verdicts.values()) == [
            "'alice' is not valid yet; not_before is 2027-01-15 08:00:05+00:00",
            b"x",
            b"x",
            "'alice' has expired; not_after is 2027-01-15 08:00:10+00:00",
        ]

    def test_on_its_first_and_after_its_last_moment_a_peer_is_told_what_is_wrong(self, world):
        now = datetime.fromtimestamp(START // SECOND, UTC)
        data = world.sealer().seal(b"x")
        for fields, text in (
            ({"not_before": now}, "may not send in the context"),
            ({"not_after": now}, "has expired"),
        ):
            with pytest.raises(NotTrustedError, match=text):
                self.opener(world, contexts=["stock"], **fields).open(data)

    @pytest.mark.audit("A13")
    def test_the_revoked_are_refused_whatever_their_dates(self, world):
        with pytest.raises(NotTrustedError, match="'alice' is revoked"):
            self.opener(world, revoked=True).open(world.sealer().seal(b"x"))

    @pytest.mark.audit("A13", "A5")
    def test_a_context_must_be_permitted(self, world):
        opener = self.opener(world, contexts=["orders.*", "stock"])
        with pytest.raises(NotTrustedError, match="'alice' may not send in the context 'orders'"):
            opener.open(world.sealer().seal(b"x"))

    @pytest.mark.audit("A13", "A5")
    def test_with_topics_the_first_bound_frame_must_have_one(self, world):
        opener = self.opener(world, topics=["news/", b"log"])
        sealer = world.sealer()
        for bound in ([b"news/x"], [b"log"], [b"logs", b"other"]):
            assert opener.open(sealer.seal(b"x", bound=bound), bound=bound)
        for bound in ([], [b"new"], [b"other", b"news/x"]):
            with pytest.raises(NotTrustedError, match="'alice' may not send on this topic"):
                opener.open(sealer.seal(b"x", bound=bound), bound=bound)

    @pytest.mark.audit("A6", "C4")
    def test_its_own_envelope_is_reflected(self, world):
        with pytest.raises(ReflectedError):
            world.opener(ALICE).open(world.sealer(ALICE).seal(b"x"))
        with pytest.raises(ReflectedError):
            world.opener([BOB, ALICE], domain="d").open(world.sealer(ALICE).seal(b"x"))

    @pytest.mark.audit("A6")
    def test_accept_own_is_for_other_processes_and_never_for_this_one(self, world):
        opener = world.opener(ALICE, policy=Policy(accept_own=True))
        sealer = world.sealer(ALICE)
        with pytest.raises(ReflectedError):
            opener.open(sealer.seal(b"x"))
        late = sealer.seal(b"an echo that comes back when its sealer is gone")
        del sealer
        with pytest.raises(ReflectedError):
            opener.open(late)
        assert opener.open(craft(ALICE, b"of another process")).payload == b"of another process"

    def test_without_an_identity_nothing_is_reflected(self, world):
        opener = Opener(world.trust, context="orders", replay=world.store(), domain="d",
                        clock=world.clock)  # fmt: skip
        assert opener.open(world.sealer(BOB).seal(b"x")).sender.name == "bob"

    def test_a_change_is_in_force_with_the_next_envelope(self, world):
        opener, sealer = world.opener(), world.sealer()
        assert opener.open(sealer.seal(b"x"))
        world.trust.replace([Peer("alice", ALICE.public, contexts=["orders"], revoked=True)])
        with pytest.raises(NotTrustedError):
            opener.open(sealer.seal(b"x"))
        world.trust.replace([Peer("alice", ALICE.public, contexts=["orders"])])
        assert opener.open(sealer.seal(b"x"))


class TestIdentities:
    @pytest.mark.audit("A7", "C4")
    def test_an_envelope_for_others_is_not_opened(self, world):
        for sealed in (True, False):
            data = world.sealer(to=[CAROL.public], sealed=sealed).seal(b"x")
            with pytest.raises(NotAddressedError):
                world.opener(BOB).open(data)
            assert world.opener(CAROL).open(data).payload == b"x"

    @pytest.mark.audit("A7", "P2")
    def test_a_key_id_that_does_not_begin_an_entry_addresses_nobody(self, world):
        bob, carol = BOB.key_id, CAROL.key_id
        keys = bytes(32)
        to = [ALICE.public, CAROL.public]  # Their number is what counts here.
        for block in (
            bob + bytes(48) + carol + bytes(48) + b"\xff" * 64,  # the ephemeral key
            bytes(32) + bob + bytes(16) + carol + bytes(48) + b"\xff" * 64,  # the commitment
            bytes(64) + bytes(16) + bob + bytes(32) + b"\xff" * 64,  # a wrapped key
            bytes(64) + bytes(16) + bytes(31) + bob + bytes(1) + b"\xff" * 64,
            bytes(64) + bytes(16) + bytes(40) + bob + b"\xff" * 56,  # across two entries
        ):
            data = craft(ALICE, b"x", to=to, sealed=True, keys=(block, keys))
            with pytest.raises(NotAddressedError):
                world.opener().open(data)
        halves = bytes(8) + bob[:8] + bob[8:] + bytes(8)
        with pytest.raises(NotAddressedError):
            world.opener().open(craft(ALICE, b"x", to=to, keys=(halves, b"")))
        # Behind such a place its own entry is found all the same.
        own = bytes(15) + b"\1" + bob + bytes(32) + bob + b"\xff" * 48
        with pytest.raises(UnsealError):
            world.opener().open(
                craft(ALICE, b"x", to=to, sealed=True, keys=(bytes(64) + own, keys))
            )

    def test_without_an_identity_only_what_is_for_everyone_opens(self, world):
        def opener():
            return Opener(world.trust, context="orders", replay=world.store(), domain="d",
                          clock=world.clock)  # fmt: skip

        assert opener().open(world.sealer().seal(b"x")).payload == b"x"
        for sealed in (True, False):
            with pytest.raises(NotAddressedError):
                opener().open(world.sealer(to=[BOB.public], sealed=sealed).seal(b"x"))

    def test_several_identities_open_what_is_for_any_of_them(self, world):
        new, old = identity("bob, new"), BOB
        opener = world.opener([new, old], domain="bob")
        sealers = [world.sealer(to=[one.public]) for one in (new, old)]
        sealers.append(world.sealer(to=[CAROL.public, new.public, old.public]))
        sealers.append(world.sealer(to=[CAROL.public, old.public], sealed=False))
        for sealer in sealers:
            assert opener.open(sealer.seal(b"x")).payload == b"x"
        with pytest.raises(NotAddressedError):
            opener.open(world.sealer(to=[CAROL.public]).seal(b"x"))

    def test_the_first_own_identity_that_is_addressed_decides_and_no_other_is_tried(self, world):
        new, old = identity("bob, new"), BOB
        to = sorted((new.public, old.public), key=lambda public: public.key_id)
        block, key = keyblock.make(ALICE, to, stream=STREAM, now=START, random=os.urandom)
        block = flip(block, block.find(new.key_id) + 20)
        data = craft(ALICE, b"x", to=to, sealed=True, keys=(block, key))
        with pytest.raises(UnsealError):
            world.opener([new, old], domain="bob").open(data)
        assert world.opener([old, new], domain="bob").open(data).payload == b"x"

    def test_many_recipients_each_open_it(self, world):
        everyone = [identity(str(number)) for number in range(256)]
        sealer = world.sealer(to=[one.public for one in everyone])
        data = sealer.seal(b"x")
        for one in (everyone[0], everyone[100], everyone[255]):
            assert world.opener(one).open(data).payload == b"x"


class TestStricter:
    def test_it_requires_more_and_shares_all_else(self, world):
        opener = world.opener()
        signed, sealed = world.sealer(), world.sealer(to=[BOB.public])
        strict = opener.stricter(require="sealed", addressed=True)
        with pytest.raises(PolicyError):
            strict.open(signed.seal(b"x"))
        data = sealed.seal(b"x")
        assert strict.open(data).payload == b"x"
        with pytest.raises(ReplayedError):
            opener.open(data)
        assert opener.open(signed.seal(b"x"))
        assert strict.stats == opener.stats
        assert opener.stats.refused == {"policy": 1, "replayed": 1}
        world.clock.advance(-100)
        assert strict.open(craft(ALICE, b"x", to=[BOB.public], sealed=True)).payload == b"x"
        assert opener.stats.clock_stepped_back == strict.stats.clock_stepped_back == 1

    def test_each_requirement_stands_alone(self, world):
        addressed = world.opener().stricter(addressed=True)
        assert addressed.open(world.sealer(to=[BOB.public], sealed=False).seal(b"x"))
        with pytest.raises(PolicyError):
            addressed.open(world.sealer().seal(b"x"))

    @pytest.mark.audit("C8")
    def test_it_never_requires_less(self, world):
        policy = Policy(require="sealed", addressed=True, max_age=5, window=100)
        assert world.opener(policy=policy).stricter().policy == policy
        assert world.opener(policy=policy).stricter(require="signed").policy == policy
        assert world.opener().stricter().policy == Policy()

    def test_what_it_does_not_know_is_refused(self, world):
        with pytest.raises(UsageError, match="require"):
            world.opener().stricter(require="none")
        with pytest.raises(UsageError, match="addressed"):
            world.opener().stricter(addressed="yes")


def test_the_application_may_count_a_payload_that_it_refused(world):
    opener = world.opener()
    message = opener.open(world.sealer().seal(b"\xc1"))
    with pytest.raises(MalformedError) as refused:
        message.object()
    opener.refuse(refused.value, message)
    assert (refused.value.claimed_sender, refused.value.verified) == (ALICE.key_id, True)
    assert opener.stats.refused == {"malformed": 1}
    assert opener.stats.senders["alice"].refused == {"malformed": 1}
    error = MalformedError("of the application")
    opener.refuse(error, message)
    assert (error.claimed_sender, error.verified) == (ALICE.key_id, True)


def test_it_tells_where_it_opens_and_for_whom(world):
    assert repr(world.opener()) == f"<Opener in 'orders' for {BOB.key_id.hex()}>"
    both = world.opener([BOB, CAROL], domain="d")
    assert repr(both) == f"<Opener in 'orders' for {BOB.key_id.hex()}, {CAROL.key_id.hex()}>"
    assert both.domain == "d"
    assert repr(Opener(world.trust, context="c")) == "<Opener in 'c' for everyone>"


def test_one_that_is_half_made_can_be_printed():
    """A traceback may show it."""
    assert repr(Opener.__new__(Opener)) == "<Opener in None for everyone>"


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda b: memoryview(b).cast("H")])
def test_an_envelope_may_be_any_bytes(world, wrap):
    with pytest.raises(BadSignatureError) as refused:
        world.opener().open(wrap(flip(world.sealer().seal(b"payload."), -1)))
    assert refused.value.claimed_sender == ALICE.key_id
    message = world.opener().open(wrap(world.sealer().seal(b"payload.")))
    assert type(message.payload) is bytes
    assert message.payload == b"payload."


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"trust": []}, "trust is a TrustStore"),
            ({"trust": "peers.toml"}, "trust is a TrustStore"),
            ({"context": ""}, "context is a non-empty str"),
            ({"context": b"orders"}, "context is a non-empty str"),
            ({"context": "x" * 256}, "at most 255 bytes"),
            ({"identity": BOB.public}, "identity is an Identity, or a list of them"),
            ({"identity": "envsec1"}, "identity is an Identity, or a list of them"),
            ({"identity": [BOB.public]}, "identity is an Identity, or a list of them"),
            ({"identity": {BOB}}, "identity is an Identity, or a list of them"),
            ({"identity": b"seed"}, "identity is an Identity, or a list of them"),
            ({"replay": "memory"}, r"replay is a ReplayStore, such as MemoryReplayStore\(\)"),
            ({"replay": MemoryReplayStore}, "replay is a ReplayStore"),
            ({"policy": "signed"}, "policy is a Policy"),
            ({"policy": {"require": "sealed"}}, "policy is a Policy"),
            (
                {"policy": Policy(max_future=2.1), "replay": MemoryReplayStore()},
                "this store covers a max_future of 2.0 s at its cold start",
            ),
            ({"policy": Policy(max_future=2.1), "replay": MemoryReplayStore(max_future=2)}, "2 s"),
            ({"clock": lambda: START * 1000}, "clock returns Unix microseconds as an int"),
            ({"clock": lambda: 0.5}, "clock returns Unix microseconds as an int"),
            ({"domain": ""}, "domain is a non-empty str"),
            ({"domain": b"d"}, "domain is a non-empty str"),
            ({"domain": "\ud800"}, "domain cannot be encoded"),
            ({"identity": None, "replay": MemoryReplayStore()}, "needs the name of its domain"),
            ({"identity": [], "replay": MemoryReplayStore()}, "needs the name of its domain"),
            ({"identity": [BOB, CAROL], "replay": MemoryReplayStore()}, "domain=..."),
        ],
    )
    def test_what_an_opener_cannot_be_made_of(self, world, arguments, text):
        options = {"trust": world.trust, "context": "orders", "identity": BOB} | arguments
        with pytest.raises(UsageError, match=text):
            Opener(options.pop("trust"), **options)

    def test_what_needs_no_domain(self, world):
        def domain(identity, **options):
            return Opener(world.trust, context="c", identity=identity, **options).domain

        store = MemoryReplayStore()
        assert domain(BOB, replay=store) == BOB.key_id.hex()
        assert domain([BOB], replay=store) == BOB.key_id.hex()
        assert domain((BOB, BOB), replay=store) == BOB.key_id.hex()
        assert domain([BOB, CAROL]) == BOB.key_id.hex()
        assert domain(None) == "-"
        assert domain(None, replay=store, domain="d") == "d"
        assert domain([BOB, CAROL], replay=store, domain="d") == "d"

    @pytest.mark.parametrize("call", ["open", "open_bundle"])
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"data": "text"}, "an envelope is bytes, not str"),
            ({"data": None}, "an envelope is bytes, not NoneType"),
            ({"data": [b"frame"]}, "an envelope is bytes, not list"),
            ({"bound": b"topic"}, r'bound is a list of bytes: bound=\[b"topic"\]'),
            ({"bound": "topic"}, "bound is a list of bytes"),
            ({"bound": ["topic"]}, "bound is a list of bytes"),
            ({"bound": [bytearray(b"topic")]}, "bound is a list of bytes"),
            ({"bound": None}, "bound is a list of bytes"),
            ({"in_reply_to": "request"}, "in_reply_to is the id of a message: 32 bytes"),
            ({"in_reply_to": bytes(33)}, "32 bytes"),
            ({"in_reply_to": b""}, "32 bytes"),
        ],
    )
    def test_a_wrong_argument_is_no_refusal_and_consumes_nothing(
        self, world, call, arguments, text
    ):
        opener = world.opener()
        data = world.sealer().seal(b"x")
        with pytest.raises(UsageError, match=text):
            getattr(opener, call)(**({"data": data} | arguments))
        assert opener.stats.refused == {}
        assert opener.open(data).payload == b"x"


def test_an_opener_needs_no_clock(world):
    opener = Opener(world.trust, context="orders", identity=BOB)
    with pytest.raises(MalformedError):
        opener.open(b"")
