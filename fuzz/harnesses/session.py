"""Whatever arrives, what a session delivers was sent, by whom it says, and comes once.

SPEC 18. The pieces are steps: of two ends, of their clocks and restarts, and of a network
that keeps, changes and repeats what it saw. Some steps write initiations, responses and hints
of peers who lie. What is refused changes no slot and no window, and no end uses a counter of
a session twice.
"""

from __future__ import annotations

from random import Random
from typing import Any

from support import FakeClock, World, seeded

from envelope import Identity
from envelope.binding import context_digest
from envelope.errors import RejectedError, UsageError
from envelope.message import Message
from envelope.session import SessionManager, handshake, hint, wire
from envelope.session.handshake import Request
from envelope.session.wire import DATA, DATA_HEAD, INITIATION, Grant, Offer
from fuzz.harness import Change
from fuzz.mutations import flip, join, number, pieces_mutator, split

COVERS = (
    "envelope.session.channel",
    "envelope.session.exchange",
    "envelope.session.handshake",
    "envelope.session.hint",
    "envelope.session.link",
    "envelope.session.manager",
    "envelope.session.tables",
)
SHARE = 4

_LIMIT = 32
_SEEN = 64
_CONTEXT = "orders"
_CTX = context_digest(_CONTEXT.encode(), ())
Frames = list[bytes]


class _End:
    """One of the two, over its lives."""

    def __init__(self, name: str, identity: Identity, world: World, clock: FakeClock) -> None:
        self.name = name
        self.identity = identity
        self._world = world
        self._clock = clock
        self._lives = 0
        self.other: _End
        self.begin()

    def begin(self) -> None:
        self._lives += 1
        self.manager = SessionManager(
            self.identity,
            self._world.trust,
            context=_CONTEXT,
            clock=self._world.clock,
            monotonic=self._clock,
            random=seeded(ord(self.name[0]) * 1000 + self._lives),
        )

    def shape(self) -> list[Any]:
        """Return what a refusal must not change."""
        return [
            (
                link.key_id,
                link.address,
                [(one.our_id, one.window.top, one.window.bits()) for one in link.channels()],
                None if link.initiation is None else link.initiation.session_id,
                len(link.staged),
            )
            for link in self.manager.links
        ]

    def check(self) -> None:
        """Check that the tables are one with the links."""
        links = self.manager.links
        assert all(len(list(link.channels())) <= 3 for link in links)
        ids = [channel.our_id for link in links for channel in link.channels()]
        assert sorted(ids) == sorted(self.manager._channels)  # noqa: SLF001 (looks inside)
        asked = [link.initiation.session_id for link in links if link.initiation is not None]
        assert sorted(asked) == sorted(self.manager._tables.asked)  # noqa: SLF001 (the same)
        assert self.manager.staged == sum(len(link.staged) for link in links)


class _Story:
    def __init__(self) -> None:
        self.world = World()
        self.monotonic = FakeClock(1_000_000)
        self.alice = _End("alice", self.world.alice, self.world, self.monotonic)
        self.bob = _End("bob", self.world.bob, self.world, self.monotonic)
        self.alice.other, self.bob.other = self.bob, self.alice
        self.seen: list[Frames] = []
        self.sent: dict[bytes, tuple[str, Frames]] = {}
        self.delivered: set[bytes] = set()
        self.heads: dict[bytes, bytes] = {}

    def step(self, what: int, place: int, rest: bytes) -> None:
        end = self.alice if place & 1 else self.bob
        place >>= 1
        match what % 10:
            case 0:
                self.send(end, place, rest)
            case 1 | 2:
                self.bring(end, self.at(place))
            case 3:
                self.pass_by(place)
            case 4:
                end.begin()
            case 5:
                self.bring(end, split(rest, 70) or [b""])
            case 6:
                *bound, data = self.at(place)
                self.bring(end, [*bound, flip(data, rest)])
            case 7:
                self.bring(end, [self._hint(end, place, rest)])
            case 8:
                self.bring(end, [self._initiation(end, place, rest)])
            case 9:
                self._respond(end, place, rest)
        self.alice.check()
        self.bob.check()

    def at(self, place: int) -> Frames:
        return self.seen[-1 - place % len(self.seen)] if self.seen else [b""]

    def send(self, end: _End, place: int, rest: bytes) -> None:
        payload = b"%d" % len(self.sent)
        bound = (b"topic",) if place & 1 else ()
        try:
            data = end.manager.send(
                payload,
                bound=bound,
                to=end.other.identity.public,
                in_reply_to=rest[:32] if place & 2 and len(rest) >= 32 else None,
            )
        except UsageError:  # As much is staged as may be.
            return
        self.sent[payload] = end.name, list(bound)
        if data is not None:
            self.keep([*bound, data])
        self.drain(end)

    def keep(self, frames: Frames) -> None:
        """Let the network see what an honest end says."""
        data = frames[-1]
        if data[4] == DATA:
            # A counter and a key are a nonce: it is used for one message.
            assert self.heads.setdefault(data[6:DATA_HEAD], data) == data
        self.seen = [*self.seen, frames][-_SEEN:]

    def drain(self, end: _End) -> None:
        while end.manager.outbox:
            one = end.manager.outbox.popleft()
            self.keep([*one.bound, one.data])

    def bring(self, end: _End, frames: Frames) -> None:
        *bound, data = frames
        end.manager.tick()
        self.drain(end)
        before = end.shape()
        try:
            message = end.manager.receive(data, bound=tuple(bound))
        except RejectedError:
            assert end.shape() == before
        else:
            if message is not None:
                self.deliver(end, message)
        self.drain(end)

    def deliver(self, end: _End, message: Message) -> None:
        name, bound = self.sent[message.payload]
        assert name == end.other.name == message.sender.name
        assert list(message.bound) == bound
        assert message.payload not in self.delivered
        self.delivered.add(message.payload)

    def pass_by(self, place: int) -> None:
        self.monotonic.advance(place)
        self.world.clock.advance(place)
        for end in (self.alice, self.bob):
            end.manager.tick()
            self.drain(end)

    # What peers may say who lie. They have their own keys, and nobody else's.

    def _liar(self, end: _End, place: int) -> Identity:
        return (end.other.identity, self.world.carol, self.world.mallory)[place % 3]

    def _hint(self, end: _End, place: int, rest: bytes) -> bytes:
        data = self.at(place >> 2)[-1] if place & 2 else rest
        return hint.make(self._liar(end, place), _CTX, data.ljust(DATA_HEAD, b"\0"))

    def _initiation(self, end: _End, place: int, rest: bytes) -> bytes:
        given = rest[:40].ljust(40, b"\0")
        offer = Offer(
            given[:8], given[8:24], int.from_bytes(given[24:32]), int.from_bytes(given[32:])
        )
        liar = self._liar(end, place)
        ephemeral = rest[40:72].ljust(32, b"\1")
        made = handshake.begin(
            liar, end.identity.public, _CTX, offer, ephemeral=ephemeral, now=self.monotonic.now
        )
        return made.data

    def _respond(self, end: _End, place: int, rest: bytes) -> None:
        """Let the other end answer an initiation by a grant of its own making."""
        data = self.at(place)[-1]
        given = rest[:32].ljust(32, b"\0")
        try:
            if wire.kind_of(data) != INITIATION:
                return
            request = Request(
                end.other.identity,
                end.identity.public,
                _CTX,
                data,
                rest[32:64].ljust(32, b"\1"),
            )
        except RejectedError:
            return
        grant = Grant(given[:8], int.from_bytes(given[8:16]), given[16:])
        self.bring(end, [request.grant(grant)[0]])


