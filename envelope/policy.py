"""Every limit that a receiver sets, in one frozen dataclass (SPEC 11).

Rules of this file: each number is named, bounded and argued. What the format
itself fixes stands in ``wire``; what the receiver chooses stands here. A policy
can only ask for more than the format does: there is no setting under which an
envelope without a valid signature opens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from envelope.errors import UsageError

# What this version fixes is the table of SPEC 11.1.
MAX_BOUND_FRAMES: Final = 64
"""Bounds the hashing that anyone can cause before a signature is checked."""

MAX_BUNDLE: Final = 4096
"""Bounds the objects that one signature can bring into being."""

EPOCH_SECONDS: Final = 600
"""A content key lives this long at most: what one leaked key can betray. Ten
minutes, so that the cost of a new key block (an X25519 for each recipient)
vanishes in any stream."""

EPOCH_ENVELOPES: Final = 2**20
"""And for this many envelopes at most; SPEC 6.4 has the collision bound."""

_MAX_SIZE: Final = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a receiver requires (SPEC 11.2). Immutable, and safe to share between threads.

    Attributes:
        require: the weakest kind accepted, ``"signed"`` or ``"sealed"``. The
            default means *at least* signed.
        addressed: whether an envelope must name recipients. Without it, an
            envelope for everyone in the context is accepted too.
        accept_own: accept envelopes of the receiver's own identities, for
            processes that share one. Envelopes of streams that this very
            process began are refused all the same.
        max_age: seconds, a millisecond to a day. Older envelopes are ``stale``.
            30 s is above queueing delays and clock error.
        max_future: seconds, 0 to 60. Envelopes further ahead are ``future``. It
            is also the pause of a cold start (SPEC 8.7), hence small.
        max_size: bytes of an envelope with its bound frames, 144 to 2^31.
        window: sequences behind the newest of a stream that are still accepted
            out of order, 64 to 65536. 4096 cost 512 bytes a stream.
        max_streams: streams remembered for each sender and context, 1 to 1024:
            restarts, processes and topics of one sender.

    Raises:
        UsageError: a value outside its bounds.
    """

    require: Literal["signed", "sealed"] = "signed"
    addressed: bool = False
    accept_own: bool = False
    max_age: float = 30.0
    max_future: float = 2.0
    max_size: int = 16 * 2**20
    window: int = 4096
    max_streams: int = 64

    def __post_init__(self) -> None:
        """Check every bound, so that a policy that exists makes sense."""
        require: object = self.require
        if type(require) is not str or require not in ("signed", "sealed"):
            raise UsageError('require is "signed" or "sealed"; nothing weaker exists')
        for name in ("addressed", "accept_own"):
            if type(getattr(self, name)) is not bool:
                raise UsageError(f"{name} is True or False")
        for name, low, high in (("max_age", 0.001, 86_400), ("max_future", 0, 60)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not low <= value <= high:
                raise UsageError(f"{name} is a number of seconds from {low} to {high}")
        for name, low, high in (
            ("max_size", 144, _MAX_SIZE),
            ("window", 64, 65_536),
            ("max_streams", 1, 1024),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise UsageError(f"{name} is an integer from {low} to {high}")
