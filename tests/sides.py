"""Ends of sessions on clocks to turn, and the way between two of them.

Rules of this file: nothing is delivered but by a call, and everything that was ever sent is
kept. Times are handed in.
"""

from __future__ import annotations

from typing import Any

import pytest
from support import START, FakeClock, identity, seeded

from envelope import Peer, Policy, TrustStore, primitives
from envelope.errors import RejectedError
from envelope.session import SessionManager, handshake

CONTEXT = "orders"
MONOTONIC = 5_000_000_000
"""Where monotonic clocks of tests begin."""


WRONG_ENDS: list[tuple[dict[str, Any], str]] = [
    ({"identity": identity("bob").public}, "identity is an Identity"),
    ({"trust": {}}, "trust is a TrustStore"),
    ({"policy": {}}, "policy is a Policy"),
    ({"policy": Policy(max_size=173)}, "max_size is at least 174"),
    ({"timing": 3}, "timing is a Timing"),
    ({"context": ""}, "context is a non-empty str"),
]
"""Arguments of an end, and of a manager, that are refused, and what is said then."""


def note_statics(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list of the keys that static keys are multiplied with from now on."""
    keys: list[bytes] = []

    def x25519(secret: bytes, public: bytes) -> bytes:
        keys.append(public)
        return primitives.x25519(secret, public)

    monkeypatch.setattr(handshake, "x25519", x25519)
    return keys


class Side:
    """One end through its lives: an identity, a trust store, clocks, and a manager."""

    def __init__(
        self, name: str, *peers: str, mono: FakeClock | None = None, **options: Any
    ) -> None:
        self.name = name
        self.identity = identity(name)
        self.mono = mono or FakeClock(MONOTONIC)
        self.wall = FakeClock(START)
        self.options = {"context": CONTEXT} | options
        self.trust = TrustStore()
        self.peers = peers
        self.permit(*peers)
        self.lives = 0
        self.begin()

    def begin(self) -> None:
        """Begin another life: nothing is left of the one before."""
        self.lives += 1
        to = identity(self.peers[0]).public if len(self.peers) == 1 else None
        defaults = {"to": to, "random": seeded(f"{self.name} {self.lives}")}
        self.manager = SessionManager(
            self.identity,
            self.trust,
            clock=self.wall,
            monotonic=self.mono,
            **defaults | self.options,
        )

    def permit(self, *names: str, **fields: Any) -> None:
        """Trust these peers and nobody else."""
        self.trust.replace(
            Peer(name, identity(name).public, **{"contexts": [CONTEXT]} | fields) for name in names
        )

    def send(self, payload: bytes = b"payload", **options: Any) -> list[bytes]:
        """Send a payload; return the data messages and all else that is to go now."""
        data = self.manager.send(payload, **options)
        return self.out() + ([] if data is None else [data])

    def out(self) -> list[bytes]:
        """Return what is in the outbox, which is empty then."""
        outbox = self.manager.outbox
        return [outbox.popleft().data for _ in range(len(outbox))]

    def hear(self, data: bytes, **options: Any) -> bytes | str | None:
        """Take in a message; return its payload, None, or the code of the refusal."""
        try:
            message = self.manager.receive(data, **options)
        except RejectedError as error:
            return error.code
        return None if message is None else message.payload

    def tick(self) -> list[bytes]:
        """Do what is due; return what goes."""
        self.manager.tick()
        return self.out()

    def link(self, address: Any = ()) -> Any:
        """Return the link at an address, of the one peer that has one there; or None."""
        found = [link for link in self.manager.links if link.address == address]
        assert len(found) < 2
        return found[0] if found else None

    @property
    def current(self) -> Any:
        """The session by which this end sends."""
        link = self.link()
        return None if link is None else link.current

    def state(self) -> Any:
        """Return all that a refusal must leave as it is."""
        exchange = self.manager._exchange
        tables = exchange.tables
        return (
            sorted(tables.channels),
            sorted(tables.asked),
            exchange._heard.state(),
            {
                place: (
                    link.slots(),
                    link.initiation,
                    list(link.staged),
                    link.heard_at,
                    link.owed_since,
                    link.unanswered_since,
                    link.is_lost,
                    [(c.window.top, c.window.bits(), c.accepted) for c in link.channels()],
                )
                for place, link in tables.links.items()
            },
        )


class Pair:
    """Alice and Bob on one monotonic clock; either may begin."""

    def __init__(self, **options: Any) -> None:
        self.mono = FakeClock(MONOTONIC)
        self.alice = Side("alice", "bob", mono=self.mono, **options)
        self.bob = Side("bob", "alice", mono=self.mono, **options)

    def other(self, side: Side) -> Side:
        """Return the other end."""
        return self.bob if side is self.alice else self.alice

    def carry(self, *sides: Side) -> list[bytes]:
        """Deliver all that is to go, both ways, until nothing is; return the payloads."""
        payloads = []
        moved = True
        while moved:
            moved = False
            for side in sides or (self.alice, self.bob):
                for data in side.out():
                    moved = True
                    heard = self.other(side).hear(data)
                    if type(heard) is bytes:
                        payloads.append(heard)
        return payloads

    def open(self) -> Pair:
        """Have a session, for which Alice asked, heard at both ends."""
        assert self.alice.manager.send(b"first") is None
        assert self.carry() == [b"first"]
        assert self.bob.hear(self.alice.send(b"x")[0]) == b"x"
        assert self.alice.hear(self.bob.send(b"y")[0]) == b"y"
        return self

    def pass_(self, seconds: float) -> list[bytes]:
        """Let time pass, with a tick whenever one is due, and carry; return the payloads."""
        payloads = []
        end = self.mono.now + round(seconds * 1_000_000)
        while True:
            due = [t for s in (self.alice, self.bob) if (t := s.manager.next_tick()) is not None]
            step = min([end, *due])
            self.advance((max(step, self.mono.now) - self.mono.now) / 1_000_000)
            for side in (self.alice, self.bob):
                side.manager.tick()
            payloads += self.carry()
            if self.mono.now >= end:
                return payloads

    def advance(self, seconds: float) -> None:
        """Let time pass at both ends, and do nothing."""
        for clock in (self.mono, self.alice.wall, self.bob.wall):
            clock.advance(seconds)
