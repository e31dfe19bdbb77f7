"""What a receive loop does about messages that do not pass: it goes on, and tells.

The attacker of this file sits on the line: what he sends comes in order with what
Alice sends. He has whatever seeds the test names.
"""

from __future__ import annotations

import time

import pytest
import zmq
from forge import Forgery
from support import SECOND, FakeClock, World, flip, identity

from envelope import clock, codec
from envelope.errors import MalformedError, RejectedError
from envelope.zeromq import seam

ALICE, BOB, CAROL, MALLORY = map(identity, ("alice", "bob", "carol", "mallory"))


def stolen(world: World, **changes: object) -> bytes:
    """Return an envelope of Mallory's that says it is Alice's."""
    return Forgery(MALLORY, claims=ALICE.public, body=b"payload", **changes).encode()


WRONG = {
    "no envelope": ("malformed", lambda _: [b"garbage"]),
    "empty": ("malformed", lambda _: [b""]),
    "empty frames": ("malformed", lambda _: [b"", b"", b""]),
    "not last": ("malformed", lambda world: [world.sealer().seal(b"payload"), b""]),
    "too many frames": (
        "too_large",
        lambda world: [b""] * 65 + [world.sealer().seal(b"payload")],
    ),
    "changed": ("bad_signature", lambda world: [flip(world.sealer().seal(b"payload"), -70)]),
    "another context": (
        "bad_signature",
        lambda world: [world.sealer(context="orders.eu").seal(b"payload")],
    ),
    "unknown key": ("unknown_sender", lambda world: [world.sealer(MALLORY).seal(b"payload")]),
    "claimed key": ("bad_signature", lambda world: [stolen(world)]),
    "another recipient": (
        "not_addressed",
        lambda world: [world.sealer(to=[CAROL.public]).seal(b"payload")],
    ),
    "signed to another": (
        "not_addressed",
        lambda world: [world.sealer(to=[CAROL.public], sealed=False).seal(b"payload")],
    ),
    "reflected": ("reflected", lambda world: [world.sealer(BOB).seal(b"payload")]),
    "a reply": ("policy", lambda world: [world.sealer().seal(b"payload", in_reply_to=bytes(32))]),
    "bound to more": (
        "bad_signature",
        lambda world: [world.sealer().seal(b"payload", bound=[b"topic"])],
    ),
    "bound to less": ("bad_signature", lambda world: [b"topic", world.sealer().seal(b"payload")]),
    "old": (
        "stale",
        lambda world: [World(FakeClock(world.clock.now - 31 * SECOND)).sealer().seal(b"payload")],
    ),
}


@pytest.mark.audit("A5", "A6", "A7", "A12")
@pytest.mark.parametrize(("code", "frames"), WRONG.values(), ids=WRONG)
class TestOneThatDoesNotPass:
    def test_it_is_passed_over_counted_and_told(self, scene, code, frames):
        scene.line.send_multipart(frames(scene.world))
        scene.alice.send(b"good")
        assert scene.bob.recv().payload == b"good"
        assert scene.bob.stats.refused == {code: 1}
        assert scene.codes == [code]

    def test_it_is_raised_if_strict_and_the_next_one_comes(self, scene, code, frames):
        scene.line.send_multipart(frames(scene.world))
        with pytest.raises(RejectedError) as caught:
            scene.bob.recv(strict=True)
        assert caught.value.code == code
        assert scene.told == [caught.value]
        assert scene.bob.stats.refused == {code: 1}
        scene.alice.send(b"good")
        assert scene.bob.recv(strict=True).payload == b"good"


@pytest.mark.parametrize("receive", ["recv", "recv_bundle", "recv_object"])
def test_every_way_to_receive_passes_over_and_can_be_strict(scene, receive):
    receive = getattr(scene.bob, receive)
    scene.garbage(1)
    with pytest.raises(MalformedError):
        receive(strict=True)
    scene.garbage(2)
    scene.alice.send_object("good")
    assert receive()
    assert scene.bob.stats.refused == {"malformed": 3}
    with pytest.raises(zmq.Again):
        receive(zmq.NOBLOCK)
    with pytest.raises(zmq.Again):
        receive()


