"""Trust files: TOML to tables, with the line of every mistake (SPEC 13.3).

Rules of this file: it knows TOML and its keys, not what makes a peer valid. A
key that is not in the specification is an error: a misspelt ``topics`` would
otherwise allow everything.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from envelope.errors import TrustFileError

_REQUIRED: Final = ("name", "key", "contexts")
_OPTIONAL: Final = ("topics", "not_before", "not_after", "revoked")
_MAX_FILE: Final = 64 * 2**20
"""Two hundred thousand peers; beyond that the file is a mistake."""


class PeerTable(NamedTuple):
    """One ``[[peer]]`` of a trust file."""

    line: int
    key: str
    fields: dict[str, Any]
    """Everything but the key, as keyword arguments of ``Peer``."""


def read(path: Path) -> list[PeerTable]:
    """Read a trust file.

    Raises:
        TrustFileError: missing, unreadable, no TOML, or not a list of peers.
    """
    document, content = _parse(path)
    for name in document:
        if name != "peer":
            raise TrustFileError(f"{path}: unknown key {name!r}; expected [[peer]]")
    tables = document.get("peer", [])
    if not isinstance(tables, list):
        raise TrustFileError(f"{path}: peer is written [[peer]], once for each peer")
    lines = _header_lines(content, len(tables))
    return [_check(path, line, table) for line, table in zip(lines, tables, strict=True)]


def _parse(path: Path) -> tuple[dict[str, Any], str]:
    """Return the TOML document and its text."""
    try:
        # Without O_NONBLOCK the opening of a FIFO would wait for ever.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        # closefd=False: of a folder open() would raise and leave the handle to nobody.
        handle = os.open(path, flags)
        try:
            _check_safe(path, os.fstat(handle))
            with open(handle, "rb", closefd=False) as file:
                raw = file.read(_MAX_FILE + 1)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise _unread(f"{path} does not exist") from None
    except OSError as error:
        raise _unread(f"cannot read {path}: {error.strerror}") from None
    except TrustFileError:
        raise
    except ValueError:
        raise TrustFileError(f"{str(path)!r} names no file") from None
    if len(raw) > _MAX_FILE:
        raise TrustFileError(f"{path} is larger than any trust file")
    try:
        content = raw.decode()
    except UnicodeDecodeError:
        raise TrustFileError(f"{path} is not UTF-8") from None
    try:
        document = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        # tomllib's own text ends in "(at line 3, column 5)".
        raise TrustFileError(f"{path}: {error}") from None
    except RecursionError:
        raise TrustFileError(f"{path}: nested too deeply") from None
    except ValueError as error:
        # Python will not convert a number of thousands of digits.
        raise TrustFileError(f"{path}: {error}") from None
    return document, content


def _unread(reason: str) -> TrustFileError:
    """Return the error of a file whose content was not seen."""
    error = TrustFileError(reason)
    error.is_unread = True
    return error


def _check_safe(path: Path, status: os.stat_result) -> None:
    """Whoever may write this file decides whom we believe."""
    if not stat.S_ISREG(status.st_mode):
        raise TrustFileError(f"{path} is not a file")
    if status.st_uid not in (os.geteuid(), 0):
        raise TrustFileError(f"{path} belongs to another user; own it: chown $USER {path}")
    if status.st_mode & 0o022:
        raise TrustFileError(f"{path} can be written by others; forbid it: chmod go-w {path}")


def _header_lines(content: str, count: int) -> list[int]:
    """Return the line of each ``[[peer]]``, or line 1 where they cannot be told."""
    lines = [
        number
        for number, line in enumerate(content.split("\n"), 1)
        if re.match(r"\s*\[\[\s*(peer|\"peer\"|'peer')\s*\]\]", line)
    ]
    # Inline tables or a header inside a multi-line string: no line is better than a wrong one.
    return lines if len(lines) == count else [1] * count


def _check(path: Path, line: int, table: Any) -> PeerTable:
    where = f"{path}, line {line}"
    if not isinstance(table, Mapping):
        raise TrustFileError(f"{where}: a peer is a table")
    for name in table:
        if name not in _REQUIRED + _OPTIONAL:
            known = ", ".join(_REQUIRED + _OPTIONAL)
            raise TrustFileError(f"{where}: unknown key {name!r}; a [[peer]] has {known}")
    for name in _REQUIRED:
        if name not in table:
            raise TrustFileError(f"{where}: {name} is missing")
    fields = dict(table)
    key = fields.pop("key")
    if not isinstance(key, str):
        raise TrustFileError(f"{where}: key is an envpub1... text")
    return PeerTable(line, key, fields)
