"""Requests through a line that loses, repeats, delays and re-routes whatever it likes.

Rules of this file: the line is the attacker. Each story ends with what was executed.
"""

from __future__ import annotations

import asyncio
import itertools

import pytest
import zmq
import zmq.asyncio
from line import Line, Server, losing
from support import World, identity

from envelope.errors import RequestRefusedError, RequestTimeoutError, UsageError
from envelope.zeromq import SecureSocket, aio
from envelope.zeromq.frames import CHALLENGE, DONE

ALICE, BOB, CAROL = (identity(name).public for name in ("alice", "bob", "carol"))
HOUR = 3600
PATIENCE = {"timeout": 5000, "retry": 30}

pytestmark = pytest.mark.audit("A3", "A22")


@pytest.fixture
def line(plain, world):
    """Bob behind a line: ``line(zmq.ROUTER)``; both are started."""
    running = []

    def make(kind: int = zmq.ROUTER, **ends) -> Line:
        ends.setdefault("opener", world.opener())
        sealer = world.sealer(world.bob, to=[ALICE])
        server = Server(SecureSocket(plain(kind), sealer=sealer, **ends))
        made = Line(plain(zmq.ROUTER), plain(zmq.DEALER))
        server.socket.socket.bind("inproc://server")
        made.server.connect("inproc://server")
        made.clients.bind("inproc://line")
        made.bob = server
        running.extend([server, made])
        for one in (server, made):
            one.start()
        return made

    yield make
    for one in running:
        one.end()


@pytest.fixture
def behind(world):
    """The same people by a clock that is an hour behind."""
    other = World()
    other.clock.now = world.clock.now
    other.clock.advance(-HOUR)
    return other


@pytest.fixture
def client(secure, world):
    """Makes Alice's end: ``client(by=behind)``."""

    def make(kind: int = zmq.DEALER, *, by: World = world, who=None):
        who = who or world.alice
        made = secure(
            kind,
            sealer=by.sealer(who, to=[BOB]),
            opener=by.opener(who, trust=world.trust),
        )
        made.socket.connect("inproc://line")
        return made

    return make


class TestLoss:
    @pytest.mark.parametrize("kinds", [(zmq.DEALER, zmq.ROUTER), (zmq.REQ, zmq.REP)])
    @pytest.mark.parametrize("way", ["there", "back"])
    def test_of_a_request_or_its_reply(self, line, client, kinds, way):
        between = line(kinds[1])
        setattr(between, way, losing(0))
        assert client(kinds[0]).request(b"go", **PATIENCE).payload == b"re: go"
        assert between.bob.executed == [b"go"]

    @pytest.mark.parametrize("kinds", [(zmq.DEALER, zmq.ROUTER), (zmq.REQ, zmq.REP)])
    @pytest.mark.parametrize(("way", "number"), [("there", 0), ("there", 1), ("back", 1)])
    def test_of_a_request_its_answer_or_the_reply(self, line, client, behind, kinds, way, number):
        between = line(kinds[1])
        setattr(between, way, losing(number))
        alice = client(kinds[0], by=behind)
        assert alice.request(b"go", idempotent=True, **PATIENCE).payload == b"re: go"
        assert alice.request(b"on", **PATIENCE).payload == b"re: on"
        assert between.bob.executed == [b"go", b"on"]

    def test_of_a_challenge(self, line, client, behind):
        between = line()
        between.back = losing(0)
        alice = client(by=behind)
        assert alice.request(b"go", idempotent=True, **PATIENCE).payload == b"re: go"
        assert between.bob.executed == [b"go"]

    def test_of_what_answers_a_sync(self, line, client):
        between = line()
        between.back = losing(0)
        assert client().sync(timeout=5000).name == "bob"

    @pytest.mark.parametrize("retry", [0, -1, 1.5, True, None])
    def test_a_request_is_not_repeated_all_the_time(self, line, client, retry):
        between = line()
        alice = client()
        with pytest.raises(UsageError, match="retry"):
            alice.request(b"go", retry=retry)
        assert alice.request(b"on", **PATIENCE).payload == b"re: on"
        assert between.bob.executed == [b"on"]


