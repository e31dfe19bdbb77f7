"""Two ends that talk without sockets: frames go from hand to hand.

Rules of this file: an end is what a socket has inside, and nothing is in between, so that
a test decides what is lost, repeated, late or sent elsewhere. What one end says by itself
is returned by what made it say so. PAIR by default, where no route stands before frames.
"""

from __future__ import annotations

import zmq
from support import World

from envelope.errors import RejectedError
from envelope.message import Message
from envelope.zeromq.frames import Frames
from envelope.zeromq.requests import Request
from envelope.zeromq.seam import Seam


class End:
    """A socket without the socket.

    Attributes:
        refused: what it refused, in order.
    """

    def __init__(self, kind: int, *, sealer, opener) -> None:
        self.refused: list[RejectedError] = []
        self.seam = Seam(
            kind, sealer=sealer, opener=opener, on_rejected=self.refused.append, bundling=None
        )
        assert self.seam.dialogue is not None
        self.dialogue = self.seam.dialogue

    @property
    def codes(self) -> list[str]:
        return [error.code for error in self.refused]

    def ask(self, payload: bytes = b"", *, topic=None, route=None, idempotent=False, label=None):
        """Return a request; its frames are to be brought to the other end."""
        return self.dialogue.ask(payload, topic, route, is_harmless=idempotent, label=label)

    def hear(self, frames: Frames) -> list[Frames]:
        """Take in what arrived, and return what there is to say to it at once."""
        self.seam.pending = [frames]
        self.seam.open(strict=False)
        return self.says()

    def says(self) -> list[Frames]:
        """Return what it has to say by itself."""
        said = list(self.dialogue.outbox)
        self.dialogue.outbox.clear()
        return said

    def take(self) -> Message:
        """Return the next message for the application."""
        return self.seam.take()

    @property
    def has_message(self) -> bool:
        return bool(self.seam.ready)

    def reply(self, payload: bytes = b"done", topic=None) -> Frames:
        """Return the reply to the next message."""
        return self.dialogue.reply(self.take(), payload, topic)


def requester(world: World, *, kind: int = zmq.PAIR, to=None, clock=None, **options) -> End:
    """Return Alice's end, who asks Bob; by another clock if there is one."""
    hers = world if clock is None else World(clock)
    to = [hers.bob.public] if to is None else to
    return End(
        kind,
        sealer=hers.sealer(to=to, sealed=options.pop("sealed", None)),
        opener=hers.opener(hers.alice, trust=world.trust, **options),
    )


def answerer(world: World, *, kind: int = zmq.PAIR, to=None, sealed=None, **options) -> End:
    """Return Bob's end."""
    to = [world.alice.public] if to is None else to
    return End(
        kind,
        sealer=world.sealer(world.bob, to=to, sealed=sealed),
        opener=world.opener(**options),
    )


def exchange(asking: End, answering: End, request: Request) -> None:
    """Bring to either end what the other says, until both are silent; nothing is lost."""
    there, back = [request.frames], []
    while there or back:
        for frames in there:
            back += answering.hear(frames)
            while answering.has_message:
                back.append(answering.reply())
        there = []
        for frames in back:
            there += asking.hear(frames)
        back = []
