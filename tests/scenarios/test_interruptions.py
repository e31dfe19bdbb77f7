"""A signal handler that uses what it interrupts: at each point of an opening, in turn.

Whatever comes in between: each envelope is delivered once by all openers over one
memory together, no count is lost, and nothing else than a refusal is raised.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import Counter

import pytest
from cast import ALICE, BOB
from forge import Forgery
from interrupt import Signal
from support import World, identity

from envelope import RejectedError, Sealer
from envelope import senders as sender_table
from envelope import stream as streams
from envelope.replay import MemoryReplayStore, SQLiteReplayStore

MALLORY = identity("mallory")
TOPIC = [b"topic"]
INSIDE = "store_unavailable"
"""What a handler is told that marks from within a mark."""


class Scene:
    """Bob's two openers over one memory, what they delivered, and what they refused."""

    def __init__(self, store, *, sealed=True):
        self.world = World()
        self.store = store(self.world.clock)
        self.openers = [self.world.opener(replay=self.store) for _ in range(2)]
        seal = self.world.sealer(to=[BOB] if sealed else []).seal
        self.sent = [seal(b"%d" % number, bound=TOPIC) for number in range(2)]
        self.delivered = []
        self.refused = [Counter(), Counter()]

    def offer(self, opener, data):
        try:
            message = self.openers[opener].open(data, bound=TOPIC)
        except RejectedError as error:
            self.refused[opener][error.code] += 1
        else:
            self.delivered.append(message.payload)

    def check(self):
        """Offer all to both once more; what was refused within a mark comes now."""
        for opener, data in itertools.product((0, 1), self.sent):
            self.offer(opener, data)
        assert sorted(self.delivered) == [b"%d" % n for n in range(len(self.sent))]
        late = self.world.opener(replay=self.store)
        for data in self.sent:
            with pytest.raises(RejectedError, match="replayed"):
                late.open(data, bound=TOPIC)
        sums = [opener.stats for opener in self.openers]
        assert [Counter(one.refused) for one in sums] == self.refused
        assert sum(one.accepted for one in sums) == len(self.sent)
        hers = [one.senders["alice"] for one in sums if one.senders]
        assert sum(one.accepted for one in hers) == len(self.sent)
        inside = sum(count[INSIDE] for count in self.refused)
        assert sum(one.refused.get(INSIDE, 0) for one in hers) == inside
        guard = self.store.guard(self.openers[0].domain, ALICE.key_id, "orders")
        assert guard.gaps().accepted == len(self.sent)


def at_each_point(modules, prepare, work, handler, check, *, at_least):
    """Do the work, on something new each time, with the handler at one point after another."""
    for number in itertools.count(1):
        with contextlib.closing(prepare(number)) as made:
            with Signal(number, lambda: handler(made), modules) as signal:
                work(made)
            check(made)
        if not signal.came:
            break
    assert number > at_least


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL)  # A line of each refusal would be most of the time.


HANDLERS = {
    "opens another": lambda scene: scene.offer(0, scene.sent[1]),
    "opens another elsewhere": lambda scene: scene.offer(1, scene.sent[1]),
    "opens the same": lambda scene: scene.offer(0, scene.sent[0]),
    "opens the same elsewhere": lambda scene: scene.offer(1, scene.sent[0]),
    "opens a forgery": lambda scene: scene.offer(0, Forgery(MALLORY, ALICE).encode()),
    "reads": lambda scene: (scene.openers[0].stats, scene.store.guard("x", bytes(16), "y").gaps()),
}
"""What a handler does while envelope 0 is being opened by opener 0."""


@pytest.mark.audit("A3", "A18", "R1")
@pytest.mark.parametrize("handler", HANDLERS)
def test_what_a_handler_does_within_an_opening_is_done_once(handler):
    """I own the network, and a second copy arrives while a handler is at work in an opening."""

    def prepare(_):
        scene = Scene(lambda clock: MemoryReplayStore(first_life=True, clock=clock))
        scene.close = lambda: None
        return scene

    at_each_point(
        ("opener", "senders", "stats", "memory", "guard", "window"),
        prepare,
        lambda scene: scene.offer(0, scene.sent[0]),
        HANDLERS[handler],
        Scene.check,
        at_least=60,
    )


@pytest.mark.audit("A3", "A18", "R1")
def test_so_it_is_over_a_store_on_disk(tmp_path):
    def prepare(number):
        def store(clock):
            made = SQLiteReplayStore(tmp_path / f"{number}.db", first_life=True, clock=clock)
            made._database.execute("PRAGMA synchronous = OFF")  # No power is lost here.
            return made

        scene = Scene(store, sealed=False)
        scene.close = scene.store.close
        return scene

    at_each_point(
        ("senders", "sqlite"),
        prepare,
        lambda scene: scene.offer(0, scene.sent[0]),
        HANDLERS["opens the same elsewhere"],
        Scene.check,
        at_least=30,
    )