def test_strict_raises_a_refusal_that_comes_after_others_were_passed_over(scene):
    """Strict or not is a matter of the call, not of the socket."""
    scene.garbage(2)
    with pytest.raises(zmq.Again):
        scene.bob.recv()
    scene.garbage(1)
    with pytest.raises(MalformedError):
        scene.bob.recv(strict=True)
    assert scene.bob.stats.refused == {"malformed": 3}


@pytest.mark.audit("A3")
def test_what_was_received_is_not_received_again(scene):
    sent = scene.world.sealer().seal_bundle([b"a", b"b"])
    for _ in range(3):
        scene.line.send(sent)
    assert [message.payload for message in scene.bob.recv_bundle()] == [b"a", b"b"]
    with pytest.raises(zmq.Again):
        scene.bob.recv_bundle()
    assert scene.codes == ["replayed", "replayed"]


@pytest.mark.audit("A21")
def test_what_was_dropped_on_the_way_is_a_gap(scene):
    sealer = scene.world.sealer()
    sent = [sealer.seal(b"payload") for _ in range(5)]
    for data in (sent[0], sent[4]):
        scene.line.send(data)
    assert [scene.bob.recv().skipped for _ in range(2)] == [0, 3]


class TestWaiting:
    def test_again_has_the_errno_that_zmq_gives_it(self, scene):
        scene.garbage(1)
        with pytest.raises(zmq.Again) as caught:
            scene.bob.recv(zmq.NOBLOCK)
        assert caught.value.errno == zmq.EAGAIN

    @pytest.mark.audit("A16")
    @pytest.mark.parametrize("flags", [0, zmq.NOBLOCK])
    def test_garbage_is_looked_at_while_there_is_any_and_time(self, scene, flags):
        scene.garbage(50)
        with pytest.raises(zmq.Again):
            scene.bob.recv(flags)
        assert scene.bob.stats.refused == {"malformed": 50}
        assert scene.codes == ["malformed"] * 50

    @pytest.mark.audit("A16")
    def test_a_good_one_behind_much_garbage_is_received_though_the_time_is_over(self, scene):
        scene.bob.socket.rcvtimeo = 0
        scene.garbage(50)
        scene.alice.send(b"good")
        assert scene.bob.recv().payload == b"good"

    def test_without_a_timeout_it_waits_through_garbage(self, scene):
        scene.bob.socket.rcvtimeo = -1
        scene.garbage(50)
        scene.alice.send(b"good")
        assert scene.bob.recv().payload == b"good"
        assert scene.bob.stats.refused == {"malformed": 50}

    @pytest.mark.audit("A16")
    def test_a_call_that_shall_not_block_passes_over_so_many_and_no_more(self, scene, monkeypatch):
        monkeypatch.setattr(seam, "MAX_REFUSED", 3)
        scene.garbage(5)
        scene.alice.send(b"good")
        with pytest.raises(zmq.Again):
            scene.bob.recv(zmq.NOBLOCK)
        assert scene.bob.stats.refused == {"malformed": 3}
        assert scene.bob.recv(zmq.NOBLOCK).payload == b"good"
        assert scene.bob.stats.refused == {"malformed": 5}

    @pytest.mark.audit("A16")
    def test_a_call_whose_time_is_over_passes_over_so_many_and_no_more(self, scene, monkeypatch):
        monkeypatch.setattr(seam, "MAX_REFUSED", 3)
        scene.bob.socket.rcvtimeo = 0
        scene.garbage(5)
        with pytest.raises(zmq.Again):
            scene.bob.recv()
        assert scene.bob.stats.refused == {"malformed": 3}

    def test_a_call_with_time_left_passes_over_more(self, scene, monkeypatch):
        now = FakeClock()
        monkeypatch.setattr(clock, "monotonic", now)
        monkeypatch.setattr(seam, "MAX_REFUSED", 3)
        scene.bob.socket.rcvtimeo = 1_000
        scene.told.act = lambda _: now.advance(0.199)
        scene.garbage(5)
        scene.alice.send(b"good")
        assert scene.bob.recv().payload == b"good"

    @pytest.mark.parametrize("receive", ["recv", "recv_object"])
    def test_the_time_runs_from_the_call_on(self, scene, monkeypatch, receive):
        """Whoever sends just before the end must not make a call wait as long again."""
        now = FakeClock()
        monkeypatch.setattr(clock, "monotonic", now)
        scene.told.act = lambda _: now.advance(1.5)
        scene.bob.socket.rcvtimeo = 1_500
        # Refused by the opener, or as no object.
        scene.garbage(1) if receive == "recv" else scene.alice.send(b"\xc1")
        start = time.monotonic()
        with pytest.raises(zmq.Again):
            getattr(scene.bob, receive)()
        assert len(scene.told) == 1
        assert time.monotonic() - start < 1


