"""What only asyncio can do wrong: lose by cancelling, starve others, forget to close."""

from __future__ import annotations

import asyncio

import pytest
import zmq
import zmq.asyncio

from envelope import Bundle
from envelope.errors import StoreUnavailableError
from envelope.replay import MemoryReplayStore
from envelope.zeromq import SecureSocket, aio


@pytest.fixture
def ends(plain, world, link):
    """Bob's end for asyncio; Alice's for threads, which sends at once; and her line."""
    line = plain(zmq.PUSH)
    alice = SecureSocket(line, sealer=world.sealer())
    bob = aio.SecureSocket(plain(zmq.PULL, zmq.asyncio.Socket), opener=world.opener())
    link(bob, alice)
    return alice, bob, line


async def closing(one: aio.SecureSocket, story) -> None:
    """Tell a story, and close the socket while its loop runs."""
    async with one, asyncio.timeout(10):
        await story


async def turn(times: int) -> None:
    """Let the loop go round."""
    for _ in range(times):
        await asyncio.sleep(0)


@pytest.mark.parametrize("garbage", [0, 2])
@pytest.mark.parametrize("timeout", [-1, 1_000])
@pytest.mark.parametrize("receive", ["recv", "recv_bundle", "recv_object"])
def test_a_receive_that_is_cancelled_at_any_moment_loses_nothing(ends, receive, timeout, garbage):
    """A message that has come is delivered by this call or by the next."""
    alice, bob, line = ends
    bob.socket.rcvtimeo = timeout

    async def receive_or_be_cancelled(number: int, turns_before: int, turns_after: int) -> None:
        task = asyncio.create_task(getattr(bob, receive)())
        for _ in range(garbage):
            line.send(b"garbage")
        await turn(turns_before)
        alice.send_object(number)
        await turn(turns_after)
        task.cancel()
        try:
            got = await task
        except asyncio.CancelledError:
            bob.socket.rcvtimeo = 1_000
            got = await getattr(bob, receive)()
            bob.socket.rcvtimeo = timeout
        got = got[0] if isinstance(got, Bundle) else got
        assert (got if isinstance(got, int) else got.object()) == number

    async def story() -> None:
        for turns_before in (0, 3, 12):
            for turns_after in range(8):
                await receive_or_be_cancelled(turns_after, turns_before, turns_after)

    asyncio.run(closing(bob, story()))


@pytest.mark.parametrize("timeout", [-1, 5_000])
def test_a_poll_that_is_cancelled_loses_nothing(ends, timeout):
    alice, bob, _ = ends
    bob.socket.rcvtimeo = timeout

    async def story() -> None:
        for number in range(6):
            task = asyncio.create_task(bob.poll())
            await turn(3)
            alice.send(b"payload")
            await turn(number)
            task.cancel()
            await asyncio.wait([task])
            assert (await bob.recv()).sequence == number

    asyncio.run(closing(bob, story()))


def test_a_poll_without_a_timeout_waits_whatever_rcvtimeo_says(ends):
    alice, bob, _ = ends
    bob.socket.rcvtimeo = 1

    async def story() -> None:
        polling = asyncio.create_task(bob.poll())
        await asyncio.wait([polling], timeout=0.02)
        assert not polling.done()
        alice.send(b"payload")
        assert await polling is True

    asyncio.run(closing(bob, story()))


class Watch:
    """Another task of the loop, which counts how often it gets a turn."""

    def __init__(self) -> None:
        self.turns = 0

    async def __aenter__(self):
        self._task = asyncio.create_task(self._run())
        return self

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turns += 1

    async def __aexit__(self, *_) -> None:
        self._task.cancel()


@pytest.mark.audit("A16")
@pytest.mark.parametrize("timeout", [-1, 0, 5_000])
@pytest.mark.parametrize("flood", [b"garbage", None], ids=["garbage", "no objects"])
def test_a_flood_of_refusals_lets_other_tasks_run(ends, timeout, flood):
    alice, bob, line = ends
    bob.socket.rcvtimeo = timeout
    for _ in range(200):
        line.send(flood) if flood else alice.send(b"\xc1")
    alice.send_object("good")

    async def story() -> None:
        async with Watch() as other:
            assert await bob.recv_object() == "good"
        assert bob.stats.refused == {"malformed": 200}
        assert other.turns >= 199

    asyncio.run(closing(bob, story()))


def test_a_receive_waits_without_holding_up_the_loop(ends):
    alice, bob, _ = ends

    async def story() -> None:
        async with Watch() as other:
            receiving = asyncio.create_task(bob.recv())
            await turn(50)
            assert other.turns >= 49
            alice.send(b"payload")
            assert (await receiving).payload == b"payload"

    asyncio.run(closing(bob, story()))


class TestClosing:
    def test_async_with_closes(self, plain, world):
        async def story() -> None:
            socket = plain(zmq.PULL, zmq.asyncio.Socket)
            async with aio.SecureSocket(socket, opener=world.opener()) as one:
                assert isinstance(one, aio.SecureSocket)
                assert one.socket is socket
                assert not socket.closed
            assert socket.closed

        asyncio.run(story())

    def test_async_with_closes_after_an_error_too(self, plain, world):
        async def story() -> None:
            socket = plain(zmq.PULL, zmq.asyncio.Socket)
            with pytest.raises(ZeroDivisionError):
                async with aio.SecureSocket(socket, opener=world.opener()):
                    raise ZeroDivisionError
            assert socket.closed

        asyncio.run(story())

    def test_with_closes(self, plain, world):
        socket = plain(zmq.PULL)
        with SecureSocket(socket, opener=world.opener()) as one:
            assert isinstance(one, SecureSocket)
            assert one.socket is socket
            assert not socket.closed
        assert socket.closed

    def test_with_closes_after_an_error_too(self, plain, world):
        socket = plain(zmq.PULL)
        with pytest.raises(ZeroDivisionError), SecureSocket(socket, opener=world.opener()):
            raise ZeroDivisionError
        assert socket.closed


def test_a_loop_that_tries_again_at_once_in_an_outage_lets_other_tasks_run(world):
    class Broken(MemoryReplayStore):
        def guard(self, domain, sender, context):
            raise StoreUnavailableError

    async def run():
        context = zmq.asyncio.Context()
        push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        push.bind("inproc://outage")
        pull.connect("inproc://outage")
        bob = aio.SecureSocket(pull, opener=world.opener(replay=Broken(first_life=True)))
        await push.send(world.sealer().seal(b"x"))
        others = asyncio.ensure_future(asyncio.sleep(0))
        try:
            tried = 0
            while not others.done():
                with pytest.raises(StoreUnavailableError):
                    await bob.recv()
                tried += 1
                assert tried < 100
        finally:
            context.destroy(linger=0)

    asyncio.run(run())


def test_poll_waits_as_long_as_it_is_told_though_the_socket_has_a_shorter_timeout(world):
    async def run():
        context = zmq.asyncio.Context()
        push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        push.bind("inproc://poll")
        pull.connect("inproc://poll")
        pull.rcvtimeo = 0
        bob = aio.SecureSocket(pull, opener=world.opener())
        try:
            assert await bob.poll(0) is False
            assert await bob.poll(1) is False
            polling = asyncio.ensure_future(bob.poll(5000))
            await asyncio.sleep(0)
            await push.send(world.sealer().seal(b"x"))
            assert await polling is True
            assert (await bob.recv()).payload == b"x"
        finally:
            context.destroy(linger=0)

    asyncio.run(run())
