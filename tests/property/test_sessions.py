"""Sessions of two and of three ends on a network that is the attacker (SPEC 18).

Rules of this file: the network keeps whatever was sent, in every life, and may deliver each of
it at any time, to anybody, by any address, as it was or changed. What must hold is checked
after each step. At the end of a run the network becomes honest, and messages must arrive.
"""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sides import CONTEXT, MONOTONIC, Side
from support import FakeClock, flip, identity

from envelope import Peer
from envelope.errors import RejectedError, UsageError
from envelope.session import channel as channels
from envelope.session import noise
from envelope.session.tables import _SPARE
from envelope.session.timing import REJECT_AFTER, REKEY_AFTER

NAMES = ("alice", "bob", "carol")
BOUND = ((), (b"t",), (b"t", b""), (b"u",))
SOON = 25
"""Seconds in which a message must arrive: silence, and one repetition of the slowest."""

some = st.integers(0, 2**16)
"""Chooses one of what there is; counted from the newest, so that 0 is the likeliest."""
steps = st.sampled_from([-3600, -2, -0.5, -0.5, 0.5, 0.5, 2, 3600])
"""By how many seconds a wall clock is set."""
seconds = st.sampled_from([0.01, 0.2, 0.3, 1, 4, 9, 11, 16, 31, 61, 100, 200])


class Packet(tuple):
    """(source, destination, bound, data) of what was sent."""

    __slots__ = ()


