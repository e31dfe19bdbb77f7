"""Replay protection: window (integers), guard (the rules), stores (where it lives).

See SPEC 8, and ``ReplayStore`` for the interface of a store.
"""

from envelope.replay.guard import Gaps, Guard
from envelope.replay.memory import MemoryReplayStore
from envelope.replay.sqlite import SQLiteReplayStore
from envelope.replay.store import ReplayGuard, ReplayStore
from envelope.replay.window import Window

__all__ = [
    "Gaps",
    "Guard",
    "MemoryReplayStore",
    "ReplayGuard",
    "ReplayStore",
    "SQLiteReplayStore",
    "Window",
]
