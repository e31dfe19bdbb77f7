"""SecureSocket: seal before send, open after receive, around a ``zmq.Socket``.

Rules of this file: it wraps a socket and never subclasses one. Options,
connections and subscriptions stay with the socket itself. All that is not
waiting is in ``seam``.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import zmq
import zmq.asyncio

from envelope.errors import UsageError
from envelope.message import Message
from envelope.opener import Opener
from envelope.sealer import Sealer
from envelope.stats import Stats
from envelope.zeromq import seam
from envelope.zeromq.seam import OnRejected, Patience, Seam, Topic


class SecureSocket:
    """A ZeroMQ socket whose every message is sealed and opened.

    For PUB, SUB, PUSH, PULL and PAIR. As the socket inside: for one thread at a
    time. A publisher keeps a stream for each of its first 32 topics; further ones
    share one, and subscribers to some of those see gaps that are none.

    If the sealer seals, what is received must be sealed too, and on PAIR also
    addressed to this end, whatever the opener's policy says.

    Attributes:
        socket: the ``zmq.Socket`` inside, for options, ``bind``, ``subscribe``.
    """

    def __init__(
        self,
        socket: zmq.Socket[Any],
        *,
        sealer: Sealer | None = None,
        opener: Opener | None = None,
        on_rejected: OnRejected | None = None,
    ) -> None:
        """Wrap a socket.

        Args:
            socket: a plain ``zmq.Socket``; for asyncio see ``envelope.zeromq.aio``.
            sealer: for sockets that send.
            opener: for sockets that receive.
            on_rejected: called with the RejectedError of every message that
                ``recv`` passes over. What it raises, ``recv`` raises.

        Raises:
            UsageError: the socket's type does not fit, or neither end was given.
        """
        if not isinstance(socket, zmq.Socket) or isinstance(socket, zmq.asyncio.Socket):
            raise UsageError("socket is a zmq.Socket; for asyncio use envelope.zeromq.aio")
        self.socket = socket
        self._seam = Seam(int(socket.get(zmq.TYPE)), sealer, opener, on_rejected)

    def send(self, payload: bytes, topic: Topic = None, *, flags: int = 0) -> None:
        """Seal and send one payload.

        Args:
            payload: any bytes.
            topic: sent in clear in front, and signed; str is UTF-8.
            flags: ``zmq.NOBLOCK`` or 0.

        Raises:
            UsageError: a wrong argument; nothing was sent.
            zmq.Again: the socket could not take it in time. The sequence is used:
                receivers will see a gap of one, which is the truth.
        """
        seam.check_flags(flags)
        self.socket.send_multipart(self._seam.seal(payload, topic), flags)

    def send_many(self, payloads: Sequence[bytes], topic: Topic = None, *, flags: int = 0) -> None:
        """Seal and send payloads in bundles of up to 256 and 64 KiB.

        One signature for each bundle: the way to send very many small messages.

        Raises:
            UsageError: a wrong argument.
            zmq.Again: as ``send``; bundles before were sent.
        """
        seam.check_flags(flags)
        for frames in self._seam.seal_many(payloads, topic):
            self.socket.send_multipart(frames, flags)

    def send_object(self, value: Any, topic: Topic = None, *, flags: int = 0) -> None:
        """Encode, seal and send an object: None, bool, int, float, str, bytes, list, dict.

        In place of ``send_pyobj``, without pickle (SPEC 10).

        Raises:
            UsageError: an object that has no encoding; nothing was sent.
            zmq.Again: as ``send``.
        """
        self.send(seam.encode(value), topic, flags=flags)

    def recv(self, flags: int = 0, *, strict: bool = False) -> Message:
        """Receive the next message that passes every check.

        Messages that do not are passed over, counted by code in ``stats`` and told
        to ``on_rejected``: garbage from anyone must not stop a receive loop, nor be
        silent. A bundle's messages come one at a time.

        Args:
            flags: ``zmq.NOBLOCK`` or 0.
            strict: raise the first refusal instead of passing over it.

        Raises:
            zmq.Again: nothing that passes came within the socket's RCVTIMEO, or at
                once with NOBLOCK (or a thousand refusals stood in the way).
            StoreUnavailableError: the replay store cannot answer; the message is
                kept and offered again by the next call.
            RejectedError: refused, with ``strict``.
            UsageError: the socket has no opener.
        """
        if not self._seam.ready:
            self._receive(self._patience(flags), strict=strict)
        return self._seam.take()

    def recv_bundle(self, flags: int = 0, *, strict: bool = False) -> list[Message]:
        """Receive all messages of the next envelope that passes every check.

        Raises:
            The same as ``recv``.
        """
        if not self._seam.ready:
            self._receive(self._patience(flags), strict=strict)
        return self._seam.take_bundle()

    def recv_object(self, flags: int = 0, *, strict: bool = False) -> Any:
        """Receive the next object; in place of ``recv_pyobj``, without pickle.

        To know who sent it, use ``recv`` and ``message.object()``. A payload that is
        no object is passed over like a refused message.

        Raises:
            The same as ``recv``.
        """
        patience = self._patience(flags)
        while True:
            if not self._seam.ready:
                self._receive(patience, strict=strict)
            found = self._seam.decode(self._seam.take(), strict=strict)
            if found is not None:
                return found[0]
            patience.refuse()

    def poll(self, timeout: int | None = None) -> bool:
        """Tell whether ``recv`` has something to look at within ``timeout`` milliseconds.

        Counts messages of an opened bundle too, which a ``zmq.Poller`` cannot see.
        """
        if self._seam.ready or self._seam.pending:
            return True
        return bool(self.socket.poll(timeout))

    def _patience(self, flags: int) -> Patience:
        self._seam.check_receives()
        seam.check_flags(flags)
        return Patience(0 if flags & zmq.NOBLOCK else int(self.socket.get(zmq.RCVTIMEO)))

    def _receive(self, patience: Patience, *, strict: bool) -> None:
        """Fill ``ready``."""
        while True:
            while self._seam.wants_more(strict=strict):
                try:
                    self._seam.pending.append(self.socket.recv_multipart(zmq.NOBLOCK))
                except zmq.Again:
                    if self._seam.pending:
                        break
                    self.socket.poll(patience.left())
            if self._seam.open(strict=strict):
                return
            patience.refuse()

    @property
    def stats(self) -> Stats:
        """The opener's counters.

        Raises:
            UsageError: the socket has no opener.
        """
        return self._seam.stats

    def close(self, linger: int | None = None) -> None:
        """Close the socket inside."""
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
