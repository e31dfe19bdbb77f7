"""Which links and sessions there are, by peer, address and session id (SPEC 18.2, 18.12).

Rules of this file: it finds, adds and drops. Whatever leaves a slot leaves the tables and
loses its keys in the same call. Everything in it is bounded.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from envelope import reasons
from envelope.errors import UnknownSessionError
from envelope.session import wire
from envelope.session.channel import Channel
from envelope.session.figures import Figures
from envelope.session.link import Address, Link, Staged
from envelope.session.timing import MAX_LINKS, MAX_STAGED, MAX_STAGED_BYTES, Times
from envelope.stats import Tally
from envelope.trust import Peer

_log = logging.getLogger("envelope.session")

_SPARE: Final = 64
"""Looks that were put forward and may lie about, beside one for each link."""


class Tables:
    """The links of one manager. Not thread-safe.

    Attributes:
        links: by (key id, address).
        by_peer: by key id, then by address.
        channels: sessions with their links, by the id by which they are addressed here.
        asked: links whose initiation is out, by the session id that it offers.
        staged: messages that wait for sessions, of all links.
        dropped: those that were given up.
    """

    __slots__ = (
        "_count",
        "_figures",
        "_own",
        "_random",
        "_staged_of",
        "_staged_size",
        "_tally",
        "_times",
        "_wakes",
        "asked",
        "by_peer",
        "channels",
        "dropped",
        "links",
        "staged",
    )

    def __init__(
        self, own: bytes, times: Times, tally: Tally, random: Callable[[int], bytes]
    ) -> None:
        """Have no links yet, at the end with this key id."""
        self._own = own
        self._times = times
        self._tally = tally
        self._random = random
        self.links: dict[tuple[bytes, Address], Link] = {}
        self.by_peer: dict[bytes, dict[Address, Link]] = {}
        self.channels: dict[bytes, tuple[Channel, Link]] = {}
        self.asked: dict[bytes, Link] = {}
        self._figures: dict[bytes, Figures] = {}
        self._wakes: list[tuple[int, int, Link]] = []
        self._count = itertools.count()
        self.staged = self._staged_size = self.dropped = 0
        self._staged_of: dict[bytes, tuple[int, int]] = {}
        """Messages and bytes that wait, by key id; of a peer for whom nothing waits, nothing."""

    def forget(self) -> None:
        """Drop every secret: in a forked child, whose parent goes on with them."""
        for channel, _ in self.channels.values():
            channel.forget()
        for link in self.links.values():
            link.initiation = None

    def new_id(self) -> bytes:
        """Return a session id that nothing here has."""
        while True:
            session_id = self._random(wire.SESSION_ID_SIZE)
            if session_id not in self.channels and session_id not in self.asked:
                return session_id

    def add_link(self, peer: Peer, address: Address, now: int) -> Link:
        """Return a new link; the one of this peer that was heard longest ago may go for it."""
        links = self.by_peer.setdefault(peer.key_id, {})
        if len(links) >= MAX_LINKS:
            oldest = min(links.values(), key=lambda one: one.heard_at)
            self.end(oldest, "another link of this peer took its place")
        link = Link(address, peer, self._times, now, is_second=self._own > peer.key_id)
        links[address] = self.links[peer.key_id, address] = link
        return link

    def end(self, link: Link, why: str) -> None:
        """End all that a link has, and forget it."""
        self.give_up(link, why)
        self.drop(link.revoke(), link)
        self.remove_link(link)

    def remove_link(self, link: Link) -> None:
        """Forget a link, which has no session any more."""
        key_id = link.key_id
        if self.links.get((key_id, link.address)) is link:
            del self.links[key_id, link.address]
            del self.by_peer[key_id][link.address]
            if not self.by_peer[key_id]:
                del self.by_peer[key_id]

    def move(self, link: Link, address: Address) -> None:
        """Note that a peer is reached by another way now, unless another link is there."""
        key_id = link.key_id
        if (key_id, address) in self.links:
            return
        self.remove_link(link)
        link.address = address
        self.links[key_id, address] = link
        self.by_peer.setdefault(key_id, {})[address] = link

    def addressed_by(self, key_id: bytes, session_id: bytes, counter: int) -> Link:
        """Return the link whose current session a hint is about."""
        for link in self.by_peer.get(key_id, {}).values():
            channel = link.current
            if channel is not None and channel.their_id == session_id:
                if counter < channel.sent:
                    return link
                break
        raise UnknownSessionError("a hint about nothing that this end sent")

    def add(self, channel: Channel, link: Link) -> None:
        """Note a session that has its slot, and begin to count its peer."""
        self.channels[channel.our_id] = channel, link
        peer = link.peer
        figures = self._figures.get(peer.key_id)
        if figures is None:
            figures = self._figures[peer.key_id] = Figures(self._channels_of(peer.key_id))
        link.tally = self._tally.sender(peer.key_id, peer.name, figures)

    def _channels_of(self, key_id: bytes) -> Callable[[], list[Channel]]:
        return lambda: [
            channel for link in self.by_peer.get(key_id, {}).values() for channel in link.channels()
        ]

    def drop(self, channels: list[Channel], link: Link) -> None:
        """End sessions: their keys are forgotten, their figures kept."""
        for channel in channels:
            del self.channels[channel.our_id]
            self._figures[link.key_id].close(channel)
            channel.forget()

    def forget_asking(self, link: Link) -> None:
        """Forget the session id that an initiation offered, before the link forgets it."""
        if link.initiation is not None:
            del self.asked[link.initiation.session_id]

    # What is staged.

    def has_room(self, key_id: bytes, size: int) -> bool:
        """Tell whether one more message of this size may be staged for a peer.

        Where there are several peers, as much stays free as this one has: none of them, who
        perhaps never answers, leaves nothing to the others.
        """
        free, free_bytes = MAX_STAGED - self.staged, MAX_STAGED_BYTES - self._staged_size
        if len(self.by_peer) > 1:
            count, taken = self._staged_of.get(key_id, (0, 0))
            free, free_bytes = free - count, free_bytes - taken
        return free > 0 and size <= free_bytes

    def stage(self, link: Link, staged: Staged) -> None:
        """Keep a message until there is a session, if ``has_room``."""
        if not isinstance(link.staged, deque):
            link.staged = deque()
        link.staged.append(staged)
        self._count_staged(link.key_id, 1, len(staged.payload))

    def unstage(self, link: Link) -> Staged:
        """Return the first message that is kept, and keep it no more."""
        assert isinstance(link.staged, deque)
        staged = link.staged.popleft()
        if not link.staged:
            link.staged = ()
        self._count_staged(link.key_id, -1, -len(staged.payload))
        return staged

    def _count_staged(self, key_id: bytes, count: int, size: int) -> None:
        self.staged += count
        self._staged_size += size
        before, taken = self._staged_of.pop(key_id, (0, 0))
        if before + count:
            self._staged_of[key_id] = before + count, taken + size

    def give_up(self, link: Link, why: str) -> None:
        """Stop asking, and drop what is staged; say so."""
        self.forget_asking(link)
        link.give_up()
        lost = len(link.staged)
        while link.staged:
            self.unstage(link)
        self.dropped += lost
        _log.warning(
            "no session with %r: %s; %d messages that waited for it are lost",
            link.peer.name,
            reasons.one_line(why),
            lost,
        )

    # When to look at what.

    def schedule(self, link: Link, now: int) -> None:
        """See to it that a link is looked at in time, or forget it.

        A look that was put forward stays where it was, for a heap finds nothing. There are
        never more of those than links, and a few.
        """
        due = link.deadline(now)
        if due is None:
            link.wake_at = 0
            self.remove_link(link)
        elif not link.wake_at or due < link.wake_at:
            link.wake_at = due
            heapq.heappush(self._wakes, (due, next(self._count), link))
            if len(self._wakes) > _SPARE + 2 * len(self.links):
                self._wakes = [wake for wake in self._wakes if wake[2].wake_at == wake[0]]
                heapq.heapify(self._wakes)

    def due(self, now: int) -> list[Link]:
        """Return the links that are to be looked at, each once."""
        found = []
        self._drop_wakes()
        while self._wakes and self._wakes[0][0] <= now:
            _, _, link = heapq.heappop(self._wakes)
            link.wake_at = 0
            found.append(link)
            self._drop_wakes()
        return found

    def next_wake(self) -> int | None:
        """Return when the next link is due, monotonic microseconds."""
        self._drop_wakes()
        return self._wakes[0][0] if self._wakes else None

    def _drop_wakes(self) -> None:
        """Forget looks that were put forward."""
        while self._wakes and self._wakes[0][2].wake_at != self._wakes[0][0]:
            heapq.heappop(self._wakes)
