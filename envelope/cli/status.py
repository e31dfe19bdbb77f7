"""Exit statuses: one table, complete over every code of SPEC 12.

Rules of this file: a script can tell classes of refusals apart by the status
alone. A code without a class does not import.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from envelope.errors import CODES


class Status(IntEnum):
    """What the command line exits with."""

    OK = 0
    ENVIRONMENT = 1
    USAGE = 2
    FORMAT = 10
    POLICY = 11
    TRUST = 12
    TIME = 13
    CRYPTO = 14
    STORE = 15
    PAIRING = 16
    INTERRUPTED = 130
    BROKEN_PIPE = 141


REFUSALS: Final[dict[Status, tuple[str, ...]]] = {
    Status.FORMAT: ("too_large", "malformed", "version"),
    Status.POLICY: ("policy",),
    Status.TRUST: (
        "unknown_sender",
        "reflected",
        "not_trusted",
        "not_addressed",
        "unknown_session",
    ),
    Status.TIME: ("stale", "future", "before_start", "too_old", "replayed"),
    Status.CRYPTO: ("bad_signature", "unseal"),
    Status.STORE: ("store_unavailable",),
}
"""The codes of refused envelopes, by class."""

_CLASS = {code: status for status, codes in REFUSALS.items() for code in codes}

OF_CODE: Final[dict[str, Status]] = {code: _CLASS[code] for code in CODES}
"""The status of every code: a new code without a class is a KeyError on import."""

_MEANING: Final[dict[Status, str]] = {
    Status.OK: "done",
    Status.ENVIRONMENT: "a file or stream cannot be read or written",
    Status.USAGE: "wrong options, key file or trust file",
    Status.PAIRING: "a pairing ended without a peer, or not known to be whole",
    Status.INTERRUPTED: "interrupted",
    Status.BROKEN_PIPE: "the reader of the output went away",
}


def table() -> str:
    """Return the statuses for ``--help``, one a line."""
    lines = ["Exit status:"]
    for status in Status:
        meaning = _MEANING.get(status) or "refused: " + ", ".join(REFUSALS[status])
        lines.append(f"  {status:3}  {meaning}")
    return "\n".join(lines)
