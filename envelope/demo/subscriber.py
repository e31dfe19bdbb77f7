"""A subscriber: opens what arrives, and writes down what came of each message.

Rules of this file: it is told whom to believe, where to connect, and no more. Its
list of arrivals and its library's counters go to the parent to be compared.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final, TypedDict

import zmq

from envelope import (
    Identity,
    Message,
    Opener,
    Peer,
    PublicIdentity,
    RejectedError,
    Stats,
    TrustStore,
    clock,
)
from envelope.demo import cast
from envelope.demo.channel import EVERY, FINISH, Channel
from envelope.replay import SQLiteReplayStore
from envelope.zeromq import SecureSocket

OTHERS: Final = "others"
"""Whoever claims to be none of the publishers, or does not even claim that."""
_BATCH: Final = 200
"""Messages between two looks at the clock and at the parent."""


class Setting(TypedDict):
    """What the parent tells a subscriber."""

    name: str
    secret: str
    publishers: dict[str, str]
    """Public texts by name."""
    endpoint: str
    memory: str
    """The file of the replay memory, which outlives the process."""
    before: dict[str, Any] | None
    """What an earlier process of this subscriber reported at its end."""


class Diary:
    """What came of all that arrived, in order.

    Attributes:
        arrivals: for each delivered message its event and the payload's digest; for
            each refused one its code.
    """

    def __init__(
        self, name: str, publishers: dict[bytes, str], before: dict[str, Any] | None = None
    ) -> None:
        """Take the own name, the publishers' names by key id, and the earlier pages."""
        self._name = name
        self._names = publishers
        self._awaited = set(publishers.values())
        self._open: dict[tuple[str, str], int] = {}
        self._claimed: dict[str, Counter[str]] = {}
        self.arrivals: list[str | tuple[str, str]] = []
        self._refused: Counter[str] = Counter()
        self._delivered: Counter[str] = Counter()
        if before is not None:
            self._awaited = set(before["awaited"])
            self._open = {(sender, topic): count for sender, topic, count in before["open"]}
            self._claimed = {who: Counter(codes) for who, codes in before["claimed"].items()}
            self.arrivals = before["arrivals"]
            self._refused.update(before["refused"])
            self._delivered.update({n: one["delivered"] for n, one in before["senders"].items()})

    def refuse(self, error: RejectedError) -> None:
        """Write down a refusal."""
        self.arrivals.append(error.code)
        who = self._names.get(error.claimed_sender or b"", OTHERS)
        self._claimed.setdefault(who, Counter())[error.code] += 1

    def deliver(self, message: Message) -> None:
        """Write down a delivery, and note how much is still to come."""
        sender, topic = message.sender.name, (message.topic or b"").decode()
        event = cast.event_id(sender, topic, message.sequence)
        self.arrivals.append((event, cast.digest(message.payload)))
        if topic == f"{cast.END}/{sender}":
            self._awaited.discard(sender)
            for closing, count in json.loads(message.payload).items():
                if self._name in cast.audience(closing):
                    self._open[sender, closing] = count
        elif self._open.get((sender, topic)) == message.sequence:
            del self._open[sender, topic]

    @property
    def is_complete(self) -> bool:
        """Whether every publisher has ended, and every topic of it was closed."""
        return not self._awaited and not self._open

    def report(self, stats: Stats) -> dict[str, Any]:
        """Return the figures as they are now, the library's own among them.

        What an opener counts ends with its process. What is late and lost the replay
        memory knows, which goes on.
        """
        return {
            "complete": self.is_complete,
            "arrived": len(self.arrivals),
            "refused": self._refused + Counter(stats.refused),
            "claimed": self._claimed,
            "senders": {
                name: {
                    "delivered": self._delivered[name] + one.messages,
                    "late": one.late,
                    "lost": one.missing + one.lost + one.unseen,
                }
                for name, one in stats.senders.items()
            },
        }

    def pages(self) -> dict[str, Any]:
        """Return all that was written, to be compared or gone on with."""
        return {
            "arrivals": self.arrivals,
            "awaited": sorted(self._awaited),
            "open": [[sender, topic, count] for (sender, topic), count in self._open.items()],
        }


def main(channel: Channel, setting: Setting) -> None:
    """Receive until the parent says that it is over."""
    public = {n: PublicIdentity.parse(text) for n, text in setting["publishers"].items()}
    trust = TrustStore(Peer(n, key, contexts=[cast.CONTEXT]) for n, key in public.items())
    # The keys were made a moment ago: no life before the first one used them.
    memory = SQLiteReplayStore(Path(setting["memory"]), first_life=True)
    opener = Opener(
        trust,
        context=cast.CONTEXT,
        identity=Identity.parse(setting["secret"]),
        policy=cast.POLICY,
        replay=memory,
    )
    names = {key.key_id: name for name, key in public.items()}
    diary = Diary(setting["name"], names, setting["before"])
    with memory, zmq.Context() as context, context.socket(zmq.SUB) as plain:
        plain.set(zmq.RCVHWM, 0)
        for prefix in cast.prefixes(setting["name"]):
            plain.subscribe(f"{prefix}/")
        plain.connect(setting["endpoint"])
        socket = SecureSocket(plain, opener=opener, on_rejected=diary.refuse)
        poller = zmq.Poller()
        poller.register(plain, zmq.POLLIN)
        poller.register(channel, zmq.POLLIN)
        next_report = 0
        while channel.command() != FINISH:
            poller.poll(EVERY // 1000)
            _receive(socket, diary)
            if clock.monotonic() >= next_report:
                next_report = clock.monotonic() + EVERY
                channel.tell(diary.report(socket.stats))
        # One message too many would be found out, too.
        while _receive(socket, diary):
            pass
    channel.tell(diary.report(socket.stats) | diary.pages())


def _receive(socket: SecureSocket, diary: Diary) -> bool:
    """Take some of what has arrived; tell whether there may be more."""
    for _ in range(_BATCH):
        try:
            diary.deliver(socket.recv(zmq.NOBLOCK))
        except zmq.Again:
            return False
    return True