class TestRepetition:
    @pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.REP])
    def test_of_everything(self, line, client, kind):
        between = line(kind)
        between.there = between.back = lambda frames: [frames] * 3
        alice = client()
        for number in range(5):
            assert alice.request(b"%d" % number, **PATIENCE).payload == b"re: %d" % number
        assert between.bob.executed == [b"%d" % number for number in range(5)]

    @pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.REP])
    def test_of_everything_between_clocks_that_are_apart(self, line, client, behind, kind):
        between = line(kind)
        between.there = between.back = lambda frames: [frames] * 3
        alice = client(by=behind)
        for number in range(5):
            reply = alice.request(b"%d" % number, idempotent=True, **PATIENCE)
            assert reply.payload == b"re: %d" % number
        assert between.bob.executed == [b"%d" % number for number in range(5)]

    def test_of_what_was_held_back_meanwhile(self, line, client, behind):
        """The request comes after the answer that repeats it, then all comes again."""
        between = line()
        alice = client(by=behind)
        alice.request(b"go", idempotent=True, **PATIENCE)
        old = list(between.asked)
        between.there = lambda frames: [*old, frames]
        assert alice.request(b"on", **PATIENCE).payload == b"re: on"
        assert between.bob.executed == [b"go", b"on"]

    @pytest.mark.audit("A16", "E1")
    def test_by_a_stranger_who_gets_one_answer_for_each(self, line, client, plain, world):
        between = line(zmq.REP)
        client().request(b"go", **PATIENCE)
        recorded = between.asked[0][1:]
        stranger = plain(zmq.DEALER)
        stranger.connect("inproc://server")
        answers = []
        for after in (0, 31):
            world.clock.advance(after)
            for _ in range(5):
                stranger.send_multipart(recorded)
                answers.append(stranger.recv_multipart())
        assert answers[:5] == [between.said[0][1:]] * 5
        assert [one[:-1] for one in answers[5:]] == [[b"", DONE]] * 5
        assert len({one[-1] for one in answers[5:]}) == 1  # Sealed once.
        assert between.bob.executed == [b"go"]
        assert not stranger.poll(20)

    @pytest.mark.audit("A16", "E1")
    def test_of_what_was_never_executed_is_challenged_once(self, line, plain, behind):
        between = line(zmq.REP)
        sealer = behind.sealer(to=[BOB])
        recorded = [sealer.seal(b"%d" % number) for number in range(70)]
        stranger = plain(zmq.REQ)
        stranger.connect("inproc://server")
        answers = []
        for data in recorded * 2:
            stranger.send(data)
            answers.append(stranger.recv_multipart())
        assert [one[0] for one in answers[:64]] == [CHALLENGE] * 64
        assert answers[64:70] == answers[134:] == [[b""]] * 6
        assert answers[70:134] == answers[:64]  # No new ones.
        assert between.bob.executed == []


class TestRerouting:
    def test_replies_that_are_exchanged_find_their_requests(self, line, client):
        between = line()
        held = []

        def exchange(frames):
            held.append(frames)
            if len(held) < 2:
                return []
            routes = [one[0] for one in held]
            return [[route, *one[1:]] for route, one in zip(routes[::-1], held, strict=True)]

        between.back = exchange
        alice = client()
        first, second = alice.send_request(b"1"), alice.send_request(b"2")
        assert alice.wait(first, timeout=5000).payload == b"re: 1"
        assert alice.wait(second, timeout=5000).payload == b"re: 2"

    def test_a_reply_for_somebody_else_is_no_reply(self, line, client, world):
        between = line()
        client().request(b"go", **PATIENCE)
        reply = between.said[0]
        between.back = lambda frames: [[frames[0], *reply[1:]], frames]
        carol = client(who=world.carol)
        # Bob answers whoever asked, so what Carol is told first is what Alice was told.
        assert carol.request(b"me too", **PATIENCE).payload == b"re: me too"
        assert carol.stats.refused == {"policy": 1}
        assert between.bob.executed == [b"go", b"me too"]

    def test_a_request_that_comes_back_is_no_reply(self, line, client):
        between = line()
        between.there = lambda frames: (between.clients.send_multipart(frames), [frames])[1]
        alice = client()
        assert alice.request(b"go", **PATIENCE).payload == b"re: go"
        assert alice.stats.refused == {"reflected": 1}

    def test_empty_frames_from_anybody_mean_nothing(self, line, client):
        between = line(zmq.REP)
        between.back = lambda frames: [[frames[0], b"", b""], frames]
        alice = client()
        assert alice.request(b"go", **PATIENCE).payload == b"re: go"
        assert alice.stats.refused == {"malformed": 1}


class TestNextLife:
    @pytest.mark.audit("R2")
    def test_what_the_life_before_may_have_executed_is_not_repeated(
        self, line, client, world, plain
    ):
        between = line()
        between.bob.handle = lambda _: None  # He executes, and dies before he says so.
        alice = client()
        request = alice.send_request(b"go")
        with pytest.raises(RequestTimeoutError):
            alice.request(b"and so on", timeout=100)
        between.bob.end()
        between.bob.socket.socket.close()
        elsewhere = world.store(first_life=False)
        bob = Server(
            SecureSocket(
                plain(zmq.ROUTER),
                sealer=world.sealer(world.bob, to=[ALICE]),
                opener=world.opener(replay=elsewhere),
            )
        )
        bob.socket.socket.bind("inproc://next")
        between.server.connect("inproc://next")
        bob.start()
        try:
            # In this process his memory knows that Alice's stream is older than it is.
            with pytest.raises(RequestRefusedError):
                alice.wait(request, timeout=5000, retry=30)
            assert alice.request(b"on", **PATIENCE).payload == b"re: on"
            assert bob.executed == [b"on"]
        finally:
            bob.end()


