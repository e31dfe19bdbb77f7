"""By sessions too, whatever arrives, a request is executed once and its reply is its own.

SPEC 18.13. The steps are those of ``dialogue``; what goes by envelopes there goes by sessions
here.
"""

from __future__ import annotations

import zmq
from support import seeded
from whisper import End, manager

from envelope import Identity
from envelope.errors import UsageError
from envelope.message import Message
from fuzz.envelopes import REQUEST
from fuzz.harnesses import dialogue
from fuzz.harnesses.dialogue import LABELS_IN_ORDER, Story
from fuzz.mutations import join, split

COVERS = ("envelope.zeromq.sessions",)
SHARE = 4

_OPENED = (b"\0\0", b"\1\0", b"\2\0", b"\1\0")
"""Alice asks, and there is a session, by which her request goes."""
SEEDS = (
    *dialogue.SEEDS,
    *(
        bytes([kind]) + join([*_OPENED, *steps])
        for kind in range(3)
        for steps in (
            (b"\3\0", b"\2\0"),
            (b"\3\0", b"\1\1", b"\2\0", b"\2\0"),
            (b"\4\0", b"\1\0", b"\2\0", b"\1\0", b"\2\0", b"\1\0", b"\3\0", b"\2\0"),
            (b"\0\2", b"\4\0", b"\1\0", b"\2\0", b"\1\0", b"\2\0", b"\1\0", b"\3\0"),
            (b"\5\xff", b"\5\xff", b"\0\0", b"\1\0", b"\2\0"),
            (b"\x0a\0re", b"\x0a\x40re", b"\x08\0", b"\x09\0\x18\1"),
        )
    ),
)
mutate = dialogue.mutate


class _SessionStory(Story):
    """The same, by sessions."""

    def end(self, kind: int, here: Identity, there: Identity, *, first_life: bool) -> End:
        """Return one end in a new life; Bob has to be asked."""
        to = there.public if first_life and here is self.world.alice else None
        random = seeded(self.life * 2 + (here is self.world.alice))
        return End(kind, manager(self.world, here, to=to, random=random))

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and do what it does."""
        super().pass_by(seconds)
        self.keep(self.alice.tick() + self.bob.tick())

    def ask(self, place: int) -> None:
        """Let Alice ask."""
        payload = b"%d" % len(self.requests)
        try:
            request, said = self.alice.ask(
                payload, topic=b"eu" if place & 1 else None, idempotent=bool(place & 2)
            )
        except UsageError:  # As much is staged as may be.
            return
        self.requests.append((payload, request))
        self.keep(said)

    def reply(self, message: Message) -> None:
        """Let Bob reply."""
        try:
            frames = self.bob.dialogue.reply(message, b"re: " + message.payload, None)
        except UsageError:  # A REP replies once, to the last, and never by itself.
            return
        self.keep(self.bob.says() + ([] if frames is None else [frames]))

    def lie(self, place: int, rest: bytes) -> None:
        """Let Bob reply to what he was not asked, or otherwise than he should."""
        if not self.requests:
            return
        self.is_lied_to = True
        _, request = self.requests[-1 - place % len(self.requests)]
        label = (LABELS_IN_ORDER[place >> 6],) if place & 32 else ()
        try:
            data = self.bob.manager.send(
                rest,
                bound=label,
                address=(b"alice", b"") if self.answers == zmq.ROUTER else (),
                to=self.world.alice.public,
                in_reply_to=request.id or REQUEST,
            )
        except UsageError:
            return
        self.bob.dialogue.gather()
        self.keep(self.bob.says())
        if data is not None:
            self.bring_to_alice([*label, data])


def check(data: bytes) -> None:
    """Go step by step; look after each."""
    story = _SessionStory(data[0] if data else 0)
    for step in split(data[1:], dialogue.LIMIT):
        what, place = step[:2].ljust(2, b"\0")
        story.step(what, place, step[2:])
        story.check()
