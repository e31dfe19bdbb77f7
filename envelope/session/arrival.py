"""What a message says of the session that it came by.

Rules of this file: it exists only for what was opened. It holds no key longer than its
session does.
"""

from __future__ import annotations

from envelope import wire as envelopes
from envelope.session import wire
from envelope.session.channel import Channel, message_id
from envelope.session.link import Link
from envelope.trust import Peer


class SessionArrival:
    """The arrival of one data message; see ``envelope.message.Origin``.

    Attributes:
        link: the link of its session; what answers it goes there.
    """

    __slots__ = (
        "_channel",
        "_counter",
        "_in_reply_to",
        "bound",
        "context",
        "link",
        "route",
        "sender",
        "skipped",
    )

    def __init__(  # noqa: PLR0913, PLR0917 (on the hot path: positional, no wrapping)
        self,
        channel: Channel,
        link: Link,
        counter: int,
        in_reply_to: bytes | None,
        context: str,
        bound: tuple[bytes, ...],
        skipped: int,
    ) -> None:
        self._channel = channel
        self._counter = counter
        self._in_reply_to = in_reply_to
        self.link = link
        self.sender: Peer = link.peer
        self.context = context
        self.bound = bound
        self.skipped = skipped
        self.route: tuple[bytes, ...] = ()

    @property
    def header(self) -> envelopes.Header:
        """What stands for an envelope's header."""
        reply = self._in_reply_to
        return envelopes.Header(
            kind=wire.DATA,
            flags=0 if reply is None else wire.REPLY,
            recipients=1,
            sender=self.sender.key_id,
            stream=self._channel.their_stream,
            sequence=self._counter,
            sent_at=self._channel.began_at,
            in_reply_to=reply,
            key_block=0,
            body=wire.DATA_HEAD,
        )

    def identify(self, index: int) -> bytes:
        """Return the message id (SPEC 18.6); a session has no bundles, so the index is 0."""
        assert index == 0
        return message_id(self._channel.their_stream, self._counter)
