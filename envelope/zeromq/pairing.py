"""The messages of a pairing over ZeroMQ: one frame each, to one other end (SPEC 19.8).

Rules of this file: it carries bytes and judges none. Who speaks first to a listener is the
other end for the whole run; what anybody else sends is passed over.
"""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Final, Self

import zmq

from envelope import clock
from envelope.errors import UsageError
from envelope.pairing.messages import MAX_MESSAGE

_LINGER_MS: Final = 1000
"""For the last message; the other end is there, or nobody is."""
_QUEUE: Final = 16
"""Messages that wait; a run has nine."""
_NOTHING: Final = b""


class Line:
    """One end of a line between two. Not thread-safe; close it, or use ``with``.

    Attributes:
        endpoint: where it listens, with the port that the system chose, or is connected to.
    """

    def __init__(self, endpoint: str, *, listens: bool) -> None:
        """Open the line.

        Args:
            endpoint: of ZeroMQ, such as ``tcp://*:7000``.
            listens: whether to open the endpoint, rather than connect to it.

        Raises:
            UsageError: there can be no line.
        """
        self._route: bytes | None = None
        self._listens = listens
        self._context = zmq.Context()
        try:
            self._socket = self._context.socket(zmq.ROUTER if listens else zmq.DEALER)
            self._socket.set(zmq.LINGER, _LINGER_MS)
            self._socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE)
            self._socket.set(zmq.RCVHWM, _QUEUE)
            self._socket.set(zmq.IPV6, int("[" in endpoint))
            (self._socket.bind if listens else self._socket.connect)(endpoint)
            self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        except (zmq.ZMQError, TypeError, ValueError) as error:
            self._context.destroy(linger=0)
            verb = "listen at" if listens else "connect to"
            raise UsageError(f"cannot {verb} {endpoint!r}: {error}") from None

    def send(self, message: bytes) -> None:
        """Send to the other end, if it is still there."""
        route = [] if self._route is None else [self._route]
        # A line that takes no more is one that nobody reads: the run ends by its time.
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart([*route, message], zmq.NOBLOCK)

    def receive(self, until: int) -> bytes | None:
        """Return the next message of the other end; None if there is none in time.

        Args:
            until: a reading of the monotonic clock.
        """
        while (left := until - clock.monotonic()) > 0:
            # At least one millisecond: less would be no wait, and a busy loop.
            if not self._socket.poll(max(1, left // 1000)):
                continue
            frames = self._socket.recv_multipart()
            if self._listens:
                route, *frames = frames
                if self._route is None:
                    self._route = route
                elif self._route != route:
                    continue
            # Another number of frames is no message, and the exchange will say so.
            return frames[0] if len(frames) == 1 else _NOTHING
        return None

    def close(self) -> None:
        """Close it; the last message has a second to go out."""
        self._context.destroy(linger=_LINGER_MS)

    def __enter__(self) -> Self:
        """Return the line."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the line."""
        self.close()
