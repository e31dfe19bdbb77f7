"""Objects and bundles to bytes and back: strict MessagePack (SPEC 9, 10).

Rules of this file: what it decodes was authenticated before, and is still not
trusted, for a known sender may have been taken over. Nothing is allocated by an
announced count, nothing executes, and there is one encoding for each value.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final, cast

import msgpack

from envelope.errors import MalformedError, UsageError
from envelope.policy import MAX_BUNDLE

MAX_DEPTH: Final = 32
"""Levels of nesting; what people send has fewer than ten."""

_NOT_A_BUNDLE: Final = "the payload is not a bundle in its one encoding"
_NOT_FRAMES: Final = "the payload is not an array of frames in its one encoding"
_EMPTY: Final = b"\x90"
_BUFFERS: Final = {bytes, bytearray, memoryview}
_NOT_AN_OBJECT: Final = "the payload is not an object in its one encoding"


def encode_bundle(payloads: Sequence[bytes]) -> bytes:
    """Pack payloads into one (SPEC 9.1).

    Args:
        payloads: a list or tuple of 1 to 4096 bytes objects.

    Raises:
        UsageError: none or too many, or not bytes.
    """
    if type(payloads) not in (list, tuple):
        raise UsageError("a bundle is a list of bytes")
    if not 1 <= len(payloads) <= MAX_BUNDLE:
        raise UsageError(f"a bundle has 1 to {MAX_BUNDLE} payloads")
    if set(map(type, payloads)) != {bytes}:
        raise UsageError("a bundle is a list of bytes")
    return cast("bytes", msgpack.packb(payloads))


def decode_bundle(packed: bytes) -> list[bytes]:
    """Unpack what ``encode_bundle`` packed (SPEC 9.2).

    Raises:
        MalformedError: anything else.
    """
    payloads = _unpack(packed)
    if payloads is None:
        del packed  # Whoever reports errors with the values of variables reports no payload.
        raise MalformedError(_NOT_A_BUNDLE)
    return payloads


def encode_frames(frames: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """Pack the frames of one message into one payload (SPEC 10.3).

    Args:
        frames: a list or tuple of at most 4096 frames; a memoryview, such as an array's
            ``data``, is copied once.

    Raises:
        UsageError: too many, not bytes, or a memoryview that is not contiguous.
    """
    if type(frames) not in (list, tuple) or len(frames) > MAX_BUNDLE:
        raise UsageError(f"the frames of a message are a list of at most {MAX_BUNDLE} bytes")
    if not set(map(type, frames)) <= _BUFFERS:
        raise UsageError("the frames of a message are a list of bytes")
    try:
        return cast("bytes", msgpack.packb(frames))
    except (BufferError, ValueError) as error:
        raise UsageError(f"a frame that is not contiguous: {error}") from None


def decode_frames(packed: bytes) -> list[bytes]:
    """Unpack what ``encode_frames`` packed.

    Raises:
        MalformedError: anything else.
    """
    frames = [] if packed == _EMPTY else _unpack(packed)
    if frames is None:
        del packed  # As in decode_bundle.
        raise MalformedError(_NOT_FRAMES)
    return frames


def _unpack(packed: bytes) -> list[bytes] | None:
    """Return the payloads, or None if this is not a bundle in its one encoding."""
    head = packed[:1]
    if b"\x91" <= head <= b"\x9f":
        start = 1
    elif head == b"\xdc":
        start = 3
    else:
        return None
    # The elements are read as a row of values, so that the announced count
    # allocates nothing; arrays and maps inside may not even hold one element.
    unpacker = msgpack.Unpacker(
        max_buffer_size=len(packed), max_array_len=0, max_map_len=0, max_ext_len=0, max_str_len=0
    )
    unpacker.feed(memoryview(packed)[start:])
    try:
        payloads = list(itertools.islice(unpacker, MAX_BUNDLE + 1))
    except (ValueError, msgpack.UnpackException, RecursionError):
        return None
    # Packing again settles count, trailing bytes and shortest forms in one go.
    if (
        not 1 <= len(payloads) <= MAX_BUNDLE
        or set(map(type, payloads)) != {bytes}
        or msgpack.packb(payloads) != packed
    ):
        return None
    return payloads


def encode_object(value: Any) -> bytes:
    """Encode an object (SPEC 10.1): nil, bool, int, float, str, bytes, list, dict.

    A tuple becomes a list. Subclasses are refused rather than flattened.

    Raises:
        UsageError: a type, a number or a nesting that has no encoding.
    """
    try:
        packed = cast("bytes", msgpack.packb(value, strict_types=True, default=_only_tuples))
        _scan(packed)
    except MalformedError as error:
        raise UsageError(f"cannot encode this object: {error.detail}") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"cannot encode this object: {error}") from None
    return packed


def _only_tuples(value: object) -> list[object]:
    if type(value) is tuple:
        return list(value)
    if type(value) is int:
        raise TypeError("an int is of at most 64 bits")
    raise TypeError(
        f"no encoding for {type(value).__name__}; there is one for None, bool, int, float, str, "
        "bytes, list, and dict with keys of str"
    )


def decode_object(packed: bytes) -> Any:
    """Decode what ``encode_object`` encoded (SPEC 10.2).

    Time and memory are linear in ``packed``, whatever is in it.

    Raises:
        MalformedError: anything else.
    """
    _scan(packed)
    try:
        value = msgpack.unpackb(packed)
        same = msgpack.packb(value) == packed
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError):
        raise MalformedError(_NOT_AN_OBJECT) from None
    if not same:
        raise MalformedError(_NOT_AN_OBJECT)
    return value


_ARRAY, _MAP, _STR, _PLAIN, _REFUSED = range(5)


_FIXED: Final = {
    0xC0: 0,
    0xC2: 0,
    0xC3: 0,
    0xCB: 8,
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
}
"""First bytes of nil, booleans and numbers, and how many bytes follow."""
_MEASURED: Final = {
    0xC4: (_PLAIN, 1),
    0xC5: (_PLAIN, 2),
    0xC6: (_PLAIN, 4),
    0xD9: (_STR, 1),
    0xDA: (_STR, 2),
    0xDB: (_STR, 4),
    0xDC: (_ARRAY, 2),
    0xDD: (_ARRAY, 4),
    0xDE: (_MAP, 2),
    0xDF: (_MAP, 4),
}
"""First bytes of what has length bytes: what it begins, and how many these are."""


def _describe(first: int) -> tuple[int, int, int]:
    """Return for a first byte: what it begins, its count or size, and length bytes.

    With length bytes the count or size is in those; otherwise in the first byte.
    Extension types and float32 are refused: SPEC 10.1 has no use for them.
    """
    if first <= 0x7F or first >= 0xE0:
        return _PLAIN, 0, 0
    if first <= 0x8F:
        return _MAP, first & 0x0F, 0
    if first <= 0x9F:
        return _ARRAY, first & 0x0F, 0
    if first <= 0xBF:
        return _STR, first & 0x1F, 0
    if first in _FIXED:
        return _PLAIN, _FIXED[first], 0
    what, width = _MEASURED.get(first, (_REFUSED, 0))
    return what, 0, width


_TABLE: Final = tuple(_describe(first) for first in range(256))


def _scan(packed: bytes) -> None:
    """Walk over one object without building it, and check what building would cost.

    Each element takes at least one byte, so the elements still owed by all open
    containers together never exceed the bytes that are left: the lists that the
    decoder will allocate are linear in the input, however they are nested.

    Raises:
        MalformedError: nested too deeply, counts that the bytes cannot hold, map
            keys that are not str, or a type that SPEC 10.1 does not have.
    """
    size = len(packed)
    at = 0
    owed = 1
    left, is_map = 1, False  # elements to come of the container at hand
    outer: list[tuple[int, bool]] = []
    while left or outer:
        if not left:
            left, is_map = outer.pop()
            continue
        if at >= size:
            raise MalformedError(_NOT_AN_OBJECT)
        what, count, width = _TABLE[packed[at]]
        if what == _REFUSED or (is_map and what != _STR and not left & 1):
            raise MalformedError("a map key that is not a str, or a type that is not allowed")
        left -= 1
        owed -= 1
        at += 1 + width
        if width:
            count = int.from_bytes(packed[at - width : at], "big")
        if what > _MAP:
            at += count
        else:
            if len(outer) >= MAX_DEPTH:
                raise MalformedError(f"nested deeper than {MAX_DEPTH} levels")
            outer.append((left, is_map))
            is_map = what == _MAP
            left = count << is_map
            owed += left
        if owed > size - at:
            raise MalformedError("announces more than it holds")
    if at != size:
        raise MalformedError("bytes after the end of the object")
