"""Builders that tests share: identities, a clock to turn, a small world.

Rules of this file: nothing here is clever. A test that reads it once can read
every story. All keys are derived from fixed seeds and are for tests only.
"""

from __future__ import annotations

import hashlib
import random as stdlib_random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from envelope import Identity, Opener, Peer, Policy, Sealer, TrustStore
from envelope.errors import RejectedError
from envelope.replay import MemoryReplayStore

START = 1_800_000_000_000_000
"""Where test clocks begin: Unix microseconds, in January 2027."""
SECOND = 1_000_000
STREAM = b"t" * 16


def identity(name: str) -> Identity:
    """Return the test identity of this name; always the same one."""
    return Identity(
        hashlib.blake2b(b"envelope test key: " + name.encode(), digest_size=32).digest()
    )


class FakeClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move by so many seconds; negative ones set it back."""
        self.now += round(seconds * SECOND)


def seeded(seed: int = 0) -> Callable[[int], bytes]:
    """Return a source of repeatable bytes; for tests only."""
    return stdlib_random.Random(seed).randbytes


@dataclass
class World:
    """Alice, Bob, Carol and Mallory in the context "orders", on one clock.

    Everybody but Mallory is in the trust store and may send in "orders".
    """

    clock: FakeClock = field(default_factory=FakeClock)
    context: str = "orders"

    def __post_init__(self) -> None:
        self.alice = identity("alice")
        self.bob = identity("bob")
        self.carol = identity("carol")
        self.mallory = identity("mallory")
        self.trust = TrustStore(
            Peer(name, identity(name).public, contexts=[self.context])
            for name in ("alice", "bob", "carol")
        )

    def sealer(self, who: Identity | None = None, **options: Any) -> Sealer:
        """Return a sealer; Alice's, for everyone, unless told otherwise."""
        options.setdefault("context", self.context)
        return Sealer(who or self.alice, clock=self.clock, **options)

    def store(self, *, first_life: bool = True, max_future: float = 2.0) -> MemoryReplayStore:
        """Return a replay memory on this world's clock."""
        return MemoryReplayStore(first_life=first_life, max_future=max_future, clock=self.clock)

    def opener(self, who: Identity | None = None, **options: Any) -> Opener:
        """Return an opener; Bob's, with a memory of its own, unless told otherwise."""
        options.setdefault("context", self.context)
        options.setdefault("trust", self.trust)
        policy = options.setdefault("policy", Policy())
        options.setdefault("replay", self.store(max_future=policy.max_future))
        return Opener(identity=who or self.bob, clock=self.clock, monotonic=self.clock, **options)


def flip(data: bytes, position: int, mask: int = 1) -> bytes:
    """Return the data with some bits of one byte inverted."""
    changed = bytearray(data)
    changed[position] ^= mask
    return bytes(changed)


def mark(guard, sequence, sent_at=START, *, stream=STREAM, **options):
    """Mark one envelope with a replay guard; return ``skipped`` or the code."""
    options = {"full_at": 2, "window": 64, "expected": False, "forget_before": -1} | options
    try:
        return guard.mark(stream, sequence, sent_at, **options)
    except RejectedError as error:
        return error.code
