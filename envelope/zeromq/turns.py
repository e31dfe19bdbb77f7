"""What dialogues by envelopes and by sessions share: routes, and whose turn it is.

Rules of this file: it knows socket types and messages, not how either is protected.
"""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from envelope.errors import UsageError
from envelope.message import Message
from envelope.zeromq import frames as wire
from envelope.zeromq.frames import Frames, Pattern, Route


class Turns:
    """What one socket may say next, and what stands before it. Not thread-safe.

    Attributes:
        owed: of a REP: the message that waits for its reply.
    """

    def __init__(self, socket_type: int) -> None:
        self._type = socket_type
        self._pattern: Pattern = wire.PATTERNS[socket_type]
        self.owed: Message | None = None

    def route(self, route: Sequence[bytes] | None) -> Route:
        """Return what stands before a message that is no reply.

        Raises:
            UsageError: as ``frames.as_route``.
        """
        before = wire.as_route(route, is_needed=self._type == zmq.ROUTER)
        return (b"",) if self._type == zmq.DEALER else before

    def hand_over(self, message: Message) -> None:
        """Note that a message is the application's now."""
        if self._type == zmq.REP:
            self.owed = message

    def give_up(self) -> Frames | None:
        """Return what a REP sends for a message that nobody replied to, or None."""
        if self.owed is None:
            return None
        self.owed = None
        return [b""]

    def _check_turn(self, message: Message) -> None:
        """Check that a message may be replied to now.

        Raises:
            UsageError: a REP owes its reply to another message, or to none.
        """
        if self._type == zmq.REP and message is not self.owed:
            raise UsageError("a REP replies once, to the message that it received last")
