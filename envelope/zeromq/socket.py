"""SecureSocket: seal before send, open after receive, around a ``zmq.Socket``.

Rules of this file: it wraps a socket and never subclasses one. Options,
connections and subscriptions stay with the socket itself. All that is not
waiting is in ``seam`` and ``dialogue``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import zmq
import zmq.asyncio

from envelope import clock, codec
from envelope.errors import (
    RequestTimeoutError,
    StoreUnavailableError,
    UsageError,
)
from envelope.message import Bundle, Message
from envelope.opener import Opener
from envelope.sealer import Sealer
from envelope.session import SessionManager
from envelope.stats import Stats
from envelope.trust import Peer
from envelope.zeromq.bundling import Bundling
from envelope.zeromq.frames import SYNC, Frames, Topic, as_route, check_flags, check_no_one
from envelope.zeromq.requests import Request
from envelope.zeromq.seam import AnyDialogue, OnRejected, Patience, Seam
from envelope.zeromq.sessions import SessionDialogue
from envelope.zeromq.tries import RETRY_MS, Tries, check_retry

_log = logging.getLogger("envelope.zeromq")

_PAUSE_MS: Final = 50
"""Between two questions to a replay store that cannot answer."""
_ZERO_COPY: Final = 262_144
"""Envelopes of this size and more are handed to ZeroMQ as they are. For smaller ones a copy
is cheaper than to be told when ZeroMQ is done with them."""


class SecureSocket:
    """A ZeroMQ socket whose every message is sealed and opened.

    For PUB, SUB, XPUB, XSUB, PUSH, PULL, PAIR, REQ, REP, DEALER and ROUTER. As the
    socket inside: for one thread at a time. A publisher keeps a stream for each of its
    first 32 topics; further ones share one, and subscribers to some of those see gaps
    that are none.

    Messages go as envelopes, by ``sealer`` and ``opener``, or by ``session``.

    If the sealer seals, what is received must be sealed too, and addressed to this end,
    whatever the opener's policy says. A REQ is set to be relaxed and correlated.

    Attributes:
        socket: the ``zmq.Socket`` inside, for options, ``bind``, ``subscribe``, which this
            has not. A poller takes it, too; see ``poll``.
    """

    # An option that is set here, and not at the socket inside, is an error.
    __slots__ = ("__weakref__", "_asked", "_seam", "socket")

    def __init__(  # noqa: PLR0913 (a socket's ends)
        self,
        socket: zmq.Socket[Any],
        *,
        sealer: Sealer | None = None,
        opener: Opener | None = None,
        bundling: Bundling | None = None,
        on_rejected: OnRejected | None = None,
        session: SessionManager | None = None,
    ) -> None:
        """Wrap a socket.

        Args:
            socket: a plain ``zmq.Socket``; for asyncio see ``envelope.zeromq.aio``.
            sealer: for sockets that send. What answers a request is addressed to the
                requester alone, if the sealer addresses at all.
            opener: for sockets that receive.
            bundling: lets payloads wait for company, for PUB, PUSH, PAIR and DEALER.
                Nobody looks at the clock between calls: what waits goes out by the
                first call of ``send``, ``recv`` or ``poll`` after ``max_delay``, by
                ``flush``, or by ``close``.
            on_rejected: called with the RejectedError of every message that
                ``recv`` passes over. What it raises, ``recv`` raises.
            session: in place of sealer and opener, for DEALER, ROUTER, PAIR, REQ and REP
                whose messages go by sessions (SPEC 18); of this socket alone. Sessions are
                made and renewed within ``send``, ``recv``, ``poll`` and ``close``. What is
                sent before there is one waits; what is sent into a peer's restart is lost.

        Raises:
            UsageError: the socket's type does not fit, or an end is missing.
        """
        if not isinstance(socket, zmq.Socket) or isinstance(socket, zmq.asyncio.Socket):
            raise UsageError("socket is a zmq.Socket; for asyncio use envelope.zeromq.aio")
        self.socket = socket
        self._seam = prepare(socket, sealer, opener, bundling, on_rejected, session)
        self._asked: tuple[Request, Tries] | None = None

    # Sending.

    def send(  # noqa: PLR0913 (pyzmq's, and whom it is for)
        self,
        payload: bytes,
        topic: Topic = None,
        *,
        flags: int = 0,
        copy: bool = True,
        route: Sequence[bytes] | None = None,
        to: Peer | None = None,
    ) -> None:
        """Seal and send one payload.

        On a REQ it is the request that ``recv`` waits for; on a REP, the reply to what
        was received last.

        Args:
            payload: any bytes.
            topic: sent in clear in front, and signed; str is UTF-8.
            flags: ``zmq.NOBLOCK`` or 0.
            copy: as in pyzmq; large envelopes are never copied.
            route: on a ROUTER, and only there: ``message.route``, or ``[identity]``.
            to: on a ROUTER whose sealer addresses several: the one whom the route leads
                to, such as ``message.sender``. It is addressed to that one alone.

        Raises:
            UsageError: a wrong argument; nothing was sent.
            zmq.Again: the socket could not take it in time. The sequence is used:
                receivers will see a gap of one, which is the truth. With bundling
                nothing was used.
        """
        seam = self._seam
        collector = seam.collector
        if collector is not None:
            if flags or to is not None or route is not None or not collector.add(payload, topic):
                check_no_one(to)
                self._collect(payload, topic, flags, route)
            return
        if (
            topic is None
            and route is None
            and to is None
            and not flags
            and seam.only_sealer is not None
        ):
            data = seam.only_sealer.seal(payload)
            self.socket.send(data, 0, copy and len(data) < _ZERO_COPY)
            return
        check_flags(flags)
        if seam.type != zmq.ROUTER:
            check_no_one(to)
        if seam.type == zmq.REQ:
            if self._asked is not None:  # Given up: this one takes its place.
                dialogue_of(seam).forget(self._asked[0])
                self._asked = None
            request = self.send_request(payload, topic, flags=flags, route=route)
            self._asked = request, Tries(self.socket, RETRY_MS)
        elif seam.type == zmq.REP and route is None:
            self.reply(self._owed(), payload, topic, flags=flags)
        elif seam.sessions is not None:
            self._make_room(seam.sessions, len(payload), flags)
            self._dispatch(seam.sessions.send(payload, topic, route, to), flags, copy=copy)
        else:
            self._transmit(seam.seal(payload, topic, route, to), flags, copy=copy)

    def send_many(
        self,
        payloads: Sequence[bytes],
        topic: Topic = None,
        *,
        flags: int = 0,
        route: Sequence[bytes] | None = None,
    ) -> None:
        """Seal and send payloads in bundles, by default of up to 256 and 64 KiB.

        One signature for each bundle: the way to send very many small messages.

        Raises:
            UsageError: a wrong argument.
            zmq.Again: as ``send``; bundles before were sent.
        """
        check_flags(flags)
        if self._seam.sessions is not None:
            for payload in payloads:
                self.send(payload, topic, flags=flags, route=route)
            return
        self._flush(flags)  # First: what was collected before has the lower sequences.
        for frames in self._seam.seal_many(payloads, topic, route):
            self._transmit(frames, flags)

    def send_object(
        self,
        value: Any,
        topic: Topic = None,
        *,
        flags: int = 0,
        route: Sequence[bytes] | None = None,
        to: Peer | None = None,
    ) -> None:
        """Encode, seal and send an object: None, bool, int, float, str, bytes, list, dict.

        In place of ``send_pyobj``, without pickle (SPEC 10).

        Raises:
            UsageError: an object that has no encoding; nothing was sent.
            zmq.Again: as ``send``.
        """
        self.send(codec.encode_object(value), topic, flags=flags, route=route, to=to)

    def send_multipart(  # noqa: PLR0913 (pyzmq's, and whom it is for)
        self,
        frames: Sequence[bytes | bytearray | memoryview],
        topic: Topic = None,
        *,
        flags: int = 0,
        copy: bool = True,
        route: Sequence[bytes] | None = None,
        to: Peer | None = None,
    ) -> None:
        """Seal and send several frames as one payload, their boundaries signed (SPEC 10.3).

        Raises:
            UsageError: no list of bytes, or more than 4096; nothing was sent.
            zmq.Again: as ``send``.
        """
        self.send(codec.encode_frames(frames), topic, flags=flags, copy=copy, route=route, to=to)

    def flush(self, flags: int = 0) -> None:
        """Send what waits for company.

        Raises:
            UsageError: no recipient is valid any more; what waits goes on waiting.
            zmq.Again: the socket could not take all in time; the rest goes first next time.
        """
        check_flags(flags)
        self._flush(flags)

    def _collect(
        self, payload: bytes, topic: Topic, flags: int, route: Sequence[bytes] | None
    ) -> None:
        check_flags(flags)
        as_route(route, is_needed=False)
        if self.socket.closed:  # Nothing would be sent, so nothing else would tell.
            raise zmq.ZMQError(zmq.ENOTSOCK)
        self._send_unsent(flags)
        self._seam.collect(payload, topic)
        # The payload was taken: what cannot go now goes before the next one.
        with contextlib.suppress(zmq.Again):
            self._send_unsent(flags)

    def _flush(self, flags: int) -> None:
        self._seam.seal_collected()
        self._send_unsent(flags)

    def _make_room(self, sessions: SessionDialogue, size: int, flags: int) -> None:
        """Let the peer's answer in, and wait where as much waits for a session as may.

        Raises:
            zmq.Again: nobody answers in time.
        """
        self._send_due()
        if not sessions.manager.staged:
            self._send_unsent(flags)
            return
        self._pump(0)
        patience = Patience(0 if flags & zmq.NOBLOCK else int(self.socket.get(zmq.SNDTIMEO)))
        while sessions.must_wait(size):
            self._pump(patience.left())

    def _pump(self, timeout: int | None) -> None:
        """Take in one message while this end does not receive; what is for ``recv`` waits."""
        if self._take_in(timeout):
            self._open(strict=False)

    def _take_in(self, timeout: int | None) -> bool:
        """Wait for a message, and put it into ``pending``; return whether there was one.

        A REQ says that there is one where there is but the answer to an earlier try, which it
        drops when it is to hand it out.
        """
        if not self._wait(timeout):
            return False
        try:
            self._seam.pending.append(self.socket.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            return False
        return True

    def _dispatch(self, frames: Frames | None, flags: int, *, copy: bool = True) -> None:
        """Send what a session sealed; None: what it is to say first, as far as there is room."""
        if frames is not None:
            self._transmit(frames, flags, copy=copy)
        self._post()

    def _transmit(self, frames: Frames, flags: int, *, copy: bool = True) -> None:
        copy = copy and len(frames[-1]) < _ZERO_COPY
        if len(frames) == 1:
            self.socket.send(frames[0], flags, copy=copy)
        else:
            self.socket.send_multipart(frames, flags, copy=copy)

    def _send_unsent(self, flags: int) -> None:
        unsent = self._seam.unsent
        while unsent:
            self._transmit(unsent[0], flags)
            self._seam.sent()

    def _send_due(self) -> None:
        """Send what has waited long enough, as far as the socket takes it."""
        if self._seam.is_timed and not self._would_drop():
            # That no recipient is valid is for whoever sends, not for whoever receives.
            with contextlib.suppress(zmq.Again, UsageError):
                self._seam.seal_collected(clock.monotonic_ns())
                self._post()
                self._send_unsent(zmq.NOBLOCK)

    def _would_drop(self) -> bool:
        """Tell whether to send would drop what is to be read first: so does a REQ.

        Whoever looks seldom would ask for a session anew with each look, and never have one.
        """
        return self._seam.type == zmq.REQ and bool(int(self.socket.get(zmq.EVENTS)) & zmq.POLLIN)

    def _post(self) -> None:
        """Send what the dialogue says by itself, or drop it: who needs it asks again."""
        dialogue = self._seam.dialogue
        while dialogue is not None and dialogue.outbox:
            frames = dialogue.outbox.popleft()
            with contextlib.suppress(zmq.ZMQError):
                self._transmit(frames, zmq.NOBLOCK)
        if self._seam.sessions is not None and self._seam.unsent:
            with contextlib.suppress(zmq.Again):
                self._send_unsent(zmq.NOBLOCK)

    # Receiving.

    def recv(self, flags: int = 0, *, strict: bool = False, copy: bool = True) -> Message:  # noqa: ARG002 (pyzmq's)
        """Receive the next message that passes every check.

        Messages that do not are passed over, counted by code in ``stats`` and told
        to ``on_rejected``: garbage from anyone must not stop a receive loop, nor be
        silent. A bundle's messages come one at a time. A REP that did not reply to the
        message before sends one empty frame for it.

        Args:
            flags: ``zmq.NOBLOCK`` or 0.
            strict: raise the first refusal instead of passing over it.
            copy: taken for the sake of callers of pyzmq; a payload is always bytes.

        Raises:
            zmq.Again: nothing that passes came within the socket's RCVTIMEO, or at
                once with NOBLOCK (or a thousand refusals stood in the way).
            StoreUnavailableError: the replay store cannot answer; the message is
                kept and offered again by the next call.
            RejectedError: refused, with ``strict``.
            RequestError: on a REQ, that there will be no reply.
            UsageError: the socket has no opener; or it is a REQ that has sent nothing.
        """
        if not self._seam.ready:
            if self._seam.type == zmq.REQ:
                return self._recv_asked(flags, strict=strict)
            if strict or not self._seam.is_simple or flags not in (0, zmq.NOBLOCK):
                self._receive(self._patience(flags), strict=strict)
            else:
                self._receive_soon(flags)
        return self._seam.take()

    def _receive_soon(self, flags: int) -> None:
        """Fill ``ready``, with what is there already if it passes: the usual case."""
        begun = clock.monotonic()
        seam = self._seam
        try:
            if not seam.pending:
                seam.pending.append(self.socket.recv_multipart(zmq.NOBLOCK))
            if seam.open(strict=False):
                return
            refused = 1
        except zmq.Again:
            refused = 0
        patience = Patience(0 if flags else int(self.socket.get(zmq.RCVTIMEO)), begun)
        if refused:
            patience.refuse()
        self._receive(patience, strict=False)

    def recv_bundle(self, flags: int = 0, *, strict: bool = False) -> Bundle:
        """Receive all messages of the next envelope that passes every check.

        Of a bundle that ``recv`` began, those that are left. Whoever needs their payloads
        alone takes ``payloads`` of it, which makes no messages.

        Raises:
            The same as ``recv``.
        """
        if not self._seam.ready:
            if self._seam.type == zmq.REQ:
                return Bundle.of([self._recv_asked(flags, strict=strict)])
            self._receive(self._patience(flags), strict=strict)
        return self._seam.take_bundle()

    def recv_object(self, flags: int = 0, *, strict: bool = False) -> Any:
        """Receive the next object; in place of ``recv_pyobj``, without pickle.

        To know who sent it, use ``recv`` and ``message.object()``. A payload that is
        no object is passed over like a refused message; on a REQ it is the one reply, and
        raises ``MalformedError``.

        Raises:
            The same as ``recv``.
        """
        return self._recv_as(Message.object, flags, strict=strict)

    def recv_multipart(
        self,
        flags: int = 0,
        *,
        strict: bool = False,
        copy: bool = True,  # noqa: ARG002 (pyzmq's)
    ) -> Frames:
        """Receive the frames of the next message that ``send_multipart`` sent.

        To know who sent them, use ``recv`` and ``message.frames()``. Another payload is
        passed over like a refused message, or raises, as in ``recv_object``.

        Raises:
            The same as ``recv``.
        """
        frames: Frames = self._recv_as(Message.frames, flags, strict=strict)
        return frames

    def _recv_as(self, how: Callable[[Message], Any], flags: int, *, strict: bool) -> Any:
        patience = self._patience(flags)
        while True:
            if self._seam.type == zmq.REQ:
                message = self._recv_asked(flags, strict=strict)
                strict = True  # It was the one reply: there is none behind it.
            else:
                self._receive(patience, strict=strict)
                message = self._seam.take()
            found = self._seam.decode(message, how, strict=strict)
            if found is not None:
                return found[0]
            patience.refuse()

    @property
    def has_ready(self) -> bool:
        """Whether ``recv`` has something to look at without asking the socket."""
        return bool(self._seam.ready or self._seam.pending)

    def poll(self, timeout: int | None = None) -> bool:
        """Tell whether ``recv`` has something to look at within ``timeout`` milliseconds.

        Counts messages of an opened bundle too, which a ``zmq.Poller`` cannot see:
        register ``.socket`` there, and ask ``poll(0)`` before it waits.
        """
        if self._seam.ready or self._seam.pending:
            return True
        patience = Patience(-1 if timeout is None else timeout)
        while True:
            try:
                if self._wait(0 if timeout == 0 else patience.left()):
                    return True
                patience.left()
            except zmq.Again:
                return False

    def _patience(self, flags: int) -> Patience:
        self._seam.check_receives()
        check_flags(flags)
        return Patience(0 if flags & zmq.NOBLOCK else int(self.socket.get(zmq.RCVTIMEO)))

    def _receive(self, patience: Patience, *, strict: bool) -> None:
        """Fill ``ready``."""
        seam = self._seam
        if seam.dialogue is not None:
            self._give_up(seam.dialogue)
        if seam.is_timed:
            self._send_due()
        while not seam.ready:
            while seam.wants_more(strict=strict):
                try:
                    seam.pending.append(self.socket.recv_multipart(zmq.NOBLOCK))
                except zmq.Again:
                    if seam.pending:
                        break
                    self._wait(patience.left())
            if not self._open(strict=strict):
                patience.refuse()

    def _open(self, *, strict: bool) -> bool:
        try:
            return self._seam.open(strict=strict)
        finally:
            self._post()

    def _wait(self, timeout: int | None) -> bool:
        """Wait for an arrival; end also when something has to be sent, or can be."""
        self._send_due()
        due = self._seam.next_due()
        if due is not None and timeout != 0:
            left = max(1, -((clock.monotonic_ns() - due) // 1_000_000))
            timeout = left if timeout is None else min(left, timeout)
        # The peer may not send before it has what waits for room here.
        events = zmq.POLLIN | zmq.POLLOUT if self._seam.unsent else zmq.POLLIN
        return bool(self.socket.poll(timeout, events) & zmq.POLLIN)

    def _give_up(self, dialogue: AnyDialogue) -> None:
        frames = None if self._seam.ready else dialogue.give_up()
        if frames is not None:
            self._transmit(frames, 0)

    # Requests and replies.

    def request(  # noqa: PLR0913 (a call with its limits)
        self,
        payload: bytes,
        topic: Topic = None,
        *,
        timeout: int | None = None,
        retry: int = RETRY_MS,
        idempotent: bool = False,
        route: Sequence[bytes] | None = None,
    ) -> Message:
        """Send a request, and return the reply to it and to no other.

        The other end makes it one by ``reply``, or by ``send`` on a REP; what another socket
        says by ``send`` is none.

        Messages that are no reply wait for ``recv``, however many they are. If the sealer
        addresses one recipient, the request is sent again now and then, by the same
        bytes: it is executed once, as every envelope is delivered once by each replay
        memory (SPEC 8.1); workers that share an identity have to share one. If it
        addresses several, whoever gets it may execute it, so it is sent once.

        Args:
            payload: any bytes.
            topic: as in ``send``.
            timeout: milliseconds, -1 for no end; by default the socket's RCVTIMEO. If the
                receiver dies, perhaps nothing else ends the wait.
            retry: milliseconds from one try to the next, at least 1. A REQ waits twice as
                long each time, up to 30 seconds, for it hears what answers its last try alone.
            idempotent: executing it twice does no harm: it is then repeated also to a
                receiver that has lost its memory.
            route: as in ``send``.

        Returns:
            The reply, from one of those that the request was addressed to.

        Raises:
            RequestTimeoutError: none came in time.
            RequestRefusedError: the receiver has lost its memory, and cannot know
                whether it was executed. Another request is heard, but where this clock
                is ahead of a receiver's without a durable store by more than its
                max_future: only what is ``idempotent`` is.
            RequestDoneError: it was executed, and the reply is gone.
            UsageError: a wrong argument; nothing was sent.
            zmq.Again: the socket could not take it in time.
        """
        check_retry(retry)
        request = self.send_request(payload, topic, idempotent=idempotent, route=route)
        return self.wait(request, timeout=timeout, retry=retry)

    def send_request(
        self,
        payload: bytes,
        topic: Topic = None,
        *,
        flags: int = 0,
        idempotent: bool = False,
        route: Sequence[bytes] | None = None,
    ) -> Request:
        """Send a request whose reply ``wait`` returns; many may be in flight.

        Args:
            payload: any bytes.
            topic: as in ``send``.
            flags: ``zmq.NOBLOCK`` or 0.
            idempotent: as in ``request``.
            route: as in ``send``.

        Raises:
            UsageError: as ``request``; or 4096 are in flight.
            zmq.Again: as ``request``.
        """
        return self._ask(payload, topic, flags, idempotent=idempotent, route=route)

    def _ask(  # noqa: PLR0913 (as send_request)
        self,
        payload: bytes,
        topic: Topic,
        flags: int,
        *,
        idempotent: bool,
        route: Sequence[bytes] | None,
        label: bytes | None = None,
    ) -> Request:
        check_flags(flags)
        dialogue = dialogue_of(self._seam)
        # This first: it reads before it sends.
        if self._seam.sessions is not None:
            self._make_room(self._seam.sessions, len(payload), flags)
        self._flush(flags)
        request = dialogue.ask(payload, topic, route, is_harmless=idempotent, label=label)
        try:
            self._dispatch(request.frames or None, flags)
        except zmq.ZMQError:
            dialogue.forget(request)
            raise
        return request

    def wait(
        self, request: Request, *, timeout: int | None = None, retry: int = RETRY_MS
    ) -> Message:
        """Return the reply to a request that was sent; forget it if there is none.

        Raises:
            The same as ``request``.
        """
        check_retry(retry)
        dialogue = dialogue_of(self._seam)
        limit = int(self.socket.get(zmq.RCVTIMEO)) if timeout is None else timeout
        try:
            self._pursue(request, Patience(limit), Tries(self.socket, retry), strict=False)
        except zmq.Again:
            raise timed_out(limit) from None
        finally:
            dialogue.forget(request)
        return result_of(request)

    def sync(
        self,
        topic: Topic = None,
        *,
        timeout: int | None = None,
        route: Sequence[bytes] | None = None,
    ) -> Peer:
        """Make sure that the peer hears this end, and return who it is.

        After the start of a receiver without a durable replay store, or where clocks are
        off, a request may be refused once; this finds out with one that asks for nothing
        (SPEC 16.5). The peer answers from within its ``recv``.

        Args:
            topic: as in ``send``: one that the peer permits, if it permits not all.
            timeout: as in ``request``.
            route: as in ``send``.

        Raises:
            The same as ``request``.
        """
        request = self._ask(b"", topic, 0, idempotent=True, route=route, label=SYNC)
        return self.wait(request, timeout=timeout, retry=RETRY_MS // 10).sender

    def reply(
        self, message: Message, payload: bytes, topic: Topic = None, *, flags: int = 0
    ) -> None:
        """Reply to a message: bound to it, sent the way it came, for its sender alone.

        The reply is kept for a while, for a requester that asks again.

        Raises:
            UsageError: a wrong argument, or the sender is not valid any more.
            zmq.Again: the socket could not take it in time.
        """
        check_flags(flags)
        dialogue = dialogue_of(self._seam)
        self._flush(flags)
        self._dispatch(dialogue.reply(message, payload, topic), flags)

    def _owed(self) -> Message:
        owed = dialogue_of(self._seam).owed
        if owed is None:
            raise UsageError("a REP replies to what it received, once; there is nothing")
        return owed

    def _recv_asked(self, flags: int, *, strict: bool) -> Message:
        patience = self._patience(flags)
        if self._asked is None:
            raise UsageError("a REQ receives the reply to what it sent; there is nothing")
        request, tries = self._asked
        self._pursue(request, patience, tries, strict=strict)
        self._asked = None
        return result_of(request)

    def _pursue(self, request: Request, patience: Patience, tries: Tries, *, strict: bool) -> None:
        """Receive until a request is over."""
        while not request.is_over:
            if not self._seam.pending:
                try:
                    ahead = tries.left()
                except zmq.Again:
                    frames = dialogue_of(self._seam).again(request)
                    if frames is not None:
                        with contextlib.suppress(zmq.ZMQError):
                            self._transmit(frames, zmq.NOBLOCK)
                    continue
                if not self._take_in_time(patience, ahead):
                    continue
            try:
                if not self._open(strict=strict):
                    patience.refuse()
            except StoreUnavailableError:
                patience.left()
                # No socket ever has this event, so it is a pause; with no socket at all
                # pyzmq would return at once.
                self.socket.poll(_PAUSE_MS, zmq.POLLERR)

    def _take_in_time(self, patience: Patience, ahead: int | None) -> bool:
        """Put a message into ``pending``; what is there already also if time is up.

        Raises:
            zmq.Again: time is up, and nothing is there, or a thousand more came since.
        """
        try:
            left = patience.left()
        except zmq.Again:
            if not self._take_in(0):
                raise
            patience.refuse()
            return True
        return self._take_in(ahead if left is None else min(left, ahead or left))

    # The rest.

    @property
    def stats(self) -> Stats:
        """The opener's counters.

        Raises:
            UsageError: the socket has no opener.
        """
        return self._seam.stats

    def close(self, linger: int | None = None) -> None:
        """Send what waits for company, and close the socket inside.

        Waits for room as long as the socket lingers, and no longer; what is dropped
        then is logged.

        Args:
            linger: milliseconds, as in pyzmq; by default the socket's LINGER.

        Raises:
            UsageError: something waits, and no recipient is valid any more. The socket
                is closed all the same.
        """
        if self.socket.closed:
            report_dropped(self._seam)
            return
        try:
            self._seam.seal_collected()
            # A context that has ended takes nothing any more.
            with contextlib.suppress(zmq.Again, zmq.ContextTerminated):
                patience = Patience(int(self.socket.get(zmq.LINGER)) if linger is None else linger)
                sessions = self._seam.sessions
                while sessions is not None and sessions.manager.staged:
                    self._pump(patience.left())
                while self._seam.unsent:
                    try:
                        self._send_unsent(zmq.NOBLOCK)
                    except zmq.Again:
                        self.socket.poll(patience.left(), zmq.POLLOUT)
        finally:
            report_dropped(self._seam)
            self.socket.close(linger)

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the socket inside."""
        self.close()