class TestManyTasks:
    """Requests in flight side by side, in one event loop."""

    @pytest.fixture
    def run(self, plain, world):
        """Runs a story with Alice's socket for asyncio and a plain end of Bob's."""

        def go(story, **ends):
            async def main():
                options = {"opener": world.opener(world.alice), **ends}
                sealer = world.sealer(to=[BOB])
                alice = aio.SecureSocket(
                    plain(zmq.DEALER, zmq.asyncio.Socket), sealer=sealer, **options
                )
                bob = aio.SecureSocket(
                    plain(zmq.ROUTER, zmq.asyncio.Socket),
                    sealer=world.sealer(world.bob, to=[ALICE]),
                    opener=world.opener(),
                )
                bob.socket.bind("inproc://loop")
                alice.socket.connect("inproc://loop")
                try:
                    async with asyncio.timeout(20):
                        return await story(alice, bob)
                finally:
                    alice.close()
                    bob.close()

            return asyncio.run(main())

        return go

    @staticmethod
    async def answer(bob, messages):
        for message in messages:
            await bob.reply(message, b"re: " + message.payload)

    def test_two_hundred_get_theirs_out_of_order(self, run):
        async def story(alice, bob):
            async def serve():
                messages = [await bob.recv() for _ in range(200)]
                await self.answer(bob, messages[::-2] + messages[::2])

            serving = asyncio.create_task(serve())
            requests = (alice.request(b"%d" % one, timeout=10_000) for one in range(200))
            replies = await asyncio.gather(*requests)
            await serving
            assert [one.payload for one in replies] == [b"re: %d" % one for one in range(200)]
            assert alice.stats.refused == {}

        run(story)

    def test_with_a_receiver_beside_them_and_one_given_up(self, run):
        async def story(alice, bob):
            news = asyncio.create_task(alice.recv())
            given_up = asyncio.create_task(alice.request(b"given up", timeout=10_000))
            waiting = [
                asyncio.create_task(alice.request(b"%d" % one, timeout=10_000)) for one in range(20)
            ]
            messages = [await bob.recv() for _ in range(21)]
            given_up.cancel()
            await asyncio.sleep(0)
            await self.answer(bob, messages[:11])
            await bob.send(b"news", route=messages[0].route)
            await self.answer(bob, messages[11:])
            replies = await asyncio.gather(*waiting)
            assert [one.payload for one in replies] == [b"re: %d" % one for one in range(20)]
            assert (await news).payload == b"news"
            assert alice.stats.refused == {"replayed": 1}

        run(story)

    def test_whichever_task_reads_may_be_cancelled(self, run):
        async def story(alice, bob):
            waiting = [
                asyncio.create_task(alice.request(b"%d" % one, timeout=10_000)) for one in range(20)
            ]
            messages = [await bob.recv() for _ in range(20)]
            for one in waiting[:10]:  # The first of them reads; its heirs do then.
                one.cancel()
                await asyncio.sleep(0)
            await self.answer(bob, messages)
            replies = await asyncio.gather(*waiting, return_exceptions=True)
            assert [isinstance(one, asyncio.CancelledError) for one in replies[:10]] == [True] * 10
            assert [one.payload for one in replies[10:]] == [
                b"re: %d" % one for one in range(10, 20)
            ]

        run(story)

    def test_what_a_callback_raises_loses_no_other_reply(self, run):
        def raises(error):
            if error.code == "malformed":
                raise LookupError

        async def story(alice, bob):
            waiting = [
                asyncio.create_task(alice.request(b"%d" % one, timeout=10_000)) for one in range(10)
            ]
            messages = [await bob.recv() for _ in range(10)]
            await bob.socket.send_multipart([*messages[0].route, b"garbage"])
            await self.answer(bob, messages)
            replies = await asyncio.gather(*waiting, return_exceptions=True)
            # Whoever happened to read is told; all others have what they waited for.
            assert sum(isinstance(one, LookupError) for one in replies) == 1
            others = [
                (number, one)
                for number, one in enumerate(replies)
                if not isinstance(one, LookupError)
            ]
            assert all(one.payload == b"re: %d" % number for number, one in others)

        run(story, on_rejected=raises)

    def test_a_flood_of_refusals_starves_nobody(self, run):
        async def story(alice, bob):
            asking = asyncio.create_task(alice.request(b"go", timeout=10_000))
            message = await bob.recv()
            turns = itertools.count()

            async def live():
                while not asking.done():
                    next(turns)
                    await asyncio.sleep(0)

            living = asyncio.create_task(live())
            for _ in range(500):
                await bob.socket.send_multipart([*message.route, b"garbage"])
            await self.answer(bob, [message])
            assert (await asking).payload == b"re: go"
            await living
            assert next(turns) > 100
            assert alice.stats.refused == {"malformed": 500}

        run(story)
