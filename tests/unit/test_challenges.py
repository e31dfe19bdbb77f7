"""Challenges without sockets: each rule of SPEC 16.5, and what is never repeated.

Rules of this file: the test is the network. Clocks stand still unless a test moves them.
"""

from __future__ import annotations

import pytest
import zmq
from support import SECOND, FakeClock, World
from talk import End, answerer, exchange, requester

from envelope import Opener, Peer, TrustStore, codec
from envelope.errors import RequestRefusedError, UsageError
from envelope.message import message_id
from envelope.replay import SQLiteReplayStore
from envelope.zeromq.challenges import Challenges, Pending
from envelope.zeromq.frames import ANSWER, CHALLENGE

HOUR = 3600
PERSON = b"a" * 16
OTHER = b"b" * 16


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


class TestChallenges:
    """The tables, by a clock that is handed in."""

    def test_a_burst_then_ten_a_second(self):
        one = Challenges(30 * SECOND)
        asked = 0
        while one.may_ask(PERSON, 0):
            one.take(PERSON, 0)
            asked += 1
        assert asked == 64
        assert not one.may_ask(PERSON, SECOND // 10 - 1)
        asked = 0
        for now in range(0, SECOND, SECOND // 100):
            if one.may_ask(PERSON, now):
                one.take(PERSON, now)
                asked += 1
        assert asked == 9

    def test_tokens_do_not_pile_up(self):
        one = Challenges(30 * SECOND)
        one.take(PERSON, 0)
        for count in range(64):
            assert one.may_ask(PERSON, HOUR * SECOND), count
            one.take(PERSON, HOUR * SECOND)
        assert not one.may_ask(PERSON, HOUR * SECOND)

    def test_each_has_their_own(self):
        one = Challenges(30 * SECOND)
        for _ in range(64):
            one.take(PERSON, 0)
        assert one.may_ask(OTHER, 0)

    def test_a_claim_makes_no_entry(self):
        one = Challenges(30 * SECOND)
        assert one.may_ask(PERSON, 0)
        assert one._buckets == {}

    def test_those_that_came_to_nothing_are_forgotten(self):
        one = Challenges(30 * SECOND)
        one.add(b"1", Pending(PERSON, 0, b"a", [b"said"]))
        one.add(b"2", Pending(PERSON, 30 * SECOND, b"b", [b"more"]))
        assert list(one.pending) == [b"1", b"2"]
        assert one.find(b"a", 30 * SECOND) == [b"said"]
        assert one.find(b"a", 30 * SECOND + 1) is None
        assert one.find(b"b", 30 * SECOND + 1) == [b"more"]
        assert not one.is_first(PERSON, 30 * SECOND)
        assert one.is_first(OTHER, 30 * SECOND)
        assert one.is_first(PERSON, 60 * SECOND + 1)
        assert one.pending == one._by_request == {}

    def test_an_answer_is_known_as_one(self):
        one = Challenges(30 * SECOND)
        one.add(b"1", Pending(PERSON, 0, b"a", []))
        assert not one.was_answered(b"1")
        assert one.close(b"1")
        assert one.find(b"a", 0) is None
        assert one.was_answered(b"1")
        assert not one.close(b"1")


class TestChallenge:
    def test_it_is_answered_by_the_request_itself(self, apart):
        alice, bob = apart
        request = alice.ask(b"go", topic="eu")
        first = request.id
        [challenge] = bob.hear(request.frames)
        assert challenge[:-1] == [b"eu", CHALLENGE]
        [again] = alice.hear(challenge)
        assert again == request.frames
        assert request.id != first
        assert bob.hear(again) == []
        message = bob.take()
        assert (message.payload, message.topic, message.sequence) == (b"go", b"eu", 0)
        alice.hear(bob.dialogue.reply(message, b"done", None))
        assert request.reply.payload == b"done"

    def test_both_know_each_other_then(self, apart, slow, world):
        alice, bob = apart
        exchange(alice, bob, alice.ask())
        for _ in range(3):
            world.clock.advance(20)
            slow.advance(20)
            request = alice.ask()
            exchange(alice, bob, request)
            assert request.reply
        assert bob.codes == ["stale"]

    def test_the_same_request_is_challenged_once(self, world, apart):
        alice, bob = apart
        first, second = alice.ask(), alice.ask()
        frames = first.frames
        [challenge] = bob.hear(frames)
        assert bob.hear(frames) == [challenge]  # The other may have been lost.
        [answer] = alice.hear(challenge)
        bob.hear(answer)
        assert bob.hear(frames) == []
        bob.hear(second.frames)
        world.clock.advance(31)
        assert bob.hear(second.frames) == []  # Its answer would not be heard.
        assert set(bob.codes) == {"stale"}

    def test_an_answer_that_nobody_waits_for_any_more_becomes_a_request(self, world, slow, apart):
        # Whoever challenged may have died since.
        alice, bob = apart
        request, other = alice.ask(idempotent=True), alice.ask()
        for one in (request, other):
            [challenge] = bob.hear(one.frames)
            alice.hear(challenge)
        assert request.is_answer
        answer = alice.dialogue.again(request)
        assert answer == request.frames
        new = answerer(world)
        for clock in (world.clock, slow):
            clock.advance(30)
        assert alice.dialogue.again(request) == answer
        for clock in (world.clock, slow):
            clock.advance(1)
        frames = alice.dialogue.again(request)
        assert frames != answer
        exchange(alice, new, request)
        assert request.reply.payload == b"done"

    def test_unless_nobody_may_hear_it(self, world, slow, apart):
        alice, bob = apart
        request = alice.ask(idempotent=True)
        [challenge] = bob.hear(request.frames)
        alice.hear(challenge)
        slow.advance(31)
        sealer = alice.dialogue._out.sealer

        def refuse(*_, **__):
            raise UsageError("no recipient is valid")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(sealer), "seal", refuse)
            assert alice.dialogue.again(request) is None
        assert isinstance(request.error, RequestRefusedError)

    def test_a_second_one_is_no_second_answer(self, apart):
        alice, bob = apart
        [challenge] = bob.hear(alice.ask().frames)
        assert len(alice.hear(challenge)) == 1
        assert alice.hear(challenge) == []
        assert alice.codes == ["replayed"]

    @pytest.mark.audit("A3")
    def test_an_answer_is_executed_once_and_replied_to_again(self, apart):
        alice, bob = apart
        [challenge] = bob.hear(alice.ask().frames)
        [again] = alice.hear(challenge)
        bob.hear(again)
        assert bob.hear(again) == []  # While it is executed.
        reply = bob.reply()
        assert bob.hear(again) == [reply]
        assert bob.codes == ["stale", "replayed", "replayed"]
        assert not bob.has_message

    @pytest.mark.audit("A22")
    def test_nobody_else_may_answer(self, world, apart):
        alice, bob = apart
        [challenge] = bob.hear(alice.ask().frames)
        carol = world.sealer(world.carol, to=[world.bob.public])
        assert bob.hear([carol.seal(b"me!", in_reply_to=message_id(challenge[-1]))]) == []
        assert bob.codes == ["stale", "policy"]

    @pytest.mark.audit("A22")
    def test_nobody_else_may_challenge(self, world, apart):
        alice, _ = apart
        request = alice.ask()
        carol = world.sealer(world.carol, to=[world.alice.public])
        payload = codec.encode_object(["stale", HOUR * SECOND])
        data = carol.seal(payload, bound=[CHALLENGE], in_reply_to=request.id)
        assert alice.hear([CHALLENGE, data]) == []
        assert alice.codes == ["policy"]

    def test_one_to_nothing_is_refused(self, world, pair):
        alice, _ = pair
        alice.hear(forged(world, of=bytes(32), label=CHALLENGE))
        assert alice.codes == ["policy"]

    @pytest.mark.parametrize(
        "value", [[], ["stale"], ["stale", -1], ["stale", True], ["no code", 1], [1, 1], "stale"]
    )
    def test_one_that_says_nothing_is_malformed(self, world, pair, value):
        alice, bob = pair
        request = alice.ask()
        payload = codec.encode_object(value)
        assert alice.hear(forged(world, of=request.id, label=CHALLENGE, payload=payload)) == []
        assert alice.dialogue._opener.stats.refused == {"malformed": 1}
        exchange(alice, bob, request)
        assert request.reply

    def test_bytes_that_are_no_object_are_malformed(self, world, pair):
        alice, _ = pair
        request = alice.ask()
        alice.hear(forged(world, of=request.id, label=CHALLENGE, payload=b"\xc1"))
        assert not request.is_over

    def test_an_answer_that_is_late_is_stale(self, world, slow, apart):
        alice, bob = apart
        [challenge] = bob.hear(alice.ask().frames)
        [again] = alice.hear(challenge)
        world.clock.advance(30.000001)
        assert bob.hear(again) == []
        assert bob.codes == ["stale", "stale"]
        assert not bob.has_message

    def test_what_is_no_request_is_challenged_in_vain(self, apart):
        alice, bob = apart
        [challenge] = bob.hear(alice.seam.seal(b"no request", None, None))
        assert alice.hear(challenge) == []
        assert alice.codes == ["policy"]
        assert not bob.has_message

    def test_a_bundle_is_not_challenged(self, apart):
        alice, bob = apart
        [frames] = alice.seam.seal_many([b"1", b"2"], None, None)
        assert bob.hear(frames) == []

    @pytest.mark.audit("A16")
    def test_a_forgery_is_not_challenged_and_costs_no_token(self, apart):
        alice, bob = apart
        frames = alice.ask().frames
        assert bob.hear([frames[-1][:-1] + b"!"]) == []
        assert bob.dialogue._challenges._buckets == {}
        assert len(bob.hear(frames)) == 1

    def test_not_by_who_has_no_sealer(self, world, apart):
        alice, _ = apart
        deaf = End(zmq.PAIR, sealer=None, opener=world.opener())
        assert deaf.hear(alice.ask().frames) == []

    @pytest.mark.audit("A16")
    def test_what_is_beyond_the_budget_is_not_marked(self, world, slow, apart):
        alice, bob = apart
        requests = [alice.ask(b"%d" % number) for number in range(65)]
        challenges = [one for request in requests for one in bob.hear(request.frames)]
        assert len(challenges) == 64
        world.clock.advance(0.1)
        slow.advance(0.1)
        exchange(alice, bob, requests[64])
        assert requests[64].reply.payload == b"done"

    @pytest.mark.audit("A16")
    def test_one_that_would_be_too_large_is_not_sent(self, world, slow):
        sealer = world.sealer(world.bob, to=[world.alice.public], max_size=400)
        bob = End(zmq.PAIR, sealer=sealer, opener=world.opener())
        assert bob.hear(requester(world, clock=slow).ask(topic=bytes(400)).frames) == []

    def test_a_lost_one_costs_its_own_request_alone(self, apart):
        alice, bob = apart
        bob.hear(alice.ask().frames)
        request = alice.ask()
        exchange(alice, bob, request)
        assert request.reply

    def test_many_at_once_share_a_stream(self, apart):
        alice, bob = apart
        requests = [alice.ask(b"%d" % number) for number in range(20)]
        challenges = [one for request in requests for one in bob.hear(request.frames)]
        answers = [one for frames in challenges for one in alice.hear(frames)]
        for frames in answers:
            bob.hear(frames)
            alice.hear(bob.reply())
        assert all(request.reply for request in requests)
        assert len({request.stream for request in requests}) == 1

    def test_a_router_as_a_requester_answers_by_the_route(self, world, slow):
        bob = answerer(world, kind=zmq.DEALER)
        router = requester(world, kind=zmq.ROUTER, clock=slow)
        world.clock.advance(60)
        slow.advance(60)
        request = router.ask(b"go", route=[b"bob"])
        other = router.ask(b"go", route=[b"carol"])
        [challenge] = bob.hear(request.frames[1:])
        [again] = router.hear([b"bob", *challenge])
        assert again[:2] == [b"bob", b""]
        assert bob.hear(again[1:]) == []
        message = bob.take()
        assert (message.sequence, message.stream) == (0, request.stream)
        assert router.ask(route=[b"carol"]).stream != other.stream


class TestNeverExecuted:
    """A request is repeated by itself only if no earlier life can have executed it."""

    def asked(self, world, alice_options=None, *, age=60.0, before=0.0):
        """Return what became of a request sealed ``before`` seconds before Bob's life began."""
        bob = None
        slow = FakeClock(world.clock.now - HOUR * SECOND)
        alice = requester(world, clock=slow, **(alice_options or {}))
        if before <= 0:
            bob = answerer(world)
            world.clock.advance(-before)
            slow.advance(-before)
            request = alice.ask()
        else:
            request = alice.ask()
            world.clock.advance(before)
            slow.advance(before)
            bob = answerer(world)
        world.clock.advance(age)
        slow.advance(age)
        [challenge] = bob.hear(request.frames)
        [answer] = alice.hear(challenge)
        bob.hear(answer)
        return request, bob

    def test_it_is_younger_than_the_memory(self, world):
        request, bob = self.asked(world, age=20, before=-1)
        assert not request.is_over
        assert bob.has_message

    @pytest.mark.audit("A3", "A23")
    @pytest.mark.parametrize("before", [0, 0.1, 5])
    def test_it_is_not(self, world, before):
        request, bob = self.asked(world, age=20, before=before)
        assert isinstance(request.error, RequestRefusedError)
        assert not bob.has_message

    def test_clocks_that_run_unevenly_are_allowed_for(self, world):
        request, _ = self.asked(world, age=19.8, before=-0.2)
        assert isinstance(request.error, RequestRefusedError)

    def test_two_recipients_may_both_have_executed_it(self, world):
        to = [world.bob.public, world.carol.public]
        request, bob = self.asked(world, {"to": to}, age=20, before=-5)
        assert isinstance(request.error, RequestRefusedError)
        assert not bob.has_message

    def test_the_next_one_is_heard(self, world, apart):
        alice, _ = apart
        request = alice.ask()
        restarted = answerer(world)
        exchange(alice, restarted, request)
        assert isinstance(request.error, RequestRefusedError)
        request = alice.ask()
        exchange(alice, restarted, request)
        assert request.reply

    @pytest.mark.audit("A19")
    def test_a_machine_that_slept_knows_it_by_its_wall_clock(self, world):
        still = FakeClock()
        opener = Opener(
            world.trust,
            context="orders",
            identity=world.alice,
            replay=world.store(),
            clock=world.clock,
            monotonic=still,
        )
        alice = End(zmq.PAIR, sealer=world.sealer(to=[world.bob.public]), opener=opener)
        bob = answerer(world)
        request = alice.ask()
        bob.hear(request.frames)
        bob.take()  # Executed. Then Alice's machine sleeps, and Bob's restarts.
        world.clock.advance(1800)
        restarted = answerer(world, replay=world.store(first_life=False))
        world.clock.advance(1800)
        exchange(alice, restarted, request)
        assert isinstance(request.error, RequestRefusedError)

    def test_what_does_no_harm_is_repeated_all_the_same(self, world, slow):
        alice = requester(world, clock=slow)
        request = alice.ask(idempotent=True)
        exchange(alice, answerer(world), request)
        assert request.reply

    def test_but_not_for_ever(self, world, pair):
        alice, _ = pair
        request = alice.ask(idempotent=True)
        payload = codec.encode_object(["stale", 0])
        for _ in range(3):
            [again] = alice.hear(forged(world, of=request.id, label=CHALLENGE, payload=payload))
            assert again == request.frames
        [last] = alice.hear(forged(world, of=request.id, label=CHALLENGE, payload=payload))
        assert last[:-1] == [ANSWER]
        assert isinstance(request.error, RequestRefusedError)

    def test_an_answer_is_not_for_the_application(self, world, slow):
        alice, bob = requester(world, clock=slow), answerer(world)
        [challenge] = bob.hear(alice.ask(topic="eu").frames)
        [answer] = alice.hear(challenge)
        assert answer[:-1] == [b"eu", ANSWER]
        assert bob.hear(answer) == []
        assert not bob.has_message

    def test_nor_can_it_be_sent_to_who_was_revoked(self, world, slow):
        people = TrustStore([Peer("bob", world.bob.public, contexts=["orders"])])
        alice = requester(world, to=[people["bob"]], clock=slow)
        request = alice.ask()
        [challenge] = answerer(world).hear(request.frames)
        results = alice.seam.judge([challenge])
        people.replace([Peer("bob", world.bob.public, contexts=["orders"], revoked=True)])
        alice.seam.settle([challenge], results, strict=False)
        assert isinstance(request.error, RequestRefusedError)
        assert alice.says() == []


class TestAhead:
    """Whoever is ahead of a memory that is lost could be executed by its next life."""

    @pytest.fixture
    def fast(self, world):
        return FakeClock(world.clock.now + 20 * SECOND)

    def both(self, world, fast, seconds):
        world.clock.advance(seconds)
        fast.advance(seconds)

    def test_it_is_told_that_it_is(self, world, fast):
        alice, bob = requester(world, clock=fast), answerer(world)
        self.both(world, fast, 60)
        request = alice.ask()
        exchange(alice, bob, request)
        assert "(future)" in str(request.error)

    @pytest.mark.audit("A3", "A4", "A19")
    def test_no_envelope_is_executed_by_two_lives(self, world, fast):
        alice, bob = requester(world, clock=fast), answerer(world)
        self.both(world, fast, 60)
        requests = [alice.ask(b"%d" % number, idempotent=number == 0) for number in range(3)]
        sent = [request.frames for request in requests]
        executed = []
        for request in requests:
            for challenge in bob.hear(request.frames):
                for again in alice.hear(challenge):
                    sent.append(again)
                    bob.hear(again)
            while bob.has_message:
                executed.append(bob.take().payload)
        later = alice.ask(b"later")
        sent.append(later.frames)
        bob.hear(later.frames)
        assert not bob.has_message  # In a stream that answered, and ahead of the clock.
        assert executed == [b"0"]
        self.both(world, fast, 1)
        restarted = answerer(world, replay=world.store(first_life=False))
        for _ in range(60):
            self.both(world, fast, 1)
            for frames in sent:
                restarted.hear(frames)
                while restarted.has_message:
                    executed.append(restarted.take().payload)
        # "0" does no harm when it is executed again; no other is executed twice.
        assert all(executed.count(payload) <= 1 for payload in (b"1", b"2", b"later"))

    def test_a_memory_on_disk_is_not_lost(self, world, fast, tmp_path):
        with SQLiteReplayStore(tmp_path / "replay.db", first_life=True, clock=world.clock) as store:
            alice, bob = requester(world, clock=fast), answerer(world, replay=store)
            self.both(world, fast, 60)
            for _ in range(2):
                request = alice.ask()
                exchange(alice, bob, request)
                assert request.reply
            assert bob.codes == ["future"]


class TestBothAsk:
    """On a PAIR each end asks and answers."""

    def test_the_streams_of_answers_outlive_the_answer_to_a_challenge(self, world, slow):
        alice, bob = requester(world, clock=slow), answerer(world)

        def later(seconds):
            world.clock.advance(seconds)
            slow.advance(seconds)

        later(60)
        exchange(alice, bob, alice.ask())
        request = bob.ask(idempotent=True)
        exchange(bob, alice, request)
        assert request.reply
        request = alice.ask()
        bob.hear(request.frames)
        later(31)  # Longer than a reply is fresh by what it names.
        alice.hear(bob.reply())
        assert request.reply
