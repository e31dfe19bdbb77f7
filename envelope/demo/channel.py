"""The child's end of its pipes to the parent: settings and commands in, reports out.

Rules of this file: one JSON object or one word a line. Keys come this way and by
no other: not on the command line, not in the environment. When the parent is gone,
its end of stdin closes and the child ends: nothing outlives the parent.
"""

from __future__ import annotations

import json
import os
import select
from typing import Any, BinaryIO, Final

GO: Final = "go"
"""To a publisher: everybody is connected, begin."""
FINISH: Final = "finish"
"""To all: come to an end, and report the rest."""

EVERY: Final = 250_000
"""Microseconds between two reports: a few a second, for whoever watches."""


class ParentGoneError(Exception):
    """Nobody is there to report to: the child ends."""


class Channel:
    """Two pipes. For one thread."""

    def __init__(self, source: int, sink: BinaryIO) -> None:
        """Take the file descriptor to read, and the stream to write."""
        self._source = source
        self._sink = sink
        self._unread = b""

    def fileno(self) -> int:
        """Return what a poller can wait for: there is a command, or the end."""
        return self._source

    def setting(self) -> dict[str, Any]:
        """Wait for the first line, and return it.

        Raises:
            ParentGoneError: there is none.
        """
        while (line := self._line()) is None:
            self._fill()
        setting: dict[str, Any] = json.loads(line)
        return setting

    def command(self, timeout_us: int = 0) -> str | None:
        """Return the next command, or None if none comes within the time.

        Raises:
            ParentGoneError: none will come.
        """
        line = self._line()
        if line is None and select.select([self._source], [], [], timeout_us / 1_000_000)[0]:
            self._fill()
            line = self._line()
        return None if line is None else line.decode()

    def tell(self, report: dict[str, Any]) -> None:
        """Send a report.

        Raises:
            ParentGoneError: nobody reads it.
        """
        try:
            self._sink.write(json.dumps(report, separators=(",", ":")).encode() + b"\n")
            self._sink.flush()
        except BrokenPipeError:
            raise ParentGoneError from None

    def _line(self) -> bytes | None:
        line, newline, rest = self._unread.partition(b"\n")
        if not newline:
            return None
        self._unread = rest
        return line

    def _fill(self) -> None:
        data = os.read(self._source, 65_536)
        if not data:
            raise ParentGoneError
        self._unread += data
