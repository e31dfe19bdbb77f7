"""Whatever arrives between two ends, a request is executed once and its reply is its own.

SPEC 16.3 to 16.5. The first byte is the type of the sockets, then pieces that are steps: of
the ends, of their clocks, and of a network that keeps, changes and repeats what it saw, or
brings frames of its own. One step lets Bob himself lie.
"""

from __future__ import annotations

from random import Random
from typing import Any

import zmq
from support import World
from talk import End

from envelope.errors import UsageError
from envelope.message import Message, message_id
from envelope.zeromq.frames import CHALLENGE, LABELS, Frames
from envelope.zeromq.requests import Request
from fuzz.envelopes import REQUEST, VALID
from fuzz.harness import Change
from fuzz.mutations import flip, join, pieces_mutator, split
from fuzz.packed import an_object

COVERS = ("envelope.zeromq.dialogue", "envelope.zeromq.challenges", "envelope.zeromq.requests")
SHARE = 4

_KINDS = ((zmq.PAIR, zmq.PAIR), (zmq.DEALER, zmq.ROUTER), (zmq.REQ, zmq.REP))
LIMIT = 24
_SEEN = 64
LABELS_IN_ORDER = sorted(LABELS)


class Story:
    """Alice asks, Bob executes and replies, and the network is in between."""

    def __init__(self, kind: int) -> None:
        self.asks, self.answers = _KINDS[kind % 3]
        self.world = World()
        self.life = 0
        self.alice = self.end(self.asks, self.world.alice, self.world.bob, first_life=True)
        self.is_lied_to = False
        self.seen: list[Frames] = []
        self.executed: list[tuple[int, bytes, bytes]] = []
        self.requests: list[tuple[bytes, Request]] = []
        self._begin_bob(first_life=True)

    def end(self, kind: int, here: Any, there: Any, *, first_life: bool) -> Any:
        """Return one end in a new life."""
        world = self.world
        return End(
            kind,
            sealer=world.sealer(here, to=[there.public]),
            opener=world.opener(here, replay=world.store(first_life=first_life)),
        )

    def _begin_bob(self, *, first_life: bool) -> None:
        world = self.world
        self.bob = self.end(self.answers, world.bob, world.alice, first_life=first_life)
        self.held: list[Message] = []
        self.life += 1

    def keep(self, frames: list[Frames]) -> None:
        """Let the network see frames."""
        self.seen = (self.seen + frames)[-_SEEN:]

    def at(self, place: int) -> Frames:
        """Return what was said some time ago."""
        return self.seen[-1 - place % len(self.seen)] if self.seen else [b""]

    def step(self, what: int, place: int, rest: bytes) -> None:  # noqa: C901 (a table)
        """Take one step."""
        match what % 11:
            case 0:
                self.ask(place)
            case 1:
                self.bring_to_bob(self.at(place))
            case 2:
                self.bring_to_alice(self.at(place))
            case 3 if self.held:
                message = self.held.pop(place % len(self.held))
                self.reply(message)
            case 4:
                self._begin_bob(first_life=False)
            case 5:
                self.pass_by(place / 4)
            case 6:
                self.bring_to_bob(split(rest, 70) or [b""])
            case 7:
                self.bring_to_alice(split(rest, 70) or [b""])
            case 8:
                label = LABELS_IN_ORDER[place % len(LABELS_IN_ORDER)]
                self.bring_to_both([label, self.at(place >> 2)[-1]])
            case 9:
                *others, data = self.at(place)
                self.bring_to_both([*others, flip(data, rest)])
            case 10:
                self.lie(place, rest)

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.world.clock.advance(seconds)

    def ask(self, place: int) -> None:
        """Let Alice ask."""
        payload = b"%d" % len(self.requests)
        topic = b"eu" if place & 1 else None
        try:
            request = self.alice.ask(payload, topic=topic, idempotent=bool(place & 2))
        except UsageError:  # A REQ waits for one reply at a time.
            return
        self.requests.append((payload, request))
        self.keep([request.frames])

    def reply(self, message: Message) -> None:
        """Let Bob reply."""
        try:
            frames = self.bob.dialogue.reply(message, b"re: " + message.payload, None)
        except UsageError:  # A REP replies once, to the last.
            return
        assert frames is not None  # None is for sessions, whose end may be gone.
        self.keep([frames])

    def lie(self, place: int, rest: bytes) -> None:
        """Let Bob say something about a request that he would not say."""
        if not self.requests:
            return
        self.is_lied_to = True
        _, request = self.requests[-1 - place % len(self.requests)]
        label = (LABELS_IN_ORDER[place >> 6],)
        sealer = self.world.sealer(self.world.bob, to=[self.world.alice.public])
        named = message_id(request.frames[-1])
        self.bring_to_alice([*label, sealer.seal(rest, bound=label, in_reply_to=named)])

    def bring_to_both(self, frames: Frames) -> None:
        """Bring a message to both: nothing says whose it is."""
        self.bring_to_bob(frames)
        self.bring_to_alice(frames)

    def bring_to_bob(self, frames: Frames) -> None:
        """Bring a message to Bob, who executes what it asks for."""
        if self.answers == zmq.ROUTER:
            # What a DEALER sends begins with the empty frame, what a ROUTER sends does not.
            frames = [b"alice", *([] if frames[:1] == [b""] else [b""]), *_unrouted(frames)]
        self.keep(self.bob.hear(frames))
        while self.bob.seam.ready:
            message = self.bob.take()
            self.executed.append((self.life, message.id, message.payload))
            self.held.append(message)

    def bring_to_alice(self, frames: Frames) -> None:
        """Bring a message to Alice."""
        if self.asks == zmq.DEALER:
            frames = [b"", *_unrouted(frames)]
        self.keep(self.alice.hear(frames))
        while self.alice.seam.ready:
            self.alice.take()

    def check(self) -> None:
        """Check what was executed, and what came of it."""
        # One memory executes an envelope once; all together what may do harm, by its payload.
        assert len(self.executed) == len({(life, id_) for life, id_, _ in self.executed})
        asked = [payload for _, _, payload in self.executed if payload.isdigit()]
        harmless = {payload for payload, request in self.requests if request.is_harmless}
        once = [payload for payload in asked if payload not in harmless]
        assert self.is_lied_to or len(once) == len(set(once))
        for payload, request in self.requests:
            if request.reply is not None and not self.is_lied_to:
                assert request.reply.payload == b"re: " + payload
                assert request.reply.sender.name == "bob"


