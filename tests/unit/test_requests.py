"""Requests and replies without sockets: each rule of SPEC 16.3 and 16.4.

Rules of this file: the test is the network. Clocks stand still unless a test moves them.
"""

from __future__ import annotations

import pytest
import zmq
from support import SECOND, FakeClock, World, flip, identity
from talk import End, answerer, exchange, requester

from envelope import Peer, TrustStore
from envelope.errors import RequestDoneError, UsageError
from envelope.zeromq import outgoing as outgoing_module
from envelope.zeromq import requests as requests_module
from envelope.zeromq.frames import ANSWER, CHALLENGE, DONE, PATTERNS, SYNC
from envelope.zeromq.outgoing import Outgoing
from envelope.zeromq.requests import Lately, Replies, Requests

HOUR = 3600


@pytest.fixture
def world():
    return World()


@pytest.fixture
def slow(world):
    """A clock that is an hour behind the world's."""
    return FakeClock(world.clock.now - HOUR * SECOND)


@pytest.fixture
def apart(world, slow):
    """Alice, whose clock is an hour behind; Bob, who has been there for a minute."""
    bob = answerer(world)
    alice = requester(world, clock=slow)
    world.clock.advance(60)
    slow.advance(60)
    return alice, bob


@pytest.fixture
def pair(world):
    return requester(world), answerer(world)


def forged(world, *, of, label=None, payload=b"", bound=None):
    """Return what Bob could say to a request, if he had no manners."""
    bound = ((label,) if label else ()) if bound is None else bound
    sealer = world.sealer(world.bob, to=[world.alice.public])
    return [*bound, sealer.seal(payload, bound=bound, in_reply_to=of)]


class TestLately:
    def test_the_oldest_goes(self, monkeypatch):
        monkeypatch.setattr(requests_module, "_MAX_OVER", 2)
        lately = Lately()
        for one in (b"1", b"2", b"3"):
            lately.add(one)
        assert [one in lately for one in (b"1", b"2", b"3")] == [False, True, True]
        assert len(lately._ids) == len(lately._order) == 2


class TestRequest:
    def test_it_tells_what_became_of_it_and_no_payload(self, pair):
        alice, bob = pair
        request = alice.ask(b"secret")
        assert repr(request).endswith("in flight>")
        exchange(alice, bob, request)
        assert repr(request).endswith("replied>")
        assert b"secret".decode() not in repr(request)

    def test_no_more_than_so_many_are_in_flight(self, pair, monkeypatch):
        monkeypatch.setattr(requests_module, "_MAX_PENDING", 2)
        alice, _ = pair
        first = alice.ask()
        alice.ask()
        with pytest.raises(UsageError, match="in flight"):
            alice.ask()
        alice.dialogue.forget(first)
        alice.ask()

    def test_what_was_never_in_flight_ends_without_a_trace(self, pair):
        alice, _ = pair
        request = alice.ask()
        other = Requests()
        other.end(request)
        assert not other.was_answered(request.id)

    @pytest.mark.parametrize(
        ("names", "is_to_one"), [((), False), (("bob",), True), (("bob", "carol"), False)]
    )
    def test_only_what_one_alone_can_execute_is_sent_again(self, world, names, is_to_one):
        to = [identity(name).public for name in names]
        assert requester(world, to=to).ask().is_to_one is is_to_one

    def test_a_peer_in_rotation_is_two(self, world):
        keys = [identity(name).public for name in ("bob", "bob 2")]
        trust = TrustStore(Peer("bob", key, contexts=["orders"]) for key in keys)
        request = requester(world, to=[trust["bob"]]).ask()
        assert sorted(request.asked) == sorted(key.key_id for key in keys)
        assert not request.is_to_one

    @pytest.mark.parametrize("kind", [zmq.REP])
    def test_who_only_answers_does_not_ask(self, world, kind):
        with pytest.raises(UsageError, match="requests need"):
            answerer(world, kind=kind).ask()

    def test_a_router_asks_by_a_route(self, world):
        router = requester(world, kind=zmq.ROUTER)
        with pytest.raises(UsageError, match="by a route"):
            router.ask()
        request = router.ask(b"x", route=[b"bob"])
        assert request.frames[:-1] == [b"bob", b""]
        assert requester(world, kind=zmq.DEALER).ask().frames[0] == b""


