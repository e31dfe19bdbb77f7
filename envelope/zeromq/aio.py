"""SecureSocket for asyncio: the same behaviour around a ``zmq.asyncio.Socket``.

Rules of this file: those of ``envelope.zeromq.socket``; only the waiting differs.
Sealing and opening take tens of microseconds and happen in the event loop; but where
the replay store is remote, opening waits for it in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import zmq
import zmq.asyncio

from envelope.errors import StoreUnavailableError, UsageError
from envelope.message import Message
from envelope.opener import Opener
from envelope.sealer import Sealer
from envelope.stats import Stats
from envelope.zeromq import seam
from envelope.zeromq.seam import OnRejected, Patience, Seam, Topic


class SecureSocket:
    """A ZeroMQ socket for asyncio whose every message is sealed and opened.

    As ``envelope.zeromq.SecureSocket``, method by method; one task at a time may
    receive. A cancelled ``recv`` loses no message.

    Attributes:
        socket: the ``zmq.asyncio.Socket`` inside, for options, ``bind``, ``subscribe``.
    """

    def __init__(
        self,
        socket: zmq.asyncio.Socket,
        *,
        sealer: Sealer | None = None,
        opener: Opener | None = None,
        on_rejected: OnRejected | None = None,
    ) -> None:
        """Wrap a socket; arguments and errors are those of the synchronous one."""
        if not isinstance(socket, zmq.asyncio.Socket):
            raise UsageError("socket is a zmq.asyncio.Socket")
        self.socket = socket
        self._seam = Seam(int(socket.get(zmq.TYPE)), sealer, opener, on_rejected)
        self._is_remote = opener is not None and opener.replay.is_remote
        self._opening: asyncio.Future[bool] | None = None
        """Goes on when whoever waits for it is cancelled."""

    async def send(self, payload: bytes, topic: Topic = None, *, flags: int = 0) -> None:
        """Seal and send one payload; see ``envelope.zeromq.SecureSocket.send``."""
        seam.check_flags(flags)
        await self.socket.send_multipart(self._seam.seal(payload, topic), flags)

    async def send_many(
        self, payloads: Sequence[bytes], topic: Topic = None, *, flags: int = 0
    ) -> None:
        """Seal and send payloads in bundles; see ``envelope.zeromq.SecureSocket.send_many``."""
        seam.check_flags(flags)
        for frames in self._seam.seal_many(payloads, topic):
            await self.socket.send_multipart(frames, flags)

    async def send_object(self, value: Any, topic: Topic = None, *, flags: int = 0) -> None:
        """Encode, seal and send an object; see ``envelope.zeromq.SecureSocket.send_object``."""
        await self.send(seam.encode(value), topic, flags=flags)

    async def recv(self, flags: int = 0, *, strict: bool = False) -> Message:
        """Receive the next message that passes; see ``envelope.zeromq.SecureSocket.recv``."""
        if not self._seam.ready:
            await self._receive(self._patience(flags), strict=strict)
        return self._seam.take()

    async def recv_bundle(self, flags: int = 0, *, strict: bool = False) -> list[Message]:
        """Receive one envelope; see ``envelope.zeromq.SecureSocket.recv_bundle``."""
        if not self._seam.ready:
            await self._receive(self._patience(flags), strict=strict)
        return self._seam.take_bundle()

    async def recv_object(self, flags: int = 0, *, strict: bool = False) -> Any:
        """Receive the next object; see ``envelope.zeromq.SecureSocket.recv_object``."""
        patience = self._patience(flags)
        while True:
            if not self._seam.ready:
                await self._receive(patience, strict=strict)
            found = self._seam.decode(self._seam.take(), strict=strict)
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
        seam.check_flags(flags)
        return Patience(0 if flags & zmq.NOBLOCK else int(self.socket.get(zmq.RCVTIMEO)))

    async def _receive(self, patience: Patience, *, strict: bool) -> None:
        """Fill ``ready``.

        A message is never in the hands of an ``await``: a task that is cancelled
        between its arrival and its own next turn would lose it.
        """
        while True:
            while self._opening is None and self._seam.wants_more(strict=strict):
                # With NOBLOCK the future is done when it is returned.
                arrival = asyncio.ensure_future(self.socket.recv_multipart(zmq.NOBLOCK))
                try:
                    self._seam.pending.append(arrival.result())
                except zmq.Again:
                    if self._seam.pending:
                        break
                    await self.socket.poll(patience.left())
            try:
                if self._is_remote:
                    is_ready = await self._open_in_thread(strict=strict)
                else:
                    is_ready = self._seam.open(strict=strict)
            except StoreUnavailableError:
                # Whoever tries again at once must not starve the other tasks of the loop.
                await asyncio.sleep(0)
                raise
            if is_ready:
                return
            patience.refuse()
            # A flood of refusals must not starve the other tasks of the loop.
            await asyncio.sleep(0)

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
            results = await asyncio.to_thread(self._seam.open_each, arrivals)
            return self._seam.settle(arrivals, results, strict=strict)
        finally:
            self._opening = None

    @property
    def stats(self) -> Stats:
        """The opener's counters; see ``envelope.zeromq.SecureSocket.stats``."""
        return self._seam.stats

    def close(self, linger: int | None = None) -> None:
        """Close the socket inside."""
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
        self.close()
