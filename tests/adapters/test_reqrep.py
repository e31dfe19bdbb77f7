"""REQ and REP keep step, whatever came in between."""

from __future__ import annotations

import threading

import pytest
import zmq
from support import identity

from envelope import UsageError, message_id, recipients_of
from envelope.errors import MalformedError, RequestTimeoutError
from envelope.replay import MemoryReplayStore
from envelope.zeromq import Bundling, tries
from envelope.zeromq.frames import SYNC
from envelope.zeromq.seam import Patience

ALICE, BOB = identity("alice").public, identity("bob").public
RETRY = 77
"""Milliseconds that no other wait of these tests has."""


@pytest.fixture
def requester(secure, world):
    """Alice's REQ."""
    return secure(zmq.REQ, sealer=world.sealer(to=[BOB]), opener=world.opener(world.alice))


@pytest.fixture
def replier(secure, world):
    """Bob's REP."""
    return secure(zmq.REP, sealer=world.sealer(world.bob, to=[ALICE]), opener=world.opener())


class TestEnds:
    @pytest.mark.parametrize("kind", [zmq.REQ, zmq.REP])
    def test_both_ends_are_needed(self, secure, world, kind):
        with pytest.raises(UsageError, match="needs a sealer and an opener"):
            secure(kind, sealer=world.sealer())
        with pytest.raises(UsageError, match="needs a sealer and an opener"):
            secure(kind, opener=world.opener())

    def test_nothing_is_received_before_something_is_sent(self, requester):
        for call in (requester.recv, requester.recv_bundle, requester.recv_object):
            with pytest.raises(UsageError, match="receives the reply to what it sent"):
                call()

    def test_nothing_is_replied_before_something_is_received(self, replier):
        with pytest.raises(UsageError, match="replies to what it received, once"):
            replier.send(b"payload")

    def test_one_is_sent_for_one(self, requester, replier):
        for one in (requester, replier):
            with pytest.raises(UsageError, match=r"no send_many\(\)"):
                one.send_many([b"payload"])

    def test_bundling_is_a_bundling(self, secure, world):
        with pytest.raises(UsageError, match="bundling is a Bundling"):
            secure(zmq.PUSH, sealer=world.sealer(), bundling=256)
        with pytest.raises(UsageError, match="nothing to bundle"):
            secure(zmq.PULL, opener=world.opener(), bundling=Bundling())