@pytest.mark.audit("A22")
class TestReply:
    def test_of_whom_was_not_asked_is_refused(self, world, pair):
        alice, _ = pair
        request = alice.ask()
        sealer = world.sealer(world.carol, to=[world.alice.public])
        alice.hear([sealer.seal(b"me!", in_reply_to=request.id)])
        assert alice.codes == ["policy"]
        assert not request.is_over

    def test_a_second_one_is_refused(self, pair):
        alice, bob = pair
        request = alice.ask()
        exchange(alice, bob, request)
        [again] = bob.hear(request.frames)
        alice.hear(again)
        assert alice.codes == ["replayed"]

    def test_one_that_comes_too_late_is_refused(self, pair):
        alice, bob = pair
        request = alice.ask()
        bob.hear(request.frames)
        alice.dialogue.forget(request)
        alice.hear(bob.reply())
        assert alice.codes == ["replayed"]

    def test_one_to_nothing_is_refused(self, world, pair):
        alice, _ = pair
        alice.hear(forged(world, of=bytes(32)))
        assert alice.codes == ["policy"]
        assert not alice.has_message

    def test_one_that_was_given_up_while_it_was_judged_is_no_message(self, pair):
        alice, bob = pair
        request = alice.ask()
        bob.hear(request.frames)
        reply = bob.reply()
        results = alice.seam.judge([reply])
        alice.dialogue.forget(request)
        alice.seam.settle([reply], results, strict=False)
        assert not alice.has_message

    def test_a_request_is_no_reply(self, world, pair):
        alice, _ = pair
        request = alice.ask()
        alice.hear([world.sealer(world.bob, to=[world.alice.public]).seal(b"x")])
        assert not request.is_over
        assert alice.take().in_reply_to is None

    def test_it_is_fresh_by_the_request_that_it_names(self, world, slow):
        alice, bob = requester(world), answerer(World(slow), trust=world.trust)
        request = alice.ask(idempotent=True)
        bob.hear(request.frames)
        alice.hear(forged(World(slow), of=request.id, payload=b"late by its stamp"))
        assert request.reply.payload == b"late by its stamp"

    def test_after_max_age_it_is_judged_by_its_stamp_again(self, world, slow):
        alice = requester(world)
        request = alice.ask()
        world.clock.advance(30.000001)
        alice.hear(forged(World(slow), of=request.id))
        assert alice.codes == ["stale"]

    @pytest.mark.parametrize("label", [ANSWER, SYNC])
    def test_a_control_message_is_none(self, world, pair, label):
        alice, bob = pair
        request = alice.ask()
        alice.hear(forged(world, of=request.id, label=label))
        assert not request.is_over
        assert alice.dialogue._opener.stats.refused == {"policy": 1}
        exchange(alice, bob, request)
        assert request.reply.payload == b"done"

    def test_sync_wants_sync(self, world, pair):
        alice, _ = pair
        request = alice.ask(label=SYNC)
        alice.hear(forged(world, of=request.id))
        assert not request.is_over

    def test_only_to_a_message(self, pair):
        _, bob = pair
        with pytest.raises(UsageError, match="reply to a Message"):
            bob.dialogue.reply(b"payload", b"", None)

    def test_not_without_a_sealer(self, world, pair):
        alice, _ = pair
        deaf = End(zmq.PAIR, sealer=None, opener=world.opener())
        deaf.hear(alice.ask().frames)
        with pytest.raises(UsageError, match="replies need a sealer"):
            deaf.reply()

    def test_it_travels_with_its_topic_by_the_route_of_the_request(self, world):
        alice, bob = requester(world, kind=zmq.DEALER), answerer(world, kind=zmq.ROUTER)
        bob.hear([b"alice", *alice.ask(topic="eu").frames])
        reply = bob.reply(topic="eu")
        assert reply[:-1] == [b"alice", b"", b"eu"]


class TestRoute:
    @pytest.mark.parametrize("frames", [[b"alice", b"x"], [b"alice", b""]])
    def test_a_message_without_one_is_malformed(self, world, frames):
        router = answerer(world, kind=zmq.ROUTER)
        assert router.hear(frames) == []
        assert router.codes == ["malformed"]


