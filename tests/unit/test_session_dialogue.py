"""Requests, replies and what a restart does to them, by sessions without sockets (SPEC 18.13)."""

from __future__ import annotations

import pytest
import zmq
from support import World
from whisper import End, answering, asking, exchange, manager

from envelope import Policy
from envelope.errors import RequestRefusedError, UsageError
from envelope.session import wire
from envelope.zeromq.frames import CHALLENGE, DONE, SYNC


@pytest.fixture
def world():
    return World()


@pytest.fixture
def ends(world):
    """Alice and Bob, with a session that both have heard on."""
    one, other = asking(world), answering(world)
    exchange(one, other, one.send(b"hello"))
    assert other.payloads() == [b"hello"]
    return one, other


def test_what_is_sent_first_waits_for_the_session_and_keeps_its_order(world):
    one, other = asking(world), answering(world)
    out = [frames for n in range(5) for frames in one.send(b"%d" % n, topic="t")]
    assert len(out) == 1  # One initiation, for all of them.
    exchange(one, other, out)
    assert other.payloads() == [b"0", b"1", b"2", b"3", b"4"]
    assert one.send(b"5")
    assert not one.manager.staged


def test_a_reply_is_for_its_request_alone(ends):
    one, other = ends
    first, out = one.ask(b"first")
    second, more = one.ask(b"second")
    other.hear(*out, *more)
    assert one.hear(*other.reply(b"one")) == []
    assert (first.reply.payload, second.is_over) == (b"one", False)
    one.hear(*other.reply(b"two"))
    assert second.reply.payload == b"two"
    assert second.reply.in_reply_to == second.id
    assert one.codes == other.codes == []


@pytest.mark.audit("A22")
def test_a_reply_to_nothing_that_was_asked_is_refused(ends):
    one, other = ends
    request, out = one.ask(b"what?")
    other.hear(*out)
    one.dialogue.forget(request)
    one.hear(*other.reply())
    assert one.seam.stats.refused == {"policy": 1}
    assert not one.seam.ready


@pytest.mark.audit("A22")
@pytest.mark.parametrize("label", [None, SYNC])
def test_a_reply_by_another_peer_than_was_asked_is_refused(world, ends, label):
    one, other = ends
    carol = End(zmq.PAIR, manager(world, world.carol, to=world.alice.public))
    exchange(carol, one, carol.send(b"I have a session, too"))
    one.payloads()
    request, out = one.ask(b"?", label=label)
    # The id is no secret: whoever knows both ends' keys can compute it from what they sent.
    bound = () if label is None else (label,)
    data = carol.manager.send(b"mine", bound=bound, in_reply_to=request.id)
    assert one.hear([*bound, data]) == []
    assert (one.seam.stats.refused, request.is_over) == ({"policy": 1}, False)
    answers = other.hear(*out)
    one.hear(*(answers or other.reply(b"his")))
    assert request.reply.sender.name == "bob"


@pytest.mark.audit("A3", "A22")
def test_a_request_that_comes_twice_is_executed_once_and_its_reply_is_said_again(ends):
    one, other = ends
    request, out = one.ask(b"pay")
    other.hear(*out)
    said = other.reply(b"paid")
    # The reply is lost; the request is sent again, by the same bytes.
    again = one.dialogue.again(request)
    assert [again] == out
    assert other.hear(again) == said
    assert not other.seam.ready
    assert other.codes == ["replayed"]
    one.hear(*said)
    assert request.reply.payload == b"paid"


def test_a_request_that_waits_for_a_session_is_not_repeated(world):
    one = asking(world)
    request, out = one.ask(b"?")
    assert len(out) == 1
    assert one.dialogue.again(request) is None
    assert not request.is_over


@pytest.mark.audit("A3")
def test_what_was_asked_before_a_restart_fails_and_what_is_asked_after_it_is_heard(world, ends):
    one, _ = ends
    request, out = one.ask(b"pay")
    world.clock.advance(1)
    restarted = answering(world)
    (hint,) = restarted.hear(*out)
    out = one.hear(hint)
    assert isinstance(request.error, RequestRefusedError)
    assert restarted.codes == ["unknown_session"]
    exchange(one, restarted, out)
    later, out = one.ask(b"and now?")
    restarted.hear(*out)
    one.hear(*restarted.reply(b"yes"))
    assert later.reply.payload == b"yes"
    assert restarted.payloads() == []


