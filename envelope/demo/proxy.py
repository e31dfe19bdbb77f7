"""The hostile proxy: XSUB towards the publishers, XPUB towards the subscribers.

Rules of this file: sockets only; what is done to messages is ``liar``'s. It tells
the parent what it has heard, so that nobody begins before everybody is connected.
"""

from __future__ import annotations

from typing import Any, Final, TypedDict

import zmq

from envelope import PublicIdentity, clock
from envelope.demo import cast
from envelope.demo.attacks import Forger
from envelope.demo.channel import EVERY, FINISH, GO, Channel
from envelope.demo.liar import Liar

_LOCALHOST: Final = "tcp://127.0.0.1:*"
_LINGER_MS: Final = 5_000
_AGAIN: Final = 100
"""Messages replayed to the subscriber that began anew."""
_BATCH: Final = 200
"""Messages between two looks at the clock and at the parent."""


class Setting(TypedDict):
    """What the parent tells the proxy: what anybody could find out."""

    publishers: dict[str, str]
    """Public texts by name."""
    subscribers: dict[str, str]
    seed: int
    patient: bool
    """Whether a log is followed that may pause at any time."""
    hold_after: int | None
    """After how many messages to wait until a subscriber has begun anew."""


class Proxy:
    """Two sockets and the liar between them."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], setting: Setting) -> None:
        """Bind both sockets."""
        self.back = context.socket(zmq.XSUB)
        self.front = context.socket(zmq.XPUB)
        for socket in (self.back, self.front):
            # Nothing may be lost here but what the liar drops.
            socket.set(zmq.SNDHWM, 0)
            socket.set(zmq.RCVHWM, 0)
            socket.set(zmq.LINGER, _LINGER_MS)
        # Say every subscription, also those that somebody made before.
        self.front.set(zmq.XPUB_VERBOSE, 1)
        for socket in (self.back, self.front):
            socket.bind(_LOCALHOST)
        # It wants to hear everything, whoever subscribed to what.
        self.back.send(b"\x01")
        senders = {
            PublicIdentity.parse(text).key_id: name for name, text in setting["publishers"].items()
        }
        public = {n: PublicIdentity.parse(text) for n, text in setting["subscribers"].items()}
        self.liar = Liar(senders, Forger(public), seed=setting["seed"])
        self._hold_after = setting["hold_after"]
        self._taken = 0
        self.held: dict[str, int] | None = None
        """While it waits: how many messages each subscriber was sent."""
        self.heard: set[str] = set()
        self.subscriptions = 0

    def subscribe(self) -> None:
        """Count the subscriptions that have arrived, and are in force by that."""
        while self.front.poll(0):
            self.subscriptions += self.front.recv().startswith(b"\x01")

    def forward(self) -> bool:
        """Carry messages; tell whether there were any."""
        for count in range(_BATCH):
            if self.held is not None or not self.back.poll(0):
                return count > 0
            frames = self.back.recv_multipart()
            if frames[0] == cast.PROBE:
                self.heard.add(frames[-1].decode(errors="replace"))
                continue
            self.send(self.liar.take(frames))
            self._taken += 1
            if self._taken == self._hold_after:
                self.held = {name: len(entries) for name, entries in self.liar.ledger.items()}
        return True

    def go_on(self) -> None:
        """Replay to the subscriber that began anew what it had before; then go on."""
        self.held = None
        self.send(self.liar.replay_all(cast.RESTARTED, _AGAIN))

    def send(self, messages: list[list[bytes]]) -> None:
        """Send to whoever subscribed."""
        for frames in messages:
            self.front.send_multipart(frames)

    def report(self) -> dict[str, Any]:
        """Return the figures as they are now."""
        return {
            "heard": sorted(self.heard),
            "subscriptions": self.subscriptions,
            "counts": self.liar.counts,
            "held": self.held,
        }


def main(channel: Channel, setting: Setting) -> None:
    """Carry and lie until the parent says that it is over."""
    with zmq.Context() as context:
        proxy = Proxy(context, setting)
        with proxy.back, proxy.front:
            channel.tell(
                {
                    "back": proxy.back.get_string(zmq.LAST_ENDPOINT),
                    "front": proxy.front.get_string(zmq.LAST_ENDPOINT),
                }
            )
            poller = zmq.Poller()
            for source in (proxy.back, proxy.front, channel):
                poller.register(source, zmq.POLLIN)
            next_report = 0
            while (command := channel.command()) != FINISH:
                if command == GO:
                    proxy.go_on()
                poller.poll(EVERY // 1000)
                proxy.subscribe()
                if not proxy.forward() and setting["patient"]:
                    # The log pauses: what is held back would get too old.
                    proxy.send(proxy.liar.release())
                if clock.monotonic() >= next_report:
                    next_report = clock.monotonic() + EVERY
                    channel.tell(proxy.report())
    channel.tell(proxy.report() | proxy.liar.report())
