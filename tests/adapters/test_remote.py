"""Sockets over a replay store that waits for a network: many at once, and none lost."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
import shared_redis
import zmq
import zmq.asyncio
from support import World

from envelope.errors import ReplayedError, StoreUnavailableError
from envelope.zeromq import aio

PLACE = "inproc://queue"


@pytest.fixture
def name():
    made = shared_redis.namespace()
    shared_redis.bear(shared_redis.server().url, made)
    return made


@pytest.fixture
def store(world, name):
    """Return one receiver's store."""
    with made(world, name) as store:
        yield store


def made(world, name):
    url = shared_redis.server().url
    return shared_redis.TimedStore(url, clock=world.clock, namespace=name)


@pytest.fixture
def queue(plain):
    """Return the socket of whoever hands out what was sealed; it could be anybody."""
    socket = plain(zmq.PUSH)
    socket.bind(PLACE)
    return socket


def worker(secure, world, store, **options):
    socket = secure(zmq.PULL, opener=world.opener(replay=store), **options)
    socket.socket.connect(PLACE)
    return socket


def test_what_is_there_is_opened_in_one_go(secure, queue, world, store):
    bob = worker(secure, world, store)
    sealer = world.sealer()
    queue.send(sealer.seal(b"first"))
    assert bob.recv().payload == b"first"
    for n in range(50):
        queue.send(sealer.seal(b"%d" % n))
    store.asked.clear()
    assert [bob.recv().payload for _ in range(50)] == [b"%d" % n for n in range(50)]
    assert len(store.asked) < 50


def test_an_envelope_is_a_bundle_of_its_own(secure, queue, world, store):
    bob = worker(secure, world, store)
    sealer = world.sealer()
    queue.send(sealer.seal_bundle([b"a", b"b", b"c"]))
    queue.send(sealer.seal(b"d"))
    queue.send(sealer.seal_bundle([b"e", b"f"]))
    assert bob.recv().payload == b"a"
    bundles = [bob.recv_bundle() for _ in range(3)]
    assert [[m.payload for m in one] for one in bundles] == [[b"b", b"c"], [b"d"], [b"e", b"f"]]


@pytest.mark.audit("R6")
def test_of_two_workers_behind_one_queue_one_gets_each(secure, queue, world, name):
    with made(world, name) as first, made(world, name) as second:
        workers = [worker(secure, world, store) for store in (first, second)]
        sealer = world.sealer()
        sent = [sealer.seal(b"%d" % n) for n in range(20)]
        for data in sent * 4:  # Whoever runs the queue repeats it all.
            queue.send(data)
        got = []
        for bob in workers:
            try:
                while True:
                    got.append(bob.recv(zmq.NOBLOCK).payload)
            except zmq.Again:
                pass
        assert sorted(got) == sorted(b"%d" % n for n in range(20))


@pytest.mark.audit("A24")
@pytest.mark.parametrize("fault", ["lost", "unheard"])
@pytest.mark.parametrize("strict", [False, True])
def test_an_outage_loses_nothing_and_changes_no_order(secure, queue, world, store, fault, strict):
    refused = []
    bob = worker(secure, world, store, on_rejected=refused.append)
    sealer = world.sealer()
    sent = [sealer.seal(b"%d" % n) for n in range(9)]
    for data in sent:
        queue.send(data)
    store.fault = fault
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            bob.recv(strict=strict)
        assert bob.poll(0)
    store.fault = None
    assert [bob.recv(strict=strict).payload for _ in range(9)] == [b"%d" % n for n in range(9)]
    assert refused == []
    for data in sent[:2]:
        queue.send(data)
    with pytest.raises(ReplayedError if strict else zmq.Again):
        bob.recv(zmq.NOBLOCK, strict=strict)
    assert {error.code for error in refused} == {"replayed"}


def test_a_callback_that_raises_loses_no_message(secure, queue, world, store):
    def fail(error):
        raise RuntimeError(error.code)

    bob = worker(secure, world, store, on_rejected=fail)
    sealer = world.sealer()
    for data in (b"no", sealer.seal(b"0"), b"no", sealer.seal(b"1"), b"no", b"no"):
        queue.send(data)
    got = []
    for _ in range(9):
        with contextlib.suppress(RuntimeError, zmq.Again):
            got.append(bob.recv(zmq.NOBLOCK).payload)
    assert got == [b"0", b"1"]


class Held:
    """A store whose next question is held back until it is let go."""

    def __init__(self, store):
        self.asked, self.go = threading.Event(), threading.Event()
        self._run, store._run = store._run, self.run

    def run(self, *arguments):
        self.asked.set()
        self.go.wait()
        return self._run(*arguments)


async def until(event):
    """Turn the loop until a thread sets an event: so the store does not hold the loop."""
    while not event.is_set():  # noqa: ASYNC110 (a thread's, and the turning is the point)
        await asyncio.sleep(0)


async def scene(world, store):
    context = zmq.asyncio.Context()
    queue, inside = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    queue.bind(PLACE)
    inside.connect(PLACE)
    inside.rcvtimeo = 5000
    return context, queue, aio.SecureSocket(inside, opener=world.opener(replay=store))


def test_asyncio_goes_on_while_the_store_is_waited_for(store):
    async def run():
        world = World()
        context, queue, bob = await scene(world, store)
        held = Held(store)
        try:
            await queue.send(world.sealer().seal(b"x"))
            receiving = asyncio.ensure_future(bob.recv())
            await until(held.asked)
            assert not receiving.done()
            held.go.set()
            assert (await receiving).payload == b"x"
        finally:
            held.go.set()
            context.destroy(linger=0)

    asyncio.run(run())


@pytest.mark.parametrize("fault", [None, "lost", "unheard"])
def test_a_cancelled_recv_loses_no_message_in_the_hands_of_the_store(store, fault):
    async def run():
        world = World()
        context, queue, bob = await scene(world, store)
        held = Held(store)
        try:
            sealer = world.sealer()
            for n in range(5):
                await queue.send(sealer.seal(b"%d" % n))
            receiving = asyncio.ensure_future(bob.recv())
            await until(held.asked)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            store.fault = fault
            held.go.set()
            if fault:
                with pytest.raises(StoreUnavailableError):
                    await bob.recv()
                store.fault = None
            assert [(await bob.recv()).payload for _ in range(5)] == [b"%d" % n for n in range(5)]
        finally:
            held.go.set()
            context.destroy(linger=0)

    asyncio.run(run())