def test_what_is_harmless_is_asked_again_of_the_next_life_by_itself(world, ends):
    one, _ = ends
    request, out = one.ask(b"read", idempotent=True)
    restarted = answering(world)
    out = one.hear(*restarted.hear(*out))
    assert not request.is_over
    exchange(one, restarted, out)
    one.hear(*restarted.reply(b"read it"))
    assert request.reply.payload == b"read it"


def test_what_is_harmless_fails_if_the_peer_is_revoked_meanwhile(world, ends):
    one, _ = ends
    request, out = one.ask(b"read", idempotent=True)
    (hint,) = answering(world).hear(*out)

    def no_more(*_, **__):
        raise UsageError("no session with this peer")

    one.manager.send = no_more
    one.hear(hint)
    assert isinstance(request.error, RequestRefusedError)


def test_what_is_harmless_outlives_its_session_and_its_peer(world, ends):
    one, _ = ends
    request, _ = one.ask(b"read", idempotent=True)
    world.clock.advance(181)
    one.tick()
    assert one.dialogue.again(request) is None  # There is no session to say it by.
    restarted = answering(world)
    exchange(one, restarted, one.says())
    assert one.dialogue.again(request) == request.frames
    one.hear(*restarted.reply(b"read it"))
    assert request.reply.payload == b"read it"
    assert not one.dialogue._requests.pending


def test_who_is_slow_may_answer_what_was_said_before_its_session_was_over(world, ends):
    one, other = ends
    request, out = one.ask(b"read", idempotent=True)
    other.hear(*out)
    for _ in range(2):
        world.clock.advance(181)
        before = request.id
        assert one.dialogue.again(request) is None
        exchange(one, other, one.says())
        assert request.former == before != request.id
        assert len(one.dialogue._requests.pending) == 2
    assert other.take().id not in one.dialogue._requests.pending
    exchange(other, one, other.reply(b"slowly"))
    assert request.reply.payload == b"slowly"
    assert not one.dialogue._requests.pending
    exchange(other, one, other.reply(b"again"))
    assert one.seam.stats.refused == {"policy": 1}


def test_what_is_not_harmless_is_not_repeated_once_its_session_is_over(world, ends):
    one, other = ends
    request, out = one.ask(b"pay")
    other.hear(*out)
    world.clock.advance(179)
    assert [one.dialogue.again(request)] == out
    world.clock.advance(2)
    assert one.dialogue.again(request) is None
    assert one.dialogue.again(request) is None
    assert one.says() == []
    exchange(other, one, other.reply(b"paid"))
    assert request.reply.payload == b"paid"


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_request_that_waited_in_vain_is_asked_anew_and_executed_once(world, idempotent):
    one = asking(world)
    request, _ = one.ask(b"?", idempotent=idempotent)
    one.manager.note_dropped()  # Another's: this one still waits.
    assert one.dialogue.again(request) is None
    assert one.manager.staged == 1
    world.clock.advance(91)
    one.tick()
    assert (one.manager.staged, one.manager.dropped) == (0, 2)
    for _ in range(2):
        assert one.dialogue.again(request) is None
    other = answering(world)
    exchange(one, other, one.says())
    one.hear(*other.reply(b"!"))
    assert request.reply.payload == b"!"
    assert other.payloads() == []


def test_a_request_for_which_there_is_no_room_just_now_is_asked_anew_later(world):
    one = asking(world)
    request, _ = one.ask(b"?")
    world.clock.advance(91)
    one.tick()
    for _ in range(1024):
        one.send(b"1")
    assert one.dialogue.again(request) is None
    assert not request.is_over
    world.clock.advance(91)
    one.tick()
    assert one.dialogue.again(request) is None
    other = answering(world)
    exchange(one, other, one.says())
    assert other.payloads() == [b"?"]


def test_a_request_that_waited_in_vain_fails_if_the_peer_is_revoked(world):
    one = asking(world)
    request, _ = one.ask(b"?")
    world.trust.replace([])
    one.tick()
    assert one.dialogue.again(request) is None
    assert isinstance(request.error, RequestRefusedError)


