"""A trust file gives peers that say what the file says, or is a TrustFileError.

SPEC 13.3, 3.5, 3.6. What was loaded is written down again, loaded, and the same.
"""

from __future__ import annotations

import json
import tomllib
from datetime import datetime
from random import Random

from vectors import reference
from vectors.world import ALICE, BOB, CAROL

from envelope import Peer, TrustStore
from envelope.errors import TrustFileError
from fuzz.files import Sheet
from fuzz.harness import Change
from fuzz.toml import change_lines

COVERS = ("envelope.trustfile", "envelope.trust")

_KEYS = [reference.public_text(one.pub).encode() for one in (ALICE, BOB, CAROL)]
_WORDS = (
    b"[[peer]]",
    b'[["peer"]]',
    b"[peer]",
    b'name = "alice"',
    b'name = "bob"',
    *(b'key = "' + key + b'"' for key in _KEYS),
    b'contexts = ["orders", "orders.*"]',
    b'contexts = ["*"]',
    b'topics = ["dns/"]',
    b"not_before = 2026-01-01T00:00:00Z",
    b"not_after = 2027-06-01T00:00:00Z",
    b"revoked = true",
    *(b"name", b"key", b"contexts", b"topics", b"revoked", b"peer", b"else"),
    b"not_before = 2028-01-01T00:00:00Z",
    b"# a comment",
)
_PEER = b"[[peer]]\n" + b"\n".join((_WORDS[3], _WORDS[5], _WORDS[8])) + b"\n"
SEEDS = (
    b"",
    _PEER,
    _PEER + b"\n".join((b"[[peer]]", _WORDS[4], _WORDS[6], *_WORDS[9:13])) + b"\n",
    _PEER + b"\n".join((b"[[peer]]", _WORDS[3], _WORDS[7], _WORDS[8])) + b"\n",
    b'peer = [{ name = "alice", contexts = ["*"], ' + _WORDS[5] + b" }]\n",
)
_sheet = Sheet()


def check(data: bytes) -> None:
    """Load it, and what it is written down as."""
    try:
        store = TrustStore.load(_sheet.write(data))
    except TrustFileError as error:
        assert str(_sheet.path) in str(error)
        return
    peers = list(store)
    tables = tomllib.loads(data.decode()).get("peer", [])
    assert [(table["name"], table["key"]) for table in tables] == [
        (peer.name, str(peer.public)) for peer in peers
    ]
    for peer in peers:
        assert peer.key_id == reference.key_id(peer.public.public)
        assert peer.begins < peer.ends
    again = TrustStore.load(_sheet.write("\n".join(map(_write, peers)).encode()))
    assert list(again) == peers


def _write(peer: Peer) -> str:
    """Return a peer as TOML; JSON's strings and lists are TOML's too."""
    lines = ["[[peer]]", f"name = {json.dumps(peer.name, ensure_ascii=False)}"]
    lines += [f'key = "{peer.public}"', f"revoked = {json.dumps(peer.revoked)}"]
    lines.append(f"contexts = {_array(list(peer.contexts))}")
    if peer.topics is not None:
        topics = [topic if isinstance(topic, str) else topic.decode() for topic in peer.topics]
        lines.append(f"topics = {_array(topics)}")
    for name in ("not_before", "not_after"):
        date: datetime | None = getattr(peer, name)
        if date is not None:
            lines.append(f"{name} = {date.isoformat()}")
    return "\n".join(lines)


def _array(texts: list[str]) -> str:
    # TOML wants DEL escaped, JSON does not.
    return json.dumps(texts, ensure_ascii=False).replace("\x7f", "\\u007f")


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change lines, and what stands in them."""
    return change_lines(data, max_size, random, change, _WORDS)
