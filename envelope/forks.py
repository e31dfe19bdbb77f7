"""What a fork changes, told to all who need it: one counter, and fresh locks.

Rules of this file: it knows nothing of envelopes. ``process.life()`` differs in a
forked child: the fork hook says so, and the process id is compared too, for a fork
that went around Python. A lock that some thread of the parent held at the fork
would stay locked in the child for ever; whoever owns a lock has it replaced there
by ``adopt``.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Protocol


class Owner(Protocol):
    """An object that guards its state by a lock of this name."""

    _lock: Any


class _Process:
    """This process, as opposed to the one it was forked from."""

    __slots__ = ("_owners", "_pid", "told")

    def __init__(self) -> None:
        self.told = 0
        """``life()`` as far as the fork hook knows, without a call of the system."""
        self._pid = os.getpid()
        self._owners: weakref.WeakSet[Any] = weakref.WeakSet()

    def adopt(self, owner: Owner) -> None:
        """Replace the owner's lock in every forked child."""
        self._owners.add(owner)

    def life(self) -> int:
        """Return a number that no ancestor of this process has."""
        if os.getpid() != self._pid:
            self._renew()
        return self.told

    def _renew(self) -> None:
        self._pid = os.getpid()
        self.told += 1
        for owner in list(self._owners):
            owner._lock = threading.RLock()  # noqa: SLF001 (what an Owner is for)


process = _Process()
os.register_at_fork(after_in_child=process._renew)  # noqa: SLF001 (its own module)
