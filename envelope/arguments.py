"""What callers may pass: the checks that both ends share.

Rules of this file: a wrong argument is a ``UsageError`` that says what to pass
instead, before anything was consumed or changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from envelope.errors import UsageError
from envelope.policy import MAX_BOUND_FRAMES
from envelope.wire import ID_SIZE

MAX_CONTEXT: Final = 255


def check_context(context: str) -> bytes:
    """Return the context as UTF-8.

    Raises:
        UsageError: not a non-empty str of at most 255 bytes of UTF-8.
    """
    if type(context) is not str or not context:
        raise UsageError('context is a non-empty str that names this flow, e.g. "plant7.orders"')
    try:
        encoded = context.encode()
    except UnicodeEncodeError:
        raise UsageError("context cannot be encoded as UTF-8") from None
    if len(encoded) > MAX_CONTEXT:
        raise UsageError(f"context is at most {MAX_CONTEXT} bytes of UTF-8")
    return encoded


def check_bound(bound: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the bound frames as a tuple.

    Raises:
        UsageError: not a list or tuple of bytes.
    """
    if type(bound) not in (list, tuple):
        raise UsageError('bound is a list of bytes: bound=[b"topic"]')
    frames = tuple(bound)
    for frame in frames:
        if type(frame) is not bytes:
            raise UsageError('bound is a list of bytes: bound=[b"topic"]')
    return frames


def check_bound_count(bound: tuple[bytes, ...]) -> None:
    """Check the number of frames of a sender's envelope.

    Raises:
        UsageError: more than 64 frames; every receiver would refuse them.
    """
    if len(bound) > MAX_BOUND_FRAMES:
        raise UsageError(f"at most {MAX_BOUND_FRAMES} bound frames")


def as_bytes(data: object, name: str) -> bytes:
    """Return bytes, bytearray or memoryview as bytes.

    Raises:
        UsageError: anything else.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        try:
            return bytes(data)
        except ValueError:
            raise UsageError(f"{name} is a memoryview that was released") from None
    raise UsageError(f"{name} is bytes, not {type(data).__name__}; encode it first")


def check_message_id(in_reply_to: bytes) -> bytes:
    """Return the id of a message.

    Raises:
        UsageError: not 32 bytes.
    """
    if type(in_reply_to) is not bytes or len(in_reply_to) != ID_SIZE:
        raise UsageError("in_reply_to is the id of a message: 32 bytes")
    return in_reply_to
