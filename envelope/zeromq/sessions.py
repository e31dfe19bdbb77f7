"""Sessions over a socket: what a ``SessionManager`` says and hears, as frames (SPEC 18.13).

Rules of this file:

- It stands where ``dialogue`` stands, for sockets whose messages go by sessions: the same
  calls, without I/O.
- A request is executed once: it is repeated by the same bytes, and by other bytes only if
  that does no harm.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Final

import zmq

from envelope import clock
from envelope.errors import (
    MalformedError,
    NoRoomError,
    PolicyError,
    RejectedError,
    ReplayedError,
    RequestRefusedError,
    TooOldError,
    UsageError,
)
from envelope.message import Message
from envelope.session import Datagram, Pace, SessionManager
from envelope.session.arrival import SessionArrival
from envelope.session.channel import Sealed
from envelope.session.link import Address, OnSealed
from envelope.session.timing import MAX_STAGED
from envelope.session.wire import is_for_peer, is_initiation
from envelope.trust import Peer
from envelope.zeromq import frames as wire
from envelope.zeromq.frames import LABELS, SYNC, Frames, Route, Topic
from envelope.zeromq.requests import Replies, Request, Requests
from envelope.zeromq.turns import Turns

Result = Sequence[Message] | RejectedError

_PACES: Final[dict[int, Pace]] = {zmq.REQ: Pace.ASKS, zmq.REP: Pace.ANSWERS}
_SUPPORTED: Final = (zmq.DEALER, zmq.ROUTER, zmq.PAIR, zmq.REQ, zmq.REP)


class SessionRequest(Request):
    """A request that goes by a session.

    Attributes:
        stream: the stream id of the session that it was sealed in; empty until it is.
        former: the id that it had in a session before, whose reply is welcome, too; or empty.
        on_sealed: what is called once it is sealed.
        dropped: how many messages had been given up when it was handed to the sessions.
    """

    __slots__ = ("dropped", "former", "on_sealed")

    def __init__(
        self, payload: bytes, *, bound: tuple[bytes, ...], route: Route, is_harmless: bool
    ) -> None:
        super().__init__(payload, bound=bound, route=route, is_harmless=is_harmless)
        self.id = self.stream = self.former = b""
        self.frames: Frames = []
        self.on_sealed: OnSealed | None = None
        self.dropped = 0


class SessionDialogue(Turns):
    """What one socket says and hears by sessions. Not thread-safe.

    Attributes:
        manager: the sessions.
        outbox: whole messages to send, at once or never.
        unsent: whole messages to send before anything else.
    """

    def __init__(self, socket_type: int, manager: SessionManager, unsent: deque[Frames]) -> None:
        if socket_type not in _SUPPORTED:
            raise UsageError(
                f"sessions need two ends that speak, and {zmq.SocketType(socket_type).name} "
                "sockets do not; they carry envelopes"
            )
        super().__init__(socket_type)
        self.manager = manager
        manager.attach(_PACES.get(socket_type, Pace.FREE))
        self._requests = Requests()
        self._replies = Replies()
        self.outbox: deque[Frames] = deque()
        self.unsent = unsent

    # Sending.

    def send(
        self, payload: bytes, topic: Topic, route: Sequence[bytes] | None, to: Peer | None
    ) -> Frames | None:
        """Return the message of one payload; None: it goes once there is a session."""
        before, name = self.route(route), wire.as_topic(topic)
        bound = () if name is None else (name,)
        data = self._send(payload, bound, self._address(before), to)
        return None if data is None else [*before, *bound, data]

    def _send(  # noqa: PLR0913 (all that SessionManager.send takes)
        self,
        payload: bytes,
        bound: tuple[bytes, ...],
        address: Address,
        to: Peer | None,
        *,
        in_reply_to: bytes | None = None,
        on_sealed: OnSealed | None = None,
    ) -> bytes | None:
        try:
            data = self.manager.send(
                payload,
                bound=bound,
                address=address,
                to=to,
                in_reply_to=in_reply_to,
                on_sealed=on_sealed,
            )
        except NoRoomError:
            if self._type != zmq.ROUTER:
                raise
            data = None
            self.manager.note_dropped()
        self.gather()
        return data

    def must_wait(self, size: int) -> bool:
        """Tell whether there is no room for what may have to wait for a session.

        Never on a ROUTER, which drops what is for a client that lets so much wait. Nor where
        nothing waits: what finds no room then never will, and goes by the session or not at all.
        """
        manager = self.manager
        return self._type != zmq.ROUTER and manager.staged > 0 and not manager.has_room(size)

    def _address(self, route: Route) -> Address:
        return route if self._type == zmq.ROUTER else ()

    def gather(self) -> None:
        """Take over what the sessions want to be sent.

        A ROUTER drops what one client does not take, as it does by itself: it must not keep
        the others waiting. Others drop what is about sessions alone where much waits: a peer
        that speaks and never listens must not fill the memory.
        """
        outbox = self.manager.outbox
        unsent = self.outbox if self._type == zmq.ROUTER else self.unsent
        while outbox:
            frames = self._frames(outbox.popleft())
            # What could not be sent, and is said anew, would only be refused.
            last = unsent[-1] if unsent else [bytes(5)]
            if is_initiation(last[-1]) and is_initiation(frames[-1]) and last[:-1] == frames[:-1]:
                unsent.pop()
            if len(self.unsent) < MAX_STAGED or is_for_peer(frames[-1]):
                unsent.append(frames)

    def _frames(self, one: Datagram) -> Frames:
        if self._type == zmq.ROUTER:
            assert isinstance(one.address, tuple)
            return [*one.address, *one.bound, one.data]
        return [b"", *one.bound, one.data] if self._type == zmq.DEALER else [*one.bound, one.data]

    def tick(self) -> None:
        """Do what time asks for."""
        self.manager.tick()
        self.gather()

    def next_due(self) -> int | None:
        """Return when ``tick`` is due, in monotonic nanoseconds; None: nothing waits."""
        tick = self.manager.next_tick()
        if tick is None:
            return None
        return clock.monotonic_ns() + (tick - self.manager.monotonic()) * 1000

    # As a requester.

    def ask(
        self,
        payload: bytes,
        topic: Topic,
        route: Sequence[bytes] | None,
        *,
        is_harmless: bool,
        label: bytes | None = None,
    ) -> Request:
        """Return a request whose reply is waited for; its frames are to be sent, if there are any.

        Raises:
            UsageError: a wrong argument, or this socket does not ask.
        """
        if not self._pattern.asks:
            raise UsageError("a REP does not ask")
        self._requests.check_room()
        request = SessionRequest(
            payload,
            bound=tuple(one for one in (wire.as_topic(topic), label) if one is not None),
            route=self.route(route),
            is_harmless=is_harmless,
        )
        self._carry(request)
        return request

    def _carry(self, request: SessionRequest) -> None:
        """Send a request, for the first time or again, now or when there is a session."""

        def on_sealed(sealed: Sealed) -> None:
            if request.is_over:
                return
            request.id, request.stream, data = sealed
            request.on_sealed = None
            request.frames = [*request.route, *request.bound, data]
            self._requests.add(request)

        request.on_sealed, request.dropped = on_sealed, self.manager.dropped
        self.manager.send(
            request.payload,
            bound=request.bound,
            address=self._address(request.route),
            on_sealed=on_sealed,
        )
        self.gather()

    def again(self, request: Request) -> Frames | None:
        """Return what to send for a request that has no reply yet; None: nothing."""
        assert isinstance(request, SessionRequest)
        if not request.frames:
            self._carry_dropped(request)
        elif not self.manager.has_stream(request.stream):
            self._outlive(request)
        return request.frames or None

    def _carry_dropped(self, request: SessionRequest) -> None:
        """Say a request anew that waited for a session in vain: nobody has executed it."""
        waits_for = request.on_sealed  # None: it was sealed.
        if waits_for is None or request.dropped == self.manager.dropped:
            return
        if not self.manager.is_staged(waits_for):
            self._carry_if_valid(request)

    def _outlive(self, request: SessionRequest) -> None:
        """Say a request anew whose session is over, so that nobody takes the same bytes any more.

        Who is still at it may answer what was said first.
        """
        request.frames = []
        if request.is_harmless:
            self._requests.pending.pop(request.former, None)
            request.former = request.id
            self._carry_if_valid(request)

    def _end(self, request: SessionRequest) -> None:
        self._requests.pending.pop(request.former, None)
        self._requests.end(request)

    def forget(self, request: Request) -> None:
        """Wait no more for a request's reply."""
        assert isinstance(request, SessionRequest)
        self._end(request)
        if not request.is_over:
            request.error = RequestRefusedError("given up")

    def _lose(self) -> None:
        """End what was asked in sessions that the peer does not have (SPEC 18.13)."""
        lost = set(self.manager.lost)
        self.manager.lost.clear()
        for request in dict.fromkeys(self._requests.pending.values()):
            assert isinstance(request, SessionRequest)
            if request.stream not in lost:
                continue
            self._end(request)
            if not request.is_harmless:
                request.error = RequestRefusedError(
                    "the peer was restarted, and cannot know whether it was executed before; if "
                    "that does no harm, ask again"
                )
                continue
            request.frames = []
            self._carry_if_valid(request)

    def _carry_if_valid(self, request: SessionRequest) -> None:
        try:
            self._carry(request)
        except NoRoomError:
            request.dropped = -1  # The next time, then.
        except UsageError as error:  # The peer is not valid any more.
            self._end(request)
            request.error = RequestRefusedError(str(error))

    # As an answerer.

    def reply(self, message: Message, payload: bytes, topic: Topic) -> Frames | None:
        """Return the reply to a message, and keep it for whoever asks again.

        None: it goes once there is a session again.

        Raises:
            UsageError: a wrong argument, or the sender is not valid any more.
        """
        if not isinstance(message, Message) or not isinstance(message.arrival, SessionArrival):
            raise UsageError("reply to a Message that this socket received")
        if not self._pattern.answers:
            raise UsageError("a REQ does not reply")
        self._check_turn(message)
        name = wire.as_topic(topic)
        frames = self._answer(message, () if name is None else (name,), payload)
        self.owed = None
        return frames

    def _answer(self, message: Message, bound: tuple[bytes, ...], payload: bytes) -> Frames | None:
        arrival = message.arrival
        assert isinstance(arrival, SessionArrival)

        def on_sealed(sealed: Sealed) -> None:
            self._replies.keep(message, [*bound, sealed.data], 0)

        data = self._send(
            payload,
            bound,
            arrival.link.address,
            message.sender,
            in_reply_to=message.id,
            on_sealed=on_sealed,
        )
        return None if data is None else [*message.route, *bound, data]

    # What arrives.

    def judge(self, frames: Frames) -> Result:
        """Take in one message."""
        manager = self.manager
        if self._type == zmq.REQ and frames == [b""]:
            return []  # What a REP says to all that it has nothing to say to.
        try:
            try:
                route, bound, data = wire.split(frames, self._pattern)
            except MalformedError as error:
                manager.refuse(error)
                raise
            address = None if self._type == zmq.REP else self._address(route)
            message = manager.receive(data, bound=tuple(bound), address=address)
        except RejectedError as error:
            error.__context__ = None
            return error.with_traceback(None)
        if manager.lost:
            self._lose()
        if message is None:
            self._speak()
            return []
        if route:
            message.came_by(route)
        self.gather()
        return [message]

    def _speak(self) -> None:
        """Send what a message about sessions led to; a REP sends something in any case."""
        if self._type == zmq.REP:
            outbox = self.manager.outbox
            self.outbox.append(self._frames(outbox.popleft()) if outbox else [b""])
        else:
            self.gather()

    def sort(self, messages: Sequence[Message]) -> bool:
        """Take in what was opened; return whether it is for the application."""
        message = messages[0]
        label = message.bound[-1] if message.bound and message.bound[-1] in LABELS else None
        named = message.in_reply_to
        if named is None and label is None:
            return True
        answer: Frames | None = [b""] if self._type == zmq.REP else None
        if named is not None:
            self._conclude(named, message, label)
        elif label == SYNC:
            with contextlib.suppress(UsageError):  # Revoked since.
                answer = self._answer(message, message.bound, b"")
        if answer is not None:
            self.outbox.append(answer)
        return False

    def _conclude(self, named: bytes, message: Message, label: bytes | None) -> None:
        """Take in what a request came to."""
        request = self._requests.pending.get(named)
        # An id is no secret, and who has a session here may not be who was asked.
        if (
            request is None
            or message.sender.key_id != self.manager.to
            or label != (SYNC if SYNC in request.bound else None)
        ):
            self.manager.refuse(PolicyError("a reply to another request, or to none"), message)
            return
        assert isinstance(request, SessionRequest)
        self._end(request)
        request.reply = message

    def refuse(self, frames: Frames, error: RejectedError) -> None:
        """Say what there is to say to whoever sent what was refused."""
        answer = None
        if isinstance(error, ReplayedError | TooOldError):
            answer = self._repeat(frames)
        if answer is not None:
            self.outbox.append(answer)
        else:
            self._speak()

    def _repeat(self, frames: Frames) -> Frames | None:
        """Return what was said to a request before (SPEC 16.3)."""
        route, _, data = wire.split(frames, self._pattern)
        request = self.manager.id_of(data) if self._replies else None
        executed = None if request is None else self._replies.find(request)
        if executed is None or executed.said is None:
            return None
        return [*route, *executed.said]
