"""An adversarial network, in memory, and who listens at its ends (SPEC 1.3).

Rules of this file:

- No socket, no thread, no clock of its own: packets go in, packets come out, and
  the seed decides what is left to chance. It holds no keys; what needs one is a
  forgery (``forge``).
- An attack is a function of the network and one packet that returns the packets
  that come of it. Attacks compose: each one gets what the one before it let
  through. ``sometimes`` and ``when`` narrow an attack down.
- The network records all that was sent, as it was sent.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from support import SECOND

from envelope import Message, Opener, RejectedError

DELIVERED = "delivered"


class Packet(NamedTuple):
    """An envelope on its way, with the frames that travel beside it."""

    data: bytes
    bound: tuple[bytes, ...]
    to: str
    due: int
    """When it arrives, by the network's clock."""


class Network:
    """Carries packets through its attacks, and delivers what is due."""

    def __init__(self, clock: Callable[[], int], *attacks: Attack, seed: int = 0) -> None:
        self.clock = clock
        self.attacks = attacks
        self.random = random.Random(seed)
        self.recorded: list[Packet] = []
        self._order = itertools.count()
        self._under_way: list[tuple[int, int, Packet]] = []

    def send(self, data: bytes, *, to: str = "bob", bound: Sequence[bytes] = ()) -> None:
        """Take one envelope from a sender and do to it what the attacks say."""
        packet = Packet(data, tuple(bound), to, self.clock())
        self.recorded.append(packet)
        packets: Iterable[Packet] = (packet,)
        for attack in self.attacks:
            packets = [made for one in packets for made in attack(self, one)]
        for one in packets:
            self.inject(one)

    def inject(self, packet: Packet) -> None:
        """Put a packet under way, past the attacks."""
        heapq.heappush(self._under_way, (packet.due, next(self._order), packet))

    def arrivals(self) -> list[Packet]:
        """Return what is due by now, in the order in which it arrives."""
        arrived = []
        while self._under_way and self._under_way[0][0] <= self.clock():
            arrived.append(heapq.heappop(self._under_way)[2])
        return arrived

    def deliver(self, **receivers: Receiver) -> list[str]:
        """Hand each arrival to the receiver of its name; return the verdicts in order."""
        return [receivers[p.to].offer(p.data, bound=p.bound) for p in self.arrivals()]


class Receiver:
    """An opener and what came of all that it was offered.

    Every refusal, in every story, is held to SPEC 12: nothing is delivered and no
    replay state has changed.

    Attributes:
        delivered: the messages, in order; those of a bundle one by one.
        refused: the errors, in order.
    """

    def __init__(self, opener: Opener) -> None:
        self.opener = opener
        self.delivered: list[Message] = []
        self.refused: list[RejectedError] = []

    def offer(
        self, data: bytes, *, bound: Sequence[bytes] = (), in_reply_to: bytes | None = None
    ) -> str:
        """Return ``delivered``, or the code of the refusal, for one that is no bundle."""
        return self._offer(lambda: [self.opener.open(data, bound=bound, in_reply_to=in_reply_to)])

    def offer_bundle(
        self, data: bytes, *, bound: Sequence[bytes] = (), in_reply_to: bytes | None = None
    ) -> str:
        """Return ``delivered``, or the code of the refusal, for one that may be a bundle."""
        return self._offer(
            lambda: self.opener.open_bundle(data, bound=bound, in_reply_to=in_reply_to)
        )

    def _offer(self, open_it: Callable[[], list[Message]]) -> str:
        before = self.state()
        try:
            messages = open_it()
        except RejectedError as error:
            self.refused.append(error)
        else:
            assert self.state() != before, "delivered, and not remembered"
            self.delivered += messages
            return DELIVERED
        assert self.state() == before, f"{self.refused[-1]} changed the replay state"
        return self.refused[-1].code

    def state(self) -> object:
        """Return the replay state, as a value."""
        return self.opener.replay.state()  # type: ignore[attr-defined]  # the stories use memory

    @property
    def payloads(self) -> list[bytes]:
        """What was delivered, in order."""
        return [message.payload for message in self.delivered]


Attack = Callable[[Network, Packet], Iterable[Packet]]


def drop(network: Network, packet: Packet) -> Iterable[Packet]:
    """Lose it."""
    return ()


def repeat(network: Network, packet: Packet) -> Iterable[Packet]:
    """Deliver it twice."""
    return packet, packet


def delay(seconds: float) -> Attack:
    """Hold it back for so long."""

    def attack(network: Network, packet: Packet) -> Iterable[Packet]:
        return [packet._replace(due=packet.due + round(seconds * SECOND))]

    return attack


def reorder(seconds: float) -> Attack:
    """Hold each one back for a time of its own, up to so long."""

    def attack(network: Network, packet: Packet) -> Iterable[Packet]:
        return delay(network.random.uniform(0, seconds))(network, packet)

    return attack


def flip(network: Network, packet: Packet) -> Iterable[Packet]:
    """Invert one bit."""
    changed = bytearray(packet.data)
    changed[network.random.randrange(len(changed))] ^= 1 << network.random.randrange(8)
    return [packet._replace(data=bytes(changed))]


def truncate(network: Network, packet: Packet) -> Iterable[Packet]:
    """Cut it off somewhere."""
    return [packet._replace(data=packet.data[: network.random.randrange(len(packet.data))])]


def extend(network: Network, packet: Packet) -> Iterable[Packet]:
    """Append up to a hundred bytes."""
    more = network.random.randbytes(network.random.randint(1, 100))
    return [packet._replace(data=packet.data + more)]


def splice(network: Network, packet: Packet) -> Iterable[Packet]:
    """Put the end of a recorded one in place of its own."""
    other = network.random.choice(network.recorded).data
    cut = network.random.randrange(len(packet.data))
    return [packet._replace(data=packet.data[:cut] + other[cut:])]


def replay(network: Network, packet: Packet) -> Iterable[Packet]:
    """Let it through, and a recorded one after it."""
    return packet, network.random.choice(network.recorded)._replace(due=packet.due)


def retopic(*bound: bytes) -> Attack:
    """Have it arrive beside these frames."""

    def attack(network: Network, packet: Packet) -> Iterable[Packet]:
        return [packet._replace(bound=bound)]

    return attack


def reroute(*places: str) -> Attack:
    """Have it arrive at one of these places."""
    return lambda network, packet: [packet._replace(to=network.random.choice(places))]


def sometimes(chance: float, attack: Attack) -> Attack:
    """Let the attack happen with this chance."""

    def maybe(network: Network, packet: Packet) -> Iterable[Packet]:
        return attack(network, packet) if network.random.random() < chance else [packet]

    return maybe


def when(condition: Callable[[Packet], bool], attack: Attack) -> Attack:
    """Let the attack happen to packets of which the condition is true."""
    return lambda network, packet: attack(network, packet) if condition(packet) else [packet]
