"""Everything at once: a long conversation over a network that does all it can.

Alice and Bob write to each other for a few thousand envelopes, of every kind, on
topics, in bundles, over restarts of the senders. What ought to arrive is worked out
here from the network's side, byte by byte, without asking an opener.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

import pytest
from simulator import (
    DELIVERED,
    Network,
    Receiver,
    delay,
    drop,
    extend,
    flip,
    reorder,
    repeat,
    replay,
    reroute,
    retopic,
    sometimes,
    splice,
    truncate,
)
from support import SECOND, World

from envelope import Policy
from envelope.wire import decode

ENVELOPES = 1500
RESTART_EVERY = 300


class Sent(NamedTuple):
    """What an honest sender handed to the network."""

    to: str
    bound: tuple[bytes, ...]
    place: tuple[bytes, int]
    """Stream and sequence."""
    sent_at: int
    payloads: list[bytes]


class Conversation:
    """Both ends, the network between, and the truth about what was sent."""

    def __init__(self, seed):
        self.world = world = World()
        self.chance = random.Random(seed)
        self.identities = {"alice": world.alice, "bob": world.bob}
        self.receivers = {
            name: Receiver(world.opener(who, policy=Policy(window=256)))
            for name, who in self.identities.items()
        }
        self.network = Network(world.clock, *self.attacks(), seed=seed)
        self.sent = {}
        self.arrived = set()
        self.restart()

    def attacks(self):
        stranger = self.world.sealer(self.world.mallory)

        def forge(network, packet):
            return packet, packet._replace(data=stranger.seal(b"believe me"))

        return (
            sometimes(0.05, drop),
            sometimes(0.05, repeat),
            sometimes(0.20, reorder(2)),
            sometimes(0.03, delay(20)),
            sometimes(0.03, delay(31)),
            sometimes(0.03, flip),
            sometimes(0.02, truncate),
            sometimes(0.02, extend),
            sometimes(0.03, splice),
            sometimes(0.08, replay),
            sometimes(0.03, retopic(b"topic 1")),
            sometimes(0.03, reroute("alice", "bob")),
            sometimes(0.02, forge),
        )

    def restart(self):
        """Have both senders begin anew: for everyone, addressed, and sealed."""
        alice, bob = self.identities["alice"], self.identities["bob"]
        self.sealers = [
            (to, self.world.sealer(who, **options))
            for who, peer, to in ((alice, bob, "bob"), (bob, alice, "alice"))
            for options in (
                {},
                {"to": [peer.public], "sealed": False},
                {"to": [peer.public]},
            )
        ]

    def say(self, number):
        """Have somebody send something, and deliver whatever is due."""
        to, sealer = self.chance.choice(self.sealers)
        bound = self.chance.choice([(), (b"topic 1",), (b"topic 2", b"part")])
        payloads = [b"%d.%d" % (number, part) for part in range(self.chance.choice([1, 1, 1, 9]))]
        if len(payloads) == 1:
            data = sealer.seal(payloads[0], bound=bound)
        else:
            data = sealer.seal_bundle(payloads, bound=bound)
        header = decode(data)
        place = (header.stream, header.sequence)
        self.sent[data] = Sent(to, bound, place, header.sent_at, payloads)
        self.network.send(data, to=to, bound=bound)
        self.world.clock.advance(self.chance.uniform(0, 0.05))
        self.deliver()

    def deliver(self):
        """Hand out what arrives; hold each verdict against what it ought to be."""
        for packet in self.network.arrivals():
            receiver = self.receivers[packet.to]
            genuine = self.sent.get(packet.data)
            is_in_place = genuine is not None and (packet.to, packet.bound) == genuine[:2]
            is_fresh = genuine is not None and genuine.sent_at >= self.now() - 30 * SECOND
            verdict = receiver.offer_bundle(packet.data, bound=packet.bound)
            if is_in_place and is_fresh and packet.data not in self.arrived:
                assert verdict == DELIVERED
                self.arrived.add(packet.data)
                count = len(genuine.payloads)
                assert receiver.payloads[-count:] == genuine.payloads
                assert all(
                    (message.stream, message.sequence) == genuine.place
                    for message in receiver.delivered[-count:]
                )
            elif is_in_place:
                assert verdict == ("replayed" if is_fresh else "stale")
            else:
                assert verdict != DELIVERED

    def now(self):
        return self.world.clock()

    def at(self, name):
        """Return what was sent to this end, and which of it arrived whole and in time."""
        sent = [data for data, what in self.sent.items() if what.to == name]
        return sent, [data for data in sent if data in self.arrived]


@pytest.mark.audit("A1", "A2", "A3", "A4", "A5", "A6", "A7", "A21", "C4", "R1", "R8")
@pytest.mark.parametrize("seed", [1, 2])
def test_a_long_conversation_over_a_hostile_network(seed):
    """I do everything that needs no key, at random, to thousands of envelopes.

    What is delivered was sent, here and so; nothing twice, nothing changed; all that
    came whole and in time; and the gap figures are what I took.
    """
    story = Conversation(seed)
    for number in range(ENVELOPES):
        if number and number % RESTART_EVERY == 0:
            story.restart()
        story.say(number)
    story.world.clock.advance(60)
    story.deliver()
    codes = Counter()
    for name, other in (("alice", "bob"), ("bob", "alice")):
        receiver = story.receivers[name]
        sent, arrived = story.at(name)
        # Each was delivered once, and nothing else was.
        expected = Counter(payload for data in arrived for payload in story.sent[data].payloads)
        assert Counter(receiver.payloads) == expected
        assert set(expected.values()) == {1}
        # The gap figures are what the network took, up to the newest that came.
        stats = receiver.opener.stats
        tops = {}
        for data in arrived:
            stream, sequence = story.sent[data].place
            tops[stream] = max(sequence, tops.get(stream, 0))
        taken = 0
        for data in set(sent) - set(arrived):
            stream, sequence = story.sent[data].place
            taken += sequence < tops[stream]
        figures = stats.senders[other]
        assert set(stats.senders) == {other}
        assert figures.accepted == len(arrived)
        assert figures.missing + figures.lost + figures.unseen == taken
        assert taken > 50
        codes.update(stats.refused)
    # The network really did all of this.
    assert set(codes) >= {
        "malformed",
        "unknown_sender",
        "reflected",
        "stale",
        "replayed",
        "bad_signature",
    }
