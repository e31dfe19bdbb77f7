"""The script ``mark.lua`` as seen from here: what it takes, answers and stores (SPEC 8.11).

Rules of this file: it asks nobody and keeps nothing. What a server says is believed only
if it is of the right form, and is an answer to the very question.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import struct
from collections.abc import Mapping, Sequence
from typing import Final

from envelope import clock as clocks
from envelope.errors import (
    BeforeStartError,
    FutureError,
    RejectedError,
    ReplayedError,
    TooOldError,
)
from envelope.replay.guard import NEVER, Guard, Remembered
from envelope.replay.store import Mark
from envelope.wire import MAX_SEQUENCE

SOURCE: Final = importlib.resources.files(__package__).joinpath("mark.lua").read_text("utf-8")

REFUSALS: Final[dict[int, tuple[type[RejectedError], str]]] = {
    -1: (BeforeStartError, "stamped before the shared replay memory begins"),
    -2: (TooOldError, "stamped before this sender's floor"),
    -3: (TooOldError, "behind the replay window of its stream"),
    -4: (ReplayedError, "a receiver that shares this replay store accepted it before"),
    -5: (TooOldError, "older than every stream remembered of this sender"),
    -6: (FutureError, "stamped further ahead of the replay store's clock than max_future"),
}
"""What its verdicts below 0 mean; one of 0 or more is ``skipped``."""

OVERTAKEN: Final = "OVERTAKEN"
"""How the error begins that says: a later attempt of this client is known."""

_FUTURE: Final = min(REFUSALS)
_pack_mark = struct.Struct(">16sQqB").pack
_pack_limits = struct.Struct(">qqqq").pack
_META: Final = struct.Struct(">10q")
_HEAD: Final = struct.Struct(">7q")
_CEILING: Final = struct.Struct(">q")

attempt = struct.Struct(">Q8s").pack
"""Return an attempt: a counter, and 8 random bytes."""


def sha(source: str) -> str:
    """Return by what a server calls a script that it knows."""
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def key(sender: bytes, domain: str, context: str) -> str:
    """Return the name of a place; no two places have one."""
    # Injective: the first part's length says where the second begins.
    first, second = domain.encode(), context.encode()
    name = b"%d:%b%b" % (len(first), first, second)
    return f"{sender.hex()}:{hashlib.blake2b(name, digest_size=16).hexdigest()}"


def arguments(
    keys: tuple[str, str, str],
    attempt: bytes,
    marks: Sequence[Mark],
    limits: tuple[int, int, int, int],
) -> tuple[int | bytes | str, ...]:
    """Return what follows the script in a call; see there."""
    packed = b"".join([_pack_mark(*mark) for mark in marks])
    return 3, *keys, attempt + _pack_limits(*limits), packed


def parse(reply: object, attempt: bytes, size: int) -> tuple[int, list[int]]:
    """Return cold and a verdict for each of ``size`` marks.

    Raises:
        ValueError: not the answer to this attempt.
    """
    if type(reply) is not bytes or reply[:16] != attempt or len(reply) != 24 + 8 * size:
        raise ValueError("an answer that does not fit the question")
    cold, *verdicts = struct.unpack_from(f">{1 + size}q", reply, 16)
    is_fit = not verdicts or (min(verdicts) >= _FUTURE and max(verdicts) < MAX_SEQUENCE)
    if not (is_fit and NEVER <= cold < clocks.MAX_TIME):
        raise ValueError("an answer out of all bounds")
    return cold, verdicts


def restore(fields: Mapping[bytes, bytes], ceiling: bytes | None) -> Guard:
    """Return the guard that a place stands for.

    Raises:
        ValueError: nothing that the script would write.
    """
    guard = Guard(cold=NEVER, birth=0)
    try:
        floor = NEVER if ceiling is None else _CEILING.unpack(ceiling)[0]
        figures = [0] * 9
        if fields:
            floor, *figures = _META.unpack(fields[b"meta"])
        ids = fields.get(b"ids", b"")
        known = []
        for at in range(0, len(ids), 16):
            stream = ids[at : at + 16]
            head = _HEAD.unpack(fields[b"h" + stream])
            known.append((stream, Remembered._make([*head, fields[b"r" + stream]])))
        guard.restore(floor, figures, known)
    except (KeyError, ValueError, TypeError, struct.error):
        raise ValueError("no memory") from None
    return guard