def _unrouted(frames: Frames) -> Frames:
    """Return frames without the route that they have, if any."""
    return frames[frames.index(b"") + 1 :] if b"" in frames[:-1] else frames


_ASK, _TO_BOB, _TO_ALICE, _REPLY = b"\0\0", b"\1\0", b"\2\0", b"\3\0"
_RESTART, _LATER = b"\4\0", b"\5\x7f"
SEEDS = tuple(
    bytes([kind]) + join(steps)
    for kind in range(3)
    for steps in (
        (_ASK, _TO_BOB, _REPLY, _TO_ALICE, _TO_ALICE),
        (_ASK, _RESTART, _TO_BOB, _TO_ALICE, _TO_BOB, _REPLY, _TO_ALICE),
        (_ASK, _TO_BOB, _REPLY, b"\1\1", _LATER, b"\1\2", _TO_ALICE),
        (b"\0\3", _LATER, _TO_BOB, _TO_ALICE, _TO_BOB),
        (_ASK, b"\x0a\x40\x92\xa5stale\x05", b"\x0a\0", b"\x08\1", b"\x09\0\x28\1"),
        (_ASK, b"\6\0" + join([b"topic", VALID[0]]), b"\7\0" + join([CHALLENGE, VALID[4]])),
    )
)


def check(data: bytes) -> None:
    """Go step by step; look after each."""
    story = Story(data[0] if data else 0)
    for step in split(data[1:], LIMIT):
        what, place = step[:2].ljust(2, b"\0")
        story.step(what, place, step[2:])
        story.check()


def _fresh(random: Random) -> bytes:
    return bytes([random.choice((0, 1, 1, 2, 2, 3, 4, 5, 8, 9, 10)), random.randrange(256)])


def _change_step(step: bytes, max_size: int, random: Random, change: Change) -> bytes:
    match random.randrange(5):
        case 0:
            return _fresh(random) + step[2:]
        case 1:
            return b"\x0a" + bytes([random.randrange(256)]) + an_object(random)[:200]
        case 2:
            frames = split(step[2:], 70)
            frames.append(random.choice((b"", REQUEST, *LABELS_IN_ORDER, *VALID)))
            return bytes([random.choice((6, 7)), 0]) + join(frames)
    return change(step, max_size)


_change = pieces_mutator(LIMIT, _fresh, _change_step)


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change the steps as a list, or one of them."""
    kind = bytes([random.randrange(3)]) if random.randrange(16) == 0 else data[:1] or b"\0"
    return kind + _change(data[1:], max_size - 1, random, change)