class TestRep:
    """A REP answers everything once."""

    @pytest.fixture
    def rep(self, world):
        return answerer(world, kind=zmq.REP)

    @pytest.mark.audit("E1")
    def test_what_is_refused_gets_an_empty_frame(self, world, rep):
        stranger = world.sealer(world.mallory, to=[world.bob.public])
        elsewhere = world.sealer(context="stock", to=[world.bob.public])
        misled = world.sealer(to=[world.carol.public])
        kinds = [
            [b"garbage"],
            [stranger.seal(b"")],
            [elsewhere.seal(b"")],
            [misled.seal(b"")],
            [flip(misled.seal(b""), 3)],
            [b"envelope/v1/done", b""],
        ]
        assert [rep.hear(frames) for frames in kinds] == [[[b""]]] * 6
        assert rep.codes[:5] == [
            "malformed", "unknown_sender", "bad_signature", "not_addressed", "version"
        ]  # fmt: skip

    def test_a_bundle_would_want_several_replies(self, world, rep):
        bundle = world.sealer(to=[world.bob.public]).seal_bundle([b"1", b"2"])
        assert rep.hear([bundle]) == [[b""]]
        assert rep.codes == ["policy"]

    def test_elsewhere_a_bundle_is_welcome(self, world):
        bundle = world.sealer(to=[world.bob.public]).seal_bundle([b"1", b"2"])
        bob = answerer(world)
        assert bob.hear([bundle]) == []
        assert [bob.take().payload, bob.take().payload] == [b"1", b"2"]

    @pytest.mark.parametrize("label", [ANSWER, CHALLENGE, DONE])
    def test_a_control_message_that_means_nothing(self, world, rep, label):
        sealer = world.sealer(to=[world.bob.public])
        assert rep.hear([label, sealer.seal(b"", bound=[label])]) == [[b""]]
        assert not rep.has_message

    def test_what_is_not_replied_to_is_given_up(self, world, rep):
        alice = requester(world, kind=zmq.REQ)
        rep.hear(alice.ask().frames)
        message = rep.take()
        assert rep.dialogue.owed is message
        assert rep.dialogue.give_up() == [b""]
        assert rep.dialogue.give_up() is None
        with pytest.raises(UsageError, match="replies once"):
            rep.dialogue.reply(message, b"", None)

    def test_a_whole_envelope_is_owed_a_reply_too(self, world, rep):
        rep.hear(requester(world, kind=zmq.REQ).ask().frames)
        [message] = rep.seam.take_bundle()
        assert rep.dialogue.owed is message

    def test_others_give_nothing_up(self, pair):
        alice, bob = pair
        bob.hear(alice.ask().frames)
        bob.take()
        assert bob.dialogue.give_up() is None

    def test_a_repeated_request_gets_one_answer(self, world, rep):
        alice = requester(world, kind=zmq.REQ)
        request = alice.ask()
        rep.hear(request.frames)
        reply = rep.reply()
        assert rep.hear(request.frames) == [reply]
        assert rep.hear([request.frames[-1][:-1] + b"!"]) == [reply]  # The id is the same.

    def test_a_challenge_is_its_answer(self, world, slow, rep):
        request = requester(world, kind=zmq.REQ, clock=slow).ask()
        [[label, data]] = rep.hear(request.frames)
        assert label == CHALLENGE
        assert rep.hear(request.frames) == [[label, data]]


