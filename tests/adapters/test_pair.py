"""Whoever answers in sealed envelopes is not talked to in the open."""

from __future__ import annotations

import pytest
import zmq
from support import identity

from envelope import Policy
from envelope.errors import NotAddressedError, PolicyError, ReflectedError, ReplayedError

ALICE, BOB, CAROL = (identity(name).public for name in ("alice", "bob", "carol"))


@pytest.fixture
def pair(secure, plain, world, link):
    """Makes Bob's end, and the plain one across from it."""

    def make(sealer, opener=None):
        bob = secure(zmq.PAIR, sealer=sealer, opener=opener or world.opener())
        line = plain(zmq.PAIR)
        link(bob, line)
        return bob, line

    return make


@pytest.mark.audit("A14", "C9")
class TestSealing:
    @pytest.mark.parametrize("policy", [Policy(), Policy(addressed=True), Policy(require="sealed")])
    @pytest.mark.parametrize("options", [{}, {"to": [BOB], "sealed": False}])
    def test_what_is_not_sealed_is_refused_whatever_the_policy(self, pair, world, policy, options):
        bob, line = pair(world.sealer(world.bob, to=[ALICE]), world.opener(policy=policy))
        line.send(world.sealer(**options).seal(b"payload"))
        with pytest.raises(PolicyError):
            bob.recv(strict=True)
        line.send(world.sealer(to=[BOB]).seal(b"sealed"))
        message = bob.recv(strict=True)
        assert (message.payload, message.sealed) == (b"sealed", True)
        assert bob.stats.refused == {"policy": 1}

    def test_what_is_sealed_to_others_is_refused(self, pair, world):
        bob, line = pair(world.sealer(world.bob, to=[ALICE]))
        line.send(world.sealer(to=[CAROL]).seal(b"payload"))
        with pytest.raises(NotAddressedError):
            bob.recv(strict=True)

    def test_the_opener_that_was_handed_in_stays_as_it_was(self, pair, world):
        opener = world.opener()
        bob, line = pair(world.sealer(world.bob, to=[ALICE]), opener)
        assert opener.policy == Policy()
        assert opener.open(world.sealer().seal(b"signed")).payload == b"signed"
        # And both have one memory and one set of counters.
        data = world.sealer(to=[BOB]).seal(b"sealed")
        line.send(data)
        assert bob.recv().payload == b"sealed"
        with pytest.raises(ReplayedError):
            opener.open(data)
        assert bob.stats == opener.stats
        assert (bob.stats.accepted, bob.stats.refused) == (2, {"replayed": 1})


@pytest.mark.parametrize(
    "options", [{}, {"to": [ALICE], "sealed": False}], ids=["signed", "addressed"]
)
def test_whoever_answers_signed_is_as_strict_as_its_policy(pair, world, options):
    bob, line = pair(world.sealer(world.bob, **options))
    for sealer in (world.sealer(), world.sealer(to=[BOB], sealed=False), world.sealer(to=[BOB])):
        line.send(sealer.seal(b"payload"))
        assert bob.recv(strict=True).payload == b"payload"


@pytest.mark.audit("A6")
@pytest.mark.parametrize("to", [(), (ALICE,)], ids=["signed", "sealed"])
def test_what_comes_back_is_reflected(pair, world, to):
    bob, line = pair(world.sealer(world.bob, to=to))
    bob.send(b"question")
    line.send_multipart(line.recv_multipart())
    with pytest.raises(ReflectedError):
        bob.recv(strict=True)
