"""Whatever the network, the clocks and restarts do, a request is executed at most once.

Alice asks, Bob executes, and the network is the attacker: it keeps all that it ever saw,
and brings any of it to either end, at any time, as often as it likes. Bob's memory is lost
when he restarts. His clock may be set ahead and Alice's both ways; while her machine
sleeps, her monotonic clock stands still.
"""

from __future__ import annotations

from unittest import mock

import zmq
from hypothesis import example, given
from hypothesis import strategies as st
from support import FakeClock, World
from talk import End

from envelope import Opener, stream
from envelope.message import Message
from envelope.zeromq.frames import Frames
from envelope.zeromq.requests import Request

SECONDS = st.sampled_from([0.1, 1, 3, 20, 31])
PLACES = st.integers(min_value=0, max_value=12)
STEPS = st.integers(min_value=0, max_value=4)
"""How often what was said last arrives before the next trouble."""


class Machine:
    """Where one end runs: a wall clock, and a monotonic one that nobody sets."""

    def __init__(self, ahead: float) -> None:
        self.wall = FakeClock()
        self.wall.advance(ahead)
        self.monotonic = FakeClock(0)

    def advance(self, seconds: float, *, sleeps: bool = False) -> None:
        self.wall.advance(seconds)
        if not sleeps:
            self.monotonic.advance(seconds)


class Story:
    HARMLESS = range(8, 13)
    """Places whose requests are idempotent."""

    def __init__(self, ahead: float, age: float) -> None:
        # The ends are of one process only here: no stream is known to be younger by that.
        self.apart = mock.patch.object(stream, "began_here", return_value=None)
        self.apart.start()
        self.world = World()
        self.numbers = 0
        self.seen: list[Frames] = []
        self.requests: dict[bytes, Request] = {}
        self.harmless: set[bytes] = set()
        self.executed: list[tuple[int, bytes]] = []
        self.held: list[Message] = []
        self.life = 0
        self.slept = self.was_set_back = False

        self.alices, self.bobs = Machine(ahead), Machine(0)
        self.restart_bob(first_life=True)
        self.restart_alice()
        self.pass_by(0, 0, age)

    def close(self) -> None:
        self.apart.stop()

    def end(self, machine: Machine, *, first_life: bool, here, there) -> End:
        world = World(machine.wall)
        opener = Opener(
            self.world.trust,
            context=world.context,
            identity=here,
            replay=world.store(first_life=first_life),
            clock=machine.wall,
            monotonic=machine.monotonic,
        )
        return End(zmq.PAIR, sealer=world.sealer(here, to=[there.public]), opener=opener)

    # Both ends.

    def restart_alice(self) -> None:
        self.alice = self.end(
            self.alices, first_life=False, here=self.world.alice, there=self.world.bob
        )
        self.requests = {}

    def restart_bob(self, *, first_life: bool) -> None:
        self.bob = self.end(
            self.bobs, first_life=first_life, here=self.world.bob, there=self.world.alice
        )
        self.life += 1
        self.held = []

    # What may happen. Each is told a place in a list, how many steps follow, and a time.

    def bob_restarts(self, place, steps, seconds) -> None:
        self.restart_bob(first_life=False)

    def alice_restarts(self, place, steps, seconds) -> None:
        self.restart_alice()

    def ask(self, place, steps, seconds) -> None:
        payload = b"%d" % self.numbers
        self.numbers += 1
        request = self.alice.ask(
            payload, topic=(None, b"eu")[place % 2], idempotent=place in self.HARMLESS
        )
        self.requests[payload] = request
        if request.is_harmless:
            self.harmless.add(payload)
        self.seen.append(request.frames)
        self.go_on(steps)

    def ask_again(self, place, steps, seconds) -> None:
        waiting = [one for one in self.requests.values() if not one.is_over]
        if waiting:
            self.seen.append(waiting[-1 - place % len(waiting)].frames)
            self.go_on(steps)

    def reply(self, place, steps, seconds) -> None:
        if self.held:
            message = self.held.pop(-1 - place % len(self.held))
            self.seen.append(self.bob.dialogue.reply(message, b"re: " + message.payload, None))
            self.go_on(steps)

    def repeat(self, place, steps, seconds) -> None:
        if self.seen:
            self.bring(self.seen[-1 - place % len(self.seen)])
            self.go_on(steps)

    def change_what_it_is_bound_to(self, place, steps, seconds) -> None:
        if self.seen:
            bound = (b"envelope/v1/sync", b"us")[steps % 2]
            self.bring([bound, self.seen[-1 - place % len(self.seen)][-1]])

    def carol_replies(self, place, steps, seconds) -> None:
        requests = list(self.requests.values())
        if requests:
            carol = World(self.alices.wall).sealer(self.world.carol, to=[self.world.alice.public])
            named = requests[-1 - place % len(requests)].id
            self.bring([carol.seal(b"re: what I say", in_reply_to=named)])

    def pass_by(self, place, steps, seconds) -> None:
        self.alices.advance(seconds)
        self.bobs.advance(seconds)

    def alice_sleeps(self, place, steps, seconds) -> None:
        if not self.was_set_back:  # Whoever sleeps and is set back cannot know how long it took.
            self.slept = True
            self.alices.advance(seconds, sleeps=True)
            self.bobs.advance(seconds)

    def alice_is_set_back(self, place, steps, seconds) -> None:
        if not self.slept:
            self.was_set_back = True
            self.alices.wall.advance(-seconds)

    def alice_is_set_ahead(self, place, steps, seconds) -> None:
        self.alices.wall.advance(seconds)

    def bob_is_set_ahead(self, place, steps, seconds) -> None:
        self.bobs.wall.advance(seconds)

    # The network.

    def go_on(self, steps: int) -> None:
        """Deliver what was said last, and then what was said to that."""
        for _ in range(steps):
            self.bring(self.seen[-1])

    def bring(self, frames: Frames) -> None:
        """Bring a message to both: nothing says whose it is."""
        self.seen += self.bob.hear(frames)
        while self.bob.has_message:
            message = self.bob.take()
            self.executed.append((self.life, message.payload))
            self.held.append(message)
        self.seen += self.alice.hear(frames)
        assert not self.alice.has_message

    def check(self) -> None:
        # Each memory executes once; what may do harm is executed once by all of them.
        assert len(self.executed) == len(set(self.executed))
        once = [payload for _, payload in self.executed if payload not in self.harmless]
        assert len(once) == len(set(once))
        for payload, request in self.requests.items():
            if request.reply is not None:
                assert request.reply.payload == b"re: " + payload
                assert request.reply.sender.name == "bob"
                assert payload in {one for _, one in self.executed}


