"""Passphrases: asked on the terminal without echo, or read from a file.

Rules of this file: never from stdin, which carries payloads; never from the
command line or the environment, which others can read; never shown.
"""

from __future__ import annotations

import getpass
import os
import stat
from pathlib import Path
from typing import Final

from envelope import text
from envelope.errors import UsageError

_TERMINAL: Final = Path("/dev/tty")
_MAX_FILE: Final = 4096
"""Bytes; as long as a key file may be."""


def to_lock(path: Path, *, wanted: bool, file: Path | None) -> str | None:
    """Return the passphrase for a new key file, or None if it is to have none.

    Raises:
        UsageError: two ways at once, no terminal, or the two answers differ.
        OSError: the passphrase file cannot be read.
    """
    if file is not None:
        if wanted:
            raise UsageError("--passphrase asks, --passphrase-file reads; give one of them")
        return _read(file)
    if not wanted:
        return None
    answer = _ask(f"Passphrase for {path}: ")
    if _ask("Again: ") != answer:
        raise UsageError("the two passphrases differ; nothing was written")
    return answer


def to_open(path: Path, *, file: Path | None) -> str | None:
    """Return the passphrase for an existing key file, or None if it is not locked.

    Raises:
        UsageError: it is locked, and there is no terminal to ask on.
        OSError: the passphrase file cannot be read.
    """
    if file is not None:
        return _read(file)
    return _ask(f"Passphrase for {path}: ") if _is_locked(path) else None


def _is_locked(path: Path) -> bool:
    """Tell whether a key file is locked; what else is wrong with it, loading it says."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            lines = file.read(_MAX_FILE).splitlines()
    except OSError:
        return False
    return any(line.startswith(text.LOCKED.encode()) for line in lines)


def _read(file: Path) -> str:
    """Return the one line of a passphrase file."""
    with file.open("rb") as opened:
        mode = os.fstat(opened.fileno()).st_mode
        # A pipe (a shell's <(...)) belongs to whoever made it.
        if stat.S_ISREG(mode) and mode & 0o077:
            raise UsageError(
                f"{file} can be read or written by others; make it private: chmod 600 {file}"
            )
        content = opened.read(_MAX_FILE + 1)
    try:
        line = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not a passphrase: not UTF-8 text") from None
    if not line or "\n" in line or len(content) > _MAX_FILE:
        raise UsageError(f"{file} is not a passphrase: expected one line of text")
    return line


def _ask(prompt: str) -> str:
    """Return what is typed on the terminal."""
    try:
        # getpass would fall back to stdin, which carries a payload.
        with _TERMINAL.open("rb"):
            pass
    except OSError:
        raise UsageError(
            "there is no terminal to ask for a passphrase on; give --passphrase-file FILE"
        ) from None
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise UsageError("no passphrase was given") from None
