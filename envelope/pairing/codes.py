"""Codes: a number and two words that one person reads out and another types (SPEC 19.2).

Rules of this file: a code is used for one run, by whoever shows it and by whoever types it.
What is no code is refused before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from envelope.errors import UsageError
from envelope.pairing.words import EVEN, ODD
from envelope.primitives import random_bytes

NUMBERS: Final = 900
"""100 to 999: three digits, and none of them silent at the front."""

_FIRST: Final = 100
_MAX_TEXT: Final = 100
_WORDS: Final = (frozenset(EVEN), frozenset(ODD))


def generate(*, random: Callable[[int], bytes] = random_bytes) -> str:
    """Return a new code, one of 58,982,400, all equally likely."""
    while (number := int.from_bytes(random(2), "big") >> 6) >= NUMBERS:
        pass  # Ten bits, and those beyond the range again: a remainder would be uneven.
    even, odd = random(2)
    return f"{_FIRST + number}-{EVEN[even]}-{ODD[odd]}"


def parse(text: str) -> str:
    """Return the one form of a code that a person typed.

    Args:
        text: in upper or lower case, with hyphens or spaces.

    Raises:
        UsageError: no code. The text does not repeat it: it may be nearly one.
    """
    parts = text.lower().replace("-", " ").split() if len(text) <= _MAX_TEXT else []
    if len(parts) != 3 or not text.isascii():
        raise UsageError("a code is a number and two words, such as 417-adult-consensus")
    number, even, odd = parts
    if len(number) != 3 or not number.isdigit() or number < str(_FIRST):
        raise UsageError("a code begins with a number from 100 to 999")
    for place, (word, words, others) in enumerate(
        ((even, _WORDS[0], _WORDS[1]), (odd, _WORDS[1], _WORDS[0])), 1
    ):
        if word in others:
            raise UsageError("the two words of this code are in the wrong order")
        if word not in words:
            raise UsageError(f"word {place} of this code is none that a code has; nothing was sent")
    return f"{number}-{even}-{odd}"
