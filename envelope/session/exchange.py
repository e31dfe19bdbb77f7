"""How sessions come about: initiations, responses, hints (SPEC 18.8 to 18.10).

Rules of this file:

- The order of checks is SPEC 18.8. Nothing changes before the last of them.
- What is received can cause bytes to be sent only into ``outbox``.
- It is all that one process knows: a forked child makes another.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Final, NamedTuple

from envelope import clock as clocks
from envelope import reasons
from envelope.errors import (
    BadSignatureError,
    FutureError,
    MalformedError,
    NotAddressedError,
    NotTrustedError,
    PolicyError,
    ReflectedError,
    RejectedError,
    StaleError,
    TooOldError,
    UnknownSenderError,
    UnknownSessionError,
)
from envelope.replay import MemoryReplayStore
from envelope.replay.window import MIN_SIZE
from envelope.session import handshake, hint, wire
from envelope.session.bucket import Bucket
from envelope.session.channel import Channel, frames_of
from envelope.session.end import End, Pace
from envelope.session.link import Address, Link
from envelope.session.tables import Tables
from envelope.stream import Stream
from envelope.trust import Peer

_log = logging.getLogger("envelope.session")
_CONTROL: Final = b""
_MAX_LOST: Final = 1024
_NEVER: Final = 2**63
_AHEAD: Final = clocks.SECOND
"""How far a stamp may be ahead of the clock, to be later than the one before: less than the
usual ``max_future``."""


class Datagram(NamedTuple):
    """What is to be sent.

    Attributes:
        address: the link, as the caller called it.
        bound: frames that go in clear before it.
        data: the message.
    """

    address: Address
    bound: tuple[bytes, ...]
    data: bytes


class Exchange:
    """What one end says and hears about sessions. Not thread-safe.

    Attributes:
        tables: the links and sessions.
        outbox: what is to be sent, in order.
        lost: stream ids of sessions that a peer said it does not have, the last of them.
        snapshot: of the trust store, as it was looked at last.
    """

    def __init__(self, end: End) -> None:
        """Have nothing yet."""
        self._end = end
        self._policy = end.policy
        self._random = end.random
        self._clock = end.clock
        self._watch = end.watch
        self.snapshot = end.trust.snapshot
        self.tables = Tables(end.identity.key_id, end.times, end.tally, end.random)
        self.outbox: deque[Datagram] = deque()
        self.lost: deque[bytes] = deque(maxlen=_MAX_LOST)
        self._max_age = clocks.microseconds(end.policy.max_age)
        self._max_future = clocks.microseconds(end.policy.max_future)
        self._stamp = 0
        self._looked_at = 0
        self._ends_at = _NEVER
        """When the validity of the first peer ends that was asked for."""
        self._stream = Stream(
            end.identity._stream_hedge,  # noqa: SLF001 (one package, one secret)
            now=end.clock(),
            ns=clocks.wall_ns(),
            random=end.random,
        )
        # No cold start: what an earlier life heard opens nothing in this one (SPEC 18.8).
        self._heard = MemoryReplayStore(
            first_life=True, max_future=end.policy.max_future, clock=end.clock
        )
        self._statics = handshake.Statics(end.identity)
        self._granted: dict[bytes, Bucket] = {}
        self._hints = Bucket()

    # What this end says.

    def ask(self, link: Link, now: int) -> None:
        """Send an initiation, in place of the one before; the caller schedules the link."""
        if link.initiation is not None:
            del self.tables.asked[link.initiation.session_id]
        self._stamp = self._next_stamp()
        offer = wire.Offer(self.tables.new_id(), self._stream.id, self._stream.take(), self._stamp)
        initiation = handshake.begin(
            self._end.identity,
            link.peer.public,
            self._end.ctx,
            offer,
            ephemeral=self._random(32),
            now=now,
            statics=self._statics,
        )
        link.ask(initiation, self._random(1)[0])
        self.tables.asked[offer.session_id] = link
        self.outbox.append(Datagram(link.address, (), initiation.data))

    def _next_stamp(self) -> int:
        """Return a time later than the last, unless the clock was set far back since.

        Else an hour of a wrong clock would be an hour without a session.
        """
        now = self._clock()
        return now if self._stamp >= now + _AHEAD else max(self._stamp + 1, now)

    def send_staged(self, link: Link, now: int) -> None:
        """Send what waited for the session that there is now, or say that it is used."""
        channel = link.current
        assert channel is not None
        if not link.staged:
            self.send_control(link)
        while link.staged and now < channel.ends_at:
            staged = self.tables.unstage(link)
            data = channel.seal(staged.payload, frames_of(staged.bound), staged.flags)
            link.owed_since = 0
            link.unanswered_since = link.unanswered_since or now
            self.outbox.append(Datagram(link.address, staged.bound, data))
            if staged.on_sealed is not None:
                staged.on_sealed(channel.sealed(data))

    def send_control(self, link: Link) -> None:
        """Send a control message: this end is alive and has the keys."""
        channel = link.current
        assert channel is not None
        link.owed_since = 0
        data = channel.seal(_CONTROL, b"", wire.CONTROL)
        self.outbox.append(Datagram(link.address, (), data))

    def send_hint(self, data: bytes, address: Address, now: int) -> None:
        """Say that a data message is of no session here, if that was not said too often."""
        if self._hints.take(now):
            message = hint.make(self._end.identity, self._end.ctx, data)
            self.outbox.append(Datagram(address, (), message))

    # What it hears.

    def handle(self, data: bytes, bound: tuple[bytes, ...], address: Address, now: int) -> None:
        """Take in a message about sessions."""
        kind = wire.kind_of(data)
        if bound:
            raise MalformedError("bound frames beside a message about sessions")
        if kind == wire.INITIATION:
            self._take_initiation(data, address, now)
        elif kind == wire.RESPONSE:
            self._take_response(data, now)
        else:
            self._take_hint(data, now)

    def _take_initiation(self, data: bytes, address: Address, now: int) -> None:
        initiator, responder = wire.parties(data)
        try:
            peer = self.peer(initiator)
            if responder != self._end.identity.key_id:
                raise NotAddressedError
            request = handshake.Request(
                self._end.identity,
                peer.public,
                self._end.ctx,
                data,
                self._random(32),
                self._statics,
            )
        except RejectedError as error:
            _note(error, initiator)
            raise
        offer = request.offer
        if address is None:
            address = offer.stream
        link = self.tables.links.get((initiator, address))
        try:
            self._judge(peer, request, link, now)
        except RejectedError as error:
            error.claimed_sender, error.verified = initiator, True
            raise
        # Only now: whatever was refused could be offered again.
        if link is None:
            link = self.tables.add_link(peer, address, now)
        self.tables.forget_asking(link)
        session_id = self.tables.new_id()
        response, keys = request.grant(wire.Grant(session_id, self._clock(), self._stream.id))
        channel = Channel(
            keys,
            our_id=session_id,
            their_id=offer.session_id,
            is_initiator=False,
            born=now,
            times=self._end.times,
            began_at=offer.sent_at,
            window=self._policy.window,
        )
        self.tables.drop(link.grant(channel, offer.stream, offer.sequence), link)
        self.tables.add(channel, link)
        self.outbox.append(Datagram(address, (), response))
        self.tables.schedule(link, now)

    def _judge(self, peer: Peer, request: handshake.Request, link: Link | None, now: int) -> None:
        """Decide on an initiation that the peer wrote; the last check marks it (SPEC 18.8)."""
        offer = request.offer
        wall = self._watch.now()
        if offer.sent_at > wall + self._max_future:
            raise FutureError(reasons.future(self._policy, offer.sent_at - wall))
        if offer.sent_at < wall - self._max_age:
            is_back = self._watch.is_back
            raise StaleError(reasons.stale(self._policy, wall - offer.sent_at, is_back=is_back))
        guard = self._heard.guard("sessions", peer.key_id, self._end.context)
        place = offer.stream, offer.sequence, offer.sent_at
        limit = self._policy.max_streams
        guard.check(*place, full_at=limit, expected=False)
        if link is not None and link.is_granted(offer.stream, offer.sequence):
            raise TooOldError("behind an initiation that was granted")
        if link is not None and link.wins(request.ephemeral, now):
            raise PolicyError("crossed by an initiation of this end, which comes first")
        if not self._granted.setdefault(peer.key_id, Bucket()).take(now):
            raise PolicyError("more handshakes of this peer than are granted at once")
        guard.mark(*place, full_at=limit, window=MIN_SIZE, expected=False)

    def _take_response(self, data: bytes, now: int) -> None:
        link = self.tables.asked.get(wire.answered(data))
        if link is None:
            raise UnknownSessionError("a response to no initiation of this end that is out")
        initiation = link.initiation
        assert initiation is not None
        if now - initiation.made_at >= self._end.times.reject:
            raise UnknownSessionError("a response that came when its session is over")
        try:
            self.peer(link.key_id)
            grant, keys = initiation.finish(data)
        except RejectedError as error:
            _note(error, link.key_id)
            raise
        self.tables.forget_asking(link)
        channel = Channel(
            keys,
            our_id=initiation.session_id,
            their_id=grant.session_id,
            is_initiator=True,
            born=initiation.made_at,
            times=self._end.times,
            began_at=grant.sent_at,
            window=self._policy.window,
        )
        self.tables.drop(link.open(channel), link)
        self.tables.add(channel, link)
        link.heard_at = now
        self.send_staged(link, now)
        self.tables.schedule(link, now)

    def _take_hint(self, data: bytes, now: int) -> None:
        claimed, counter, session_id = wire.hint_of(data)
        try:
            peer = self.peer(claimed)
            link = self.tables.addressed_by(claimed, session_id, counter)
            if not hint.is_genuine(data, peer.public, self._end.ctx):
                raise BadSignatureError
        except RejectedError as error:
            _note(error, claimed)
            raise
        assert link.current is not None
        # Also where this end has come to doubt it by silence: what was asked in it is over.
        if link.current.our_stream not in self.lost:
            self.lost.append(link.current.our_stream)
        if not link.is_lost:  # Who recorded a hint can repeat it for ever.
            link.is_lost = True
            _log.info("%r has lost its session; this end asks for another", peer.name)
        self._doubt(link, now)
        self.tables.schedule(link, now)

    def _doubt(self, link: Link, now: int) -> None:
        """Ask for another session, if that was not done just now."""
        if link.may_doubt(now) and self._end.pace is not Pace.ANSWERS:
            self.ask(link, now)

    def confirm(self, link: Link, now: int) -> None:
        """The peer was heard on what was granted to it."""
        self.tables.forget_asking(link)
        self.tables.drop(link.confirm(), link)
        if link.staged:
            self.send_staged(link, now)
        self.tables.schedule(link, now)

    def found(self, link: Link, now: int) -> None:
        """The peer was heard on the session that it seemed to have lost."""
        link.is_lost = False
        if link.staged:
            self.send_staged(link, now)

    # What time does.

    def turn(self, link: Link, now: int) -> None:
        """Do what is due on one link."""
        times = self._end.times
        self.tables.drop(link.retire(now), link)
        asking_since = link.asking_since
        if asking_since and now - asking_since >= times.give_up:
            self.tables.give_up(link, f"no answer in {times.give_up / clocks.SECOND:g} s")
        elif link.initiation is not None:
            if now >= link.repeat_at:
                self.ask(link, now)
        elif link.staged and link.may_ask(now):
            self.ask(link, now)
        # Whatever was due is due no more afterwards, or ``tick`` would not come to an end.
        speaks = link.current is not None and self._end.pace is Pace.FREE
        if link.unanswered_since and now - link.unanswered_since >= times.silence:
            link.unanswered_since = 0
            if speaks:
                self._doubt(link, now)
            elif link.current is not None and self._end.pace is Pace.ASKS:
                link.is_lost = True  # So it asks before it sends the next.
        if link.owed_since and now - link.owed_since >= times.keepalive:
            link.owed_since = 0
            if speaks:
                self.send_control(link)
                # It may have been the last that its counters permit.
                self.tables.drop(link.retire(now), link)

    # Whom it believes.

    def look(self) -> None:
        """End the links of peers that may not speak any more.

        Costs nothing while the peers are the same and no date of theirs has come.
        """
        wall = self._watch.now()
        snapshot = self._end.trust.current(wall)
        is_same = snapshot is self.snapshot and self._looked_at <= wall < self._ends_at
        self._looked_at = wall
        if is_same:
            return
        if snapshot is not self.snapshot:
            self._statics.forget()
        self.snapshot = snapshot
        self._ends_at = _NEVER
        for key_id in list(self.tables.by_peer):
            try:
                peer = self.peer(key_id)
            except RejectedError as error:
                for link in list(self.tables.by_peer[key_id].values()):
                    self.tables.end(link, str(error))
                continue
            for link in self.tables.by_peer[key_id].values():
                link.peer = peer

    def peer(self, key_id: bytes) -> Peer:
        """Return a peer that may have a session here and now."""
        peer = self.snapshot.peers.get(key_id)
        if peer is None:
            raise UnknownSenderError
        if key_id == self._end.identity.key_id:
            raise ReflectedError
        wall = self._watch.now()
        if not (peer.is_valid(wall) and peer.allows_context(self._end.context)):
            raise NotTrustedError(reasons.not_trusted(peer, self._end.context, wall))
        self._ends_at = min(self._ends_at, peer.ends)
        return peer

    def name_of(self, key_id: bytes) -> str | None:
        """Return the name that a key id stands for, if any."""
        peer = self.snapshot.peers.get(key_id)
        return None if peer is None else peer.name


def _note(error: RejectedError, claimed: bytes) -> None:
    """Note whom a refused message claims to come from, of which nothing was verified."""
    error.claimed_sender, error.verified = claimed, False
