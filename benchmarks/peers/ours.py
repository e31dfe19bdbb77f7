"""This library: one envelope for each message, and bundles.

Rules of this file: a receiver has a replay store in memory and a trust store that allows
the sender this context, and nothing is switched off. What else the library offers to
carry messages with is one more entry of ``WAYS``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from envelope import Identity, Opener, Peer, Sealer, TrustStore
from envelope.errors import UsageError
from envelope.replay import MemoryReplayStore
from peers.ways import CONTEXT, NO, YES, Does, Ends, Start, Way

SIGNED, SEALED, BUNDLE = "envelope signed", "envelope sealed to 1", "bundle of 128 sealed to 1"


def prepare(recipients: int, each: int) -> Start:
    """Make identities; the ends are a sealer and an opener."""
    alice, bob = Identity.generate(), Identity.generate()
    others = [Identity.generate().public for _ in range(recipients - 1)]
    to = [bob.public, *others] if recipients else []
    trust = TrustStore([Peer("alice", alice.public, contexts=[CONTEXT])])

    def start() -> Ends:
        sealer = Sealer(alice, context=CONTEXT, to=to)
        opener = Opener(
            trust, context=CONTEXT, identity=bob, replay=MemoryReplayStore(first_life=True)
        )
        return (sealer.seal, one(opener)) if each == 1 else (sealer.seal_bundle, many(opener))

    return start


def one(opener: Opener) -> Callable[[bytes], bytes]:
    """Return how to read an envelope."""
    return lambda data: opener.open(data).payload


def many(opener: Opener) -> Callable[[bytes], tuple[bytes, ...]]:
    """Return how to read a bundle."""
    return lambda data: opener.open_bundle(data).payloads


def way(name: str, recipients: int, each: int = 1) -> Way:
    """Return one way to use the library."""
    does = Does(
        signed=YES,
        encrypted=YES if recipients else NO,
        to=str(recipients or "all"),
        context=YES,
        replayed=YES,
        stale=YES,
        permission=YES,
        lost=YES,
    )
    start: Any = partial(prepare, recipients, each)
    return Way(name, does, start, each, kind="ours", excused=(UsageError,))


WAYS = (
    way(SIGNED, 0),
    way(SEALED, 1),
    way("envelope sealed to 4", 4),
    way("envelope sealed to 20", 20),
    way("bundle of 16 sealed to 1", 1, 16),
    way(BUNDLE, 1, 128),
    way("bundle of 1024 sealed to 1", 1, 1024),
)