def test_a_request_that_was_given_up_is_not_waited_for_once_it_is_sealed(world):
    one, other = asking(world), answering(world)
    request, out = one.ask(b"?")
    one.dialogue.forget(request)
    exchange(one, other, out)
    one.hear(*other.reply())
    assert one.seam.stats.refused == {"policy": 1}
    assert isinstance(request.error, RequestRefusedError)


def test_sync_says_who_is_there_and_is_not_for_the_application(ends):
    one, other = ends
    request, out = one.ask(label=SYNC, topic="t")
    one.hear(*other.hear(*out))
    assert request.reply.sender.name == "bob"
    assert not other.seam.ready


def test_a_plain_reply_to_sync_is_refused(ends):
    one, other = ends
    request, out = one.ask(label=SYNC)
    other.hear(*out)
    other.said.clear()
    data = other.manager.send(b"", to=one.manager.identity.public, in_reply_to=request.id)
    one.hear([data])
    assert (one.seam.stats.refused, request.is_over) == ({"policy": 1}, False)


def test_a_control_frame_of_envelopes_is_not_for_the_application(ends):
    one, other = ends
    data = one.manager.send(b"", bound=(SYNC,))
    assert other.hear([SYNC, data])
    assert not other.seam.ready


class TestTurns:
    """REQ and REP speak in turn."""

    @pytest.fixture
    def turns(self, world):
        return asking(world, zmq.REQ), answering(world, zmq.REP)

    def test_each_message_has_one_answer(self, turns):
        one, other = turns
        request, (initiation,) = one.ask(b"?")
        (response,) = other.hear(initiation)
        (data,) = one.hear(response)
        assert other.hear(data) == []
        (reply,) = other.reply(b"!")
        assert one.hear(reply) == []
        assert request.reply.payload == b"!"

    @pytest.mark.parametrize("idempotent", [False, True])
    def test_what_was_asked_before_a_restart_is_over_also_after_a_long_silence(
        self, world, turns, idempotent
    ):
        one, other = turns
        exchange(one, other, one.ask(b"hello")[1])
        one.hear(*other.reply())
        request, out = one.ask(b"pay", idempotent=idempotent)
        world.clock.advance(16)
        assert one.tick() == []  # By now it would ask before it sends.
        restarted = answering(world, zmq.REP)
        (initiation,) = one.hear(*restarted.hear(*out))
        if not idempotent:
            assert isinstance(request.error, RequestRefusedError)
            return
        assert not request.is_over
        exchange(one, restarted, [initiation])
        one.hear(*restarted.reply(b"paid"))
        assert request.reply.payload == b"paid"

    @pytest.mark.audit("E1")
    def test_a_rep_answers_all_that_it_refuses_by_nothing(self, turns):
        _, other = turns
        assert other.hear([b"garbage"]) == [[b""]]
        assert other.hear([b""]) == [[b""]]
        assert other.codes == ["malformed", "malformed"]

    @pytest.mark.audit("E1")
    def test_a_rep_answers_by_nothing_also_what_replies_to_nothing(self, turns):
        one, other = turns
        exchange(one, other, one.ask(b"?")[1])
        other.reply()
        # Else its socket could not receive any more, whoever wants to be heard.
        assert other.hear([one.manager.send(b"!", in_reply_to=bytes(32))]) == [[b""]]
        assert other.seam.stats.refused == {"policy": 1}
        assert not other.seam.ready

    def test_a_req_passes_over_nothing(self, turns):
        one, _ = turns
        assert one.hear([b""]) == []
        assert one.codes == []

    def test_a_rep_answers_a_session_that_it_does_not_have_by_a_hint(self, world, turns):
        one, other = turns
        _, out = one.ask(b"?")
        exchange(one, other, out)
        other.reply()
        request, (data,) = one.ask(b"?")
        world.clock.advance(1)
        restarted = answering(world, zmq.REP)
        (hint,) = restarted.hear(data)
        (initiation,) = one.hear(hint)
        assert isinstance(request.error, RequestRefusedError)
        (response,) = restarted.hear(initiation)
        (control,) = one.hear(response)
        assert restarted.hear(control) == [[b""]]

    def test_a_rep_gives_up_what_nobody_replied_to(self, turns):
        one, other = turns
        assert other.dialogue.give_up() is None
        exchange(one, other, one.ask(b"?")[1])
        other.take()
        assert other.dialogue.owed.payload == b"?"
        assert other.dialogue.give_up() == [b""]

    def test_a_rep_replies_once_and_does_not_ask(self, turns):
        one, other = turns
        exchange(one, other, one.ask(b"?")[1])
        message = other.take()
        other.dialogue.reply(message, b"!", None)
        with pytest.raises(UsageError, match="once"):
            other.dialogue.reply(message, b"!", None)
        with pytest.raises(UsageError, match="does not ask"):
            other.ask()
        with pytest.raises(UsageError, match="does not reply"):
            one.dialogue.reply(message, b"!", None)

    def test_a_reply_after_the_end_of_its_session_is_a_mistake(self, world, turns):
        one, other = turns
        exchange(one, other, one.ask(b"?")[1])
        world.clock.advance(200)
        with pytest.raises(UsageError, match="only answers"):
            other.reply()

    def test_a_req_asks_for_new_keys_before_it_sends(self, world, turns):
        one, other = turns
        exchange(one, other, one.ask(b"?")[1])
        one.hear(*other.reply())
        world.clock.advance(121)
        _, (initiation,) = one.ask(b"later")
        (response,) = other.hear(initiation)
        (data,) = one.hear(response)
        other.hear(data)
        assert other.payloads() == [b"later"]

    def test_neither_says_anything_by_itself(self, world, turns):
        one, other = turns
        exchange(one, other, one.ask(b"?")[1])
        for _ in range(40):
            world.clock.advance(4)
            assert other.tick() == one.tick() == []