class Ends(RuleBasedStateMachine):
    """What two ends and the network between them do."""

    count = 2

    def __init__(self):
        super().__init__()
        self.nonces = {}
        self.patches = [
            mock.patch.object(module, "encrypt", self.recorded(module.encrypt, most))
            for module, most in ((channels, REJECT_AFTER), (noise, 2))
        ]
        for patch in self.patches:
            patch.start()
        self.mono = FakeClock(MONOTONIC)
        names = NAMES[: self.count]
        self.sides = [Side(n, *(o for o in names if o != n), mono=self.mono) for n in names]
        self.numbers = {side.identity.key_id: n for n, side in enumerate(self.sides)}
        self.trusted = {}
        for i, j in self.pairs():
            self.trusted[i, j] = Peer(names[j], identity(names[j]).public, [CONTEXT])
        self.air = []
        self.record = []
        self.sent = {}
        self.delivered = Counter()
        self.ids = [[] for _ in names]
        self.shared = {}
        self.next_payload = itertools.count()

    def pairs(self):
        return list(itertools.permutations(range(self.count), 2))

    def recorded(self, encrypt, most):
        """Return encrypt that notes each key and nonce, and minds a second use."""

        def wrapped(plaintext, aad, nonce, key):
            assert (key, nonce) not in self.nonces
            assert struct.unpack("<4xQ", nonce)[0] < most
            self.nonces[key, nonce] = plaintext
            return encrypt(plaintext, aad, nonce, key)

        return wrapped

    def teardown(self):
        try:
            if hasattr(self, "begun"):
                self.messages_arrive_once_the_network_is_honest()
        finally:
            for patch in self.patches:
                patch.stop()

    @initialize(behind=st.integers(0, 900_000), are_open=st.sampled_from([True, True, False]))
    def begin(self, behind, are_open):
        self.begun = True
        self.sides[-1].wall.now -= behind
        if are_open:
            for i, j in self.pairs():
                self.say(i, j)
                self.deliver_all()

    # What the ends do.

    def drain(self, i):
        """Put what an end says into the air and into the record."""
        outbox = self.sides[i].manager.outbox
        while outbox:
            address, bound, data = outbox.popleft()
            self.put(i, address, bound, data)

    def put(self, i, address, bound, data):
        j = address[1] if address[0] == "to" else None
        packet = Packet((i, j, bound, data))
        self.record.append(packet)
        if j is not None:  # The others are addresses of the network's own.
            self.air.append(packet)

    def say(self, i, j, bound=(), in_reply_to=None):
        """Send a payload that was never sent before; return it, or None."""
        payload = f"{i} {self.sides[i].lives} {j} {next(self.next_payload)}".encode()

        def sealed(_):
            self.sent[payload] = (i, j, bound, in_reply_to, self.sides[j].lives)

        to = self.sides[j].identity.public
        try:
            data = self.sides[i].manager.send(
                payload,
                bound=bound,
                address=("to", j),
                to=to,
                in_reply_to=in_reply_to,
                on_sealed=sealed,
            )
        except UsageError:
            assert self.trusted[i, j].revoked or not self.sides[i].manager.has_room(100, to=to)
            return None
        self.drain(i)
        if data is not None:
            self.put(i, ("to", j), bound, data)
        return payload

    def hand(self, i, address, bound, data):
        """Deliver; return the code of a refusal, or None. Check what comes of it."""
        side = self.sides[i]
        try:
            message = side.manager.receive(data, bound=bound, address=address)
        except RejectedError as error:
            return error.code
        finally:
            self.drain(i)
            self.note_keys(i)
        if message is None:
            return None
        source, to, with_frames, in_reply_to, life = self.sent[message.payload]
        assert to == i
        assert life == side.lives
        assert message.sender.key_id == self.sides[source].identity.key_id
        assert message.bound == with_frames == bound
        assert message.in_reply_to == in_reply_to
        assert message.context == CONTEXT
        trusted = self.trusted[i, source]
        assert not trusted.revoked
        assert trusted.allows_topic(bound)
        self.delivered[message.payload] += 1
        assert self.delivered[message.payload] == 1
        self.ids[i].append((source, message.id))
        return None

    @rule(pair=some, bound=st.sampled_from(BOUND), count=st.integers(1, 3), is_prompt=st.booleans())
    def send(self, pair, bound, count, is_prompt):
        i, j = self.pick(self.pairs(), pair)
        for _ in range(count):
            self.say(i, j, bound)
        if is_prompt:
            self.deliver_all()

    @rule(end=some, which=some)
    def reply(self, end, which):
        i = end % self.count
        if self.ids[i]:
            source, message_id = self.pick(self.ids[i], which)
            self.say(i, source, (b"t",), message_id)

    @rule(end=some)
    def tick(self, end):
        i = end % self.count
        side = self.sides[i]
        side.manager.tick()
        self.drain(i)
        due = side.manager.next_tick()
        assert due is None or due > self.mono.now

    @rule(dt=seconds, ticks=st.booleans())
    def time_goes_on(self, dt, ticks):
        self.advance(dt)
        if ticks:
            for i in range(self.count):
                self.tick(i)

    def advance(self, dt):
        self.mono.advance(dt)
        for side in self.sides:
            side.wall.advance(dt)

    @rule(
        end=some,
        what=st.sampled_from(["crash", "crash", "revoked", "topics", "trust", "trust"]) | steps,
    )
    def an_end_changes(self, end, what):
        i = end % self.count
        if what == "crash":
            self.sides[i].begin()
            self.ids[i].clear()
        elif isinstance(what, str):
            fields = {"revoked": {"revoked": True}, "topics": {"topics": ["t"]}}
            self.trust(
                i, self.pick([j for k, j in self.pairs() if k == i], end), **fields.get(what, {})
            )
        else:
            self.sides[i].wall.advance(what)

    def trust(self, i, j, **fields):
        name = self.sides[j].name
        self.trusted[i, j] = Peer(name, identity(name).public, [CONTEXT], **fields)
        self.sides[i].trust.replace(self.trusted[i, k] for k in range(self.count) if k != i)

    @rule(end=some, which=some, most=st.sampled_from([REKEY_AFTER, REJECT_AFTER]))
    def counters_come_near_their_ends(self, end, which, most):
        links = self.sides[end % self.count].manager.links
        slots = [link.current for link in links if link.current is not None]
        if slots:
            channel = self.pick(slots, which)
            if channel.sent < most - 2:
                channel.sent = most - 2
                channel._take = itertools.count(most - 2).__next__

    # What the network does.

    @staticmethod
    def pick(things, number):
        return things[-1 - number % len(things)]

    def pass_on(self, packet):
        source, to, bound, data = packet
        return self.hand(to, ("to", source), bound, data)

    @precondition(lambda self: self.air)
    @rule(which=some)
    def deliver(self, which):
        self.pass_on(self.air.pop(which % len(self.air)))

    @rule()
    def deliver_all(self):
        for _ in range(50):
            if not self.air:
                break
            self.pass_on(self.air.pop(0))

    @precondition(lambda self: self.air)
    @rule(which=some)
    def drop(self, which):
        del self.air[which % len(self.air)]

    @precondition(lambda self: self.record)
    @rule(which=some, end=some, address=st.sampled_from(["x", "y", 0, 1, 2]))
    def deliver_whatever_was_recorded(self, which, end, address):
        _, _, bound, data = self.pick(self.record, which)
        place = ("by", address) if type(address) is str else ("to", address % self.count)
        self.hand(end % self.count, place, bound, data)

    @precondition(lambda self: self.record)
    @rule(which=some, end=some)
    def repeat_what_was_accepted(self, which, end):
        source, to, bound, data = self.pick(self.record, which)
        i = self.end_for(to, end)
        address = ("to", to if source == i else source)
        self.hand(i, address, bound, data)
        slots = self.slots()
        seen = self.delivered.total()
        code = self.hand(i, address, bound, data)
        # A hint may be heard again; it takes nothing away.
        assert code is not None or data[4] == 6
        assert self.slots() == slots
        assert self.delivered.total() == seen

    @precondition(lambda self: self.record)
    @rule(which=some, end=some, at=some, mask=st.integers(1, 255))
    def flip_bits(self, which, end, at, mask):
        source, to, bound, data = self.pick(self.record, which)
        self.forge(self.end_for(to, end), source, bound, flip(data, at % len(data), mask))

    @precondition(lambda self: self.record)
    @rule(one=some, two=some, end=some, at=st.sampled_from([5, 6, 12, 14, 20, 22, 38, 42]))
    def splice(self, one, two, end, at):
        source, to, bound, head = self.pick(self.record, one)
        tail = self.pick([data for *_, data in self.record if data[4] == head[4]], two)
        if (data := head[:at] + tail[at:]) not in {packet[3] for packet in self.record}:
            self.forge(self.end_for(to, end), source, bound, data)

    @precondition(lambda self: self.record)
    @rule(which=some, end=some)
    def change_bound_frames(self, which, end):
        source, to, bound, data = self.pick(self.record, which)
        self.forge(self.end_for(to, end), source, (*bound, b"more"), data)

    def end_for(self, to, end):
        """Return the end that something was meant for, or sometimes another."""
        return to if to is not None and end % 4 else end % self.count

    def forge(self, i, source, bound, data):
        slots = self.slots()
        assert self.hand(i, ("to", source), bound, data) is not None
        assert self.slots() == slots

    # What must hold.

    def slots(self):
        return [
            (i, link.key_id, link.slots(), link.initiation)
            for i, side in enumerate(self.sides)
            for link in side.manager.links
        ]

    def note_keys(self, i):
        """Note which keys an end has, though it may have others when the next step is over."""
        for link in self.sides[i].manager.links:
            for channel in link.channels():
                keys = channel._send_key, channel._receive_key
                self.shared.setdefault(keys, set()).add((i, link.key_id))

    @invariant()
    def sessions_are_between_their_two_ends(self):
        if not hasattr(self, "begun"):
            return
        ends = {}
        for i, side in enumerate(self.sides):
            self.note_keys(i)
            for link in side.manager.links:
                for channel in link.channels():
                    ends[channel.our_id, channel.their_id] = i, link.key_id, channel
        for (ours, theirs), (i, key_id, channel) in ends.items():
            other = ends.get((theirs, ours))
            if other is not None:
                j, their_key_id, back = other
                assert (i, j) == (self.numbers[their_key_id], self.numbers[key_id])
                assert channel._send_key == back._receive_key != channel._receive_key
                assert channel._receive_key == back._send_key
                assert channel.our_stream == back.their_stream != channel.their_stream
                assert channel.their_stream == back.our_stream
        for i, side in enumerate(self.sides):
            for link in side.manager.links:
                if link.current is not None:
                    # Its peer has made these keys too: no forgery, no recording leads here.
                    back = link.current._receive_key, link.current._send_key
                    peer = self.numbers[link.key_id], side.identity.key_id
                    assert self.shared.get(back) == {peer}
                    assert self.shared[back[::-1]] == {(i, link.key_id)}

    @invariant()
    def tables_are_bounded_and_agree(self):
        for i, side in enumerate(self.sides):
            manager = side.manager
            tables = manager._tables
            links = manager.links
            assert {c.our_id for link in links for c in link.channels()} == set(tables.channels)
            asked = {link.initiation.session_id: link for link in links if link.initiation}
            assert asked == tables.asked
            assert not set(tables.asked) & set(tables.channels)
            assert manager.staged == sum(len(link.staged) for link in links)
            assert sum(map(len, tables.by_peer.values())) == len(links) == len(tables.links)
            assert all(tables.links[link.key_id, link.address] is link for link in links)
            assert len(tables._wakes) <= _SPARE + 2 * len(links)
            assert not any(link.is_empty for link in links)
            if any(self.trusted[i, j].revoked for j in range(self.count) if j != i):
                manager.tick()
                self.drain(i)
                kept = {self.numbers[link.key_id] for link in manager.links}
                assert not any(self.trusted[i, j].revoked for j in kept)

    @invariant()
    def nothing_shows_a_secret(self):
        for side in self.sides:
            manager = side.manager
            things = [manager, *manager.links, *(link.initiation for link in manager.links)]
            things += [channel for link in manager.links for channel in link.channels()]
            text = " ".join(map(repr, things))
            for keys in self.shared:
                assert not any(key.hex() in text or repr(key)[2:-1] in text for key in keys)

    # What must come at last.

    def messages_arrive_once_the_network_is_honest(self):
        self.air.clear()
        now = max(side.wall.now for side in self.sides)
        for side in self.sides:
            side.wall.now = now
            side.manager.reset_clock()
        for i, j in self.pairs():
            self.trust(i, j)
        waiting = {pair: set() for pair in self.pairs()}
        for _ in range(4 * SOON):
            for i, j in list(waiting):
                waiting[i, j].add(self.say(i, j))
            self.deliver_all()
            waiting = {
                pair: said for pair, said in waiting.items() if not said & set(self.delivered)
            }
            if not waiting:
                return
            self.time_goes_on(0.25, ticks=True)
            self.deliver_all()
        raise AssertionError(f"nothing arrived from and to {list(waiting)}")


class ThreeEnds(Ends):
    count = 3


for machine in (Ends, ThreeEnds):
    machine.TestCase.settings = settings(
        settings.default,
        max_examples=max(settings.default.max_examples // 2, 10),
        stateful_step_count=50,
    )
AUDIT = ("A1", "A2", "A3", "A6", "A7", "A16", "A19", "C6", "R1", "R2", "R4", "K5")
TestTwoEnds = pytest.mark.audit(*AUDIT)(Ends.TestCase)
TestThreeEnds = pytest.mark.audit(*AUDIT)(ThreeEnds.TestCase)
