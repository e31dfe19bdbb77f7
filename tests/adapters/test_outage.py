"""An outage of the replay store must not drain a queue: it raises, and loses nothing."""

from __future__ import annotations

import pytest
import zmq
from forge import Forgery
from support import identity

from envelope import Bundle
from envelope.errors import StoreUnavailableError
from envelope.replay import ReplayStore

pytestmark = pytest.mark.audit("A24", "R7")


class Outage(ReplayStore):
    """A replay memory that does not answer so many times."""

    def __init__(self, memory: ReplayStore, failures: int = 0) -> None:
        self.memory = memory
        self.failures = failures

    def guard(self, domain, sender, context):
        guard, store = self.memory.guard(domain, sender, context), self

        class Guard:
            check, gaps = guard.check, guard.gaps

            def mark(self, *args, **options):
                if store.failures:
                    store.failures -= 1
                    raise StoreUnavailableError
                return guard.mark(*args, **options)

        return Guard()

    def close(self):
        raise NotImplementedError


@pytest.fixture
def store(world):
    return Outage(world.store())


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("receive", ["recv", "recv_bundle", "recv_object"])
def test_it_raises_and_the_message_is_offered_again(scene, store, receive, strict):
    receive = getattr(scene.bob, receive)
    store.failures = 2
    scene.alice.send_object("good")
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            receive(strict=strict)
    got = receive(zmq.NOBLOCK, strict=strict)
    got = got[0] if isinstance(got, Bundle) else got
    assert (got if isinstance(got, str) else got.object()) == "good"
    assert scene.bob.stats.refused == {"store_unavailable": 2}
    assert scene.bob.stats.accepted == 1
    assert scene.told == [], "raised, not passed over"


def test_it_does_not_drain_a_queue(scene, store):
    store.failures = 30
    for number in range(10):
        scene.alice.send_many([b"%d" % number, b"and"])
    for _ in range(30):
        with pytest.raises(StoreUnavailableError):
            scene.bob.recv()
    assert [scene.bob.recv_bundle()[0].payload for _ in range(10)] == [
        b"%d" % number for number in range(10)
    ]
    with pytest.raises(zmq.Again):
        scene.bob.recv()


def test_poll_sees_what_is_to_be_offered_again(scene, store, bare):
    store.failures = 1
    scene.alice.send(b"good")
    with pytest.raises(StoreUnavailableError):
        scene.bob.recv()
    assert not bare(scene.bob).poll(0)
    assert scene.bob.poll(0) is True
    assert scene.bob.recv().payload == b"good"
    assert scene.bob.poll(0) is False


def test_it_is_judged_anew_when_it_is_offered_again(scene, store):
    store.failures = 1
    scene.alice.send(b"good")
    with pytest.raises(StoreUnavailableError):
        scene.bob.recv()
    scene.world.clock.advance(31)
    with pytest.raises(zmq.Again):
        scene.bob.recv()
    assert scene.codes == ["stale"]
    scene.alice.send(b"next")
    assert scene.bob.recv().payload == b"next"


def test_it_raises_behind_garbage_too(scene, store):
    store.failures = 1
    scene.garbage(3)
    scene.alice.send(b"good")
    with pytest.raises(StoreUnavailableError):
        scene.bob.recv()
    assert scene.bob.recv().payload == b"good"
    assert scene.bob.stats.refused == {"malformed": 3, "store_unavailable": 1}


@pytest.mark.audit("A16")
def test_strangers_do_not_reach_the_store(scene, store):
    """What is not signed is refused during an outage as always, and holds nothing up."""
    store.failures = 1
    forgery = Forgery(identity("mallory"), claims=scene.world.alice.public, body=b"payload")
    scene.line.send(forgery.encode())
    with pytest.raises(zmq.Again):
        scene.bob.recv()
    assert scene.codes == ["bad_signature"]
    assert store.failures == 1
