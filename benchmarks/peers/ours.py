"""This library: one envelope for each message, bundles, and sessions.

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
from envelope.session import SessionManager, cipher
from peers.ways import CONTEXT, NO, YES, Does, Ends, Start, Way

SIGNED, SEALED, BUNDLE = "envelope signed", "envelope sealed to 1", "bundle of 128 sealed to 1"
SESSION = f"session, by {cipher.BY}"


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


def prepare_session() -> Start:
    """Make identities; the ends are two managers with a session, that the clock does not see."""
    alice, bob = Identity.generate(), Identity.generate()
    trust = TrustStore(
        Peer(name, one.public, contexts=[CONTEXT]) for name, one in (("alice", alice), ("bob", bob))
    )

    def start() -> Ends:
        here = SessionManager(alice, trust, context=CONTEXT, to=bob.public)
        there = SessionManager(bob, trust, context=CONTEXT)
        here.send(b"")
        for sender, receiver in ((here, there), (there, here), (here, there)):
            receiver.receive(sender.outbox.popleft().data)

        def read(data: bytes) -> bytes:
            message = there.receive(data)
            assert message is not None
            return message.payload

        return here.send, read

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
    Way(
        SESSION,
        # Whoever can read one can write one: it proves nothing to others. What is held back
        # opens until the session ends, minutes later.
        Does(encrypted=YES, to="1", context=YES, replayed=YES, permission=YES, lost=YES),
        prepare_session,
        kind="ours",
        excused=(UsageError,),
    ),
)
