"""SecureSocket for asyncio: the same behaviour around a ``zmq.asyncio.Socket``.

Rules of this file: those of ``envelope.zeromq.socket``; only the waiting differs.

- Sealing and opening take tens of microseconds and happen in the event loop; but where
  the replay store is remote, opening waits for it in a thread.
- A message is never in the hands of an ``await``: a task that is cancelled between its
  arrival and its own next turn would lose it.
- One task at a time reads the socket, for all that wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import zmq
import zmq.asyncio

from envelope import clock, codec
from envelope.errors import EnvelopeError, StoreUnavailableError, UsageError
from envelope.message import Bundle, Message
from envelope.opener import Opener
from envelope.sealer import Sealer
from envelope.session import SessionManager
from envelope.stats import Stats
from envelope.trust import Peer
from envelope.zeromq.bundling import Bundling
from envelope.zeromq.frames import SYNC, Frames, Topic, as_route, check_flags, check_no_one
from envelope.zeromq.requests import Request
from envelope.zeromq.seam import OnRejected, Patience
from envelope.zeromq.sessions import SessionDialogue
from envelope.zeromq.socket import dialogue_of, prepare, report_dropped, result_of, timed_out
from envelope.zeromq.tries import RETRY_MS, Tries, check_retry

_log = logging.getLogger("envelope.zeromq")

_PAUSE = 0.05
"""Seconds between two questions to a replay store that cannot answer."""


class SecureSocket:
    """A ZeroMQ socket for asyncio whose every message is sealed and opened.

    As ``envelope.zeromq.SecureSocket``, method by method; one task at a time may
    receive, any number may send, ask and wait for replies. A cancelled ``recv`` loses no
    message. What bundling collects goes out by a timer.

    Attributes:
        socket: the ``zmq.asyncio.Socket`` inside, for options, ``bind``, ``subscribe``.
    """

    # An option that is set here, and not at the socket inside, is an error.
    __slots__ = (
        "__weakref__",
        "_asked",
        "_is_reading",
        "_loop",
        "_opening",
        "_seam",
        "_timer",
        "_waiting",
        "socket",
    )

    def __init__(  # noqa: PLR0913 (a socket's ends)
        self,
        socket: zmq.asyncio.Socket,
        *,
        sealer: Sealer | None = None,
        opener: Opener | None = None,
        bundling: Bundling | None = None,
        on_rejected: OnRejected | None = None,
        session: SessionManager | None = None,
    ) -> None:
        """Wrap a socket; arguments and errors are those of the synchronous one."""
        if not isinstance(socket, zmq.asyncio.Socket):
            raise UsageError(
                "socket is a zmq.asyncio.Socket, of a zmq.asyncio.Context; for a zmq.Socket use "
                "envelope.zeromq.SecureSocket"
            )
        self.socket = socket
        self._seam = prepare(socket, sealer, opener, bundling, on_rejected, session)
        self._asked: tuple[Request, Tries] | None = None
        self._opening: asyncio.Future[bool] | None = None
        """Goes on when whoever waits for it is cancelled."""
        self._is_reading = False
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}
        """Who waits while another task reads, and for what."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where the timer runs. One of a loop that is over never will."""

    # Sending.

    async def send(  # noqa: PLR0913 (pyzmq's, and whom it is for)
        self,
        payload: bytes,
        topic: Topic = None,
        *,
        flags: int = 0,
        copy: bool = True,
        route: Sequence[bytes] | None = None,
        to: Peer | None = None,
    ) -> None:
        """Seal and send one payload; see ``envelope.zeromq.SecureSocket.send``."""
        check_flags(flags)
        seam = self._seam
        collector = seam.collector
        if collector is not None:
            if to is not None or route is not None or not collector.add(payload, topic):
                check_no_one(to)
                await self._collect(payload, topic, flags, route)
            return
        if seam.type != zmq.ROUTER:
            check_no_one(to)
        if seam.type == zmq.REQ:
            if self._asked is not None:  # Given up: this one takes its place.
                dialogue_of(seam).forget(self._asked[0])
                self._asked = None
            request = await self.send_request(payload, topic, flags=flags, route=route)
            self._asked = request, Tries(self.socket, RETRY_MS)
        elif seam.type == zmq.REP and route is None:
            owed = dialogue_of(seam).owed
            if owed is None:
                raise UsageError("a REP replies to what it received, once; there is nothing")
            await self.reply(owed, payload, topic, flags=flags)
        elif seam.sessions is not None:
            await self._make_room(seam.sessions, len(payload), flags)
            await self._dispatch(seam.sessions.send(payload, topic, route, to), flags, copy=copy)
        else:
            frames = seam.seal(payload, topic, route, to)
            await self.socket.send_multipart(frames, flags, copy=copy)

    async def send_many(
        self,
        payloads: Sequence[bytes],
        topic: Topic = None,
        *,
        flags: int = 0,
        route: Sequence[bytes] | None = None,
    ) -> None:
        """Seal and send payloads in bundles; see ``envelope.zeromq.SecureSocket.send_many``."""
        if self._seam.sessions is not None:
            for payload in payloads:
                await self.send(payload, topic, flags=flags, route=route)
            return
        await self.flush(flags)  # First: what was collected before has the lower sequences.
        for frames in self._seam.seal_many(payloads, topic, route):
            await self.socket.send_multipart(frames, flags)

    async def send_object(
        self,
        value: Any,
        topic: Topic = None,
        *,
        flags: int = 0,
        route: Sequence[bytes] | None = None,
        to: Peer | None = None,
    ) -> None:
        """Encode, seal and send an object; see ``envelope.zeromq.SecureSocket.send_object``."""
        await self.send(codec.encode_object(value), topic, flags=flags, route=route, to=to)

    async def send_multipart(  # noqa: PLR0913 (pyzmq's, and whom it is for)
        self,
        frames: Sequence[bytes | bytearray | memoryview],
        topic: Topic = None,
        *,
        flags: int = 0,
        copy: bool = True,
        route: Sequence[bytes] | None = None,
        to: Peer | None = None,
    ) -> None:
        """Seal and send several frames; see ``envelope.zeromq.SecureSocket.send_multipart``."""
        await self.send(
            codec.encode_frames(frames), topic, flags=flags, copy=copy, route=route, to=to
        )

    async def flush(self, flags: int = 0) -> None:
        """Send what waits for company; see ``envelope.zeromq.SecureSocket.flush``."""
        check_flags(flags)
        self._seam.seal_collected()
        await self._send_unsent(flags)

    async def _collect(
        self, payload: bytes, topic: Topic, flags: int, route: Sequence[bytes] | None
    ) -> None:
        as_route(route, is_needed=False)
        if self.socket.closed:  # Nothing would be sent, so nothing else would tell.
            raise zmq.ZMQError(zmq.ENOTSOCK)
        await self._send_unsent(flags)
        self._seam.collect(payload, topic)
        # The payload was taken: what cannot go now goes before the next one.
        with contextlib.suppress(zmq.Again):
            await self._send_unsent(flags)
        self._set_timer()

    async def _make_room(self, sessions: SessionDialogue, size: int, flags: int) -> None:
        """Let the peer's answer in; see ``envelope.zeromq.SecureSocket``."""
        self._seam.seal_collected()
        if not sessions.manager.staged:
            await self._send_unsent(flags)
            return
        await self._take_in()
        patience = Patience(0 if flags & zmq.NOBLOCK else int(self.socket.get(zmq.SNDTIMEO)))
        while sessions.must_wait(size):
            await self._pump(patience)

    async def _take_in(self) -> bool:
        """Take in a message that is there while nobody receives; return whether there was one."""
        with contextlib.suppress(zmq.Again):
            await self._turn(lambda: True, Patience(0), None, strict=False)
            return True
        return False

    async def _pump(self, patience: Patience) -> None:
        """Take in a message, or wait for a moment."""
        if not await self._take_in():
            self._seam.seal_collected()
            self._post()
            left = patience.left()
            await asyncio.sleep(0.001 if left is None else min(left, 1) / 1000)

    async def _dispatch(self, frames: Frames | None, flags: int, *, copy: bool = True) -> None:
        """Send what a session sealed; None: what it is to say first, as far as there is room."""
        if frames is not None:
            await self.socket.send_multipart(frames, flags, copy=copy)
        self._post()

    async def _send_unsent(self, flags: int) -> None:
        if self._push():
            return
        patience = Patience(0 if flags & zmq.NOBLOCK else int(self.socket.get(zmq.SNDTIMEO)))
        try:
            while not self._push():
                await self._poll_out(patience.left())
        finally:
            self._set_timer()  # Whoever gives up leaves it to the timer.

    async def _poll_out(self, left: int | None) -> None:
        """Wait for room, or for a while."""
        try:
            await self.socket.poll(left, zmq.POLLOUT)  # type: ignore[call-arg]  # the stub lacks it
        except zmq.Again:  # pyzmq ends the wait at SNDTIMEO, too.
            await asyncio.sleep(0.001)  # With a short one this would not stop turning.

    def _push(self) -> bool:
        """Send what is unsent as far as the socket takes it at once; return whether all went."""
        unsent = self._seam.unsent
        while unsent:
            if not self._send_now(unsent[0]):
                return False
            self._seam.sent()
        return True

    def _send_now(self, frames: Frames) -> bool:
        """Send a message at once, or return False."""
        sending = asyncio.ensure_future(self.socket.send_multipart(frames, zmq.NOBLOCK))
        if not sending.done():  # Behind another task's message that waits for room.
            sending.cancel()
            return False
        try:
            sending.result()
        except zmq.Again:
            return False
        return True

    def _set_timer(self) -> None:
        """Look at what waits: in a moment for room, and when it has waited long enough."""
        due = self._seam.next_due()
        if self._seam.unsent:
            delay = 0.001
        elif due is not None:
            delay = max(0, due - clock.monotonic_ns()) / 1e9
        else:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + delay
        if self._timer is not None:
            if self._loop is loop and self._timer.when() <= when:
                return
            self._timer.cancel()
        self._loop, self._timer = loop, loop.call_at(when, self._send_due)

    def _send_due(self) -> None:
        self._timer = None
        if self.socket.closed:
            return
        try:
            self._seam.seal_collected(clock.monotonic_ns())
            self._post()
            self._push()
        except (EnvelopeError, zmq.ZMQError) as error:
            # The next send, flush or close raises it to somebody.
            _log.warning("what was collected could not be sent: %s", error)
            return
        self._set_timer()

    def _post(self) -> None:
        """Send what the dialogue says by itself, or drop it: who needs it asks again."""
        dialogue = self._seam.dialogue
        while dialogue is not None and dialogue.outbox:
            frames = dialogue.outbox.popleft()
            with contextlib.suppress(zmq.ZMQError):
                self._send_now(frames)
        if self._seam.sessions is not None:
            self._push()
            self._set_timer()

    # Receiving.

    async def recv(self, flags: int = 0, *, strict: bool = False, copy: bool = True) -> Message:  # noqa: ARG002 (pyzmq's)
        """Receive the next message that passes; see ``envelope.zeromq.SecureSocket.recv``."""
        if not self._seam.ready:
            if self._seam.type == zmq.REQ:
                return await self._recv_asked(flags, strict=strict)
            await self._receive(self._patience(flags), strict=strict)
        return self._seam.take()

    async def recv_bundle(self, flags: int = 0, *, strict: bool = False) -> Bundle:
        """Receive one envelope; see ``envelope.zeromq.SecureSocket.recv_bundle``."""
        if not self._seam.ready:
            if self._seam.type == zmq.REQ:
                return Bundle.of([await self._recv_asked(flags, strict=strict)])
            await self._receive(self._patience(flags), strict=strict)
        return self._seam.take_bundle()

    async def recv_object(self, flags: int = 0, *, strict: bool = False) -> Any:
        """Receive the next object; see ``envelope.zeromq.SecureSocket.recv_object``."""
        return await self._recv_as(Message.object, flags, strict=strict)

    async def recv_multipart(
        self,
        flags: int = 0,
        *,
        strict: bool = False,
        copy: bool = True,  # noqa: ARG002 (pyzmq's)
    ) -> Frames:
        """Receive several frames; see ``envelope.zeromq.SecureSocket.recv_multipart``."""
        frames: Frames = await self._recv_as(Message.frames, flags, strict=strict)
        return frames

    async def _recv_as(self, how: Callable[[Message], Any], flags: int, *, strict: bool) -> Any:
        patience = self._patience(flags)
        while True:
            if self._seam.type == zmq.REQ:
                message = await self._recv_asked(flags, strict=strict)
                strict = True  # It was the one reply: there is none behind it.
            else:
                await self._receive(patience, strict=strict)
                message = self._seam.take()
            found = self._seam.decode(message, how, strict=strict)
            if found is not None:
                return found[0]
            patience.refuse()
            await asyncio.sleep(0)

    async def poll(self, timeout: int | None = None) -> bool:  # noqa: ASYNC109 (zmq's name, in ms)
        """Tell whether there is something to look at; see ``envelope.zeromq.SecureSocket.poll``."""
        if self._seam.ready or self._seam.pending:
            return True
        patience = Patience(-1 if timeout is None else timeout)
        while True:
            # pyzmq ends the wait at RCVTIMEO too, by zmq.Again.
            with contextlib.suppress(zmq.Again):
                if await self.socket.poll(0 if timeout == 0 else patience.left()):
                    return True
            try:
                patience.left()
            except zmq.Again:
                return False
            await asyncio.sleep(0.001)  # With a short RCVTIMEO this would not stop turning.

    def _patience(self, flags: int) -> Patience:
        self._seam.check_receives()
        check_flags(flags)
        return Patience(0 if flags & zmq.NOBLOCK else int(self.socket.get(zmq.RCVTIMEO)))

    async def _receive(self, patience: Patience, *, strict: bool) -> None:
        """Fill ``ready``."""
        seam = self._seam
        if seam.dialogue is not None and not seam.ready:
            nothing = seam.dialogue.give_up()
            if nothing is not None:
                await self.socket.send_multipart(nothing)
        while not seam.ready:
            await self._turn(lambda: bool(seam.ready), patience, None, strict=strict)

    async def _turn(
        self,
        is_done: Callable[[], bool],
        patience: Patience,
        at_most: int | None,
        *,
        strict: bool,
    ) -> None:
        """Read, or wait while another task reads, until something may have changed.

        Args:
            is_done: what is waited for.
            patience: ends the wait by zmq.Again.
            at_most: milliseconds; the wait ends then, too.
            strict: as in ``recv``.
        """
        if self._is_reading:
            left = patience.left()
            wait = left if at_most is None else at_most if left is None else min(left, at_most)
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[woken] = is_done
            try:
                await asyncio.wait([woken], timeout=None if wait is None else wait / 1000)
            finally:
                del self._waiting[woken]
                self._wake()  # Whoever was to read next may have been cancelled.
            return
        self._is_reading = True
        try:
            await self._read(patience, at_most, strict=strict)
        finally:
            self._is_reading = False
            self._wake()

    def _wake(self) -> None:
        """Wake those who have what they waited for, and one to read."""
        is_reader_found = self._is_reading
        for woken, is_done in self._waiting.items():
            if woken.done():
                is_reader_found = True
            elif is_done():
                woken.set_result(None)
        if not is_reader_found:
            reader = next((one for one in self._waiting if not one.done()), None)
            if reader is not None:
                reader.set_result(None)

    async def _read(self, patience: Patience, at_most: int | None, *, strict: bool) -> None:
        """Take in what has arrived, or wait for it."""
        seam = self._seam
        while self._opening is None and seam.wants_more(strict=strict):
            # A REQ that has its answer, or an empty one, cannot receive before it sends.
            if seam.type == zmq.REQ and not int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                await self._wait_for_arrival(patience, at_most)
                return
            # With NOBLOCK the future is done when it is returned.
            arrival = asyncio.ensure_future(self.socket.recv_multipart(zmq.NOBLOCK))
            try:
                seam.pending.append(arrival.result())
            except zmq.Again:
                if seam.pending:
                    break
                await self._wait_for_arrival(patience, at_most)
                if at_most is not None:
                    return
        try:
            if seam.is_remote:
                passed = await self._open_in_thread(strict=strict)
            else:
                passed = seam.open(strict=strict)
        except StoreUnavailableError:
            # Whoever tries again at once must not starve the other tasks of the loop.
            await asyncio.sleep(0)
            raise
        finally:
            self._post()
        if not passed:
            patience.refuse()
            # A flood of refusals must not starve the other tasks of the loop.
            await asyncio.sleep(0)

    async def _wait_for_arrival(self, patience: Patience, at_most: int | None) -> None:
        left = patience.left()
        if at_most is None:
            await self.socket.poll(left)
        else:
            try:
                await self.socket.poll(at_most if left is None else min(left, at_most))
            except zmq.Again:
                await asyncio.sleep(0.001)  # As in poll.

    async def _open_in_thread(self, *, strict: bool) -> bool:
        """Open what is pending; the loop goes on meanwhile."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open(strict=strict))
            # Where nobody waits any more, nobody asks for the error either.
            self._opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._opening)

    async def _open(self, *, strict: bool) -> bool:
        arrivals = list(self._seam.pending)
        try:
            results = await asyncio.to_thread(self._seam.judge, arrivals)
            return self._seam.settle(arrivals, results, strict=strict)
        finally:
            self._opening = None

    # Requests and replies.

    async def request(  # noqa: PLR0913 (a call with its limits)
        self,
        payload: bytes,
        topic: Topic = None,
        *,
        timeout: int | None = None,  # noqa: ASYNC109 (zmq's name, in ms)
        retry: int = RETRY_MS,
        idempotent: bool = False,
        route: Sequence[bytes] | None = None,
    ) -> Message:
        """Return the reply to a request; see ``envelope.zeromq.SecureSocket.request``."""
        check_retry(retry)
        request = await self.send_request(payload, topic, idempotent=idempotent, route=route)
        return await self.wait(request, timeout=timeout, retry=retry)

    async def send_request(
        self,
        payload: bytes,
        topic: Topic = None,
        *,
        flags: int = 0,
        idempotent: bool = False,
        route: Sequence[bytes] | None = None,
    ) -> Request:
        """Send a request; see ``envelope.zeromq.SecureSocket.send_request``."""
        return await self._ask(payload, topic, flags, idempotent=idempotent, route=route)

    async def _ask(  # noqa: PLR0913 (as send_request)
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
        await self.flush(flags)
        if self._seam.sessions is not None:
            await self._make_room(self._seam.sessions, len(payload), flags)
        request = dialogue.ask(payload, topic, route, is_harmless=idempotent, label=label)
        try:
            await self._dispatch(request.frames or None, flags)
        except BaseException:
            dialogue.forget(request)
            raise
        return request

    async def wait(
        self,
        request: Request,
        *,
        timeout: int | None = None,  # noqa: ASYNC109 (zmq's name, in ms)
        retry: int = RETRY_MS,
    ) -> Message:
        """Return the reply to what was sent; see ``envelope.zeromq.SecureSocket.wait``."""
        check_retry(retry)
        dialogue = dialogue_of(self._seam)
        limit = int(self.socket.get(zmq.RCVTIMEO)) if timeout is None else timeout
        try:
            await self._pursue(request, Patience(limit), Tries(self.socket, retry), strict=False)
        except zmq.Again:
            raise timed_out(limit) from None
        finally:
            dialogue.forget(request)
        return result_of(request)

    async def sync(
        self,
        topic: Topic = None,
        *,
        timeout: int | None = None,  # noqa: ASYNC109 (zmq's name, in ms)
        route: Sequence[bytes] | None = None,
    ) -> Peer:
        """Make sure that the peer hears this end; see ``envelope.zeromq.SecureSocket.sync``."""
        request = await self._ask(b"", topic, 0, idempotent=True, route=route, label=SYNC)
        return (await self.wait(request, timeout=timeout, retry=RETRY_MS // 10)).sender

    async def reply(
        self, message: Message, payload: bytes, topic: Topic = None, *, flags: int = 0
    ) -> None:
        """Reply to a message; see ``envelope.zeromq.SecureSocket.reply``."""
        check_flags(flags)
        dialogue = dialogue_of(self._seam)
        await self.flush(flags)
        await self._dispatch(dialogue.reply(message, payload, topic), flags)

    async def _recv_asked(self, flags: int, *, strict: bool) -> Message:
        patience = self._patience(flags)
        if self._asked is None:
            raise UsageError("a REQ receives the reply to what it sent; there is nothing")
        request, tries = self._asked
        await self._pursue(request, patience, tries, strict=strict)
        self._asked = None
        return result_of(request)

    async def _pursue(
        self, request: Request, patience: Patience, tries: Tries, *, strict: bool
    ) -> None:
        """Receive until a request is over."""
        while not request.is_over:
            try:
                ahead = tries.left()
            except zmq.Again:
                frames = dialogue_of(self._seam).again(request)
                if frames is not None:
                    with contextlib.suppress(zmq.ZMQError):
                        self._send_now(frames)
                continue
            try:
                await self._turn(lambda: request.is_over, patience, ahead, strict=strict)
            except StoreUnavailableError:
                patience.left()
                await asyncio.sleep(_PAUSE)

    # The rest.

    @property
    def stats(self) -> Stats:
        """The opener's counters; see ``envelope.zeromq.SecureSocket.stats``."""
        return self._seam.stats

    async def aclose(self, linger: int | None = None) -> None:
        """Send what waits for company, waiting for room as long as the socket lingers; close."""
        if self.socket.closed:
            report_dropped(self._seam)
            return
        try:
            self._seam.seal_collected()
            with contextlib.suppress(zmq.Again, zmq.ContextTerminated):
                patience = Patience(int(self.socket.get(zmq.LINGER)) if linger is None else linger)
                sessions = self._seam.sessions
                while sessions is not None and sessions.manager.staged:
                    await self._pump(patience)
                while not self._push():
                    await self._poll_out(patience.left())
        finally:
            self._close(linger)

    def close(self, linger: int | None = None) -> None:
        """Send what waits for company, as far as there is room now, and close the socket inside.

        ``aclose`` waits for room.

        Raises:
            UsageError: as ``envelope.zeromq.SecureSocket.close``.
        """
        if self.socket.closed:
            report_dropped(self._seam)
            return
        unsent = self._seam.unsent
        # Past pyzmq's futures, which need a loop: the one of this socket may be over.
        line: zmq.Socket[bytes] = zmq.Socket.shadow(self.socket.underlying)
        try:
            self._seam.seal_collected()
            with contextlib.suppress(zmq.Again, zmq.ContextTerminated):
                while unsent:
                    line.send_multipart(unsent[0], zmq.NOBLOCK)
                    self._seam.sent()
        finally:
            self._close(linger)

    def _close(self, linger: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        report_dropped(self._seam)
        self.socket.close(linger)

    async def __aenter__(self) -> Self:
        """Return this."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the socket inside."""
        await self.aclose()
