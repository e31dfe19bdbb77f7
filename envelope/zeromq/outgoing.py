"""Which sealer a message goes out by: streams by topic and by requester (SPEC 16.7).

Rules of this file: a gap figure is true only if a stream is seen whole by whoever
counts; so what goes to different receivers goes by different streams. All tables are
bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from envelope.errors import UsageError
from envelope.sealer import Sealer
from envelope.trust import Peer
from envelope.zeromq.frames import Pattern, Route

_MAX_TOPIC_STREAMS: Final = 32
"""Streams of a publisher, one for each of the first topics. Half of what a receiver
remembers of one sender by default, so that a restart evicts only the dead."""

_MAX_PEERS: Final = 1024
"""Requesters, or routes, that have a stream of their own at once, the latest used. Each
receiver of them sees one of these streams, so its memory does not bound their number."""


class Outgoing:
    """The sealers of one socket. Not thread-safe."""

    def __init__(self, pattern: Pattern, sealer: Sealer | None) -> None:
        self._sealer = sealer
        self._by_topic: dict[bytes, Sealer] | None = {} if pattern.by_topic else None
        self._by_peer: OrderedDict[str | Route, Sealer] = OrderedDict()

    @property
    def sealer(self) -> Sealer:
        """The sealer of what goes to no one in particular.

        Raises:
            UsageError: there is none.
        """
        if self._sealer is None:
            raise UsageError("this socket has no sealer, so it does not send")
        return self._sealer

    @property
    def can_send(self) -> bool:
        """Whether there is a sealer."""
        return self._sealer is not None

    def by_topic(self, topic: bytes | None) -> Sealer:
        """Return the sealer of a topic."""
        sealer = self.sealer
        topics = self._by_topic
        if topics is None or topic is None:
            return sealer
        found = topics.get(topic)
        if found is None:
            # Beyond the limit topics share a stream: a gap too many is better than
            # new streams all the time, in which no loss would ever show.
            if len(topics) >= _MAX_TOPIC_STREAMS:
                return sealer
            found = topics[topic] = sealer.sibling()
        return found

    def by_route(self, route: Route, to: Peer | None = None) -> Sealer:
        """Return the sealer of what a ROUTER sends by a route, or that of all others.

        Args:
            route: as it is written before a message.
            to: whom alone it is addressed to, if anybody; else to all.
        """
        if to is not None:
            # No route: those end with an empty frame, and a name is not empty.
            return self._find((*route, to.name.encode()), to)
        return self._find(route) if route else self.sealer

    def by_requester(self, peer: Peer, *, anew: bool = False) -> Sealer:
        """Return the sealer of what answers a peer: addressed to it alone, if at all."""
        if anew:
            self._by_peer.pop(peer.name, None)
        return self._find(peer.name, peer)

    def _find(self, key: str | Route, peer: Peer | None = None) -> Sealer:
        found = self._by_peer.get(key)
        if found is None:
            is_to_one = peer is not None and self.sealer.addressed
            found = self.sealer.sibling(to=[peer] if peer is not None and is_to_one else None)
            self._by_peer[key] = found
            if len(self._by_peer) > _MAX_PEERS:
                self._by_peer.popitem(last=False)
        else:
            self._by_peer.move_to_end(key)
        return found

    def begin_anew(self) -> None:
        """Begin new streams for all that follows and is no answer (SPEC 16.5).

        Answers stay in the streams that a challenge of this end began: there the other end
        knows this end's clock.
        """
        self._sealer = self.sealer.sibling()
        for key in [key for key in self._by_peer if not isinstance(key, str)]:
            del self._by_peer[key]
