"""NumPy arrays as frames and back: no pickle, one copy on each side.

Rules of this file: what comes in is authentic and is checked all the same, for a worker
may have been taken over. Only plain numbers; nothing that could hold an object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envelope.codec import decode_object, encode_object
from envelope.errors import MalformedError, UsageError

_KINDS = "biufc"
"""Booleans, integers, floats, complex numbers."""
_MAX_DIMENSIONS = 32


def pack(array: NDArray[Any]) -> list[bytes | memoryview]:
    """Return the frames of an array: what it is, and its memory as it stands.

    Raises:
        UsageError: its elements are no plain numbers.
    """
    if array.dtype.kind not in _KINDS:
        raise UsageError(f"elements of type {array.dtype} are no plain numbers")
    whole = np.ascontiguousarray(array)
    head = encode_object([array.dtype.str, list(array.shape)])
    # An array without elements has no memory that a memoryview could cast.
    return [head, whole.data.cast("B") if whole.size else b""]


def unpack(frames: Sequence[bytes]) -> NDArray[Any]:
    """Return the array of two frames; it is read-only and shares their memory.

    Raises:
        MalformedError: the frames are no array.
    """
    if len(frames) != 2:
        raise MalformedError("an array is two frames")
    match decode_object(frames[0]):
        case [str(code), [*shape]] if len(shape) <= _MAX_DIMENSIONS:
            pass
        case _:
            raise MalformedError("the first frame does not say what the array is")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise MalformedError("a shape is a list of sizes")
    try:
        kind = np.dtype(code)
    except (TypeError, ValueError):
        raise MalformedError("no such type of elements") from None
    if kind.kind not in _KINDS or kind.str != code:
        raise MalformedError("elements that are no plain numbers")
    if math.prod(shape) * kind.itemsize != len(frames[1]):
        raise MalformedError("the second frame has another size than its shape")
    return np.frombuffer(frames[1], kind).reshape(shape)
