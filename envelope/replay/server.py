"""A Redis or Valkey server: how it is reached, and when it may be relied on (SPEC 8.11).

Rules of this file: it knows nothing of envelopes. Nothing is tried twice, every wait has
an end, however the other side talks, and a conversation that broke off is never gone on
with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from envelope import clock as clocks
from envelope.errors import StoreUnavailableError, UsageError

try:
    import redis as client
    from redis.backoff import NoBackoff
    from redis.connection import parse_url
    from redis.exceptions import NoScriptError, RedisError, ResponseError
    from redis.retry import Retry
except ImportError:
    raise ImportError(
        "RedisReplayStore needs the Redis client: pip install 'signed-envelope[redis]'"
    ) from None

__all__ = ["NoScriptError", "ResponseError", "Server", "said"]

MAX_ANSWER: Final = 2**25
"""Bytes in one answer: over three times the largest memory that a sender can have."""


class _Line:
    """A socket that ends all waiting for one answer together, and takes only so much.

    A timeout of a socket's own is for each wait: a server that sends one byte now and
    then would hold its caller for ever.
    """

    def __init__(self, socket: Any, timeout: float) -> None:
        """Take over a socket that is connected, and wait for a first answer."""
        self._socket = socket
        self._timeout = clocks.microseconds(timeout)
        self.begin()

    def begin(self) -> None:
        """Begin to wait for another answer."""
        self._end = clocks.monotonic() + self._timeout
        self._room = MAX_ANSWER

    def _wait(self) -> Any:
        """Return the socket, which waits no longer than is left."""
        left = self._end - clocks.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left / clocks.SECOND)
        return self._socket

    def _took(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise OSError("an answer without end")

    def sendall(self, data: bytes) -> None:
        """Send all."""
        self._wait().sendall(data)

    def recv(self, size: int) -> bytes:
        """Return what came."""
        data: bytes = self._wait().recv(size)
        self._took(len(data))
        return data

    def recv_into(self, buffer: Any) -> int:
        """Receive as ``recv`` does; the parser in C takes this."""
        size: int = self._wait().recv_into(buffer)
        self._took(size)
        return size

    def __getattr__(self, name: str) -> Any:
        """Return what else the client wants of a socket."""
        return getattr(self._socket, name)


class Server:
    """One server, connected to when it is first asked. Not thread-safe.

    Attributes:
        name: host and port, or path, for people; no password.
        is_down: whether the last conversation died.
    """

    def __init__(self, url: str, timeout: float) -> None:
        """Note where it is; see ``RedisReplayStore`` for url and timeout, in seconds.

        Raises:
            UsageError: no such URL.
        """
        try:
            options = parse_url(url)  # type: ignore[no-untyped-call]  # redis-py says no types here
        except (ValueError, TypeError, AttributeError):
            raise UsageError(
                "url is redis://[[user]:password@]host[:port][/db], rediss://... for TLS, "
                "or unix://path"
            ) from None
        # What the URL may say of these is not for it to say.
        options |= {
            "decode_responses": False,
            "health_check_interval": 0,
            "protocol": 2,
            "redis_connect_func": self._greet,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            "retry_on_timeout": False,
            "socket_connect_timeout": timeout,
            "socket_timeout": timeout,
        }
        if "path" in options:
            self.name = str(options["path"])
        else:
            self.name = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        self.is_down = False
        self._timeout = timeout
        self._line: _Line
        kind = options.pop("connection_class", client.Connection)
        try:
            self._connection = kind(**options)
        except (ValueError, TypeError, AttributeError, RedisError) as error:
            raise UsageError(f"url has an option that is none: {said(error)}") from None

    def ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the replies to commands, in one round trip; error replies among them.

        Raises:
            Many things; see ``conversation``.
        """
        connection = self._connection
        connection.connect()
        self._line.begin()
        connection.send_packed_command(connection.pack_commands(commands))
        replies = []
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except ResponseError as error:
                replies.append(error)
        return replies

    @contextlib.contextmanager
    def conversation(self) -> Iterator[None]:
        """Turn what a conversation can die of into one error.

        A connection that was left in the middle is never used again: the next question
        could get the answer to the last.

        Raises:
            StoreUnavailableError: it died.
        """
        try:
            yield
            self.is_down = False
        except BaseException as error:
            self.is_down = True
            self.hang_up()
            # Whatever the client makes of what a server sends: no answer that fits.
            if isinstance(error, Exception):
                text = f"the replay store at {self.name}: {said(error) or type(error).__name__}"
                raise StoreUnavailableError(text) from None
            raise

    def hang_up(self) -> None:
        """Close the connection; the next question makes a new one."""
        self._connection.disconnect()

    def _greet(self, connection: Any) -> None:
        """Begin a connection: sign in, then see whether the server may be relied on.

        Raises:
            client.ConnectionError: it is a replica, or throws keys away when it is full.
        """
        self._line = connection._sock = _Line(connection._sock, self._timeout)  # noqa: SLF001 (no other way)
        connection.on_connect()
        connection.send_command("INFO")
        reply = connection.read_response()
        lines = reply.split(b"\r\n") if isinstance(reply, bytes) else []
        for line in (b"role:master", b"maxmemory_policy:noeviction"):
            if line not in lines:
                raise client.ConnectionError(f"not a server that has {line.decode()}")


def said(error: Exception) -> str:
    """Return the text of an error for a log: a server may have chosen it."""
    text = str(error)[:200]
    return text if text.isprintable() else ascii(text)
