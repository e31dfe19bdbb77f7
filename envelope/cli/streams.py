"""Binary stdin and stdout, and lines on stderr.

Rules of this file: bytes pass unchanged; input is bounded; what cannot be written
is an error and never lost in silence; stderr never ends up in stdout.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import TextIO


def read(path: Path | None, *, limit: int) -> bytes:
    """Return what a file holds, or stdin for None and ``-``.

    At most ``limit`` bytes and one more, which tells that it was too much.

    Raises:
        OSError: it cannot be read.
    """
    if path is not None and path != Path("-"):
        with path.open("rb") as file:
            return file.read(limit + 1)
    return _whole(sys.stdin, "stdin").buffer.read(limit + 1)


def write(data: bytes) -> None:
    """Write to stdout, all of it, now.

    Raises:
        OSError: it cannot be written.
    """
    stdout = _whole(sys.stdout, "stdout")
    try:
        stdout.buffer.write(data)
        stdout.buffer.flush()
    except OSError as error:
        error.filename = "stdout"
        raise


def write_text(text: str) -> None:
    """Write text and a line's end to stdout, now.

    Raises:
        OSError: it cannot be written.
    """
    stdout = _whole(sys.stdout, "stdout")
    # A terminal may know fewer characters than a table is drawn with.
    write(f"{text}\n".encode(stdout.encoding, "replace"))


def flush() -> None:
    """Write what others printed, while a failure can still be told.

    Raises:
        OSError: it cannot be written.
    """
    _whole(sys.stdout, "stdout").flush()


def is_terminal() -> bool:
    """Tell whether a person reads stdout."""
    return sys.stdout is not None and sys.stdout.isatty()


def say(line: str, *, end: str = "\n") -> None:
    """Write one line to stderr, if anybody listens."""
    # A file's name may hold a line's end, or what a terminal obeys.
    line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    # print(file=None) would write to stdout, between the bytes of a payload.
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, end=end, flush=True)  # noqa: T201 (a command line prints)


def abandon() -> None:
    """Give stdout up after a failure, so that the interpreter's exit adds no complaint."""
    with contextlib.suppress(OSError, AttributeError):
        stdout = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, stdout)
        os.close(nowhere)


def _whole(stream: TextIO | None, name: str) -> TextIO:
    """Return a standard stream that is open and blocks."""
    if stream is None:
        raise OSError(errno.EBADF, "closed", name)
    with contextlib.suppress(OSError):
        # A stream that does not block would end early, and half a payload be sealed.
        os.set_blocking(stream.fileno(), True)
    return stream