def prepare(  # noqa: PLR0913, PLR0917 (a socket's ends)
    socket: zmq.Socket[Any],
    sealer: Sealer | None,
    opener: Opener | None,
    bundling: Bundling | None,
    on_rejected: OnRejected | None,
    session: SessionManager | None = None,
) -> Seam:
    """Return the seam of a socket, and set the socket up for it."""
    kind = int(socket.get(zmq.TYPE))
    seam = Seam(
        kind,
        sealer=sealer,
        opener=opener,
        on_rejected=on_rejected,
        bundling=bundling,
        session=session,
    )
    if kind == zmq.REQ:
        # A reply that was refused, or is late, must not be the end of the socket.
        socket.set(zmq.REQ_RELAXED, 1)
        socket.set(zmq.REQ_CORRELATE, 1)
    return seam


def dialogue_of(seam: Seam) -> AnyDialogue:
    """Return the dialogue of a socket that has one.

    Raises:
        UsageError: it does not both send and receive.
    """
    if seam.dialogue is None:
        raise UsageError("requests and replies need a REQ, REP, DEALER, ROUTER or PAIR socket")
    return seam.dialogue


def result_of(request: Request) -> Message:
    """Return the reply to a request that is over.

    Raises:
        RequestError: why there is none.
    """
    if request.error is not None:
        raise request.error
    assert request.reply is not None
    return request.reply


def timed_out(limit: int) -> RequestTimeoutError:
    """Return what ends a wait of ``limit`` milliseconds for a reply."""
    return RequestTimeoutError(
        f"no reply within {limit} ms; whether it was executed is not known; if the peer is there, "
        "its log says what it refused"
    )


def report_dropped(seam: Seam) -> None:
    """Log what a socket that closes could not get rid of, and forget it."""
    count = seam.drop_waiting()
    if count:
        what = "bundles that were not sent"
        if seam.sessions is not None:
            what = "messages that waited for a session"
        _log.warning("closed with %d %s", count, what)