USUAL = ["ask", "reply", "repeat", "ask_again", "bob_restarts", "pass_by"]
RARE = ["alice_restarts", "change_what_it_is_bound_to", "carol_replies", "alice_sleeps"]
RARE += ["alice_is_set_back", "alice_is_set_ahead", "bob_is_set_ahead"]
EVENTS = st.tuples(st.sampled_from(USUAL * 2 + RARE), PLACES, STEPS, SECONDS)


@given(
    ahead=st.sampled_from([0, -3600, -20, 1, 20, 3600]),
    age=st.sampled_from([0, 5, 100]),
    events=st.lists(EVENTS, max_size=14),
)
@example(  # Executed; then Bob's next life refuses it, for Alice cannot prove her innocence.
    ahead=0, age=5, events=[("ask", 0, 1, 1), ("bob_restarts", 0, 0, 0), ("repeat", 0, 3, 1)]
)
@example(  # The same, while Alice's machine sleeps.
    ahead=0,
    age=5,
    events=[
        ("ask", 0, 1, 1),
        ("bob_restarts", 0, 0, 0),
        ("alice_sleeps", 0, 0, 31),
        ("repeat", 0, 3, 1),
    ],
)
@example(  # Refused as ahead of Bob's clock, which is past it when his next life hears it.
    ahead=20,
    age=100,
    events=[
        ("ask", 0, 3, 1),
        ("bob_restarts", 0, 0, 0),
        ("pass_by", 0, 0, 20),
        ("repeat", 2, 1, 1),
    ],
)
@example(  # In a stream that has answered, and ahead.
    ahead=20,
    age=100,
    events=[
        ("ask", 12, 3, 1),
        ("ask", 0, 1, 1),
        ("bob_restarts", 0, 0, 0),
        ("pass_by", 0, 0, 20),
        ("repeat", 0, 1, 1),
        ("repeat", 1, 1, 1),
    ],
)
def test_a_request_is_executed_at_most_once(ahead, age, events):
    story = Story(ahead, age)
    try:
        for name, *details in events:
            getattr(story, name)(*details)
            story.check()
    finally:
        story.close()


def test_the_usual_course_ends_with_a_reply():
    story = Story(ahead=-3600, age=5)
    try:
        story.ask(0, 3, 0)  # And its challenge, and the answer.
        assert story.executed == [(1, b"0")]
        story.reply(0, 1, 0)
        assert story.requests[b"0"].reply.payload == b"re: 0"
    finally:
        story.close()
