"""Who plays in the stories, what they send, and how their world changes.

Rules of this file: it is what several stories share; what one story needs stands
there.
"""

from __future__ import annotations

import pytest
from simulator import Receiver
from support import identity

ALICE, BOB, CAROL = (identity(name).public for name in ("alice", "bob", "carol"))

KINDS = {
    "signed": {},
    "addressed": {"to": [BOB], "sealed": False},
    "sealed": {"to": [BOB]},
}
"""What makes a sealer of each kind: for everyone, or for Bob."""

each_kind = pytest.mark.parametrize("kind", KINDS)
each_cache = pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
"""Whether the receiver has opened something of this sender and key epoch before."""


def restarted(world, **options):
    """Return Bob after a restart: his memory is gone, and he says so (SPEC 8.7)."""
    return Receiver(world.opener(replay=world.store(first_life=False), **options))


def write_trust(file, *peers):
    """Write a trust file of these peers, that nobody else may write to."""
    tables = []
    for peer in peers:
        table = f'[[peer]]\nname = "{peer.name}"\nkey = "{peer.public}"\ncontexts = ["orders"]\n'
        if peer.not_after is not None:
            table += f"not_after = {peer.not_after.isoformat()}\n"
        tables.append(table + ("revoked = true\n" if peer.revoked else ""))
    file.write_text("\n".join(tables), encoding="utf-8")
    file.chmod(0o600)
