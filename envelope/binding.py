"""Context and bound frames: where an envelope belongs (SPEC 5.1 and 5.2).

Rules of this file: the encoding is injective, since every length stands before
its data.
"""

from __future__ import annotations

import struct

from envelope.primitives import Hasher, hasher

_CONTEXT = hasher(b"env1-context")
_BIND = hasher(b"env1-bind")
_BODY = hasher(b"env1-body")
_u64 = struct.Struct(">Q").pack
_u32 = struct.Struct(">I").pack


def context_digest(context: bytes, bound: tuple[bytes, ...]) -> bytes:
    """Return CTX (64 bytes): the one digest of this context and these frames."""
    state = _CONTEXT.copy()
    state.update(_u64(len(context)) + context + _u32(len(bound)))
    for frame in bound:
        state.update(_u64(len(frame)))
        state.update(frame)
    return state.digest()


def bind_state(public: bytes, ctx: bytes) -> Hasher:
    """Return the state of BIND that has absorbed PUB and CTX, for HEAD to follow.

    Label, PUB and CTX fill two blocks of BLAKE2b exactly, so each envelope costs
    the hash of its HEAD alone.
    """
    state = _BIND.copy()
    state.update(public + ctx)
    return state


def body_digest(body: bytes | memoryview) -> bytes:
    """Return BODY (64 bytes): the digest of the body as on the wire (SPEC 5.3)."""
    state = _BODY.copy()
    state.update(body)
    return state.digest()
