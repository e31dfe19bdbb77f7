"""A message of a pairing has a type and its size, a code one form; all else is refused.

SPEC 19.2, 19.3. Both are read from the same data: a message as bytes, a code as text that
somebody typed, of which no error repeats a word.
"""

from __future__ import annotations

from envelope.errors import PairingError, UsageError
from envelope.pairing import codes, messages
from envelope.pairing.messages import BODY_SIZES, Type
from envelope.pairing.words import EVEN, ODD

COVERS = ("envelope.pairing.messages", "envelope.pairing.codes")
SHARE = 2
SIZE = 300
_CODES = (
    b"417-adult-consensus",
    b"100 AARDVARK  adroitness",
    b"999-zulu-yucatan",
    b"417-consensus-adult",
    b"099-adult-consensus",
    b"417-adult-nothing",
    b"417-adult",
    b"\xb2\xb3\xb9-adult-consensus",
)
SEEDS = (*(messages.head(kind) + bytes(size) for kind, size in BODY_SIZES.items()), *_CODES)


def check(data: bytes) -> None:
    """Read it as either."""
    try:
        kind, body = messages.decode(data)
    except PairingError as error:
        assert str(error) == messages.STRANGE
        assert data[:5] != b"ENVP\1" or not _is_sized(data)
    else:
        assert messages.head(kind) + body == data
        assert _is_sized(data)
    typed = data.decode("utf-8", "surrogateescape")
    words = typed.lower().replace("-", " ").split()
    try:
        code = codes.parse(typed)
    except UsageError as error:
        assert not _is_code(words) or len(typed) > 100
        assert not any(word in str(error).split() for word in words if word in EVEN + ODD)
        return
    assert _is_code(words)
    assert code == "-".join(words) == codes.parse(code)


def _is_sized(data: bytes) -> bool:
    return (
        data[5] in set(Type) and len(data) == 6 + BODY_SIZES[Type(data[5])] if data[5:] else False
    )


def _is_code(words: list[str]) -> bool:
    """SPEC 19.2: a number from 100 to 999, an even word, an odd one."""
    if len(words) != 3:
        return False
    number, even, odd = words
    is_number = len(number) == 3 and all(one in "0123456789" for one in number)
    return is_number and number[0] != "0" and even in EVEN and odd in ODD
