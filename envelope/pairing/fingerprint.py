"""A fingerprint of two identities, for people who compare by another channel (SPEC 19.9).

Rules of this file: the same at both ends, whoever computes it; long enough that nobody
finds two pairs of keys with one fingerprint.
"""

from __future__ import annotations

from typing import Final

from envelope.errors import UsageError
from envelope.identity import PublicIdentity
from envelope.primitives import H

_GROUPS: Final = 10
"""Of five digits: 166 bits, so two pairs that agree cost 2^83 hashes."""


def fingerprint(one: PublicIdentity, other: PublicIdentity) -> str:
    """Return ten groups of five digits; the order of the two does not matter.

    Raises:
        UsageError: both are the same.
    """
    if one == other:
        raise UsageError("a fingerprint is of two identities, and these are one")
    digest = H(5 * _GROUPS, b"env1-pair-print", *sorted((one.public, other.public)))
    groups = (digest[at : at + 5] for at in range(0, len(digest), 5))
    return " ".join(f"{int.from_bytes(group, 'big') % 100_000:05}" for group in groups)
