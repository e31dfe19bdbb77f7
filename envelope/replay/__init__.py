"""Replay protection: window (integers), guard (the rules), stores (where it lives).

See SPEC 8, and ``ReplayStore`` for the interface of a store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envelope.replay.guard import Gaps, Guard
from envelope.replay.memory import MemoryReplayStore
from envelope.replay.sqlite import SQLiteReplayStore
from envelope.replay.store import Batch, Mark, ReplayGuard, ReplayStore
from envelope.replay.window import Window

if TYPE_CHECKING:
    from envelope.replay.redis import RedisReplayStore

__all__ = [
    "Batch",
    "Gaps",
    "Guard",
    "Mark",
    "MemoryReplayStore",
    "RedisReplayStore",
    "ReplayGuard",
    "ReplayStore",
    "SQLiteReplayStore",
    "Window",
]


def __getattr__(name: str) -> Any:
    """Import the Redis client only for those who use it."""
    if name == "RedisReplayStore":
        from envelope.replay.redis import RedisReplayStore  # noqa: PLC0415 (an extra)

        return RedisReplayStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
