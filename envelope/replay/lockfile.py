"""One process at a time: a lock beside a file, which names who holds it.

Rules of this file: the lock is the kernel's, so it ends with its process, however
that ends, and a forked child does not have it. What stands in the lock file is for
people only. The lock file stays: removing it would let two processes lock two files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from envelope.errors import StoreFileError
from envelope.forks import process


class _Registry:
    """What this process holds: by device and inode, in which life.

    POSIX locks do not tell a process from itself, and closing any handle of the file
    would drop the lock.
    """

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}
        self._lock = threading.RLock()
        process.adopt(self)

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[tuple[int, int], int]]:
        process.life()  # In a child this replaces the lock, before it is taken.
        with self._lock:
            yield self.held


_registry = _Registry()


class LockFile:
    """The lock of one file. Released at last when the process ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            StoreFileError: somebody has it, or the lock file cannot be made.
        """
        self._path = path.with_name(path.name + ".lock")
        with _registry.changing() as held:
            try:
                self._handle, self._key = self._take(path, held)
            except OSError as error:
                raise StoreFileError(f"cannot lock {self._path}: {error.strerror}") from None
            held[self._key] = process.life()

    def _take(self, path: Path, held: dict[tuple[int, int], int]) -> tuple[int, tuple[int, int]]:
        if self._path.exists() and held.get(_key(self._path.stat())) == process.life():
            raise StoreFileError(f"{path} is open in this process already; share the store")
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except (BlockingIOError, PermissionError):
            holder = os.pread(handle, 20, 0).decode(errors="replace").strip() or "another"
            os.close(handle)
            raise StoreFileError(
                f"{path} is in use by process {holder}; a store is for one process at a time: "
                "end that one, or give this one a node or a store of its own"
            ) from None
        except OSError:
            os.close(handle)
            raise
        return handle, _key(os.fstat(handle))

    def release(self) -> None:
        """Let the next one have it."""
        with _registry.changing() as held:
            del held[self._key]
            os.close(self._handle)


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
