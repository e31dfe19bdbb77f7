"""A key file is the one text of its seed, in comments; or a KeyFileError that repeats none of it.

SPEC 13.2. The first byte says whether a passphrase is given, the rest is the file.
"""

from __future__ import annotations

import struct
from random import Random

from vectors import reference
from vectors.world import ALICE, BOB, noise

from envelope import keyfile, text
from envelope.errors import KeyFileError
from envelope.primitives import H
from fuzz.files import Sheet
from fuzz.harness import Change

COVERS = ("envelope.keyfile", "envelope.text")

_PASSPHRASE = "fuzz"
_sheet = Sheet()
_SHOWN = 12
_COSTS = ((1, 8), (2, 9), (16, 8), (1, 8), (0, 8), (17, 8), (1, 7), (1, 2**20 + 1), (2**32 - 1, 8))
"""Passes and KiB: cheap, or refused before anything is computed."""


def _is_ours(passes: int, memory: int) -> bool:
    return 1 <= passes <= 16 and 8 <= memory <= 64


def _locked(passes: int, memory: int, *, passphrase: str = _PASSPHRASE) -> str:
    """Return a locked text; of a cost that is refused, one that nothing was computed for."""
    salt, nonce = noise("salt", 16), noise("nonce", 24)
    if _is_ours(passes, memory):
        return reference.locked_text(
            BOB.seed, passphrase, salt=salt, nonce=nonce, passes=passes, memory_kib=memory
        )
    data = salt + struct.pack(">II", passes, memory) + nonce + bytes(48)
    return text.LOCKED + reference.base32(data + H(9, b"env1-text", b"envkey1", data))


_LOCKED = tuple(_locked(*cost) for cost in _COSTS)
_GOOD = {
    line.encode(): BOB.seed for line, cost in zip(_LOCKED, _COSTS, strict=True) if _is_ours(*cost)
}
_LINES = (
    *(one.encode() for one in _LOCKED),
    _locked(1, 8, passphrase="other").encode(),
    reference.secret_text(ALICE.seed).encode(),
    reference.public_text(ALICE.pub).encode(),
    b"# alice",
    b"",
    b"\xff",
)
SEEDS = tuple(given + b"# who\n" + line + b"\n" for given in (b"\0", b"\1") for line in _LINES[:-2])


def check(data: bytes) -> None:
    """Load it as a file."""
    passphrase = _PASSPHRASE if data[:1] > b"\0" else None
    content = data[1:]
    try:
        seed = keyfile.load(_sheet.write(content), passphrase=passphrase)
    except KeyFileError as error:
        said = str(error)
        left = [row for row in content.split(b"\n") if row and not row.startswith(b"#")]
        if len(content) <= 4096 and _is_text(content) and len(left) == 1 and passphrase:
            assert left[0] not in _GOOD
        for line in content.decode("utf-8", "replace").split("\n"):
            for at in range(7, len(line) - _SHOWN):
                assert line[at : at + _SHOWN] not in said
        return
    (line,) = [row for row in content.decode().split("\n") if row and not row.startswith("#")]
    if line.startswith(text.SECRET):
        assert line == reference.secret_text(seed)
        return
    assert passphrase is not None
    raw = text.decode(text.LOCKED, line)
    passes, memory = struct.unpack(">II", raw[16:24])
    assert line == reference.locked_text(
        seed, passphrase, salt=raw[:16], nonce=raw[24:48], passes=passes, memory_kib=memory
    )


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change bytes, or put a line somewhere."""
    if random.randrange(2):
        return change(data, max_size)
    lines = data[1:].split(b"\n")
    at = random.randrange(len(lines))
    new = random.choice(_LINES)
    lines[at : at + random.randrange(2)] = [new if random.randrange(3) else change(new, 512)]
    return (bytes([random.randrange(2)]) + b"\n".join(lines))[:max_size]
