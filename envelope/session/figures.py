"""What was received of one peer by sessions, counted as streams are (SPEC 8.9, 18.5).

Rules of this file: it only counts. A session begins with its first message, so nothing of
it is unseen: what did not come is missing or lost.
"""

from __future__ import annotations

from collections.abc import Callable

from envelope.replay import Gaps
from envelope.session.channel import Channel


class Figures:
    """The gaps of one peer, of the sessions that are there and of those that were."""

    __slots__ = ("_channels", "_closed")

    def __init__(self, channels: Callable[[], list[Channel]]) -> None:
        """Take what returns the sessions that are there."""
        self._channels = channels
        self._closed = Gaps(0, 0, 0, 0, 0, 0, 0)

    def close(self, channel: Channel) -> None:
        """Count a session for the last time."""
        self._closed = _add(self._closed, channel, is_closed=True)

    def gaps(self) -> Gaps:
        """Return the figures as they are now."""
        total = self._closed
        channels = self._channels()
        for channel in channels:
            total = _add(total, channel, is_closed=False)
        return total._replace(streams=len(channels))


def _add(total: Gaps, channel: Channel, *, is_closed: bool) -> Gaps:
    gone = channel.window.top + 1 - channel.accepted
    holes = 0 if is_closed else channel.window.holes(0)
    return total._replace(
        accepted=total.accepted + channel.accepted,
        skipped=total.skipped + channel.skipped,
        late=total.late + channel.late,
        missing=total.missing + holes,
        lost=total.lost + gone - holes,
    )
