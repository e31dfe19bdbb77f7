"""Between messages and frames: what both kinds of socket share, without I/O.

Rules of this file:

- What a socket receives goes into ``pending``. ``open`` turns it into messages in
  ``ready``, what the ``dialogue`` keeps, or refusals.
- What a refusal does to a receive loop is decided here, once.
- What was sealed by itself - bundles - waits in ``unsent`` until the socket takes it.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import zmq

from envelope import clock
from envelope.errors import (
    MalformedError,
    PolicyError,
    RejectedError,
    StoreUnavailableError,
    UsageError,
)
from envelope.message import Bundle, Message
from envelope.opener import Opener
from envelope.sealer import Sealer
from envelope.session import SessionManager
from envelope.stats import Stats
from envelope.trust import Peer
from envelope.zeromq import frames as wire
from envelope.zeromq.bundling import Batch, Bundling, Collector, chunks
from envelope.zeromq.dialogue import Dialogue, Result
from envelope.zeromq.frames import LABELS, PATTERNS, Frames, Pattern, Topic
from envelope.zeromq.outgoing import Outgoing
from envelope.zeromq.sessions import SessionDialogue

AnyDialogue = Dialogue | SessionDialogue
OnRejected = Callable[[RejectedError], None]

MAX_REFUSED: Final = 1000
"""Refused messages that one non-blocking receive passes over: a flood must not
turn a call that promised to return at once into one that does not."""

_MAX_BATCH: Final = 64
"""Arrivals that are opened in one go where the replay store waits for a network. What
was taken from the socket's queue is lost with the process, as the queue itself is."""


