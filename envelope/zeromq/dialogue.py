"""What two ends that can both speak say to each other (SPEC 16.3 to 16.5).

Rules of this file:

- A reply opens for its request alone; an executed request is executed no more.
- ``judge`` changes nothing here, so a thread may run it; the other calls may not.
- What is to be sent without anybody having called for it goes into ``outbox``.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Final

import zmq

from envelope import clock, codec
from envelope.errors import (
    BeforeStartError,
    FutureError,
    MalformedError,
    PolicyError,
    RejectedError,
    ReplayedError,
    RequestDoneError,
    RequestRefusedError,
    StaleError,
    TooOldError,
    UsageError,
)
from envelope.message import Message, message_id
from envelope.opener import Opener
from envelope.sealer import Sealer
from envelope.trust import Peer
from envelope.zeromq import frames as wire
from envelope.zeromq.challenges import Challenges, Pending
from envelope.zeromq.frames import (
    ANSWER,
    CHALLENGE,
    DONE,
    LABELS,
    SYNC,
    Frames,
    Route,
    Topic,
)
from envelope.zeromq.outgoing import Outgoing
from envelope.zeromq.requests import MAX_CHALLENGES, Replies, Request, Requests
from envelope.zeromq.turns import Turns

Result = Sequence[Message] | RejectedError

_NOT_FRESH: Final = (StaleError, FutureError, BeforeStartError)
_MARKED: Final = (ReplayedError, TooOldError)


class Dialogue(Turns):
    """The requests that one socket sends and answers. Not thread-safe.

    Attributes:
        outbox: whole messages to send.
    """

    def __init__(self, socket_type: int, out: Outgoing, opener: Opener | None) -> None:
        super().__init__(socket_type)
        self._out = out
        self._opener = opener
        self._requests = Requests()
        self._replies = Replies()
        self._challenges: Challenges | None = None
        # Others mark in a shared memory, so nobody knows its age (SPEC 16.5).
        self._max_age = 0 if opener is None else clock.microseconds(opener.policy.max_age)
        if opener is not None and not opener.replay.is_remote and self._may_answer():
            self._challenges = Challenges(self._max_age)
        self.outbox: deque[Frames] = deque()

    def _may_answer(self) -> bool:
        return self._pattern.answers and self._out.can_send

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
        """Return a request whose reply is waited for from now on; its frames are to be sent.

        Raises:
            UsageError: a wrong argument, or this socket does not ask.
        """
        if not self._pattern.asks or self._opener is None or not self._out.can_send:
            raise UsageError(
                "requests need a sealer and an opener on a REQ, DEALER, ROUTER or PAIR socket"
            )
        self._requests.check_room()
        before = self.route(route)
        sealer = self._sealer(before)
        request = Request(
            payload,
            bound=tuple(one for one in (wire.as_topic(topic), label) if one is not None),
            route=before,
            is_harmless=is_harmless,
        )
        request.carry(sealer, self._opener.monotonic())
        self._requests.add(request)
        return request

    def again(self, request: Request) -> Frames | None:
        """Return what to send for a request that has no reply yet; None: it is sent once."""
        assert self._opener is not None
        now = self._opener.monotonic()
        if request.is_harmless and request.is_answer and now - request.sealed_at > self._max_age:
            # Who challenged it waits for it no more, or has begun anew and would never know
            # what it answers. A request of its own says what to do.
            self._requests.end(request)
            try:
                request.carry(self._sealer(request.route), now)
            except UsageError as error:  # No recipient is valid any more.
                request.error = RequestRefusedError(str(error))
                return None
            self._requests.add(request)
        return request.frames if request.is_to_one else None

    def forget(self, request: Request) -> None:
        """Wait no more for a request's reply."""
        self._requests.end(request)

    def _sealer(self, route: Route, to: Peer | None = None) -> Sealer:
        return self._out.by_route(route if self._type == zmq.ROUTER else (), to)

    def seal(
        self, payload: bytes, topic: Topic, route: Sequence[bytes] | None, to: Peer | None
    ) -> Frames:
        """Return the message of one payload that is neither request nor reply."""
        if to is not None and not isinstance(to, Peer):
            raise UsageError("to is a Peer, such as message.sender")
        before, name = self.route(route), wire.as_topic(topic)
        bound = () if name is None else (name,)
        return [*before, *bound, self._sealer(before, to).seal(payload, bound=bound)]

    # As an answerer.

    def reply(self, message: Message, payload: bytes, topic: Topic) -> Frames:
        """Return the reply to a message, and keep it for whoever asks again.

        Raises:
            UsageError: a wrong argument, or this socket does not reply.
        """
        if not isinstance(message, Message):
            raise UsageError("reply to a Message that this socket received")
        if not self._may_answer():
            raise UsageError("replies need a sealer on a REP, ROUTER, DEALER or PAIR socket")
        self._check_turn(message)
        name = wire.as_topic(topic)
        frames = self._answer(message, () if name is None else (name,), payload)
        assert self._opener is not None
        self._replies.keep(message, frames, self._opener.monotonic())
        self.owed = None
        return [*message.route, *frames]

    def _answer(self, message: Message, bound: tuple[bytes, ...], payload: bytes) -> Frames:
        sealer = self._out.by_requester(message.sender)
        return [*bound, sealer.seal(payload, bound=bound, in_reply_to=message.id)]

    # What arrives.

    def judge(self, frames: Frames) -> Result:
        """Open one message, and change nothing here."""
        opener = self._opener
        assert opener is not None
        messages: Sequence[Message]
        try:
            try:
                route, bound, data = wire.split(frames, self._pattern)
            except MalformedError as error:
                opener.refuse(error)
                raise
            named = wire.in_reply_to(data)
            if named is None and self._type == zmq.REP:
                messages = [opener.open(data, bound=bound)]  # It replies once to each arrival.
            elif named is None:
                messages = opener.open_bundle(data, bound=bound)
            else:
                messages = [self._open_reply(opener, data, bound, named)]
        except RejectedError as error:
            error.__context__ = None
            return error.with_traceback(None)
        if route:
            messages[0].came_by(route)
        return messages

    def _open_reply(self, opener: Opener, data: bytes, bound: Frames, named: bytes) -> Message:
        """Open what says that it is a reply."""
        request = self._requests.pending.get(named)
        challenges = self._challenges
        awaited = None if challenges is None else challenges.pending.get(named)
        if request is not None:
            # Nobody could know its id before, so what names it is younger (SPEC 7.7).
            asked, since = request.asked, request.sealed_at
        elif awaited is not None:
            asked, since = (awaited.sender,), awaited.since
        else:
            error = self._why_unexpected(bound, named)
            if error is None:
                return opener.open(data, bound=bound)  # Refused: a reply that nobody expects.
            opener.refuse(error)
            raise error
        return opener.answer(data, bound=bound, in_reply_to=named, asked=asked, since=since)

    def _why_unexpected(self, bound: Frames, named: bytes) -> RejectedError | None:
        """Return what is known of a reply that nobody waits for, if anything is."""
        if self._requests.was_answered(named):
            return ReplayedError("a second reply to a request that is over")
        if self._challenges is not None and self._challenges.was_answered(named):
            return ReplayedError("a second answer to a challenge")
        if bound and bound[-1] == CHALLENGE:
            return PolicyError("a challenge to what is no request in flight; see sync()")
        return None

    def sort(self, messages: Sequence[Message]) -> bool:
        """Take in what was opened; return whether it is for the application."""
        first = messages[0]
        label = first.bound[-1] if first.bound and first.bound[-1] in LABELS else None
        named = first.in_reply_to
        if named is not None:
            request = self._requests.pending.get(named)
            if request is not None:
                self._conclude(request, first, label)
                return False
            if self._challenges is None or not self._challenges.close(named):
                return False  # A reply to what was given up while the reply was judged.
        if label is None:
            return True
        answer: Frames | None = [b""] if self._type == zmq.REP else None
        if label == SYNC and self._may_answer():
            assert self._opener is not None
            with contextlib.suppress(UsageError):  # Revoked since, or bound to too much.
                reply = self._answer(first, first.bound, b"")
                self._replies.keep(first, reply, self._opener.monotonic())
                answer = [*first.route, *reply]
        if answer is not None:
            self.outbox.append(answer)
        return False

    def _conclude(self, request: Request, message: Message, label: bytes | None) -> None:
        """Take in what a request came to."""
        assert self._opener is not None
        if label == CHALLENGE:
            self._answer_challenge(request, message)
        elif label == DONE:
            self._requests.end(request)
            request.error = RequestDoneError(
                f"{message.sender.name!r} executed it, and keeps its reply no more"
            )
        elif label == (SYNC if SYNC in request.bound else None):
            self._requests.end(request)
            request.reply = message
        else:
            self._opener.refuse(PolicyError("no reply to what was asked (SPEC 16.4)"), message)

    def _answer_challenge(self, request: Request, message: Message) -> None:
        """Answer in a new stream, with the request again if that is safe (SPEC 16.5)."""
        opener = self._opener
        assert opener is not None
        try:
            code, age = _decode_challenge(message)
        except MalformedError as error:
            opener.refuse(error, message)
            return
        self._requests.end(request)
        now = opener.monotonic()
        # A monotonic clock stands still while a machine sleeps, a wall clock catches up.
        elapsed = max(now - request.sealed_at, opener.wall() - request.sent_at)
        was_never_executed = request.is_to_one and elapsed < age - age // 100
        request.challenges += 1
        try:
            if self._sealer(request.route).stream == request.stream:
                self._out.begin_anew()
            sealer = self._sealer(request.route)
            if request.challenges <= MAX_CHALLENGES and (request.is_harmless or was_never_executed):
                request.carry(sealer, now, in_reply_to=message.id)
                self._requests.add(request)
                self.outbox.append(request.frames)
                return
            bound = (*wire.plain_bound(request.bound), ANSWER)
            data = sealer.seal(b"", bound=bound, in_reply_to=message.id)
            self.outbox.append([*request.route, *bound, data])
        except UsageError as error:  # No recipient is valid any more.
            request.error = RequestRefusedError(str(error))
            return
        request.error = RequestRefusedError(
            f"{message.sender.name!r} refused it ({code}), and cannot know whether it was executed "
            "before; if that does no harm, ask again"
        )

    def refuse(self, frames: Frames, error: RejectedError) -> None:
        """Say what there is to say to whoever sent what was refused."""
        answer = None
        if isinstance(error, (*_MARKED, *_NOT_FRESH)):
            answer = self._repeat(frames)
        if answer is None and isinstance(error, _NOT_FRESH):
            answer = self._challenge(frames, error)
        if answer is not None:
            self.outbox.append(answer)
        elif self._type == zmq.REP:
            self.outbox.append([b""])

    def _repeat(self, frames: Frames) -> Frames | None:
        """Return what was said to a request before (SPEC 16.3, 16.5)."""
        challenges = self._challenges
        if not self._replies and (challenges is None or not challenges.pending):
            return None
        assert self._opener is not None
        route, _, data = wire.split(frames, self._pattern)
        request, now = message_id(data), self._opener.monotonic()
        executed = self._replies.find(request)
        if executed is None:
            said = None if challenges is None else challenges.find(request, now)
            return None if said is None else [*route, *said]
        # What is too old to be believed says nothing to the requester.
        if executed.said is None or now - executed.said_at > self._max_age:
            self._replies.drop(request)
            # Not by the frames that came now: whoever repeats may have changed them.
            label = (*executed.bound, DONE)
            try:
                sealer = self._out.by_requester(executed.peer)
                executed.say([*label, sealer.seal(b"", bound=label, in_reply_to=request)], now)
            except UsageError:  # Revoked since.
                return None
        assert executed.said is not None
        return [*route, *executed.said]

    def _challenge(self, frames: Frames, error: RejectedError) -> Frames | None:
        """Return a challenge to what cannot be judged, if it is sound (SPEC 16.5)."""
        opener, challenges, claimed = self._opener, self._challenges, error.claimed_sender
        if challenges is None or opener is None or claimed is None:
            return None
        now = opener.monotonic()
        # Before it is marked: what is marked and not challenged could never be executed.
        if not challenges.may_ask(claimed, now):
            return None
        route, bound, data = wire.split(frames, self._pattern)
        if wire.in_reply_to(data) is not None:
            return None
        try:
            peer, request, age = opener.challenge(data, bound=bound)
        except RejectedError:
            return None
        challenges.take(peer.key_id, now)
        if isinstance(error, FutureError) and not opener.replay.is_durable:
            age = 0  # The next life of this memory could execute it, when its time has come.
        label = (*wire.plain_bound(bound), CHALLENGE)
        payload = codec.encode_object([error.code, age])
        try:
            is_first = challenges.is_first(peer.key_id, now)
            sealer = self._out.by_requester(peer, anew=is_first)
            sealed = sealer.seal(payload, bound=label, in_reply_to=request)
        except UsageError:  # Revoked since, or bound to too much.
            return None
        said = [*label, sealed]
        challenges.add(message_id(sealed), Pending(peer.key_id, now, request, said))
        return [*route, *said]


def _decode_challenge(message: Message) -> tuple[str, int]:
    """Return the code and the age of the memory.

    Raises:
        MalformedError: the payload is no such thing.
    """
    match message.object():
        case [str(code), int(age)] if type(age) is int and age >= 0 and code.isidentifier():
            return code, age
    raise MalformedError("the payload is no challenge (SPEC 16.4)")
