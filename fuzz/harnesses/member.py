"""A member's text is the one text of what it holds, or a UsageError that repeats none of it.

SPEC 13.4. Whatever is read prints no secret.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from vectors import reference
from vectors.world import ALICE, BOB, NOW

from envelope import member
from envelope.errors import UsageError
from fuzz.harness import Change
from fuzz.mutations import change_list, number

COVERS = ("envelope.member",)

_SECRET = reference.secret_text(ALICE.seed)
_ROWS: list[Any] = [
    ["alice", reference.public_text(ALICE.pub), ["*"]],
    ["bob", reference.public_text(BOB.pub), ["orders"]],
]
SEEDS = (
    member.write(["alice", _SECRET, NOW, _ROWS]).encode(),
    member.write(["alice", _SECRET, 0, _ROWS[:1]]).encode(),
    member.write(["alice", _SECRET, True, _ROWS]).encode(),
    member.write(["bob", _SECRET, NOW, _ROWS]).encode(),
)
_BODY_AT = len("envmember1") + 16
_JUNK: tuple[Any, ...] = (None, True, 0, -1, 1.5, "", "alice", "\ud800", [], {}, ["*"], [["*"]])


def check(data: bytes) -> None:
    """Parse it."""
    given = data.decode("latin-1")
    try:
        found = member.Member.parse(given, clock=lambda: NOW)
    except UsageError as error:
        said = str(error)
        for at in range(_BODY_AT, len(given) - 12, 8):
            assert given[at : at + 12] not in said
        return
    name, secret, until, rows = json.loads(given[_BODY_AT:])
    assert member.write([name, secret, until, rows]) == given
    assert (found.name, found.identity.export()) == (name, secret)
    assert sorted(peer.name for peer in found.trust) == sorted(row[0] for row in rows)
    assert secret not in f"{found!r} {found.identity!r}"


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change bytes with the checksum that they need, or what the JSON holds."""
    if random.randrange(3) == 0:
        return change(data, max_size)
    body = data[_BODY_AT:].decode("latin-1")
    if random.randrange(2):
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = ["alice", _SECRET, NOW, _ROWS]
        return member.write(_change(document, random))[:max_size].encode("latin-1", "replace")
    body = change(body.encode("latin-1"), max_size - _BODY_AT).decode("latin-1")
    return ("envmember1" + member._checksum(body) + body).encode("latin-1")[:max_size]  # noqa: SLF001 (the mutator writes what nobody would)


def _change(document: Any, random: Random) -> list[Any]:
    """Change one value somewhere in a document."""
    if not isinstance(document, list) or random.randrange(12) == 0:
        return [random.choice(_JUNK), random.choice((number(random, 64), *_JUNK))]
    return change_list(
        document,
        random,
        lambda one: _change(one, random) if isinstance(one, list) else random.choice(_JUNK),
    )
