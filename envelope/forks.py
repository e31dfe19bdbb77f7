"""What a fork changes, told to all who need it: one counter, and fresh locks.

Rules of this file: it knows nothing of envelopes. ``process.life()`` differs in a
forked child: the fork hook says so, and a mark that no child inherits, for a fork that
went around Python. A lock that some thread of the parent held at the fork would stay
locked in the child for ever; whoever owns a lock has it replaced there by ``adopt``.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import threading
import weakref
from typing import Any, Final, Protocol

_WIPE_ON_FORK: Final = 18
"""MADV_WIPEONFORK of madvise(2), Linux 4.14; Python has no name for it."""
_UNKNOWN: Final = -1


class Owner(Protocol):
    """An object that guards its state by a lock of this name."""

    _lock: Any


class Mark(Protocol):
    """What is true in the process that set it, and false in its children."""

    def __getitem__(self, index: int, /) -> int:
        """Return, for 0, whether this process set it."""

    def __setitem__(self, index: int, value: int, /) -> None:
        """Set it, by 1 at 0."""


class _ById:
    """The process id, where there is no such page."""

    def __init__(self) -> None:
        self._pid = 0

    def __getitem__(self, index: int) -> int:
        return os.getpid() == self._pid

    def __setitem__(self, index: int, value: int) -> None:
        self._pid = os.getpid()


def _page() -> Mark:
    """Return a page that the kernel wipes for each child. Reading it is no call of the system.

    Raises:
        OSError: this kernel does not do that.
    """
    page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.madvise(_WIPE_ON_FORK)
    try:
        page.madvise(_UNKNOWN)
    except OSError:
        return page
    # An emulator, say, which agrees to whatever it is asked.
    raise OSError("this kernel's madvise is not to be believed")


def _mark() -> Mark:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return _page()
    return _ById()


class _Process:
    """This process, as opposed to the one it was forked from."""

    __slots__ = ("_owners", "_pid", "mark", "told")

    def __init__(self) -> None:
        self.told = 0
        """``life()`` as far as is known, if ``mark[0]``."""
        self.mark = _mark()
        self.mark[0] = 1
        self._pid = os.getpid()
        self._owners: weakref.WeakSet[Any] = weakref.WeakSet()

    def adopt(self, owner: Owner) -> None:
        """Replace the owner's lock in every forked child."""
        self._owners.add(owner)

    def life(self) -> int:
        """Return a number that no ancestor of this process has."""
        if not self.mark[0]:
            self._renew()
        return self.told

    def forked(self) -> None:
        """Begin another life, for the fork hook; unless an earlier hook of the child has asked.

        What that one made is of this life. The mark alone is not believed here, nor the process
        id, which in a namespace of its own a child may have from its parent.
        """
        is_told = self.mark[0] and self._pid == os.getpid()
        if not is_told or isinstance(self.mark, _ById):
            self._renew()

    def _renew(self) -> None:
        self.told += 1
        self._pid = os.getpid()
        for owner in list(self._owners):
            owner._lock = threading.RLock()  # noqa: SLF001 (what an Owner is for)
        # Last: a signal handler in between that asks does all of it by itself. Else it would
        # wait for a lock that a thread of the parent holds, which nobody here can release.
        self.mark[0] = 1


process = _Process()
os.register_at_fork(after_in_child=process.forked)
