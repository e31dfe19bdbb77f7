"""What mutators share: changes of bytes, of lists of pieces, and of numbers.

Rules of this file: all chance comes from the ``Random`` that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from fuzz.harness import Change, Mutate

T = TypeVar("T")

EDGES = (0, 1, 2, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 4096, 65_535, 65_536)


def any_change(random: Random) -> Change:
    """Return what stands for libFuzzer's own mutation where there is no libFuzzer."""

    def change(data: bytes, max_size: int) -> bytes:
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((0, 1, 1, 1, 2, 4, 16)))
        size = random.choice((0, 1, 1, 1, 2, 4, 16))
        new = random.choice((random.randbytes(size), bytes(size), b"\xff" * size, data[:size]))
        return (data[:at] + new + data[end:])[:max_size]

    return change


def flip(data: bytes, changes: bytes) -> bytes:
    """Return data with bits of it flipped: changes are pairs of a position and a mask."""
    changed = bytearray(data)
    for at, mask in zip(changes[::2], changes[1::2], strict=False):
        if at < len(changed):
            changed[at] ^= mask
    return bytes(changed)


def split(data: bytes, limit: int) -> list[bytes]:
    """Return the pieces of data, each behind its length in two bytes; the last may be short."""
    pieces: list[bytes] = []
    at = 0
    while at < len(data) and len(pieces) < limit:
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        pieces.append(data[at + 2 : end])
        at = end
    return pieces


def join(pieces: Sequence[bytes]) -> bytes:
    """Return what ``split`` takes apart."""
    return b"".join(len(piece).to_bytes(2, "big") + piece for piece in pieces)


def change_list(pieces: list[T], random: Random, change: Callable[[T], T]) -> list[T]:
    """Return the pieces with one changed, dropped, repeated, moved or cut off."""
    if not pieces:
        return pieces
    at, other = random.randrange(len(pieces)), random.randrange(len(pieces))
    new = pieces[:]
    match random.randrange(8):
        case 0:
            del new[at]
        case 1:
            new.insert(other, pieces[at])
        case 2:
            new[at], new[other] = new[other], new[at]
        case 3:
            new = new[: at + 1]
        case _:
            new[at] = change(new[at])
    return new


def pieces_mutator(limit: int, fresh: Callable[[Random], bytes], change_piece: Mutate) -> Mutate:
    """Return a mutator of what ``split`` takes apart.

    Args:
        limit: pieces at most.
        fresh: returns a new piece.
        change_piece: changes one.
    """

    def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
        pieces = split(data, limit)
        if len(pieces) < limit and random.randrange(6) == 0:
            pieces.insert(random.randrange(len(pieces) + 1), fresh(random))
        else:
            pieces = change_list(
                pieces, random, lambda one: change_piece(one, max_size, random, change)
            )
        return join(pieces)[:max_size]

    return mutate


def number(random: Random, bits: int, *near: int) -> int:
    """Return a number of so many bits, often one at or beside an edge or those given."""
    most: int = 2**bits - 1
    edge = random.choice((*EDGES, most, most // 2 + 1, *near, *near))
    chosen = random.choice((edge, edge - 1, edge + 1, random.getrandbits(bits)))
    return min(max(chosen, 0), most)
