"""Events: lines of JSON from a log that may still grow.

Rules of this file: an event is one line that is a JSON object; the payload is that
line, byte for byte. What is none is counted and passed over. A log is somebody
else's file: lines, kinds and nesting are bounded.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

_CHUNK: Final = 2**18
_MAX_LINE: Final = 2**20
"""Bytes of a line, at most: far above any log's, far below what fills the memory."""
_MAX_KINDS: Final = 24
"""Kinds with a topic of their own. A SecureSocket keeps 32 streams."""
_OTHER: Final = "other"
_KIND = re.compile(r"[A-Za-z0-9_.-]{1,40}")


class Event(NamedTuple):
    """One line of a log."""

    kind: str
    payload: bytes


def find_logs() -> list[Path]:
    """Return the logs that come with the package, or stand in its checkout.

    Raises:
        FileNotFoundError: neither place has them.
    """
    package = Path(__file__).parent
    places = (package / "data", package.parents[1] / "examples" / "data")
    for place in places:
        found = [place / name for name in ("conn.log", "dns.log")]
        if all(path.is_file() for path in found):
            return found
    raise FileNotFoundError(f"no conn.log and dns.log in {' or '.join(map(str, places))}")


class Parser:
    """Lines to events.

    Attributes:
        skipped: how many lines were no JSON objects.
        first_skipped: the number of the first of these, from 1; 0 if there is none.
    """

    def __init__(self, path: Path) -> None:
        """Take the log's path; its stem names the kind of events that do not say theirs."""
        self._default = re.sub(r"[^A-Za-z0-9_.-]", "-", path.stem)[:40] or "log"
        self._kinds: set[str] = set()
        self._number = 0
        self.skipped = 0
        self.first_skipped = 0

    def parse(self, line: bytes) -> Event | None:
        """Return the event of one line, or None for a line that is none."""
        self._number += 1
        payload = line.strip()
        if not payload:
            return None
        try:
            found = json.loads(payload) if len(payload) <= _MAX_LINE else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            self.skipped += 1
            self.first_skipped = self.first_skipped or self._number
            return None
        return Event(self._kind(found.get("_path")), payload)

    def _kind(self, path: object) -> str:
        kind = path if isinstance(path, str) and _KIND.fullmatch(path) else self._default
        if kind not in self._kinds and len(self._kinds) >= _MAX_KINDS:
            return _OTHER
        self._kinds.add(kind)
        return kind


class Lines:
    """The lines of a file, also those that are written later."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be read.
        """
        self._path = path
        self._file = path.open("rb", buffering=0)
        self._part = b""

    def take(self) -> list[bytes] | None:
        """Return the next whole lines, perhaps none yet; None at the end for now."""
        chunk = self._file.read(_CHUNK)
        if not chunk:
            self._follow_rotation()
            return None
        *lines, self._part = (self._part + chunk).split(b"\n")
        if len(self._part) > _MAX_LINE + _CHUNK:
            # It is too long already: keep enough to know that, whatever comes.
            self._part = self._part[: _MAX_LINE + 1]
        return lines

    def rest(self) -> list[bytes]:
        """Return the last line if it has no end, when no more is to come."""
        part, self._part = self._part, b""
        return [part] if part else []

    def _follow_rotation(self) -> None:
        """Begin anew if the file was cut, or another one stands in its place."""
        here = os.fstat(self._file.fileno())
        try:
            there = self._path.stat()
            if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
                newer = self._path.open("rb", buffering=0)
                self.close()
                self._file = newer
            elif there.st_size < self._file.tell():
                self._file.seek(0)
            else:
                return
        except OSError:
            return  # Between the old file and the new one.
        self._part = b""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def load(path: Path, parser: Parser) -> list[Event]:
    """Return all events of a log as it is now.

    Raises:
        OSError: it cannot be read.
    """
    with Lines(path) as lines:
        return [event for line in _all(lines) if (event := parser.parse(line))]


def _all(lines: Lines) -> Iterator[bytes]:
    while (found := lines.take()) is not None:
        yield from found
    yield from lines.rest()