class TestRoutes:
    """A ROUTER has a link for each route."""

    def test_each_client_has_its_own_session_and_replies_go_where_they_belong(self, world):
        router = answering(world, zmq.ROUTER)
        clients = {name: asking(world, zmq.DEALER) for name in (b"one", b"two")}
        for name, client in clients.items():
            frames = client.send(name)
            for _ in range(5):
                said = router.hear(*([name, *each] for each in frames))
                assert all(each[:2] == [name, b""] for each in said)
                frames = client.hear(*(each[1:] for each in said))
            message = router.take()
            assert message.route == (name, b"")
            reply = router.dialogue.send(b"re " + name, None, message.route, message.sender)
            client.hear(reply[1:])
            assert client.payloads() == [b"re " + name]
        assert len(router.manager.links) == 2

    def test_a_router_needs_a_route_and_a_peer(self, world):
        router = answering(world, zmq.ROUTER)
        with pytest.raises(UsageError, match="route"):
            router.send(b"", to=world.alice.public)
        with pytest.raises(UsageError, match="whom to"):
            router.send(b"", route=[b"one"])

    def test_what_has_no_empty_frame_is_malformed(self, world):
        router = answering(world, zmq.ROUTER)
        assert router.hear([b"one", b"two"]) == []
        assert router.codes == ["malformed"]
        assert router.seam.stats.refused == {"malformed": 1}

    def test_a_repeated_request_by_a_router_is_answered_by_its_route(self, world):
        router, client = answering(world, zmq.ROUTER), asking(world, zmq.DEALER)
        request, frames = client.ask(b"?")
        for _ in range(3):
            frames = client.hear(*(each[1:] for each in router.hear(*([b"c", *f] for f in frames))))
        (reply,) = router.reply(b"!")
        again = [b"c", *client.dialogue.again(request)]
        assert router.hear(again) == [reply]


@pytest.mark.audit("A16")
def test_what_a_peer_that_takes_nothing_is_told_is_bounded(world):
    one, other = asking(world), answering(world)
    exchange(one, other, one.send(b"hello"))
    others = [frames for n in range(1025) for frames in one.send(b"%d" % n)]
    one.seam.unsent.extend(others[:1023])  # The socket has no room.
    for n in range(40):
        strange = wire.start(wire.DATA) + bytes(6) + n.to_bytes(8, "big") + bytes(16)
        one.seam.pending = [[strange]]
        one.seam.open(strict=False)
    assert one.codes == ["unknown_session"] * 40
    assert len(one.seam.unsent) == 1024
    # What the application says is not dropped: there is never more of it than may be staged.
    one.says()
    world.clock.advance(181)
    (response,) = other.hear(*one.send(b"staged"))
    one.seam.unsent.extend(others[:1024])
    one.seam.pending = [response]
    one.seam.open(strict=False)
    assert len(one.seam.unsent) == 1025
    other.hear(one.says()[-1])
    assert other.payloads() == [b"hello", b"staged"]


