"""MessagePack taken apart loosely, and put together with every liberty that it has.

Rules of this file: what it writes need not be canonical; the forms that are longer than
they have to be are what a strict decoder is tried by.
"""

from __future__ import annotations

import struct
from random import Random

from fuzz.harness import Change
from fuzz.mutations import change_list, number


def bin_(data: bytes, random: Random) -> bytes:
    """Return a bin, mostly in its shortest form; or a str, or something that is neither."""
    size = len(data)
    width = 1 if size < 2**8 else 2
    if random.randrange(12) == 0:
        width = random.choice((2, 4))
    head = {1: b"\xc4", 2: b"\xc5", 4: b"\xc6"}[width]
    if random.randrange(16) == 0:
        head = random.choice((b"\xd9", b"\xc7", b"\xa0", b"\x90", b"\xc0", b"\xd4"))
    return head + size.to_bytes(width, "big") + data


def array(count: int, random: Random) -> bytes:
    """Return an array's header, mostly the shortest."""
    if random.randrange(16) == 0:
        count = number(random, 16, count, 4096)
    form = random.randrange(24)
    if form == 0:
        return b"\xdd" + count.to_bytes(4, "big")
    if form == 1 or count > 15:
        return b"\xdc" + count.to_bytes(2, "big")
    return bytes([0x90 | count])


def _elements(packed: bytes) -> list[bytes]:
    """Return the contents of the bins in a bundle, as far as it is one."""
    at = 3 if packed[:1] == b"\xdc" else 1
    found = []
    while at < len(packed) and packed[at] in (0xC4, 0xC5, 0xC6):
        start = at + 1 + {0xC4: 1, 0xC5: 2, 0xC6: 4}[packed[at]]
        at_end = start + int.from_bytes(packed[at + 1 : start], "big")
        found.append(packed[start:at_end])
        at = at_end
    return found


def change_bundle(packed: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change a bundle as a list of payloads; or as bytes."""
    if random.randrange(4) == 0:
        return change(packed, max_size)
    payloads = _elements(packed)
    if not payloads or random.randrange(6) == 0:
        size = random.choice((0, 1, 2, 255, 256, 300))
        payloads += [bytes(size)] * random.choice((1, 1, 1, 15, 16))
    else:
        payloads = change_list(payloads, random, lambda one: change(one, max_size))
    packed = array(len(payloads), random) + b"".join(bin_(one, random) for one in payloads)
    return packed[:max_size]


def an_object(random: Random, depth: int = 0) -> bytes:
    """Return some object, now and then in a form that is longer than needed."""
    kind = random.randrange(12 if depth < 34 else 8)
    if kind >= 8:
        count = random.choice((0, 1, 1, 2, 3, 15, 16)) if depth < 4 else 1
        if kind < 10:
            inside = [an_object(random, depth + 1) for _ in range(count)]
            return array(count, random) + b"".join(inside)
        rows = [a_str(random) + an_object(random, depth + 1) for _ in range(count)]
        head = bytes([0x80 | count]) if count < 16 else b"\xde" + count.to_bytes(2, "big")
        return head + b"".join(rows)
    match kind:
        case 0:
            return random.choice((b"\xc0", b"\xc2", b"\xc3", b"\xc1"))
        case 1:
            return bin_(random.randbytes(random.choice((0, 1, 4))), random)
        case 2 | 3:
            return a_str(random)
        case 4:
            return b"\xcb" + struct.pack(">d", random.choice((0.0, -0.0, 1.5, 1e300, float("nan"))))
    return an_integer(random)


def a_str(random: Random) -> bytes:
    """Return a str of few letters, so that keys of maps meet."""
    text: bytes = random.choice((b"", b"a", b"b", b"c", "é".encode(), b"\xed\xa0\x80", b"x" * 32))
    if len(text) < 32 and random.randrange(16):
        return bytes([0xA0 | len(text)]) + text
    return b"\xd9" + bytes([len(text)]) + text


def an_integer(random: Random) -> bytes:
    """Return an integer, often at an edge, mostly in its shortest form."""
    value = number(random, 64, 128, 2**32) * random.choice((1, 1, -1))
    forms: list[tuple[int, str]] = [
        (0xCC, ">B"), (0xCD, ">H"), (0xCE, ">I"), (0xCF, ">Q"),
        (0xD0, ">b"), (0xD1, ">h"), (0xD2, ">i"), (0xD3, ">q"),
    ]  # fmt: skip
    if -32 <= value < 128 and random.randrange(8):
        return struct.pack(">b", value)
    written = []
    for head, form in forms:
        try:
            written.append(bytes([head]) + struct.pack(form, value))
        except struct.error:
            continue
    if not written:
        return b"\xd3" + bytes(8)
    return written[0] if random.randrange(8) else random.choice(written)
