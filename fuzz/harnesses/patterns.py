"""A pattern is refused, or permits the contexts and topics that the reference permits.

SPEC 3.5. The data is a pattern, a context, a topic and a frame, with zero bytes between.
"""

from __future__ import annotations

from random import Random

from vectors.reference import Peer as ReferencePeer
from vectors.world import ALICE

from envelope import Peer, PublicIdentity
from envelope.errors import UsageError
from fuzz.harness import Change
from fuzz.mutations import change_list

COVERS = ("envelope.trust",)
SHARE = 2
SIZE = 600
SEEDS = (
    b"*\0orders\0\0",
    b"orders\0orders\0dns/\0dns/x",
    b"orders.*\0orders.eu\0a\0b",
    b"orders.*\0orders.\0\0",
    b"*.*\0a.b\0\0",
    b"a*\0ab\0\0",
)
_ALICE = PublicIdentity(ALICE.pub)
_WORDS = (b"*", b".*", b".", b"orders", b"orders.", b"", b"\xc3\xa9", b"\xff", b"a" * 255)


def check(data: bytes) -> None:
    """Ask both."""
    parts = (data.split(b"\0", 3) + [b""] * 3)[:4]
    pattern = parts[0].decode("utf-8", "surrogateescape")
    context = parts[1].decode("utf-8", "replace")
    topics = [parts[2]] if parts[2] else None
    bound = (parts[3],) if parts[3] else ()
    try:
        peer = Peer("alice", _ALICE, contexts=[pattern], topics=topics)
    except UsageError:
        assert not _is_valid(parts[0])
        return
    assert _is_valid(parts[0])
    expected = ReferencePeer("alice", ALICE.pub, [pattern], topics)
    allowed = peer.allows_context(context) and peer.allows_topic(bound)
    assert allowed == expected.may_use(context, bound)


def _is_valid(pattern: bytes) -> bool:
    """SPEC 3.5, for bytes that should be UTF-8."""
    try:
        pattern.decode()
    except UnicodeDecodeError:
        return False
    if not 1 <= len(pattern) <= 255:
        return False
    name = pattern[:-2] if pattern.endswith(b".*") else pattern
    return pattern == b"*" or (b"*" not in name and len(name) > 0)


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change the parts as what they are."""
    if random.randrange(2):
        return change(data, max_size)

    def change_part(part: bytes) -> bytes:
        if random.randrange(2):
            return change(part, max_size)
        return random.choice((part + random.choice(_WORDS), random.choice(_WORDS)))

    parts = change_list(data.split(b"\0", 3), random, change_part)
    return b"\0".join(parts)[:max_size]
