"""When a request is tried again (SPEC 16.3).

Rules of this file: it reads the state of a socket, and neither sends nor receives.
"""

from __future__ import annotations

from typing import Any, Final

import zmq

from envelope.errors import UsageError
from envelope.zeromq.seam import Patience

RETRY_MS: Final = 1000
"""How often a request is sent again by default: a lost one costs a second."""
_MOST_WAIT_MS: Final = 30_000
"""Between two tries of a REQ, at most, unless the first waited longer."""


class Tries:
    """The tries of one request; the first was made just now. Not thread-safe.

    A REQ drops what it has not read when it sends, and hears what answers its last try alone.
    So it reads first, and waits longer each time: if it always tried again before the answer is
    there, it would hear nothing.
    """

    __slots__ = ("_is_req", "_socket", "_tick", "_wait")

    def __init__(self, socket: zmq.Socket[Any], retry: int) -> None:
        """Begin to wait, for ``retry`` milliseconds."""
        self._socket = socket
        self._is_req = socket.get(zmq.TYPE) == zmq.REQ
        self._wait = retry
        self._tick = Patience(retry)

    def left(self) -> int | None:
        """Return the milliseconds until the next try, 0 where something is to be read before it.

        Raises:
            zmq.Again: it is time to try again; the wait for the one after that has begun.
        """
        try:
            return self._tick.left()
        except zmq.Again:
            if self._is_req and int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
                return 0
            if self._is_req:
                self._wait = min(2 * self._wait, max(self._wait, _MOST_WAIT_MS))
            self._tick = Patience(self._wait)
            raise


def check_retry(retry: int) -> None:
    """Check how often a request is to be sent again.

    Raises:
        UsageError: no number of milliseconds; with 0 it would be sent all the time.
    """
    if type(retry) is not int or retry < 1:
        raise UsageError("retry is a number of milliseconds, at least 1")