class TestSync:
    def test_it_is_answered_from_within(self, pair):
        alice, bob = pair
        request = alice.ask(label=SYNC)
        [answer] = bob.hear(request.frames)
        assert not bob.has_message
        assert alice.hear(answer) == []
        assert request.reply.sender.name == "bob"

    def test_with_a_topic_where_not_all_are_permitted(self, world):
        peer = Peer("alice", world.alice.public, contexts=["orders"], topics=["eu"])
        world.trust.replace([peer, world.trust["bob"]])
        alice, bob = requester(world), answerer(world)
        assert bob.hear(alice.ask(label=SYNC).frames) == []
        assert len(bob.codes) == 1
        request = alice.ask(topic="eu", label=SYNC)
        [answer] = bob.hear(request.frames)
        alice.hear(answer)
        assert request.reply.sender.name == "bob"

    def test_it_is_answered_again_if_the_answer_is_lost(self, pair):
        alice, bob = pair
        request = alice.ask(label=SYNC)
        [answer] = bob.hear(request.frames)
        assert bob.hear(request.frames) == [answer]

    def test_not_by_who_cannot_speak(self, world, pair):
        alice, _ = pair
        deaf = End(zmq.PAIR, sealer=None, opener=world.opener())
        assert deaf.hear(alice.ask(label=SYNC).frames) == []
        assert not deaf.has_message

    @pytest.mark.audit("A16")
    def test_one_whose_answer_would_be_too_large_gets_none(self, world):
        sealer = world.sealer(world.bob, to=[world.alice.public], max_size=400)
        bob = End(zmq.PAIR, sealer=sealer, opener=world.opener())
        topic = bytes(400)
        request = requester(world).ask(topic=topic, label=SYNC)
        assert bob.hear(request.frames) == []
        assert not bob.has_message


class TestReplies:
    """What was executed gets the same reply again, or is told that it was."""

    def test_the_same_bytes_get_the_same_bytes(self, pair):
        alice, bob = pair
        request = alice.ask()
        bob.hear(request.frames)
        assert bob.hear(request.frames) == []
        reply = bob.reply()
        assert bob.hear(request.frames) == bob.hear(request.frames) == [reply]
        assert not bob.has_message

    def test_the_first_reply_is_the_one(self, pair):
        alice, bob = pair
        request = alice.ask()
        bob.hear(request.frames)
        message = bob.take()
        first = bob.dialogue.reply(message, b"1", None)
        bob.dialogue.reply(message, b"2", None)
        assert bob.hear(request.frames) == [first]

    def test_also_when_the_request_has_become_stale(self, world, pair):
        alice, bob = pair
        request = alice.ask()
        bob.hear(request.frames)
        world.clock.advance(10)
        reply = bob.reply()
        world.clock.advance(21)
        assert bob.hear(request.frames) == [reply]
        assert bob.codes == ["stale"]

    def test_what_would_not_be_believed_any_more_gives_way_to_done(self, world, pair):
        alice, bob = pair
        request = alice.ask()
        bob.hear(request.frames)
        reply = bob.reply()
        world.clock.advance(30)
        assert bob.hear(request.frames) == [reply]
        world.clock.advance(1)
        [done] = bob.hear(request.frames)
        assert done[:-1] == [DONE]
        world.clock.advance(30)
        assert bob.hear(request.frames) == [done]
        world.clock.advance(1)
        [again] = bob.hear(request.frames)
        assert again[:-1] == [DONE]
        assert again != done
        alice.hear(again)
        assert isinstance(request.error, RequestDoneError)

    @pytest.fixture
    def few(self, monkeypatch):
        monkeypatch.setattr(requests_module, "_MAX_REPLIES", 2)
        monkeypatch.setattr(requests_module, "_MAX_DONE", 4)

    @staticmethod
    def executed(alice, bob, count, **options):
        requests = [alice.ask(**options) for _ in range(count)]
        for request in requests:
            bob.hear(request.frames)
            bob.reply()
        return requests

    def test_a_dropped_one_is_told_by_done(self, pair, few):
        alice, bob = pair
        first = self.executed(alice, bob, 3)[0]
        [done] = bob.hear(first.frames)
        assert bob.hear(first.frames) == [done]  # Sealed once.
        alice.hear(done)
        assert isinstance(first.error, RequestDoneError)

    def test_what_is_forgotten_altogether_gets_nothing(self, pair, few):
        alice, bob = pair
        first = self.executed(alice, bob, 5)[0]
        assert bob.hear(first.frames) == []

    @pytest.mark.audit("A16")
    def test_telling_so_drops_no_reply(self, pair, few):
        alice, bob = pair
        requests = self.executed(alice, bob, 4)
        for request in requests[:2]:
            bob.hear(request.frames)
        requests += self.executed(alice, bob, 1)
        [reply] = bob.hear(requests[3].frames)
        alice.hear(reply)
        assert requests[3].reply is not None

    @pytest.mark.audit("A5")
    def test_a_stranger_does_not_choose_what_done_is_bound_to(self, pair, few):
        alice, bob = pair
        first = self.executed(alice, bob, 3, topic="eu")[0]
        [done] = bob.hear([b"us", b"envelope/v1/sync", first.frames[-1]])
        assert done[:-1] == [b"eu", DONE]

    def test_long_topics_are_not_kept_for_it(self, pair, few):
        alice, bob = pair
        first = self.executed(alice, bob, 3, topic=bytes(1025))[0]
        [done] = bob.hear(first.frames)
        assert done[:-1] == [DONE]

    def test_bytes_are_bounded(self, pair, monkeypatch):
        monkeypatch.setattr(requests_module, "_MAX_REPLY_BYTES", 3000)
        alice, bob = pair
        replies = bob.dialogue._replies
        for _ in range(4):
            bob.hear(alice.ask().frames)
            bob.reply(bytes(1000))
        assert len(replies._kept) == 2
        said = [one.said for one in replies._executed.values() if one.said]
        assert replies._size == sum(sum(map(len, one)) for one in said) < 3000

    def test_nothing_is_known_at_first(self):
        replies = Replies()
        assert not replies
        assert replies.find(b"") is None

    def test_whoever_was_revoked_since_is_told_nothing(self, world, pair, few):
        alice, bob = pair
        first = self.executed(alice, bob, 3)[0]
        results = bob.seam.judge([first.frames])
        revoked = Peer("alice", world.alice.public, contexts=["orders"], revoked=True)
        world.trust.replace([revoked, world.trust["bob"]])
        bob.seam.settle([first.frames], results, strict=False)
        assert bob.says() == []


