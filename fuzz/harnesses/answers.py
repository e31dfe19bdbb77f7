"""What a replay server answers is an answer to the question and in bounds, or a ValueError.

SPEC 8.11. The first byte is how many marks were asked for; then the answer, and what the
server says that a place has stored, of which no guard comes that cannot be asked.
"""

from __future__ import annotations

import struct
from random import Random

from envelope.errors import RejectedError
from envelope.replay.guard import Guard, Remembered
from envelope.replay.script import REFUSALS, parse, restore
from envelope.replay.window import Window
from envelope.wire import MAX_SEQUENCE
from fuzz.harness import Change
from fuzz.mutations import change_list, join, number, split

COVERS = ("envelope.replay.script", "envelope.replay.guard", "envelope.replay.window")
SHARE = 2

_ATTEMPT = b"attempt: 16bytes"
_STREAM = b"a stream of ours"
_pack = struct.Struct(">q").pack


def _stored(top: int = 5, *, floor: int = 0, size: int = 64) -> list[bytes]:
    """Return what is stored of one stream: meta, ids, head, ring."""
    window = Window(size)
    window.add(top)
    one = Remembered(-1, top, 9, 1, 0, size, top, window.ring)
    meta = struct.pack(">10q", floor, *[0] * 9)
    return [meta, _STREAM, struct.pack(">7q", *one[:7]), one.ring]


SEEDS = (
    b"\1" + join([_ATTEMPT + _pack(-1) + _pack(0)]),
    b"\2" + join([_ATTEMPT + _pack(5) + _pack(-4) + _pack(7), *_stored()]),
    b"\0" + join([_ATTEMPT + _pack(-1), *_stored(2**40, floor=7, size=4096)]),
    b"\1" + join([_ATTEMPT + _pack(-1) + _pack(2**47), *_stored(63)[:2], b"", b"", _pack(3)]),
)


def check(data: bytes) -> None:
    """Read the answer, then what is stored."""
    size = data[0] % 5 if data else 0
    pieces = (split(data[1:], 6) + [b""] * 6)[:6]
    try:
        cold, verdicts = parse(pieces[0], _ATTEMPT, size)
    except ValueError:
        pass
    else:
        assert pieces[0] == _ATTEMPT + _pack(cold) + b"".join(map(_pack, verdicts))
        assert len(verdicts) == size
        assert all(one in REFUSALS or 0 <= one < MAX_SEQUENCE for one in verdicts)
    meta, ids, head, ring, ceiling = pieces[1:]
    fields = {b"meta": meta, b"ids": ids, b"h" + ids[:16]: head, b"r" + ids[:16]: ring}
    try:
        guard = restore(fields if meta or ids else {}, ceiling or None)
    except ValueError:
        return
    _ask(guard, ids[:16])


def _ask(guard: Guard, stream: bytes) -> None:
    floor, known = guard.state()
    assert all(one[1] <= floor for one in known)
    assert len(guard.gaps()) == 7
    for sequence in (0, 5, 64, 2**48 - 1):
        try:
            guard.check_window(stream, sequence)
            guard.check(stream, sequence, 10, full_at=1, expected=False)
        except RejectedError:
            continue


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change numbers and bytes of the answer and of what is stored."""
    pieces = split(data[1:], 6)

    def change_piece(piece: bytes) -> bytes:
        if not piece or random.randrange(2):
            return change(piece, 600)
        at = random.randrange(len(piece)) // 8 * 8
        value = number(random, 64, 5, 64, 4096, MAX_SEQUENCE, 2**53, 2**64 - 6)
        return piece[:at] + value.to_bytes(8, "big") + piece[at + 8 :]

    if random.randrange(6) == 0:
        pieces[1:5] = _stored(number(random, 48), floor=random.randrange(20))
    size = bytes([random.randrange(5)]) if random.randrange(8) == 0 else data[:1] or b"\0"
    return (size + join(change_list(pieces, random, change_piece)))[:max_size]
