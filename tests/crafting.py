"""Envelopes that no sealer would make: right in all but what the test says.

Rules of this file: what comes out is signed by its sender over whatever it says,
so a refusal is never about the signature unless a test spoils that too.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from support import START, flip

from envelope import Identity, PublicIdentity, keyblock
from envelope.binding import bind_state, body_digest, context_digest
from envelope.primitives import SIGN_LABEL, aead_encrypt, sign
from envelope.wire import decode

STREAM = b"a stream of ours"
"""Of no sealer that is alive in this process."""
NONCE = b"a nonce of 24 bytes, ok."

_header = struct.Struct(">3sBBBH16s16sQQ24s").pack


def craft(
    sender: Identity,
    payload: bytes,
    *,
    to: Sequence[PublicIdentity] = (),
    sealed: bool = False,
    context: str = "orders",
    bound: tuple[bytes, ...] = (),
    magic: bytes = b"ENV",
    version: int = 1,
    flags: int = 0,
    stream: bytes = STREAM,
    sequence: int = 0,
    sent_at: int = START,
    in_reply_to: bytes = b"",
    keys: tuple[bytes, bytes] | None = None,
    spoil_tag: bool = False,
) -> bytes:
    """Return an envelope.

    Args:
        keys: key block and AEAD key, instead of new ones for ``to``.
        spoil_tag: change the ciphertext before it is signed.
        sender, payload, to, sealed, context, bound, magic, version, flags, stream,
            sequence, sent_at, in_reply_to: as they shall be; flag bit 1 follows
            ``in_reply_to``.
    """
    to = sorted(to, key=lambda recipient: recipient.key_id)
    if keys is not None:
        block, key = keys
    elif not sealed:
        block, key = b"".join(recipient.key_id for recipient in to), b""
    else:
        block, key = keyblock.make(sender, to, stream=stream, now=sent_at, random=os.urandom)
    kind = 2 if sealed else 1
    flags |= 2 if in_reply_to else 0
    head = _header(
        magic, version, kind, flags, len(to), sender.key_id, stream, sequence, sent_at, NONCE
    )
    head += in_reply_to + block
    bind = _bind(sender, head, context, bound)
    body = aead_encrypt(payload, bind, NONCE, key) if sealed else payload
    if spoil_tag:
        body = flip(body, -1)
    return head + body + sign(SIGN_LABEL + bind + body_digest(body), sender._sign_secret)[:64]


def sign_again(
    sender: Identity, data: bytes, *, context: str = "orders", bound: tuple[bytes, ...] = ()
) -> bytes:
    """Return a changed envelope with the right signature for what it says now."""
    at = decode(data).body
    bind = _bind(sender, data[:at], context, bound)
    message = SIGN_LABEL + bind + body_digest(data[at:-64])
    return data[:-64] + sign(message, sender._sign_secret)[:64]


def _bind(sender: Identity, head: bytes, context: str, bound: tuple[bytes, ...]) -> bytes:
    state = bind_state(sender.public.public, context_digest(context.encode(), bound))
    state.update(head)
    return state.digest()
