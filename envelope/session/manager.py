"""SessionManager: sessions of one identity with many peers, without I/O (SPEC 18).

Rules of this file:

- Bytes in; bytes, messages and the time of the next look out. It opens no socket, starts no
  thread, and reads no clock but those handed in.
- What the application sends and receives is here; how sessions come about is ``exchange``.
- Keys never leave the process that made them: a forked child begins with nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn

from envelope import clock as clocks
from envelope.arguments import (
    as_bytes,
    check_bound,
    check_bound_count,
    check_message_id,
)
from envelope.clock import Clock
from envelope.errors import (
    MalformedError,
    NoRoomError,
    NotTrustedError,
    RejectedError,
    TooLargeError,
    UnknownSessionError,
    UsageError,
)
from envelope.forks import process
from envelope.identity import Identity, PublicIdentity
from envelope.message import Message
from envelope.policy import MAX_BOUND_FRAMES, Policy
from envelope.primitives import random_bytes
from envelope.session import wire
from envelope.session.arrival import SessionArrival
from envelope.session.channel import frames_of, message_id
from envelope.session.end import End, Pace
from envelope.session.exchange import Datagram, Exchange
from envelope.session.link import Address, Link, OnSealed, Staged
from envelope.session.timing import REJECT_AFTER, REKEY_AFTER, Timing
from envelope.session.wire import CONTROL, DATA_START, OVERHEAD, read_data
from envelope.stats import Stats
from envelope.trust import Peer, TrustStore
from envelope.wire import ID_SIZE

_LOOK: Final = clocks.SECOND // 10
"""How often validity dates are compared with the wall clock at least."""


class SessionManager:
    """The sessions of one identity in one context (SPEC 18). For one thread at a time.

    Hand in what arrives by ``receive``, call ``tick`` when ``next_tick`` has come, send what is
    in ``outbox`` first and then what ``send`` returned. ``SecureSocket(session=...)`` does
    all that. One manager serves one socket.

    Attributes:
        identity: this end's.
        context: where the sessions belong.
        trust: whom to believe.
        to: the peer that is asked where a caller names none; or None.
        outbox: ``Datagram`` to send, in order.
        lost: stream ids of sessions that their peer said it does not have, the last of them.
    """

    def __init__(  # noqa: PLR0913 (who, whom to believe, where, whom to; the rest has defaults)
        self,
        identity: Identity,
        trust: TrustStore,
        *,
        context: str,
        to: Peer | PublicIdentity | None = None,
        policy: Policy | None = None,
        timing: Timing | None = None,
        clock: Clock = clocks.wall,
        monotonic: Clock = clocks.monotonic,
        random: Callable[[int], bytes] = random_bytes,
    ) -> None:
        """Begin without any session.

        Args:
            identity: this end's.
            trust: who may have a session, in which contexts and on which topics.
            context: as the other end names this flow.
            to: whom ``send`` asks for a session; None: those that ask are answered.
            policy: max_age and max_future of an initiation, max_size, window. Session
                messages are sealed and addressed always.
            timing: when a session does what.
            clock: wall clock in Unix microseconds.
            monotonic: microseconds that never step back, and count sleep.
            random: returns n random bytes.

        Raises:
            UsageError: an argument that cannot be used.
        """
        self._end = End.of(
            identity,
            trust,
            context=context,
            policy=policy,
            timing=timing,
            clock=clock,
            monotonic=monotonic,
            random=random,
        )
        self.identity = identity
        self.context = context
        self.trust = trust
        self.to: bytes | None = None if to is None else _key_id(to)
        self.policy = self._end.policy
        self._max_size = self.policy.max_size
        self._monotonic = monotonic
        self._watch = self._end.watch
        self._is_attached = False
        self._asks = self._answers = False
        self._begin()

    def attach(self, pace: Pace) -> None:
        """Take the sessions for one socket, whose links nobody else's may be.

        Args:
            pace: who may speak when on that socket.

        Raises:
            UsageError: they are another socket's.
        """
        if self._is_attached:
            raise UsageError("a SessionManager serves one socket; make another")
        self._is_attached = True
        self._end = self._end.at(pace)
        self._asks, self._answers = pace is Pace.ASKS, pace is Pace.ANSWERS
        self._begin()

    def _begin_again(self) -> None:
        """Forget what the parent has, in a forked child."""
        self._tables.forget()
        self._end = self._end.anew()
        self._begin()

    def _begin(self) -> None:
        """Have nothing, in this process."""
        life, self._mark = process.life(), process.mark
        self._look_at = 0
        self._exchange = Exchange(self._end)
        self._snapshot = self._exchange.snapshot
        self._tally = self._end.tally
        self._tables = self._exchange.tables
        self._links, self._channels = self._tables.links, self._tables.channels
        self.outbox: deque[Datagram] = self._exchange.outbox
        self.lost: deque[bytes] = self._exchange.lost
        # Last: whoever is interrupted has to begin again, not to go on with what is the parent's.
        self._life = life

    # Sending.

    def send(  # noqa: C901, PLR0912, PLR0913 (the hot path: a message's place, in one function)
        self,
        payload: bytes,
        *,
        bound: tuple[bytes, ...] = (),
        address: Address = (),
        to: Peer | PublicIdentity | None = None,
        in_reply_to: bytes | None = None,
        on_sealed: OnSealed | None = None,
    ) -> bytes | None:
        """Seal a payload, or keep it until there is a session.

        Args:
            payload: any bytes.
            bound: frames that go in clear beside it, authenticated.
            address: the link.
            to: the peer at its other end; by default that of the manager.
            in_reply_to: the id of the message that this answers.
            on_sealed: called once it is sealed, which may be much later, or never.

        Returns:
            The message to send now; None: it comes into ``outbox``, once the peer answers.

        Raises:
            UsageError: a wrong argument, or the peer is not valid.
            NoRoomError: as much is staged as may be.
        """
        # Two processes with one key and one counter would use a nonce twice. This is
        # ``process.life()`` and ``_now`` in line: where each message passes a call shows.
        if not self._mark[0] or process.told != self._life:
            self._begin_again()
        now = self._monotonic()
        if now >= self._look_at or self.trust.snapshot is not self._snapshot:
            self._look(now)
        try:
            link = self._links.get((self.to if to is None else _key_id(to), address))  # type: ignore[arg-type]  # None finds none
        except TypeError:
            raise _unhashable() from None
        if type(payload) is not bytes:
            raise UsageError(f"payload is bytes, not {type(payload).__name__}; encode it first")
        frames, flags = b"", 0
        size = len(payload) + OVERHEAD + ID_SIZE
        if bound != ():
            bound = check_bound(bound)
            check_bound_count(bound)
            frames = frames_of(bound)
            size += len(frames)
        if size > self._max_size:
            raise UsageError(f"larger than max_size, {self._max_size} bytes")
        if in_reply_to is not None:
            payload, flags = check_message_id(in_reply_to) + payload, wire.REPLY
        if link is None:
            link = self._link_to(to, address, len(payload), now)
        channel = link.current
        is_late = False
        if (
            channel is None
            or now >= channel.rekey_at
            or channel.sent >= REKEY_AFTER
            or link.staged
            or link.is_lost
        ):
            is_over = channel is None or now >= channel.ends_at
            if is_over or link.staged or link.is_lost or self._asks:
                self._stage(link, Staged(payload, bound, flags, on_sealed), now)
                return None
            is_late = True
        assert channel is not None
        data = channel.seal(payload, frames, flags)
        link.owed_since = 0
        if not link.unanswered_since:
            link.unanswered_since = now
        if on_sealed is not None:
            on_sealed(channel.sealed(data))
        if is_late and link.may_ask(now) and not self._answers:
            self._exchange.ask(link, now)
            self._tables.schedule(link, now)
        return data

    def has_room(self, size: int = 0, *, to: Peer | PublicIdentity | None = None) -> bool:
        """Tell whether one more message of this size may wait for a session.

        Of several peers none may let so much wait that nothing is left for the others.
        """
        key_id = self.to if to is None else _key_id(to)
        return self._tables.has_room(b"" if key_id is None else key_id, size)

    def note_dropped(self) -> None:
        """Count a message that another layer dropped, since it could not even wait."""
        self._tables.dropped += 1

    @property
    def staged(self) -> int:
        """How many messages wait for a session."""
        return self._tables.staged

    @property
    def dropped(self) -> int:
        """How many waited and were given up."""
        return self._tables.dropped

    def is_open(self, *, address: Address = (), to: Peer | PublicIdentity | None = None) -> bool:
        """Tell whether there is a session to send by now, and none is being asked for."""
        link = self._links.get((self.to if to is None else _key_id(to), address))  # type: ignore[arg-type]  # None finds none
        if link is None or process.life() != self._life:
            return False
        return link.initiation is None and link.may_send(self._monotonic())

    def is_staged(self, on_sealed: OnSealed) -> bool:
        """Tell whether the message that this was given with waits for a session still."""
        links = self._links.values()
        return any(one.on_sealed is on_sealed for link in links for one in link.staged)

    def has_stream(self, stream: bytes) -> bool:
        """Tell whether a session stands that sends by this stream."""
        now = self._monotonic()
        return any(
            channel.our_stream == stream and now < channel.ends_at
            for channel, _ in self._channels.values()
        )

    def _link_to(
        self, to: Peer | PublicIdentity | None, address: Address, size: int, now: int
    ) -> Link:
        key_id = self.to if to is None else _key_id(to)
        if key_id is None:
            raise UsageError("whom to? Give the manager, or the call, to=peer")
        try:
            peer = self._exchange.peer(key_id)
        except RejectedError as error:
            raise UsageError(f"no session with this peer: {error}") from None
        # A new link may cost an old one its place; what will be refused must not.
        self._check_staging(key_id, size)
        return self._tables.add_link(peer, address, now)

    def _check_staging(self, key_id: bytes, size: int) -> None:
        if self._answers:
            raise UsageError("the session is over, and this end only answers")
        if not self._tables.has_room(key_id, size):
            raise NoRoomError("as many messages wait for a session as may")

    def _stage(self, link: Link, staged: Staged, now: int) -> None:
        self._check_staging(link.key_id, len(staged.payload))
        self._tables.stage(link, staged)
        if link.may_ask(now):
            self._exchange.ask(link, now)
        self._tables.schedule(link, now)

    # Receiving.

    def receive(
        self, data: bytes, *, bound: tuple[bytes, ...] = (), address: Address = ()
    ) -> Message | None:
        """Take in a message that arrived.

        Args:
            data: the message.
            bound: the frames that travelled beside it.
            address: the link by which it came; None: where no link can be told, an initiation
                makes one by its stream.

        Returns:
            A message for the application: authentic, unchanged, for the first time. None: it
            was about sessions; look into ``outbox``.

        Raises:
            RejectedError: refused, with its ``code``. Nothing was changed, but a hint may be
                in ``outbox``.
            UsageError: the caller's mistake.
        """
        if not self._mark[0] or process.told != self._life:  # As in ``send``.
            self._begin_again()
        now = self._monotonic()
        if now >= self._look_at or self.trust.snapshot is not self._snapshot:
            self._look(now)
        if type(data) is not bytes:
            data = as_bytes(data, "a message")
        size = len(data)
        if address.__class__ is not tuple or address:
            _check_address(address)
        try:
            if bound != ():
                bound = check_bound(bound)
                size += sum(map(len, bound))
                if len(bound) > MAX_BOUND_FRAMES:
                    raise TooLargeError(f"more than {MAX_BOUND_FRAMES} bound frames")
            if size > self._max_size:
                raise TooLargeError(f"{size} bytes, larger than {self._max_size} bytes")
            if data[:5] == DATA_START:
                return self._take(data, bound, address, now)
            self._exchange.handle(data, bound, address, now)
        except RejectedError as error:
            self._tally.refuse(error, self._exchange.name_of)
            raise
        return None

    def _take(  # noqa: C901, PLR0912 (the hot path: SPEC 18.8, in one function)
        self, data: bytes, bound: tuple[bytes, ...], address: Address, now: int
    ) -> Message | None:
        """Take in a data message."""
        if len(data) < OVERHEAD:
            raise MalformedError("shorter than the shortest message of a session")
        flags, high, low, session_id = read_data(data)
        if flags:
            wire.check_flags(flags, len(data))
            if bound and flags == CONTROL:
                raise MalformedError("a control message with bound frames")
        counter = high << 32 | low
        found = self._channels.get(session_id)
        if found is None:
            raise self._unknown(data, session_id, address, now)
        channel, link = found
        if now >= channel.ends_at or counter >= REJECT_AFTER:
            raise self._unknown(data, session_id, address, now)
        peer = link.peer
        try:
            frames = b""
            if flags != CONTROL and (bound or peer.topics):
                if not peer.allows_topic(bound):
                    raise NotTrustedError(f"{peer.name!r} may not send on this topic")
                frames = frames_of(bound)
            payload, skipped = channel.open(data, counter, frames)
        except RejectedError as error:
            error.claimed_sender, error.verified = peer.key_id, False
            raise
        if channel is link.next:
            self._exchange.confirm(link, now)
        if address != link.address and address is not None and link.is_newest(channel, counter):
            self._tables.move(link, address)
        link.heard_at = now
        link.unanswered_since = 0
        if link.is_lost and channel is link.current:
            self._exchange.found(link, now)
        in_reply_to = None
        if flags:
            if flags == CONTROL:
                return None
            in_reply_to, payload = payload[:ID_SIZE], payload[ID_SIZE:]
        link.owed_since = link.owed_since or now
        tally = link.tally
        tally.accepted += 1
        tally.messages += 1
        return Message(
            payload,
            0,
            SessionArrival(channel, link, counter, in_reply_to, self.context, bound, skipped),
        )

    def _unknown(
        self, data: bytes, session_id: bytes, address: Address, now: int
    ) -> UnknownSessionError:
        """Tell the sender of a data message that it is of no session here, and will never be."""
        if session_id not in self._tables.asked:
            self._exchange.send_hint(data, address, now)
        return UnknownSessionError()

    # Times.

    def next_tick(self) -> int | None:
        """Return when ``tick`` is due, monotonic microseconds; None: nothing waits."""
        return self._tables.next_wake()

    def tick(self) -> None:
        """Do what is due: repeat, confirm, doubt, retire, give up."""
        if process.life() != self._life:
            self._begin_again()
        now = self._now()
        for link in self._tables.due(now):
            self._exchange.turn(link, now)
            self._tables.schedule(link, now)

    def _now(self) -> int:
        """Return the monotonic clock, after a look at what may have changed since."""
        now = self._monotonic()
        if now >= self._look_at or self.trust.snapshot is not self._snapshot:
            self._look(now)
        return now

    def _look(self, now: int) -> None:
        """Look at whom to believe still."""
        self._look_at = now + _LOOK
        self._exchange.look()
        self._snapshot = self._exchange.snapshot

    def monotonic(self) -> int:
        """Return the reading of the clock that ``next_tick`` is by, microseconds."""
        return self._monotonic()

    def id_of(self, data: bytes) -> bytes | None:
        """Return the message id of a data message of a session that is here, or None.

        Nothing is verified: it finds what was said to a message that comes again.
        """
        if len(data) < OVERHEAD or data[:5] != DATA_START:
            return None
        _, high, low, session_id = read_data(data)
        found = self._channels.get(session_id)
        return None if found is None else message_id(found[0].their_stream, high << 32 | low)

    def refuse(self, error: RejectedError, message: Message | None = None) -> None:
        """Count and log a refusal of another layer: of a message's payload, or of no message."""
        if message is not None:
            error.claimed_sender, error.verified = message.sender.key_id, True
        self._tally.refuse(error, self._exchange.name_of)

    # The rest.

    @property
    def links(self) -> list[Link]:
        """The links that there are, for whoever shows them."""
        return list(self._links.values())

    @property
    def stats(self) -> Stats:
        """One reading of the counters: messages by sender, refusals by code."""
        return self._tally.read(self._watch.steps)

    def reset_clock(self) -> None:
        """Accept that the wall clock was set back; see ``Opener.reset_clock``."""
        self._watch.reset()

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError("sessions belong to one process")

    def __repr__(self) -> str:
        """Return where it speaks and with how many."""
        return f"<SessionManager in {self.context!r}, {len(self._channels)} sessions>"


def _check_address(address: Address) -> None:
    """Check that an address can name a link, before anything is changed for it."""
    try:
        hash(address)
    except TypeError:
        raise _unhashable() from None


def _unhashable() -> UsageError:
    return UsageError("an address can be a key of a dictionary")


def _key_id(to: Peer | PublicIdentity) -> bytes:
    if not isinstance(to, Peer | PublicIdentity):
        raise UsageError("to is a Peer or a PublicIdentity, such as trust['bob']")
    return to.key_id
