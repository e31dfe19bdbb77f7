"""What a second decoder accepts decodes to the same object and encodes to the same bytes.

SPEC 10.1 and 10.2. The second decoder is below, a function for each sentence there; what it
refuses is a MalformedError.
"""

from __future__ import annotations

import struct
from random import Random
from typing import Any

from envelope import codec
from envelope.errors import MalformedError
from fuzz.harness import Change
from fuzz.packed import an_object

COVERS = ("envelope.codec",)
SEEDS = (
    b"\xc0",
    b"\x93\xc2\xc3\x01",
    b"\x82\xa1a\xcb\x3f\xf0\0\0\0\0\0\0\xa1b\xc4\x02hi",
    b"\xd3\x80\0\0\0\0\0\0\0",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x91" * 32 + b"\xc0",
    b"\x91" * 33 + b"\xc0",
    b"\xd9\x20" + b"x" * 32,
    b"\xdc\0\x10" + b"\xc0" * 16,
)

_UNSIGNED = {0xCC: (1, 128), 0xCD: (2, 2**8), 0xCE: (4, 2**16), 0xCF: (8, 2**32)}
"""Bytes that follow, and the lowest value that needs them."""
_SIGNED = {0xD0: (1, -33), 0xD1: (2, -129), 0xD2: (4, -(2**15) - 1), 0xD3: (8, -(2**31) - 1)}
"""Bytes that follow, and the highest value that needs them."""
_BINS = {0xC4: (1, 0), 0xC5: (2, 2**8), 0xC6: (4, 2**16)}
_STRS = {0xD9: (1, 32), 0xDA: (2, 2**8), 0xDB: (4, 2**16)}
_ARRAYS = {0xDC: (2, 16), 0xDD: (4, 2**16)}
_MAPS = {0xDE: (2, 16), 0xDF: (4, 2**16)}


class _Reader:
    """Reads one object, strictly; ValueError for anything else."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise ValueError("cut short")
        self.at += size
        return self.data[self.at - size : self.at]

    def count(self, first: int, forms: dict[int, tuple[int, int]]) -> int:
        width, least = forms[first]
        size = int.from_bytes(self.take(width), "big")
        if size < least:
            raise ValueError("a longer form than needed")
        return size

    def whole(self) -> Any:
        value = self.object(0)
        if self.at != len(self.data):
            raise ValueError("bytes after the end")
        return value

    def object(self, depth: int) -> Any:
        first = self.take(1)[0]
        if first < 0x80:
            return first
        if first >= 0xE0:
            return first - 256
        if first in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[first]
        if first == 0xCB:
            return struct.unpack(">d", self.take(8))[0]
        if first in _UNSIGNED:
            return self.count(first, _UNSIGNED)
        if first in _SIGNED:
            width, highest = _SIGNED[first]
            value = int.from_bytes(self.take(width), "big", signed=True)
            if value > highest:
                raise ValueError("a longer form than needed")
            return value
        if first in _BINS:
            return self.take(self.count(first, _BINS))
        if 0xA0 <= first <= 0xBF or first in _STRS:
            return self.text(first)
        return self.container(first, depth + 1)

    def text(self, first: int) -> str:
        if not (0xA0 <= first <= 0xBF or first in _STRS):
            raise ValueError("a key that is no str")
        size = first & 0x1F if first <= 0xBF else self.count(first, _STRS)
        return self.take(size).decode()

    def container(self, first: int, depth: int) -> Any:
        if depth > 32:
            raise ValueError("nested too deeply")
        if 0x90 <= first <= 0x9F or first in _ARRAYS:
            count = first & 0x0F if first <= 0x9F else self.count(first, _ARRAYS)
            return [self.object(depth) for _ in range(count)]
        if not (0x80 <= first <= 0x8F or first in _MAPS):
            raise ValueError("a type that there is not")
        count = first & 0x0F if first <= 0x8F else self.count(first, _MAPS)
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.text(self.take(1)[0])
            if key in found:
                raise ValueError("a key that stands twice")
            found[key] = self.object(depth)
        return found


def check(data: bytes) -> None:
    """Decode by both, and encode again."""
    try:
        expected = repr(_Reader(data).whole())  # repr: nan differs from itself, True is not 1.
    except ValueError:
        expected = None
    try:
        value = codec.decode_object(data)
    except MalformedError:
        assert expected is None, expected
        return
    assert repr(value) == expected
    assert codec.encode_object(value) == data


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change bytes, or put an object of its own somewhere."""
    if random.randrange(3):
        return change(data, max_size)
    new = an_object(random)
    at = random.randrange(len(data) + 1)
    return random.choice((new, data[:at] + new + data[at:], data[:at] + new))[:max_size]