@pytest.mark.audit("A16")
def test_a_router_drops_what_has_no_room_to_wait_and_others_say_so(world):
    router, client = answering(world, zmq.ROUTER), asking(world, zmq.DEALER)
    frames = client.send(b"?")
    for _ in range(3):
        frames = client.hear(*(each[1:] for each in router.hear(*([b"c", *f] for f in frames))))
    message = router.take()
    world.clock.advance(181)
    for _ in range(1024):
        router.send(b"", route=message.route, to=message.sender)
    assert not router.dialogue.must_wait(0)
    for n in range(1, 4):
        assert router.send(b"", route=message.route, to=message.sender) == []
        assert router.manager.dropped == 2 * n - 1
        assert router.dialogue.reply(message, b"", None) is None
        assert router.manager.dropped == 2 * n
    other = asking(world, zmq.DEALER)
    for _ in range(1024):
        other.send(b"")
    assert other.dialogue.must_wait(0)
    with pytest.raises(UsageError, match="as many messages wait"):
        other.send(b"")
    assert other.manager.dropped == 0


@pytest.mark.audit("E1")
def test_what_is_larger_than_may_wait_waits_for_the_session_and_no_longer(world):
    policy = Policy(max_size=32 * 2**20)
    one, other = asking(world, policy=policy), answering(world, policy=policy)
    large = bytes(17 * 2**20)
    assert not one.dialogue.must_wait(len(large))
    with pytest.raises(UsageError, match="as many messages wait"):
        one.send(large)
    frames = one.send(b"small")
    assert one.dialogue.must_wait(len(large))
    exchange(one, other, frames)
    assert not one.dialogue.must_wait(len(large))
    other.hear(*one.send(large))
    assert other.payloads() == [b"small", large]


def test_only_sockets_that_both_send_and_receive_have_sessions(world):
    for kind in (zmq.PUB, zmq.SUB, zmq.PUSH, zmq.PULL, zmq.XPUB, zmq.XSUB, zmq.STREAM):
        with pytest.raises(UsageError):
            End(kind, manager(world, world.alice))


def test_only_a_message_of_a_session_is_replied_to(world, ends):
    _, other = ends
    message = world.opener().open(world.sealer().seal(b""))
    with pytest.raises(UsageError, match="received"):
        other.dialogue.reply(message, b"", None)


def test_a_reply_for_which_there_is_no_session_waits_for_one(world, ends):
    one, other = ends
    other.hear(*one.send(b"?"))
    world.clock.advance(181)
    out = other.reply(b"!")
    assert len(out) == 1
    exchange(other, one, out)
    assert one.seam.stats.refused == {"policy": 1}  # Nobody waits for it; but it came.


def test_the_next_tick_is_told_in_nanoseconds_of_the_monotonic_clock(world):
    one = asking(world)
    assert one.dialogue.next_due() is None
    one.send(b"")
    assert one.seam.next_due() is not None
    assert one.seam.is_timed


def test_what_waits_for_a_session_is_what_a_close_drops(world):
    one = asking(world)
    one.send(b"1")
    one.send(b"2")
    assert one.seam.drop_waiting() == 2
    assert not one.seam.unsent


def test_a_request_of_the_session_before_does_not_fail_with_the_one_of_now(world, ends):
    one, other = ends
    before, _ = one.ask(b"slow")
    world.clock.advance(121)
    exchange(one, other, one.send(b"new keys, please"))
    now, out = one.ask(b"quick")
    assert before.stream != now.stream
    world.clock.advance(1)
    one.hear(*answering(world).hear(*out))
    assert isinstance(now.error, RequestRefusedError)
    assert not before.is_over


def test_a_message_that_comes_again_and_has_no_reply_gets_none(ends):
    one, other = ends
    _, out = one.ask(b"first")
    other.hear(*out)
    other.reply()
    data = one.send(b"no request")
    assert other.hear(*data) == other.hear(*data) == []
    assert other.codes == ["replayed"]


@pytest.mark.parametrize("label", [CHALLENGE, DONE])
def test_what_envelopes_say_to_each_other_means_nothing_in_a_session(ends, label):
    one, other = ends
    data = one.manager.send(b"", bound=(label,))
    assert other.hear([label, data]) == []
    assert not other.seam.ready
