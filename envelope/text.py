"""Typed, checksummed text for keys: one text for each key (SPEC 13.1).

Rules of this file: base32 in lower case, byte lengths that are multiples of
five, so that no bits are left over; what decodes encodes to the same text.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from envelope.errors import UsageError
from envelope.primitives import H

PUBLIC: Final = "envpub1"
SECRET: Final = "envsec1"  # noqa: S105 (the prefix of one)
LOCKED: Final = "envkey1"

_SIZES: Final = {PUBLIC: (64, 6), SECRET: (32, 8), LOCKED: (96, 9)}
"""Bytes of data and of checksum; their sum is a multiple of five."""

_SWAPPED: Final = {
    (PUBLIC, SECRET): "; this one is a secret: keep it, and hand out what belongs to it in public",
    (PUBLIC, LOCKED): "; this one is a secret: keep it, and hand out what belongs to it in public",
    (SECRET, PUBLIC): "; this one is public, and the secret that belongs to it is needed here",
}
"""What to say of the other half, by what was expected and what came."""


def encode(kind: str, data: bytes) -> str:
    """Return the text of ``data``, which has the length that ``kind`` asks for."""
    checksum = H(_SIZES[kind][1], b"env1-text", kind.encode(), data)
    return kind + base64.b32encode(data + checksum).decode().lower()


def decode(kind: str, text: str) -> bytes:
    """Return the data of a text.

    Raises:
        UsageError: not a text of this kind. The message does not repeat it, since
            it may be a secret.
    """
    if type(text) is not str or not text.startswith(kind):
        raise UsageError(f"expected a text that begins with {kind}{_swapped(kind, text)}")
    size, check = _SIZES[kind]
    if len(text) != len(kind) + (size + check) // 5 * 8:
        raise UsageError(f"this {kind}... text is cut short or too long")
    try:
        raw = base64.b32decode(text[len(kind) :].upper())
    except (binascii.Error, ValueError):
        raise UsageError(f"this {kind}... text has a character that is not base32") from None
    if encode(kind, raw[:size]) != text:
        raise UsageError(f"this {kind}... text has a typing error: the checksum does not match")
    return raw[:size]


def _swapped(kind: str, text: object) -> str:
    """Return which half this is, if it is the other one; nothing of what is in it."""
    for (expected, came), note in _SWAPPED.items():
        if kind == expected and isinstance(text, str) and text.startswith(came):
            return note
    return ""