class Patience:
    """How long and through how many refusals one receive goes on. Not thread-safe."""

    __slots__ = ("_end", "_refused")

    def __init__(self, timeout: int, begun: int | None = None) -> None:
        """Begin now, or when a clock read ``begun``.

        Args:
            timeout: milliseconds, negative for no end.
            begun: monotonic microseconds.
        """
        begun = clock.monotonic() if begun is None else begun
        self._end = None if timeout < 0 else begun + timeout * 1000
        self._refused = 0

    def left(self) -> int | None:
        """Return the milliseconds left, rounded up, or None for no end.

        Raises:
            zmq.Again: none is left.
        """
        if self._end is None:
            return None
        left = -((clock.monotonic() - self._end) // 1000)
        if left <= 0:
            raise zmq.Again
        return left

    def refuse(self) -> None:
        """Count a refusal.

        Raises:
            zmq.Again: time is up, and so many were passed over that the call must end.
        """
        self._refused += 1
        if (
            self._refused >= MAX_REFUSED
            and self._end is not None
            and clock.monotonic() >= self._end
        ):
            raise zmq.Again


class Seam:
    """Seals what a socket sends and opens what it receives. Not thread-safe.

    Attributes:
        type: the socket's.
        dialogue: requests and replies, on sockets that both send and receive; or None.
        ready: the messages of each envelope that was opened and not handed out yet.
        pending: what arrived and is to be opened, also for the second time, since the
            replay store could not answer.
        collector: what waits for company, or None where nothing does.
        unsent: bundles, or what sessions say, that are to be sent before anything else.
        sessions: what goes by sessions, instead of envelopes; or None.
        only_sealer: what seals all that has no topic, on a socket that only sends, and at
            once; or None.
        is_simple: whether it only receives, and opens each message by itself.
    """

    def __init__(  # noqa: PLR0913 (a socket's ends)
        self,
        socket_type: int,
        *,
        sealer: Sealer | None,
        opener: Opener | None,
        on_rejected: OnRejected | None,
        bundling: Bundling | None,
        session: SessionManager | None = None,
    ) -> None:
        """See ``SecureSocket``."""
        self.type = socket_type
        self.unsent: deque[Frames] = deque()
        self.sessions: SessionDialogue | None = None
        if session is None:
            pattern = _check(socket_type, sealer, opener, bundling)
        else:
            pattern = _check_session(socket_type, session, sealer, opener, bundling)
            self.sessions = SessionDialogue(socket_type, session, self.unsent)
        _check_callback(on_rejected)
        # Whoever answers in sealed envelopes must not be talked to in the open.
        if opener is not None and sealer is not None and sealer.sealed:
            opener = opener.stricter(require="sealed", addressed=True)
        self._out = Outgoing(pattern, sealer)
        self._opener = opener
        judging = opener if session is None else session
        self._refuse = None if judging is None else judging.refuse
        self._on_rejected = on_rejected
        self._chunking = Bundling() if bundling is None else bundling
        self.collector = None if bundling is None else Collector(bundling)
        self.dialogue: AnyDialogue | None = self.sessions
        if self.sessions is None and pattern.sends and pattern.receives:
            self.dialogue = Dialogue(socket_type, self._out, opener)
        only_sends = self.dialogue is None and bundling is None
        self.only_sealer = sealer if only_sends else None
        self._is_remote = opener is not None and opener.replay.is_remote
        self.is_simple = (
            opener is not None and self.dialogue is None and not opener.replay.is_remote
        )
        self.ready: deque[Sequence[Message]] = deque()
        self.pending: list[Frames] = []

    # Sending.

    def seal(
        self,
        payload: bytes,
        topic: Topic,
        route: Sequence[bytes] | None,
        to: Peer | None = None,
    ) -> Frames:
        """Return the message of one payload."""
        assert not isinstance(self.dialogue, SessionDialogue)
        if self.dialogue is not None:
            return self.dialogue.seal(payload, topic, route, to)
        if route is not None:
            wire.as_route(route, is_needed=False)
        name = wire.as_topic(topic)
        if name is None:
            return [self._out.by_topic(None).seal(payload)]
        return [name, self._out.by_topic(name).seal(payload, bound=(name,))]

    def seal_many(
        self, payloads: Sequence[bytes], topic: Topic, route: Sequence[bytes] | None
    ) -> list[Frames]:
        """Return bundles that hold the payloads, in order.

        All are sealed before any can be sent, so that an error sends nothing.
        """
        if self.type in (zmq.REQ, zmq.REP):
            raise UsageError(f"a {_name(self.type)} socket sends one for one; no send_many()")
        assert not isinstance(self.dialogue, SessionDialogue)
        name = wire.as_topic(topic)
        bound = [] if name is None else [name]
        if self.dialogue is None:
            before: tuple[bytes, ...] = wire.as_route(route, is_needed=False)
            sealer = self._out.by_topic(name)
        else:
            before = self.dialogue.route(route)
            sealer = self._out.by_route(before if self.type == zmq.ROUTER else ())
        each = list(chunks(payloads, self._chunking))
        return [[*before, *bound, sealer.seal_bundle(chunk, bound=bound)] for chunk in each]

    def collect(self, payload: bytes, topic: Topic) -> None:
        """Take a payload in; what is to go out now is in ``unsent`` then.

        Raises:
            UsageError: nothing was taken.
        """
        collector = self.collector
        assert collector is not None
        name = wire.as_topic(topic)
        if type(payload) is not bytes:
            raise UsageError(f"payload is bytes, not {type(payload).__name__}; encode it first")
        self.seal_collected(clock.monotonic_ns())
        room = self._room(name)
        batch = collector.find(name, topic, room)
        if not collector.has_room(batch, len(payload)):
            self._seal_batch(batch)
            batch = collector.find(name, topic, room)
        batch.add(payload)
        if batch.is_full:
            try:
                self._seal_batch(batch)
            except UsageError:
                batch.take_back()
                if not batch.payloads:
                    collector.drop(batch)
                raise
        collector.look(is_blocked=bool(self.unsent))

    def seal_collected(self, now: int | None = None) -> None:
        """Put into ``unsent`` what has waited until ``now``; all that waits, if None.

        Args:
            now: monotonic nanoseconds.

        Raises:
            UsageError: as ``Sealer.seal``; what was collected goes on waiting.
        """
        if self.sessions is not None:
            self.sessions.tick()
        if self.collector is not None:
            for batch in self.collector.due(now):
                self._seal_batch(batch)
            self.collector.look(is_blocked=bool(self.unsent))

    @property
    def is_timed(self) -> bool:
        """Whether something may be due though nobody calls."""
        return self.collector is not None or self.sessions is not None

    def sent(self) -> None:
        """Note that the first of ``unsent`` was sent."""
        self.unsent.popleft()
        if not self.unsent and self.collector is not None:
            self.collector.look(is_blocked=False)

    def next_due(self) -> int | None:
        """Return when what waits is to go out, monotonic nanoseconds; None: nothing waits."""
        if self.sessions is not None:
            return self.sessions.next_due()
        return None if self.collector is None else self.collector.next_due()

    def drop_waiting(self) -> int:
        """Forget what waits to be sent, and return how many bundles, or messages, that are."""
        if self.sessions is not None:
            self.unsent.clear()
            return self.sessions.manager.staged
        count = len(self.unsent) + (0 if self.collector is None else self.collector.clear())
        self.unsent.clear()
        return count

    def _room(self, topic: bytes | None) -> int:
        """Return how large a payload one envelope holds now."""
        sealer = self._out.by_topic(topic)
        bound = () if topic is None else (topic,)
        _, _, room = sealer._bind_to(bound)  # noqa: SLF001 (as it will be sealed)
        return room - len(sealer._epoch.key_block)  # noqa: SLF001 (the same)

    def _seal_batch(self, batch: Batch) -> None:
        """Put a batch into ``unsent``; in several bundles, where one would be too large."""
        assert self.collector is not None
        bound = () if batch.topic is None else (batch.topic,)
        route = () if self.dialogue is None else self.dialogue.route(None)
        sealer = self._out.by_topic(batch.topic)
        payloads = batch.payloads
        count = len(payloads)
        while payloads:
            try:
                if count == 1:
                    data = sealer.seal(payloads[0], bound=bound)
                else:
                    data = sealer.seal_bundle(payloads[:count], bound=bound)
            except UsageError:
                if count == 1:
                    raise
                count //= 2
                continue
            del payloads[:count]
            self.unsent.append([*route, *bound, data])
            count = min(count, len(payloads))
        self.collector.drop(batch)

    # Receiving.

    def check_receives(self) -> None:
        """Check that there is an opener.

        Raises:
            UsageError: there is none.
        """
        if self._opener is None and self.sessions is None:
            raise UsageError("this socket has no opener, so it does not receive")

    @property
    def stats(self) -> Stats:
        """The opener's counters, or those of the sessions."""
        self.check_receives()
        if self.sessions is not None:
            return self.sessions.manager.stats
        assert self._opener is not None
        return self._opener.stats

    @property
    def is_remote(self) -> bool:
        """Whether opening waits for a network."""
        return self._is_remote

    def wants_more(self, *, strict: bool) -> bool:
        """Tell whether more of what has arrived is to be opened in the same go."""
        several = self._is_remote and self.dialogue is None and not strict
        return len(self.pending) < (_MAX_BATCH if several else 1)

    def take(self) -> Message:
        """Hand out the next message that is ready."""
        messages = self.ready[0]
        if type(messages) is not deque:
            messages = self.ready[0] = deque(messages)
        message = messages.popleft()
        if not messages:
            self.ready.popleft()
        if self.dialogue is not None:
            self.dialogue.hand_over(message)
        return message

    def take_bundle(self) -> Bundle:
        """Hand out what is left of the next envelope that is ready."""
        left = self.ready.popleft()
        messages = left if isinstance(left, Bundle) else Bundle.of(list(left))
        if self.dialogue is not None:
            self.dialogue.hand_over(messages[0])
        return messages

    def open(self, *, strict: bool) -> bool:
        """Open what is pending; see the attributes for where it goes.

        Returns:
            Whether anything passed; False after refusals.

        Raises:
            StoreUnavailableError: the frames stay in ``pending``.
            RejectedError: refused, if ``strict``.
        """
        if self.dialogue is not None or len(self.pending) > 1:
            pending = self.pending
            return self.settle(pending, self.judge(pending), strict=strict)
        assert self._opener is not None
        frames = self.pending[0]
        try:
            messages = self._opener.open_bundle(frames[-1], bound=frames[:-1])
        except StoreUnavailableError:
            raise  # An outage of the store must not drain a queue.
        except RejectedError as error:
            self.pending = []
            self._report(error, strict=strict)
            return False
        self.pending = []
        if len(frames) > 1 and frames[-2] in LABELS:
            self._report(self._misplaced(messages), strict=strict)
            return False
        self.ready.append(messages)
        return True

    def _misplaced(self, messages: Sequence[Message]) -> PolicyError:
        """Refuse a control message where there is no dialogue (SPEC 16.4)."""
        assert self._opener is not None
        error = PolicyError("a control message, where nobody asks and nobody answers")
        self._opener.refuse(error, messages[0])
        return error

    def judge(self, arrivals: list[Frames]) -> Sequence[Result]:
        """Open arrivals in one go; changes nothing of the seam. May run in a thread."""
        if self.dialogue is not None:
            return [self.dialogue.judge(frames) for frames in arrivals]
        assert self._opener is not None
        return self._opener.open_each(arrivals)

    def settle(self, arrivals: list[Frames], results: Sequence[Result], *, strict: bool) -> bool:
        """Put what became of all that was ``pending`` where it belongs; see ``open``."""
        self.pending = []
        refusals: list[RejectedError] = []
        outage: StoreUnavailableError | None = None
        passed = False
        for frames, result in zip(arrivals, results, strict=True):
            if isinstance(result, StoreUnavailableError):
                self.pending.append(frames)
                outage = result
            elif isinstance(result, RejectedError):
                refusals.append(result)
                if self.dialogue is not None:
                    self.dialogue.refuse(frames, result)
            elif self.dialogue is None and len(frames) > 1 and frames[-2] in LABELS:
                refusals.append(self._misplaced(result))
            elif result:  # What was about sessions alone is nothing that a caller waits for.
                passed = True
                if self.dialogue is None or self.dialogue.sort(result):
                    self.ready.append(result)
        # Last: what a callback raises loses no message.
        for refusal in refusals:
            self._report(refusal, strict=strict)
        if outage is not None and not passed:
            raise outage
        return passed

    def decode(
        self, message: Message, how: Callable[[Message], Any], *, strict: bool
    ) -> tuple[Any] | None:
        """Return what a message's payload stands for in a tuple, or None after a refusal.

        Raises:
            MalformedError: it stands for nothing, if ``strict``.
        """
        refuse = self._refuse
        assert refuse is not None
        try:
            return (how(message),)
        except MalformedError as error:
            refuse(error, message)
            self._report(error, strict=strict)
            return None

    def _report(self, error: RejectedError, *, strict: bool) -> None:
        if self._on_rejected is not None:
            self._on_rejected(error)
        if strict:
            raise error


def _name(socket_type: int) -> str:
    return zmq.SocketType(socket_type).name


def _check(
    socket_type: int, sealer: Sealer | None, opener: Opener | None, bundling: Bundling | None
) -> Pattern:
    """Check that a socket's type and its ends fit; return what it can do."""
    name = _name(socket_type)
    pattern = PATTERNS.get(socket_type)
    if pattern is None:
        raise UsageError(f"{name} sockets are not supported")
    if sealer is None and opener is None:
        raise UsageError("a SecureSocket needs a sealer to send or an opener to receive")
    if sealer is not None and not isinstance(sealer, Sealer):
        raise UsageError(f"sealer is not a Sealer, but of type {type(sealer).__name__}")
    if opener is not None and not isinstance(opener, Opener):
        raise UsageError(f"opener is not an Opener, but of type {type(opener).__name__}")
    if sealer is not None and not pattern.sends:
        raise UsageError(f"a {name} socket does not send: leave sealer out, and give opener")
    if opener is not None and not pattern.receives:
        raise UsageError(f"a {name} socket does not receive: leave opener out, and give sealer")
    if socket_type in (zmq.REQ, zmq.REP) and (sealer is None or opener is None):
        raise UsageError(f"a {name} socket needs a sealer and an opener")
    if bundling is not None and not isinstance(bundling, Bundling):
        raise UsageError("bundling is a Bundling, such as Bundling()")
    if bundling is not None and (sealer is None or socket_type in (zmq.REQ, zmq.REP, zmq.ROUTER)):
        raise UsageError(
            f"a {name} socket without a sealer, or that sends to one at a time, has "
            "nothing to bundle"
        )
    return pattern


def _check_session(
    socket_type: int,
    session: SessionManager,
    sealer: Sealer | None,
    opener: Opener | None,
    bundling: Bundling | None,
) -> Pattern:
    """Check that sessions are all that a socket has; return what it can do."""
    if not isinstance(session, SessionManager):
        raise UsageError("session is a SessionManager")
    if sealer is not None or opener is not None or bundling is not None:
        raise UsageError("a socket with sessions has neither sealer nor opener nor bundling")
    return PATTERNS.get(socket_type, Pattern())


def _check_callback(on_rejected: OnRejected | None) -> None:
    if on_rejected is not None and not callable(on_rejected):
        raise UsageError("on_rejected is a function that takes a RejectedError")
    if inspect.iscoroutinefunction(on_rejected):
        # Nobody would await it, and refusals would be silent.
        raise UsageError("on_rejected is a plain function, also for asyncio")
