"""Lines of TOML that mutators put together.

Rules of this file: it knows lines, and no file's meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from fuzz.harness import Change

VALUES = (
    b"true", b"false", b"0", b"-1", b"1.5", b"nan", b"inf", b"9" * 30, b'""', b'"a"', b"''",
    b"[]", b"{}", b'["a"]', b'["*"]', b'["orders.*"]', b"[1]", b"[[]]", b"{ a = 1 }", b'"\\u0000"',
    b"2027-01-01T00:00:00Z", b"2026-01-01T00:00:00+01:00", b"2027-01-01", b"07:32:00",
    b"2027-01-01T00:00:00", b'"""a\n"""', b"0x1f", b"1979-05-27T07:32:00.999999-07:00", b"9" * 5000,
)  # fmt: skip


def change_lines(
    data: bytes, max_size: int, random: Random, change: Change, words: Sequence[bytes]
) -> bytes:
    """Change bytes or lines; ``words`` are lines, or keys that get some value."""
    if random.randrange(3) == 0:
        return change(data, max_size)
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    match random.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, random.choice(lines))
        case 2 if b"=" in lines[at]:
            lines[at] = lines[at].partition(b"=")[0] + b"= " + random.choice(VALUES)
        case 3:
            other = random.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            word = random.choice(words)
            if word.replace(b"_", b"").isalnum():
                word += b" = " + random.choice(VALUES)
            lines.insert(at, word)
    return b"\n".join(lines)[:max_size]
