"""The hostile proxy without its sockets: messages in, messages and a ledger out.

Rules of this file:

- What it does to a sender's n-th message depends on the seed, the sender and n
  alone, not on how the senders' messages interleave: one seed, one set of counts.
- Every message that goes out stands in the ledger of each subscriber that gets it,
  in order, with what must come of it there.
- It sees what any proxy sees: topics, headers, sizes. It has no key of the others.
- After a sender's signed ``end`` its messages pass, so that all that is missing can
  be noticed.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any, Final, NamedTuple

from envelope import wire
from envelope.clock import SECOND
from envelope.demo import cast
from envelope.demo.attacks import DELIVERED, Act, Forger, flip, garbage
from envelope.errors import RejectedError

FATES: Final = {
    Act.PASS: 84,
    Act.DROP: 3,
    Act.REORDER: 3,
    Act.FLIP: 4,
    Act.RETOPIC: 3,
    Act.REPEAT: 3,
}
"""What becomes of a message: the odds."""
PRIVATE_FATES: Final = {**FATES, Act.PASS: 69, Act.MISDIRECT: 15}
"""The same where there is a wrong subscriber to send it to."""
INJECTIONS: Final = {
    Act.REPLAY: 0.03,
    Act.STRANGER: 0.015,
    Act.IMPOSTOR: 0.015,
    Act.GARBAGE: 0.015,
}
"""How likely each one is to follow upon a message."""
_KEPT: Final = 256
"""Messages of a sender kept for replays: far fewer than a replay window holds, so
that each one is refused as ``replayed`` and not as ``too_old``."""
_KEPT_FOR: Final = 60 * SECOND
"""And no longer than this, so that none is refused as ``stale``."""
_OVERTAKEN: Final = 3
"""A message that is held back is overtaken by so many others of its topic at most."""

Frames = list[bytes]


class Entry(NamedTuple):
    """One message that a subscriber gets."""

    act: Act
    outcome: str
    """``delivered``, or the code it must be refused with."""
    event: str | None
    """The event in it, if it must be delivered."""


class _Sent(NamedTuple):
    topic: str
    data: bytes
    sent_at: int
    event: str


class _Sender:
    """What the proxy remembers of one publisher."""

    def __init__(self, name: str, key_id: bytes, seed: int) -> None:
        self.name = name
        self.key_id = key_id
        self.dice = random.Random(f"{seed} {name}")  # noqa: S311 (repeatable, on purpose)
        self.held: list[tuple[_Sent, int]] = []
        self.recorded: deque[_Sent] = deque(maxlen=_KEPT)
        self.has_ended = False


class Liar:
    """Takes what publishers send, and says what to send to the subscribers.

    Attributes:
        counts: how often it did what.
        ledger: by subscriber, what it gets and what must come of it, in order.
        stopped: the events that do not arrive, and why.
    """

    def __init__(self, senders: dict[bytes, str], forger: Forger, *, seed: int) -> None:
        """Take the publishers' names by key id."""
        self._senders = {key_id: _Sender(name, key_id, seed) for key_id, name in senders.items()}
        self._forger = forger
        self._out: list[Frames] = []
        self.counts: Counter[Act] = Counter()
        self.ledger: dict[str, list[Entry]] = {name: [] for name in cast.SUBSCRIBERS}
        self.stopped: list[tuple[Act, str]] = []

    def take(self, frames: Frames) -> list[Frames]:
        """Take one message from a publisher; return those to send, in order."""
        try:
            topic, data = frames[0].decode(), frames[1]
            header = wire.decode(data)
            sender = self._senders[header.sender]
            cast.audience(topic)
        except (RejectedError, LookupError, UnicodeDecodeError):
            return []  # Somebody else on this machine talks to our port.
        event = cast.event_id(sender.name, topic, header.sequence)
        message = _Sent(topic, data, header.sent_at, event)
        if topic == f"{cast.END}/{sender.name}":
            self._let_go(sender)
            sender.has_ended = True
        if sender.has_ended:
            self._pass(sender, message, Act.PASS)
        else:
            self._decide(sender, message)
            self._inject(sender, message)
        return self._drain()

    def release(self) -> list[Frames]:
        """Return all that is held back: nothing else comes for a while."""
        for sender in self._senders.values():
            self._let_go(sender)
        return self._drain()

    def replay_all(self, name: str, most: int) -> list[Frames]:
        """Return the newest that a subscriber got before it began anew, again."""
        for sender in self._senders.values():
            got = [sent for sent in sender.recorded if name in cast.audience(sent.topic)]
            for old in got[-(most // len(self._senders)) :]:
                self.counts[Act.RESTART] += 1
                self._send(old.topic, old.data, Entry(Act.RESTART, "replayed", None))
        return self._drain()

    def report(self) -> dict[str, Any]:
        """Return all that was done, to be compared with what came of it."""
        return {"ledger": self.ledger, "stopped": self.stopped}

    def _decide(self, sender: _Sender, message: _Sent) -> None:
        """Do to one message what the dice say."""
        fates = FATES if len(cast.audience(message.topic)) > 1 else PRIVATE_FATES
        (act,) = sender.dice.choices(tuple(fates), tuple(fates.values()))
        overtaken = [(sent, left - (sent.topic == message.topic)) for sent, left in sender.held]
        sender.held = [(sent, left) for sent, left in overtaken if left]
        if act is not Act.PASS:
            self.counts[act] += 1
        match act:
            case Act.REORDER:
                sender.held.append((message, sender.dice.randint(1, _OVERTAKEN)))
            case Act.DROP | Act.FLIP | Act.RETOPIC:
                self._stop(sender, message, act)
            case _:
                self._pass(sender, message, Act.PASS)
        if act is Act.REPEAT:
            self._send(message.topic, message.data, Entry(act, "replayed", None))
        elif act is Act.MISDIRECT:
            wrong = next(name for name in cast.SUBSCRIBERS if not message.topic.startswith(name))
            kind = message.topic.partition("/")[2]
            self._send(f"{wrong}/{kind}", message.data, Entry(act, "not_addressed", None))
        for sent, left in overtaken:
            if not left:
                self._pass(sender, sent, Act.REORDER)

    def _stop(self, sender: _Sender, message: _Sent, act: Act) -> None:
        """Keep an honest message from arriving, or spoil it."""
        self.stopped.append((act, message.event))
        if act is Act.FLIP:
            data, code = flip(message.data, sender.dice)
            self._send(message.topic, data, Entry(act, code, None))
        elif act is Act.RETOPIC:
            prefix, _, kind = message.topic.partition("/")
            other = f"{prefix}/{'dns' if kind != 'dns' else 'conn'}"
            self._send(other, message.data, Entry(act, "bad_signature", None))

    def _inject(self, sender: _Sender, message: _Sent) -> None:
        """Add what nobody sent, or nobody sent now."""
        topic = message.topic
        for act, chance in INJECTIONS.items():
            if sender.dice.random() >= chance:
                continue
            match act:
                case Act.STRANGER:
                    data, code = self._forger.stranger(topic), "unknown_sender"
                case Act.IMPOSTOR:
                    data, code = self._forger.impostor(topic, sender.key_id), "bad_signature"
                case Act.GARBAGE:
                    data, code = garbage(sender.dice), "malformed"
                case _:
                    self._replay(sender, message.sent_at)
                    continue
            self.counts[act] += 1
            self._send(topic, data, Entry(act, code, None))

    def _replay(self, sender: _Sender, now: int) -> None:
        fresh = [sent for sent in sender.recorded if sent.sent_at > now - _KEPT_FOR]
        if fresh:
            old = sender.dice.choice(fresh)
            self.counts[Act.REPLAY] += 1
            self._send(old.topic, old.data, Entry(Act.REPLAY, "replayed", None))

    def _let_go(self, sender: _Sender) -> None:
        for sent, _ in sender.held:
            self._pass(sender, sent, Act.REORDER)
        sender.held = []

    def _pass(self, sender: _Sender, message: _Sent, act: Act) -> None:
        if act is Act.PASS:
            self.counts[act] += 1
        sender.recorded.append(message)
        self._send(message.topic, message.data, Entry(act, DELIVERED, message.event))

    def _send(self, topic: str, data: bytes, entry: Entry) -> None:
        self._out.append([topic.encode(), data])
        for name in cast.audience(topic):
            self.ledger[name].append(entry)

    def _drain(self) -> list[Frames]:
        out, self._out = self._out, []
        return out