class TestNoObject:
    """Alice's signature is right, and what she signed is no object."""

    def test_it_is_passed_over_counted_and_told(self, scene):
        for payload in (b"\xc1", b"", b"\x01\x01"):
            scene.alice.send(payload)
        scene.alice.send_object("good")
        assert scene.bob.recv_object() == "good"
        assert scene.bob.stats.refused == {"malformed": 3}
        assert scene.bob.stats.senders["alice"].refused == {"malformed": 3}
        assert [(e.code, e.verified, e.claimed_sender) for e in scene.told] == [
            ("malformed", True, ALICE.key_id)
        ] * 3

    def test_it_is_raised_if_strict_and_the_next_one_comes(self, scene):
        scene.alice.send(b"\xc1")
        with pytest.raises(MalformedError) as caught:
            scene.bob.recv_object(strict=True)
        assert scene.told == [caught.value]
        assert scene.bob.stats.refused == {"malformed": 1}
        scene.alice.send_object("good")
        assert scene.bob.recv_object(strict=True) == "good"

    def test_the_others_of_its_bundle_are_received(self, scene):
        scene.alice.send_many([codec.encode_object(1), b"\xc1", codec.encode_object(2)])
        assert [scene.bob.recv_object() for _ in range(2)] == [1, 2]
        assert scene.codes == ["malformed"]

    def test_it_was_delivered_once_all_the_same(self, scene):
        data = scene.world.sealer().seal(b"\xc1")
        for _ in range(2):
            scene.line.send(data)
        with pytest.raises(zmq.Again):
            scene.bob.recv_object()
        assert scene.codes == ["malformed", "replayed"]

    @pytest.mark.audit("A16")
    def test_a_call_that_shall_not_block_passes_over_so_many_and_no_more(self, scene, monkeypatch):
        monkeypatch.setattr(seam, "MAX_REFUSED", 3)
        for _ in range(5):
            scene.alice.send(b"\xc1")
        scene.alice.send_object("good")
        with pytest.raises(zmq.Again):
            scene.bob.recv_object(zmq.NOBLOCK)
        assert scene.bob.stats.refused == {"malformed": 3}
        assert scene.bob.recv_object(zmq.NOBLOCK) == "good"


class TestOnRejectedThatRaises:
    class StopError(Exception):
        pass

    def stop(self, error: RejectedError) -> None:
        raise self.StopError(error.code)

    @pytest.mark.parametrize("strict", [False, True])
    @pytest.mark.parametrize("receive", ["recv", "recv_bundle", "recv_object"])
    def test_what_it_raises_the_call_raises(self, scene, receive, strict):
        scene.told.act = self.stop
        receive = getattr(scene.bob, receive)
        scene.garbage(2)
        scene.alice.send_object("good")
        for _ in range(2):
            with pytest.raises(self.StopError, match="malformed"):
                receive(strict=strict)
        assert scene.bob.stats.refused == {"malformed": 2}
        assert receive(strict=strict)

    def test_it_is_told_of_what_is_no_object_too(self, scene):
        scene.told.act = self.stop
        scene.alice.send(b"\xc1")
        scene.alice.send_object("good")
        with pytest.raises(self.StopError, match="malformed"):
            scene.bob.recv_object()
        assert scene.bob.recv_object() == "good"


def test_without_on_rejected_refusals_are_passed_over_and_counted(secure, world, plain, link):
    bob = secure(zmq.PULL, opener=world.opener())
    stranger = plain(zmq.PUSH)
    link(bob, stranger)
    stranger.send(b"garbage")
    stranger.send(world.sealer().seal(b"good"))
    assert bob.recv().payload == b"good"
    assert bob.stats.refused == {"malformed": 1}
