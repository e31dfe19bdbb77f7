"""Who takes part in a run: names, keys and sizes, handed to every process.

Rules of this file: all of it can be pickled. The keys are for tests, and nothing that is
secret is sent under them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import zmq

from envelope import Identity, Opener, Peer, Policy, Sealer, TrustStore
from envelope.replay import MemoryReplayStore
from stream.events import Event
from stream.ways import Carrier, Way

CONTEXT: Final = "zeek.events"
WINDOW: Final = 16_384
"""Events that a publisher has on their way at most: then it waits for the slowest."""
SILENCE_MS: Final = 5000
"""Who hears nothing for so long takes the rest for lost."""
_PUBLISHER = Identity(bytes(32))


@dataclass(frozen=True, slots=True)
class Phase:
    """What is sent next."""

    count: int
    step: int = 0
    """Nanoseconds from one event to the next; 0: as fast as it goes."""


class Receipt(NamedTuple):
    """What one subscriber got in a phase."""

    missing: int
    repeated: int
    latencies: bytes
    """Nanoseconds from when an event was due until it was there; an array of int64."""


@dataclass(frozen=True)
class Plan:
    """One run."""

    way: Way
    subscribers: int
    folder: Path
    """For sockets, certificates and logs; gone after the run."""
    events: list[Event] = field(repr=False)
    window: int = WINDOW
    curve: tuple[bytes, bytes] = field(default_factory=zmq.curve_keypair, repr=False)
    """The proxy's keys: public, secret."""

    def make_socket(self, context: zmq.Context[Any], kind: int) -> zmq.Socket[Any]:
        """Return a socket whose queues hold more than can be on its way, and lose nothing."""
        socket: zmq.Socket[Any] = context.socket(kind)
        # ZeroMQ learns late, by half a queue, that there is room again.
        socket.sndhwm = socket.rcvhwm = 4 * self.window
        socket.rcvtimeo = socket.sndtimeo = SILENCE_MS
        socket.linger = 0
        return socket

    def serve(self, socket: zmq.Socket[Any]) -> str:
        """Bind a socket of the proxy; return where."""
        if self.way.carrier is Carrier.CURVE:
            socket.curve_publickey, socket.curve_secretkey = self.curve
            socket.curve_server = True
        return f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"

    def join(self, socket: zmq.Socket[Any], place: str) -> None:
        """Connect a publisher or a subscriber."""
        if self.way.carrier is Carrier.CURVE:
            socket.curve_serverkey = self.curve[0]
            socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
        socket.connect(place)

    def make_sealer(self) -> Sealer:
        """Return the publisher's sealer: to every subscriber, if it seals."""
        readers = [reader(number).public for number in range(self.subscribers)]
        return Sealer(_PUBLISHER, context=CONTEXT, to=readers if self.way.is_sealed else ())

    def make_opener(self, number: int) -> Opener:
        """Return the opener of a subscriber."""
        return Opener(
            TrustStore([Peer("publisher", _PUBLISHER.public, contexts=[CONTEXT])]),
            context=CONTEXT,
            identity=reader(number),
            replay=MemoryReplayStore(first_life=True),
            policy=Policy(require="sealed" if self.way.is_sealed else "signed"),
        )


def reader(number: int) -> Identity:
    """Return the identity of a subscriber."""
    return Identity(bytes([number + 1]) * 32)