@pytest.mark.audit("A18", "R1", "R6")
def test_two_places_that_a_handler_and_what_it_interrupts_meet_are_two_on_disk(tmp_path):
    places = [("one", bytes(16), "orders"), ("two", bytes(16), "orders")]

    def prepare(number):
        return SQLiteReplayStore(tmp_path / f"{number}.db", first_life=True, clock=World().clock)

    def mark(store, place):
        store.guard(*place).mark(
            bytes(16), 0, 1, full_at=3, window=64, expected=False, forget_before=-1
        )

    def check(store):
        for place in places:
            with contextlib.suppress(RejectedError):
                mark(store, place)
        before = store.state()
        assert len(before) == 2
        store.close()
        with SQLiteReplayStore(store.path, clock=World().clock) as after:
            assert after.state() == before

    at_each_point(
        ("sqlite",),
        prepare,
        lambda store: store.guard(*places[0]),
        lambda store: store.guard(*places[1]),
        check,
        at_least=5,
    )


@pytest.mark.audit("A18", "E3")
def test_refusals_that_meet_are_both_counted_for_their_sender():
    """The peer did sign them: what fails is the bundle, after the signature."""

    def prepare(_):
        opener = World().opener()
        opener.close = lambda: None
        return opener

    def refuse(opener):
        with pytest.raises(RejectedError, match="malformed"):
            opener.open_bundle(Forgery(World().alice, flags=1, body=b"no bundle").encode())

    def check(opener):
        refuse(opener)
        assert opener.stats.refused == {"malformed": 3}
        assert opener.stats.senders["alice"].refused == {"malformed": 3}

    def check_last(opener):
        if opener.stats.refused == {"malformed": 1}:  # Nothing came in between.
            return
        check(opener)

    at_each_point(("stats",), prepare, refuse, refuse, check_last, at_least=10)


@pytest.mark.audit("A18", "C6")
@pytest.mark.parametrize("sealed", [False, True], ids=["signed", "sealed"])
def test_what_a_handler_seals_within_a_sealing_has_a_place_of_its_own(sealed):
    def prepare(_):
        world = World()
        sealer = world.sealer(to=[BOB] if sealed else [])
        world.clock.advance(700)  # The first epoch is over.
        world.sent = []
        world.seal = lambda: world.sent.append(sealer.seal(b"", bound=TOPIC))
        world.close = lambda: None
        return world

    def check(world):
        world.seal()
        places = {data[24:48] for data in world.sent}
        nonces = {data[56:80] for data in world.sent}
        assert len(places) == len(nonces) == len(world.sent)
        bob = world.opener()
        for data in world.sent:
            bob.open(data, bound=TOPIC)

    at_each_point(
        ("sealer", "stream", "keyblock", "audience"),
        prepare,
        lambda world: world.seal(),
        lambda world: world.seal(),
        check,
        at_least=10,
    )


@pytest.mark.audit("A18", "P3")
def test_full_caches_make_room_for_two_at_once(monkeypatch):
    """I have Alice's seed, and use a new key block each time: what is delivered is returned."""
    monkeypatch.setattr(sender_table, "_MAX_KEYS", 2)

    def prepare(_):
        world = World()
        world.bob_opens = world.opener().open
        world.sealers = [world.sealer(to=[BOB]) for _ in range(4)]
        for sealer in world.sealers[:2]:
            world.bob_opens(sealer.seal(b""))
        world.close = lambda: None
        return world

    def check(world):
        assert world.bob_opens(world.sealers[0].seal(b"last")).payload == b"last"

    at_each_point(
        ("senders",),
        prepare,
        lambda world: world.bob_opens(world.sealers[2].seal(b"")),
        lambda world: world.bob_opens(world.sealers[3].seal(b"")),
        check,
        at_least=3,
    )


@pytest.mark.audit("A18")
def test_a_full_register_of_streams_makes_room_for_two_at_once(monkeypatch):
    monkeypatch.setattr(streams, "MAX_KNOWN", 2)

    def prepare(_):
        monkeypatch.setattr(streams._register, "_births", {bytes(16): 0, b"1" * 16: 1})
        world = World()
        world.close = lambda: None
        return world

    at_each_point(
        ("stream",),
        prepare,
        lambda world: Sealer(world.alice, context="orders"),
        lambda world: Sealer(world.bob, context="orders"),
        lambda world: Sealer(world.carol, context="orders"),
        at_least=3,
    )
