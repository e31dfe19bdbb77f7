"""A publisher: the events of a log, sealed and sent by topic.

Rules of this file: it knows nothing of the proxy but where it listens. It keeps a
digest of each payload under the event's name, to be compared at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypedDict

import zmq

from envelope import Identity, PublicIdentity, Sealer, clock
from envelope.demo import cast
from envelope.demo.channel import EVERY, FINISH, GO, Channel
from envelope.demo.events import Event, Lines, Parser, load
from envelope.zeromq import SecureSocket

_PROBE_EVERY: Final = 20_000
_LINGER_MS: Final = 5_000
_PRIVATE: Final = {3: "desk", 7: "archive"}
"""Of ten events, which are for one subscriber alone."""


class Setting(TypedDict):
    """What the parent tells a publisher."""

    name: str
    secret: str
    subscribers: dict[str, str]
    """Public texts by name."""
    endpoint: str
    log: str
    follow: bool
    first: int
    """The first event of the log that is this publisher's..."""
    step: int
    """...and how far it is to its next one."""
    count: int | None
    """How many to publish; None for all that come."""
    rate: int
    """Events in a second, at most."""


class Outlets:
    """The sockets of one publisher: one for each audience, around one PUB socket.

    Attributes:
        published: the digests of the payloads sent, by topic, in order.
    """

    def __init__(self, socket: zmq.Socket[bytes], setting: Setting) -> None:
        """Make a sealer for each audience."""
        identity = Identity.parse(setting["secret"])
        public = {name: PublicIdentity.parse(t) for name, t in setting["subscribers"].items()}
        self._sockets = {
            prefix: SecureSocket(
                socket,
                sealer=Sealer(identity, context=cast.CONTEXT, to=[public[name] for name in names]),
            )
            for prefix, names in cast.AUDIENCES.items()
        }
        self._name = setting["name"]
        self.published: dict[str, list[str]] = {}

    def send(self, topic: str, payload: bytes) -> None:
        """Seal and send one payload."""
        self._sockets[topic.partition("/")[0]].send(payload, topic)
        self.published.setdefault(topic, []).append(cast.digest(payload))

    def close(self) -> int:
        """Say how much there was, and close each topic with one more message.

        So subscribers notice what is missing at the end, and not only in the middle.

        Returns:
            How many messages that took.
        """
        counts = {topic: len(digests) for topic, digests in self.published.items()}
        self.send(f"{cast.END}/{self._name}", json.dumps(counts).encode())
        for topic in counts:
            self.send(topic, b'{"closing":true}')
        return len(counts) + 1


def main(channel: Channel, setting: Setting) -> None:
    """Publish until the log, or the time for it, is over."""
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.LINGER, _LINGER_MS)
        socket.connect(setting["endpoint"])
        # A PUB socket drops what nobody subscribed to yet: call until somebody hears.
        while channel.command(_PROBE_EVERY) != GO:
            socket.send_multipart([cast.PROBE, setting["name"].encode()])
        outlets = Outlets(socket, setting)
        sent = 0
        next_report = 0
        parser = Parser(Path(setting["log"]))
        source = _follow if setting["follow"] else _repeat
        for event in source(channel, setting, parser):
            outlets.send(f"{_PRIVATE.get(sent % 10, cast.ALL)}/{event.kind}", event.payload)
            sent += 1
            if clock.monotonic() >= next_report:
                next_report = clock.monotonic() + EVERY
                channel.tell({"sent": sent, "skipped": parser.skipped})
        markers = outlets.close()
    channel.tell(
        {
            "sent": sent,
            "markers": markers,
            "published": outlets.published,
            "skipped": parser.skipped,
            "first_skipped": parser.first_skipped,
        }
    )


def _repeat(channel: Channel, setting: Setting, parser: Parser) -> Iterator[Event]:
    """Yield this publisher's events at its rate, the log again and again."""
    events = load(Path(setting["log"]), parser)
    count = setting["count"]
    assert count is not None
    begin = clock.monotonic()
    for number in range(count):
        due = begin + number * clock.SECOND // setting["rate"]
        channel.command(max(0, due - clock.monotonic()))
        yield events[(setting["first"] + number * setting["step"]) % len(events)]


def _follow(channel: Channel, setting: Setting, parser: Parser) -> Iterator[Event]:
    """Yield this publisher's events as the log grows, until told to finish."""
    first, step, left = setting["first"], setting["step"], setting["count"]
    number = 0
    ending = False
    with Lines(Path(setting["log"])) as lines:
        while left is None or left > 0:
            found = lines.take()
            if found is None:
                if ending:
                    return
                ending = channel.command(EVERY) == FINISH
                continue
            ending = ending or channel.command() == FINISH
            for line in found:
                event = parser.parse(line)
                if event is None:
                    continue
                if number % step == first and (left is None or left > 0):
                    left = None if left is None else left - 1
                    yield event
                number += 1
