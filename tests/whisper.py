"""Two ends that speak by sessions without sockets: frames go from hand to hand.

Rules of this file: as in ``talk``; a test decides what is lost, repeated, late or sent
elsewhere, and moves the clock.
"""

from __future__ import annotations

import zmq
from support import World

from envelope.errors import RejectedError
from envelope.message import Message
from envelope.session import SessionManager
from envelope.zeromq.frames import Frames
from envelope.zeromq.seam import Seam


class End:
    """A socket with sessions, without the socket.

    Attributes:
        refused: what it refused, in order.
        said: all that it ever said.
    """

    def __init__(self, kind: int, manager: SessionManager) -> None:
        self.refused: list[RejectedError] = []
        self.said: list[Frames] = []
        self.seam = Seam(
            kind,
            sealer=None,
            opener=None,
            on_rejected=self.refused.append,
            bundling=None,
            session=manager,
        )
        assert self.seam.sessions is not None
        self.dialogue = self.seam.sessions
        self.manager = manager

    @property
    def codes(self) -> list[str]:
        return [error.code for error in self.refused]

    def send(self, payload: bytes, topic=None, *, route=None, to=None) -> list[Frames]:
        """Send a message, and return all that goes out."""
        frames = self.dialogue.send(payload, topic, route, to)
        return self.says() + ([] if frames is None else self._note([frames]))

    def ask(self, payload: bytes = b"", *, topic=None, idempotent=False, label=None):
        """Return a request and all that goes out for it."""
        request = self.dialogue.ask(payload, topic, None, is_harmless=idempotent, label=label)
        return request, self.says() + self._note([request.frames] if request.frames else [])

    def reply(self, payload: bytes = b"done", topic=None) -> list[Frames]:
        """Return all that goes out for the reply to the next message."""
        frames = self.dialogue.reply(self.take(), payload, topic)
        return self.says() + ([] if frames is None else self._note([frames]))

    def hear(self, *arrivals: Frames) -> list[Frames]:
        """Take in what arrived, and return what there is to say to it at once."""
        for frames in arrivals:
            self.seam.pending = [frames]
            self.seam.open(strict=False)
        return self.says()

    def tick(self) -> list[Frames]:
        """Let time do what it does, and return what goes out."""
        self.seam.seal_collected()
        return self.says()

    def says(self) -> list[Frames]:
        """Return what it has to say by itself."""
        said = [*self.seam.unsent, *self.dialogue.outbox]
        self.seam.unsent.clear()
        self.dialogue.outbox.clear()
        return self._note(said)

    def _note(self, frames: list[Frames]) -> list[Frames]:
        self.said += frames
        return frames

    def take(self) -> Message:
        """Return the next message for the application."""
        return self.seam.take()

    def payloads(self) -> list[bytes]:
        """Return the payloads of all messages for the application."""
        found = []
        while self.seam.ready:
            found.append(self.take().payload)
        return found


def manager(world: World, who, *, to=None, **options) -> SessionManager:
    """Return the sessions of one end, by the world's clock."""
    options.setdefault("clock", world.clock)
    options.setdefault("monotonic", world.clock)
    options.setdefault("trust", world.trust)
    return SessionManager(who, context=world.context, to=to, **options)


def asking(world: World, kind: int = zmq.PAIR, **options) -> End:
    """Return Alice's end, who speaks to Bob."""
    return End(kind, manager(world, world.alice, to=world.bob.public, **options))


def answering(world: World, kind: int = zmq.PAIR, **options) -> End:
    """Return Bob's end, in a life of its own."""
    return End(kind, manager(world, world.bob, **options))


def exchange(one: End, other: End, frames: list[Frames]) -> None:
    """Bring what ``one`` said to the other, and so on, until both are silent."""
    speaker, listener = one, other
    for _ in range(20):
        if not frames:
            return
        frames = listener.hear(*frames)
        speaker, listener = listener, speaker
    raise AssertionError("they never come to an end")