def _at(end: int, place: int = 0) -> int:
    return place << 1 | end


_BOB, _ALICE = 0, 1
_SEND, _BRING, _LATER, _RESTART = 0, 1, 3, 4


def _steps(*steps: tuple[int, int] | bytes) -> bytes:
    return join([one if isinstance(one, bytes) else bytes(one) for one in steps])


_OPENED = ((_SEND, _ALICE), (_BRING, _BOB), (_BRING, _ALICE), (_BRING, _BOB))
"""Alice asks, Bob grants, Alice sends what waited."""
_STAMPS = (0).to_bytes(8, "big") + (1_800_000_000_000_000).to_bytes(8, "big")
_OFFER = b"session!" + b"a stream of lies" + _STAMPS + b"e" * 32
_GRANT = b"session!" + _STAMPS[8:] + b"a stream of lies" + b"g" * 32
SEEDS = (
    _steps(*_OPENED),
    _steps(*_OPENED, (_SEND, _BOB), (_BRING, _ALICE), (_BRING, _ALICE), (_BRING, _ALICE)),
    _steps(*_OPENED, (_SEND, _at(_ALICE, 1)), (_BRING, _BOB), (_BRING, _BOB)),
    _steps(*_OPENED, (_RESTART, _BOB), (_SEND, _ALICE), (_BRING, _BOB), (_BRING, _ALICE)),
    _steps((_SEND, _ALICE), (_SEND, _BOB), (_BRING, _ALICE), (_BRING, _at(_BOB, 1))),
    _steps((_SEND, _ALICE), (_LATER, _at(0, 1)), (_BRING, _BOB), (_LATER, _at(0, 91))),
    _steps(*_OPENED, (_LATER, _at(0, 11)), (_BRING, _ALICE), (_LATER, _at(0, 127)), *_OPENED),
    _steps(*_OPENED, bytes([6, _BOB, 30, 1]), bytes([5, _BOB]) + join([_OFFER])),
    _steps(*_OPENED, bytes([7, _at(_ALICE, 0)]), bytes([7, _at(_ALICE, 3)])),
    _steps(bytes([8, _at(_BOB, 0)]) + _OFFER, bytes([8, _at(_BOB, 1)]) + _OFFER),
    _steps((_SEND, _ALICE), bytes([9, _at(_ALICE, 0)]) + _GRANT, (_SEND, _ALICE)),
    _steps(*_OPENED, bytes([0, _at(_ALICE, 2)]) + bytes(32), (_BRING, _BOB)),
)


def check(data: bytes) -> None:
    """Go step by step; look after each."""
    story = _Story()
    for step in split(data, _LIMIT):
        what, place = step[:2].ljust(2, b"\0")
        story.step(what, place, step[2:])


def _fresh(random: Random) -> bytes:
    return bytes([random.choice((0, 1, 1, 1, 2, 2, 3, 4, 7)), random.randrange(256)])


def _change_step(step: bytes, max_size: int, random: Random, change: Change) -> bytes:
    match random.randrange(5):
        case 0:
            return _fresh(random) + step[2:]
        case 1:
            stamps = [number(random, 64, 2**48), number(random, 64, 2**53, 1_800_000_000_000_000)]
            rest = random.randbytes(24) + b"".join(one.to_bytes(8, "big") for one in stamps)
            return bytes([random.choice((8, 9)), random.randrange(256)]) + rest + step[42:]
        case 2:
            place = random.randrange(256)
            return bytes([6, place, random.randrange(174), 1 << random.randrange(8)])
    return change(step, max_size)


mutate = pieces_mutator(_LIMIT, _fresh, _change_step)