class TestStep:
    def test_a_reply_comes_alone_in_its_bundle(self, requester, replier, link):
        link(replier, requester)
        requester.send(b"what")
        assert [one.payload for one in replier.recv_bundle()] == [b"what"]
        replier.send(b"this")
        assert [one.payload for one in requester.recv_bundle()] == [b"this"]

    def test_a_reply_of_another_kind_than_is_received_is_told(self, requester, replier, link):
        link(replier, requester)
        for receive in (requester.recv_object, requester.recv_multipart):
            requester.send(b"what")
            replier.recv()
            replier.send(b"\xc1 is neither object nor frames")
            with pytest.raises(MalformedError):
                receive()
        requester.send(b"what")
        replier.recv()
        replier.send_object("this")
        assert requester.recv_object() == "this"

    @pytest.mark.audit("E1")
    def test_whoever_does_not_reply_sends_one_empty_frame(self, replier, plain, world, link):
        line = plain(zmq.REQ)
        link(replier, line)
        for number in range(3):
            line.send(world.sealer(to=[BOB]).seal(b"%d" % number))
            assert replier.recv().payload == b"%d" % number
            replier.socket.rcvtimeo = 20
            with pytest.raises(zmq.Again):
                replier.recv()
            replier.socket.rcvtimeo = 5000
            assert line.recv_multipart() == [b""]

    def test_an_empty_answer_is_passed_over_and_the_request_sent_again(
        self, requester, plain, world, link
    ):
        line = plain(zmq.REP)
        link(line, requester)
        seen = []
        stop = threading.Event()

        def answer():
            for _ in range(3):
                seen.append(line.recv())
                line.send(b"")
            reply = world.sealer(world.bob, to=[ALICE])
            # A REQ that tried again before the reply came hears the next one.
            while not stop.is_set():
                if line.poll(10):
                    seen.append(line.recv())
                    line.send(reply.seal(b"this", in_reply_to=message_id(seen[-1])))

        thread = threading.Thread(target=answer)
        thread.start()
        assert requester.request(b"what", timeout=60_000, retry=10).payload == b"this"
        stop.set()
        thread.join()
        assert set(seen) == {seen[0]}
        assert 0 < requester.stats.refused["malformed"] <= 3

    def test_a_reply_that_is_there_is_read_rather_than_asked_for_again(
        self, requester, plain, world, link, monkeypatch
    ):
        """Also if the time for another try has come: to send would drop it."""
        line = plain(zmq.REP)
        link(line, requester)

        class Late(Patience):
            """One whose time is over as soon as it begins, if it is that of a try."""

            def __init__(self, timeout, begun=None):
                super().__init__(0 if timeout == RETRY else timeout, begun)

        asked = requester.send_request(b"what")
        reply = world.sealer(world.bob, to=[ALICE])
        line.send(reply.seal(b"this", in_reply_to=message_id(line.recv())))
        assert requester.poll(5000)
        monkeypatch.setattr(tries, "Patience", Late)
        assert requester.wait(asked, timeout=5000, retry=RETRY).payload == b"this"
        assert not line.poll(0)

    def test_a_late_answer_to_an_earlier_try_does_not_end_the_wait(
        self, requester, plain, world, link
    ):
        """The socket says that something is there, and has nothing to hand out."""
        line = plain(zmq.ROUTER)
        link(line, requester)
        reply = world.sealer(world.bob, to=[ALICE])
        stop = threading.Event()

        def answer(frames):
            frames[-1] = reply.seal(b"this", in_reply_to=message_id(frames[-1]))
            line.send_multipart(frames)

        def serve():
            first, _ = line.recv_multipart(), line.recv_multipart()
            answer(first)
            # A REQ that tried again before the reply came hears the next one.
            while not stop.is_set():
                if line.poll(10):
                    answer(line.recv_multipart())

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert requester.request(b"what", timeout=60_000, retry=50).payload == b"this"
        finally:
            stop.set()
            thread.join()

    def test_a_reply_that_is_there_is_received_without_waiting(self, requester, plain, world, link):
        line = plain(zmq.REP)
        link(line, requester)
        requester.send(b"what")
        with pytest.raises(zmq.Again):
            requester.recv(zmq.NOBLOCK)
        reply = world.sealer(world.bob, to=[ALICE])
        line.send(reply.seal(b"this", in_reply_to=message_id(line.recv())))
        assert requester.poll(5000)
        assert requester.recv(zmq.NOBLOCK).payload == b"this"

    def test_what_was_sent_is_tried_again_though_no_call_waits_so_long(
        self, requester, plain, world, link, monkeypatch
    ):
        """As with a poller beside it, or a short RCVTIMEO."""
        line = plain(zmq.REP)
        link(line, requester)
        monkeypatch.setattr("envelope.zeromq.socket.RETRY_MS", 200)
        monkeypatch.setattr("envelope.zeromq.aio.RETRY_MS", 200)
        requester.send(b"what")
        first = line.recv()
        line.send(b"")  # Nothing: the answer is lost.
        requester.socket.rcvtimeo = 1
        for _ in range(2000):
            with pytest.raises(zmq.Again):
                requester.recv()
            if line.poll(0):
                break
        assert line.recv() == first
        reply = world.sealer(world.bob, to=[ALICE])
        line.send(reply.seal(b"this", in_reply_to=message_id(first)))
        requester.socket.rcvtimeo = 5000
        assert requester.recv().payload == b"this"

    def test_what_gave_way_to_a_request_that_could_not_be_sent_is_over(
        self, requester, plain, link
    ):
        line = plain(zmq.REP)
        link(line, requester)
        requester.send(b"first")
        assert line.recv()
        line.close()
        requester.socket.sndtimeo = 10
        for _ in range(500):
            try:
                requester.send(b"next")
            except zmq.Again:
                break
        with pytest.raises(UsageError, match="receives the reply to what it sent"):
            requester.recv()

    def test_refusals_without_end_do_not_keep_a_caller_that_does_not_wait(
        self, secure, world, plain, link, monkeypatch
    ):
        monkeypatch.setattr("envelope.zeromq.seam.MAX_REFUSED", 3)
        dealer = secure(zmq.DEALER, sealer=world.sealer(to=[BOB]), opener=world.opener(world.alice))
        line = plain(zmq.DEALER)
        link(line, dealer)
        asked = dealer.send_request(b"what")
        for _ in range(10):
            line.send_multipart([b"", b"garbage"])
        assert dealer.poll(5000)
        with pytest.raises(RequestTimeoutError):
            dealer.wait(asked, timeout=0)
        assert dealer.stats.refused["malformed"] <= 3

    @pytest.mark.parametrize(
        ("kind", "waits"),
        [
            (zmq.REQ, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]),
            (zmq.REQ, [90_000, 90_000]),
            (zmq.DEALER, [1000, 1000, 1000]),
        ],
    )
    def test_a_req_waits_longer_each_time_for_it_hears_its_last_try_alone(
        self, plain, kind, waits, monkeypatch
    ):
        begun = []

        class Over(Patience):
            """One that is over at once."""

            def __init__(self, timeout):
                begun.append(timeout)
                super().__init__(0)

        monkeypatch.setattr(tries, "Patience", Over)
        one = tries.Tries(plain(kind), waits[0])
        for _ in waits[1:]:
            with pytest.raises(zmq.Again):
                one.left()
        assert begun == waits

    def test_a_request_that_nobody_takes_is_forgotten(self, secure, world):
        dealer = secure(zmq.DEALER, sealer=world.sealer(to=[BOB]), opener=world.opener(world.alice))
        dealer.socket.sndtimeo = 10
        for _ in range(3):
            with pytest.raises(zmq.Again):
                dealer.request(b"what")
        seam = getattr(dealer, "_inside", dealer)._seam
        assert seam.dialogue._requests.pending == {}

    def test_a_request_to_two_is_sent_once(self, secure, world, plain, link):
        two = [BOB, identity("carol").public]
        dealer = secure(zmq.DEALER, sealer=world.sealer(to=two), opener=world.opener(world.alice))
        line = plain(zmq.DEALER)
        link(line, dealer)
        with pytest.raises(RequestTimeoutError, match="no reply within 50 ms; whether it was"):
            dealer.request(b"what", timeout=50, retry=1)
        assert line.recv_multipart()[0] == b""
        assert not line.poll(0)


class Remote(MemoryReplayStore):
    """A memory that says that it waits for a network."""

    is_remote = True


def test_a_control_message_of_a_batch_is_refused_where_nobody_asks(secure, world, plain, link):
    pull = secure(zmq.PULL, opener=world.opener(replay=Remote(first_life=True, clock=world.clock)))
    line = plain(zmq.PUSH)
    link(pull, line)
    line.send_multipart([SYNC, world.sealer(to=[BOB]).seal(b"", bound=[SYNC])])
    line.send(world.sealer(to=[BOB]).seal(b"payload"))
    assert pull.recv().payload == b"payload"
    assert pull.stats.refused == {"policy": 1}


def test_recipients_are_those_of_an_envelope(world):
    assert recipients_of(world.sealer(to=[BOB]).seal(b"")) == (BOB.key_id,)
    with pytest.raises(UsageError, match="an envelope is bytes"):
        recipients_of("text")
