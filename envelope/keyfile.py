"""A seed on disk: private, atomic, and locked if a passphrase is given (SPEC 13.2).

Rules of this file:

- A key file is 0600 from its first byte on, and appears whole or not at all.
- It is refused if anyone else could have read or replaced it.
- An existing file is never overwritten.
- Errors name the file and the remedy, and never what is in it.
"""

from __future__ import annotations

import os
import stat
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from envelope import text
from envelope.errors import KeyFileError, UsageError
from envelope.primitives import CryptoError, aead_decrypt, aead_encrypt, argon2id, random_bytes


class Cost(NamedTuple):
    """What one guess of a passphrase costs."""

    passes: int
    memory_kib: int


COST: Final = Cost(passes=3, memory_kib=256 * 1024)
"""libsodium's "moderate": well above the second choice of RFC 9106 (3 passes, 64
MiB), and about a second of one core, once for each start."""

_MAX_PASSES: Final = 16
_MIN_MEMORY_KIB: Final = 8
_MAX_MEMORY_KIB: Final = 1024 * 1024
_MAX_FILE: Final = 4096
_numbers = struct.Struct(">II")


def save(  # noqa: PLR0913 (a file, what is in it, and what is handed in)
    path: Path,
    seed: bytes,
    *,
    comment: str,
    passphrase: str | None,
    random: Callable[[int], bytes] = random_bytes,
    cost: Cost = COST,
) -> None:
    """Write a new key file.

    Args:
        path: where; nothing may be there yet.
        seed: 32 bytes.
        comment: one line for a person, not secret.
        passphrase: locks the seed by Argon2id if given.
        random: returns n random bytes.
        cost: of Argon2id.

    Raises:
        KeyFileError: something is there already, or it cannot be written.
        UsageError: the passphrase is empty or no str.
    """
    if not path.name or "\0" in str(path):
        raise KeyFileError(f"{str(path)!r} names no file")
    if passphrase is None:
        line = text.encode(text.SECRET, seed)
    else:
        line = text.encode(text.LOCKED, _lock(seed, passphrase, random, cost))
    content = f"# {comment}\n{line}\n".encode()
    temporary = path.with_name(f".{path.name}.{random(6).hex()}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # link, unlike rename, fails if the name is taken.
            os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileExistsError:
        raise KeyFileError(f"{path} exists already; choose another name or move it away") from None
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from None


def sync_folder(folder: Path) -> None:
    """Make names in ``folder`` survive a power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load(path: Path, *, passphrase: str | None) -> bytes:
    """Read the seed (32 bytes) of a key file.

    Raises:
        KeyFileError: missing, unreadable, readable by others, damaged, locked and
            no passphrase given, or the passphrase is wrong.
        UsageError: the passphrase is empty or no str.
    """
    line = _read_line(path)
    try:
        if not line.startswith(text.LOCKED):
            return text.decode(text.SECRET, line)
        locked = text.decode(text.LOCKED, line)
    except UsageError as error:
        raise KeyFileError(f"{path} is not an identity: {error}") from None
    if passphrase is None:
        raise KeyFileError(f"{path} is locked; give its passphrase")
    return _unlock(path, locked, passphrase)


def _read_line(path: Path) -> str:
    """Return the one line of the file that is neither comment nor empty."""
    try:
        # Without O_NONBLOCK the opening of a FIFO would wait for ever.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyFileError(f"{path} does not exist; make it with: envelope keygen {path}") from None
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise KeyFileError(f"{str(path)!r} names no file") from None
    try:
        _check_private(path, os.fstat(handle))
        content = os.read(handle, _MAX_FILE + 1)
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from None
    finally:
        os.close(handle)
    try:
        rows = content.decode().split("\n")
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is not an identity: not UTF-8 text") from None
    lines = [row for row in rows if row and not row.startswith("#")]
    if len(content) > _MAX_FILE or len(lines) != 1:
        raise KeyFileError(f"{path} is not an identity: expected one envsec1... or envkey1... line")
    return lines[0]


def _check_private(path: Path, status: os.stat_result) -> None:
    """Check what was opened, not the name: there is no moment in between."""
    if stat.S_ISDIR(status.st_mode):
        raise KeyFileError(f"{path} is a folder, not a file; if it is a node, use Node.load()")
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{path} is not a file")
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(f"{path} belongs to another user; own it: chown $USER {path}")
    if status.st_mode & 0o077:
        raise KeyFileError(
            f"{path} can be read or written by others; make it private: chmod 600 {path} "
            "(and make a new identity if somebody may have read it)"
        )


def _lock(seed: bytes, passphrase: str, random: Callable[[int], bytes], cost: Cost) -> bytes:
    head = random(16) + _numbers.pack(*cost)
    nonce = random(24)
    key = _stretch(passphrase, head[:16], cost)
    return head + nonce + aead_encrypt(seed, text.LOCKED.encode() + head, nonce, key)


def _unlock(path: Path, locked: bytes, passphrase: str) -> bytes:
    head, nonce, sealed = locked[:24], locked[24:48], locked[48:]
    cost = Cost(*_numbers.unpack(head[16:]))
    if not (
        1 <= cost.passes <= _MAX_PASSES and _MIN_MEMORY_KIB <= cost.memory_kib <= _MAX_MEMORY_KIB
    ):
        raise KeyFileError(f"{path} asks for more work than any key file of ours; refused")
    try:
        key = _stretch(passphrase, head[:16], cost)
        return aead_decrypt(sealed, text.LOCKED.encode() + head, nonce, key)
    except CryptoError:
        raise KeyFileError(f"{path}: wrong passphrase (or too little memory to try it)") from None


def _stretch(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    if type(passphrase) is not str or not passphrase:
        raise UsageError("the passphrase is a non-empty str")
    try:
        normal = unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError:
        raise UsageError("the passphrase cannot be encoded as UTF-8") from None
    return argon2id(normal, salt, passes=cost.passes, memory_kib=cost.memory_kib)