class TestOutgoing:
    def test_what_has_no_sealer_does_not_send(self):
        with pytest.raises(UsageError, match="no sealer"):
            _ = Outgoing(PATTERNS[zmq.PULL], None).sealer

    def test_the_first_topics_have_streams(self, world, monkeypatch):
        monkeypatch.setattr(outgoing_module, "_MAX_TOPIC_STREAMS", 2)
        sealer = world.sealer()
        out = Outgoing(PATTERNS[zmq.PUB], sealer)
        topics = [out.by_topic(topic) for topic in (b"a", b"b", b"c", None)]
        assert out.by_topic(b"a") is topics[0]
        assert len({one.stream for one in topics}) == 3
        assert topics[2] is topics[3] is sealer
        assert Outgoing(PATTERNS[zmq.PUSH], sealer).by_topic(b"a") is sealer

    def test_the_latest_peers_have_streams(self, world, monkeypatch):
        monkeypatch.setattr(outgoing_module, "_MAX_PEERS", 2)
        out = Outgoing(PATTERNS[zmq.ROUTER], world.sealer(world.bob))
        first = out.by_route((b"a", b""))
        second = out.by_route((b"b", b""))
        assert out.by_route((b"a", b"")) is first
        out.by_route((b"c", b""))
        assert out.by_route((b"a", b"")) is first
        assert out.by_route((b"b", b"")) is not second
        assert out.by_route(()) is out.sealer

    def test_answers_are_addressed_to_their_requester_if_anything_is(self, world):
        alice = world.trust["alice"]
        signed = Outgoing(PATTERNS[zmq.REP], world.sealer(world.bob))
        assert not signed.by_requester(alice).addressed
        both = [world.alice.public, world.carol.public]
        sealed = Outgoing(PATTERNS[zmq.REP], world.sealer(world.bob, to=both))
        assert sealed.by_requester(alice).audience == (alice,)

    def test_anew_is_another_stream(self, world):
        out = Outgoing(PATTERNS[zmq.REP], world.sealer(world.bob))
        alice = world.trust["alice"]
        first = out.by_requester(alice)
        assert out.by_requester(alice) is first
        assert out.by_requester(alice, anew=True) is not first

    def test_all_but_answers_begins_anew(self, world):
        out = Outgoing(PATTERNS[zmq.ROUTER], world.sealer())
        before = [out.sealer, out.by_route((b"a", b"")), out.by_requester(world.trust["bob"])]
        out.begin_anew()
        after = [out.sealer, out.by_route((b"a", b"")), out.by_requester(world.trust["bob"])]
        assert [old is new for old, new in zip(before, after, strict=True)] == [False, False, True]
